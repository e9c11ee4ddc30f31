//! The log: one task appends entries in batches and signs a checkpoint over each.
//!
//! One checkpoint is outstanding at a time, until S has cosigned it; meanwhile the next batch gathers. So batches grow
//! with load, and no timer delays a put that comes alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_client::submit::least_expiry;
use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proto::error::ApiError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::core::{Core, blocking};
use super::cosign::{Head, MAX_ENTRIES, STALE_AFTER};
use super::dispersal::Dispersal;
use super::seats::grace;
use super::store::{Appended, Keep, StoreError};
use crate::metrics::{self, KeyValue};

/// Most payload bytes that one batch keeps, so that its write stays small beside the memory budget.
const BATCH_BYTES: u64 = 64 << 20;

/// What a put wants to stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) id: BlobId,
    pub(super) header: BlobHeader,
    pub(super) namespace: Namespace,
    pub(super) payload_hash: PayloadHash,
    pub(super) retention: u64,
}

impl Wanted {
    /// Whether an earlier entry of the blob serves this put, protocol section 3.
    pub(super) fn served_by(&self, entry: &LogEntry, epoch: u64, now: u64) -> bool {
        entry.blob_id == self.id
            && entry.namespace == self.namespace
            && entry.payload_hash.is_bound() == self.payload_hash.is_bound()
            && entry.epoch == epoch
            && entry.expiry >= least_expiry(now, self.retention)
    }

    fn entry(&self, epoch: u64, time: u64) -> LogEntry {
        LogEntry {
            blob_id: self.id,
            namespace: self.namespace,
            payload_hash: self.payload_hash,
            length: self.header.length.get(),
            epoch,
            time,
            expiry: time.saturating_add(self.retention),
        }
    }
}

/// A put that is ready to be appended.
pub(super) struct Ready {
    pub(super) wanted: Wanted,
    /// Absent when the seats have the blob by an earlier entry.
    pub(super) dispersal: Option<Arc<Dispersal>>,
    pub(super) reply: oneshot::Sender<Result<Outcome, ApiError>>,
}

/// What became of a put that was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This entry is the put's.
    Entry(u64),
    /// S changed, and its new members lack the blob.
    NotCovered,
    /// The epoch takes no more entries.
    Closed,
}

/// The log as its task knows it.
pub(super) struct Log {
    pub(super) range: CompactRange,
    /// Time of the last entry: time never falls along a log.
    pub(super) last_time: u64,
    /// Timestamp of the last checkpoint.
    pub(super) last_timestamp: u64,
}

/// Appends until the epoch is cut, and signs until it ends.
pub(super) async fn run(core: Arc<Core>, mut log: Log, mut ready: mpsc::UnboundedReceiver<Ready>) {
    let _ended = core.ended.clone().drop_guard();
    let mut queue: Vec<Ready> = Vec::new();
    let mut progress = core.checkpoints.progress();
    let mut quorum = core.seats.quorum();
    let mut outstanding = core.checkpoints.head().filter(|head| !core.is_stale(head)).map(|_| Instant::now());
    let mut refresh = false;
    // When members of S are late with their cosignatures, and others would do.
    let mut late = None;
    loop {
        progress.borrow_and_update();
        quorum.borrow_and_update();
        outstanding = outstanding.filter(|since| is_outstanding(&core, *since));
        let is_held_up = !queue.is_empty() && core.checkpoints.is_head_certified();
        late = outstanding.filter(|_| is_held_up).map(|since| late.unwrap_or_else(|| grace(since)));
        if core.cut.is_cancelled() {
            for put in queue.drain(..) {
                let _ = put.reply.send(Ok(Outcome::Closed));
            }
            core.ended.cancel();
        } else if let Err(error) = core.may_append() {
            for put in queue.drain(..) {
                let _ = put.reply.send(Err(error.clone()));
            }
        } else if outstanding.is_none() && !queue.is_empty() {
            match append(&core, &mut log, &mut queue).await {
                Ok(is_signed) => {
                    outstanding = is_signed.then(Instant::now);
                    refresh = false;
                }
                // Who put is told, and the next one may find room.
                Err(error) if error.is_full() => tracing::warn!(%error, "nothing can be appended"),
                Err(error) => {
                    tracing::error!(%error, "the log cannot be written: the gateway appends nothing any more");
                    core.lose(error.into());
                }
            }
            continue;
        }
        // Also without S: seats that refuse to cosign may only be waiting for a newer timestamp.
        if outstanding.is_none() && refresh && core.may_sign() {
            refresh = false;
            if sign_again(&core, &mut log).await {
                outstanding = Some(Instant::now());
                continue;
            }
        }
        let supersede = outstanding.map(|since| since + core.settings.supersede());
        tokio::select! {
            put = ready.recv() => match put {
                Some(put) => queue.push(put),
                None => return,
            },
            _ = progress.changed() => {}
            _ = quorum.changed() => {}
            () = core.refresh.notified() => refresh = true,
            () = core.cut.cancelled(), if !core.ended.is_cancelled() => {}
            () = core.stop.cancelled() => return,
            () = until(supersede) => {}
            () = until(late) => {
                late = None;
                core.seats.leave_behind(|seat| !core.checkpoints.is_head_cosigned_by(&core.committee.seats()[seat].address));
            }
        }
        while let Ok(put) = ready.try_recv() {
            queue.push(put);
        }
    }
}

/// Whether the checkpoint that was signed at `since` still holds up the next.
fn is_outstanding(core: &Core, since: Instant) -> bool {
    let cosigned = core
        .seats
        .current()
        .is_ok_and(|members| core.checkpoints.cosigned_by(core.seats.addresses(&members)));
    let result = if cosigned {
        "certified"
    } else if since.elapsed() >= core.settings.supersede() {
        "superseded"
    } else {
        return true;
    };
    metrics::get().checkpoints.add(1, &[KeyValue::new("result", result)]);
    metrics::get().checkpoint_seconds.record(since.elapsed().as_secs_f64(), &[]);
    false
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What one batch appends, decided against the log before it.
pub(super) struct Plan {
    pub(super) entries: Vec<LogEntry>,
    /// For each put of the batch, the index of its entry.
    pub(super) indices: Vec<u64>,
    /// For each entry, the put that it was appended for.
    pub(super) origins: Vec<usize>,
}

/// Decides which puts are served by an earlier entry, of the log or of this batch, and which get a new one.
pub(super) fn plan(
    wanted: &[Wanted],
    size: u64,
    epoch: u64,
    time: u64,
    mut earlier: impl FnMut(&Wanted) -> Result<Option<(u64, LogEntry)>, StoreError>,
) -> Result<Plan, StoreError> {
    let mut plan = Plan { entries: Vec::new(), indices: Vec::new(), origins: Vec::new() };
    let mut fresh: HashMap<(BlobId, Namespace, bool), usize> = HashMap::new();
    for (origin, want) in wanted.iter().enumerate() {
        let key = (want.id, want.namespace, want.payload_hash.is_bound());
        let index = match fresh.get(&key) {
            Some(&place) if want.served_by(&plan.entries[place], epoch, time) => Some(at(size, place)),
            Some(_) => None,
            None => {
                earlier(want)?.filter(|(_, entry)| want.served_by(entry, epoch, time)).map(|(index, _)| index)
            }
        };
        let index = index.unwrap_or_else(|| {
            let place = plan.entries.len();
            plan.entries.push(want.entry(epoch, time));
            plan.origins.push(origin);
            fresh.insert(key, place);
            at(size, place)
        });
        plan.indices.push(index);
    }
    Ok(plan)
}

fn at(size: u64, place: usize) -> u64 {
    size.saturating_add(u64::try_from(place).unwrap_or(u64::MAX))
}

/// Appends what is ready, signs a checkpoint over it, syncs both, and puts it before the seats. Says whether there was
/// anything to append.
async fn append(core: &Arc<Core>, log: &mut Log, queue: &mut Vec<Ready>) -> Result<bool, StoreError> {
    let Ok(members) = core.seats.current() else { return Ok(false) };
    let mut batch = Vec::new();
    let mut bytes = 0u64;
    let mut rest = Vec::new();
    let most = usize::try_from(MAX_ENTRIES).unwrap_or(usize::MAX);
    for put in queue.drain(..) {
        let length = put.wanted.header.length.get();
        if put.dispersal.as_ref().is_some_and(|dispersal| !dispersal.covers(&members)) {
            let _ = put.reply.send(Ok(Outcome::NotCovered));
        } else if batch.len() == most || (bytes + length > BATCH_BYTES && !batch.is_empty()) {
            rest.push(put);
        } else {
            bytes += length;
            batch.push(put);
        }
    }
    *queue = rest;
    if batch.is_empty() {
        return Ok(false);
    }
    let wanted: Vec<Wanted> = batch.iter().map(|put| put.wanted).collect();
    let keeps =
        batch.iter().map(|put| put.dispersal.as_ref().map(|dispersal| keep(core, dispersal))).collect();
    let time = core.clock.now().max(log.last_time);
    let timestamp = time.max(log.last_timestamp);
    let done = write(core, log.range.clone(), wanted, keeps, time, timestamp).await;
    let (appended, indices) = match done {
        Ok(done) => done,
        Err(error) => {
            for put in batch {
                if let Some(dispersal) = &put.dispersal {
                    dispersal.unrecord();
                }
                let _ = put.reply.send(Err(error.clone().into()));
            }
            return Err(error);
        }
    };
    // Before anybody is told: a put gives back what it held as soon as it knows.
    if let Some(appended) = &appended {
        core.access.appended(appended.first, &appended.entries);
    }
    for (put, index) in batch.into_iter().zip(indices) {
        if let Some(dispersal) = &put.dispersal {
            dispersal.kept();
        }
        let _ = put.reply.send(Ok(Outcome::Entry(index)));
    }
    let Some(appended) = appended else { return Ok(false) };
    core.log_size.store(appended.range.size(), Ordering::Relaxed);
    metrics::get().log_size.record(appended.range.size(), &[]);
    metrics::get().checkpoint_entries.record(appended.entries.len() as f64, &[]);
    log.range = appended.range;
    log.last_time = time;
    log.last_timestamp = timestamp;
    metrics::get().uploads_pending.record(core.store.pending(), &[]);
    let digest = appended.signed.checkpoint.digest(&core.domain);
    core.checkpoints.publish(Head {
        signed: appended.signed,
        digest,
        first: appended.first,
        entries: appended.entries,
    });
    Ok(true)
}

/// What the store keeps of a blob until every seat has it.
fn keep(core: &Core, dispersal: &Dispersal) -> Keep {
    let (rows, missing) = dispersal.record();
    let seats = core.committee.seats();
    Keep {
        payload: rows.map(|rows| rows.blob.payload()),
        missing: missing.into_iter().map(|seat| seats[seat].address).collect(),
    }
}

/// Plans and writes one batch, off the async threads. Nothing is appended when earlier entries serve every put.
async fn write(
    core: &Arc<Core>,
    mut range: CompactRange,
    wanted: Vec<Wanted>,
    keeps: Vec<Option<Keep>>,
    time: u64,
    timestamp: u64,
) -> Result<(Option<Appended>, Vec<u64>), StoreError> {
    let core = core.clone();
    let span = tracing::Span::current();
    let work = tokio::task::spawn_blocking(move || {
        let _entered = span.entered();
        let first = range.size();
        let epoch = core.committee.epoch();
        let earlier = |want: &Wanted| core.store.find(want.id, want.namespace, want.payload_hash.is_bound());
        let plan = plan(&wanted, first, epoch, time, earlier)?;
        if plan.entries.is_empty() {
            return Ok((None, plan.indices));
        }
        let sign = |range: &CompactRange| core.sign(range.size(), range.root(), timestamp);
        let signed = core.store.append(&mut range, &plan, &wanted, keeps, sign)?;
        Ok((Some(Appended { range, first, entries: plan.entries, signed }), plan.indices))
    });
    work.await.unwrap_or_else(|error| Err(StoreError::Task(error.to_string())))
}

/// Signs the log as it is under a newer timestamp, for seats that have yet to cosign it.
///
/// Not synced: entries under it are, so whatever the disk says later, nothing that it signs can contradict this.
async fn sign_again(core: &Arc<Core>, log: &mut Log) -> bool {
    if log.range.size() == 0 || core.checkpoints.head().is_some_and(|head| !core.is_stale(&head)) {
        return false;
    }
    let now = core.clock.now().max(log.last_timestamp);
    log.last_timestamp = now;
    let signed = core.sign(log.range.size(), log.range.root(), now);
    let (store, head) = (core.store.clone(), signed);
    if let Err(error) = blocking(move || store.keep_head(&head)).await {
        tracing::error!(%error, "a checkpoint cannot be written");
    }
    core.publish(signed);
    true
}

impl Core {
    /// Signs a checkpoint of this gateway's log.
    pub(super) fn sign(&self, size: u64, root: B256, timestamp: u64) -> SignedCheckpoint {
        let epoch = self.committee.epoch();
        let checkpoint = Checkpoint { gateway: self.address, epoch, size, root, timestamp };
        SignedCheckpoint::sign(checkpoint, &self.domain, &self.key)
    }

    /// Whether a checkpoint is too old to ask anyone for a cosignature.
    pub(super) fn is_stale(&self, head: &Head) -> bool {
        self.clock.now().saturating_sub(head.signed.checkpoint.timestamp) >= STALE_AFTER
    }
}
