//! Collects enough verified rows of a blob to decode it, from wherever they are.
//!
//! Rows are asked for in parts of about 1 MiB, from the seats of the nearest region first, each only for rows of its
//! own interval. For a reader that hurries, a part that is later than nineteen of twenty is asked for elsewhere as well, as
//! far as that costs few bytes; a seat that fails, lies or stands still hands what is left of its share to the next in the order. So a region that
//! is down, or half of several regions, costs no row that was already fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::Address;
use meridian_proofs::committee::{RegionId, Seat};
use meridian_proofs::placement;
use meridian_proofs::reconstruct::RowSet;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::{RowRange, Shape};
use meridian_proto::error::ApiError;
use tokio::time::Instant;

use super::{Fault, FaultKind, ReadError, Reader};
use crate::nearest::{MEASURABLE, Took};

/// Bytes of rows in one call.
const PART_BYTES: usize = 1 << 20;
/// Calls to one seat at once.
const SEAT_CALLS: usize = 4;
/// Calls in all at once: with the size of a part this bounds what is in memory beside the verified rows.
const ALL_CALLS: usize = 8;
/// Longest wait for a part.
const DEADLINE: Duration = Duration::from_secs(30);
/// Wait for a part before nothing more is expected of a seat.
pub(super) const OVERDUE: Duration = Duration::from_secs(2);
/// Late parts of a seat after which nothing more is expected of it.
const MOST_LATE: usize = 2;

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
        let bytes = bytes(context.shape(), context.shape().data());
        let order = self.nearest.regions(&self.committee, bytes, |_| Duration::ZERO);
        self.gather_in(context, &order, held_only, Manner::default()).await
    }

    /// Like [`Reader::gather`], with the order of the regions, and how it is to be done.
    pub(super) async fn gather_in(
        &self,
        context: &Arc<BlobContext>,
        order: &[RegionId],
        held_only: bool,
        manner: Manner<'_>,
    ) -> Result<Gathered, ReadError> {
        let shape = context.shape();
        let bytes = bytes(shape, shape.data());
        let lanes = order
            .iter()
            .flat_map(|region| self.seats(*region, bytes))
            .map(|seat| Lane {
                ranges: placement::interval(&self.committee, &seat, &context.id(), shape).ranges().to_vec(),
                seat,
                queue: VecDeque::new(),
                running: 0,
                usable: true,
                verified: 0,
                carried: None,
            })
            .collect();
        let Manner { hurries, in_order, begun, faults, verified } = manner;
        let mut gather = Gather {
            reader: self,
            context,
            held_only: true,
            hurries,
            in_order,
            verified,
            lanes,
            rows: vec![Row::Free; shape.total_rows()],
            covered: 0,
            parts: 0,
            set: RowSet::new(context.clone()),
            faults,
            late: BTreeMap::new(),
            overdue: BTreeSet::new(),
        };
        gather.rule_out_liars();
        for (seat, rows) in begun {
            gather.begin_with(seat, rows)?;
        }
        let mut done = gather.run().await?;
        if !done && !held_only {
            gather.held_only = false;
            gather.lanes.iter_mut().for_each(|lane| lane.usable = true);
            gather.rule_out_liars();
            done = gather.run().await?;
        }
        gather.finish(done)
    }
}

/// How rows are collected.
#[derive(Default)]
pub(super) struct Manner<'a> {
    /// Others are asked for parts that are late, while rows on disk are asked for; without that, and while rows are rebuilt,
    /// only for those that are overdue.
    pub(super) hurries: bool,
    /// The rows with padding are asked for before the others: before they are here nobody knows whether there is a payload.
    pub(super) in_order: bool,
    /// Rows that are here already, each with the seat that gave them.
    pub(super) begun: Vec<(Address, VerifiedRange)>,
    /// What went wrong so far: liars are not asked.
    pub(super) faults: Vec<Fault>,
    /// Is given rows once they are verified, and how many of them were not here before.
    pub(super) verified: Option<Sink<'a>>,
}

/// Is given verified rows, and how many of them are new.
type Sink<'a> = &'a (dyn Fn(&VerifiedRange, usize) + Sync);

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
    /// Bytes that came, how long some were on their way, and when the last one came.
    carried: Option<(u64, Duration, Instant)>,
}

type Answer = Result<VerifiedRange, Fault>;

/// When an answer began and when its last byte came.
pub(super) struct Clock {
    called: Instant,
    began: OnceLock<Instant>,
    ended: OnceLock<Instant>,
    /// Calls to the same seat that share the way, this one included.
    among: usize,
    /// Whether none of them was made before.
    is_first: bool,
}

impl Clock {
    fn start(among: usize, is_first: bool) -> Arc<Self> {
        let (began, ended) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { called: Instant::now(), began, ended, among, is_first })
    }
}

/// A call for a part.
struct Call {
    lane: usize,
    part: Part,
    clock: Arc<Clock>,
}

/// What became of a call by now.
enum Step {
    Done(Call, Answer),
    Slow(Call, BoxFuture<'static, Answer>),
}

/// Waits for a call as long as `patience` since it was made.
async fn wait(call: Call, patience: Duration, mut answer: BoxFuture<'static, Answer>) -> Step {
    match tokio::time::timeout_at(call.clock.called + patience, &mut answer).await {
        Ok(answer) => Step::Done(call, answer),
        Err(_) => Step::Slow(call, answer),
    }
}

struct Gather<'a> {
    reader: &'a Reader,
    context: &'a Arc<BlobContext>,
    held_only: bool,
    hurries: bool,
    in_order: bool,
    verified: Option<Sink<'a>>,
    lanes: Vec<Lane>,
    rows: Vec<Row>,
    /// Rows that are assigned or verified.
    covered: usize,
    parts: u32,
    set: RowSet,
    faults: Vec<Fault>,
    /// Calls whose parts were asked of others too, because they did not come, by the number of the part.
    late: BTreeMap<u32, (usize, RowRange, Arc<Clock>)>,
    /// Those from whose seats nothing more is expected.
    overdue: BTreeSet<u32>,
}

impl Gather<'_> {
    fn is_liar(&self, seat: &Address) -> bool {
        self.faults.iter().any(|fault| fault.seat == *seat && fault.kind == FaultKind::Wrong)
    }

    /// Expects nothing of those who lied.
    fn rule_out_liars(&mut self) {
        for lane in 0..self.lanes.len() {
            self.lanes[lane].usable &= !self.is_liar(&self.lanes[lane].seat.address);
        }
    }

    /// Takes rows that are here already.
    fn begin_with(&mut self, seat: Address, rows: VerifiedRange) -> Result<(), ReadError> {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.seat.address == seat) {
            lane.verified += index(rows.range().count());
        }
        self.take(rows)
    }

    /// Works until the rows can be decoded (true) or nobody is left to ask (false).
    async fn run(&mut self) -> Result<bool, ReadError> {
        let mut calls: FuturesUnordered<BoxFuture<'static, Step>> = FuturesUnordered::new();
        loop {
            if self.set.is_decodable() {
                return Ok(true);
            }
            self.assign()?;
            self.start(&mut calls);
            match calls.next().await {
                None => return Ok(false),
                Some(Step::Slow(call, answer)) => {
                    let is_overdue = call.clock.called.elapsed() >= OVERDUE;
                    let bytes = bytes(self.context.shape(), call.part.range);
                    // What is here and only not checked yet is not the seat's matter.
                    let is_missing = !is_overdue && call.clock.ended.get().is_none();
                    let is_late = is_missing && self.reader.hedges.spend(bytes);
                    if is_overdue || is_late {
                        let late = (call.lane, call.part.range, Arc::clone(&call.clock));
                        self.late.insert(call.part.number, late);
                        self.hedge(&call, is_overdue);
                    }
                    if is_overdue {
                        if call.clock.began.get().is_none() {
                            self.reader.channels.renew(&self.lanes[call.lane].seat.endpoint);
                        }
                        self.overdue.insert(call.part.number);
                        calls.push(Box::pin(async move { Step::Done(call, answer.await) }));
                    } else {
                        calls.push(Box::pin(wait(call, OVERDUE, answer)));
                    }
                }
                Some(Step::Done(call, Ok(rows))) => {
                    self.late.remove(&call.part.number);
                    self.overdue.remove(&call.part.number);
                    self.accept(&call, rows)?;
                }
                Some(Step::Done(call, Err(fault))) => {
                    self.late.remove(&call.part.number);
                    self.overdue.remove(&call.part.number);
                    self.lanes[call.lane].running -= 1;
                    self.give_up(call.lane, call.part);
                    fault.report();
                    self.reader.note(&fault);
                    self.faults.push(fault);
                    self.rule_out_liars();
                }
            }
        }
    }

    /// Assigns rows to usable seats, in their order, until enough rows are covered.
    fn assign(&mut self) -> Result<(), ReadError> {
        let shape = self.context.shape();
        let part_rows = (PART_BYTES / shape.row_bytes()).max(1);
        let last_data_row = shape.data().end() - 1;
        for (number, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.usable) {
            // What it is late with is left to others.
            let late = self.late.values().filter(|(lane, ..)| *lane == number);
            let late: Vec<RowRange> = late.map(|(_, range, _)| *range).collect();
            for range in &lane.ranges {
                let mut next = range.start();
                while next < range.end() && self.covered < shape.data_rows() {
                    let free = (next..range.end())
                        .take(part_rows.min(shape.data_rows() - self.covered))
                        .take_while(|row| {
                            let is_late = late.iter().any(|late| (late.start()..late.end()).contains(row));
                            self.rows[index(*row)] == Row::Free && !is_late
                        })
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
                    let has_padding = (part.start()..part.end()).contains(&last_data_row);
                    let part = Part { number: self.parts, range: part };
                    if self.in_order && has_padding {
                        lane.queue.push_front(part);
                    } else {
                        lane.queue.push_back(part);
                    }
                    next = part.range.end();
                }
            }
        }
        Ok(())
    }

    /// Starts calls for queued parts, within the bounds.
    fn start(&mut self, calls: &mut FuturesUnordered<BoxFuture<'static, Step>>) {
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            // Who stands still must not keep the others from being asked.
            while calls.len() - self.overdue.len() < ALL_CALLS && lane.running < SEAT_CALLS {
                let Some(part) = lane.queue.pop_front() else { break };
                let among = (lane.running + 1 + lane.queue.len()).min(SEAT_CALLS);
                let clock = Clock::start(among, lane.running == 0);
                lane.running += 1;
                let answer = fetch_timed(
                    self.reader.clone(),
                    self.context.clone(),
                    lane.seat.clone(),
                    part.range,
                    self.held_only,
                    Arc::clone(&clock),
                );
                let patience = if self.hurries && self.held_only {
                    // What runs beside it takes its share of the way.
                    let bytes = bytes(self.context.shape(), part.range).saturating_mul(wide(among));
                    self.reader.nearest.patience(&lane.seat.address, bytes)
                } else {
                    OVERDUE
                };
                calls.push(Box::pin(wait(Call { lane: number, part, clock }, patience, Box::pin(answer))));
            }
        }
    }

    /// Lets others be asked for a part that is late; also for what is queued behind it, where nothing more is expected.
    fn hedge(&mut self, call: &Call, is_overdue: bool) {
        let late = self.late.values().filter(|(lane, ..)| *lane == call.lane).count();
        if is_overdue || late >= MOST_LATE {
            return self.give_up(call.lane, call.part);
        }
        self.free(call.part);
    }

    /// Hands a part, and what is queued behind it, to others.
    fn give_up(&mut self, lane: usize, part: Part) {
        self.lanes[lane].usable = false;
        let queued = std::mem::take(&mut self.lanes[lane].queue);
        queued.into_iter().chain([part]).for_each(|part| self.free(part));
    }

    /// Makes the rows of a part free, unless they came or were given to others meanwhile.
    fn free(&mut self, part: Part) {
        for row in &mut self.rows[index(part.range.start())..index(part.range.end())] {
            if *row == Row::Assigned(part.number) {
                *row = Row::Free;
                self.covered -= 1;
            }
        }
    }

    /// Takes verified rows.
    fn accept(&mut self, call: &Call, rows: VerifiedRange) -> Result<(), ReadError> {
        let range = call.part.range;
        let is_liar = self.is_liar(&self.lanes[call.lane].seat.address);
        let bytes = bytes(self.context.shape(), range);
        self.reader.hedges.earn(bytes);
        let lane = &mut self.lanes[call.lane];
        lane.running -= 1;
        // It may have been slow, but it works.
        lane.usable = !is_liar;
        lane.verified += index(range.count());
        if let (Some(began), Some(ended)) = (call.clock.began.get(), call.clock.ended.get()) {
            let (before, busy, last) = lane.carried.unwrap_or((0, Duration::ZERO, *began));
            // Not what it was idle in between, while others were waited for.
            let busy = busy + ended.saturating_duration_since(last.max(*began));
            lane.carried = Some((before + bytes, busy, last.max(*ended)));
        }
        self.take(rows)
    }

    fn take(&mut self, rows: VerifiedRange) -> Result<(), ReadError> {
        let mut fresh = 0;
        for row in &mut self.rows[index(rows.range().start())..index(rows.range().end())] {
            self.covered += usize::from(*row == Row::Free);
            fresh += usize::from(*row != Row::Verified);
            *row = Row::Verified;
        }
        if let Some(verified) = self.verified {
            verified(&rows, fresh);
        }
        self.set.insert(rows).map_err(|other| ReadError::Internal(other.to_string()))
    }

    fn finish(mut self, done: bool) -> Result<Gathered, ReadError> {
        let nearest = &self.reader.nearest;
        for lane in &self.lanes {
            if let Some((bytes, busy, _)) = lane.carried {
                nearest.answered(lane.seat.address, Took::Transfer(bytes, busy));
            }
        }
        for (lane, range, clock) in self.late.values() {
            let (seat, bytes) = (self.lanes[*lane].seat.address, bytes(self.context.shape(), *range));
            match clock.began.get() {
                Some(began) if bytes >= MEASURABLE => {
                    nearest.slow(seat, bytes.saturating_mul(wide(clock.among)), began.elapsed());
                }
                _ => nearest.late(seat, clock.called.elapsed()),
            }
        }
        // Who has not answered to the end in all that time, each once. Who was only slower than usual is not to blame.
        let overdue = self.late.iter().filter(|(part, _)| self.overdue.contains(part));
        for lane in overdue.map(|(_, (lane, ..))| *lane).collect::<BTreeSet<_>>() {
            let fault = Fault::silent(&self.lanes[lane].seat, OVERDUE);
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

/// Fetches and verifies some rows of one seat.
pub(super) async fn fetch(
    reader: Reader,
    context: Arc<BlobContext>,
    seat: Seat,
    range: RowRange,
    held_only: bool,
) -> Answer {
    fetch_timed(reader, context, seat, range, held_only, Clock::start(1, true)).await
}

async fn fetch_timed(
    reader: Reader,
    context: Arc<BlobContext>,
    seat: Seat,
    range: RowRange,
    held_only: bool,
    clock: Arc<Clock>,
) -> Answer {
    let row_bytes = context.shape().row_bytes();
    let call = async {
        let replica = reader.channels.replica(&seat.endpoint)?.within(DEADLINE);
        let began = || {
            clock.began.get_or_init(Instant::now);
        };
        replica.rows_once_begun(context.id(), range, row_bytes, held_only, began).await
    };
    let (rows, proof) = call.await.map_err(|error: ApiError| Fault::of(&seat, &error))?;
    let ended = *clock.ended.get_or_init(Instant::now);
    let began = clock.began.get().map_or(ended, |began| *began);
    // Behind others it waits for them too; and to rebuild rows takes time whoever does it.
    let took = match bytes(context.shape(), range) {
        _ if !clock.is_first || !held_only => Took::Transfer(0, Duration::ZERO),
        MEASURABLE.. => Took::FirstByte(began - clock.called),
        _ => Took::FirstByte(ended - clock.called),
    };
    reader.nearest.answered(seat.address, took);
    reader
        .compute(move || context.check_range(range, rows, &proof))
        .await
        .map_err(|error| Fault { kind: FaultKind::Silent, ..Fault::wrong(&seat, error) })?
        .map_err(|error| Fault::wrong(&seat, error))
}

/// Bytes of the rows of a range.
pub(super) fn bytes(shape: Shape, range: RowRange) -> u64 {
    u64::from(range.count()).saturating_mul(wide(shape.row_bytes()))
}

/// A number of things in memory.
pub(super) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A row number as an index into a vector of rows.
fn index(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
