//! What is known of the chain at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_proofs::committee::Committee;
use meridian_proofs::committee::epochs::Epochs;
use meridian_proofs::{Address, B256};

/// A block that counts: it has the confirmations that were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its unix seconds.
    pub timestamp: u64,
}

/// A checkpoint on the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Whose log.
    pub gateway: Address,
    /// Epoch of the quorum that signed.
    pub epoch: u64,
    /// Entries of the log.
    pub size: u64,
    /// Root of the log.
    pub root: B256,
    /// The checkpoint's unix seconds.
    pub timestamp: u64,
    /// Block that it stands in.
    pub block: u64,
}

/// Committees and anchors as of one settled block, or those of a committee file.
#[derive(Clone, PartialEq, Debug)]
pub struct View {
    /// All epochs.
    pub epochs: Epochs,
    /// For each gateway its latest anchor in each epoch, ascending by epoch.
    pub anchors: BTreeMap<Address, Vec<Anchor>>,
    /// The block, or nothing where there is no chain.
    pub head: Option<Head>,
    /// Seconds for which an epoch stays open after the next has begun.
    pub grace: u64,
    /// Epochs that begin no later cannot be cancelled any more; unix seconds.
    pub final_by: u64,
}

impl View {
    /// What a committee file says: one epoch that never closes, and no anchors.
    #[must_use]
    pub fn fixed(committee: Arc<Committee>) -> Self {
        Self {
            epochs: Epochs::fixed(committee),
            anchors: BTreeMap::new(),
            head: None,
            grace: 0,
            final_by: u64::MAX,
        }
    }

    /// Whether a later epoch has begun at a time, unix seconds, be it one that anybody can work with or not. One that may
    /// still have been cancelled has not.
    #[must_use]
    pub fn is_succeeded(&self, epoch: u64, now: u64) -> bool {
        let closes = self.epochs.term(epoch).and_then(|term| term.closes);
        self.epochs.current(now).committee.epoch() > epoch
            || closes.is_some_and(|closes| closes.saturating_sub(self.grace) <= now.min(self.final_by))
    }

    /// The latest anchor of a log.
    #[must_use]
    pub fn latest_anchor(&self, gateway: &Address) -> Option<&Anchor> {
        self.anchors.get(gateway)?.last()
    }

    /// Where a log closed an epoch: its last anchor there, final because a later epoch has one too or because the
    /// epoch's grace was over at the settled block.
    #[must_use]
    pub fn closing(&self, gateway: &Address, epoch: u64) -> Option<&Anchor> {
        let anchors = self.anchors.get(gateway)?;
        let place = anchors.binary_search_by_key(&epoch, |anchor| anchor.epoch).ok()?;
        let is_over = || {
            let closes = self.epochs.term(epoch).and_then(|term| term.closes);
            closes.zip(self.head).is_some_and(|(closes, head)| head.timestamp >= closes)
        };
        (place + 1 < anchors.len() || is_over()).then(|| &anchors[place])
    }
}
