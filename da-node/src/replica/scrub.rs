//! Checks all that is on disk again and again, and takes away what is damaged; `mend` has it repaired from other replicas.
//!
//! A pass goes through the blobs in the order of their ids, no faster than it may, and goes on after a restart where it
//! was. What readers come across is looked at before the rest. A damaged value is deleted and noted in one synced batch,
//! and noted until the right one is in its place: nothing that was found wrong is read again.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::ids::BlobId;
use tokio::sync::Notify;

use super::Replica;
use super::epochs::Standing;
use super::record::{Record, wide};
use super::rows::{Part, Pass, Rows};
use crate::clock::Clock;
use crate::cpu;
use crate::metrics::{self, KeyValue};
use crate::store::{self, Batch, Durability, StoreError};

/// Seconds by which passes that are asked for one after the other may begin ahead of the clock; a pass that is farther ahead
/// is of a time before the clock was set back.
const AHEAD: u64 = 60;

/// Time between two looks at what is quarantined, and at whether a pass is due.
pub(super) const TICK: Duration = Duration::from_secs(10);
/// Blobs that readers found damaged and that wait to be looked at; what is beyond is found by the next pass.
const SUSPECTS: usize = 4096;
/// Quarantined values that are counted for people.
const MOST_COUNTED: usize = 4096;

/// What a check of a whole store has seen.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Blobs that were checked.
    pub blobs: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

/// A damaged value.
#[derive(Clone, Debug)]
pub struct Damage {
    /// Its blob.
    pub blob: BlobId,
    /// What it is: `record`, `rlc`, `leaves` or `rows`.
    pub part: &'static str,
    /// First row that it is of.
    pub first_row: Option<u32>,
}

/// Checks the store of a replica that does not run, and notes what is damaged, which is repaired after the next start.
/// `progress` is told of each blob, and of how many there are.
///
/// # Errors
/// When the store cannot be opened, or is damaged otherwise than in the values of a blob.
pub fn check_store(data_dir: &Path, progress: &mut dyn FnMut(&Checked, u64)) -> Result<Checked, StoreError> {
    let path = super::store_path(data_dir);
    if !store::exists(&path) {
        return Err(StoreError::Missing { path });
    }
    let db = super::open_db(&path)?;
    db.look_at_index(&|| false)?;
    let rows = Rows::new(db.clone());
    let (mut all, mut last) = (0, None);
    while let Some(id) = rows.next_blob(last.as_ref())? {
        (all, last) = (all + 1, Some(id));
    }
    let (mut checked, mut last) = (Checked::default(), None);
    while let Some(id) = rows.next_blob(last.as_ref())? {
        let mut pace = |bytes| {
            checked.bytes += wide(bytes);
            ControlFlow::Continue(())
        };
        let parts = rows.check(&id, &mut pace)?.unwrap_or_default();
        let record = rows.record(&id).ok().flatten();
        let mut batch = Batch::new();
        if parts.contains(&Part::Record) {
            rows.delete_unread(&mut batch, &id)?;
        }
        for part in parts {
            rows.quarantine(&mut batch, &id, part, Clock::system().now());
            let first_row = record.as_ref().and_then(|record| Rows::first_row(record, part));
            checked.damaged.push(Damage { blob: id, part: part.name(), first_row });
        }
        if !batch.is_empty() {
            db.commit(batch, Durability::Synced)?;
        }
        checked.blobs += 1;
        last = Some(id);
        progress(&checked, all);
    }
    Ok(checked)
}

/// Moves a damaged store of a replica that does not run into a folder beside it, and says where.
///
/// # Errors
/// When it can be opened, or cannot for another reason; when an earlier one is still there.
pub fn set_store_aside(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let path = super::store_path(data_dir);
    anyhow::ensure!(store::exists(&path), StoreError::Missing { path });
    match super::open_db(&path).and_then(|db| db.look_at_index(&|| false)) {
        Ok(()) => anyhow::bail!("the index of the store at {} is not damaged", path.display()),
        Err(StoreError::Index { .. }) => Ok(store::set_aside(&path)?),
        Err(error) => Err(error.into()),
    }
}

/// What the scrub is told and tells.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    suspects: Mutex<Suspects>,
    /// There is a suspect.
    woken: Notify,
    /// Something was quarantined.
    pub(super) found: Notify,
    /// Somebody wants a pass, whether one is due or not.
    asked: AtomicBool,
    /// Somebody wants everything repaired, whether it was tried lately or not.
    pub(super) hurries: AtomicBool,
}

/// Blobs to look at, in the order in which they were named.
#[derive(Debug, Default)]
struct Suspects {
    all: HashSet<BlobId>,
    order: VecDeque<BlobId>,
}

impl Suspects {
    fn insert(&mut self, id: BlobId) {
        if self.all.len() < SUSPECTS && self.all.insert(id) {
            self.order.push_back(id);
        }
    }

    fn first(&self) -> Option<BlobId> {
        self.order.front().copied()
    }

    fn remove(&mut self, id: &BlobId) {
        if self.all.remove(id) {
            self.order.retain(|other| other != id);
        }
    }

    fn contains(&self, id: &BlobId) -> bool {
        self.all.contains(id)
    }
}

impl Scrub {
    fn suspects(&self) -> MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica {
    /// Something of a blob could not be read rightly: it is checked soon. What is known to be damaged of it is looked at by
    /// who repairs it.
    pub(super) fn suspect(&self, id: BlobId) {
        if self.rows.is_whole(&id).unwrap_or(true) {
            self.scrub.suspects().insert(id);
            self.scrub.woken.notify_one();
        }
    }

    pub(super) async fn scrub_for_ever(self: Arc<Self>) {
        loop {
            let went_on = match self.scrub_next().await {
                Ok(went_on) => went_on,
                Err(error) => {
                    tracing::error!(%error, "the scrub cannot go on");
                    false
                }
            };
            if !went_on {
                tokio::select! {
                    () = tokio::time::sleep(self.tick()) => {}
                    () = self.scrub.woken.notified() => {}
                }
            }
        }
    }

    /// Has a pass begin now, or after the one that goes on. Says whether one does.
    pub async fn scrub_now(&self) -> bool {
        self.scrub.asked.store(true, Ordering::Relaxed);
        self.scrub.woken.notify_one();
        let pass = self.last_pass().await;
        pass.began > pass.ended
    }

    /// Has everything tried at once that is damaged or missing.
    pub fn repair_now(&self) {
        self.scrub.hurries.store(true, Ordering::Relaxed);
        self.scrub.found.notify_one();
        self.lacking.hurry();
    }

    pub(super) fn tick(&self) -> Duration {
        TICK.min(Duration::from_secs(self.settings.scrub_period_seconds))
    }

    /// Checks a suspect, and the next blob of a pass. Says whether a pass goes on.
    pub(super) async fn scrub_next(self: &Arc<Self>) -> Result<bool, StoreError> {
        // While the index may be damaged nothing else that is read from it says much.
        if self.db.is_doubted() {
            self.check_index().await?;
        }
        let suspect = self.scrub.suspects().first();
        if let Some(id) = suspect {
            let checked = self.scrub_blob(id).await;
            self.scrub.suspects().remove(&id);
            if let Err(error) = checked {
                tracing::error!(blob = %id, %error, "a blob cannot be checked");
            }
        }
        let mut pass = self.last_pass().await;
        let now = self.clock.now();
        let is_over = pass.began <= pass.ended;
        let is_due = pass.began == 0
            || pass.began > now.saturating_add(AHEAD)
            || now >= pass.began.saturating_add(self.settings.scrub_period_seconds);
        if is_over {
            let is_wanted = is_due || self.scrub.asked.load(Ordering::Relaxed);
            // On a full disk it could not note how far it is.
            if !is_wanted || self.db.check_room(0).is_err() {
                return Ok(suspect.is_some());
            }
            self.scrub.asked.store(false, Ordering::Relaxed);
            self.check_index().await?;
            pass = Pass { began: now.max(pass.ended.saturating_add(1)), done: None, ..pass };
        }
        let last = pass.done;
        match self.read(move |rows| rows.next_blob(last.as_ref())).await? {
            Some(id) => {
                if let Err(error) = self.scrub_blob(id).await {
                    tracing::error!(blob = %id, %error, "a blob cannot be checked");
                }
                pass.done = Some(id);
            }
            None => {
                pass.ended = now.max(pass.began);
                metrics::get().scrubbed_at.record(pass.ended, &[]);
                tracing::info!(began = pass.began, "everything on disk was checked");
            }
        }
        let goes_on = pass.ended < pass.began;
        self.read(move |rows| rows.put_pass(&pass)).await?;
        Ok(goes_on)
    }

    async fn check_index(self: &Arc<Self>) -> Result<(), StoreError> {
        let replica = Arc::clone(self);
        self.to_its_end(move || replica.db.check_files(&|| replica.stop.is_cancelled())).await
    }

    /// How far the scrub is. Where that cannot be read it begins again.
    pub(super) async fn last_pass(&self) -> Pass {
        self.read(|rows| rows.pass()).await.unwrap_or_else(|error| {
            tracing::error!(%error, "how far the scrub was cannot be read");
            Pass::default()
        })
    }

    /// Checks a blob, and takes away what is damaged.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn scrub_blob(self: &Arc<Self>, id: BlobId) -> Result<(), StoreError> {
        let replica = Arc::clone(self);
        let found = self.to_its_end(move || {
            let mut pace = |bytes| replica.pace(bytes);
            replica.rows.check(&id, &mut pace)
        });
        match found.await {
            Ok(Some(damaged)) if !damaged.is_empty() => {}
            Ok(_) | Err(StoreError::Dropped) => return Ok(()),
            Err(error) => return Err(error),
        }
        let lock = Arc::clone(&self.locks[self.lock_of(&id)]).write_owned().await;
        let replica = Arc::clone(self);
        let set_aside = self.to_its_end(move || {
            let _lock = lock;
            replica.set_aside_now(&id)
        });
        set_aside.await?;
        self.scrub.found.notify_one();
        Ok(())
    }

    /// Does something long on a thread of its own, for whose end a stop of the replica waits.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let running = self.tasks.token();
        cpu::blocking(move || {
            let _running = running;
            work()
        })
        .await
    }

    /// Waits as long as so many bytes may take. The thread is one of its own.
    fn pace(&self, bytes: usize) -> ControlFlow<()> {
        metrics::get().scrubbed_bytes.add(wide(bytes), &[]);
        let micros = wide(bytes).saturating_mul(1_000_000) / self.settings.scrub_bytes_per_second;
        std::thread::sleep(Duration::from_micros(micros));
        if self.stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Whether all is on disk, and none of it known or suspected to be damaged, that a seat has to hold of a blob.
    pub(super) fn holds(
        &self,
        standing: &Standing,
        id: &BlobId,
        record: &Record,
    ) -> Result<bool, StoreError> {
        Ok(standing.holds(id, record) && self.is_sound(id)?)
    }

    /// Whether nothing of a blob is known or suspected to be damaged.
    pub(super) fn is_sound(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(!self.scrub.suspects().contains(id) && self.rows.is_whole(id)?)
    }

    /// Takes away what is damaged of a blob, for all to see. The caller has the blob's lock alone: what was only being
    /// written, or could not be read once, is looked at again before it goes.
    fn set_aside_now(&self, id: &BlobId) -> Result<(), StoreError> {
        let known = self.rows.quarantined_of(id)?;
        let damaged = self.rows.check(id, &mut |_| ControlFlow::Continue(()))?.unwrap_or_default();
        let damaged: Vec<Part> = damaged.into_iter().filter(|part| !known.contains(part)).collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let record = self.rows.record(id).ok().flatten();
        let mut lost = None;
        if damaged.contains(&Part::Record) {
            let bytes = self.rows.delete_unread(&mut batch, id)?;
            lost = Some(record.as_ref().map_or(bytes, |record| record.row_bytes()));
        }
        let now = self.clock.now();
        for part in &damaged {
            self.rows.quarantine(&mut batch, id, *part, now);
            metrics::get().scrub_findings.add(1, &[KeyValue::new("part", part.name())]);
            let row = record.as_ref().and_then(|record| Rows::first_row(record, *part));
            tracing::error!(blob = %id, part = part.name(), first_row = row, "stored data is damaged");
        }
        self.db.commit(batch, Durability::Synced)?;
        if let Some(bytes) = lost {
            self.accounts.lost(bytes);
        }
        Ok(())
    }

    /// Values that are quarantined, at most [`MOST_COUNTED`].
    pub(super) async fn quarantined(&self) -> Result<u64, StoreError> {
        Ok(wide(self.read(|rows| rows.quarantined(MOST_COUNTED)).await?))
    }
}
