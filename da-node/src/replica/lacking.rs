//! Fetches the rows that this replica owes and does not hold, by the entries of all logs: those of a seat that passed to it
//! from another signer, and those of its own seats that its disk has lost.

mod progress;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use meridian_client::chain::view::View;
use meridian_proofs::Address;
use meridian_proofs::ids::BlobId;
use meridian_proofs::log::LogEntry;
use meridian_proto::MAX_ENTRIES;
use meridian_proto::convert::LogItem;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::Notify;

use self::progress::{Looked, Progress, Turn};
use super::Replica;
use super::cosign::REPAIRS;
use super::epochs::{Standing, owed};
use super::fill::{LONGEST_WAIT, TICK, changed};
use super::record::wide;
use super::rows::Owed;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability, StoreError};

/// Longest wait for entries of others.
const CALL: Duration = Duration::from_secs(10);
/// Entries that are noted in one synced batch, once their rows are here.
const AT_ONCE: usize = 64;
/// How often they are noted.
const NOTE_EVERY: Duration = Duration::from_millis(50);

/// What is left to do of all seats.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    /// Entries whose rows are not all here, and those not looked at yet.
    left: AtomicU64,
    /// Entries that were found with others.
    found: AtomicU64,
    /// How many entries of each log were looked at for every seat.
    seen: Mutex<HashMap<Address, u64>>,
    /// Somebody wants everything looked for, whether it was lately or not.
    hurries: AtomicBool,
    /// The same, for whoever waits.
    hurried: Notify,
}

/// A log in an epoch of a seat that was taken over.
type Place = (Address, u64, Address);

/// What is here of the blob of an entry, and of the entry itself.
enum State {
    /// Not all rows that are owed.
    Lacking,
    /// The rows, and nothing that says that the entry names them.
    Unnamed,
    /// All of it.
    Named,
}

/// What came of a look at some entries.
#[derive(Default)]
struct Seen {
    lacking: Vec<(u64, LogEntry)>,
    unnamed: Vec<(u64, LogEntry)>,
    /// How many blobs cannot be read.
    unreadable: usize,
}

impl Lacking {
    /// Entries that are left.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Has everything that is left looked for at once.
    pub(super) fn hurry(&self) {
        self.hurries.store(true, Ordering::Relaxed);
        self.hurried.notify_one();
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Address, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica {
    /// Goes on with what seats lack.
    pub(super) async fn follow_entries(self: Arc<Self>) {
        let mut view = self.view.clone();
        let mut places: HashMap<Place, Progress> = HashMap::new();
        let mut wait = TICK;
        loop {
            let seen = Arc::clone(&view.borrow_and_update());
            if self.lacking.hurries.swap(false, Ordering::Relaxed) {
                places.values_mut().for_each(Progress::hurry);
            }
            let is_searched = self.take_over(&seen, &mut places).await;
            wait = if is_searched { TICK } else { wait.saturating_mul(2).min(LONGEST_WAIT) };
            tokio::select! {
                () = changed(&mut view, wait) => {}
                () = self.lacking.hurried.notified() => {}
            }
        }
    }

    /// Looks at every log for each seat: at what is new, and at what was left and is due. Says
    /// whether every log could be searched.
    async fn take_over(self: &Arc<Self>, view: &View, places: &mut HashMap<Place, Progress>) -> bool {
        let seats = owed(&view.epochs, self.clock.now(), &self.address());
        places.retain(|(_, epoch, signer), _| {
            seats.iter().any(|seat| (seat.epoch(), seat.seat.address) == (*epoch, *signer))
        });
        if seats.is_empty() {
            self.show_left(0);
        }
        let logs = match self.known_logs(view).await {
            Ok(logs) => logs,
            Err(error) => {
                tracing::warn!(%error, "the logs cannot be listed");
                return false;
            }
        };
        let mut is_searched = true;
        for seat in &seats {
            for log in &logs {
                let place = (*log, seat.epoch(), seat.seat.address);
                let elsewhere: u64 = places
                    .iter()
                    .filter(|(other, _)| **other != place)
                    .map(|(_, progress)| progress.left())
                    .sum();
                let before = || Progress::from(entries_before(view, log, seat.epoch()));
                let progress = places.entry(place).or_insert_with(before);
                if let Err(error) = self.take_over_log(view, log, seat, progress, elsewhere).await {
                    tracing::warn!(%log, epoch = seat.epoch(), %error, "a log cannot be searched for rows that are owed");
                    is_searched = false;
                }
            }
        }
        for log in logs {
            // Where nothing is owed there is nothing to look for.
            let of_log = places.iter().filter(|((other, ..), _)| *other == log);
            let seen = of_log.map(|(_, progress)| progress.seen).min().unwrap_or(u64::MAX);
            self.lacking.seen().insert(log, seen);
        }
        is_searched
    }

    /// Whether so many entries of a log were looked at for rows that are owed and not here.
    pub(super) fn is_searched(&self, log: &Address, size: u64) -> bool {
        size == 0 || self.lacking.seen().get(log).is_some_and(|seen| *seen >= size)
    }

    /// Logs that are anchored, and those of which anything is here.
    async fn known_logs(&self, view: &View) -> Result<BTreeSet<Address>, ApiError> {
        let logs = self.logs.clone();
        let here = cpu::blocking(move || logs.gateways()).await?;
        Ok(view.anchors.keys().copied().chain(here).collect())
    }

    fn show_left(&self, left: u64) {
        metrics::get().repair_left.record(left, &[]);
        if self.lacking.left.swap(left, Ordering::Relaxed) != left {
            tracing::info!(entries_left = left, "entries whose rows are owed and not here");
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
        let again = progress.due(self.lacking.found.load(Ordering::Relaxed));
        if again.is_empty() && progress.seen >= size {
            return Ok(());
        }
        // What a sweep would drop now is not owed any more; until others confirm the time, by the clock.
        let due = match self.due().await {
            0 => self.due_by_clock(),
            due => due,
        };
        // What is new every moment is not missing; what was never looked at may be.
        let is_first = !self.lacking.seen().contains_key(log);
        for block in again {
            self.take_over_block(view, log, seat, progress, due, block).await?;
            self.show_left(left_elsewhere + progress.left());
        }
        while progress.seen < size {
            progress.unseen = if is_first { size - progress.seen } else { 0 };
            self.show_left(left_elsewhere + progress.left());
            let end = size.min(progress.seen.saturating_add(wide(MAX_ENTRIES)));
            let block = (progress.seen, end);
            let is_last = self.take_over_block(view, log, seat, progress, due, block).await?;
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
        due: u64,
        (start, end): (u64, u64),
    ) -> Result<bool, ApiError> {
        let (items, missing) = self.items(view, log, seat, start, end).await?;
        let entries = (start..end).zip(&items).filter_map(|(index, item)| match item {
            LogItem::Entry(entry) => Some((index, *entry)),
            LogItem::Leaf(_) => None,
        });
        let entries: Vec<(u64, LogEntry)> = entries.collect();
        let is_last = entries.iter().any(|(_, entry)| entry.epoch > seat.epoch());
        let owed = entries.into_iter().filter(|(_, e)| e.epoch == seat.epoch() && e.expiry > due);
        let mut owed: Vec<_> = owed.collect();
        // First those for which there was no time before.
        let from = progress.next_in(start);
        let first = owed.iter().position(|(index, _)| *index >= from).unwrap_or(0);
        owed.rotate_left(first);
        let turn = Turn::begin();
        let failed = self.take_over_entries(*log, owed, seat, &turn).await;
        let found = self.lacking.found.load(Ordering::Relaxed);
        let looked = Looked { failed: wide(failed), missing, found, untried: turn.untried() };
        progress.note((start, end), &looked);
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
            self.lacking.found.fetch_add(1, Ordering::Relaxed);
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

    /// Brings the rows of entries here and notes that the entries name them. Gives for how many that cannot be done now.
    async fn take_over_entries(
        self: &Arc<Self>,
        log: Address,
        owed: Vec<(u64, LogEntry)>,
        seat: &Standing,
        turn: &Turn,
    ) -> usize {
        let (mut failed, mut lacking) = (0, Vec::new());
        for some in owed.chunks(AT_ONCE) {
            // Without locks: on a disk that has nothing, and on one that has everything, there is nothing to note.
            let (replica, some, standing) = (Arc::clone(self), some.to_vec(), seat.clone());
            let seen = cpu::blocking(move || replica.look_at(log, some, &standing)).await;
            let has_time = seen.unnamed.first().is_none_or(|(first, _)| turn.check(*first).is_ok());
            let (gone, unnoted) = if has_time {
                self.name(log, seen.unnamed, seat).await
            } else {
                (Vec::new(), seen.unnamed.len())
            };
            failed += seen.unreadable + unnoted;
            lacking.extend(seen.lacking.into_iter().chain(gone));
        }
        let fetches = lacking.into_iter().map(async |(index, entry)| {
            turn.check(index)?;
            self.repair_apart(entry.blob_id, seat).await.inspect_err(|error| {
                tracing::debug!(%log, index, blob = %entry.blob_id, %error, "rows that are owed cannot be had");
            })?;
            Ok::<_, ApiError>((index, entry))
        });
        let fetches: Vec<_> = fetches.collect();
        let fetched = stream::iter(fetches).buffer_unordered(REPAIRS);
        let some = tokio_stream::StreamExt::chunks_timeout(fetched, AT_ONCE, NOTE_EVERY);
        let mut fetched = std::pin::pin!(some);
        while let Some(some) = fetched.next().await {
            let count = some.len();
            let here: Vec<_> = some.into_iter().flatten().collect();
            failed += count - here.len();
            // They are here whosever turn it is; left are those whose rows came and went.
            let (left, unreadable) = self.name(log, here, seat).await;
            failed += left.len() + unreadable;
        }
        failed
    }

    /// Repairs in a task of its own: who waits in line for a lock has to be awake when its turn comes, also while entries
    /// are being noted, for which others of the same locks are taken.
    async fn repair_apart(self: &Arc<Self>, id: BlobId, seat: &Standing) -> Result<(), ApiError> {
        let (replica, seat) = (Arc::clone(self), seat.clone());
        let task = self.tasks.spawn(async move {
            tokio::select! {
                () = replica.stop.cancelled() => {
                    Err(ApiError::new(Reason::ShuttingDown, "the replica is stopping"))
                }
                outcome = replica.repair(id, &seat) => outcome,
            }
        });
        task.await.unwrap_or_else(|error| Err(ApiError::internal(format!("a repair broke: {error}"))))
    }

    /// Notes which entries name blobs whose rows are here. Gives those whose rows are not, and for how many it cannot be
    /// said now.
    async fn name(
        self: &Arc<Self>,
        log: Address,
        entries: Vec<(u64, LogEntry)>,
        seat: &Standing,
    ) -> (Vec<(u64, LogEntry)>, usize) {
        let count = entries.len();
        if count == 0 {
            return (Vec::new(), 0);
        }
        // What is charged for a blob is written by one at a time, as by who cosigns.
        let lock = Arc::clone(&self.watched(log).cosigning).lock_owned().await;
        let blobs: Vec<LogEntry> = entries.iter().map(|(_, entry)| *entry).collect();
        let locks = self.share(&blobs).await;
        let (replica, standing) = (Arc::clone(self), seat.clone());
        let named = cpu::blocking(move || {
            let _locks = (lock, locks);
            replica.name_what_is_held(log, entries, &standing)
        });
        named.await.unwrap_or_else(|error| {
            tracing::warn!(%log, %error, "entries cannot be noted");
            (Vec::new(), count)
        })
    }

    /// Looks what is here of the blobs of some entries.
    fn look_at(&self, log: Address, entries: Vec<(u64, LogEntry)>, seat: &Standing) -> Seen {
        let mut seen = Seen::default();
        for (index, entry) in entries {
            match self.state_of(&log, index, &entry, seat) {
                Ok(State::Lacking) => seen.lacking.push((index, entry)),
                Ok(State::Named) => {}
                Ok(State::Unnamed) => seen.unnamed.push((index, entry)),
                Err(error) => {
                    tracing::debug!(%log, index, blob = %entry.blob_id, %error, "a blob that is owed cannot be read");
                    seen.unreadable += 1;
                }
            }
        }
        seen
    }

    fn state_of(
        &self,
        log: &Address,
        index: u64,
        entry: &LogEntry,
        seat: &Standing,
    ) -> Result<State, StoreError> {
        let Some(record) = self.rows.record(&entry.blob_id)? else { return Ok(State::Lacking) };
        if !self.holds(seat, &entry.blob_id, &record)? {
            return Ok(State::Lacking);
        }
        let is_named = self.rows.is_entry(log, index, entry)?;
        Ok(if is_named { State::Named } else { State::Unnamed })
    }

    /// Notes, in one synced batch, which entries name blobs whose rows are here. Gives those whose rows are not, and how
    /// many blobs cannot be read. The caller holds the blobs with others.
    fn name_what_is_held(
        &self,
        log: Address,
        entries: Vec<(u64, LogEntry)>,
        seat: &Standing,
    ) -> Result<(Vec<(u64, LogEntry)>, usize), StoreError> {
        let seen = self.look_at(log, entries, seat);
        if seen.unnamed.is_empty() {
            return Ok((seen.lacking, seen.unreadable));
        }
        let (mut batch, mut owed) = (Batch::new(), HashMap::new());
        for (index, entry) in seen.unnamed {
            let blob = entry.blob_id;
            let held = self.rows.record(&blob)?.map_or(0, |record| record.row_bytes());
            let before = owed.get(&blob).map(|owed: &Owed| (owed.until, owed.bytes));
            let (before, charged) = before.or_else(|| self.accounts.charged(&log, &blob)).unwrap_or_default();
            let (until, bytes) = (entry.expiry.max(before), held.max(charged));
            owed.insert(blob, Owed { gateway: log, blob, until, bytes });
            self.rows.put_entry(&mut batch, &log, index, &entry);
        }
        owed.values().for_each(|owed| self.rows.put_owed(&mut batch, owed));
        self.db.commit(batch, Durability::Synced)?;
        for (blob, owed) in owed {
            self.accounts.charge(&owed);
            self.note_signed(&blob);
        }
        Ok((seen.lacking, seen.unreadable))
    }
}

/// Entries of a log that are certainly of epochs before one.
fn entries_before(view: &View, log: &Address, epoch: u64) -> u64 {
    let anchors = view.anchors.get(log).map_or(&[][..], Vec::as_slice);
    anchors.iter().rev().find(|anchor| anchor.epoch < epoch).map_or(0, |anchor| anchor.size)
}
