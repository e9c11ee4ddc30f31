//! Cosigns checkpoints, by the rules of protocol section 5.4 and no others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use futures::stream::{self, StreamExt};
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::ids::BlobId;
use meridian_proofs::log::LogEntry;
use meridian_proto::convert::{CosignAnswer, CosignRequest};
use meridian_proto::error::{ApiError, Class, Reason};
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard};

use super::Replica;
use super::epochs::Standing;
use super::judge::{Accepted, QUOTA_WAIT, Verdict};
use super::record::wide;
use super::rows::Owed;
use crate::cpu;
use crate::metrics::{self, KeyValue};
use crate::store::{Batch, Durability};

/// Blobs that one cosignature repairs at a time.
pub(super) const REPAIRS: usize = 4;
/// Times that rows are looked for again after a repair.
const ROUNDS: usize = 3;
/// How long to wait for rows that are missing.
const ROWS_WAIT: Duration = Duration::from_millis(500);

impl Replica {
    /// Cosigns a checkpoint, after its entries and the checkpoint are synced to disk.
    ///
    /// # Errors
    /// Protocol section 9: the rule that is broken; rows that are missing and cannot be had now; peers that have not
    /// confirmed yet what was last signed.
    pub async fn cosign(self: &Arc<Self>, request: CosignRequest) -> Result<CosignAnswer, ApiError> {
        let begun = Instant::now();
        let answer = self.judge_and_sign(request).await;
        let result = match &answer {
            Ok(CosignAnswer::Cosignature(_)) => {
                metrics::get().cosign_seconds.record(begun.elapsed().as_secs_f64(), &[]);
                "signed"
            }
            Ok(CosignAnswer::EntriesFrom(_)) => "behind",
            Err(error) => error.class().as_str(),
        };
        metrics::get().cosigns.add(1, &[KeyValue::new("result", result)]);
        answer
    }

    async fn judge_and_sign(self: &Arc<Self>, request: CosignRequest) -> Result<CosignAnswer, ApiError> {
        let checkpoint = request.signed.checkpoint;
        let view = self.view();
        self.check_gateway(&view, &checkpoint.gateway)?;
        let verified = request.signed.verify(&self.domain);
        verified.map_err(|error| ApiError::new(Reason::SignatureInvalid, error.to_string()))?;
        let log = Arc::clone(&self.watched(checkpoint.gateway).cosigning).lock_owned().await;
        let bounds = self.bounds(view, &checkpoint).await;
        let request = Arc::new(request);
        let (replica, judged) = (Arc::clone(self), Arc::clone(&request));
        let new = match cpu::blocking(move || replica.judge(&judged, bounds)).await? {
            Verdict::Answer(answer) => return Ok(answer),
            Verdict::New(new) => Arc::new(new),
        };
        for _ in 0..ROUNDS {
            let locks = self.share(&new.entries).await;
            let (replica, judged) = (Arc::clone(self), Arc::clone(&new));
            let missing = cpu::blocking(move || replica.missing(&judged.entries)).await?;
            if missing.is_empty() {
                return self.sign(request, new, log, locks).await;
            }
            drop(locks);
            self.fetch_missing(missing).await?;
        }
        Err(rows_missing("rows came and went while they were looked for".to_owned()))
    }

    /// Holds the blobs of entries with others, so that none is dropped meanwhile.
    pub(super) async fn share(&self, entries: &[LogEntry]) -> Vec<OwnedRwLockReadGuard<()>> {
        let mut locks: Vec<usize> = entries.iter().map(|entry| self.lock_of(&entry.blob_id)).collect();
        // In one order for all, and each once: whoever waits for a lock alone would come between two of ours.
        locks.sort_unstable();
        locks.dedup();
        let mut held = Vec::with_capacity(locks.len());
        for lock in locks {
            held.push(Arc::clone(&self.locks[lock]).read_owned().await);
        }
        held
    }

    /// The blobs of unexpired entries whose rows are not all on disk, with the seat that holds them: that of this
    /// replica in the epoch of the entry. An entry of an epoch without one is owed by others.
    fn missing(&self, entries: &[LogEntry]) -> Result<Vec<(BlobId, Standing)>, ApiError> {
        let now = self.clock.now();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        let mut standings = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.expiry > now) {
            let standing = standings.entry(entry.epoch).or_insert_with(|| self.standing(entry.epoch));
            let Some(standing) = standing else { continue };
            let record = self.rows.record(&entry.blob_id)?;
            if let Some(record) = &record
                && record.header.length.get() != entry.length
            {
                let (length, id) = (record.header.length.get(), entry.blob_id);
                let text = format!("blob {id} has {length} bytes, its entry says {}", entry.length);
                return Err(ApiError::new(Reason::EntryLengthMismatch, text));
            }
            let held = match record {
                Some(record) => self.holds(standing, &entry.blob_id, &record)?,
                None => false,
            };
            if !held && seen.insert((entry.blob_id, entry.epoch)) {
                missing.push((entry.blob_id, standing.clone()));
            }
        }
        Ok(missing)
    }

    /// Waits for uploads that are going on, then fetches what is still missing.
    async fn fetch_missing(self: &Arc<Self>, missing: Vec<(BlobId, Standing)>) -> Result<(), ApiError> {
        let wait = Duration::from_millis(self.settings.repair_wait_ms);
        let repairs = stream::iter(missing).map(|(id, standing)| async move {
            self.arrivals.wait(&id, wait).await;
            let record = self.read(move |rows| rows.record(&id)).await?;
            if let Some(record) = record
                && self.holds(&standing, &id, &record)?
            {
                return Ok(());
            }
            self.repair(id, &standing).await.map_err(|error| match error.class() {
                Class::Overloaded | Class::Internal => error,
                _ => rows_missing(format!("rows of blob {id} are missing: {}", error.message)),
            })
        });
        let outcomes: Vec<Result<(), ApiError>> = repairs.buffer_unordered(REPAIRS).collect().await;
        outcomes.into_iter().collect()
    }

    /// Writes entries, indices and checkpoint in one synced batch, then gives the signature that is in it.
    ///
    /// Goes on to its end, with the locks held, when the caller goes away.
    async fn sign(
        self: &Arc<Self>,
        request: Arc<CosignRequest>,
        new: Arc<Accepted>,
        log: OwnedMutexGuard<()>,
        locks: Vec<OwnedRwLockReadGuard<()>>,
    ) -> Result<CosignAnswer, ApiError> {
        let replica = Arc::clone(self);
        cpu::blocking(move || {
            let _locks = (log, locks);
            replica.sign_now(&request, &new)
        })
        .await
    }

    fn sign_now(&self, request: &CosignRequest, accepted: &Accepted) -> Result<CosignAnswer, ApiError> {
        let checkpoint = &request.signed.checkpoint;
        let gateway = checkpoint.gateway;
        let owed = self.owed(accepted, checkpoint.epoch)?;
        let new = &accepted.entries;
        let mut range = self.logs.range(&gateway)?;
        let mut batch = Batch::new();
        for (index, entry) in (accepted.first..).zip(new) {
            if self.has_seat(entry.epoch) {
                self.rows.put_entry(&mut batch, &gateway, index, entry);
            }
            if index < range.size() {
                // Whoever this log came from may have had no more than the leaf.
                self.logs.put_entry(&mut batch, &gateway, index, entry);
            }
        }
        let appended = new.get(accepted.filled..).unwrap_or_default();
        self.logs.append(&mut batch, &gateway, &mut range, appended);
        let own = self.key.sign(&checkpoint.digest(&self.domain));
        let cosigned = CosignedCheckpoint { signed: request.signed, cosignatures: vec![own] };
        self.logs.set_checkpoint(&mut batch, &cosigned);
        owed.iter().for_each(|owed| self.rows.put_owed(&mut batch, owed));
        fail_point!("before-cosignature");
        self.db.commit(batch, Durability::Synced)?;
        fail_point!("cosigned");

        owed.iter().for_each(|owed| self.accounts.charge(owed));
        // An entry that has expired keeps nothing: what a gateway was promised stays without it.
        let now = self.clock.now();
        let named = new.iter().filter(|entry| self.has_seat(entry.epoch) && entry.expiry > now);
        named.for_each(|entry| self.note_signed(&entry.blob_id));
        self.accounts.appended(&gateway, accepted.of_epoch(checkpoint.epoch), self.clock.now());
        self.floors.passed(checkpoint);
        metrics::get().cosigned_entries.add(wide(new.len()), &[]);
        Ok(CosignAnswer::Cosignature(own))
    }

    /// What the gateway owes room for after these entries: each blob once, until its latest expiry. Entries of an
    /// earlier epoch are anchored: they are charged, and need not fit.
    fn owed(&self, accepted: &Accepted, epoch: u64) -> Result<Vec<Owed>, ApiError> {
        let (now, gateway) = (self.clock.now(), accepted.gateway.address);
        let mut latest: HashMap<BlobId, (u64, bool)> = HashMap::new();
        let unexpired = accepted.entries.iter().filter(|entry| entry.expiry > now);
        for entry in unexpired.filter(|entry| self.has_seat(entry.epoch)) {
            let (until, is_new) = latest.entry(entry.blob_id).or_default();
            *until = entry.expiry.max(*until);
            *is_new |= entry.epoch == epoch;
        }
        let (mut owed, mut more) = (Vec::new(), 0_u64);
        for (blob, (until, is_new)) in latest {
            let (before, charged) = self.accounts.charged(&gateway, &blob).unwrap_or_default();
            let bytes = self.rows.record(&blob)?.map_or(0, |record| record.row_bytes()).max(charged);
            if is_new {
                more = more.saturating_add(bytes - charged);
            }
            owed.push(Owed { gateway, blob, until: until.max(before), bytes });
        }
        let quota = accepted.gateway.max_bytes;
        if more > 0 && !self.accounts.fits(&gateway, more, quota, now) {
            let text = "the gateway's unexpired rows take its whole quota of bytes";
            return Err(ApiError::new(Reason::QuotaExceeded, text)
                .with("limit", quota)
                .retry_after(QUOTA_WAIT));
        }
        Ok(owed)
    }
}

fn rows_missing(text: String) -> ApiError {
    ApiError::new(Reason::RowsMissing, text).retry_after(ROWS_WAIT)
}
