//! Requests for logs and their answers.

use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::log::LogEntry;
use meridian_proofs::{Address, B256};

use super::committee::{ascending, list};
use super::{WireError, address, at_most, bytes, hash, hashes, required};
use crate::error::Reason;
use crate::wire::log_item;
use crate::{MAX_ENTRIES, MAX_LOG_PROOF, MAX_LOGS, wire};

/// An item of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogItem {
    /// The entry, until its expiry plus grace.
    Entry(LogEntry),
    /// The entry's leaf hash, for the life of the log.
    Leaf(B256),
}

impl LogItem {
    /// The leaf hash of the item.
    #[must_use]
    pub fn leaf(&self) -> B256 {
        match self {
            Self::Entry(entry) => entry.leaf(),
            Self::Leaf(leaf) => *leaf,
        }
    }
}

/// Asks for consecutive items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetEntries {
    /// Gateway whose log is meant.
    pub gateway: Address,
    /// Index of the first item.
    pub start: u64,
    /// Number of items, 1 to [`MAX_ENTRIES`].
    pub count: u64,
}

/// Asks for an inclusion proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetInclusionProof {
    /// Gateway whose log is meant.
    pub gateway: Address,
    /// Index of the entry, below size.
    pub index: u64,
    /// Size of the tree.
    pub size: u64,
}

/// An item with its audit path. Whether it leads to a root remains to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InclusionProof {
    /// The item.
    pub item: LogItem,
    /// From leaf to root.
    pub path: Vec<B256>,
}

/// Asks for a consistency proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetConsistencyProof {
    /// Gateway whose log is meant.
    pub gateway: Address,
    /// The smaller size.
    pub old_size: u64,
    /// The larger size.
    pub new_size: u64,
}

/// Hashes of a consistency proof. Whether they connect two roots remains to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsistencyProof(pub Vec<B256>);

impl TryFrom<wire::ListLogsResponse> for Vec<CosignedCheckpoint> {
    type Error = WireError;

    fn try_from(response: wire::ListLogsResponse) -> Result<Self, WireError> {
        const FIELD: &str = "ListLogsResponse.checkpoints";
        at_most(FIELD, response.checkpoints.len(), MAX_LOGS)?;
        let checkpoints: Self = list(response.checkpoints)?;
        ascending(FIELD, &checkpoints, |cosigned: &CosignedCheckpoint| cosigned.signed.checkpoint.gateway)?;
        Ok(checkpoints)
    }
}

impl From<Vec<CosignedCheckpoint>> for wire::ListLogsResponse {
    fn from(checkpoints: Vec<CosignedCheckpoint>) -> Self {
        Self { checkpoints: checkpoints.into_iter().map(Into::into).collect() }
    }
}

/// The gateway whose log is meant.
impl TryFrom<wire::GetCheckpointRequest> for Address {
    type Error = WireError;

    fn try_from(request: wire::GetCheckpointRequest) -> Result<Self, WireError> {
        address("GetCheckpointRequest.gateway", &request.gateway)
    }
}

impl From<Address> for wire::GetCheckpointRequest {
    fn from(gateway: Address) -> Self {
        Self { gateway: bytes(gateway) }
    }
}

impl TryFrom<wire::GetEntriesRequest> for GetEntries {
    type Error = WireError;

    fn try_from(request: wire::GetEntriesRequest) -> Result<Self, WireError> {
        const COUNT: &str = "GetEntriesRequest.count";
        let count = usize::try_from(request.count).unwrap_or(usize::MAX);
        at_most(COUNT, count, MAX_ENTRIES)?;
        if count == 0 {
            return Err(WireError::refused(COUNT, Reason::RangeInvalid, "is 0"));
        }
        if request.start.checked_add(request.count).is_none() {
            let text = format!("no log has an entry {}", request.start);
            return Err(WireError::refused("GetEntriesRequest.start", Reason::RangeInvalid, text));
        }
        Ok(Self {
            gateway: address("GetEntriesRequest.gateway", &request.gateway)?,
            start: request.start,
            count: request.count,
        })
    }
}

impl From<GetEntries> for wire::GetEntriesRequest {
    fn from(request: GetEntries) -> Self {
        Self { gateway: bytes(request.gateway), start: request.start, count: request.count }
    }
}

impl TryFrom<wire::LogItem> for LogItem {
    type Error = WireError;

    fn try_from(item: wire::LogItem) -> Result<Self, WireError> {
        match required("LogItem.item", item.item)? {
            log_item::Item::Entry(entry) => entry.try_into().map(Self::Entry),
            log_item::Item::Leaf(leaf) => hash("LogItem.leaf", &leaf).map(Self::Leaf),
        }
    }
}

impl From<LogItem> for wire::LogItem {
    fn from(item: LogItem) -> Self {
        Self {
            item: Some(match item {
                LogItem::Entry(entry) => log_item::Item::Entry(entry.into()),
                LogItem::Leaf(leaf) => log_item::Item::Leaf(bytes(leaf)),
            }),
        }
    }
}

impl TryFrom<wire::GetEntriesResponse> for Vec<LogItem> {
    type Error = WireError;

    fn try_from(response: wire::GetEntriesResponse) -> Result<Self, WireError> {
        at_most("GetEntriesResponse.items", response.items.len(), MAX_ENTRIES)?;
        list(response.items)
    }
}

impl From<Vec<LogItem>> for wire::GetEntriesResponse {
    fn from(items: Vec<LogItem>) -> Self {
        Self { items: items.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<wire::GetInclusionProofRequest> for GetInclusionProof {
    type Error = WireError;

    fn try_from(request: wire::GetInclusionProofRequest) -> Result<Self, WireError> {
        if request.index >= request.size {
            let text = format!("entry {} is not below size {}", request.index, request.size);
            return Err(WireError::refused("GetInclusionProofRequest.index", Reason::RangeInvalid, text));
        }
        Ok(Self {
            gateway: address("GetInclusionProofRequest.gateway", &request.gateway)?,
            index: request.index,
            size: request.size,
        })
    }
}

impl From<GetInclusionProof> for wire::GetInclusionProofRequest {
    fn from(request: GetInclusionProof) -> Self {
        Self { gateway: bytes(request.gateway), index: request.index, size: request.size }
    }
}

impl TryFrom<wire::GetInclusionProofResponse> for InclusionProof {
    type Error = WireError;

    fn try_from(response: wire::GetInclusionProofResponse) -> Result<Self, WireError> {
        Ok(Self {
            item: required("GetInclusionProofResponse.item", response.item)?.try_into()?,
            path: hashes("GetInclusionProofResponse.path", &response.path, MAX_LOG_PROOF)?,
        })
    }
}

impl From<InclusionProof> for wire::GetInclusionProofResponse {
    fn from(proof: InclusionProof) -> Self {
        Self { item: Some(proof.item.into()), path: proof.path.iter().map(bytes).collect() }
    }
}

impl TryFrom<wire::GetConsistencyProofRequest> for GetConsistencyProof {
    type Error = WireError;

    fn try_from(request: wire::GetConsistencyProofRequest) -> Result<Self, WireError> {
        if request.old_size > request.new_size {
            let text = format!("size {} is above size {}", request.old_size, request.new_size);
            return Err(WireError::refused(
                "GetConsistencyProofRequest.old_size",
                Reason::RangeInvalid,
                text,
            ));
        }
        Ok(Self {
            gateway: address("GetConsistencyProofRequest.gateway", &request.gateway)?,
            old_size: request.old_size,
            new_size: request.new_size,
        })
    }
}

impl From<GetConsistencyProof> for wire::GetConsistencyProofRequest {
    fn from(request: GetConsistencyProof) -> Self {
        Self { gateway: bytes(request.gateway), old_size: request.old_size, new_size: request.new_size }
    }
}

impl TryFrom<wire::GetConsistencyProofResponse> for ConsistencyProof {
    type Error = WireError;

    fn try_from(response: wire::GetConsistencyProofResponse) -> Result<Self, WireError> {
        hashes("GetConsistencyProofResponse.path", &response.path, MAX_LOG_PROOF).map(Self)
    }
}

impl From<ConsistencyProof> for wire::GetConsistencyProofResponse {
    fn from(proof: ConsistencyProof) -> Self {
        Self { path: proof.0.iter().map(bytes).collect() }
    }
}
