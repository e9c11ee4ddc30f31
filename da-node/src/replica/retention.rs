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

use super::Replica;
use super::rows::Expiry;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability, StoreError};

/// Longest wait for a gateway's checkpoint.
const CALL: Duration = Duration::from_secs(5);
/// Least bytes that are dropped before the disk's space is taken back; an eighth of what is held where that is more.
const COMPACT_BYTES: u64 = 64 << 20;

/// Blobs that were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// No entry named them in time.
    pub unsigned: u64,
    /// Their last entry has expired.
    pub expired: u64,
}

/// Why a blob is dropped.
enum Why {
    Unsigned,
    Expired,
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
            self.drop_if_done(Expiry { at: 0, blob: id }, 0, &mut dropped).await?;
        }
        let mut start = None;
        let mut due = self.due_by_clock();
        if self.first_expiry(start, due).await?.is_some() {
            due = due.min(self.confirmed_time().await.saturating_sub(self.settings.expiry_grace_seconds));
        }
        while let Some(expiry) = self.first_expiry(start, due).await? {
            start = Some(expiry);
            self.drop_if_done(expiry, due, &mut dropped).await?;
        }
        metrics::get().dropped_uploads.add(dropped.unsigned, &[]);
        metrics::get().expired_blobs.add(dropped.expired, &[]);
        self.show_totals();
        self.take_space_back().await?;
        Ok(dropped)
    }

    /// Entries that expired by then may be gone, if the chain or a quorum confirms the time.
    fn due_by_clock(&self) -> u64 {
        self.clock.now().saturating_sub(self.settings.expiry_grace_seconds)
    }

    async fn first_expiry(&self, after: Option<Expiry>, due: u64) -> Result<Option<Expiry>, StoreError> {
        let found = self.read(move |rows| rows.next_expiry(after)).await?;
        Ok(found.filter(|expiry| expiry.at <= due))
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

    async fn drop_if_done(
        self: &Arc<Self>,
        expiry: Expiry,
        due: u64,
        dropped: &mut Dropped,
    ) -> Result<(), StoreError> {
        let lock = Arc::clone(&self.locks[self.lock_of(&expiry.blob)]).write_owned().await;
        let replica = Arc::clone(self);
        let why = cpu::blocking(move || {
            let _lock = lock;
            replica.drop_now(&expiry, due)
        });
        match why.await? {
            Some(Why::Unsigned) => dropped.unsigned += 1,
            Some(Why::Expired) => dropped.expired += 1,
            None => {}
        }
        Ok(())
    }

    /// Drops a blob if nobody is owed it by now. The caller has the blob's lock alone.
    fn drop_now(&self, expiry: &Expiry, due: u64) -> Result<Option<Why>, StoreError> {
        let id = &expiry.blob;
        let since = self.promised().get(id).copied();
        if since.is_some_and(|since| !self.is_overdue(since)) {
            return Ok(None);
        }
        let entries = self.rows.entries(id, usize::MAX)?;
        let latest = entries.iter().map(|named| named.entry.expiry).max();
        if latest.is_some_and(|latest| latest > due) {
            self.note_signed(id);
            // It need not be looked at again and again until the later one expires. If this is lost it is.
            let mut batch = Batch::new();
            self.rows.delete_expiry(&mut batch, expiry);
            self.db.commit(batch, Durability::Relaxed)?;
            return Ok(None);
        }
        let record = self.rows.record(id)?;
        let mut batch = Batch::new();
        if let Some(record) = &record {
            self.rows.delete(&mut batch, id, record);
        }
        for named in &entries {
            self.rows.delete_entry(&mut batch, named);
        }
        if let Some(latest) = latest {
            self.rows.put_expired(&mut batch, id, &entries, latest);
        }
        self.rows.delete_expiry(&mut batch, expiry);
        let view = self.view();
        let gateways = view.epochs.terms().iter().flat_map(|term| term.committee.gateways());
        let gateways = gateways.map(|it| it.address).chain(entries.iter().map(|named| named.gateway));
        for gateway in gateways {
            self.rows.delete_owed(&mut batch, &gateway, id);
        }
        self.db.commit(batch, Durability::Synced)?;
        self.note_signed(id);
        let Some(record) = record else { return Ok(None) };
        self.accounts.deleted(id, record.row_bytes());
        self.garbage.fetch_add(record.row_bytes(), Ordering::Relaxed);
        Ok(Some(if latest.is_some() { Why::Expired } else { Why::Unsigned }))
    }

    /// Gives the space of dropped rows back to the disk when it is worth the work.
    async fn take_space_back(&self) -> Result<(), StoreError> {
        let (_, stored) = self.accounts.totals();
        if self.garbage.load(Ordering::Relaxed) < COMPACT_BYTES.max(stored / 8) {
            return Ok(());
        }
        self.garbage.store(0, Ordering::Relaxed);
        self.read(|rows| rows.compact()).await
    }
}
