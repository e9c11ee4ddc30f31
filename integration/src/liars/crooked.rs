//! A gateway of the committee that talks to replicas directly, with whatever signed requests a kind of lie crafts.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meridian_client::rpc::{Channels, CosignAnswer, DisperseOutcome, Upload};
use meridian_proofs::checkpoint::{Checkpoint, Dispersal, SignedCheckpoint, SignedDispersal};
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::encode::EncodedBlob;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::placement;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, B256};
use meridian_proto::{ApiError, Reason};

/// Unix seconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A gateway's log that is kept by hand.
#[derive(Debug)]
pub struct Crooked {
    key: SecretKey,
    committee: Arc<Committee>,
    /// The entries that were cosigned honestly.
    pub entries: Vec<LogEntry>,
}

/// A request for a cosignature that must be refused.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What is wrong with it.
    pub what: &'static str,
    /// The checkpoint.
    pub signed: SignedCheckpoint,
    /// Index of the first entry.
    pub start: u64,
    /// The entries from there.
    pub entries: Vec<LogEntry>,
    /// The reason that the answer must carry.
    pub refused: Reason,
}

/// The root over entries.
#[must_use]
pub fn root(entries: &[LogEntry]) -> B256 {
    let mut range = CompactRange::empty();
    for entry in entries {
        range.append(entry.leaf());
    }
    range.root()
}

impl Crooked {
    /// An empty log under a key.
    #[must_use]
    pub fn new(key: SecretKey, committee: Arc<Committee>) -> Self {
        Self { key, committee, entries: Vec::new() }
    }

    /// Whose log it is.
    #[must_use]
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// The committee that it signs for.
    #[must_use]
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Entries that were cosigned.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// An honest entry for a blob, as of now.
    #[must_use]
    pub fn entry(&self, blob: &EncodedBlob) -> LogEntry {
        let time = now();
        LogEntry {
            blob_id: blob.id(),
            namespace: Namespace::default(),
            payload_hash: PayloadHash::default(),
            length: blob.header().length.get(),
            epoch: self.committee.epoch(),
            time,
            expiry: time + self.committee.parts().min_retention.max(3600),
        }
    }

    /// Signs a checkpoint over these entries as if they were the log, and lets `change` spoil it before.
    #[must_use]
    pub fn sign(&self, entries: &[LogEntry], change: impl FnOnce(&mut Checkpoint)) -> SignedCheckpoint {
        let mut checkpoint = Checkpoint {
            gateway: self.address(),
            epoch: self.committee.epoch(),
            size: entries.len() as u64,
            root: root(entries),
            timestamp: now(),
        };
        change(&mut checkpoint);
        SignedCheckpoint::sign(checkpoint, &self.committee.domain(), &self.key)
    }

    /// The log with more entries.
    #[must_use]
    pub fn with(&self, more: &[LogEntry]) -> Vec<LogEntry> {
        self.entries.iter().chain(more).copied().collect()
    }

    /// A request with one more entry that is to be refused.
    #[must_use]
    pub fn attempt(&self, what: &'static str, refused: Reason, entry: LogEntry) -> Attempt {
        let signed = self.sign(&self.with(std::slice::from_ref(&entry)), |_| {});
        Attempt { what, signed, start: self.size(), entries: vec![entry], refused }
    }

    /// The honest request that adds one entry.
    #[must_use]
    pub fn honest(&self, entry: LogEntry) -> Attempt {
        self.attempt("nothing", Reason::Internal, entry)
    }

    /// Signs the permission to upload a blob to a replica, and lets `change` spoil it before.
    #[must_use]
    pub fn permit(
        &self,
        blob: &EncodedBlob,
        seat: &Seat,
        change: impl FnOnce(&mut Dispersal),
    ) -> SignedDispersal {
        let mut dispersal = Dispersal {
            gateway: self.address(),
            replica: seat.address,
            epoch: self.committee.epoch(),
            blob_id: blob.id(),
            deadline: now() + 30,
        };
        change(&mut dispersal);
        SignedDispersal::sign(dispersal, &self.committee.domain(), &self.key)
    }

    /// What an honest gateway uploads to a seat.
    #[must_use]
    pub fn upload(&self, blob: &EncodedBlob, seat: &Seat) -> Upload {
        let interval = placement::interval(&self.committee, seat, &blob.id(), blob.shape());
        let ranges = interval.ranges().iter();
        Upload {
            rlc: Bytes::from(blob.rlc().to_bytes()),
            ranges: ranges.map(|range| (*range, blob.range_proof(*range), blob.rows(*range))).collect(),
        }
    }

    /// Uploads a blob to a replica as an honest gateway would.
    ///
    /// # Errors
    /// What the replica answers.
    pub async fn disperse(
        &self,
        channels: &Channels,
        blob: &EncodedBlob,
        seat: &Seat,
    ) -> Result<DisperseOutcome, ApiError> {
        let permit = self.permit(blob, seat, |_| {});
        channels.replica(&seat.endpoint)?.disperse(permit, *blob.header(), self.upload(blob, seat)).await
    }

    /// Asks a replica for a cosignature.
    ///
    /// # Errors
    /// What the replica answers.
    pub async fn ask(
        &self,
        channels: &Channels,
        seat: &Seat,
        attempt: &Attempt,
    ) -> Result<CosignAnswer, ApiError> {
        channels.replica(&seat.endpoint)?.cosign(&attempt.signed, attempt.start, &attempt.entries).await
    }
}
