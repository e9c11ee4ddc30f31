//! Drops rows that no cosigned entry names in time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::Address;
use meridian_proofs::ids::BlobId;

use super::Replica;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability, StoreError};

/// How often they are looked for.
const LOOK: Duration = Duration::from_secs(60);

impl Replica {
    fn unsigned(&self) -> MutexGuard<'_, HashMap<BlobId, u64>> {
        self.unsigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A blob came that no entry names yet.
    pub(super) fn note_unsigned(&self, id: BlobId, now: u64) {
        self.unsigned().insert(id, now);
    }

    /// An entry names a blob.
    pub(super) fn note_signed(&self, id: &BlobId) {
        self.unsigned().remove(id);
    }

    /// A gateway was told that the rows are here: its time begins again.
    pub(super) fn renew_unsigned(&self, id: &BlobId) {
        if let Some(since) = self.unsigned().get_mut(id) {
            *since = self.clock.now();
        }
    }

    pub(super) async fn drop_unsigned_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.drop_unsigned().await {
                tracing::error!(%error, "cannot drop uploads that no entry names");
            }
        }
    }

    /// Drops every blob that no cosigned entry named within the time set for it. Gives their number.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drop_unsigned(self: &Arc<Self>) -> Result<u64, StoreError> {
        let mut dropped = 0;
        for id in self.overdue() {
            let lock = Arc::clone(&self.locks[self.lock_of(&id)]).write_owned().await;
            let replica = Arc::clone(self);
            let was = cpu::blocking(move || {
                let _lock = lock;
                replica.drop_now(&id)
            });
            dropped += u64::from(was.await?);
        }
        metrics::get().dropped_uploads.add(dropped, &[]);
        self.show_totals();
        Ok(dropped)
    }

    fn overdue(&self) -> Vec<BlobId> {
        let now = self.clock.now();
        let late = |since: &u64| since.saturating_add(self.settings.unsigned_seconds) <= now;
        self.unsigned().iter().filter(|(_, since)| late(since)).map(|(id, _)| *id).collect()
    }

    /// Drops a blob if no entry names it by now. The caller has the blob's lock alone.
    fn drop_now(&self, id: &BlobId) -> Result<bool, StoreError> {
        let Some(record) = self.rows.record(id)?.filter(|_| self.overdue().contains(id)) else {
            return Ok(false);
        };
        if self.rows.is_named(id)? {
            self.note_signed(id);
            return Ok(false);
        }
        let mut batch = Batch::new();
        self.rows.delete(&mut batch, id, &record);
        let gateways: BTreeSet<Address> = self
            .view()
            .epochs
            .terms()
            .iter()
            .flat_map(|term| term.committee.gateways())
            .map(|g| g.address)
            .collect();
        for gateway in gateways {
            self.rows.delete_owed(&mut batch, &gateway, id);
        }
        self.db.commit(batch, Durability::Synced)?;
        self.accounts.deleted(id, record.row_bytes());
        self.note_signed(id);
        Ok(true)
    }
}
