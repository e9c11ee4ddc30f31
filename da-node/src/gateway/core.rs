//! What a gateway works with: [`Shared`] whatever the epoch, [`Core`] within one.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use meridian_client::chain::view::View;
use meridian_proofs::buffers::RowBuffers;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{CosignedCheckpoint, Domain, SignedCheckpoint};
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::BlobId;
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, committee};
use meridian_proto::MAX_CLOSINGS;
use meridian_proto::convert::EpochClosing;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;
use super::arriving::Arriving;
use super::congestion::Congestion;
use super::cosign::{Checkpoints, Head};
use super::dispersal::{Dispersals, Live, Route};
use super::epochs::is_anchored;
use super::link::{Links, SeatLink};
use super::log::{Log, Ready};
use super::seats::Seats;
use super::settings::Settings;
use super::store::{Loaded, Store, StoreError};
use super::{backfill, check, cosign, log};
use crate::clock::Clock;
use crate::cpu::CpuPool;
use crate::memory::{MemoryBudget, Reservation};
use crate::metrics;

/// How often a put that waits for memory looks for it.
const MEMORY_LOOK: Duration = Duration::from_millis(10);

/// How long an overloaded caller is asked to wait.
pub(super) const OVERLOAD_WAIT: Duration = Duration::from_secs(1);

/// What a gateway has whatever the epoch.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) domain: Domain,
    pub(super) address: Address,
    pub(super) key: SecretKey,
    pub(super) clock: Clock,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) links: Arc<dyn Links>,
    pub(super) store: Arc<Store>,
    /// Who may put.
    pub(super) access: Access,
    /// The latest certified checkpoint. Its epoch never falls: that of an epoch is closed before the next is signed.
    pub(super) certified: watch::Sender<Option<Arc<CosignedCheckpoint>>>,
    /// How the last epochs were closed: epoch and size, ascending.
    pub(super) closed: Mutex<Vec<(u64, u64)>>,
    /// Entries of the log.
    pub(super) log_size: AtomicU64,
    pub(super) cpu: CpuPool,
    /// Row buffers of puts that are done.
    pub(super) buffers: RowBuffers,
    pub(super) memory: MemoryBudget,
    /// Payloads that are being received.
    pub(super) arriving: Arc<Arriving>,
    /// How many puts are in work, and may be.
    pub(super) congestion: Arc<Congestion>,
    /// Fires when puts need memory that uploads hold.
    pub(super) pressure: watch::Sender<()>,
    pub(super) backfill_slots: Semaphore,
    pub(super) puts: AtomicU64,
    /// Why nothing is appended and signed any more.
    pub(super) lost: OnceLock<ApiError>,
    /// Puts whose payload is complete.
    pub(super) finishing: TaskTracker,
    /// Tasks that outlive an epoch.
    pub(super) keepers: TaskTracker,
    pub(super) draining: CancellationToken,
    pub(super) shutdown: CancellationToken,
}

/// What the tasks of one epoch share.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) committee: Arc<Committee>,
    /// How the epochs before were closed.
    pub(super) closings: Vec<CosignedCheckpoint>,
    /// Entries of the log under the closing of the epoch before.
    pub(super) opening: u64,
    pub(super) links: Vec<Arc<dyn SeatLink>>,
    pub(super) seats: Seats,
    /// Which seats' checkpoint of this log was compared with the disk.
    pub(super) checked: Vec<AtomicBool>,
    pub(super) checkpoints: Checkpoints,
    pub(super) dispersals: Dispersals,
    pub(super) live: Live,
    /// Limits the uploads to each seat.
    pub(super) turns: Vec<Semaphore>,
    /// Wakes each seat's backfill.
    pub(super) backfills: Vec<Notify>,
    pub(super) ready: mpsc::UnboundedSender<Ready>,
    /// Asks the log for a checkpoint with a newer timestamp.
    pub(super) refresh: Notify,
    /// Puts on their way into the log.
    pub(super) appending: TaskTracker,
    /// From now on nothing is appended.
    pub(super) cut: CancellationToken,
    /// The log has seen the cut: it stays as it is.
    pub(super) ended: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Deref for Core {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Shared {
    /// Runs a task until the gateway stops.
    pub(super) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.keepers.spawn(async move { shutdown.run_until_cancelled_owned(task).await });
    }

    /// Gives up appending and signing for good.
    pub(super) fn lose(&self, error: ApiError) {
        tracing::error!(%error, "the gateway appends and signs nothing any more");
        let _ = self.lost.set(error);
    }

    /// Takes bytes of the memory budget, for which uploads that can be done later have to make room.
    pub(super) async fn reserve(&self, bytes: u64, wait: Duration) -> Result<Reservation, ApiError> {
        if let Some(memory) = self.memory.try_reserve(bytes) {
            return Ok(memory);
        }
        let free = async {
            loop {
                self.pressure.send_replace(());
                self.arriving.press(bytes, MEMORY_LOOK);
                tokio::time::sleep(MEMORY_LOOK).await;
                if let Some(memory) = self.memory.try_reserve(bytes) {
                    return memory;
                }
            }
        };
        tokio::time::timeout(wait, free).await.map_err(|_| overloaded())
    }

    /// Takes bytes of the memory budget if they are free.
    pub(super) fn try_reserve(&self, bytes: u64) -> Result<Reservation, ApiError> {
        self.memory.try_reserve(bytes).ok_or_else(overloaded)
    }

    /// Entries of the log.
    pub(super) async fn entries(&self, start: u64, count: u64) -> Result<Vec<LogEntry>, ApiError> {
        let store = self.store.clone();
        blocking(move || store.entries(start, count)).await
    }

    /// Drops what is kept of a blob that has expired.
    pub(super) async fn forget(&self, id: BlobId) {
        let (store, now) = (self.store.clone(), self.clock.now());
        if let Err(error) =
            blocking(move || store.forget(id, now).and_then(|()| Ok(store.db().tidy()?))).await
        {
            tracing::error!(%error, "a kept payload cannot be dropped");
        }
        metrics::get().uploads_pending.record(self.store.pending(), &[]);
    }

    /// The last closings, for the status.
    pub(super) fn closings(&self) -> Vec<EpochClosing> {
        let view = self.view.borrow().clone();
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = closed.iter().rev().take(MAX_CLOSINGS).rev();
        let closing = |&(epoch, size): &(u64, u64)| {
            let anchored = is_anchored(&view, &self.address, size);
            EpochClosing { epoch, size, anchored }
        };
        shown.map(closing).collect()
    }

    /// Size of the latest certified checkpoint.
    pub(super) fn certified_size(&self) -> u64 {
        self.certified.borrow().as_ref().map_or(0, |cosigned| cosigned.signed.checkpoint.size)
    }

    /// The certificate of an entry: under the latest certified checkpoint, or under the closing of its epoch.
    pub(super) async fn build(&self, index: u64) -> Result<Certificate, ApiError> {
        let certified = self.certified.borrow().clone();
        let store = self.store.clone();
        let built = blocking(move || {
            let Some(epoch) = store.epoch_at(index)? else { return Ok(None) };
            let covers = |cosigned: &CosignedCheckpoint| {
                let checkpoint = &cosigned.signed.checkpoint;
                checkpoint.epoch == epoch && checkpoint.size > index
            };
            if let Some(certified) = certified.filter(|certified| covers(certified)) {
                return store.certificate(index, &certified).map(Some);
            }
            let closing = store.closing(epoch)?.filter(covers);
            closing.map(|closing| store.certificate(index, &closing)).transpose()
        });
        built.await?.ok_or_else(pending)
    }
}

impl Core {
    /// Starts the tasks of an epoch over the log as it is. Seats that stay are known from the epoch before.
    pub(super) fn start(
        shared: &Arc<Shared>,
        committee: Arc<Committee>,
        loaded: Loaded,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let epoch = committee.epoch();
        let count = committee.seats().len();
        let (ready, receiver) = mpsc::unbounded_channel();
        let closed = loaded.closings.iter().map(|closing| &closing.signed.checkpoint);
        *shared.closed.lock().unwrap_or_else(PoisonError::into_inner) =
            closed.map(|closing| (closing.epoch, closing.size)).collect();
        let earlier = loaded.closings.iter().map(|closing| &closing.signed.checkpoint);
        let earlier = earlier.rev().find(|closing| closing.epoch < epoch);
        let opening = earlier.map_or(0, |closing| closing.size);
        let checked = |seat: &committee::Seat| {
            let place = before.and_then(|before| before.place(&seat.address));
            before.zip(place).is_some_and(|(before, place)| before.checked[place].load(Ordering::Acquire))
        };
        let core = Arc::new(Self {
            shared: shared.clone(),
            links: (0..count).map(|place| shared.links.link(&committee, place)).collect(),
            seats: Seats::new(
                committee.clone(),
                &shared.settings,
                before.map(|before| (&before.seats, opening)),
            ),
            checked: committee.seats().iter().map(|seat| AtomicBool::new(checked(seat))).collect(),
            checkpoints: Checkpoints::new(shared.certified.clone()),
            dispersals: Dispersals::default(),
            live: Live::default(),
            turns: (0..count).map(|_| Semaphore::new(shared.settings.uploads_per_seat)).collect(),
            backfills: (0..count).map(|_| Notify::new()).collect(),
            ready,
            refresh: Notify::new(),
            appending: TaskTracker::new(),
            cut: CancellationToken::new(),
            ended: CancellationToken::new(),
            tasks: TaskTracker::new(),
            stop: shared.shutdown.child_token(),
            opening,
            closings: loaded.closings.clone(),
            committee,
        });
        let log = Log {
            last_time: loaded.last_time(),
            last_timestamp: loaded.last_timestamp(),
            range: loaded.range,
        };
        if let Some(signed) = loaded.head.filter(|head| head.checkpoint.epoch == epoch) {
            core.publish(signed);
        }
        // Ends by itself, between two writes: what it writes must not come after what a later epoch does.
        core.tasks.spawn(log::run(core.clone(), log, receiver));
        core.background(drop_uploads(core.clone()));
        for seat in 0..count {
            core.background(check::run(core.clone(), seat));
            core.background(cosign::run(core.clone(), seat));
            core.background(backfill::run(core.clone(), seat));
        }
        core
    }

    /// Runs a task until the epoch ends here.
    fn background(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled_owned(task).await });
    }

    /// Stops the tasks and waits until they are done.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Where a seat stands in the committee.
    fn place(&self, address: &Address) -> Option<usize> {
        self.committee.seats().iter().position(|seat| seat.address == *address)
    }

    /// The way to a seat under an epoch, as long as the seat takes that epoch's uploads.
    pub(super) fn route(&self, seat: usize, epoch: u64) -> Option<Route> {
        if epoch == self.committee.epoch() {
            let (committee, link) = (self.committee.clone(), self.links[seat].clone());
            return Some(Route { committee, place: seat, link });
        }
        let view = self.view.borrow().clone();
        let term = view.epochs.term(epoch).filter(|term| term.is_open(self.clock.now()))?;
        let address = self.member(seat).address;
        let place = term.committee.seats().iter().position(|seat| seat.address == address)?;
        let link = self.shared.links.link(&term.committee, place);
        Some(Route { committee: term.committee.clone(), place, link })
    }

    /// Whether the chain has the closing of the epoch before, as far as is known here.
    pub(super) fn is_opening_anchored(&self) -> bool {
        is_anchored(&self.view.borrow(), &self.address, self.opening)
    }

    /// A seat of the committee.
    pub(super) fn member(&self, seat: usize) -> &committee::Seat {
        &self.committee.seats()[seat]
    }

    /// Whether entries can be appended now.
    pub(super) fn may_append(&self) -> Result<(), ApiError> {
        match self.lost.get() {
            Some(error) => Err(error.clone()),
            None => self.seats.current().map(drop),
        }
    }

    /// Whether the log as it is can be signed again: enough regions have said what they know of it.
    pub(super) fn may_sign(&self) -> bool {
        self.lost.get().is_none() && self.seats.are_reached()
    }

    /// Has a seat's checkpoint compared with the disk again.
    pub(super) fn suspect(&self, seat: usize) {
        self.checked[seat].store(false, Ordering::Release);
    }

    /// Puts a checkpoint without new entries before the seats.
    pub(super) fn publish(&self, signed: SignedCheckpoint) {
        let digest = signed.checkpoint.digest(&self.domain);
        let first = signed.checkpoint.size;
        self.checkpoints.publish(Head { signed, digest, first, entries: Vec::new() });
    }

    /// A signed checkpoint over the first entries of the log, under the timestamp of the latest.
    pub(super) async fn sign_prefix(&self, head: &Head, size: u64) -> Result<SignedCheckpoint, ApiError> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        let store = self.store.clone();
        let root = blocking(move || store.root_at(size)).await?;
        let root =
            root.ok_or_else(|| ApiError::internal("a checkpoint over entries that are not in the log"))?;
        Ok(self.sign(size, root, head.signed.checkpoint.timestamp))
    }

    /// Notes that a seat has a blob that it lacked, or is to get it no more.
    pub(super) async fn delivered(&self, id: BlobId, epoch: u64, seat: usize) {
        let (store, address) = (self.store.clone(), self.member(seat).address);
        if let Err(error) = blocking(move || store.delivered(id, epoch, address)).await {
            tracing::error!(%error, "an upload cannot be noted");
        }
        metrics::get().uploads_pending.record(self.store.pending(), &[]);
    }

    /// The certificate of an entry, as soon as enough regions have cosigned it.
    pub(super) async fn certificate_of(&self, index: u64) -> Result<Certificate, ApiError> {
        let mut certified = self.certified.subscribe();
        let covers = certified.wait_for(|certified| {
            certified.as_ref().is_some_and(|certified| certified.signed.checkpoint.size > index)
        });
        let covered = tokio::select! {
            covered = covers => covered.map(drop).map_err(|_| pending()),
            error = self.no_quorum() => Err(error),
            () = tokio::time::sleep(self.settings.certificate_wait()) => Err(pending()),
        };
        covered?;
        self.build(index).await
    }

    /// Waits until there has been no S for a while.
    async fn no_quorum(&self) -> ApiError {
        let mut quorum = self.seats.quorum();
        loop {
            let missing = quorum.borrow_and_update().as_ref().err().cloned();
            let Some(missing) = missing else {
                if quorum.changed().await.is_err() {
                    return pending();
                }
                continue;
            };
            let back = quorum.wait_for(Result::is_ok);
            if tokio::time::timeout(self.settings.silence(), back).await.is_err() {
                return self.seats.unreachable(&missing);
            }
        }
    }
}

/// Drops what is kept for seats that are not of the committee.
async fn drop_uploads(core: Arc<Core>) {
    let (store, committee) = (core.store.clone(), core.committee.clone());
    if let Err(error) = blocking(move || store.keep_only(&committee)).await {
        tracing::error!(%error, "uploads to seats that are gone cannot be dropped");
    }
    metrics::get().uploads_pending.record(core.store.pending(), &[]);
}

/// Runs a call to the store off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::internal(format!("a call to the store failed: {error}"))),
    }
}

pub(super) fn pending() -> ApiError {
    let message = "the entry is in the log, and its certificate is not complete yet: the same put finds it";
    ApiError::new(Reason::CertificatePending, message).retry_after(OVERLOAD_WAIT)
}

fn overloaded() -> ApiError {
    let message = "the payloads in flight take the whole memory budget";
    ApiError::new(Reason::MemoryBudget, message).retry_after(OVERLOAD_WAIT)
}
