//! A replica that serves entries of logs that are not in them.

use meridian_proto::wire::log_item::Item;
use meridian_proto::wire::{
    GetEntriesRequest, GetEntriesResponse, GetInclusionProofRequest, GetInclusionProofResponse, LogItem,
};
use tonic::Status;

use super::wrong_rows::flipped;
use super::{ReplicaLie, Truth};

/// What is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongEntries {
    /// A payload is a byte longer, or a leaf is another.
    Changed,
    /// They stand in another order.
    Reversed,
    /// There are none.
    None,
    /// There is one more than was asked for.
    OneMore,
}

fn change(item: &mut LogItem) {
    match &mut item.item {
        Some(Item::Entry(entry)) => entry.length += 1,
        Some(Item::Leaf(leaf)) => *leaf = flipped(leaf),
        None => {}
    }
}

#[tonic::async_trait]
impl ReplicaLie for WrongEntries {
    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        let mut answer = truth.entries(request).await?;
        match self {
            Self::Changed => answer.items.iter_mut().for_each(change),
            Self::Reversed => answer.items.reverse(),
            Self::None => answer.items.clear(),
            Self::OneMore => answer.items.extend(answer.items.last().cloned()),
        }
        Ok(answer)
    }

    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        let mut answer = truth.inclusion(request).await?;
        answer.item.iter_mut().for_each(change);
        Ok(answer)
    }
}
