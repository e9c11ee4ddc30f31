//! Requests to a gateway and its answers.

use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::authorization::{Authorization, SignedAuthorization};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::shape::{LengthError, PayloadLength};
use meridian_proofs::signature::Signature;
use meridian_proofs::{Address, B256};

use super::committee::list;
use super::types::{certificate, signature};
use super::{WireError, address, at_most, bytes, chunk, format_version, hash, required, text};
use crate::error::Reason;
use crate::wire::put_request;
use crate::{FORMAT_VERSION, MAX_CLOSINGS, MAX_SEATS, wire};

/// What is about to be put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutStart {
    /// Whose blob it is.
    pub namespace: Namespace,
    /// Length of the payload that follows.
    pub length: PayloadLength,
    /// Seconds to keep the blob, not 0. The committee's limits remain to be checked.
    pub retention: u64,
    /// Whether the entry shall carry keccak256(payload).
    pub bind_payload_hash: bool,
    /// The blob id that the caller expects.
    pub expected_blob_id: Option<BlobId>,
    /// Root of the payload's KZG commitments, never zero: part of the header, and checked by nobody on the way.
    pub kzg_root: Option<B256>,
    /// Who answers for it, where not anybody may put.
    pub authorization: Option<PutAuthorization>,
}

/// The part of a [`SignedAuthorization`] that the start of a put does not say itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutAuthorization {
    /// The gateway that may take the put.
    pub gateway: Address,
    /// keccak256(payload).
    pub payload_hash: PayloadHash,
    /// Random, used once.
    pub nonce: B256,
    /// Unix seconds.
    pub deadline: u64,
    /// Of whoever may put; its signer remains to be checked.
    pub signature: Signature,
}

impl PutStart {
    /// What was signed for this put.
    #[must_use]
    pub fn signed(&self) -> Option<SignedAuthorization> {
        self.authorization.map(|PutAuthorization { gateway, payload_hash, nonce, deadline, signature }| {
            let authorization = self.to_authorize(gateway, payload_hash, nonce, deadline);
            SignedAuthorization { authorization, signature }
        })
    }

    /// What is to be signed for this put.
    #[must_use]
    pub fn to_authorize(
        &self,
        gateway: Address,
        payload_hash: PayloadHash,
        nonce: B256,
        deadline: u64,
    ) -> Authorization {
        Authorization {
            gateway,
            namespace: self.namespace,
            payload_hash,
            length: self.length.get(),
            retention: self.retention,
            kzg_root: self.kzg_root.unwrap_or(B256::ZERO),
            bind_payload_hash: self.bind_payload_hash,
            nonce,
            deadline,
        }
    }
}

impl From<SignedAuthorization> for PutAuthorization {
    fn from(signed: SignedAuthorization) -> Self {
        let Authorization { gateway, payload_hash, nonce, deadline, .. } = signed.authorization;
        Self { gateway, payload_hash, nonce, deadline, signature: signed.signature }
    }
}

/// A message of a put.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "one of them lives at a time, and only until it is taken apart")]
pub enum PutPart {
    /// The first message.
    Start(PutStart),
    /// Next bytes of the payload: 1 to [`MAX_CHUNK`](crate::MAX_CHUNK).
    Chunk(Bytes),
}

/// Asks for a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetCertificate {
    /// Which blob.
    pub blob_id: BlobId,
    /// Under which namespace, or under any.
    pub namespace: Option<Namespace>,
}

/// What a gateway is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayStatus {
    /// Address of the gateway's key.
    pub address: Address,
    /// Epoch of its committee.
    pub epoch: u64,
    /// Entries in its log.
    pub log_size: u64,
    /// Entries under its last certified checkpoint.
    pub certified_size: u64,
    /// Puts in flight.
    pub puts_in_flight: u64,
    /// Blobs that at least one region does not hold yet.
    pub uploads_pending: u64,
    /// Bytes of the payload budget in use.
    pub memory_used: u64,
    /// The payload budget in bytes.
    pub memory_budget: u64,
    /// How it sees each seat, in the committee's order.
    pub seats: Vec<SeatHealth>,
    /// Version of the program.
    pub version: String,
    /// How its log stands on the chain; nothing without a chain.
    pub anchor: Option<AnchorStatus>,
    /// Where it stands between the epochs.
    pub phase: GatewayPhase,
    /// How it closed the last epochs in which it appended entries, ascending by epoch, at most
    /// [`MAX_CLOSINGS`](crate::MAX_CLOSINGS).
    pub closings: Vec<EpochClosing>,
    /// Its clock, unix milliseconds; 0 from an older program.
    pub now_ms: u64,
}

/// How a gateway's log stands on the chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnchorStatus {
    /// Entries under the settled anchor, 0 when there is none.
    pub size: u64,
    /// Epoch of that anchor.
    pub epoch: u64,
    /// Unix seconds of its checkpoint.
    pub timestamp: u64,
    /// Block that it stands in.
    pub block: u64,
    /// The latest transaction that this gateway got into a block.
    pub transaction: Option<B256>,
    /// Why the last attempt to anchor failed, empty when it did not.
    pub last_error: String,
}

/// Where a gateway stands between the epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GatewayPhase {
    /// It takes puts in its epoch.
    #[default]
    Working,
    /// It closes its epoch: puts wait for the next.
    Closing,
    /// There is no epoch for it to work in now.
    Waiting,
    /// It appends and signs nothing any more.
    Retired,
}

impl GatewayPhase {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Closing => "closing",
            Self::Waiting => "waiting",
            Self::Retired => "retired",
        }
    }
}

/// How a gateway closed an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochClosing {
    /// The epoch.
    pub epoch: u64,
    /// Entries of the log up to the epoch's last.
    pub size: u64,
    /// Whether they are under an anchor, as far as the gateway knows.
    pub anchored: bool,
}

/// How a gateway sees a seat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeatHealth {
    /// Address of the seat.
    pub address: Address,
    /// Whether the last call to it worked.
    pub connected: bool,
    /// Whether a put waits for it.
    pub in_quorum: bool,
    /// Entries of the gateway's log that it has cosigned.
    pub cosigned_size: u64,
    /// Round trip of its last answer, in whole microseconds on the wire.
    pub round_trip: Duration,
    /// Last error, empty when there is none.
    pub last_error: String,
}

impl TryFrom<wire::PutStart> for PutStart {
    type Error = WireError;

    fn try_from(start: wire::PutStart) -> Result<Self, WireError> {
        format_version("PutStart.format_version", start.format_version)?;
        let namespace = hash("PutStart.namespace", &start.namespace).map_err(|error| {
            WireError::refused(error.field, Reason::NamespaceInvalid, error.problem.to_string())
        })?;
        let length = PayloadLength::try_from(start.length).map_err(|error| {
            let reason = match error {
                LengthError::Empty => Reason::EmptyPayload,
                LengthError::TooLong(_) => Reason::PayloadTooLarge,
            };
            WireError::refused("PutStart.length", reason, error.to_string())
        })?;
        if start.retention == 0 {
            let text = "a retention of 0 seconds keeps nothing";
            return Err(WireError::refused("PutStart.retention", Reason::RetentionOutOfRange, text));
        }
        let kzg_root = optional_hash("PutStart.kzg_root", &start.kzg_root)?;
        if kzg_root == Some(B256::ZERO) {
            return Err(WireError::value(
                "PutStart.kzg_root",
                "is zero, which stands for no kzg binding at all",
            ));
        }
        Ok(Self {
            namespace,
            length,
            retention: start.retention,
            bind_payload_hash: start.bind_payload_hash,
            expected_blob_id: optional_hash("PutStart.expected_blob_id", &start.expected_blob_id)?,
            kzg_root,
            authorization: start.authorization.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<PutStart> for wire::PutStart {
    fn from(start: PutStart) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            namespace: bytes(start.namespace.as_bytes()),
            length: start.length.get(),
            retention: start.retention,
            bind_payload_hash: start.bind_payload_hash,
            expected_blob_id: start.expected_blob_id.map(|id| bytes(id.as_bytes())).unwrap_or_default(),
            kzg_root: start.kzg_root.map(bytes).unwrap_or_default(),
            authorization: start.authorization.map(Into::into),
        }
    }
}

impl TryFrom<wire::PutAuthorization> for PutAuthorization {
    type Error = WireError;

    fn try_from(authorization: wire::PutAuthorization) -> Result<Self, WireError> {
        Ok(Self {
            gateway: address("PutAuthorization.gateway", &authorization.gateway)?,
            payload_hash: hash("PutAuthorization.payload_hash", &authorization.payload_hash)?,
            nonce: hash("PutAuthorization.nonce", &authorization.nonce)?,
            deadline: authorization.deadline,
            signature: signature("PutAuthorization.signature", &authorization.signature)?,
        })
    }
}

impl From<PutAuthorization> for wire::PutAuthorization {
    fn from(authorization: PutAuthorization) -> Self {
        Self {
            gateway: bytes(authorization.gateway),
            payload_hash: bytes(authorization.payload_hash.as_bytes()),
            nonce: bytes(authorization.nonce),
            deadline: authorization.deadline,
            signature: bytes(authorization.signature.as_bytes()),
        }
    }
}

impl TryFrom<wire::PutRequest> for PutPart {
    type Error = WireError;

    fn try_from(request: wire::PutRequest) -> Result<Self, WireError> {
        match required("PutRequest.part", request.part)? {
            put_request::Part::Start(start) => start.try_into().map(Self::Start),
            put_request::Part::Chunk(bytes) => chunk("PutRequest.chunk", bytes).map(Self::Chunk),
        }
    }
}

impl From<PutPart> for wire::PutRequest {
    fn from(part: PutPart) -> Self {
        Self {
            part: Some(match part {
                PutPart::Start(start) => put_request::Part::Start(start.into()),
                PutPart::Chunk(bytes) => put_request::Part::Chunk(bytes),
            }),
        }
    }
}

impl TryFrom<wire::PutResponse> for Certificate {
    type Error = WireError;

    fn try_from(response: wire::PutResponse) -> Result<Self, WireError> {
        certificate("PutResponse.certificate", &response.certificate)
    }
}

impl From<&Certificate> for wire::PutResponse {
    fn from(certificate: &Certificate) -> Self {
        Self { certificate: certificate.encode().into() }
    }
}

impl TryFrom<wire::GetCertificateRequest> for GetCertificate {
    type Error = WireError;

    fn try_from(request: wire::GetCertificateRequest) -> Result<Self, WireError> {
        Ok(Self {
            blob_id: hash("GetCertificateRequest.blob_id", &request.blob_id)?,
            namespace: optional_hash("GetCertificateRequest.namespace", &request.namespace)?,
        })
    }
}

impl From<GetCertificate> for wire::GetCertificateRequest {
    fn from(request: GetCertificate) -> Self {
        Self {
            blob_id: bytes(request.blob_id.as_bytes()),
            namespace: request.namespace.map(|namespace| bytes(namespace.as_bytes())).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::GetCertificateResponse> for Certificate {
    type Error = WireError;

    fn try_from(response: wire::GetCertificateResponse) -> Result<Self, WireError> {
        certificate("GetCertificateResponse.certificate", &response.certificate)
    }
}

impl From<&Certificate> for wire::GetCertificateResponse {
    fn from(certificate: &Certificate) -> Self {
        Self { certificate: certificate.encode().into() }
    }
}

impl TryFrom<wire::SeatHealth> for SeatHealth {
    type Error = WireError;

    fn try_from(seat: wire::SeatHealth) -> Result<Self, WireError> {
        Ok(Self {
            address: address("SeatHealth.address", &seat.address)?,
            connected: seat.connected,
            in_quorum: seat.in_quorum,
            cosigned_size: seat.cosigned_size,
            round_trip: Duration::from_micros(seat.round_trip_us),
            last_error: text("SeatHealth.last_error", seat.last_error)?,
        })
    }
}

impl From<SeatHealth> for wire::SeatHealth {
    fn from(seat: SeatHealth) -> Self {
        Self {
            address: bytes(seat.address),
            connected: seat.connected,
            in_quorum: seat.in_quorum,
            cosigned_size: seat.cosigned_size,
            round_trip_us: u64::try_from(seat.round_trip.as_micros()).unwrap_or(u64::MAX),
            last_error: super::cut(seat.last_error),
        }
    }
}

impl TryFrom<wire::GatewayStatus> for GatewayStatus {
    type Error = WireError;

    fn try_from(status: wire::GatewayStatus) -> Result<Self, WireError> {
        at_most("GatewayStatus.seats", status.seats.len(), MAX_SEATS)?;
        at_most("GatewayStatus.closings", status.closings.len(), MAX_CLOSINGS)?;
        Ok(Self {
            address: address("GatewayStatus.address", &status.address)?,
            epoch: status.epoch,
            log_size: status.log_size,
            certified_size: status.certified_size,
            puts_in_flight: status.puts_in_flight,
            uploads_pending: status.uploads_pending,
            memory_used: status.memory_used,
            memory_budget: status.memory_budget,
            seats: list(status.seats)?,
            version: text("GatewayStatus.version", status.version)?,
            anchor: status.anchor.map(TryInto::try_into).transpose()?,
            phase: phase(status.phase)?,
            closings: status.closings.into_iter().map(closing).collect(),
            now_ms: status.now_ms,
        })
    }
}

impl From<GatewayStatus> for wire::GatewayStatus {
    fn from(status: GatewayStatus) -> Self {
        Self {
            address: bytes(status.address),
            epoch: status.epoch,
            log_size: status.log_size,
            certified_size: status.certified_size,
            puts_in_flight: status.puts_in_flight,
            uploads_pending: status.uploads_pending,
            memory_used: status.memory_used,
            memory_budget: status.memory_budget,
            seats: status.seats.into_iter().map(Into::into).collect(),
            version: status.version,
            anchor: status.anchor.map(Into::into),
            phase: match status.phase {
                GatewayPhase::Working => wire::GatewayPhase::Working,
                GatewayPhase::Closing => wire::GatewayPhase::Closing,
                GatewayPhase::Waiting => wire::GatewayPhase::Waiting,
                GatewayPhase::Retired => wire::GatewayPhase::Retired,
            }
            .into(),
            closings: status.closings.into_iter().map(wire_closing).collect(),
            now_ms: status.now_ms,
        }
    }
}

impl TryFrom<wire::AnchorStatus> for AnchorStatus {
    type Error = WireError;

    fn try_from(anchor: wire::AnchorStatus) -> Result<Self, WireError> {
        Ok(Self {
            size: anchor.size,
            epoch: anchor.epoch,
            timestamp: anchor.timestamp,
            block: anchor.block,
            transaction: optional_hash("AnchorStatus.transaction", &anchor.transaction)?,
            last_error: text("AnchorStatus.last_error", anchor.last_error)?,
        })
    }
}

impl From<AnchorStatus> for wire::AnchorStatus {
    fn from(anchor: AnchorStatus) -> Self {
        Self {
            size: anchor.size,
            epoch: anchor.epoch,
            timestamp: anchor.timestamp,
            block: anchor.block,
            transaction: anchor.transaction.map(bytes).unwrap_or_default(),
            last_error: super::cut(anchor.last_error),
        }
    }
}

fn phase(number: i32) -> Result<GatewayPhase, WireError> {
    Ok(match wire::GatewayPhase::try_from(number) {
        // Of a program that knows of one epoch only.
        Ok(wire::GatewayPhase::Unspecified | wire::GatewayPhase::Working) => GatewayPhase::Working,
        Ok(wire::GatewayPhase::Closing) => GatewayPhase::Closing,
        Ok(wire::GatewayPhase::Waiting) => GatewayPhase::Waiting,
        Ok(wire::GatewayPhase::Retired) => GatewayPhase::Retired,
        Err(_) => return Err(WireError::value("GatewayStatus.phase", "is unknown")),
    })
}

fn closing(closing: wire::EpochClosing) -> EpochClosing {
    let wire::EpochClosing { epoch, size, anchored } = closing;
    EpochClosing { epoch, size, anchored }
}

fn wire_closing(closing: EpochClosing) -> wire::EpochClosing {
    let EpochClosing { epoch, size, anchored } = closing;
    wire::EpochClosing { epoch, size, anchored }
}

/// A field that is empty or 32 bytes.
fn optional_hash<T: From<[u8; 32]>>(field: &'static str, bytes: &[u8]) -> Result<Option<T>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    hash(field, bytes).map(Some)
}
