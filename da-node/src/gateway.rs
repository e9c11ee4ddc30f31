//! The gateway: takes payloads, brings them to every region, keeps the log, gives certificates.
//!
//! A put walks through `submit` (checks, encoding), `dispersal` (rows to every seat), `log` (entry and checkpoint, one
//! synced batch), `cosign` (cosignatures) and back. `access` says who may put, and how much,
//! `congestion` how many at a time. `seats` and `quorum` say whom it waits for, `check` looks after
//! seats that are away, `backfill` brings them later what they missed, `anchor` brings the log to the chain, `store` is
//! the disk, `link` the network. `core` has what they share, for one epoch and for all, and `epochs` leads from one to
//! the next.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Context;
use bytes::Bytes;
use futures::Stream;
use meridian_client::chain::namespaces::Namespaces;
use meridian_client::chain::sender::Chain;
use meridian_client::chain::view::View;
use meridian_client::guard::Origin;
use meridian_client::rpc::Channels;
use meridian_proofs::buffers::RowBuffers;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proofs::signature::SecretKey;
use meridian_proto::convert::{GatewayPhase, GatewayStatus, PutStart};
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cpu::CpuPool;
use crate::memory::MemoryBudget;
use crate::metrics;
use crate::store::log::LogStore;

pub mod access;
pub mod anchor;
mod arriving;
mod backfill;
mod check;
mod congestion;
mod core;
mod cosign;
mod dispersal;
mod epochs;
mod link;
mod log;
mod quorum;
mod seats;
pub mod service;
pub mod settings;
mod store;
mod submit;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use service::Service;
pub use settings::Settings;

use self::core::{Shared, blocking};
use access::Access;
use anchor::{AnchorSettings, Logbook};
use congestion::Congestion;
use epochs::{Door, Stage};
use link::{Links, RpcLinks};
use store::Store;

/// A running gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    stage: watch::Receiver<Stage>,
    anchoring: watch::Sender<anchor::Report>,
}

impl Gateway {
    /// Opens the gateway's store and starts its tasks; what was in flight when it stopped goes on.
    ///
    /// # Errors
    /// When a setting is out of range, the key is not that of a gateway of the committee, the store cannot be opened or
    /// belongs to another key.
    pub fn open(
        settings: Settings,
        data_dir: &Path,
        view: watch::Receiver<Arc<View>>,
        key: SecretKey,
        channels: &Channels,
    ) -> anyhow::Result<Arc<Self>> {
        Self::open_with(settings, data_dir, view, key, channels, Clock::system())
    }

    /// Like [`Gateway::open`], with a clock of one's own.
    ///
    /// # Errors
    /// As [`Gateway::open`].
    pub fn open_with(
        settings: Settings,
        data_dir: &Path,
        view: watch::Receiver<Arc<View>>,
        key: SecretKey,
        channels: &Channels,
        clock: Clock,
    ) -> anyhow::Result<Arc<Self>> {
        let links = Arc::new(RpcLinks(channels.clone()));
        Self::open_over(settings, data_dir, view, key, links, clock)
    }

    /// Waits until a write has failed, so that this program has to start again from what is on disk, and may.
    pub async fn broken(&self) {
        self.shared.store.db().broken().await;
    }

    /// As [`Gateway::open_with`], over given links. Must be called within a runtime.
    fn open_over(
        settings: Settings,
        data_dir: &Path,
        view: watch::Receiver<Arc<View>>,
        key: SecretKey,
        links: Arc<dyn Links>,
        clock: Clock,
    ) -> anyhow::Result<Arc<Self>> {
        settings.check().map_err(anyhow::Error::msg)?;
        let address = key.address();
        let terms = view.borrow().epochs.clone();
        anyhow::ensure!(
            terms.terms().iter().any(|term| term.committee.gateway(&address).is_some()),
            "the key's address {address} is not that of a gateway of any epoch"
        );
        let domain = terms.latest().committee.domain();
        let (store, loaded) = Store::open(data_dir, address, &domain)
            .with_context(|| format!("cannot open the gateway's store in {}", data_dir.display()))?;
        store.db().keep_free(settings.min_free_bytes);
        let store = Arc::new(store);
        let access = Access::open(&settings.access, &store, (address, domain), &clock, &view)?;
        let shared = Arc::new(Shared {
            store,
            access,
            certified: watch::Sender::new(loaded.certified.clone().map(Arc::new)),
            closed: Mutex::default(),
            log_size: AtomicU64::new(loaded.range.size()),
            cpu: CpuPool::of_machine()?,
            buffers: RowBuffers::new(settings.row_buffers()),
            memory: MemoryBudget::new("puts", settings.memory_bytes),
            arriving: Arc::default(),
            congestion: Congestion::new(settings.queue()),
            pressure: watch::Sender::new(()),
            backfill_slots: Semaphore::new(settings.backfills),
            puts: AtomicU64::new(0),
            lost: OnceLock::new(),
            finishing: TaskTracker::new(),
            keepers: TaskTracker::new(),
            draining: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            domain,
            address,
            key,
            clock,
            view,
            links,
            settings,
        });
        metrics::get().log_size.record(loaded.range.size(), &[]);
        metrics::get().uploads_pending.record(shared.store.pending(), &[]);
        shared.background(keep_certified(shared.clone()));
        shared.background(access::follow(shared.clone()));
        shared.background(access::forget(shared.clone()));
        tracing::info!(%address, "gateway opened");
        let (stage, seen) = watch::channel(epochs::begin(&shared, loaded, None));
        shared.background(epochs::run(shared.clone(), stage));
        Ok(Arc::new(Self { shared, stage: seen, anchoring: watch::Sender::default() }))
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
        self.put_from(None, start, chunks).await
    }

    /// Like [`Gateway::put`], for somebody whose share it is of what the gateway gets done.
    ///
    /// # Errors
    /// As [`Gateway::put`].
    pub async fn put_from(
        &self,
        origin: Option<Origin>,
        start: PutStart,
        chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
    ) -> Result<Certificate, ApiError> {
        let door = Door { shared: self.shared.clone(), stage: self.stage.clone() };
        submit::put(&door, origin, start, chunks).await
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
        let store = self.shared.store.clone();
        let found = blocking(move || store.latest(id, namespace)).await?;
        let Some((index, _)) = found else {
            let message = format!("the log of this gateway has no entry of {id} here");
            return Err(ApiError::new(Reason::CertificateUnknown, message));
        };
        self.shared.build(index).await
    }

    /// The committee that this gateway works with: of the epoch in work, else of the current one.
    #[must_use]
    pub fn committee(&self) -> Arc<Committee> {
        if let Some(core) = self.stage().core() {
            return core.committee.clone();
        }
        let shared = &self.shared;
        shared.view.borrow().epochs.current(shared.clock.now()).committee.clone()
    }

    /// What puts find now.
    fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// The gateway's log, to be served.
    #[must_use]
    pub fn log_store(&self) -> &LogStore {
        self.shared.store.log()
    }

    /// What the gateway is doing.
    #[must_use]
    pub fn status(&self) -> GatewayStatus {
        let shared = &self.shared;
        GatewayStatus {
            address: shared.address,
            epoch: self.committee().epoch(),
            log_size: shared.log_size.load(Ordering::Relaxed),
            certified_size: shared.certified_size(),
            puts_in_flight: shared.puts.load(Ordering::Relaxed),
            uploads_pending: shared.store.pending(),
            memory_used: shared.memory.used(),
            memory_budget: shared.memory.total(),
            seats: self.stage().core().map(|core| core.seats.health()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            anchor: anchor::status(&shared.view.borrow(), &shared.address, &self.anchoring.borrow()),
            phase: self.phase(),
            closings: shared.closings(),
            now_ms: shared.clock.now_ms(),
        }
    }

    fn phase(&self) -> GatewayPhase {
        match self.stage() {
            _ if self.shared.lost.get().is_some() => GatewayPhase::Retired,
            Stage::Open(_) => GatewayPhase::Working,
            Stage::Closing(_) => GatewayPhase::Closing,
            Stage::Idle(_) => GatewayPhase::Waiting,
        }
    }

    /// Brings the log to the contract from now on, at the expense of an account.
    pub fn anchor(&self, settings: AnchorSettings, chain: impl Chain + 'static, account: SecretKey) {
        let (shared, report) = (&self.shared, self.anchoring.clone());
        let store = shared.store.clone();
        let book = Logbook {
            gateway: shared.address,
            log: shared.store.log().clone(),
            certified: shared.certified.subscribe(),
            closings: Arc::new(move || Ok(store.closings()?)),
            view: shared.view.clone(),
            clock: shared.clock.clone(),
        };
        shared.background(anchor::run(settings, chain, account, shared.domain, book, report));
    }

    /// Takes who may put under namespaces that are listed without an owner from a registry on the chain, from now on.
    pub fn ask_registry(&self, registry: Namespaces) {
        self.shared.access.ask(registry);
    }

    /// Refuses new puts, waits for those whose payload is complete, and stops.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        shared.draining.cancel();
        shared.finishing.close();
        if tokio::time::timeout(shared.settings.shutdown(), shared.finishing.wait()).await.is_err() {
            tracing::warn!("puts in flight are left to the next start");
        }
        shared.shutdown.cancel();
        shared.keepers.close();
        shared.keepers.wait().await;
        let stage = self.stage();
        if let Some(core) = stage.core() {
            core.end().await;
        }
    }
}

/// Writes down certified checkpoints as they come. Not synced: replicas give their signature again.
async fn keep_certified(shared: Arc<Shared>) {
    let mut certified = shared.certified.subscribe();
    while certified.changed().await.is_ok() {
        let Some(cosigned) = certified.borrow_and_update().clone() else { continue };
        metrics::get().certified_size.record(cosigned.signed.checkpoint.size, &[]);
        let store = shared.store.clone();
        if let Err(error) = blocking(move || store.keep_certified(&cosigned)).await {
            tracing::error!(%error, "a certified checkpoint cannot be written");
        }
    }
}
