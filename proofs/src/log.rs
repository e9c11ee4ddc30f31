//! log

use alloy_primitives::B256;
use thiserror::Error;

use crate::ids::{BlobId, Namespace, PayloadHash};

/// Length of an encoded entry.
pub const ENTRY_LEN: usize = 128;

/// One line of a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogEntry {
    /// Which blob.
    pub blob_id: BlobId,
    /// Whose blob.
    pub namespace: Namespace,
    /// Hash of the payload, or zero.
    pub payload_hash: PayloadHash,
    /// Payload length in bytes.
    pub length: u64,
    /// Epoch of the committee that holds the rows.
    pub epoch: u64,
    /// Unix seconds.
    pub time: u64,
    /// Unix seconds.
    pub expiry: u64,
}

/// Entry of a wrong length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("log entry has {0} bytes instead of {ENTRY_LEN}")]
pub struct EntryError(pub usize);

impl LogEntry {
    /// leaf
    pub fn leaf(&self) -> B256 {
        todo!()
    }
    /// encode
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        todo!()
    }
    /// decode
    pub fn decode(_bytes: &[u8]) -> Result<Self, EntryError> {
        todo!()
    }
}

/// A complete subtree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// level
    pub level: u8,
    /// index
    pub index: u64,
    /// hash
    pub hash: B256,
}

/// Peaks
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<B256>,
}

/// Peaks do not fit the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CompactRangeError {
    /// Not one peak for each set bit.
    #[error("compact range of size {size} has {peaks} peaks")]
    Peaks {
        /// Size.
        size: u64,
        /// Peaks given.
        peaks: usize,
    },
}

impl CompactRange {
    /// empty
    pub fn empty() -> Self {
        Self::default()
    }
    /// size
    pub fn size(&self) -> u64 {
        self.size
    }
    /// root
    pub fn root(&self) -> B256 {
        todo!()
    }
    /// append
    pub fn append(&mut self, _leaf: B256) -> Vec<Node> {
        todo!()
    }
    /// peaks
    pub fn peaks(&self) -> &[B256] {
        &self.peaks
    }
    /// from parts
    pub fn from_parts(_size: u64, _peaks: Vec<B256>) -> Result<Self, CompactRangeError> {
        todo!()
    }
}

/// Source
pub trait NodeSource {
    /// Error
    type Error;
    /// Node
    fn node(&self, level: u8, index: u64) -> Result<B256, Self::Error>;
}

/// root
pub fn root_at<S: NodeSource>(_source: &S, _size: u64) -> Result<B256, S::Error> {
    todo!()
}
/// inclusion
pub fn inclusion_proof<S: NodeSource>(_source: &S, _index: u64, _size: u64) -> Result<Vec<B256>, S::Error> {
    todo!()
}
/// consistency
pub fn consistency_proof<S: NodeSource>(
    _source: &S,
    _old_size: u64,
    _new_size: u64,
) -> Result<Vec<B256>, S::Error> {
    todo!()
}

/// Why a log proof does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProofError {
    /// Index past the end.
    #[error("index {index} is not below size {size}")]
    Index {
        /// index
        index: u64,
        /// size
        size: u64,
    },
    /// The log shrank.
    #[error("size {new_size} is below size {old_size}")]
    Shrunk {
        /// old
        old_size: u64,
        /// new
        new_size: u64,
    },
    /// Wrong number of hashes.
    #[error("proof has {have} hashes instead of {need}")]
    Length {
        /// have
        have: usize,
        /// need
        need: usize,
    },
    /// Leads to another root.
    #[error("proof leads to another root")]
    Root,
}

/// verify
pub fn verify_inclusion(
    _leaf: B256,
    _index: u64,
    _size: u64,
    _proof: &[B256],
    _root: &B256,
) -> Result<(), ProofError> {
    todo!()
}
/// verify
pub fn verify_consistency(
    _old_size: u64,
    _old_root: &B256,
    _new_size: u64,
    _new_root: &B256,
    _proof: &[B256],
) -> Result<(), ProofError> {
    todo!()
}
/// len
pub fn inclusion_proof_len(_index: u64, _size: u64) -> usize {
    todo!()
}
