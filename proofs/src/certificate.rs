//! Certificates: what a submitter posts and everybody can check with nothing but the committee.
//!
//! One flat big-endian layout, the same in files, on the wire and for a contract; `docs/protocol.md` writes it out.
//! A certificate has one spelling only: decoding refuses every other.

mod layout;

use alloy_primitives::Address;
use thiserror::Error;

use crate::{
    checkpoint::{CosignatureError, CosignedCheckpoint, StatementError},
    committee::{Committee, MAX_REGIONS, MAX_SEATS_PER_REGION, RegionId},
    header::{BlobHeader, HeaderError},
    ids::BlobId,
    log::{LogEntry, ProofError, verify_inclusion},
    signature::SignatureError,
};

/// Version of the layout: its first byte.
pub const CERTIFICATE_VERSION: u8 = 1;

/// Most cosignatures in a certificate: one for each seat of the largest committee.
pub const MAX_COSIGNATURES: usize = MAX_REGIONS * MAX_SEATS_PER_REGION;

/// Most bytes of a certificate: the longest inclusion path and all cosignatures.
pub const MAX_CERTIFICATE_LEN: usize = layout::FIXED_LEN + 64 * 32 + MAX_COSIGNATURES * 65;

/// A claim by replicas of complete regions that they keep a blob until its expiry. Not checked until
/// [`Certificate::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Of the blob.
    pub header: BlobHeader,
    /// The line of the log that the claim is about; its blob id and length are those of the header.
    pub entry: LogEntry,
    /// Where the entry stands in the log.
    pub index: u64,
    /// Hashes from the entry's leaf to the checkpoint's root.
    pub inclusion: Vec<alloy_primitives::B256>,
    /// Signed by the gateway, cosigned by replicas.
    pub checkpoint: CosignedCheckpoint,
}

/// What a valid certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Regions that are complete, ascending.
    pub complete: Vec<RegionId>,
    /// Seats that cosigned, ascending.
    pub signers: Vec<Address>,
}

/// Why bytes are not a certificate, or a certificate does not hold.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CertificateError {
    /// Another version of the layout.
    #[error("certificate version {0} is not supported, only {CERTIFICATE_VERSION}")]
    Version(u8),
    /// The bytes end early.
    #[error("certificate has {have} bytes where at least {need} are needed")]
    Truncated {
        /// Bytes needed up to the point where they ran out.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// Bytes follow the end.
    #[error("certificate is followed by {0} bytes that do not belong to it")]
    Trailing(usize),
    /// The header is invalid.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The index is not below the checkpoint's size.
    #[error("entry index {index} is not below the checkpoint's size {size}")]
    Index {
        /// Index of the entry.
        index: u64,
        /// Size of the log.
        size: u64,
    },
    /// More cosignatures than there can be seats.
    #[error("certificate has {have} cosignatures where at most {limit} are possible")]
    TooManyCosignatures {
        /// Cosignatures given.
        have: usize,
        /// [`MAX_COSIGNATURES`], or the number of the committee's seats.
        limit: usize,
    },
    /// The gateway's signature is not in canonical form.
    #[error("gateway signature: {0}")]
    GatewaySignature(SignatureError),
    /// A cosignature is not in canonical form.
    #[error("cosignature {position}: {problem}")]
    Cosignature {
        /// Place among the cosignatures, from 0.
        position: usize,
        /// What is wrong with it.
        problem: SignatureError,
    },
    /// The entry names another blob id or length than the header gives.
    #[error("entry belongs to another blob than the header")]
    OtherBlob,
    /// Entry and checkpoint are of different epochs.
    #[error("entry is of epoch {entry}, its checkpoint of epoch {checkpoint}")]
    EpochMismatch {
        /// Epoch of the entry.
        entry: u64,
        /// Epoch of the checkpoint.
        checkpoint: u64,
    },
    /// The certificate is of another epoch than the committee.
    #[error("certificate is of epoch {certificate}, the committee of epoch {committee}")]
    OtherEpoch {
        /// Epoch of the certificate.
        certificate: u64,
        /// Epoch of the committee.
        committee: u64,
    },
    /// The gateway is not one of the epoch's.
    #[error("{0} is not a gateway of this committee")]
    UnknownGateway(Address),
    /// The retention is outside the committee's limits.
    #[error("retention from {time} to {expiry} is outside the limits of {min} to {max} seconds")]
    Retention {
        /// Time of the entry, unix seconds.
        time: u64,
        /// Expiry of the entry, unix seconds.
        expiry: u64,
        /// Shortest retention in seconds.
        min: u64,
        /// Longest retention in seconds.
        max: u64,
    },
    /// The entry is younger than the checkpoint.
    #[error("entry time {time} is after the checkpoint's timestamp {timestamp}")]
    EntryFromFuture {
        /// Time of the entry, unix seconds.
        time: u64,
        /// Timestamp of the checkpoint, unix seconds.
        timestamp: u64,
    },
    /// The entry is not in the log under the checkpoint.
    #[error("inclusion in the log: {0}")]
    Inclusion(ProofError),
    /// The checkpoint lacks the signature of its own gateway.
    #[error("gateway signature: {0}")]
    Gateway(StatementError),
    /// The cosignatures are not in order, or one is nobody's.
    #[error("cosignatures: {0}")]
    Cosignatures(CosignatureError),
    /// A cosigner holds no seat.
    #[error("cosigner {0} holds no seat in this committee")]
    UnknownSigner(Address),
    /// Too few regions are complete.
    #[error("{have} regions are complete where {need} are needed", have = complete.len())]
    Quorum {
        /// Regions that are complete, ascending.
        complete: Vec<RegionId>,
        /// Regions needed.
        need: usize,
    },
}

impl Certificate {
    /// The id of the blob, from the header.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.header.id()
    }

    /// Checks everything that can be checked offline, cheap things first.
    ///
    /// Not checked, because it takes a clock or the chain: whether the blob has expired, and whether the epoch is
    /// current.
    ///
    /// # Errors
    ///
    /// One variant of [`CertificateError`] for each thing that can be wrong.
    pub fn verify(&self, committee: &Committee) -> Result<Verified, CertificateError> {
        let (entry, signed) = (&self.entry, &self.checkpoint.signed);
        let checkpoint = &signed.checkpoint;
        if entry.blob_id != self.id() || entry.length != self.header.length.get() {
            return Err(CertificateError::OtherBlob);
        }
        if entry.epoch != checkpoint.epoch {
            return Err(CertificateError::EpochMismatch { entry: entry.epoch, checkpoint: checkpoint.epoch });
        }
        if checkpoint.epoch != committee.epoch() {
            return Err(CertificateError::OtherEpoch {
                certificate: checkpoint.epoch,
                committee: committee.epoch(),
            });
        }
        if committee.gateway(&checkpoint.gateway).is_none() {
            return Err(CertificateError::UnknownGateway(checkpoint.gateway));
        }
        if !committee.allows_retention(entry.time, entry.expiry) {
            return Err(CertificateError::Retention {
                time: entry.time,
                expiry: entry.expiry,
                min: committee.min_retention(),
                max: committee.max_retention(),
            });
        }
        if entry.time > checkpoint.timestamp {
            return Err(CertificateError::EntryFromFuture {
                time: entry.time,
                timestamp: checkpoint.timestamp,
            });
        }
        let (have, limit) = (self.checkpoint.cosignatures.len(), committee.seats().len());
        if have > limit {
            return Err(CertificateError::TooManyCosignatures { have, limit });
        }
        verify_inclusion(entry.leaf(), self.index, checkpoint.size, &self.inclusion, &checkpoint.root)
            .map_err(CertificateError::Inclusion)?;

        let domain = committee.domain();
        signed.verify(&domain).map_err(CertificateError::Gateway)?;
        let signers = self.checkpoint.signers(&domain).map_err(CertificateError::Cosignatures)?;
        if let Some(stranger) = signers.iter().find(|signer| committee.seat(signer).is_none()) {
            return Err(CertificateError::UnknownSigner(*stranger));
        }
        let complete = committee.complete_regions(&signers);
        if complete.len() < committee.min_copies() {
            return Err(CertificateError::Quorum { complete, need: committee.min_copies() });
        }
        Ok(Verified { complete, signers })
    }
}

#[cfg(test)]
mod tests;
