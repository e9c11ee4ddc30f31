//! Has what the scrub took away brought back from other replicas.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::ids::BlobId;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use super::Replica;
use super::epochs::{Standing, owed};
use super::rebuild::Whole;
use super::record::{Record, wide};
use super::rows::{self, Part, Rows};
use super::scrub::TICK;
use crate::cpu;
use crate::metrics;
use crate::store::{Batch, Durability};

/// Longest time between two tries to repair a blob.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Damaged pieces of a blob up to which each is asked of who holds just it.
const EXACT: usize = 8;

impl Replica {
    /// Has what is quarantined repaired, each blob ever less often while it fails.
    pub(super) async fn repair_for_ever(self: Arc<Self>) {
        let mut waits: HashMap<BlobId, (Instant, Duration)> = HashMap::new();
        loop {
            if self.scrub.hurries.swap(false, Ordering::Relaxed) {
                waits.clear();
            }
            let mut last = None;
            let mut seen = HashSet::new();
            loop {
                let after = last;
                let next = self.read(move |rows| rows.next_quarantined(after.as_ref())).await;
                let id = match next {
                    Ok(Some(id)) => id,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "the quarantine cannot be read");
                        break;
                    }
                };
                last = Some(id);
                seen.insert(id);
                if waits.get(&id).is_some_and(|(again, _)| *again > Instant::now()) {
                    continue;
                }
                if !self.repair_blob(id).await {
                    let wait = waits.get(&id).map_or(TICK, |(_, wait)| wait.saturating_mul(2));
                    let wait = wait.min(LONGEST_WAIT);
                    waits.insert(id, (Instant::now() + wait, wait));
                }
            }
            waits.retain(|id, _| seen.contains(id));
            if let Ok(left) = self.quarantined().await {
                metrics::get().quarantined.record(left, &[]);
            }
            tokio::select! {
                () = tokio::time::sleep(self.tick()) => {}
                () = self.scrub.found.notified() => {}
            }
        }
    }

    /// Tries to repair what is quarantined of a blob. Says whether nothing is left.
    pub(super) async fn repair_blob(self: &Arc<Self>, id: BlobId) -> bool {
        let outcome = async {
            let parts = self.read(move |rows| rows.quarantined_of(&id)).await?;
            let count = wide(parts.len());
            self.db.check_room(1)?;
            self.put_parts_back(id, parts).await?;
            Ok::<_, ApiError>(count)
        };
        match outcome.await {
            Ok(count) => {
                metrics::get().scrub_repairs.add(count, &[]);
                tracing::info!(blob = %id, values = count, "damaged data is repaired");
                true
            }
            Err(error) => {
                tracing::warn!(blob = %id, %error, "damaged data cannot be repaired yet");
                false
            }
        }
    }

    async fn put_parts_back(self: &Arc<Self>, id: BlobId, parts: Vec<Part>) -> Result<(), ApiError> {
        if parts.contains(&Part::Record) {
            return self.put_blob_back(id, parts).await;
        }
        match self.read(move |rows| rows.record(&id)).await? {
            Some(record) => self.make_whole(id, record, parts).await,
            // It was dropped.
            None => self.release(id, &parts).await,
        }
    }

    /// Puts damaged parts of a blob with a record in their places again.
    pub(super) async fn make_whole(
        self: &Arc<Self>,
        id: BlobId,
        record: Record,
        parts: Vec<Part>,
    ) -> Result<(), ApiError> {
        if let Some(values) = self.exact(id, &record, &parts).await {
            return self.put_values(id, record, values).await;
        }
        let whole = self.whole_to_repair(id, None).await?;
        let Whole::Blob { .. } = &*whole else {
            let text = "the blob is inconsistent, and its rows cannot be made again";
            return Err(ApiError::new(Reason::BlobInconsistent, text));
        };
        let wanted = record.clone();
        let values = self
            .cpu
            .run(move || {
                let Whole::Blob { blob, .. } = &*whole else { return Vec::new() };
                let value = |part: &Part| {
                    let bytes = match *part {
                        Part::Record => return None,
                        Part::Rlc => blob.rlc().to_bytes().into(),
                        Part::Leaves(place) => blob.leaves(wanted.ranges.get(place)?.range).concat().into(),
                        Part::Rows(place, piece) => {
                            let range = Rows::piece_range(&wanted, wanted.ranges.get(place)?, piece)?;
                            // A copy: the piece must not keep the whole blob in memory.
                            Bytes::copy_from_slice(&blob.rows(range))
                        }
                    };
                    Some((*part, bytes))
                };
                parts.iter().filter_map(value).collect::<Vec<_>>()
            })
            .await;
        self.put_values(id, record, values).await
    }

    /// The rows of damaged pieces, each from another replica that holds just them. Nothing where something else is damaged
    /// or nobody holds them: then the blob has to be decoded.
    async fn exact(&self, id: BlobId, record: &Record, parts: &[Part]) -> Option<Vec<(Part, Bytes)>> {
        if parts.len() > EXACT {
            return None;
        }
        let mut ranges = Vec::new();
        for part in parts {
            let Part::Rows(place, piece) = *part else { return None };
            ranges.push((*part, Rows::piece_range(record, record.ranges.get(place)?, piece)?));
        }
        let header = record.header;
        let context = self.read(move |rows| rows::context(rows, id, header)).await.ok()?;
        let context: Arc<BlobContext> = Arc::new(context);
        let readers = self.readers_of(id, None).await.ok()?;
        let mut values = Vec::new();
        for (part, range) in ranges {
            let mut rows = None;
            for reader in &readers {
                let (found, faults) = reader.held_range(&context, range).await;
                super::rebuild::count_faults(&faults);
                rows = found;
                if rows.is_some() {
                    break;
                }
            }
            values.push((part, rows?.rows().clone()));
        }
        Some(values)
    }

    /// Writes values in the place of damaged ones, if the record is still the same.
    async fn put_values(
        self: &Arc<Self>,
        id: BlobId,
        before: Record,
        values: Vec<(Part, Bytes)>,
    ) -> Result<(), ApiError> {
        let lock = Arc::clone(&self.locks[self.lock_of(&id)]).write_owned().await;
        let replica = Arc::clone(self);
        cpu::blocking(move || {
            let _lock = lock;
            let mut batch = Batch::new();
            match replica.rows.record(&id)? {
                Some(record)
                    if record.header == before.header && record.ranges.starts_with(&before.ranges) =>
                {
                    for (part, value) in values {
                        replica.rows.put_part(&mut batch, &id, part, value);
                    }
                }
                // It was dropped, or dropped and written again: what was quarantined is of the past.
                _ => {
                    let parts: Vec<Part> = values.iter().map(|(part, _)| *part).collect();
                    replica.rows.release(&mut batch, &id, &parts);
                }
            }
            replica.db.commit(batch, Durability::Synced)?;
            Ok(())
        })
        .await
    }

    /// Brings everything of a blob here again that a seat of this replica owes by its entries.
    async fn put_blob_back(self: &Arc<Self>, id: BlobId, parts: Vec<Part>) -> Result<(), ApiError> {
        // Until an entry is dropped for certain its rows are owed, whatever the clock says.
        let entries = self.read(move |rows| rows.entries(&id, usize::MAX)).await?;
        let names = |seat: &Standing| entries.iter().any(|named| named.entry.epoch == seat.epoch());
        let seats = owed(&self.view().epochs, self.clock.now(), &self.address());
        for seat in seats.iter().filter(|seat| names(seat)) {
            self.repair(id, seat).await?;
        }
        self.release(id, &parts).await
    }

    async fn release(&self, id: BlobId, parts: &[Part]) -> Result<(), ApiError> {
        let mut batch = Batch::new();
        self.rows.release(&mut batch, &id, parts);
        Ok(self.db.commit_async(batch, Durability::Synced).await?)
    }
}
