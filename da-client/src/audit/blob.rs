//! One blob, region by region: each replica's rows, and the payload from each region alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use meridian_proofs::committee::{Committee, RegionId, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::reconstruct::{DecodeError, Rebuilt, RowSet};
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::{Address, keccak256};
use tokio::sync::Semaphore;

use super::listing::Listed;
use super::marks::Marks;
use super::plan;
use super::tally::{Ledger, Sighting};
use crate::Progress;
use crate::fetch::{Fault, FaultKind, Reader};
use crate::submit::unix_now;

/// Replicas that are asked about one blob at once, and calls to each.
const SEATS_AT_ONCE: usize = 8;
const SEAT_CALLS: usize = 4;

/// Longest wait for an answer without rows, and bytes of rows a second that a replica has to give beside that.
const PATIENCE: Duration = Duration::from_secs(5);
const SLOWEST: u64 = 256 << 10;

/// A blob that is to be audited.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) id: BlobId,
    /// Of the committee that holds its rows.
    pub(super) epoch: u64,
    /// Its entries of that epoch, at least one.
    pub(super) entries: Vec<Listed>,
    /// Whether all rows are asked for.
    pub(super) is_whole: bool,
}

/// How a region's copy stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CopyState {
    /// The payload comes out of this region alone; where rows were sampled: enough replicas gave all of theirs.
    Complete,
    /// It does not.
    Incomplete,
    /// Nobody in the region answers.
    Unreachable,
}

/// One region's copy of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyAudit {
    /// The region.
    pub region: RegionId,
    /// How it stands.
    pub state: CopyState,
    /// keccak256 of the payload that was rebuilt from this region alone.
    pub payload_hash: Option<PayloadHash>,
}

/// What is wrong with a blob, and no replica's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Its epoch's committee is not known, so nobody can be asked.
    NoCommittee,
    /// An entry names another length than the header.
    Length,
    /// The payload has another hash than an entry says.
    PayloadHash,
    /// Two regions give different payloads.
    Differs,
    /// Its padding is not zero: whoever put it encoded it wrongly, and it has no payload.
    Malformed,
    /// Its rows are not a codeword: whoever put it encoded it wrongly, and it has no payload.
    Inconsistent,
}

/// What was found of one blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobAudit {
    /// The blob.
    pub id: BlobId,
    /// Epoch of the committee that holds its rows.
    pub epoch: u64,
    /// Its entries of that epoch, at least one.
    pub entries: Vec<Listed>,
    /// Whether all rows of all replicas were asked for, and the payload rebuilt from each region alone.
    pub is_whole: bool,
    /// The copies, ascending by region.
    pub copies: Vec<CopyAudit>,
    /// What is wrong with the blob itself.
    pub defect: Option<Defect>,
}

/// What all blobs are audited with.
pub(super) struct Auditor<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) marks: &'a Marks,
    pub(super) samples: usize,
    /// MiB of rows that may be in memory.
    pub(super) memory: &'a Semaphore,
    /// How many more blobs are looked at as a whole because a replica says that they are no codewords.
    pub(super) suspects: &'a AtomicUsize,
    pub(super) progress: &'a dyn Progress,
}

/// What the lookups found.
struct Known {
    context: Option<Arc<BlobContext>>,
    /// What went wrong; nothing where a seat was not asked any more.
    faults: BTreeMap<Address, Option<Fault>>,
    /// Seats that say that the blob is no codeword.
    accusers: Vec<Seat>,
}

/// What came out of a region's rows.
enum Payload {
    Hash(PayloadHash, bool),
    Defect(Defect),
}

impl Auditor<'_> {
    /// Audits a blob.
    pub(super) async fn check(&self, reader: &Reader, target: &Target) -> BlobAudit {
        let committee = reader.committee();
        let known = self.look_up(reader, target.id).await;
        let is_whole = target.is_whole || (!known.accusers.is_empty() && self.looks_closer());
        let mut audit = BlobAudit {
            id: target.id,
            epoch: target.epoch,
            entries: target.entries.clone(),
            is_whole,
            copies: Vec::new(),
            defect: None,
        };
        let Some(context) = &known.context else {
            for region in committee.regions() {
                let state = self.lost(committee, region.id, target, &known);
                audit.copies.push(CopyAudit { region: region.id, state, payload_hash: None });
            }
            self.progress.advance(plan::bytes(committee, target, self.samples));
            return audit;
        };
        let length = context.header().length.get();
        if target.entries.iter().any(|listed| listed.entry.length != length) {
            audit.defect = Some(Defect::Length);
        }
        let mut is_codeword = false;
        for region in committee.regions() {
            let (state, payload) = self.region(reader, region.id, target, &known, context, is_whole).await;
            let payload_hash = match payload {
                Some(Payload::Hash(hash, is_checked)) => {
                    is_codeword |= is_checked;
                    Some(hash)
                }
                Some(Payload::Defect(defect)) => {
                    audit.defect = Some(defect);
                    None
                }
                None => None,
            };
            audit.copies.push(CopyAudit { region: region.id, state, payload_hash });
        }
        if is_codeword {
            for seat in &known.accusers {
                let fault =
                    Fault::wrong(seat, "it says that the blob is not a codeword, and the blob is one");
                self.note(target, fault, 0);
            }
        }
        let hashes: BTreeSet<PayloadHash> =
            audit.copies.iter().filter_map(|copy| copy.payload_hash).collect();
        let is_other = |listed: &Listed| {
            let stated = listed.entry.payload_hash;
            stated.is_bound() && hashes.iter().any(|hash| *hash != stated)
        };
        if hashes.len() > 1 {
            audit.defect = Some(Defect::Differs);
        } else if target.entries.iter().any(is_other) {
            audit.defect = Some(Defect::PayloadHash);
        }
        audit
    }

    /// Whether one more blob is looked at as a whole.
    fn looks_closer(&self) -> bool {
        self.suspects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Asks every replica what it knows of a blob.
    async fn look_up(&self, reader: &Reader, id: BlobId) -> Known {
        let mut known = Known { context: None, faults: BTreeMap::new(), accusers: Vec::new() };
        let asked = reader.committee().seats().iter().map(|seat| async move {
            if self.ledger.is_out(seat) {
                return (seat, None);
            }
            let answer = reader.look_up_at(seat, id, PATIENCE).await;
            if answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Silent) {
                self.ledger.silent(seat);
            }
            (seat, Some(answer))
        });
        let mut answers = stream::iter(asked).buffer_unordered(SEATS_AT_ONCE);
        while let Some((seat, answer)) = answers.next().await {
            let checked = match answer {
                None => Err(None),
                Some(Err(fault)) => Err(Some(fault)),
                Some(Ok((candidate, took))) => {
                    self.ledger.answered(seat, took, 0);
                    if candidate.inconsistent {
                        known.accusers.push(seat.clone());
                    }
                    let checked = match (candidate.rlc, &known.context) {
                        (None, _) => Err(Fault::wrong(seat, "the rlc vector is missing")),
                        (Some(rlc), Some(context)) if rlc == *context.rlc() => Ok(()),
                        (Some(_), Some(_)) => {
                            Err(Fault::wrong(seat, "rlc vector does not match the header's rlc root"))
                        }
                        (Some(rlc), None) => {
                            let context = prepare(reader, seat, id, candidate.header, rlc).await;
                            context.map(|context| known.context = Some(context))
                        }
                    };
                    checked.map_err(Some)
                }
            };
            if let Err(fault) = checked {
                known.faults.insert(seat.address, fault);
            }
        }
        known
    }

    /// Notes what each replica of a region did where nobody has the blob.
    fn lost(&self, committee: &Committee, region: RegionId, target: &Target, known: &Known) -> CopyState {
        let mut state = CopyState::Unreachable;
        for seat in committee.seats_of(region) {
            let Some(fault) = known.faults.get(&seat.address) else { continue };
            if fault.as_ref().is_some_and(|fault| fault.kind != FaultKind::Silent) {
                state = CopyState::Incomplete;
            }
            let rows = plan::shape(target).map_or(0, |shape| {
                let ranges = plan::ranges(committee, seat, &target.id, shape, self.samples, target.is_whole);
                plan::rows(&ranges)
            });
            match fault {
                Some(fault) => self.note(target, fault.clone(), rows),
                None => self.ledger.skipped(seat, rows),
            }
        }
        state
    }

    /// Asks the replicas of a region for their rows, and rebuilds the payload from them where all are asked for.
    async fn region(
        &self,
        reader: &Reader,
        region: RegionId,
        target: &Target,
        known: &Known,
        context: &Arc<BlobContext>,
        is_whole: bool,
    ) -> (CopyState, Option<Payload>) {
        let committee = reader.committee();
        let mebibytes =
            u32::try_from(context.shape().data_bytes() >> 20).unwrap_or(u32::MAX).saturating_add(1);
        // At most all there is, so that the largest blob is audited alone.
        let wanted = if is_whole { mebibytes.saturating_mul(2).min(super::MEMORY) } else { 1 };
        let Ok(_memory) = self.memory.acquire_many(wanted).await else {
            return (CopyState::Unreachable, None);
        };
        let set = is_whole.then(|| Mutex::new(RowSet::new(Arc::clone(context))));
        let set = set.as_ref();
        let asked =
            committee.seats_of(region).map(|seat| self.seat(reader, seat, target, known, context, set));
        let outcomes: Vec<Result<(), FaultKind>> =
            stream::iter(asked).buffer_unordered(SEATS_AT_ONCE).collect().await;
        let right = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let is_silent = outcomes.iter().all(|outcome| *outcome == Err(FaultKind::Silent));
        let Some(set) = set else {
            return match right {
                _ if is_silent => (CopyState::Unreachable, None),
                right if right >= committee.quorum(region) => (CopyState::Complete, None),
                _ => (CopyState::Incomplete, None),
            };
        };
        let mut rows = RowSet::new(Arc::clone(context));
        std::mem::swap(&mut rows, &mut *set.lock().unwrap_or_else(PoisonError::into_inner));
        if !rows.is_decodable() {
            return (if is_silent { CopyState::Unreachable } else { CopyState::Incomplete }, None);
        }
        let is_accused = !known.accusers.is_empty();
        let payload = reader.compute(move || payload(&rows, is_accused)).await;
        (CopyState::Complete, payload.ok().flatten())
    }

    /// Asks a replica for its rows. Tells what was wrong, the worst first.
    async fn seat(
        &self,
        reader: &Reader,
        seat: &Seat,
        target: &Target,
        known: &Known,
        context: &Arc<BlobContext>,
        set: Option<&Mutex<RowSet>>,
    ) -> Result<(), FaultKind> {
        let (committee, shape) = (reader.committee(), context.shape());
        let ranges = plan::ranges(committee, seat, &target.id, shape, self.samples, set.is_some());
        let mut worst = Ok(());
        match known.faults.get(&seat.address) {
            Some(Some(fault)) if fault.kind == FaultKind::Wrong => {
                self.note(target, fault.clone(), 0);
                worst = Err(FaultKind::Wrong);
            }
            Some(fault) => {
                let rows = plan::rows(&ranges);
                match fault {
                    Some(fault) => self.note(target, fault.clone(), rows),
                    None => self.ledger.skipped(seat, rows),
                }
                self.progress.advance(rows.saturating_mul(plan::row_bytes(shape)));
                return Err(fault.as_ref().map_or(FaultKind::Silent, |fault| fault.kind));
            }
            None => {}
        }
        let is_out = AtomicBool::new(false);
        let is_out = &is_out;
        let asked = ranges.into_iter().map(|range| async move {
            let bytes = u64::from(range.count()).saturating_mul(plan::row_bytes(shape));
            if is_out.load(Ordering::Relaxed) {
                return (range, bytes, Err(Fault::silent(seat, PATIENCE)));
            }
            let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST);
            let answer = reader.held_by(context, seat, range, patience).await;
            if answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Silent) {
                is_out.store(true, Ordering::Relaxed);
            }
            (range, bytes, answer)
        });
        let mut faults: Vec<(Fault, u64)> = Vec::new();
        let mut answers = stream::iter(asked).buffer_unordered(SEAT_CALLS);
        while let Some((range, bytes, answer)) = answers.next().await {
            let count = u64::from(range.count());
            match answer {
                Ok((rows, took)) => {
                    self.ledger.answered(seat, took, count);
                    if let Some(set) = set {
                        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
                        // What is not needed any more need not be kept.
                        if !set.is_decodable()
                            && let Err(error) = set.insert(rows)
                        {
                            tracing::error!(%error, "rows cannot be put together");
                        }
                    }
                }
                Err(fault) => match faults.iter_mut().find(|(known, _)| known.kind == fault.kind) {
                    Some((_, rows)) => *rows += count,
                    None => faults.push((fault, count)),
                },
            }
            self.progress.advance(bytes);
        }
        for (fault, rows) in faults {
            if fault.kind == FaultKind::Silent {
                self.ledger.silent(seat);
            }
            worst = match (worst, fault.kind) {
                (Err(FaultKind::Wrong), _) => worst,
                (_, kind) => Err(kind),
            };
            self.note(target, fault, rows);
        }
        worst
    }

    fn note(&self, target: &Target, fault: Fault, rows: u64) {
        let cosigned =
            |listed: &Listed| self.marks.has(listed.log, listed.entry.epoch, fault.seat, listed.index);
        let is_cosigned = target.entries.iter().any(cosigned);
        self.ledger.fault(Sighting { fault, at: unix_now(), blob: Some(target.id), rows, is_cosigned });
    }
}

/// Proves that header and RLC vector belong to a blob.
async fn prepare(
    reader: &Reader,
    seat: &Seat,
    id: BlobId,
    header: BlobHeader,
    rlc: RlcVector,
) -> Result<Arc<BlobContext>, Fault> {
    match reader.compute(move || BlobContext::new(id, header, rlc)).await {
        Ok(context) => context.map(Arc::new).map_err(|error| Fault::wrong(seat, error)),
        // A failure of this program is nobody's lie.
        Err(error) => Err(Fault { kind: FaultKind::Silent, ..Fault::wrong(seat, error) }),
    }
}

/// What comes out of enough rows, and whether they were found to be a codeword.
fn payload(rows: &RowSet, is_accused: bool) -> Option<Payload> {
    if is_accused && matches!(rows.rebuild(), Ok(Rebuilt::Inconsistent)) {
        return Some(Payload::Defect(Defect::Inconsistent));
    }
    match rows.payload() {
        Ok(payload) => Some(Payload::Hash(PayloadHash(keccak256(&payload)), is_accused)),
        Err(DecodeError::Malformed) => Some(Payload::Defect(Defect::Malformed)),
        Err(error) => {
            tracing::error!(%error, "rows cannot be decoded");
            None
        }
    }
}
