//! Types that all services share.

use bytes::Bytes;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{
    Checkpoint, CosignedCheckpoint, Dispersal, SignedCheckpoint, SignedDispersal,
};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::log::LogEntry;
use meridian_proofs::shape::PayloadLength;
use meridian_proofs::signature::{SIGNATURE_LEN, Signature, SignatureError};

use super::{WireError, WireProblem, address, at_most, bytes, hash, required};
use crate::error::Reason;
use crate::{MAX_SEATS, wire};

/// A field with a signature. Whose it is remains to be checked.
pub(super) fn signature(field: &'static str, bytes: &[u8]) -> Result<Signature, WireError> {
    Signature::from_bytes(bytes).map_err(|error| match error {
        SignatureError::Length(found) => {
            WireError { field, problem: WireProblem::Length { expected: SIGNATURE_LEN, found } }
        }
        other => WireError::refused(field, Reason::SignatureInvalid, other.to_string()),
    })
}

/// A field with a certificate in its flat form. What it claims remains to be checked.
pub(super) fn certificate(field: &'static str, bytes: &[u8]) -> Result<Certificate, WireError> {
    Certificate::decode(bytes).map_err(|error| WireError::value(field, error.to_string()))
}

impl TryFrom<wire::BlobHeader> for BlobHeader {
    type Error = WireError;

    fn try_from(header: wire::BlobHeader) -> Result<Self, WireError> {
        if header.codec != u32::from(BlobHeader::CODEC) {
            let text = format!("codec {} is unknown", header.codec);
            return Err(WireError::refused("BlobHeader.codec", Reason::HeaderInvalid, text));
        }
        let length = PayloadLength::try_from(header.length).map_err(|error| {
            WireError::refused("BlobHeader.length", Reason::HeaderInvalid, error.to_string())
        })?;
        Ok(Self {
            length,
            row_root: hash("BlobHeader.row_root", &header.row_root)?,
            rlc_root: hash("BlobHeader.rlc_root", &header.rlc_root)?,
            kzg_root: hash("BlobHeader.kzg_root", &header.kzg_root)?,
        })
    }
}

impl From<BlobHeader> for wire::BlobHeader {
    fn from(header: BlobHeader) -> Self {
        Self {
            codec: BlobHeader::CODEC.into(),
            length: header.length.get(),
            row_root: bytes(header.row_root),
            rlc_root: bytes(header.rlc_root),
            kzg_root: bytes(header.kzg_root),
        }
    }
}

impl TryFrom<wire::LogEntry> for LogEntry {
    type Error = WireError;

    fn try_from(entry: wire::LogEntry) -> Result<Self, WireError> {
        Ok(Self {
            blob_id: hash("LogEntry.blob_id", &entry.blob_id)?,
            namespace: hash("LogEntry.namespace", &entry.namespace)?,
            payload_hash: hash("LogEntry.payload_hash", &entry.payload_hash)?,
            length: entry.length,
            epoch: entry.epoch,
            time: entry.time,
            expiry: entry.expiry,
        })
    }
}

impl From<LogEntry> for wire::LogEntry {
    fn from(entry: LogEntry) -> Self {
        Self {
            blob_id: bytes(entry.blob_id.as_bytes()),
            namespace: bytes(entry.namespace.as_bytes()),
            payload_hash: bytes(entry.payload_hash.as_bytes()),
            length: entry.length,
            epoch: entry.epoch,
            time: entry.time,
            expiry: entry.expiry,
        }
    }
}

impl TryFrom<wire::Checkpoint> for Checkpoint {
    type Error = WireError;

    fn try_from(checkpoint: wire::Checkpoint) -> Result<Self, WireError> {
        let checkpoint = Self {
            gateway: address("Checkpoint.gateway", &checkpoint.gateway)?,
            epoch: checkpoint.epoch,
            size: checkpoint.size,
            root: hash("Checkpoint.root", &checkpoint.root)?,
            timestamp: checkpoint.timestamp,
        };
        if checkpoint.size == 0 && !checkpoint.root.is_zero() {
            return Err(WireError::value("Checkpoint.root", "an empty log has a root of zeros"));
        }
        Ok(checkpoint)
    }
}

impl From<Checkpoint> for wire::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            gateway: bytes(checkpoint.gateway),
            epoch: checkpoint.epoch,
            size: checkpoint.size,
            root: bytes(checkpoint.root),
            timestamp: checkpoint.timestamp,
        }
    }
}

impl TryFrom<wire::SignedCheckpoint> for SignedCheckpoint {
    type Error = WireError;

    fn try_from(signed: wire::SignedCheckpoint) -> Result<Self, WireError> {
        Ok(Self {
            checkpoint: required("SignedCheckpoint.checkpoint", signed.checkpoint)?.try_into()?,
            signature: signature("SignedCheckpoint.signature", &signed.signature)?,
        })
    }
}

impl From<SignedCheckpoint> for wire::SignedCheckpoint {
    fn from(signed: SignedCheckpoint) -> Self {
        Self { checkpoint: Some(signed.checkpoint.into()), signature: bytes(signed.signature.as_bytes()) }
    }
}

impl TryFrom<wire::CosignedCheckpoint> for CosignedCheckpoint {
    type Error = WireError;

    /// That the cosignatures ascend by signer is checked by [`CosignedCheckpoint::signers`], which knows the domain.
    fn try_from(cosigned: wire::CosignedCheckpoint) -> Result<Self, WireError> {
        const FIELD: &str = "CosignedCheckpoint.cosignatures";
        at_most(FIELD, cosigned.cosignatures.len(), MAX_SEATS)?;
        let cosignatures = cosigned.cosignatures.iter().map(|bytes| signature(FIELD, bytes));
        Ok(Self {
            signed: required("CosignedCheckpoint.signed", cosigned.signed)?.try_into()?,
            cosignatures: cosignatures.collect::<Result<_, _>>()?,
        })
    }
}

impl From<CosignedCheckpoint> for wire::CosignedCheckpoint {
    fn from(cosigned: CosignedCheckpoint) -> Self {
        let cosignatures: Vec<Bytes> =
            cosigned.cosignatures.iter().map(|signature| bytes(signature.as_bytes())).collect();
        Self { signed: Some(cosigned.signed.into()), cosignatures }
    }
}

impl TryFrom<wire::Dispersal> for SignedDispersal {
    type Error = WireError;

    fn try_from(dispersal: wire::Dispersal) -> Result<Self, WireError> {
        Ok(Self {
            dispersal: Dispersal {
                gateway: address("Dispersal.gateway", &dispersal.gateway)?,
                replica: address("Dispersal.replica", &dispersal.replica)?,
                epoch: dispersal.epoch,
                blob_id: hash("Dispersal.blob_id", &dispersal.blob_id)?,
                deadline: dispersal.deadline,
            },
            signature: signature("Dispersal.signature", &dispersal.signature)?,
        })
    }
}

impl From<SignedDispersal> for wire::Dispersal {
    fn from(signed: SignedDispersal) -> Self {
        let dispersal = signed.dispersal;
        Self {
            gateway: bytes(dispersal.gateway),
            replica: bytes(dispersal.replica),
            epoch: dispersal.epoch,
            blob_id: bytes(dispersal.blob_id.as_bytes()),
            deadline: dispersal.deadline,
            signature: bytes(signed.signature.as_bytes()),
        }
    }
}
