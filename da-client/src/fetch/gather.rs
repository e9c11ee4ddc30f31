//! Collects enough verified rows of a blob to decode it, from wherever they are.
//!
//! Rows are asked for in parts of about 1 MiB, from the seats of the nearest region first, each only for rows of its
//! own interval. A seat that fails, lies or is slow hands what is left of its share to the next in the order, so a
//! region that is down, or half of several regions, costs no row that was already fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::committee::{RegionId, Seat};
use meridian_proofs::placement;
use meridian_proofs::reconstruct::RowSet;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::RowRange;
use meridian_proto::error::ApiError;
use tokio::time::Instant;

use super::{Fault, FaultKind, ReadError, Reader};

/// Bytes of rows in one call.
const PART_BYTES: usize = 1 << 20;
/// Calls to one seat at once.
const SEAT_CALLS: usize = 4;
/// Calls in all at once: with the size of a part this bounds what is in memory beside the verified rows.
const ALL_CALLS: usize = 8;
/// Longest wait for a part.
const DEADLINE: Duration = Duration::from_secs(30);
/// Wait for a part before another seat is asked for it.
const HEDGE: Duration = Duration::from_secs(2);

/// Enough verified rows to decode a blob.
pub struct Gathered {
    /// The rows.
    pub rows: RowSet,
    /// The regions that gave rows, the one that gave most first.
    pub regions: Vec<RegionId>,
    /// What went wrong on the way.
    pub faults: Vec<Fault>,
}

impl Reader {
    /// Collects K verified rows of a blob from wherever they are, nearest region first.
    ///
    /// Each replica is asked only for rows of its own interval. With `held_only` no replica rebuilds rows to answer: how
    /// replicas ask each other. Without it, rebuilding is asked for only after the rows on disk were not enough. At
    /// most 8 MiB are in flight beside the verified rows.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] when fewer than K verified rows can be had now.
    pub async fn gather(&self, context: &Arc<BlobContext>, held_only: bool) -> Result<Gathered, ReadError> {
        let order = self.nearest.regions(&self.committee, |_| Duration::ZERO);
        self.gather_in(context, &order, held_only, &|_| {}).await
    }

    /// Like [`Reader::gather`], with the order of the regions, and `verified` called with the number of rows of each
    /// part that was verified.
    pub(super) async fn gather_in(
        &self,
        context: &Arc<BlobContext>,
        order: &[RegionId],
        held_only: bool,
        verified: &(dyn Fn(usize) + Sync),
    ) -> Result<Gathered, ReadError> {
        let shape = context.shape();
        let lanes = order
            .iter()
            .flat_map(|region| self.seats(*region))
            .map(|seat| Lane {
                ranges: placement::interval(&self.committee, &seat, &context.id(), shape).ranges().to_vec(),
                seat,
                queue: VecDeque::new(),
                running: 0,
                usable: true,
                verified: 0,
            })
            .collect();
        let mut gather = Gather {
            reader: self,
            context,
            held_only: true,
            lanes,
            rows: vec![Row::Free; shape.total_rows()],
            covered: 0,
            parts: 0,
            set: RowSet::new(context.clone()),
            faults: Vec::new(),
            late: BTreeMap::new(),
        };
        let mut done = gather.run(verified).await?;
        if !done && !held_only {
            gather.held_only = false;
            for lane in &mut gather.lanes {
                lane.usable = !gather
                    .faults
                    .iter()
                    .any(|fault| fault.seat == lane.seat.address && fault.kind == FaultKind::Wrong);
            }
            done = gather.run(verified).await?;
        }
        gather.finish(done)
    }
}

/// What is known of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Row {
    Free,
    /// Part of the part with this number, which is queued or asked for.
    Assigned(u32),
    Verified,
}

/// Rows that are asked for in one call.
#[derive(Clone, Copy)]
struct Part {
    number: u32,
    range: RowRange,
}

/// A seat and its share of the work.
struct Lane {
    seat: Seat,
    ranges: Vec<RowRange>,
    queue: VecDeque<Part>,
    running: usize,
    usable: bool,
    verified: usize,
}

type Answer = Result<VerifiedRange, Fault>;

/// What became of a call by now.
enum Step {
    Done(usize, Part, Answer),
    Slow(usize, Part, BoxFuture<'static, Answer>),
}

struct Gather<'a> {
    reader: &'a Reader,
    context: &'a Arc<BlobContext>,
    held_only: bool,
    lanes: Vec<Lane>,
    rows: Vec<Row>,
    /// Rows that are assigned or verified.
    covered: usize,
    parts: u32,
    set: RowSet,
    faults: Vec<Fault>,
    /// Parts that were asked of others too, because they did not come, and the lane of each.
    late: BTreeMap<u32, usize>,
}

impl Gather<'_> {
    /// Works until the rows can be decoded (true) or nobody is left to ask (false).
    async fn run(&mut self, verified: &(dyn Fn(usize) + Sync)) -> Result<bool, ReadError> {
        let mut calls: FuturesUnordered<BoxFuture<'static, Step>> = FuturesUnordered::new();
        loop {
            if self.set.is_decodable() {
                return Ok(true);
            }
            self.assign()?;
            self.start(&mut calls);
            match calls.next().await {
                None => return Ok(false),
                Some(Step::Slow(lane, part, call)) => {
                    self.late.insert(part.number, lane);
                    self.give_up(lane, part);
                    calls.push(Box::pin(async move { Step::Done(lane, part, call.await) }));
                }
                Some(Step::Done(lane, part, Ok(rows))) => {
                    self.late.remove(&part.number);
                    let before = self.set.distinct_rows();
                    self.accept(lane, part, rows)?;
                    verified(self.set.distinct_rows() - before);
                }
                Some(Step::Done(lane, part, Err(fault))) => {
                    self.late.remove(&part.number);
                    self.lanes[lane].running -= 1;
                    self.give_up(lane, part);
                    fault.report();
                    if fault.kind == FaultKind::Silent {
                        self.reader.nearest.failed(fault.seat);
                    }
                    self.faults.push(fault);
                }
            }
        }
    }

    /// Assigns rows to usable seats, in their order, until enough rows are covered.
    fn assign(&mut self) -> Result<(), ReadError> {
        let shape = self.context.shape();
        let part_rows = (PART_BYTES / shape.row_bytes()).max(1);
        for lane in self.lanes.iter_mut().filter(|lane| lane.usable) {
            for range in &lane.ranges {
                let mut next = range.start();
                while next < range.end() && self.covered < shape.data_rows() {
                    let free = self.rows[index(next)..index(range.end())]
                        .iter()
                        .take(part_rows.min(shape.data_rows() - self.covered))
                        .take_while(|row| **row == Row::Free)
                        .count();
                    let Some(part) = u32::try_from(free).ok().and_then(|free| shape.range(next, free)) else {
                        next += 1;
                        continue;
                    };
                    self.parts = self
                        .parts
                        .checked_add(1)
                        .ok_or_else(|| ReadError::Internal("part numbers used up".to_owned()))?;
                    self.rows[index(next)..index(part.end())].fill(Row::Assigned(self.parts));
                    self.covered += free;
                    lane.queue.push_back(Part { number: self.parts, range: part });
                    next = part.end();
                }
            }
        }
        Ok(())
    }

    /// Starts calls for queued parts, within the bounds.
    fn start(&mut self, calls: &mut FuturesUnordered<BoxFuture<'static, Step>>) {
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            while calls.len() < ALL_CALLS && lane.running < SEAT_CALLS {
                let Some(part) = lane.queue.pop_front() else { break };
                lane.running += 1;
                let mut call: BoxFuture<'static, Answer> = Box::pin(fetch(
                    self.reader.clone(),
                    self.context.clone(),
                    lane.seat.clone(),
                    part.range,
                    self.held_only,
                ));
                calls.push(Box::pin(async move {
                    match tokio::time::timeout(HEDGE, &mut call).await {
                        Ok(answer) => Step::Done(number, part, answer),
                        Err(_) => Step::Slow(number, part, call),
                    }
                }));
            }
        }
    }

    /// Hands a part, and what is queued behind it, to others.
    fn give_up(&mut self, lane: usize, part: Part) {
        self.lanes[lane].usable = false;
        let queued = std::mem::take(&mut self.lanes[lane].queue);
        for part in queued.into_iter().chain([part]) {
            for row in &mut self.rows[index(part.range.start())..index(part.range.end())] {
                if *row == Row::Assigned(part.number) {
                    *row = Row::Free;
                    self.covered -= 1;
                }
            }
        }
    }

    /// Takes verified rows.
    fn accept(&mut self, lane: usize, part: Part, rows: VerifiedRange) -> Result<(), ReadError> {
        for row in &mut self.rows[index(part.range.start())..index(part.range.end())] {
            if *row == Row::Free {
                self.covered += 1;
            }
            *row = Row::Verified;
        }
        let lane = &mut self.lanes[lane];
        lane.running -= 1;
        // It may have been slow, but it works.
        lane.usable = true;
        lane.verified += index(part.range.count());
        self.set.insert(rows).map_err(|other| ReadError::Internal(other.to_string()))
    }

    fn finish(mut self, done: bool) -> Result<Gathered, ReadError> {
        // Who has not answered to the end, each once.
        for lane in self.late.values().copied().collect::<BTreeSet<_>>() {
            let fault = Fault::silent(&self.lanes[lane].seat, HEDGE);
            fault.report();
            self.faults.push(fault);
        }
        if !done {
            return Err(ReadError::Unavailable {
                have: self.set.distinct_rows(),
                need: self.context.shape().data_rows(),
                faults: self.faults,
            });
        }
        let mut regions: Vec<(usize, RegionId)> = Vec::new();
        for lane in self.lanes.iter().filter(|lane| lane.verified > 0) {
            match regions.iter_mut().find(|(_, region)| *region == lane.seat.region) {
                Some((rows, _)) => *rows += lane.verified,
                None => regions.push((lane.verified, lane.seat.region)),
            }
        }
        regions.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
        let regions = regions.into_iter().map(|(_, region)| region).collect();
        Ok(Gathered { rows: self.set, regions, faults: self.faults })
    }
}

/// Fetches and verifies one part.
pub(super) async fn fetch(
    reader: Reader,
    context: Arc<BlobContext>,
    seat: Seat,
    range: RowRange,
    held_only: bool,
) -> Answer {
    let started = Instant::now();
    let row_bytes = context.shape().row_bytes();
    let call = async {
        let replica = reader.channels.replica(&seat.endpoint)?.within(DEADLINE);
        replica.rows(context.id(), range, row_bytes, held_only).await
    };
    let (rows, proof) = call.await.map_err(|error: ApiError| Fault::of(&seat, &error))?;
    reader.nearest.answered(seat.address, started.elapsed());
    reader
        .compute(move || context.check_range(range, rows, &proof))
        .await
        .map_err(|error| Fault { kind: FaultKind::Silent, ..Fault::wrong(&seat, error) })?
        .map_err(|error| Fault::wrong(&seat, error))
}

/// A row number as an index into a vector of rows.
fn index(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
