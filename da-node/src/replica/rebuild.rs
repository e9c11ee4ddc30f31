//! Rebuilds whole blobs from K verified rows, for readers and to put back rows that are missing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use meridian_client::fetch::{Fault, FaultKind, ReadError, Reader};
use meridian_proofs::buffers::RowBuffers;
use meridian_proofs::encode::EncodedBlob;
use meridian_proofs::ids::BlobId;
use meridian_proofs::reconstruct::{DecodeError, Rebuilt, RowSet};
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::MAX_CANDIDATES;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::Semaphore;

use super::cache::weight;
use super::epochs::Standing;
use super::keep::Kind;
use super::record::{Record, wide};
use super::rows;
use super::settings::Settings;
use super::{Replica, Rows};
use crate::cpu;
use crate::memory::{MemoryBudget, Reservation};
use crate::metrics::{self, KeyValue};

/// How long to wait when there is no place for one more.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// Bytes of row buffers that are kept for the next blob, beside the memory budget: those of a payload of 16 MiB.
const KEPT: usize = 65 << 20;
/// Epochs whose replicas are asked for one blob.
const EPOCHS: usize = 4;

type Work = Shared<BoxFuture<'static, Result<Arc<Whole>, ApiError>>>;

/// The rebuilding that goes on: each blob once, a bounded number at a time.
pub(super) struct Rebuilds {
    running: Mutex<HashMap<BlobId, Work>>,
    most: usize,
    places: Semaphore,
    memory: MemoryBudget,
    buffers: RowBuffers,
}

/// Where the rows of a whole blob come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// They were rebuilt before.
    Cache,
    /// They were rebuilt for this, or for others at the same time.
    Rebuilt,
}

impl Source {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Rebuilt => "rebuilt",
        }
    }
}

/// What a blob is rebuilt for. Each has places and memory of its own, so that readers never hold up a repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// To answer a reader.
    Read,
    /// To put back rows that this replica has to hold.
    Repair,
}

/// Counts what other replicas did instead of answering rightly.
pub(super) fn count_faults(faults: &[Fault]) {
    for fault in faults {
        let kind = match fault.kind {
            FaultKind::Wrong => "wrong",
            FaultKind::Silent => "silent",
            // It may never have owed the rows, or be about to fetch them itself.
            FaultKind::Missing => continue,
        };
        let region = KeyValue::new("region", i64::from(fault.region.0));
        metrics::get().peer_faults.add(1, &[region, KeyValue::new("kind", kind)]);
    }
}

/// What K rows of a blob re-encode to.
pub(super) enum Whole {
    /// The blob.
    Blob {
        /// All its rows.
        blob: Box<EncodedBlob>,
        /// To check rows with, where they are to be put back.
        context: Option<Arc<BlobContext>>,
        /// Memory of the rows: of the cache, or of those that are being rebuilt.
        _memory: Reservation,
    },
    /// Something else: nobody can read a payload from it. The rows that show it are on disk.
    Inconsistent,
}

impl Rebuilds {
    pub(super) fn new(name: &'static str, settings: &Settings) -> Self {
        Self {
            running: Mutex::default(),
            most: settings.rebuilds.saturating_add(settings.rebuild_queue),
            places: Semaphore::new(settings.rebuilds.min(Semaphore::MAX_PERMITS)),
            memory: MemoryBudget::new(name, settings.rebuild_memory_bytes),
            buffers: RowBuffers::new(KEPT),
        }
    }

    pub(super) fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    /// Blobs that are being rebuilt or wait for it.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.running().len()
    }

    /// A place that nobody else has.
    #[cfg(test)]
    pub(super) async fn take_place(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.places.acquire().await.unwrap()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<BlobId, Work>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody still waits for a blob that has a place now. If not, it counts as running no longer.
    fn is_wanted(&self, id: &BlobId) -> bool {
        let mut running = self.running();
        // One of them is that in the list.
        let is_wanted = running.get(id).and_then(Work::strong_count).is_none_or(|waiting| waiting > 1);
        if !is_wanted {
            running.remove(id);
        }
        is_wanted
    }
}

impl Replica {
    /// The whole blob for a reader: as it was rebuilt before, or else rebuilt now.
    pub(super) async fn whole_to_read(
        self: &Arc<Self>,
        id: BlobId,
    ) -> Result<(Arc<Whole>, Source), ApiError> {
        let count = |result| metrics::get().cache_requests.add(1, &[KeyValue::new("result", result)]);
        let work = {
            let mut running = self.rebuilds.running();
            // Under the lock: what is rebuilt is kept before it counts as running no longer.
            if let Some(whole) = self.cache.get(&id) {
                count("hit");
                return Ok((whole, Source::Cache));
            }
            let is_running = running.contains_key(&id);
            let work = self.join_whole(&mut running, id, None, Purpose::Read)?;
            count(if is_running { "joined" } else { "miss" });
            work
        };
        Ok((work.await?, Source::Rebuilt))
    }

    /// The whole blob, rebuilt from rows on disk or at other replicas, those of `epoch` before those of the epochs whose
    /// entries name the blob. Requests for one blob share the work.
    pub(super) async fn whole_to_repair(
        self: &Arc<Self>,
        id: BlobId,
        epoch: Option<u64>,
    ) -> Result<Arc<Whole>, ApiError> {
        let work = self.join_whole(&mut self.repairs.running(), id, epoch, Purpose::Repair)?;
        work.await
    }

    fn join_whole(
        self: &Arc<Self>,
        running: &mut HashMap<BlobId, Work>,
        id: BlobId,
        epoch: Option<u64>,
        purpose: Purpose,
    ) -> Result<Work, ApiError> {
        if let Some(work) = running.get(&id) {
            return Ok(work.clone());
        }
        if running.len() >= self.rebuilds(purpose).most {
            let text = "too many blobs are being rebuilt";
            return Err(ApiError::new(Reason::TooManyRequests, text).retry_after(QUEUE_WAIT));
        }
        let work = self.begin_whole(id, epoch, purpose);
        running.insert(id, work.clone());
        Ok(work)
    }

    /// Starts the work on a task of its own. Once it has a place it goes on also when all who asked go away: what it costs is
    /// bounded, and the next who asks finds what was rebuilt.
    fn begin_whole(self: &Arc<Self>, id: BlobId, epoch: Option<u64>, purpose: Purpose) -> Work {
        let replica = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let begun = Instant::now();
            let work = replica.rebuild_if_wanted(id, epoch, purpose);
            let outcome = tokio::select! {
                () = replica.stop.cancelled() => Err(ApiError::new(Reason::ShuttingDown, "the replica is stopping")),
                outcome = work => match outcome {
                    Some(outcome) => outcome,
                    None => return Err(ApiError::new(Reason::StreamBroken, "nobody waits for the blob any more")),
                },
            };
            replica.rebuilds(purpose).running().remove(&id);
            let result = match &outcome {
                Ok(whole) if matches!(**whole, Whole::Inconsistent) => "inconsistent",
                Ok(_) => "ok",
                Err(error) => error.class().as_str(),
            };
            metrics::get().rebuilds.add(1, &[KeyValue::new("result", result)]);
            metrics::get().rebuild_seconds.record(begun.elapsed().as_secs_f64(), &[]);
            outcome
        });
        // Nothing that the replica has may keep it: a runtime that is dropped ends no work, and would leave the store open.
        let replica = Arc::downgrade(self);
        let joined = async move {
            task.await.unwrap_or_else(|error| {
                if let Some(replica) = replica.upgrade() {
                    replica.rebuilds(purpose).running().remove(&id);
                }
                Err(ApiError::internal(format!("rebuilding a blob broke: {error}")))
            })
        };
        joined.boxed().shared()
    }

    fn rebuilds(&self, purpose: Purpose) -> &Rebuilds {
        match purpose {
            Purpose::Read => &self.rebuilds,
            Purpose::Repair => &self.repairs,
        }
    }

    /// The readers that may find a blob: of the epoch that is asked for, of those of its entries, of those open now.
    pub(super) async fn readers_of(&self, id: BlobId, epoch: Option<u64>) -> Result<Vec<Reader>, ApiError> {
        let entries = self.read(move |rows| rows.entries(&id, MAX_CANDIDATES)).await?;
        let (view, now) = (self.view(), self.clock.now());
        let open = view.epochs.open(now).chain([view.epochs.current(now)]);
        let mut epochs: Vec<u64> = Vec::new();
        let named = entries.iter().map(|named| named.entry.epoch);
        for epoch in epoch.into_iter().chain(named).chain(open.map(|term| term.committee.epoch())) {
            if !epochs.contains(&epoch) {
                epochs.push(epoch);
            }
        }
        Ok(epochs.into_iter().take(EPOCHS).flat_map(|epoch| self.readers(epoch)).collect())
    }

    async fn find(&self, id: BlobId, readers: &[Reader]) -> Result<Arc<BlobContext>, ApiError> {
        let mut outcome = Err(ApiError::new(Reason::Unreachable, "no epoch's replicas can be asked"));
        for reader in readers {
            outcome = reader.context(id).await.map_err(ApiError::from);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn gather(&self, context: &Arc<BlobContext>, readers: &[Reader]) -> Result<RowSet, ApiError> {
        let mut outcome = Err(ApiError::new(Reason::Unreachable, "no epoch's replicas can be asked"));
        for reader in readers {
            let gathered = reader.gather(context, true).await;
            count_faults(gathered.as_ref().map_or_else(ReadError::faults, |gathered| &gathered.faults));
            outcome = gathered.map(|gathered| gathered.rows).map_err(ApiError::from);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Rebuilds a blob as soon as there is a place, unless nobody waits for it any more.
    async fn rebuild_if_wanted(
        self: &Arc<Self>,
        id: BlobId,
        epoch: Option<u64>,
        purpose: Purpose,
    ) -> Option<Result<Arc<Whole>, ApiError>> {
        let rebuilds = self.rebuilds(purpose);
        let _place = match rebuilds.places.acquire().await {
            Ok(place) => place,
            Err(closed) => return Some(Err(ApiError::internal(closed.to_string()))),
        };
        if rebuilds.is_wanted(&id) { Some(self.rebuild(id, epoch, purpose).await) } else { None }
    }

    async fn rebuild(
        self: &Arc<Self>,
        id: BlobId,
        epoch: Option<u64>,
        purpose: Purpose,
    ) -> Result<Arc<Whole>, ApiError> {
        let rebuilds = self.rebuilds(purpose);
        let record = self.read(move |rows| rows.record(&id)).await?;
        let stored = match &record {
            Some(record) => {
                let header = record.header;
                self.read(move |rows| rows::context(rows, id, header)).await.ok()
            }
            None => None,
        };
        let context = match stored {
            Some(context) => Arc::new(context),
            None => self.find(id, &self.readers_of(id, epoch).await?).await?,
        };
        let shape = context.shape();
        // The rows that are gathered, the decoded ones, and all of them.
        let memory = wide(shape.total_bytes() + 2 * shape.data_bytes());
        let memory = rebuilds.memory.try_reserve(memory).ok_or_else(|| {
            ApiError::new(Reason::MemoryBudget, "the blobs being rebuilt take the whole memory budget")
                .retry_after(QUEUE_WAIT)
        })?;
        let own = match record {
            Some(record) => self.own_rows(&context, record).await,
            None => RowSet::new(Arc::clone(&context)),
        };
        let set = if own.is_decodable() {
            own
        } else {
            drop(own);
            self.gather(&context, &self.readers_of(id, epoch).await?).await?
        };
        // Bounded by the places, and beside the pool in which uploads are checked: readers must not hold those up.
        let (buffers, cache) = (rebuilds.buffers.clone(), Arc::clone(&self.cache));
        let outcome = cpu::blocking(move || {
            let rebuilt = set.rebuild_reusing(&buffers)?;
            let Rebuilt::Consistent(blob) = rebuilt else { return Ok(Err(set)) };
            drop(set);
            let room = (purpose == Purpose::Read).then(|| cache.room(weight(shape)));
            Ok(Ok((blob, room.flatten())))
        });
        match outcome.await.map_err(|error: DecodeError| ApiError::internal(error.to_string()))? {
            Ok((blob, room)) => Ok(self.done(context, blob, purpose, room, memory).await),
            Err(set) => {
                tracing::warn!(blob = %id, "verified rows of a blob re-encode to another row root");
                let ranges = set.into_ranges();
                let bytes = ranges.iter().map(|range| wide(range.rows().len())).sum();
                let room = self.reserve(bytes, None)?;
                if self.keep(context, ranges, Kind::Inconsistent, None, room).await? {
                    metrics::get().inconsistent_blobs.add(1, &[]);
                }
                Ok(Arc::new(Whole::Inconsistent))
            }
        }
    }

    /// A blob that was rebuilt, kept for other readers where there is room.
    pub(super) async fn done(
        &self,
        context: Arc<BlobContext>,
        blob: Box<EncodedBlob>,
        purpose: Purpose,
        room: Option<Reservation>,
        mut memory: Reservation,
    ) -> Arc<Whole> {
        // What was decoded from is gone; whoever reads slowly keeps only the blob.
        memory.shrink(weight(blob.shape()));
        let (id, bytes) = (blob.id(), room.as_ref().map(Reservation::bytes));
        let context = (purpose == Purpose::Repair).then_some(context);
        // Its memory is no longer that of a rebuild: others may begin.
        let whole = Arc::new(Whole::Blob { blob, context, _memory: room.unwrap_or(memory) });
        if let Some(bytes) = bytes {
            self.cache.keep(id, Arc::clone(&whole), bytes);
            // It may have been dropped meanwhile, and nobody would drop it again.
            if !matches!(self.read(move |rows| rows.record(&id)).await, Ok(Some(_))) {
                self.cache.forget(&id);
            }
        }
        whole
    }

    /// The rows on disk, checked again. Damaged ones are left out.
    async fn own_rows(&self, context: &Arc<BlobContext>, record: Record) -> RowSet {
        let (id, context, rows) = (context.id(), Arc::clone(context), self.rows.clone());
        let running = self.tasks.token();
        let (set, is_damaged) = cpu::blocking(move || {
            // A stop waits for whoever has the store open.
            let _running = running;
            let read = own_rows(&context, &rows, &record);
            drop(rows);
            read
        })
        .await;
        if is_damaged {
            self.suspect(id);
        }
        set
    }

    /// Puts the rows of a seat back on disk, or the rows that show that there is no such blob.
    pub(super) async fn repair(self: &Arc<Self>, id: BlobId, standing: &Standing) -> Result<(), ApiError> {
        let outcome = self.put_back(id, standing).await;
        let result = outcome.as_ref().map_or_else(|error| error.class().as_str(), |()| "ok");
        metrics::get().repairs.add(1, &[KeyValue::new("result", result)]);
        outcome
    }

    async fn put_back(self: &Arc<Self>, id: BlobId, standing: &Standing) -> Result<(), ApiError> {
        let known = move |rows: &Rows| Ok((rows.record(&id)?, rows.quarantined_of(&id)?));
        if let (Some(record), parts) = self.read(known).await?
            && !parts.is_empty()
        {
            self.make_whole(id, record.clone(), parts).await?;
            if self.holds(standing, &id, &record)? {
                return Ok(());
            }
        }
        let whole = self.whole_to_repair(id, Some(standing.epoch())).await?;
        let Whole::Blob { blob, context: Some(context), .. } = &*whole else { return Ok(()) };
        let interval = standing.interval(&id, blob.shape());
        let room = self.reserve(wide(interval.rows() * blob.shape().row_bytes()), None)?;
        let verified: Option<_> =
            interval.ranges().iter().map(|range| context.rows_of(blob, *range)).collect();
        let verified = verified.ok_or_else(|| ApiError::internal("the rebuilt blob is another one"))?;
        let context = Arc::clone(context);
        self.keep(context, verified, Kind::Share, None, room).await?;
        Ok(())
    }
}

/// The rows on disk that are sound, piece by piece, until there are enough; and whether others are damaged.
fn own_rows(context: &Arc<BlobContext>, rows: &Rows, record: &Record) -> (RowSet, bool) {
    let id = context.id();
    let (mut set, mut is_damaged) = (RowSet::new(Arc::clone(context)), false);
    for (place, stored) in record.ranges.iter().enumerate() {
        let tree = rows.tree(&id, record, place).ok();
        is_damaged |= tree.is_none();
        for piece in 0..Rows::piece_count(record, stored) {
            if set.is_decodable() {
                return (set, is_damaged);
            }
            let Some(range) = Rows::piece_range(record, stored, piece) else { continue };
            let proof = tree.as_ref().and_then(|tree| tree.prove_range(range));
            let checked = rows.rows(&id, record, place, &range).ok().zip(proof).and_then(|(bytes, proof)| {
                let verified = context.check_range(range, bytes, &proof).ok()?;
                set.insert(verified).ok()
            });
            if checked.is_none() {
                tracing::error!(blob = %id, first_row = range.start(), "stored rows are damaged");
                is_damaged = true;
            }
        }
    }
    (set, is_damaged)
}
