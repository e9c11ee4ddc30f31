//! The gateway: takes payloads, brings them to every region, keeps the log, gives certificates.
//!
//! A put walks through `submit` (checks, encoding), `dispersal` (rows to every seat), `log` (entry and checkpoint, one
//! synced batch), `cosign` (cosignatures) and back. `seats` and `quorum` say whom it waits for, `check` looks after
//! seats that are away, `backfill` brings them later what they missed, `store` is the disk, `link` the network.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::Stream;
use meridian_client::chain::view::View;
use meridian_client::rpc::Channels;
use meridian_proofs::Address;
use meridian_proofs::buffers::RowBuffers;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Domain, SignedCheckpoint};
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::SecretKey;
use meridian_proto::convert::{GatewayStatus, PutStart};
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cpu::CpuPool;
use crate::memory::{MemoryBudget, Reservation};
use crate::metrics;
use crate::store::log::LogStore;

mod backfill;
mod check;
mod cosign;
mod dispersal;
mod link;
mod log;
mod quorum;
mod seats;
pub mod service;
pub mod settings;
mod store;
mod submit;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use service::Service;
pub use settings::Settings;

use cosign::{Checkpoints, Head};
use dispersal::{Dispersals, Live};
use link::{RpcLink, SeatLink};
use log::{Log, Ready};
use seats::Seats;
use store::{Store, StoreError};

/// How often a put that waits for memory looks for it.
const MEMORY_LOOK: Duration = Duration::from_millis(10);

/// How long an overloaded caller is asked to wait.
const OVERLOAD_WAIT: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Gateway {
    core: Arc<Core>,
}

/// What the tasks of a gateway share.
struct Core {
    settings: Settings,
    committee: Arc<Committee>,
    domain: Domain,
    address: Address,
    key: SecretKey,
    clock: Clock,
    links: Vec<Arc<dyn SeatLink>>,
    seats: Seats,
    /// Which seats' checkpoint of this log was compared with the disk.
    checked: Vec<AtomicBool>,
    checkpoints: Checkpoints,
    dispersals: Dispersals,
    live: Live,
    store: Arc<Store>,
    cpu: CpuPool,
    /// Row buffers of puts that are done.
    buffers: RowBuffers,
    memory: MemoryBudget,
    /// Fires when puts need memory that uploads hold.
    pressure: watch::Sender<()>,
    /// Limits the uploads to each seat.
    turns: Vec<Semaphore>,
    /// Wakes each seat's backfill.
    backfills: Vec<Notify>,
    backfill_slots: Semaphore,
    ready: mpsc::UnboundedSender<Ready>,
    /// Asks the log for a checkpoint with a newer timestamp.
    refresh: Notify,
    puts: AtomicU64,
    /// Why nothing is appended and signed any more.
    lost: OnceLock<ApiError>,
    /// Puts whose payload is complete.
    finishing: TaskTracker,
    tasks: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl Gateway {
    /// Opens the gateway's store and starts its tasks; what was in flight when it stopped goes on.
    ///
    /// # Errors
    /// When a setting is out of range, the key is not that of a gateway of the committee, the store cannot be opened or
    /// belongs to another key.
    #[allow(clippy::needless_pass_by_value, reason = "it is kept as the epochs change")]
    pub fn open(
        settings: Settings,
        data_dir: &Path,
        view: watch::Receiver<Arc<View>>,
        key: SecretKey,
        channels: &Channels,
    ) -> anyhow::Result<Arc<Self>> {
        let clock = Clock::system();
        let committee = Arc::clone(&view.borrow().epochs.current(clock.now()).committee);
        let links = RpcLink::all(&committee, channels);
        Self::open_with(settings, data_dir, committee, key, links, clock)
    }

    /// As [`Gateway::open`], over given links and a given clock. Must be called within a runtime.
    fn open_with(
        settings: Settings,
        data_dir: &Path,
        committee: Arc<Committee>,
        key: SecretKey,
        links: Vec<Arc<dyn SeatLink>>,
        clock: Clock,
    ) -> anyhow::Result<Arc<Self>> {
        settings.check().map_err(anyhow::Error::msg)?;
        let address = key.address();
        anyhow::ensure!(
            committee.gateway(&address).is_some(),
            "the key's address {address} is not that of a gateway of the committee"
        );
        let domain = committee.domain();
        let (store, loaded) = Store::open(data_dir, address, &domain)
            .with_context(|| format!("cannot open the gateway's store in {}", data_dir.display()))?;
        let (ready, receiver) = mpsc::unbounded_channel();
        let count = committee.seats().len();
        let core = Arc::new(Core {
            seats: Seats::new(committee.clone(), &settings),
            checked: (0..count).map(|_| AtomicBool::new(false)).collect(),
            checkpoints: Checkpoints::new(loaded.certified),
            dispersals: Dispersals::default(),
            live: Live::default(),
            store: Arc::new(store),
            cpu: CpuPool::of_machine()?,
            buffers: RowBuffers::new(settings.row_buffers()),
            memory: MemoryBudget::new(settings.memory_bytes),
            pressure: watch::Sender::new(()),
            turns: (0..count).map(|_| Semaphore::new(settings.uploads_per_seat)).collect(),
            backfills: (0..count).map(|_| Notify::new()).collect(),
            backfill_slots: Semaphore::new(settings.backfills),
            ready,
            refresh: Notify::new(),
            puts: AtomicU64::new(0),
            lost: OnceLock::new(),
            finishing: TaskTracker::new(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            domain,
            address,
            key,
            clock,
            links,
            committee,
            settings,
        });
        metrics::get().log_size.record(loaded.range.size(), &[]);
        metrics::get().uploads_pending.record(core.store.pending(), &[]);
        if let Some(signed) = loaded.head {
            core.publish(signed);
        }
        let last_timestamp = core.checkpoints.head().map_or(0, |head| head.signed.checkpoint.timestamp);
        let log = Log { range: loaded.range, last_time: loaded.last_time, last_timestamp };
        core.background(log::run(core.clone(), log, receiver));
        core.background(keep_certified(core.clone()));
        for seat in 0..count {
            core.background(check::run(core.clone(), seat));
            core.background(cosign::run(core.clone(), seat));
            core.background(backfill::run(core.clone(), seat));
        }
        tracing::info!(%address, epoch = core.committee.epoch(), "gateway opened");
        Ok(Arc::new(Self { core }))
    }

    /// Stores a payload, given as its chunks in order, and gives its certificate.
    ///
    /// A caller that goes away before the last chunk leaves nothing behind. After it the put goes on, and a repeated
    /// put finds the entry.
    ///
    /// # Errors
    /// By the classes of protocol section 9.
    pub async fn put(
        &self,
        start: PutStart,
        chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
    ) -> Result<Certificate, ApiError> {
        submit::put(&self.core, start, chunks).await
    }

    /// The certificate of a blob's latest entry, under one namespace or any, with every cosignature known by now.
    ///
    /// # Errors
    /// `CERTIFICATE_UNKNOWN` when the log has no such entry, `CERTIFICATE_PENDING` when it is not yet cosigned.
    pub async fn certificate(
        &self,
        id: BlobId,
        namespace: Option<Namespace>,
    ) -> Result<Certificate, ApiError> {
        let store = self.core.store.clone();
        let found = blocking(move || store.latest(id, namespace)).await?;
        let Some((index, _)) = found else {
            let message = format!("the log of this gateway has no entry of {id} here");
            return Err(ApiError::new(Reason::CertificateUnknown, message));
        };
        if self.core.checkpoints.certified_size() <= index {
            return Err(pending());
        }
        self.core.build(index).await
    }

    /// The committee that this gateway works with.
    #[must_use]
    pub fn committee(&self) -> &Arc<Committee> {
        &self.core.committee
    }

    /// The gateway's log, to be served.
    #[must_use]
    pub fn log_store(&self) -> &LogStore {
        self.core.store.log()
    }

    /// What the gateway is doing.
    #[must_use]
    pub fn status(&self) -> GatewayStatus {
        let core = &self.core;
        GatewayStatus {
            address: core.address,
            epoch: core.committee.epoch(),
            log_size: core.checkpoints.head().map_or(0, |head| head.signed.checkpoint.size),
            certified_size: core.checkpoints.certified_size(),
            puts_in_flight: core.puts.load(Ordering::Relaxed),
            uploads_pending: core.store.pending(),
            memory_used: core.memory.used(),
            memory_budget: core.memory.total(),
            seats: core.seats.health(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Refuses new puts, waits for those whose payload is complete, and stops.
    pub async fn shutdown(&self) {
        let core = &self.core;
        core.draining.cancel();
        core.finishing.close();
        if tokio::time::timeout(core.settings.shutdown(), core.finishing.wait()).await.is_err() {
            tracing::warn!("puts in flight are left to the next start");
        }
        core.stop.cancel();
        core.tasks.close();
        core.tasks.wait().await;
    }
}

impl Core {
    /// Runs a task until the gateway stops.
    fn background(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled_owned(task).await });
    }

    /// Whether entries can be appended now.
    fn may_append(&self) -> Result<(), ApiError> {
        match self.lost.get() {
            Some(error) => Err(error.clone()),
            None => self.seats.current().map(drop),
        }
    }

    /// Whether the log as it is can be signed again: enough regions have said what they know of it.
    fn may_sign(&self) -> bool {
        self.lost.get().is_none() && self.seats.are_reached()
    }

    /// Gives up appending and signing for good.
    fn lose(&self, error: ApiError) {
        tracing::error!(%error, "the gateway appends and signs nothing any more");
        let _ = self.lost.set(error);
    }

    /// Has a seat's checkpoint compared with the disk again.
    fn suspect(&self, seat: usize) {
        self.checked[seat].store(false, Ordering::Release);
    }

    /// Takes bytes of the memory budget, for which uploads that can be done later have to make room.
    async fn reserve(&self, bytes: u64, wait: Duration) -> Result<Reservation, ApiError> {
        if let Some(memory) = self.memory.try_reserve(bytes) {
            return Ok(memory);
        }
        let free = async {
            loop {
                self.pressure.send_replace(());
                tokio::time::sleep(MEMORY_LOOK).await;
                if let Some(memory) = self.memory.try_reserve(bytes) {
                    return memory;
                }
            }
        };
        tokio::time::timeout(wait, free).await.map_err(|_| overloaded())
    }

    /// Takes bytes of the memory budget if they are free.
    fn try_reserve(&self, bytes: u64) -> Result<Reservation, ApiError> {
        self.memory.try_reserve(bytes).ok_or_else(overloaded)
    }

    /// Puts a checkpoint without new entries before the seats.
    fn publish(&self, signed: SignedCheckpoint) {
        let digest = signed.checkpoint.digest(&self.domain);
        let first = signed.checkpoint.size;
        self.checkpoints.publish(Head { signed, digest, first, entries: Vec::new() });
    }

    /// A signed checkpoint over the first entries of the log, under the timestamp of the latest.
    async fn sign_prefix(&self, head: &Head, size: u64) -> Result<SignedCheckpoint, ApiError> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        let store = self.store.clone();
        let root = blocking(move || store.root_at(size)).await?;
        let root =
            root.ok_or_else(|| ApiError::internal("a checkpoint over entries that are not in the log"))?;
        Ok(self.sign(size, root, head.signed.checkpoint.timestamp))
    }

    /// Entries of the log.
    async fn entries(&self, start: u64, count: u64) -> Result<Vec<LogEntry>, ApiError> {
        let store = self.store.clone();
        blocking(move || store.entries(start, count)).await
    }

    /// Notes that a seat has a blob that it lacked.
    async fn delivered(&self, id: BlobId, seat: usize) {
        let (store, address) = (self.store.clone(), self.committee.seats()[seat].address);
        if let Err(error) = blocking(move || store.delivered(id, address)).await {
            tracing::error!(%error, "an upload cannot be noted");
        }
        metrics::get().uploads_pending.record(self.store.pending(), &[]);
    }

    /// Drops what is kept of a blob that has expired.
    async fn forget(&self, id: BlobId) {
        let (store, now) = (self.store.clone(), self.clock.now());
        if let Err(error) = blocking(move || store.forget(id, now)).await {
            tracing::error!(%error, "a kept payload cannot be dropped");
        }
        metrics::get().uploads_pending.record(self.store.pending(), &[]);
    }

    /// The certificate of an entry, as soon as enough regions have cosigned it.
    async fn certificate_of(&self, index: u64) -> Result<Certificate, ApiError> {
        let mut certified = self.checkpoints.certified();
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

    /// The certificate of an entry under the latest certified checkpoint.
    async fn build(&self, index: u64) -> Result<Certificate, ApiError> {
        let certified = self.checkpoints.certified().borrow().clone();
        let certified = certified.ok_or_else(pending)?;
        let store = self.store.clone();
        blocking(move || store.certificate(index, &certified)).await
    }
}

/// Writes down certified checkpoints as they come. Not synced: replicas give their signature again.
async fn keep_certified(core: Arc<Core>) {
    let mut certified = core.checkpoints.certified();
    while certified.changed().await.is_ok() {
        let Some(cosigned) = certified.borrow_and_update().clone() else { continue };
        metrics::get().certified_size.record(cosigned.signed.checkpoint.size, &[]);
        let store = core.store.clone();
        if let Err(error) = blocking(move || store.keep_certified(&cosigned)).await {
            tracing::error!(%error, "a certified checkpoint cannot be written");
        }
    }
}

/// Runs a call to the store off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::internal(format!("a call to the store failed: {error}"))),
    }
}

fn pending() -> ApiError {
    let message = "the entry is in the log, and its certificate is not complete yet: the same put finds it";
    ApiError::new(Reason::CertificatePending, message).retry_after(OVERLOAD_WAIT)
}

fn overloaded() -> ApiError {
    let message = "the payloads in flight take the whole memory budget";
    ApiError::new(Reason::MemoryBudget, message).retry_after(OVERLOAD_WAIT)
}
