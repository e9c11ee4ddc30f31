//! Checkpoints and entries as the contract takes them.

use meridian_proofs::{checkpoint, log};

use super::{Checkpoint, LogEntry};

impl From<&checkpoint::Checkpoint> for Checkpoint {
    fn from(checkpoint: &checkpoint::Checkpoint) -> Self {
        Self {
            gateway: checkpoint.gateway,
            epoch: checkpoint.epoch,
            size: checkpoint.size,
            root: checkpoint.root,
            timestamp: checkpoint.timestamp,
        }
    }
}

impl From<&log::LogEntry> for LogEntry {
    fn from(entry: &log::LogEntry) -> Self {
        Self {
            blobId: entry.blob_id.0,
            namespace: entry.namespace.0,
            payloadHash: entry.payload_hash.0,
            length: entry.length,
            epoch: entry.epoch,
            time: entry.time,
            expiry: entry.expiry,
        }
    }
}
