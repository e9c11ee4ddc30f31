//! Drops rows that nobody is owed: those that no cosigned entry names in time, and those whose last entry has expired
//! for certain (protocol section 7).

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_client::chain::view::View;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::BlobId;
use meridian_proto::convert::EntryRef;

use super::Replica;
use super::rows::Expiry;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability, StoreError};

/// Longest wait for a gateway's checkpoint.
const CALL: Duration = Duration::from_secs(5);

/// Blobs that were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// No entry named them in time.
    pub unsigned: u64,
    /// Their last entry has expired.
    pub expired: u64,
}

impl Replica {
    fn promised(&self) -> MutexGuard<'_, HashMap<BlobId, u64>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway is told that the rows are here: they stay for the time in which its entry may come. The caller has the
    /// blob's lock.
    pub(super) fn promise(&self, id: BlobId) {
        self.promised().insert(id, self.clock.now());
    }

    /// An entry names a blob.
    pub(super) fn note_signed(&self, id: &BlobId) {
        self.promised().remove(id);
    }

    pub(super) async fn sweep_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(self.settings.sweep_seconds)).await;
            if let Err(error) = self.sweep().await {
                tracing::error!(%error, "cannot drop rows that nobody is owed");
            }
            let db = self.db.clone();
            if let Err(error) = cpu::blocking(move || db.tidy()).await {
                tracing::error!(%error, "the space of dropped rows cannot be given back");
            }
        }
    }

    /// Drops every blob that no cosigned entry named within the time set for it, and every one whose last entry has
    /// expired for certain.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(self: &Arc<Self>) -> Result<Dropped, StoreError> {
        let mut dropped = Dropped::default();
        for id in self.overdue() {
            let was = self.alone(id, move |replica| replica.drop_unsigned(&id)).await?;
            dropped.unsigned += u64::from(was);
        }
        let mut at = self.first_expiry(None).await?;
        let mut due = self.due_by_clock();
        if at.as_ref().is_some_and(|expiry| expiry.at <= due) {
            due = self.due().await;
        }
        while let Some(expiry) = at.filter(|expiry| expiry.at <= due) {
            let done = expiry.clone();
            let was = self.alone(expiry.blob, move |replica| replica.drop_expired(&done)).await?;
            dropped.expired += u64::from(was);
            at = self.first_expiry(Some(expiry)).await?;
        }
        metrics::get().dropped_uploads.add(dropped.unsigned, &[]);
        metrics::get().expired_blobs.add(dropped.expired, &[]);
        self.show_totals();
        Ok(dropped)
    }

    /// Entries that expired by then may be gone, if the chain or a quorum confirms the time.
    pub(super) fn due_by_clock(&self) -> u64 {
        self.clock.now().saturating_sub(self.settings.expiry_grace_seconds)
    }

    /// Entries that expired by then may be gone.
    pub(super) async fn due(self: &Arc<Self>) -> u64 {
        let confirmed = self.confirmed_time().await.saturating_sub(self.settings.expiry_grace_seconds);
        self.due_by_clock().min(confirmed)
    }

    async fn first_expiry(&self, after: Option<Expiry>) -> Result<Option<Expiry>, StoreError> {
        self.read(move |rows| rows.next_expiry(after.as_ref())).await
    }

    /// The time that others than this host have seen pass: of the settled block, or without a chain of a checkpoint that
    /// enough regions have cosigned. 0 where there is none.
    async fn confirmed_time(self: &Arc<Self>) -> u64 {
        let view = self.view();
        match view.head {
            Some(head) => head.timestamp,
            None => self.quorum_time(&view).await,
        }
    }

    async fn quorum_time(self: &Arc<Self>, view: &View) -> u64 {
        let open = view.epochs.open(self.clock.now());
        let gateways = open.flat_map(|term| term.committee.gateways().iter().map(|it| (&term.committee, it)));
        let mut asked: FuturesUnordered<_> = gateways
            .map(async |(committee, gateway)| {
                let log = self.channels.log(&gateway.endpoint).ok()?.within(CALL);
                let cosigned = log.checkpoint(gateway.address).await.ok()??;
                let (replica, committee, gateway) =
                    (Arc::clone(self), Arc::clone(committee), gateway.address);
                cpu::blocking(move || replica.certified_time(&cosigned, &committee, gateway)).await
            })
            .collect();
        while let Some(time) = asked.next().await {
            self.confirmed.fetch_max(time.unwrap_or_default(), Ordering::Relaxed);
        }
        self.confirmed.load(Ordering::Relaxed)
    }

    /// The time of a checkpoint of a gateway that enough regions have cosigned.
    fn certified_time(
        &self,
        cosigned: &CosignedCheckpoint,
        committee: &Committee,
        gateway: Address,
    ) -> Option<u64> {
        let checkpoint = &cosigned.signed.checkpoint;
        if (checkpoint.gateway, checkpoint.epoch) != (gateway, committee.epoch()) {
            return None;
        }
        cosigned.signed.verify(&self.domain).ok()?;
        let signers = cosigned.signers(&self.domain).ok()?;
        let is_certified = committee.complete_regions(&signers).len() >= committee.min_copies();
        is_certified.then_some(checkpoint.timestamp)
    }

    fn overdue(&self) -> Vec<BlobId> {
        let promised = self.promised();
        promised.iter().filter(|(_, since)| self.is_overdue(**since)).map(|(id, _)| *id).collect()
    }

    fn is_overdue(&self, since: u64) -> bool {
        since.saturating_add(self.settings.unsigned_seconds) <= self.clock.now()
    }

    /// Does something with a blob's lock alone. What is damaged is passed over: it must not keep the rest from going.
    async fn alone(
        self: &Arc<Self>,
        id: BlobId,
        work: impl FnOnce(&Self) -> Result<bool, StoreError> + Send + 'static,
    ) -> Result<bool, StoreError> {
        let lock = Arc::clone(&self.locks[self.lock_of(&id)]).write_owned().await;
        let replica = Arc::clone(self);
        let outcome = cpu::blocking(move || {
            let _lock = lock;
            work(&replica)
        });
        match outcome.await {
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(blob = %id, %error, "cannot drop a blob");
                Ok(false)
            }
            outcome => outcome,
        }
    }

    /// Drops a blob if no entry names it by now. The caller has the blob's lock alone.
    fn drop_unsigned(&self, id: &BlobId) -> Result<bool, StoreError> {
        if !self.promised().get(id).is_some_and(|since| self.is_overdue(*since)) {
            return Ok(false);
        }
        let is_named = self.rows.is_named(id)?;
        let was = !is_named && self.delete(id, Batch::new(), None)?;
        self.note_signed(id);
        Ok(was)
    }

    /// Forgets an entry that has expired, and drops its blob if no other names it. The caller has the blob's lock alone.
    fn drop_expired(&self, expiry: &Expiry) -> Result<bool, StoreError> {
        let id = &expiry.blob;
        // Before the start others may have been promised.
        let since = self.promised().get(id).copied().unwrap_or(self.started);
        if !self.is_overdue(since) {
            return Ok(false);
        }
        let named = self.rows.expiring(expiry)?;
        let mut batch = Batch::new();
        self.rows.delete_entry(&mut batch, expiry, named.as_ref());
        if self.rows.is_named_otherwise(expiry)? {
            self.db.commit(batch, Durability::Synced)?;
            return Ok(false);
        }
        let was = self.delete(id, batch, named.as_ref())?;
        self.note_signed(id);
        Ok(was)
    }

    /// Deletes what there is of a blob beside its entries, the last of which may have expired.
    fn delete(&self, id: &BlobId, mut batch: Batch, last: Option<&EntryRef>) -> Result<bool, StoreError> {
        let record = self.rows.record(id)?;
        if let Some(record) = &record {
            self.rows.delete(&mut batch, id, record);
            if let Some(last) = last {
                self.rows.put_expired(&mut batch, &last.entry)?;
            }
        }
        let view = self.view();
        let gateways = view.epochs.terms().iter().flat_map(|term| term.committee.gateways());
        for gateway in gateways.map(|it| it.address).chain(last.map(|last| last.gateway)) {
            self.rows.delete_owed(&mut batch, &gateway, id);
        }
        self.db.commit(batch, Durability::Synced)?;
        self.cache.forget(id);
        let Some(record) = record else { return Ok(false) };
        self.accounts.deleted(id, record.row_bytes());
        Ok(true)
    }
}
