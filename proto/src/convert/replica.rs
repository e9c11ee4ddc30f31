//! Uploads to a replica, cosignatures and its status.

use bytes::Bytes;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::{SignedCheckpoint, SignedDispersal};
use meridian_proofs::committee::RegionId;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::log::LogEntry;
use meridian_proofs::merkle::RangeProof;
use meridian_proofs::signature::Signature;

use super::committee::{list, small};
use super::types::signature;
use super::{WireError, address, at_most, bytes, chunk, format_version, hashes, required, text};
use crate::error::Reason;
use crate::wire::{cosign_response, disperse_request, disperse_response};
use crate::{FORMAT_VERSION, MAX_ENTRIES, MAX_OPEN_EPOCHS, MAX_ROW_PROOF, MAX_ROWS, wire};

/// What is about to be uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisperseStart {
    /// The gateway's permission.
    pub dispersal: SignedDispersal,
    /// The blob's header.
    pub header: BlobHeader,
}

/// Opens a range of rows. That the replica's seat holds it remains to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeStart {
    /// Index of the first row.
    pub start: u32,
    /// Number of rows.
    pub count: u32,
    /// Proof of the range.
    pub proof: RangeProof,
}

/// A message of an upload.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "a stream holds one at a time")]
pub enum DispersePart {
    /// The first message.
    Start(DisperseStart),
    /// The RLC vector, 16 bytes a value.
    Rlc(Bytes),
    /// Opens a range.
    Range(RangeStart),
    /// Next bytes of the open range: 1 to [`MAX_CHUNK`](crate::MAX_CHUNK).
    Rows(Bytes),
}

/// What became of an upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisperseOutcome {
    /// The rows were verified and are synced to disk now.
    Stored,
    /// The rows were on disk already.
    Held,
}

/// Asks for a cosignature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CosignRequest {
    /// What to cosign.
    pub signed: SignedCheckpoint,
    /// Index of the first entry below.
    pub start: u64,
    /// The log's entries from start to the checkpoint's size.
    pub entries: Vec<LogEntry>,
}

/// The answer to a request for a cosignature that is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CosignAnswer {
    /// The replica's signature over the checkpoint's digest.
    Cosignature(Signature),
    /// The size that the replica last cosigned: send entries from there.
    EntriesFrom(u64),
}

/// What a replica holds and does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// Address of the replica's key.
    pub address: Address,
    /// Region of its latest seat.
    pub region: RegionId,
    /// Number of that seat.
    pub seat: u16,
    /// The current epoch.
    pub epoch: u64,
    /// Blobs of which it holds its rows.
    pub blobs: u64,
    /// Bytes of rows that it holds.
    pub row_bytes: u64,
    /// Most bytes of rows that it takes, 0 for no limit.
    pub max_bytes: u64,
    /// Logs that it cosigns.
    pub logs: u64,
    /// Version of the program.
    pub version: String,
    /// Epochs that are open now and in which it has a seat, ascending.
    pub seated_epochs: Vec<u64>,
    /// Logs that it has not compared with others since its start, not filled up to what it has to start from, or not
    /// searched for rows that it lacks.
    pub logs_behind: u64,
    /// Entries whose rows it owes and does not hold: of its own seats and of those that passed to it.
    pub repair_left: u64,
    /// Stored values that were found damaged and are not repaired yet.
    pub quarantined: u64,
    /// Unix seconds at which it last finished to check all that it holds, 0 for never.
    pub scrubbed_at: u64,
    /// Whether a write failed, so that it takes no more of them until it has started again.
    pub store_failed: bool,
    /// Its clock, unix milliseconds; 0 from an older program.
    pub now_ms: u64,
}

impl TryFrom<wire::DisperseStart> for DisperseStart {
    type Error = WireError;

    fn try_from(start: wire::DisperseStart) -> Result<Self, WireError> {
        format_version("DisperseStart.format_version", start.format_version)?;
        Ok(Self {
            dispersal: required("DisperseStart.dispersal", start.dispersal)?.try_into()?,
            header: required("DisperseStart.header", start.header)?.try_into()?,
        })
    }
}

impl From<DisperseStart> for wire::DisperseStart {
    fn from(start: DisperseStart) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            dispersal: Some(start.dispersal.into()),
            header: Some(start.header.into()),
        }
    }
}

impl TryFrom<wire::RangeStart> for RangeStart {
    type Error = WireError;

    fn try_from(range: wire::RangeStart) -> Result<Self, WireError> {
        row_range("RangeStart.start", "RangeStart.count", range.start, range.count)?;
        let proof = RangeProof(hashes("RangeStart.proof", &range.proof, MAX_ROW_PROOF)?);
        Ok(Self { start: range.start, count: range.count, proof })
    }
}

impl From<RangeStart> for wire::RangeStart {
    fn from(range: RangeStart) -> Self {
        Self { start: range.start, count: range.count, proof: range.proof.0.iter().map(bytes).collect() }
    }
}

impl TryFrom<wire::DisperseRequest> for DispersePart {
    type Error = WireError;

    fn try_from(request: wire::DisperseRequest) -> Result<Self, WireError> {
        match required("DisperseRequest.part", request.part)? {
            disperse_request::Part::Start(start) => start.try_into().map(Self::Start),
            disperse_request::Part::Rlc(bytes) => chunk("DisperseRequest.rlc", bytes).map(Self::Rlc),
            disperse_request::Part::Range(range) => range.try_into().map(Self::Range),
            disperse_request::Part::Rows(bytes) => chunk("DisperseRequest.rows", bytes).map(Self::Rows),
        }
    }
}

impl From<DispersePart> for wire::DisperseRequest {
    fn from(part: DispersePart) -> Self {
        Self {
            part: Some(match part {
                DispersePart::Start(start) => disperse_request::Part::Start(start.into()),
                DispersePart::Rlc(bytes) => disperse_request::Part::Rlc(bytes),
                DispersePart::Range(range) => disperse_request::Part::Range(range.into()),
                DispersePart::Rows(bytes) => disperse_request::Part::Rows(bytes),
            }),
        }
    }
}

impl TryFrom<wire::DisperseResponse> for DisperseOutcome {
    type Error = WireError;

    fn try_from(response: wire::DisperseResponse) -> Result<Self, WireError> {
        use disperse_response::Outcome;
        match Outcome::try_from(response.outcome) {
            Ok(Outcome::Stored) => Ok(Self::Stored),
            Ok(Outcome::Held) => Ok(Self::Held),
            Ok(Outcome::Unspecified) | Err(_) => {
                Err(WireError::value("DisperseResponse.outcome", format!("{} is unknown", response.outcome)))
            }
        }
    }
}

impl From<DisperseOutcome> for wire::DisperseResponse {
    fn from(outcome: DisperseOutcome) -> Self {
        let outcome = match outcome {
            DisperseOutcome::Stored => disperse_response::Outcome::Stored,
            DisperseOutcome::Held => disperse_response::Outcome::Held,
        };
        Self { outcome: outcome.into() }
    }
}

impl TryFrom<wire::CosignRequest> for CosignRequest {
    type Error = WireError;

    fn try_from(request: wire::CosignRequest) -> Result<Self, WireError> {
        format_version("CosignRequest.format_version", request.format_version)?;
        at_most("CosignRequest.entries", request.entries.len(), MAX_ENTRIES)?;
        let signed: SignedCheckpoint = required("CosignRequest.signed", request.signed)?.try_into()?;
        let end =
            u64::try_from(request.entries.len()).ok().and_then(|count| request.start.checked_add(count));
        if end != Some(signed.checkpoint.size) {
            let text = format!(
                "{} entries from {} do not reach the checkpoint's size of {}",
                request.entries.len(),
                request.start,
                signed.checkpoint.size
            );
            return Err(WireError::refused("CosignRequest.entries", Reason::LogGap, text));
        }
        Ok(Self { signed, start: request.start, entries: list(request.entries)? })
    }
}

impl From<CosignRequest> for wire::CosignRequest {
    fn from(request: CosignRequest) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            signed: Some(request.signed.into()),
            start: request.start,
            entries: request.entries.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::CosignResponse> for CosignAnswer {
    type Error = WireError;

    fn try_from(response: wire::CosignResponse) -> Result<Self, WireError> {
        match required("CosignResponse.answer", response.answer)? {
            cosign_response::Answer::Cosignature(bytes) => {
                signature("CosignResponse.cosignature", &bytes).map(Self::Cosignature)
            }
            cosign_response::Answer::EntriesFrom(size) => Ok(Self::EntriesFrom(size)),
        }
    }
}

impl From<CosignAnswer> for wire::CosignResponse {
    fn from(answer: CosignAnswer) -> Self {
        Self {
            answer: Some(match answer {
                CosignAnswer::Cosignature(signature) => {
                    cosign_response::Answer::Cosignature(bytes(signature.as_bytes()))
                }
                CosignAnswer::EntriesFrom(size) => cosign_response::Answer::EntriesFrom(size),
            }),
        }
    }
}

impl TryFrom<wire::ReplicaStatus> for ReplicaStatus {
    type Error = WireError;

    fn try_from(status: wire::ReplicaStatus) -> Result<Self, WireError> {
        at_most("ReplicaStatus.seated_epochs", status.seated_epochs.len(), MAX_OPEN_EPOCHS)?;
        Ok(Self {
            address: address("ReplicaStatus.address", &status.address)?,
            region: RegionId(small("ReplicaStatus.region", status.region)?),
            seat: small("ReplicaStatus.seat", status.seat)?,
            epoch: status.epoch,
            blobs: status.blobs,
            row_bytes: status.row_bytes,
            max_bytes: status.max_bytes,
            logs: status.logs,
            version: text("ReplicaStatus.version", status.version)?,
            seated_epochs: status.seated_epochs,
            logs_behind: status.logs_behind,
            repair_left: status.repair_left,
            quarantined: status.quarantined,
            scrubbed_at: status.scrubbed_at,
            store_failed: status.store_failed,
            now_ms: status.now_ms,
        })
    }
}

impl From<ReplicaStatus> for wire::ReplicaStatus {
    fn from(status: ReplicaStatus) -> Self {
        Self {
            address: bytes(status.address),
            region: status.region.0.into(),
            seat: status.seat.into(),
            epoch: status.epoch,
            blobs: status.blobs,
            row_bytes: status.row_bytes,
            max_bytes: status.max_bytes,
            logs: status.logs,
            version: status.version,
            seated_epochs: status.seated_epochs,
            logs_behind: status.logs_behind,
            repair_left: status.repair_left,
            quarantined: status.quarantined,
            scrubbed_at: status.scrubbed_at,
            store_failed: status.store_failed,
            now_ms: status.now_ms,
        }
    }
}

/// Refuses rows that no blob has.
pub(super) fn row_range(
    start_field: &'static str,
    count_field: &'static str,
    start: u32,
    count: u32,
) -> Result<(), WireError> {
    if start >= MAX_ROWS {
        let text = format!("no blob has a row {start}");
        return Err(WireError::refused(start_field, Reason::RangeInvalid, text));
    }
    if count == 0 || count > MAX_ROWS - start {
        let text = format!("no blob has {count} rows from row {start}");
        return Err(WireError::refused(count_field, Reason::RangeInvalid, text));
    }
    Ok(())
}
