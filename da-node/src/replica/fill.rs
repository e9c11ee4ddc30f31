//! Fills the log of a new seat up to an anchor, from whoever has it: what lies before a seat's first epoch was never
//! put before this replica, and it has to go on from there.
//!
//! Each block of leaves is proved to be under the anchored root before it is kept, so a lie costs one block, and what
//! is on disk is always a prefix of the anchored log.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use meridian_client::chain::view::{Anchor, View};
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, Domain};
use meridian_proofs::committee::Committee;
use meridian_proofs::committee::epochs::Term;
use meridian_proofs::log::{block_len, verify_block};
use meridian_proofs::{Address, B256};
use meridian_proto::MAX_ENTRIES;
use meridian_proto::convert::LogItem;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Replica;
use super::epochs::has_seat;
use super::record::wide;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability};

/// Logs that are filled at a time.
const LOGS: usize = 4;
/// Longest wait for one answer.
const CALL: Duration = Duration::from_secs(10);
/// Longest wait for a checkpoint.
const ASK: Duration = Duration::from_secs(2);
/// How long a source may take for a block of up to [`MAX_ENTRIES`] items and keep its place. So a log is filled at no
/// less than a block in this time as soon as one source is as fast as that.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds from the start for which a gateway has the time to put its log before a replica that lacks it.
const SILENCE: u64 = 600;
/// Time between two looks at the clock and the view.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Longest time between two tries.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a source has no more to bring for now.
enum Turn {
    /// The log is filled.
    Done,
    /// The source is right and slow: it is the next one's turn.
    Slow,
}

impl Replica {
    /// Goes on with what a changed view asks for: gateways to ask about, logs to fill.
    pub(super) async fn follow_logs(self: Arc<Self>) {
        let mut view = self.view.clone();
        let mut wait = TICK;
        loop {
            let seen = Arc::clone(&view.borrow_and_update());
            self.watch_gateways(&seen);
            self.fill_lost(&seen).await;
            wait = if self.fill_logs(&seen).await { TICK } else { wait.saturating_mul(2).min(LONGEST_WAIT) };
            changed(&mut view, wait).await;
        }
    }

    /// Fills, once after the start, every log of which others have a certified checkpoint beyond what is on disk here: the
    /// disk may have been lost, and a gateway believes that what was cosigned once is there.
    async fn fill_lost(self: &Arc<Self>, view: &Arc<View>) {
        let logs = self.own_logs(view).into_iter().filter(|log| !self.compared().contains_key(log));
        let fills = logs.map(async |log| match self.fill_certified(view, log).await {
            Ok(size) => drop(self.compared().insert(log, size)),
            Err(error) => tracing::debug!(%log, %error, "a log cannot be compared with others yet"),
        });
        stream::iter(fills.collect::<Vec<_>>()).buffer_unordered(LOGS).collect::<()>().await;
    }

    /// The logs of the open epochs in which this replica has a seat.
    fn own_logs(&self, view: &View) -> BTreeSet<Address> {
        let seated = self.seated(view);
        seated.iter().flat_map(|it| it.gateways()).map(|gateway| gateway.address).collect()
    }

    /// The committees of the open epochs in which this replica has a seat.
    fn seated(&self, view: &View) -> Vec<Arc<Committee>> {
        let open = view.epochs.open(self.clock.now()).map(|term| Arc::clone(&term.committee));
        open.filter(|committee| committee.seat(&self.address()).is_some()).collect()
    }

    /// How much of each log others had certified when they were asked for the first time.
    fn compared(&self) -> MutexGuard<'_, HashMap<Address, u64>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fill_certified(self: &Arc<Self>, view: &Arc<View>, log: Address) -> Result<u64, ApiError> {
        let seated = self.seated(view);
        let others = seated.iter().flat_map(|it| it.seats()).filter(|seat| seat.address != self.address());
        let gateways = seated.iter().filter_map(|committee| committee.gateway(&log));
        let endpoints = others.map(|seat| &seat.endpoint).chain(gateways.map(|gateway| &gateway.endpoint));
        let endpoints: BTreeSet<&String> = endpoints.collect();
        let calls = endpoints.iter().map(async |endpoint| {
            let calls = self.channels.log(endpoint)?.within(ASK);
            calls.checkpoint(log).await
        });
        // Each has its own cosignature of the last checkpoint that it cosigned, the gateway those of a quorum.
        let answers = futures::future::join_all(calls).await;
        let is_answer = |answer: &Result<_, ApiError>| match answer {
            Ok(_) => true,
            Err(error) => error.reason == Reason::AnswerInvalid,
        };
        let answered = answers.iter().filter(|answer| is_answer(answer)).count();
        let (domain, view_then) = (self.domain, Arc::clone(view));
        let shown = answers.into_iter().filter_map(Result::ok).flatten();
        let shown: Vec<_> = shown.filter(|it| it.signed.checkpoint.gateway == log).collect();
        let (certified, is_empty) = cpu::blocking(move || certified(&domain, &view_then, shown)).await;
        match certified {
            Some(Checkpoint { gateway, epoch, size, root, timestamp }) => {
                self.fill(view, &Anchor { gateway, epoch, size, root, timestamp, block: 0 }).await?;
                Ok(size)
            }
            None if is_empty && 2 * answered > endpoints.len() => Ok(0),
            None => Err(ApiError::new(Reason::Unreachable, "too few others tell the same of the log")),
        }
    }

    /// Fills every log that is behind what it has to start from. Says whether none is left.
    async fn fill_logs(self: &Arc<Self>, view: &Arc<View>) -> bool {
        let targets = view.anchors.values().filter_map(|anchors| self.start_of(view, anchors));
        let fills = targets.map(|target| async move {
            let filled = self.fill(view, &target).await;
            filled.inspect_err(|error| {
                tracing::warn!(log = %target.gateway, size = target.size, %error, "a log cannot be filled yet");
            })
        });
        let fills: Vec<_> = fills.collect();
        let outcomes: Vec<Result<(), ApiError>> = stream::iter(fills).buffer_unordered(LOGS).collect().await;
        outcomes.iter().all(Result::is_ok)
    }

    /// Up to where this replica fills a log by itself: to the last anchor before its seat. To the last one of all where the
    /// log's gateway puts nothing before it: one that is in no epoch any more, or silent since this replica started.
    fn start_of(&self, view: &View, anchors: &[Anchor]) -> Option<Anchor> {
        let (now, latest) = (self.clock.now(), *anchors.last()?);
        self.last_epoch(view)?;
        let is_gone = !self.live(view).any(|term| term.committee.gateway(&latest.gateway).is_some());
        let is_late = now >= self.started.saturating_add(SILENCE);
        let lacks = || self.logs.range(&latest.gateway).is_ok_and(|range| range.size() < latest.size);
        if is_gone || (is_late && lacks()) { Some(latest) } else { self.before_seat(view, anchors) }
    }

    /// The last anchor of an epoch in which this replica had no seat, where it has one later.
    pub(super) fn before_seat(&self, view: &View, anchors: &[Anchor]) -> Option<Anchor> {
        let last = self.last_epoch(view)?;
        let is_before = |epoch| epoch < last && !has_seat(&view.epochs, epoch, &self.address());
        anchors.iter().rev().find(|anchor| is_before(anchor.epoch)).copied()
    }

    /// Epochs that have not closed, ascending.
    fn live<'a>(&self, view: &'a View) -> impl DoubleEndedIterator<Item = &'a Term> {
        let now = self.clock.now();
        view.epochs.terms().iter().filter(move |term| term.closes.is_none_or(|closes| now < closes))
    }

    /// The last of them in which this replica has a seat.
    fn last_epoch(&self, view: &View) -> Option<u64> {
        let seated = self.live(view).rfind(|term| term.committee.seat(&self.address()).is_some());
        seated.map(|term| term.committee.epoch())
    }

    async fn fill(self: &Arc<Self>, view: &View, target: &Anchor) -> Result<(), ApiError> {
        let (logs, log) = (self.logs.clone(), target.gateway);
        let served = cpu::blocking(move || logs.served_size(&log)).await?;
        if served >= Some(target.size) {
            return Ok(());
        }
        let sources = self.sources(view, &log);
        let (mut fruitless, mut last) = (0, ApiError::new(Reason::Unreachable, "nobody to ask for the log"));
        // Round and round, as long as anybody brings anything.
        for endpoint in sources.iter().cycle() {
            if fruitless == sources.len() {
                break;
            }
            match self.fill_from(endpoint, target).await {
                Ok(Turn::Done) => return Ok(()),
                Ok(Turn::Slow) => {
                    fruitless = 0;
                    tracing::debug!(endpoint, %log, "slow answer about an anchored log");
                    continue;
                }
                Err(error) if error.reason == Reason::AnswerInvalid => {
                    tracing::warn!(endpoint, %log, %error, "wrong answer about an anchored log");
                    last = error;
                }
                Err(error) => {
                    tracing::debug!(endpoint, %log, %error, "no answer about an anchored log");
                    last = error;
                }
            }
            fruitless += 1;
        }
        Err(last)
    }

    /// Who is asked for a log, in order. New seats do not all begin with the same replica.
    pub(super) fn sources(&self, view: &View, log: &Address) -> Vec<String> {
        let mut endpoints = self.log_endpoints(view, log);
        let others = endpoints.len().max(1);
        endpoints.rotate_left(usize::from(self.address().as_slice()[19]) % others);
        endpoints
    }

    /// Goes on from where the log stands, with one other member, as long as it keeps pace.
    async fn fill_from(self: &Arc<Self>, endpoint: &str, target: &Anchor) -> Result<Turn, ApiError> {
        let calls = self.channels.log(endpoint)?.within(CALL);
        let (log, target) = (target.gateway, *target);
        loop {
            let logs = self.logs.clone();
            let start = cpu::blocking(move || logs.range(&log)).await?.size();
            if start >= target.size {
                return self.end_fill(target).await.map(|()| Turn::Done);
            }
            let count = block_len(start, target.size, wide(MAX_ENTRIES));
            let asked = Instant::now();
            let items = calls.entries(log, start, count).await?;
            let path = calls.inclusion(log, start, target.size).await?.path;
            let took = asked.elapsed();
            if wide(items.len()) != count {
                return Err(ApiError::new(Reason::AnswerInvalid, "items of the log are missing"));
            }
            let lock = Arc::clone(&self.watched(log).cosigning).lock_owned().await;
            let replica = Arc::clone(self);
            let kept = cpu::blocking(move || {
                let _lock = lock;
                replica.keep_block(&target, start, &items, &path)
            });
            kept.await?;
            if took > PATIENCE {
                return Ok(Turn::Slow);
            }
        }
    }

    /// Keeps a block of items if it is under the anchored root. The caller has the log's lock.
    fn keep_block(
        &self,
        target: &Anchor,
        start: u64,
        items: &[LogItem],
        path: &[B256],
    ) -> Result<(), ApiError> {
        let leaves: Vec<B256> = items.iter().map(LogItem::leaf).collect();
        if verify_block(&leaves, start, target.size, path, &target.root).is_err() {
            return Err(ApiError::new(Reason::AnswerInvalid, "items of the log are not those of its anchor"));
        }
        let mut range = self.logs.range(&target.gateway)?;
        if range.size() == start {
            let mut batch = Batch::new();
            self.logs.append_items(&mut batch, &target.gateway, &mut range, items);
            self.db.commit(batch, Durability::Relaxed)?;
            metrics::get().filled_entries.add(wide(items.len()), &[]);
        }
        Ok(())
    }

    async fn end_fill(self: &Arc<Self>, target: Anchor) -> Result<(), ApiError> {
        let lock = Arc::clone(&self.watched(target.gateway).cosigning).lock_owned().await;
        let replica = Arc::clone(self);
        cpu::blocking(move || {
            let _lock = lock;
            let (log, logs) = (&target.gateway, &replica.logs);
            // Also where all of it was here before.
            if logs.root_at(log, target.size)? != target.root {
                let text = "what was cosigned here of the log does not lead to its anchor";
                return Err(ApiError::new(Reason::LogFork, text));
            }
            let mut batch = Batch::new();
            logs.set_anchored(&mut batch, log, target.size);
            replica.db.commit(batch, Durability::Synced)?;
            tracing::info!(%log, size = target.size, epoch = target.epoch, "log filled up to its anchor");
            Ok(())
        })
        .await
    }

    /// Logs of which something may be missing: that were not compared with others since the start, are behind what this
    /// replica has to start from, or were not searched that far for rows that are owed.
    pub(super) fn logs_behind(&self) -> Result<u64, ApiError> {
        let view = self.view();
        let mut behind = HashSet::new();
        for log in self.own_logs(&view) {
            let size = self.compared().get(&log).copied();
            if size.is_none_or(|size| !self.is_searched(&log, size)) {
                behind.insert(log);
            }
        }
        for target in view.anchors.values().filter_map(|anchors| self.start_of(&view, anchors)) {
            let log = target.gateway;
            if self.logs.served_size(&log)? < Some(target.size) || !self.is_searched(&log, target.size) {
                behind.insert(log);
            }
        }
        Ok(wide(behind.len()))
    }
}

/// The longest of the checkpoints that enough regions of their committee have cosigned, by what several show; and whether
/// no seat shows that it cosigned any entry.
fn certified(domain: &Domain, view: &View, shown: Vec<CosignedCheckpoint>) -> (Option<Checkpoint>, bool) {
    let mut signers: HashMap<Checkpoint, HashSet<Address>> = HashMap::new();
    for CosignedCheckpoint { signed, cosignatures } in shown {
        let checkpoint = signed.checkpoint;
        let Some(committee) = view.epochs.committee(checkpoint.epoch) else { continue };
        // Whoever shows more cosignatures than there are seats has put others there.
        if signed.verify(domain).is_ok() && cosignatures.len() <= committee.seats().len() {
            let digest = checkpoint.digest(domain);
            let found = cosignatures.iter().filter_map(|it| it.recover(&digest).ok());
            let found = found.filter(|signer| committee.seat(signer).is_some());
            signers.entry(checkpoint).or_default().extend(found);
        }
    }
    let is_certified = |(checkpoint, signers): &(&Checkpoint, &HashSet<Address>)| {
        let committee = view.epochs.committee(checkpoint.epoch);
        committee.is_some_and(|it| it.complete_regions(*signers).len() >= it.min_copies())
    };
    let longest =
        signers.iter().filter(is_certified).map(|(checkpoint, _)| *checkpoint).max_by_key(|it| it.size);
    let is_empty = signers.iter().all(|(checkpoint, signers)| checkpoint.size == 0 || signers.is_empty());
    (longest, is_empty)
}

/// Waits for another view, at most for a time.
pub(super) async fn changed(view: &mut watch::Receiver<Arc<View>>, at_most: Duration) {
    let change = async {
        if view.changed().await.is_err() {
            // Nobody will change it any more: time still goes on.
            std::future::pending::<()>().await;
        }
    };
    // Whether it changed or the time is over: the caller looks at both.
    let _ = tokio::time::timeout(at_most, change).await;
}
