//! Fetches the rows of a seat that passed to this replica from another signer: those of all its unexpired entries.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use meridian_client::chain::view::View;
use meridian_proofs::Address;
use meridian_proofs::log::LogEntry;
use meridian_proto::MAX_ENTRIES;
use meridian_proto::convert::LogItem;
use meridian_proto::error::{ApiError, Reason};

use super::Replica;
use super::cosign::{REPAIRS, ROUNDS};
use super::epochs::{Standing, inherited};
use super::fill::{LONGEST_WAIT, TICK, changed};
use super::record::wide;
use super::rows::Owed;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability};

/// Longest wait for entries of others.
const CALL: Duration = Duration::from_secs(10);
/// Longest time between two searches for entries that nobody who answered has.
const LONGEST_SEARCH: Duration = Duration::from_secs(3600);

/// What is left to do of all seats that were taken over.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// Entries whose rows are not all here, and those not looked at yet.
    left: AtomicU64,
}

/// A log in an epoch of a seat that was taken over.
type Place = (Address, u64, Address);

/// How far the entries of a log are dealt with.
#[derive(Debug, Default)]
struct Progress {
    /// All entries below were looked at.
    seen: u64,
    /// How many there are from there on.
    unseen: u64,
    /// Blocks in which something is left, by their first entry.
    open: BTreeMap<u64, Open>,
}

/// A block of entries to which this replica has to come back.
#[derive(Debug)]
struct Open {
    end: u64,
    /// Entries whose rows are not here, or that nobody had.
    left: u64,
    wait: Duration,
    again: Instant,
}

impl Progress {
    fn left(&self) -> u64 {
        self.unseen + self.open.values().map(|open| open.left).sum::<u64>()
    }

    /// Blocks whose time has come.
    fn due(&self) -> Vec<(u64, u64)> {
        let now = Instant::now();
        let due = self.open.iter().filter(|(_, open)| open.again <= now);
        due.map(|(start, open)| (*start, open.end)).collect()
    }

    /// Notes how many rows of a block could not be had, and how many entries nobody who answered has: whoever has them
    /// may be away, so they are looked for again, ever less often, until the epoch's last entry has expired for certain.
    fn note(&mut self, start: u64, end: u64, failed: u64, missing: u64) {
        let before = self.open.remove(&start);
        if failed + missing > 0 {
            let longest = if failed > 0 { LONGEST_WAIT } else { LONGEST_SEARCH };
            let wait = before.map_or(TICK, |open| open.wait.saturating_mul(2).min(longest));
            let again = Instant::now() + wait;
            self.open.insert(start, Open { end, left: failed + missing, wait, again });
        }
    }
}

impl Takeover {
    /// Entries that are left.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

impl Replica {
    /// Goes on with what seats that were taken over still lack.
    pub(super) async fn follow_seats(self: Arc<Self>) {
        let mut view = self.view.clone();
        let mut places: HashMap<Place, Progress> = HashMap::new();
        let mut wait = TICK;
        loop {
            let seen = Arc::clone(&view.borrow_and_update());
            let is_searched = self.take_over(&seen, &mut places).await;
            wait = if is_searched { TICK } else { wait.saturating_mul(2).min(LONGEST_WAIT) };
            changed(&mut view, wait).await;
        }
    }

    /// Looks at every log for each seat that was taken over: at what is new, and at what was left and is due. Says
    /// whether every log could be searched.
    async fn take_over(self: &Arc<Self>, view: &View, places: &mut HashMap<Place, Progress>) -> bool {
        let seats = inherited(&view.epochs, self.clock.now(), &self.address());
        places.retain(|(_, epoch, signer), _| {
            seats.iter().any(|seat| (seat.epoch(), seat.seat.address) == (*epoch, *signer))
        });
        if seats.is_empty() {
            self.show_left(0);
        }
        let mut is_searched = true;
        for seat in &seats {
            for log in view.anchors.keys() {
                let place = (*log, seat.epoch(), seat.seat.address);
                let elsewhere: u64 = places
                    .iter()
                    .filter(|(other, _)| **other != place)
                    .map(|(_, progress)| progress.left())
                    .sum();
                let progress = places.entry(place).or_insert_with(|| Progress {
                    seen: entries_before(view, log, seat.epoch()),
                    ..Progress::default()
                });
                if let Err(error) = self.take_over_log(view, log, seat, progress, elsewhere).await {
                    tracing::warn!(%log, epoch = seat.epoch(), %error, "a log cannot be searched for rows that are owed");
                    is_searched = false;
                }
            }
        }
        is_searched
    }

    fn show_left(&self, left: u64) {
        metrics::get().takeover_left.record(left, &[]);
        if self.takeover.left.swap(left, Ordering::Relaxed) != left {
            tracing::info!(entries_left = left, "rows of seats that were taken over");
        }
    }

    async fn take_over_log(
        self: &Arc<Self>,
        view: &View,
        log: &Address,
        seat: &Standing,
        progress: &mut Progress,
        left_elsewhere: u64,
    ) -> Result<(), ApiError> {
        let (logs, gateway) = (self.logs.clone(), *log);
        let size = cpu::blocking(move || logs.range(&gateway)).await?.size();
        for block in progress.due() {
            self.take_over_block(view, log, seat, progress, block).await?;
            self.show_left(left_elsewhere + progress.left());
        }
        while progress.seen < size {
            progress.unseen = size - progress.seen;
            self.show_left(left_elsewhere + progress.left());
            let end = size.min(progress.seen.saturating_add(wide(MAX_ENTRIES)));
            let block = (progress.seen, end);
            let is_last = self.take_over_block(view, log, seat, progress, block).await?;
            progress.seen = if is_last { size } else { end };
        }
        progress.unseen = 0;
        self.show_left(left_elsewhere + progress.left());
        Ok(())
    }

    /// Brings the rows of a block of entries here, and notes what is left of it. Says whether a later epoch begins in it.
    async fn take_over_block(
        self: &Arc<Self>,
        view: &View,
        log: &Address,
        seat: &Standing,
        progress: &mut Progress,
        (start, end): (u64, u64),
    ) -> Result<bool, ApiError> {
        let (items, missing) = self.items(view, log, seat, start, end).await?;
        let entries = (start..end).zip(&items).filter_map(|(index, item)| match item {
            LogItem::Entry(entry) => Some((index, *entry)),
            LogItem::Leaf(_) => None,
        });
        let now = self.clock.now();
        let entries: Vec<(u64, LogEntry)> = entries.collect();
        let is_last = entries.iter().any(|(_, entry)| entry.epoch > seat.epoch());
        let owed = entries.into_iter().filter(|(_, e)| e.epoch == seat.epoch() && e.expiry > now);
        let calls = owed.map(|(index, entry)| self.take_over_entry(*log, index, entry, seat));
        let calls: Vec<_> = calls.collect();
        let outcomes = stream::iter(calls).buffer_unordered(REPAIRS);
        let failed = outcomes.filter(|outcome| std::future::ready(outcome.is_err())).count().await;
        progress.note(start, end, wide(failed), missing);
        Ok(is_last)
    }

    /// The items of a log, with the entries that others have and this replica has not; and how many may be had later.
    async fn items(
        self: &Arc<Self>,
        view: &View,
        log: &Address,
        seat: &Standing,
        start: u64,
        end: u64,
    ) -> Result<(Vec<LogItem>, u64), ApiError> {
        let (logs, gateway) = (self.logs.clone(), *log);
        let mut items = cpu::blocking(move || logs.items(&gateway, start, end)).await?;
        let lacking =
            |items: &[LogItem]| items.iter().filter(|item| matches!(item, LogItem::Leaf(_))).count();
        if lacking(&items) == 0 {
            return Ok((items, 0));
        }
        let endpoints = self.holders(view, log, seat);
        let (mut all_answered, mut found) = (!endpoints.is_empty(), BTreeMap::new());
        for endpoint in &endpoints {
            let calls = self.channels.log(endpoint)?.within(CALL);
            let theirs = calls.entries(*log, start, end - start).await.unwrap_or_default();
            all_answered &= wide(theirs.len()) == end - start;
            for ((index, own), other) in (start..end).zip(&mut items).zip(theirs) {
                // Nothing but the leaf says that an entry is the right one.
                if let (LogItem::Leaf(leaf), LogItem::Entry(entry)) = (&*own, other)
                    && entry.leaf() == *leaf
                {
                    *own = other;
                    found.insert(index, entry);
                }
            }
            if lacking(&items) == 0 {
                break;
            }
        }
        if !found.is_empty() {
            let mut batch = Batch::new();
            found.iter().for_each(|(index, entry)| self.logs.put_entry(&mut batch, log, *index, entry));
            self.db.commit_async(batch, Durability::Relaxed).await?;
        }
        // Entries that nobody has any more have expired: they are kept until then.
        let missing = if all_answered { 0 } else { lacking(&items) };
        Ok((items, wide(missing)))
    }

    /// Who may have the entries of a seat's epoch: whoever answers about the log now, and who had a seat then. Not the
    /// signer from whom the seat passed on, who may be gone for good.
    fn holders(&self, view: &View, log: &Address, seat: &Standing) -> Vec<String> {
        let mut endpoints = self.log_endpoints(view, log);
        let gone = [seat.seat.address, self.address()];
        for then in seat.committee.seats().iter().filter(|then| !gone.contains(&then.address)) {
            if !endpoints.contains(&then.endpoint) {
                endpoints.push(then.endpoint.clone());
            }
        }
        endpoints
    }

    /// Brings the rows of an entry here and notes that the entry names them.
    async fn take_over_entry(
        self: &Arc<Self>,
        log: Address,
        index: u64,
        entry: LogEntry,
        seat: &Standing,
    ) -> Result<(), ApiError> {
        for _ in 0..ROUNDS {
            let locks = self.share(&[entry]).await;
            let (replica, standing) = (Arc::clone(self), seat.clone());
            let held = cpu::blocking(move || {
                let _locks = locks;
                replica.name_if_held(log, index, &entry, &standing)
            });
            if held.await? {
                return Ok(());
            }
            self.repair(entry.blob_id, seat).await.inspect_err(|error| {
                tracing::debug!(%log, index, blob = %entry.blob_id, %error, "rows of a seat that was taken over");
            })?;
        }
        Err(ApiError::new(Reason::RowsMissing, "rows came and went while they were looked for"))
    }

    /// Notes that an entry names a blob whose rows are here. The caller holds the blob with others.
    fn name_if_held(
        &self,
        log: Address,
        index: u64,
        entry: &LogEntry,
        seat: &Standing,
    ) -> Result<bool, ApiError> {
        let blob = entry.blob_id;
        let Some(record) = self.rows.record(&blob)?.filter(|record| seat.holds(&blob, record)) else {
            return Ok(false);
        };
        if self.rows.is_entry(&log, index, entry)? {
            return Ok(true);
        }
        let (before, charged) = self.accounts.charged(&log, &blob).unwrap_or_default();
        let (until, bytes) = (entry.expiry.max(before), record.row_bytes().max(charged));
        let owed = Owed { gateway: log, blob, until, bytes };
        let mut batch = Batch::new();
        self.rows.put_entry(&mut batch, &log, index, entry);
        self.rows.put_owed(&mut batch, &owed);
        self.db.commit(batch, Durability::Synced)?;
        self.accounts.charge(&owed);
        self.note_signed(&blob);
        Ok(true)
    }
}

/// Entries of a log that are certainly of epochs before one.
fn entries_before(view: &View, log: &Address, epoch: u64) -> u64 {
    let anchors = view.anchors.get(log).map_or(&[][..], Vec::as_slice);
    anchors.iter().rev().find(|anchor| anchor.epoch < epoch).map_or(0, |anchor| anchor.size)
}
