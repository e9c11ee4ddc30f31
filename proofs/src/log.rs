//! The append-only log of a gateway: an RFC 6962 tree over entries (protocol section 3).
//!
//! leaf = keccak256(0x00, abi.encode(entry)), node = keccak256(0x01, left, right); the empty log has the zero root.
//! A *node* is named by level and index: node (l, i) covers the leaves [i * 2^l, (i + 1) * 2^l) and exists once all of
//! them do. It never changes afterwards, so a store only ever adds nodes.

mod block;
mod proof;

use alloy_primitives::{B256, keccak256};
use alloy_sol_types::{SolValue, sol};
use thiserror::Error;

use crate::ids::{BlobId, Namespace, PayloadHash};

pub use block::{block_len, verify_block};
pub use proof::{
    NodeSource, ProofError, consistency_proof, consistency_proof_len, inclusion_proof, inclusion_proof_len,
    range_at, root_at, verify_consistency, verify_inclusion,
};

/// Length of an entry's flat form in bytes.
pub const ENTRY_LEN: usize = 128;

/// Most entries that a log can have.
pub const MAX_LOG_SIZE: u64 = 1 << 62;

/// The struct types that are hashed.
mod typed {
    use super::sol;

    sol! {
        struct LogEntry {
            bytes32 blobId; bytes32 namespace; bytes32 payloadHash;
            uint64 length; uint64 epoch; uint64 time; uint64 expiry;
        }
    }
}

/// One line of a gateway's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogEntry {
    /// Which blob.
    pub blob_id: BlobId,
    /// Whose blob.
    pub namespace: Namespace,
    /// keccak256(payload) when the submitter asked for it, else zero.
    pub payload_hash: PayloadHash,
    /// Payload length in bytes; the header says the same.
    pub length: u64,
    /// Epoch of the committee that holds the rows.
    pub epoch: u64,
    /// Unix seconds; never falls along a log.
    pub time: u64,
    /// Unix seconds: time plus retention.
    pub expiry: u64,
}

/// Bytes that are not an entry: the number of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("log entry has {0} bytes instead of {ENTRY_LEN}")]
pub struct EntryError(pub usize);

impl LogEntry {
    /// The entry's leaf hash.
    #[must_use]
    pub fn leaf(&self) -> B256 {
        let entry = typed::LogEntry {
            blobId: self.blob_id.0,
            namespace: self.namespace.0,
            payloadHash: self.payload_hash.0,
            length: self.length,
            epoch: self.epoch,
            time: self.time,
            expiry: self.expiry,
        };
        keccak256([&[0], entry.abi_encode().as_slice()].concat())
    }

    /// Flat form for stores: the three hashes, then length, epoch, time and expiry as big-endian u64.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..32].copy_from_slice(self.blob_id.as_bytes());
        bytes[32..64].copy_from_slice(self.namespace.as_bytes());
        bytes[64..96].copy_from_slice(self.payload_hash.as_bytes());
        for (field, value) in
            bytes[96..].chunks_exact_mut(8).zip([self.length, self.epoch, self.time, self.expiry])
        {
            field.copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    /// Reads the flat form.
    ///
    /// # Errors
    ///
    /// Another number of bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let bytes: &[u8; ENTRY_LEN] = bytes.try_into().map_err(|_| EntryError(bytes.len()))?;
        let hash = |at: usize| B256::from_slice(&bytes[at..at + 32]);
        let number = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(field)
        };
        Ok(Self {
            blob_id: BlobId(hash(0)),
            namespace: Namespace(hash(32)),
            payload_hash: PayloadHash(hash(64)),
            length: number(96),
            epoch: number(104),
            time: number(112),
            expiry: number(120),
        })
    }
}

/// Hash of an inner node.
fn node_hash(left: &B256, right: &B256) -> B256 {
    let mut bytes = [0; 65];
    bytes[0] = 1;
    bytes[1..33].copy_from_slice(left.as_slice());
    bytes[33..].copy_from_slice(right.as_slice());
    keccak256(bytes)
}

/// A complete subtree of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// Position among the nodes of the level, from 0.
    pub index: u64,
    /// Root of the subtree.
    pub hash: B256,
}

/// What it takes to go on with a log: its size and the roots of its maximal complete subtrees.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CompactRange {
    size: u64,
    /// One for each set bit of the size, the largest subtree first.
    peaks: Vec<B256>,
}

/// Why size and peaks are not a compact range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CompactRangeError {
    /// Not one peak for each set bit of the size.
    #[error("compact range of {size} entries has {peaks} peaks")]
    Peaks {
        /// Entries.
        size: u64,
        /// Peaks that were given.
        peaks: usize,
    },
    /// More than [`MAX_LOG_SIZE`].
    #[error("log of {0} entries is over the limit of {MAX_LOG_SIZE}")]
    Size(u64),
}

impl CompactRange {
    /// The log without entries.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Takes a stored or received range. It proves nothing: compare its root with a trusted one.
    ///
    /// # Errors
    ///
    /// Another number of peaks than the size has set bits, or a size over [`MAX_LOG_SIZE`].
    pub fn from_parts(size: u64, peaks: Vec<B256>) -> Result<Self, CompactRangeError> {
        if size > MAX_LOG_SIZE {
            return Err(CompactRangeError::Size(size));
        }
        if u32::try_from(peaks.len()) != Ok(size.count_ones()) {
            return Err(CompactRangeError::Peaks { size, peaks: peaks.len() });
        }
        Ok(Self { size, peaks })
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the maximal complete subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[B256] {
        &self.peaks
    }

    /// Root of the log, zero when it is empty.
    #[must_use]
    pub fn root(&self) -> B256 {
        fold_peaks(&self.peaks)
    }

    /// Appends a leaf and tells which nodes are complete now, from the leaf upwards.
    pub fn append(&mut self, leaf: B256) -> Vec<Node> {
        let mut node = Node { level: 0, index: self.size, hash: leaf };
        let mut created = vec![node];
        // Every one at the end of the old size is a peak of the same height, which the new node completes.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = Node { level: node.level + 1, index: node.index / 2, hash: node_hash(&left, &node.hash) };
            created.push(node);
        }
        self.peaks.push(node.hash);
        self.size += 1;
        created
    }
}

/// Root over complete subtrees of falling height, zero over none.
fn fold_peaks(peaks: &[B256]) -> B256 {
    peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
