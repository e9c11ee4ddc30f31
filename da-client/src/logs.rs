//! Logs as nodes serve them: enumerated item by item, to roots that are computed again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use meridian_proofs::checkpoint::{CosignedCheckpoint, Domain};
use meridian_proofs::log::CompactRange;
use meridian_proofs::{Address, B256};
use meridian_proto::MAX_ENTRIES;
use meridian_proto::convert::LogItem;
use meridian_proto::error::ApiError;
use thiserror::Error;

use crate::Progress;
use crate::rpc::{Channels, LogRpc};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a node's log cannot be gone through.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LogError {
    /// The node refuses or is out of reach.
    #[error(transparent)]
    Call(#[from] ApiError),
    /// What it serves is no log, or another one than it signed for.
    #[error("{0}")]
    Invalid(String),
}

/// A node that serves logs, and the latest checkpoint of each that it knows. Their gateways signed them.
#[derive(Clone, Debug)]
pub struct LogNode {
    endpoint: String,
    rpc: LogRpc,
    logs: Vec<CosignedCheckpoint>,
}

/// What a log came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The roots at the sizes that were asked for.
    pub roots: BTreeMap<u64, B256>,
    /// Items that are entries.
    pub entries: u64,
    /// The first entry whose time is below that of an entry before it, or above the checkpoint's.
    pub disorder: Option<u64>,
}

impl LogNode {
    /// Asks a node which logs it knows.
    ///
    /// # Errors
    /// It is out of reach, or a checkpoint is not signed by its gateway.
    pub async fn open(channels: &Channels, endpoint: &str, domain: &Domain) -> Result<Self, LogError> {
        let rpc = channels.log(endpoint)?.within(DEADLINE);
        let logs = rpc.list().await?;
        for log in &logs {
            let signed = log.signed.verify(domain);
            signed.map_err(|error| LogError::Invalid(format!("a checkpoint does not hold: {error}")))?;
        }
        Ok(Self { endpoint: endpoint.to_owned(), rpc, logs })
    }

    /// Where it answers.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The latest checkpoints, ascending by gateway. Cosignatures are not checked.
    #[must_use]
    pub fn logs(&self) -> &[CosignedCheckpoint] {
        &self.logs
    }

    /// Calls to its logs.
    #[must_use]
    pub fn rpc(&self) -> &LogRpc {
        &self.rpc
    }

    /// Goes through items of a log.
    ///
    /// # Errors
    /// The node refuses, is out of reach, or has fewer items.
    pub async fn enumerate(
        &self,
        log: Address,
        range: Range<u64>,
        progress: &dyn Progress,
        mut item: impl FnMut(u64, &LogItem),
    ) -> Result<(), LogError> {
        let Range { start: mut next, end } = range;
        let page = u64::try_from(MAX_ENTRIES).unwrap_or(u64::MAX);
        progress.start(end.saturating_sub(next));
        while next < end {
            let items = self.rpc.entries(log, next, page.min(end - next)).await?;
            let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
            if count == 0 {
                let what = format!("the node signed {end} entries and serves only {next}");
                return Err(LogError::Invalid(what));
            }
            for (index, each) in (next..end).zip(&items) {
                item(index, each);
            }
            next += count;
            progress.advance(count);
        }
        progress.finish();
        Ok(())
    }

    /// Goes through the first items of a log, up to the greatest of these sizes, and computes its root at each of them.
    /// No entry should be younger than `timestamp`, unix seconds.
    ///
    /// # Errors
    /// As [`LogNode::enumerate`].
    pub async fn walk(
        &self,
        log: Address,
        sizes: &BTreeSet<u64>,
        timestamp: u64,
        progress: &dyn Progress,
        mut item: impl FnMut(u64, &LogItem),
    ) -> Result<Walk, LogError> {
        let (mut range, mut time) = (CompactRange::empty(), 0);
        let mut walk = Walk { roots: BTreeMap::new(), entries: 0, disorder: None };
        if sizes.contains(&0) {
            walk.roots.insert(0, range.root());
        }
        let end = sizes.last().copied().unwrap_or(0);
        self.enumerate(log, 0..end, progress, |index, each| {
            if let LogItem::Entry(entry) = each {
                walk.entries += 1;
                if entry.time < time || entry.time > timestamp {
                    walk.disorder.get_or_insert(index);
                }
                time = entry.time;
            }
            range.append(each.leaf());
            if sizes.contains(&range.size()) {
                walk.roots.insert(range.size(), range.root());
            }
            item(index, each);
        })
        .await?;
        Ok(walk)
    }
}
