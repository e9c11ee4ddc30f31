//! Puts verified rows on disk: all that belongs to a blob in one synced batch.

use std::sync::Arc;

use fail::fail_point;
use meridian_proofs::Address;
use meridian_proofs::committee::GatewayMember;
use meridian_proofs::ids::BlobId;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proto::error::{ApiError, Reason};

use super::Replica;
use super::accounts::{NoRoom, Room};
use super::record::Record;
use super::rows::Owed;
use crate::cpu;
use crate::store::{Batch, Durability};

/// What the rows are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The rows of a seat.
    Share,
    /// K rows that re-encode to another row root.
    Inconsistent,
}

/// Who has to have room for the rows until an entry names them, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Debtor {
    pub(super) gateway: Address,
    pub(super) until: u64,
}

impl Replica {
    /// Keeps room on disk free for `bytes` of rows; for an upload within the quota of its gateway.
    pub(super) fn reserve(&self, bytes: u64, upload: Option<&GatewayMember>) -> Result<Room, ApiError> {
        let quota = upload.map(|gateway| (gateway.address, gateway.max_bytes));
        let (limit, now) = (self.settings.max_bytes, self.clock.now());
        self.db.check_room(bytes)?;
        self.accounts.reserve(bytes, limit, quota, now).map_err(|why| match why {
            NoRoom::Storage => ApiError::new(Reason::StorageFull, "the replica's storage limit is reached")
                .with("limit_bytes", limit)
                .retry_after(super::ingest::FULL_WAIT),
            NoRoom::Quota => over_quota(),
        })
    }

    /// Charges a gateway with rows that are here already, until an entry names them: what does not fit its quota must
    /// not come into its log, because no checkpoint over it would be cosigned.
    pub(super) fn charge_held(
        &self,
        gateway: &GatewayMember,
        blob: BlobId,
        record: &Record,
    ) -> Result<(), ApiError> {
        let now = self.clock.now();
        let until = now.saturating_add(self.settings.unsigned_seconds);
        let owed = Owed { gateway: gateway.address, blob, until, bytes: record.row_bytes() };
        if self.accounts.charge_if_fits(&owed, gateway.max_bytes, now) { Ok(()) } else { Err(over_quota()) }
    }

    /// Writes verified rows, unless the disk has what it needs of the blob. Says whether anything was written.
    ///
    /// Goes on to its end when the caller goes away. The reserved room is used or given back.
    pub(super) async fn keep(
        self: &Arc<Self>,
        context: Arc<BlobContext>,
        ranges: Vec<VerifiedRange>,
        kind: Kind,
        debtor: Option<Debtor>,
        room: Room,
    ) -> Result<bool, ApiError> {
        let id = context.id();
        let lock = Arc::clone(&self.locks[self.lock_of(&id)]).write_owned().await;
        let replica = Arc::clone(self);
        cpu::blocking(move || {
            let _lock = lock;
            let _room = room;
            replica.keep_now(&context, ranges, kind, debtor)
        })
        .await
    }

    /// The part of [`Replica::keep`] that has the blob's lock.
    fn keep_now(
        &self,
        context: &BlobContext,
        mut ranges: Vec<VerifiedRange>,
        kind: Kind,
        debtor: Option<Debtor>,
    ) -> Result<bool, ApiError> {
        let (id, now) = (context.id(), self.clock.now());
        let mut old = self.rows.record(&id)?;
        let is_whole = self.is_sound(&id)?;
        let enough = old.as_ref().is_some_and(|record| match kind {
            Kind::Share => {
                record.inconsistent || ranges.iter().all(|range| record.find(&range.range()).is_some())
            }
            Kind::Inconsistent => record.inconsistent,
        });
        if enough && is_whole {
            self.promise(id);
            return Ok(false);
        }
        let (old_bytes, is_new) = (old.as_ref().map_or(0, |record| record.row_bytes()), old.is_none());
        let mut batch = Batch::new();
        match &old {
            // These rows show it as well as those that are damaged.
            Some(record) if kind == Kind::Inconsistent && !is_whole => {
                self.rows.delete(&mut batch, &id, record);
                self.rows.release(&mut batch, &id, &self.rows.quarantined_of(&id)?);
                old = None;
            }
            Some(record) => {
                self.rows.put_again(&mut batch, context, record, &ranges)?;
                ranges.retain(|verified| record.find(&verified.range()).is_none());
            }
            // Of what was here before.
            None => self.rows.release(&mut batch, &id, &self.rows.quarantined_of(&id)?),
        }
        let mut record = self.rows.put(&mut batch, context, old, &ranges, now);
        if kind == Kind::Inconsistent {
            record.inconsistent = true;
            self.rows.put_record(&mut batch, &id, &record);
        }
        let owed = debtor.and_then(|Debtor { gateway, until }| {
            let bytes = record.row_bytes();
            let until = match self.accounts.charged(&gateway, &id) {
                // Rows of another epoch's placement are here: these come to them.
                Some((before, charged)) if charged < bytes => before.max(until),
                Some(_) => return None,
                None => until,
            };
            Some(Owed { gateway, blob: id, until, bytes })
        });
        if let Some(owed) = &owed {
            self.rows.put_owed(&mut batch, owed);
        }
        self.db.commit(batch, Durability::Synced)?;
        fail_point!("rows-kept");
        self.accounts.replaced(old_bytes, record.row_bytes(), is_new);
        if let Some(owed) = &owed {
            self.accounts.charge(owed);
        }
        self.promise(id);
        self.show_totals();
        if !self.is_sound(&id)? {
            let text = "other rows of the blob are damaged here and being repaired";
            return Err(ApiError::new(Reason::RowsMissing, text).retry_after(super::ingest::FULL_WAIT));
        }
        Ok(true)
    }
}

fn over_quota() -> ApiError {
    let text = "the gateway's unexpired rows take its whole quota of bytes";
    ApiError::new(Reason::QuotaExceeded, text).retry_after(super::ingest::FULL_WAIT)
}
