//! A replica that keeps entries of logs to itself.

use meridian_proto::convert::LogItem;
use meridian_proto::wire::log_item::Item;
use meridian_proto::wire::{GetEntriesRequest, GetEntriesResponse};
use tonic::Status;

use super::wrong_rows::flipped;
use super::{ReplicaLie, Truth};

/// What it gives instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenEntries {
    /// The right hash of each, as of an entry that has expired.
    Hashes,
    /// Entries of another namespace.
    Others,
    /// Nothing.
    Nothing,
}

#[tonic::async_trait]
impl ReplicaLie for HiddenEntries {
    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        let mut answer = truth.entries(request).await?;
        match self {
            Self::Hashes => {
                let items = Vec::<LogItem>::try_from(answer)?;
                let hashes: Vec<LogItem> = items.iter().map(|item| LogItem::Leaf(item.leaf())).collect();
                answer = hashes.into();
            }
            Self::Others => {
                for item in &mut answer.items {
                    if let Some(Item::Entry(entry)) = &mut item.item {
                        entry.namespace = flipped(&entry.namespace);
                    }
                }
            }
            Self::Nothing => answer.items.clear(),
        }
        Ok(answer)
    }
}
