//! Cosigns checkpoints, by the rules of protocol section 5.4 and no others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use meridian_proofs::Address;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint};
use meridian_proofs::ids::BlobId;
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proto::convert::{CosignAnswer, CosignRequest};
use meridian_proto::error::{ApiError, Class, Reason};
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard};

use super::Replica;
use super::ingest::wrong_epoch;
use super::record::wide;
use super::rows::Owed;
use crate::cpu;
use crate::metrics::{self, KeyValue};
use crate::store::{Batch, Durability};

/// How far the timestamp of a checkpoint may be from this host's clock, seconds.
const MAX_SKEW: u64 = 60;
/// Blobs that one cosignature repairs at a time.
const REPAIRS: usize = 4;
/// Times that rows are looked for again after a repair.
const ROUNDS: usize = 3;
/// How long to wait for rows that are missing.
const ROWS_WAIT: Duration = Duration::from_millis(500);
/// How long to wait when the quota of entries is used up.
const QUOTA_WAIT: Duration = Duration::from_secs(60);

/// What the rules say of a request, short of the rows.
enum Verdict {
    /// It was answered before, or has to be asked in another way.
    Answer(CosignAnswer),
    /// All is in order if the rows are here.
    New(Vec<LogEntry>),
}

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
        let Some(lock) = self.cosigning.get(&checkpoint.gateway) else {
            let text = format!("{} is no gateway of the committee", checkpoint.gateway);
            return Err(ApiError::new(Reason::NotAGateway, text));
        };
        let verified = request.signed.verify(&self.domain);
        verified.map_err(|error| ApiError::new(Reason::SignatureInvalid, error.to_string()))?;
        if checkpoint.epoch != self.committee.epoch() {
            return Err(wrong_epoch(checkpoint.epoch, self.committee.epoch()));
        }
        let log = Arc::clone(lock).lock_owned().await;
        // Only for a checkpoint of this minute: anybody can show old ones.
        let proved = match self.check_time(&checkpoint, None) {
            Ok(()) => self.proved_floor(&checkpoint).await,
            Err(_) => None,
        };
        let request = Arc::new(request);
        let (replica, judged) = (Arc::clone(self), Arc::clone(&request));
        let new = match cpu::blocking(move || replica.judge(&judged, proved)).await? {
            Verdict::Answer(answer) => return Ok(answer),
            Verdict::New(new) => Arc::new(new),
        };
        for _ in 0..ROUNDS {
            let locks = self.share(&new).await;
            let (replica, entries) = (Arc::clone(self), Arc::clone(&new));
            let missing = cpu::blocking(move || replica.missing(&entries)).await?;
            if missing.is_empty() {
                return self.sign(request, new, log, locks).await;
            }
            drop(locks);
            self.fetch_missing(missing).await?;
        }
        Err(rows_missing("rows came and went while they were looked for".to_owned()))
    }

    /// All rules that need no rows. The caller has the log's lock, and proof that the checkpoint leads to `proved`.
    fn judge(&self, request: &CosignRequest, proved: Option<Checkpoint>) -> Result<Verdict, ApiError> {
        let checkpoint = request.signed.checkpoint;
        let log = checkpoint.gateway;
        let last = self.logs.checkpoint(&log)?;
        if let Some(last) = &last
            && last.signed.checkpoint == checkpoint
            && let [own] = last.cosignatures[..]
        {
            return Ok(Verdict::Answer(CosignAnswer::Cosignature(own)));
        }
        let last = last.map(|last| last.signed.checkpoint);
        let floor = self.floor(&log)?.filter(|floor| proved != Some(*floor));
        self.check_time(&checkpoint, last.as_ref())?;
        let range = self.logs.range(&log)?;
        check_growth(&checkpoint, range.size(), &range.root(), floor.as_ref())?;
        if request.start > range.size() {
            return Ok(Verdict::Answer(CosignAnswer::EntriesFrom(range.size())));
        }
        if request.start.checked_add(wide(request.entries.len())) != Some(checkpoint.size) {
            return Err(ApiError::new(Reason::LogGap, "the entries do not reach the checkpoint's size"));
        }
        for (index, entry) in (request.start..range.size()).zip(&request.entries) {
            if self.logs.leaf(&log, index)? != entry.leaf() {
                let text = format!("entry {index} is another than the one that was cosigned");
                return Err(ApiError::new(Reason::LogFork, text));
            }
        }
        let known = usize::try_from(range.size() - request.start).unwrap_or(usize::MAX);
        let new = request.entries.get(known..).unwrap_or_default().to_vec();
        self.check_entries(&checkpoint, &range, &new)?;
        self.check_root(&checkpoint, range, &new, floor.as_ref())?;
        self.check_rate(&log, &new)?;
        Ok(Verdict::New(new))
    }

    fn check_time(&self, checkpoint: &Checkpoint, last: Option<&Checkpoint>) -> Result<(), ApiError> {
        let (timestamp, now) = (checkpoint.timestamp, self.clock.now());
        let refused = |text| Err(ApiError::new(Reason::TimestampOutOfRange, text));
        if timestamp.abs_diff(now) > MAX_SKEW {
            return refused(format!("timestamp {timestamp} is not within {MAX_SKEW} s of {now}"));
        }
        match last {
            Some(last) if timestamp < last.timestamp => {
                refused(format!("timestamp {timestamp} is below {} of the last checkpoint", last.timestamp))
            }
            _ => Ok(()),
        }
    }

    /// Whether each new entry is one that the committee allows at its place.
    fn check_entries(
        &self,
        checkpoint: &Checkpoint,
        range: &CompactRange,
        new: &[LogEntry],
    ) -> Result<(), ApiError> {
        let last = match range.size().checked_sub(1) {
            Some(index) => self.logs.entry(&checkpoint.gateway, index)?,
            None => None,
        };
        let mut earliest = last.map_or(0, |entry| entry.time);
        for (index, entry) in (range.size()..).zip(new) {
            let refused = |reason, text| Err(ApiError::new(reason, text).with("index", index));
            if entry.epoch != checkpoint.epoch {
                let text =
                    format!("entry {index} has epoch {}, the checkpoint {}", entry.epoch, checkpoint.epoch);
                return refused(Reason::EntryEpochMismatch, text);
            }
            if !self.committee.allows_retention(entry.time, entry.expiry) {
                let text = format!("entry {index} of time {} expires at {}", entry.time, entry.expiry);
                return refused(Reason::EntryRetentionOutOfRange, text);
            }
            if entry.time < earliest || entry.time > checkpoint.timestamp {
                let text = format!(
                    "time {} of entry {index} is not within {earliest} and {}",
                    entry.time, checkpoint.timestamp
                );
                return refused(Reason::TimeFalls, text);
            }
            earliest = entry.time;
        }
        Ok(())
    }

    /// Whether the log of this replica, with the new entries, has the roots of the checkpoint and of the floor.
    fn check_root(
        &self,
        checkpoint: &Checkpoint,
        mut range: CompactRange,
        new: &[LogEntry],
        floor: Option<&Checkpoint>,
    ) -> Result<(), ApiError> {
        let forked = |floor: &Checkpoint| {
            let text =
                format!("the entries do not lead to the root at size {} that others cosigned", floor.size);
            ApiError::new(Reason::LogFork, text)
        };
        if let Some(floor) = floor.filter(|floor| floor.size <= range.size())
            && self.logs.root_at(&floor.gateway, floor.size)? != floor.root
        {
            return Err(forked(floor));
        }
        for entry in new {
            range.append(entry.leaf());
            if let Some(floor) =
                floor.filter(|floor| floor.size == range.size() && floor.root != range.root())
            {
                return Err(forked(floor));
            }
        }
        if range.root() != checkpoint.root {
            let text = "the entries do not lead to the root of the checkpoint";
            return Err(ApiError::new(Reason::RootMismatch, text));
        }
        Ok(())
    }

    fn check_rate(&self, gateway: &Address, new: &[LogEntry]) -> Result<(), ApiError> {
        let limit = self.committee.gateway(gateway).map_or(0, |member| member.max_entries_per_hour);
        if new.is_empty() || self.accounts.may_append(gateway, wide(new.len()), limit, self.clock.now()) {
            return Ok(());
        }
        let text = "the gateway has used its quota of entries an hour";
        Err(ApiError::new(Reason::QuotaExceeded, text).with("limit", limit).retry_after(QUOTA_WAIT))
    }

    /// Holds the blobs of entries with others, so that none is dropped meanwhile.
    async fn share(&self, entries: &[LogEntry]) -> Vec<OwnedRwLockReadGuard<()>> {
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

    /// The blobs of unexpired entries whose rows are not all on disk.
    fn missing(&self, entries: &[LogEntry]) -> Result<Vec<BlobId>, ApiError> {
        let now = self.clock.now();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for entry in entries.iter().filter(|entry| entry.expiry > now) {
            let record = self.rows.record(&entry.blob_id)?;
            if let Some(record) = &record
                && record.header.length.get() != entry.length
            {
                let (length, id) = (record.header.length.get(), entry.blob_id);
                let text = format!("blob {id} has {length} bytes, its entry says {}", entry.length);
                return Err(ApiError::new(Reason::EntryLengthMismatch, text));
            }
            let held = record.is_some_and(|record| self.holds(&entry.blob_id, &record));
            if !held && seen.insert(entry.blob_id) {
                missing.push(entry.blob_id);
            }
        }
        Ok(missing)
    }

    /// Waits for uploads that are going on, then fetches what is still missing.
    async fn fetch_missing(self: &Arc<Self>, missing: Vec<BlobId>) -> Result<(), ApiError> {
        let wait = Duration::from_millis(self.settings.repair_wait_ms);
        let repairs = stream::iter(missing).map(|id| async move {
            self.arrivals.wait(&id, wait).await;
            let record = self.read(move |rows| rows.record(&id)).await?;
            if record.is_some_and(|record| self.holds(&id, &record)) {
                return Ok(());
            }
            self.repair(id).await.map_err(|error| match error.class() {
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
        new: Arc<Vec<LogEntry>>,
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

    fn sign_now(&self, request: &CosignRequest, new: &[LogEntry]) -> Result<CosignAnswer, ApiError> {
        let checkpoint = &request.signed.checkpoint;
        let gateway = checkpoint.gateway;
        let owed = self.owed(&gateway, new)?;
        let mut range = self.logs.range(&gateway)?;
        let mut batch = Batch::new();
        for (index, entry) in (range.size()..).zip(new) {
            self.rows.put_entry(&mut batch, &gateway, index, entry);
        }
        self.logs.append(&mut batch, &gateway, &mut range, new);
        let own = self.key.sign(&checkpoint.digest(&self.domain));
        let cosigned = CosignedCheckpoint { signed: request.signed, cosignatures: vec![own] };
        self.logs.set_checkpoint(&mut batch, &cosigned);
        owed.iter().for_each(|owed| self.rows.put_owed(&mut batch, owed));
        self.db.commit(batch, Durability::Synced)?;

        owed.iter().for_each(|owed| self.accounts.charge(owed));
        new.iter().for_each(|entry| self.note_signed(&entry.blob_id));
        self.accounts.appended(&gateway, wide(new.len()), self.clock.now());
        self.floors.passed(checkpoint);
        metrics::get().cosigned_entries.add(wide(new.len()), &[]);
        Ok(CosignAnswer::Cosignature(own))
    }

    /// What the gateway owes room for after these entries: each blob once, until its latest expiry.
    fn owed(&self, gateway: &Address, new: &[LogEntry]) -> Result<Vec<Owed>, ApiError> {
        let now = self.clock.now();
        let mut latest = std::collections::HashMap::new();
        for entry in new.iter().filter(|entry| entry.expiry > now) {
            let until: &mut u64 = latest.entry(entry.blob_id).or_default();
            *until = entry.expiry.max(*until);
        }
        let (mut owed, mut more) = (Vec::new(), 0_u64);
        for (blob, until) in latest {
            match self.accounts.charged(gateway, &blob) {
                Some((before, bytes)) => {
                    owed.push(Owed { gateway: *gateway, blob, until: until.max(before), bytes });
                }
                None => {
                    let bytes = self.rows.record(&blob)?.map_or(0, |record| record.row_bytes());
                    more = more.saturating_add(bytes);
                    owed.push(Owed { gateway: *gateway, blob, until, bytes });
                }
            }
        }
        let quota = self.committee.gateway(gateway).map_or(0, |member| member.max_bytes);
        if more > 0 && !self.accounts.fits(gateway, more, quota, now) {
            let text = "the gateway's unexpired rows take its whole quota of bytes";
            return Err(ApiError::new(Reason::QuotaExceeded, text)
                .with("limit", quota)
                .retry_after(QUOTA_WAIT));
        }
        Ok(owed)
    }
}

/// Whether a checkpoint stands at or above what is known of the log.
fn check_growth(
    checkpoint: &Checkpoint,
    size: u64,
    root: &meridian_proofs::B256,
    floor: Option<&Checkpoint>,
) -> Result<(), ApiError> {
    let least = floor.map_or(size, |floor| floor.size.max(size));
    if checkpoint.size < least {
        let text = format!("the checkpoint has {} entries, {least} were cosigned before", checkpoint.size);
        return Err(ApiError::new(Reason::LogRollback, text));
    }
    let fork = checkpoint.size == size && checkpoint.root != *root;
    if fork || floor.is_some_and(|floor| floor.size == checkpoint.size && floor.root != checkpoint.root) {
        let text = format!("a checkpoint of size {} and another root was cosigned before", checkpoint.size);
        return Err(ApiError::new(Reason::LogFork, text));
    }
    Ok(())
}

fn rows_missing(text: String) -> ApiError {
    ApiError::new(Reason::RowsMissing, text).retry_after(ROWS_WAIT)
}
