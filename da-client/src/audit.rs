//! Audits: whether every region holds the same copy of every blob, who vouched for it, and who does not keep it.
//!
//! Which blobs there have to be comes from the logs: enumerated from any replica, with roots that are computed again and
//! compared with the anchors on the chain, else with what as many regions cosigned as a certificate needs. Each replica is
//! then asked for rows that it has on disk, all of them or some at random, and each row is checked against the blob's id.
//! Of blobs whose rows are all asked for, the payload is rebuilt from each region alone and hashed.
//!
//! A replica that fetches rows from others only when it is asked cannot be told from one that holds them.

mod blob;
mod listing;
mod marks;
mod plan;
mod tally;
pub mod trail;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;

use futures::stream::{self, StreamExt};
use meridian_proofs::committee::{Region, RegionId, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::{Address, B256};
use thiserror::Error;
use tokio::sync::Semaphore;

use self::blob::{Auditor, Target};
use self::listing::Listing;
use self::marks::Marks;
use self::tally::Ledger;
use crate::Progress;
use crate::chain::view::{Anchor, Head, View};
use crate::fetch::{Reader, Readers};
use crate::submit::unix_now;

pub use blob::{BlobAudit, CopyAudit, CopyState, Defect};
pub use listing::{Listed, MAX_AUDITED};
pub use marks::Certified;
pub use tally::{MAX_FAULTS, Rows, SeatAudit, Sighting};
pub use verdict::Outcome;

/// Blobs that are audited at once.
const BLOBS_AT_ONCE: usize = 4;

/// MiB of rows in memory at most, or what the largest blob takes.
const MEMORY: u32 = 512;

/// Blobs that are looked at as a whole beyond those that were chosen, because a replica says that they are no codewords.
const SUSPECTS: usize = 8;

/// What to audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Unix seconds: entries made before are left out.
    pub since: u64,
    /// Only this blob.
    pub blob: Option<BlobId>,
    /// Only this log.
    pub log: Option<Address>,
    /// All rows of all blobs instead of some.
    pub is_deep: bool,
    /// Rows of each replica and blob that are drawn where not all of them are asked for.
    pub samples: usize,
}

/// Why there is no audit.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AuditError {
    /// There are more entries than one audit takes.
    #[error("there are more than {MAX_AUDITED} entries to audit")]
    TooMany,
    /// No log has such an entry now.
    #[error("no entry of the blob can be proved to be in a log now")]
    NotListed,
    /// This program failed.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A log as it was audited.
#[derive(Clone, PartialEq, Debug)]
pub struct LogAudit {
    /// Address of the gateway whose log it is.
    pub log: Address,
    /// Its latest anchor.
    pub anchor: Option<Anchor>,
    /// How much of it enough regions cosigned, as far as cosignatures are to be had.
    pub certified: Option<Certified>,
    /// Entries that were enumerated.
    pub size: u64,
    /// The root that they lead to.
    pub root: B256,
    /// Those of them that are audited.
    pub entries: usize,
    /// Items that may be wanted and of which everybody who was asked gives only the hash: expired, or withheld.
    pub hidden: usize,
    /// Those of them that have certainly not expired.
    pub withheld: u64,
    /// Endpoint of the node that served them.
    pub from: Option<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// How a region stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionState {
    /// Nothing is wrong.
    Complete,
    /// A replica is at fault, or a copy is not complete.
    Faulty,
    /// Nobody there answers.
    Unreachable,
}

/// What was found in one region.
#[derive(Clone, PartialEq, Debug)]
pub struct RegionAudit {
    /// The region, as the latest epoch has it.
    pub region: Region,
    /// How it stands.
    pub state: RegionState,
    /// Blobs of which it has to hold a copy.
    pub blobs: usize,
    /// Those whose copy is complete.
    pub complete: usize,
    /// Those whose payload was rebuilt from this region alone.
    pub rebuilt: usize,
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Audit {
    /// What was audited.
    pub scope: Scope,
    /// Unix seconds at which it began.
    pub begun: u64,
    /// Unix seconds at which it was done.
    pub ended: u64,
    /// The settled block up to which the chain was read; nothing where there is no chain.
    pub head: Option<Head>,
    /// Complete regions that a certificate needs.
    pub min_copies: usize,
    /// The logs, ascending by address.
    pub logs: Vec<LogAudit>,
    /// The blobs, ascending by id.
    pub blobs: Vec<BlobAudit>,
    /// The regions, ascending by id.
    pub regions: Vec<RegionAudit>,
    /// The replicas, ascending by region and seat.
    pub seats: Vec<SeatAudit>,
    /// The faults in the order in which they were seen, no more than [`MAX_FAULTS`].
    pub faults: Vec<Sighting>,
    /// How many faults more there were.
    pub more_faults: usize,
}

/// What is wanted of the logs.
struct Wanted {
    now: u64,
    since: u64,
    blob: Option<BlobId>,
    log: Option<Address>,
}

impl LogAudit {
    fn new(log: Address, anchor: Option<Anchor>) -> Self {
        Self {
            log,
            anchor,
            certified: None,
            size: 0,
            root: B256::ZERO,
            entries: 0,
            hidden: 0,
            withheld: 0,
            from: None,
            problems: Vec::new(),
        }
    }
}

/// Audits the unexpired blobs of all logs.
///
/// At most 100,000 entries; rows of at most 512 MiB are in memory at a time.
///
/// # Errors
/// [`AuditError::TooMany`], and [`AuditError::NotListed`] where one blob was asked for. Replicas that do not answer, or lie,
/// are no error but what an audit finds.
pub async fn audit(
    readers: &Readers,
    scope: Scope,
    logs: &dyn Progress,
    rows: &dyn Progress,
) -> Result<Audit, AuditError> {
    let begun = unix_now();
    let since = if scope.blob.is_some() { 0 } else { scope.since };
    let wanted = Wanted { now: begun, since, blob: scope.blob, log: scope.log };
    let Listing { logs, entries, marks, faults } = listing::list(readers, &wanted, logs).await?;
    if scope.blob.is_some() && entries.is_empty() {
        return Err(AuditError::NotListed);
    }
    let mut targets: BTreeMap<(BlobId, u64), Target> = BTreeMap::new();
    for listed in &entries {
        let (id, epoch) = (listed.entry.blob_id, listed.entry.epoch);
        let target = targets.entry((id, epoch));
        let target = target.or_insert_with(|| Target { id, epoch, entries: Vec::new(), is_whole: false });
        target.entries.push(*listed);
    }
    let mut targets: Vec<Target> = targets.into_values().collect();
    plan::choose(&mut targets, scope.is_deep)?;

    let ledger = Ledger::default();
    faults.into_iter().for_each(|fault| ledger.fault(Sighting::of_log(fault)));
    let blobs = check_all(readers, &targets, &ledger, &marks, scope.samples, rows).await;
    let view = readers.view();
    let seats = seats(&view, &targets, &marks, begun);
    let (seats, faults, more_faults) = ledger.close(seats);
    let regions = regions(&view, &blobs, &seats, begun);
    let min_copies = view.epochs.current(begun).committee.min_copies();
    let (head, ended) = (view.head, unix_now());
    Ok(Audit { scope, begun, ended, head, min_copies, logs, blobs, regions, seats, faults, more_faults })
}

/// Looks at every region's copy of one blob that is known to be there, by a few rows of each replica.
pub(crate) async fn glance(reader: &Reader, listed: Listed, samples: usize) -> (BlobAudit, Vec<SeatAudit>) {
    let (id, epoch) = (listed.entry.blob_id, listed.entry.epoch);
    let target = Target { id, epoch, entries: vec![listed], is_whole: false };
    let (ledger, marks) = (Ledger::default(), Marks::default());
    let (memory, suspects) = (semaphore(), AtomicUsize::new(0));
    let auditor = Auditor {
        ledger: &ledger,
        marks: &marks,
        samples,
        memory: &memory,
        suspects: &suspects,
        progress: &crate::Silent,
    };
    let blob = auditor.check(reader, &target).await;
    let committee = reader.committee();
    let seats = committee.regions().iter().flat_map(|region| committee.seats_of(region.id));
    let (seats, ..) = ledger.close(seats.map(|seat| (seat.clone(), 1, 0)).collect());
    (blob, seats)
}

fn semaphore() -> Semaphore {
    Semaphore::new(usize::try_from(MEMORY).unwrap_or(Semaphore::MAX_PERMITS))
}

/// Audits blobs side by side.
async fn check_all(
    readers: &Readers,
    targets: &[Target],
    ledger: &Ledger,
    marks: &Marks,
    samples: usize,
    progress: &dyn Progress,
) -> Vec<BlobAudit> {
    let (memory, suspects) = (semaphore(), AtomicUsize::new(SUSPECTS));
    let auditor = Auditor { ledger, marks, samples, memory: &memory, suspects: &suspects, progress };
    let bytes = |target: &Target| {
        readers.of(target.epoch).map_or(0, |reader| plan::bytes(reader.committee(), target, samples))
    };
    progress.start(targets.iter().map(bytes).fold(0, u64::saturating_add));
    let checks = targets.iter().map(|target| {
        let auditor = &auditor;
        async move {
            match readers.of(target.epoch) {
                Some(reader) => auditor.check(&reader, target).await,
                None => BlobAudit {
                    id: target.id,
                    epoch: target.epoch,
                    entries: target.entries.clone(),
                    is_whole: false,
                    copies: Vec::new(),
                    defect: Some(Defect::NoCommittee),
                },
            }
        }
    });
    let blobs = stream::iter(checks).buffered(BLOBS_AT_ONCE).collect().await;
    progress.finish();
    blobs
}

/// The seats of the epochs of audited blobs, else of the current one; of each how many entries it owes and cosigned.
fn seats(view: &View, targets: &[Target], marks: &Marks, now: u64) -> Vec<(Seat, usize, usize)> {
    let mut epochs: BTreeSet<u64> = targets.iter().map(|target| target.epoch).collect();
    if epochs.is_empty() {
        epochs.insert(view.epochs.current(now).committee.epoch());
    }
    let mut seats: BTreeMap<(RegionId, u16, Address), (Seat, usize, usize)> = BTreeMap::new();
    for committee in epochs.iter().filter_map(|epoch| view.epochs.committee(*epoch)) {
        let epoch = committee.epoch();
        let entries = || targets.iter().filter(|target| target.epoch == epoch).flat_map(|it| &it.entries);
        let owed = entries().count();
        for seat in committee.seats() {
            let has = |listed: &&Listed| marks.has(listed.log, epoch, seat.address, listed.index);
            let counted = seats.entry((seat.region, seat.number, seat.address));
            let counted = counted.or_insert_with(|| (seat.clone(), 0, 0));
            counted.1 += owed;
            counted.2 += entries().filter(has).count();
        }
    }
    seats.into_values().collect()
}

/// What comes together in each region.
fn regions(view: &View, blobs: &[BlobAudit], seats: &[SeatAudit], now: u64) -> Vec<RegionAudit> {
    let mut regions: BTreeMap<RegionId, Region> = BTreeMap::new();
    for term in view.epochs.terms().iter().filter(|term| term.activation <= now) {
        regions.extend(term.committee.regions().iter().map(|region| (region.id, region.clone())));
    }
    let concerned: BTreeSet<RegionId> = seats.iter().map(|audit| audit.seat.region).collect();
    let regions = regions.into_values().filter(|region| concerned.contains(&region.id));
    let audit = |region: Region| {
        let copies = || blobs.iter().flat_map(|blob| &blob.copies).filter(|copy| copy.region == region.id);
        let of_state = |state| copies().filter(|copy| copy.state == state).count();
        let (all, complete) = (copies().count(), of_state(CopyState::Complete));
        let at_fault = seats.iter().any(|audit| audit.seat.region == region.id && audit.first.is_some());
        let is_silent = seats
            .iter()
            .filter(|audit| audit.seat.region == region.id)
            .all(|audit| audit.latency.is_none() && audit.first.is_some());
        let state = match () {
            () if is_silent && of_state(CopyState::Unreachable) == all => RegionState::Unreachable,
            () if at_fault || complete < all => RegionState::Faulty,
            () => RegionState::Complete,
        };
        let rebuilt = copies().filter(|copy| copy.payload_hash.is_some()).count();
        RegionAudit { region, state, blobs: all, complete, rebuilt }
    };
    regions.map(audit).collect()
}
