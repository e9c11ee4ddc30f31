//! The rules of a cosignature that need no rows: growth, epochs, times, roots, quotas.

use std::sync::Arc;
use std::time::Duration;

use meridian_client::chain::view::{Anchor, View};
use meridian_proofs::checkpoint::Checkpoint;
use meridian_proofs::committee::GatewayMember;
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::{Address, B256};
use meridian_proto::convert::{CosignAnswer, CosignRequest};
use meridian_proto::error::{ApiError, Reason};

use super::Replica;
use super::epochs::{CHAIN_WAIT, Standing};
use super::record::wide;
use crate::cpu;

/// How far the timestamp of a checkpoint may be from this host's clock, seconds.
pub(super) const MAX_SKEW: u64 = 60;
/// How long to wait when a quota is used up.
pub(super) const QUOTA_WAIT: Duration = Duration::from_secs(60);

/// What the rules say of a request, short of the rows.
pub(super) enum Verdict {
    /// It was answered before, or has to be asked in another way.
    Answer(CosignAnswer),
    /// All is in order if the rows are here.
    New(Accepted),
}

/// Entries that may be cosigned.
pub(super) struct Accepted {
    /// Index of the first.
    pub(super) first: u64,
    pub(super) entries: Vec<LogEntry>,
    /// How many of them came from others before, and were certified by them.
    pub(super) filled: usize,
    /// Whose log it is, as the epoch of the checkpoint names it.
    pub(super) gateway: GatewayMember,
}

/// What a checkpoint is held against, beside what is on disk.
pub(super) struct Bounds {
    view: Arc<View>,
    standing: Standing,
    gateway: GatewayMember,
    /// The latest anchor of the log in an epoch before the checkpoint's. What is below it is settled.
    anchored: Option<Anchor>,
    /// The latest anchor in the checkpoint's epoch. Below it, too, entries of earlier epochs are settled: anybody may
    /// anchor the next epoch before the last one's closing got there.
    covering: Option<Anchor>,
    /// There is proof that the checkpoint leads to the floor.
    proved_floor: Option<Checkpoint>,
    /// There is proof that the checkpoint leads to the anchor.
    proved_anchored: bool,
    /// There is proof that the checkpoint leads to the covering anchor.
    proved_covering: bool,
}

impl Accepted {
    /// Number of entries of an epoch that nobody is known to have certified.
    pub(super) fn of_epoch(&self, epoch: u64) -> u64 {
        wide(self.entries.iter().skip(self.filled).filter(|entry| entry.epoch == epoch).count())
    }
}

impl Bounds {
    /// Whether an epoch's entries of this log may still come under an anchor of that epoch.
    fn may_close(&self, epoch: u64) -> bool {
        let Some(term) = self.view.epochs.term(epoch) else { return false };
        let moved_on = self.view.latest_anchor(&self.gateway.address).is_some_and(|last| last.epoch > epoch);
        let closed = term.closes.zip(self.view.head).is_some_and(|(closes, head)| head.timestamp >= closes);
        !moved_on && !closed && term.committee.gateway(&self.gateway.address).is_some()
    }
}

impl Replica {
    /// Gathers what a checkpoint is held against. The caller has the log's lock.
    pub(super) async fn bounds(&self, view: Arc<View>, checkpoint: &Checkpoint) -> Result<Bounds, ApiError> {
        let standing = self.open_standing(&view, checkpoint.epoch)?;
        let gateway = standing.gateway(&checkpoint.gateway)?.clone();
        let floor = self.floor(&view, &gateway.address, &standing)?;
        let anchors = view.anchors.get(&gateway.address).map_or(&[][..], Vec::as_slice);
        let anchored = anchors.iter().rev().find(|anchor| anchor.epoch < checkpoint.epoch).copied();
        let covering = anchors.iter().find(|anchor| anchor.epoch == checkpoint.epoch).copied();
        let (mut proved_floor, mut proved_anchored, mut proved_covering) = (None, false, false);
        // Anybody can show what the gateway signed once: others are asked only about what may come to be signed here.
        if self.may_go_on(checkpoint).await? {
            if let Some(floor) = floor.filter(|floor| floor.size > checkpoint.size)
                && self.leads_to(&view, checkpoint, floor.size, floor.root).await
            {
                proved_floor = Some(floor);
            }
            if let Some(anchor) = anchored.filter(|anchor| anchor.size > checkpoint.size) {
                proved_anchored = self.leads_to(&view, checkpoint, anchor.size, anchor.root).await;
            }
            if let Some(anchor) = covering.filter(|anchor| anchor.size > checkpoint.size) {
                proved_covering = self.leads_to(&view, checkpoint, anchor.size, anchor.root).await;
            }
        }
        Ok(Bounds {
            view,
            standing,
            gateway,
            anchored,
            covering,
            proved_floor,
            proved_anchored,
            proved_covering,
        })
    }

    /// Whether a checkpoint is of this minute, and after what was cosigned last.
    async fn may_go_on(&self, checkpoint: &Checkpoint) -> Result<bool, ApiError> {
        let (logs, log) = (self.logs.clone(), checkpoint.gateway);
        let last = cpu::blocking(move || logs.checkpoint(&log)).await?.map(|last| last.signed.checkpoint);
        let is_new = last.is_none_or(|last| last != *checkpoint && checkpoint.size >= last.size);
        Ok(is_new && self.check_time(checkpoint, last.as_ref()).is_ok())
    }

    /// Entries of a log that are not asked for any more: those that were cosigned here, and those from before this replica's
    /// seat, which it has filled. What else it has of a log came from others, and is vouched for with its rows alone.
    fn vouched(&self, view: &View, log: &Address, last: Option<&Checkpoint>) -> Result<u64, ApiError> {
        let cosigned = last.map_or(0, |last| last.size);
        let anchors = view.anchors.get(log).map_or(&[][..], Vec::as_slice);
        let before = self.before_seat(view, anchors).map(|anchor| anchor.size);
        let is_filled = before <= self.logs.served_size(log)?;
        Ok(before.filter(|_| is_filled).map_or(cosigned, |before| before.max(cosigned)))
    }

    /// All rules that need no rows. The caller has the log's lock.
    pub(super) fn judge(
        &self,
        request: &CosignRequest,
        bounds: Result<Bounds, ApiError>,
    ) -> Result<Verdict, ApiError> {
        let checkpoint = request.signed.checkpoint;
        let log = checkpoint.gateway;
        let last = self.logs.checkpoint(&log)?;
        if let Some(last) = &last
            && last.signed.checkpoint == checkpoint
            && let [own] = last.cosignatures[..]
        {
            return Ok(Verdict::Answer(CosignAnswer::Cosignature(own)));
        }
        let last = last.map(|last| last.signed.checkpoint);
        let bounds = bounds?;
        let highest = self.floor(&bounds.view, &log, &bounds.standing)?;
        self.check_time(&checkpoint, last.as_ref())?;
        let anchored = bounds.view.latest_anchor(&log).map(|anchor| anchor.epoch);
        let known = [last, highest].into_iter().flatten().map(|known| known.epoch).chain(anchored);
        check_epoch(&checkpoint, known)?;
        let floor = highest.filter(|floor| bounds.proved_floor != Some(*floor));
        let first = self.vouched(&bounds.view, &log, last.as_ref())?;
        let range = self.logs.range_at(&log, first)?;
        // A step towards what need not be taken.
        let is_step = request.start < first && checkpoint.size < first;
        if is_step && last.is_none_or(|last| last.size <= checkpoint.size) {
            return Ok(Verdict::Answer(CosignAnswer::EntriesFrom(first)));
        }
        check_growth(&checkpoint, first, &range.root(), floor.as_ref())?;
        if request.start > first {
            return Ok(Verdict::Answer(CosignAnswer::EntriesFrom(first)));
        }
        if request.start.checked_add(wide(request.entries.len())) != Some(checkpoint.size) {
            return Err(ApiError::new(Reason::LogGap, "the entries do not reach the checkpoint's size"));
        }
        let on_disk = self.logs.range(&log)?.size();
        for (index, entry) in (request.start..on_disk).zip(&request.entries) {
            if self.logs.leaf(&log, index)? != entry.leaf() {
                let text = format!("entry {index} is another than the one that was cosigned");
                return Err(ApiError::new(Reason::LogFork, text));
            }
        }
        let known = usize::try_from(first - request.start).unwrap_or(usize::MAX);
        let entries = request.entries.get(known..).unwrap_or_default().to_vec();
        self.check_entries(&checkpoint, &bounds, &range, &entries)?;
        let floor = floor.map(|floor| (floor.size, floor.root));
        let anchors =
            [bounds.anchored, bounds.covering].map(|anchor| anchor.map(|anchor| (anchor.size, anchor.root)));
        let passed: Vec<_> = anchors.into_iter().chain([floor]).flatten().collect();
        self.check_roots(&checkpoint, range, &entries, &passed)?;
        let is_above = |anchor: &Anchor| anchor.size > checkpoint.size;
        let settled = bounds.anchored.map_or(0, |anchor| anchor.size);
        let covered =
            (first..).zip(&entries).any(|(index, entry)| index >= settled && entry.epoch < checkpoint.epoch);
        if (bounds.anchored.as_ref().is_some_and(is_above) && !bounds.proved_anchored)
            || (covered && bounds.covering.as_ref().is_some_and(is_above) && !bounds.proved_covering)
        {
            let text = "the checkpoint is below an anchor, and nobody proves now that it leads there";
            return Err(ApiError::new(Reason::EpochPending, text).retry_after(CHAIN_WAIT));
        }
        let filled = usize::try_from(on_disk - first).unwrap_or(usize::MAX);
        let accepted = Accepted { first, entries, filled, gateway: bounds.gateway };
        self.check_rate(&accepted, checkpoint.epoch)?;
        Ok(Verdict::New(accepted))
    }

    fn check_time(&self, checkpoint: &Checkpoint, last: Option<&Checkpoint>) -> Result<(), ApiError> {
        let (timestamp, now) = (checkpoint.timestamp, self.clock.now());
        let refused = |text| Err(ApiError::new(Reason::TimestampOutOfRange, text));
        if timestamp.abs_diff(now) > MAX_SKEW {
            return refused(format!("timestamp {timestamp} is not within {MAX_SKEW} s of {now}"));
        }
        match last {
            Some(last) if timestamp < last.timestamp => {
                refused(format!("timestamp {timestamp} is below {} of the last checkpoint", last.timestamp))
            }
            _ => Ok(()),
        }
    }

    /// Whether each new entry is one that the committee allows at its place.
    fn check_entries(
        &self,
        checkpoint: &Checkpoint,
        bounds: &Bounds,
        range: &CompactRange,
        new: &[LogEntry],
    ) -> Result<(), ApiError> {
        let last = match range.size().checked_sub(1) {
            Some(index) => self.logs.entry(&checkpoint.gateway, index)?,
            None => None,
        };
        let size_of = |anchor: &Option<Anchor>| anchor.map_or(0, |anchor| anchor.size);
        let (settled, covered) = (size_of(&bounds.anchored), size_of(&bounds.covering));
        let mut earliest = last.map_or(0, |entry| entry.time);
        for (index, entry) in (range.size()..).zip(new) {
            let refused = |reason, text| Err(ApiError::new(reason, text).with("index", index));
            let is_settled = index < settled || (entry.epoch < checkpoint.epoch && index < covered);
            if (entry.epoch == checkpoint.epoch) == is_settled || entry.epoch > checkpoint.epoch {
                let text =
                    format!("entry {index} has epoch {}, the checkpoint {}", entry.epoch, checkpoint.epoch);
                if !is_settled && entry.epoch < checkpoint.epoch && bounds.may_close(entry.epoch) {
                    let text = format!("{text}, and no anchor covers it yet");
                    return Err(ApiError::new(Reason::EpochPending, text).retry_after(CHAIN_WAIT));
                }
                return refused(Reason::EntryEpochMismatch, text);
            }
            if !is_settled && !bounds.standing.committee.allows_retention(entry.time, entry.expiry) {
                let text = format!("entry {index} of time {} expires at {}", entry.time, entry.expiry);
                return refused(Reason::EntryRetentionOutOfRange, text);
            }
            if entry.time < earliest || entry.time > checkpoint.timestamp {
                let text = format!(
                    "time {} of entry {index} is not within {earliest} and {}",
                    entry.time, checkpoint.timestamp
                );
                return refused(Reason::TimeFalls, text);
            }
            earliest = entry.time;
        }
        Ok(())
    }

    /// Whether the log of this replica, with the new entries, has the root of the checkpoint, and those that others
    /// cosigned or that are anchored, where it reaches them.
    fn check_roots(
        &self,
        checkpoint: &Checkpoint,
        mut range: CompactRange,
        new: &[LogEntry],
        passed: &[(u64, B256)],
    ) -> Result<(), ApiError> {
        let forked = |size: u64| {
            let text = format!("the entries do not lead to the root at size {size} that others cosigned");
            ApiError::new(Reason::LogFork, text)
        };
        for (size, root) in passed.iter().filter(|(size, _)| *size <= range.size()) {
            if self.logs.root_at(&checkpoint.gateway, *size)? != *root {
                return Err(forked(*size));
            }
        }
        for entry in new {
            range.append(entry.leaf());
            let here = passed.iter().find(|(size, root)| *size == range.size() && *root != range.root());
            if let Some((size, _)) = here {
                return Err(forked(*size));
            }
        }
        if range.root() != checkpoint.root {
            let text = "the entries do not lead to the root of the checkpoint";
            return Err(ApiError::new(Reason::RootMismatch, text));
        }
        Ok(())
    }

    fn check_rate(&self, accepted: &Accepted, epoch: u64) -> Result<(), ApiError> {
        let (limit, new) = (accepted.gateway.max_entries_per_hour, accepted.of_epoch(epoch));
        if new == 0 || self.accounts.may_append(&accepted.gateway.address, new, limit, self.clock.now()) {
            return Ok(());
        }
        let text = "the gateway has used its quota of entries an hour";
        Err(ApiError::new(Reason::QuotaExceeded, text).with("limit", limit).retry_after(QUOTA_WAIT))
    }
}

/// Whether the log has not been in a later epoch already.
fn check_epoch(checkpoint: &Checkpoint, known: impl Iterator<Item = u64>) -> Result<(), ApiError> {
    match known.max() {
        Some(reached) if reached > checkpoint.epoch => {
            let text =
                format!("the log has been in epoch {reached}, the checkpoint is of {}", checkpoint.epoch);
            Err(ApiError::new(Reason::WrongEpoch, text))
        }
        _ => Ok(()),
    }
}

/// Whether a checkpoint stands at or above what is known of the log.
fn check_growth(
    checkpoint: &Checkpoint,
    size: u64,
    root: &B256,
    floor: Option<&Checkpoint>,
) -> Result<(), ApiError> {
    let least = floor.map_or(size, |floor| floor.size.max(size));
    if checkpoint.size < least {
        let text = format!("the checkpoint has {} entries, {least} were cosigned before", checkpoint.size);
        return Err(ApiError::new(Reason::LogRollback, text));
    }
    let fork = checkpoint.size == size && checkpoint.root != *root;
    if fork || floor.is_some_and(|floor| floor.size == checkpoint.size && floor.root != checkpoint.root) {
        let text = format!("a checkpoint of size {} and another root was cosigned before", checkpoint.size);
        return Err(ApiError::new(Reason::LogFork, text));
    }
    Ok(())
}
