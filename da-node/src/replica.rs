//! The replica: verifies rows and keeps them, cosigns logs, serves rows, samples and logs.
//!
//! An upload walks through `ingest` (permission, rows) and `keep` (one synced batch); a checkpoint through `cosign`
//! and `judge` (the rules), `floor` (what others have seen of the log) and, for rows that are missing, `rebuild`.
//! Readers come in through `serve`; what was rebuilt for them stays in `cache` for a while. `epochs` says which seats there are when; `fill` brings a new seat the logs that it
//! starts from, `lacking` the rows that it owes and does not hold. `rows` is the disk, `accounts` the room on it,
//! `retention` drops what nobody is owed, `scrub` finds what the disk has damaged and has it repaired.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use meridian_client::chain::view::View;
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::ids::BlobId;
use meridian_proofs::signature::SecretKey;
use meridian_proto::MAX_OPEN_EPOCHS;
use meridian_proto::convert::ReplicaStatus;
use meridian_proto::error::ApiError;
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cpu::{self, CpuPool};
use crate::memory::MemoryBudget;
use crate::metrics;
use crate::store::log::LogStore;
use crate::store::{self, Db, Role, StoreError};

mod accounts;
mod arrivals;
mod cache;
mod check;
mod cosign;
mod epochs;
mod fill;
mod floor;
mod ingest;
mod judge;
mod keep;
mod lacking;
mod mend;
mod rebuild;
mod record;
mod retention;
mod rows;
pub mod scrub;
mod serve;
pub mod service;
pub mod settings;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use retention::Dropped;
pub use serve::{Rows as ServedRows, RowsStream};
pub use service::Service;
pub use settings::Settings;

use accounts::Accounts;
use arrivals::Arrivals;
use cache::Cache;
use epochs::latest_seat;
use floor::Floors;
use lacking::Lacking;
use rebuild::Rebuilds;
use rows::Rows;
use scrub::Scrub;

/// Locks over the blobs, by the first byte of their ids.
const LOCKS: usize = 256;

/// A running replica.
pub struct Replica {
    settings: Settings,
    view: watch::Receiver<Arc<View>>,
    domain: Domain,
    key: SecretKey,
    address: Address,
    clock: Clock,
    /// When this program started, unix seconds.
    started: u64,
    channels: Channels,
    /// What reads the blobs of an epoch: from its seats as they were, and as they passed on.
    readers: std::sync::Mutex<HashMap<(u64, bool), Reader>>,
    db: Db,
    rows: Rows,
    logs: LogStore,
    accounts: Arc<Accounts>,
    cpu: CpuPool,
    upload_memory: MemoryBudget,
    /// Whoever writes or drops a blob holds its lock alone; whoever relies on what is there until an entry names it
    /// holds it with others.
    locks: Vec<Arc<RwLock<()>>>,
    /// When a gateway was told last that rows are here which its entry does not name yet.
    promised: std::sync::Mutex<HashMap<BlobId, u64>>,
    /// Latest time that a quorum has seen, unix seconds, where there is no chain.
    confirmed: AtomicU64,
    arrivals: Arrivals,
    rebuilds: Rebuilds,
    repairs: Rebuilds,
    cache: Arc<Cache>,
    floors: Floors,
    /// How much of each log others had certified when they were asked for the first time since the start.
    compared: std::sync::Mutex<HashMap<Address, u64>>,
    lacking: Lacking,
    scrub: Scrub,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Replica {
    /// Opens the replica whose seat `key` has, with its store in `data_dir`, and starts its tasks.
    ///
    /// # Errors
    /// When the key has no seat in any epoch, or the store cannot be opened.
    pub async fn open(
        settings: Settings,
        data_dir: &Path,
        view: watch::Receiver<Arc<View>>,
        key: SecretKey,
        channels: Channels,
    ) -> anyhow::Result<Arc<Self>> {
        Self::open_with(settings, data_dir, view, key, channels, Clock::system()).await
    }

    /// Like [`Replica::open`], with a clock of one's own.
    ///
    /// # Errors
    /// When the key has no seat in any epoch, or the store cannot be opened.
    pub async fn open_with(
        settings: Settings,
        data_dir: &Path,
        view: watch::Receiver<Arc<View>>,
        key: SecretKey,
        channels: Channels,
        clock: Clock,
    ) -> anyhow::Result<Arc<Self>> {
        let address = key.address();
        let seen = Arc::clone(&view.borrow());
        let seat = latest_seat(&seen.epochs, clock.now(), &address);
        seat.with_context(|| format!("{address} has no seat in any epoch"))?;
        let path = store_path(data_dir);
        let opened = cpu::blocking(move || open_store(&path)).await;
        let (db, accounts, promised) = opened.map_err(|error| {
            let is_damaged = matches!(error, StoreError::Index { .. });
            let advice = "; `da-node scrub --set-aside` moves the store away, and the replica begins anew from the others";
            let context = format!("cannot open the replica's store{}", if is_damaged { advice } else { "" });
            anyhow::Error::new(error).context(context)
        })?;
        db.keep_free(settings.min_free_bytes);
        let cpu = match settings.cpu_threads {
            0 => CpuPool::of_machine()?,
            threads => CpuPool::new(threads)?,
        };
        let replica = Arc::new(Self {
            domain: seen.epochs.latest().committee.domain(),
            view,
            key,
            address,
            started: clock.now(),
            clock,
            channels,
            readers: std::sync::Mutex::default(),
            rows: Rows::new(db.clone()),
            logs: LogStore::new(db.clone()),
            db,
            accounts: Arc::new(accounts),
            cpu,
            upload_memory: MemoryBudget::new("uploads", settings.upload_memory_bytes),
            locks: (0..LOCKS).map(|_| Arc::default()).collect(),
            promised: std::sync::Mutex::new(promised),
            confirmed: AtomicU64::new(0),
            arrivals: Arrivals::default(),
            rebuilds: Rebuilds::new("rebuilds", &settings),
            repairs: Rebuilds::new("repairs", &settings),
            cache: Arc::new(Cache::new(&settings)),
            floors: Floors::default(),
            compared: std::sync::Mutex::default(),
            lacking: Lacking::default(),
            scrub: Scrub::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            settings,
        });
        replica.show_totals();
        replica.watch_gateways(&seen);
        replica.spawn(Arc::clone(&replica).follow_logs());
        replica.spawn(Arc::clone(&replica).follow_entries());
        replica.spawn(Arc::clone(&replica).sweep_for_ever());
        replica.spawn(Arc::clone(&replica).scrub_for_ever());
        replica.spawn(Arc::clone(&replica).repair_for_ever());
        replica.spawn(Arc::clone(&replica).forget_idle_for_ever());
        Ok(replica)
    }

    /// Stops the tasks and waits until nothing is being written.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until a write has failed, so that this program has to start again from what is on disk, and may.
    pub async fn broken(&self) {
        self.db.broken().await;
    }

    /// The logs that this replica cosigned.
    #[must_use]
    pub fn logs(&self) -> &LogStore {
        &self.logs
    }

    /// What this replica holds and does.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn status(self: &Arc<Self>) -> Result<ReplicaStatus, ApiError> {
        let replica = Arc::clone(self);
        let read = move || Ok::<_, ApiError>((replica.logs.checkpoints()?.len(), replica.logs_behind()?));
        let (logs, logs_behind) = cpu::blocking(read).await?;
        let (blobs, row_bytes) = self.accounts.totals();
        let (view, now) = (self.view(), self.clock.now());
        let seat = latest_seat(&view.epochs, now, &self.address);
        let seat = seat.ok_or_else(|| ApiError::internal("the seat is in no epoch any more"))?.seat;
        let open = view.epochs.terms().iter().filter(|term| term.is_open(now));
        let seated = open.map(|term| term.committee.epoch()).filter(|epoch| self.has_seat(*epoch));
        Ok(ReplicaStatus {
            address: self.address,
            region: seat.region,
            seat: seat.number,
            epoch: view.epochs.current(now).committee.epoch(),
            blobs,
            row_bytes,
            max_bytes: self.settings.max_bytes,
            logs: record::wide(logs),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seated_epochs: seated.take(MAX_OPEN_EPOCHS).collect(),
            logs_behind,
            repair_left: self.lacking.left(),
            quarantined: self.quarantined().await.unwrap_or(1),
            scrubbed_at: self.last_pass().await.ended,
            store_failed: self.db.is_poisoned(),
            now_ms: self.clock.now_ms(),
        })
    }

    /// Bytes that uploads in flight, blobs that are being rebuilt and those that were take of their budgets.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        let rebuilding = self.rebuilds.memory_used() + self.repairs.memory_used();
        self.upload_memory.used() + rebuilding + self.cache.memory_used()
    }

    fn address(&self) -> Address {
        self.address
    }

    /// Runs a task until the replica stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Reads from the disk, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Rows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (rows, running) = (self.rows.clone(), self.tasks.token());
        cpu::blocking(move || {
            // A stop waits for whoever has the store open.
            let _running = running;
            let outcome = read(&rows);
            drop(rows);
            outcome
        })
        .await
    }

    fn lock_of(&self, id: &BlobId) -> usize {
        usize::from(id.as_bytes()[0]) % LOCKS
    }

    fn show_totals(&self) {
        let (blobs, bytes) = self.accounts.totals();
        metrics::get().stored_blobs.record(blobs, &[]);
        metrics::get().stored_bytes.record(bytes, &[]);
    }
}

/// Where the store of a replica is.
fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

fn open_db(path: &Path) -> Result<Db, StoreError> {
    Db::open(path, Role::Replica, &[&LogStore::COLUMNS[..], &rows::COLUMNS[..]].concat())
}

/// Opens the store and reads from it what is kept in memory.
fn open_store(path: &Path) -> Result<(Db, Accounts, HashMap<BlobId, u64>), StoreError> {
    let db = match open_db(path) {
        // Others are for people to decide on: after a power cut many replicas may look damaged at once.
        Err(error @ StoreError::Index { .. }) if store::is_condemned(path) => {
            let aside = store::set_aside(path)?;
            tracing::error!(%error, aside = %aside.display(), "beginning anew: what is owed comes from other replicas");
            open_db(path)?
        }
        opened => opened?,
    };
    match read_store(&db) {
        Ok((accounts, promised)) => Ok((db, accounts, promised)),
        // It may be more than this one value.
        Err(error @ StoreError::Damaged { .. }) => Err(db.look_at_index(&|| false).err().unwrap_or(error)),
        Err(error) => Err(error),
    }
}

fn read_store(db: &Db) -> Result<(Accounts, HashMap<BlobId, u64>), StoreError> {
    let rows = Rows::new(db.clone());
    let accounts = Accounts::default();
    let mut promised = HashMap::new();
    rows.each_record(|id, record| {
        accounts.stored(record.row_bytes(), true);
        promised.insert(id, record.stored_at);
    })?;
    for id in promised.keys().copied().collect::<Vec<_>>() {
        if rows.is_named(&id)? {
            promised.remove(&id);
        }
    }
    rows.each_owed(|owed| accounts.charge(&owed))?;
    Ok((accounts, promised))
}
