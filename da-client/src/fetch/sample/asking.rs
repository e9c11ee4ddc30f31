//! Asks for the rows of a sample until each has verified, or nobody is left to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::committee::Seat;
use meridian_proofs::placement;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowIndex;
use meridian_proto::error::Reason;
use tokio::time::Instant;

use super::super::{Fault, FaultKind, Reader, gather};
use super::plan::Plan;
use super::{Draw, Sampled};
use crate::nearest::Took;

/// Longest wait for the rows of one call, also where nobody else can give them.
const DEADLINE: Duration = Duration::from_secs(30);
/// What a replica may take to rebuild a blob, beside the time for its bytes and for the answer.
const REBUILD: Duration = Duration::from_millis(250);
/// Bytes of payload a second at which it may do that: a slow machine, with other things to do.
const REBUILD_RATE: u64 = 32 << 20;

/// Rows that one seat is asked for.
#[derive(Clone)]
struct Call {
    number: usize,
    place: usize,
    seat: Seat,
    rows: Vec<RowIndex>,
    /// Whether it holds none of them.
    rebuilds: bool,
    asked: Instant,
    /// How long that may take.
    patience: Duration,
    /// Others were asked for the rows.
    is_handed_on: bool,
}

/// Rows that verified, what was wrong, and whether that was no more than that rows cannot be rebuilt now.
type Answer = (Vec<RowIndex>, Option<Fault>, bool);

/// What became of a call by now.
enum Step {
    Done(Call, Answer),
    Late(Call, BoxFuture<'static, Answer>),
}

/// Waits for a call, as long as `patience` since it was made.
async fn wait(call: Call, patience: Duration, mut answer: BoxFuture<'static, Answer>) -> Step {
    match tokio::time::timeout_at(call.asked + patience, &mut answer).await {
        Ok(answer) => Step::Done(call, answer),
        Err(_) => Step::Late(call, answer),
    }
}

/// A sample that is being taken.
pub(super) struct Sampling<'a> {
    reader: &'a Reader,
    context: &'a Arc<BlobContext>,
    plan: Plan,
    sampled: Sampled,
    running: FuturesUnordered<BoxFuture<'static, Step>>,
    /// Calls that have not been answered.
    silent: BTreeMap<usize, Call>,
    calls: usize,
    /// Somebody did not rebuild rows: those who hold them are asked before others who would have to.
    is_refused: bool,
}

impl<'a> Sampling<'a> {
    pub(super) fn new(reader: &'a Reader, context: &'a Arc<BlobContext>, draw: &Draw, plan: Plan) -> Self {
        let sampled = Sampled {
            id: context.id(),
            shape: context.shape(),
            drawn: draw.rows().to_vec(),
            verified: BTreeSet::new(),
            exact: false,
            regions: BTreeSet::new(),
            faults: Vec::new(),
        };
        let (running, silent) = (FuturesUnordered::new(), BTreeMap::new());
        Self { reader, context, plan, sampled, running, silent, calls: 0, is_refused: false }
    }

    pub(super) async fn run(mut self) -> Sampled {
        self.ask(self.sampled.drawn.clone());
        while self.sampled.verified.len() < self.sampled.drawn.len() {
            match self.running.next().await {
                None => break,
                Some(Step::Late(call, answer)) => self.hand_on(call, answer),
                Some(Step::Done(call, answer)) => self.take(&call, answer),
            }
        }
        self.note_silent();
        self.sampled
    }

    /// Asks the next seat in the plan of each row, each seat once for all rows that it holds and for which it is the next,
    /// and once for all that it has to rebuild: where it cannot, it gives the others all the same.
    fn ask(&mut self, rows: Vec<RowIndex>) {
        let mut questions: BTreeMap<(usize, bool), Vec<RowIndex>> = BTreeMap::new();
        for row in rows {
            if !self.sampled.verified.contains(&row)
                && let Some(place) = self.next(row)
            {
                questions.entry((place, self.holds(place, row))).or_default().push(row);
            }
        }
        for ((place, is_held), rows) in questions {
            if let Some(seat) = self.reader.committee.seats().get(place).cloned() {
                self.call(place, seat, rows, !is_held);
            }
        }
    }

    /// Whether a seat has to hold a row.
    fn holds(&self, place: usize, row: RowIndex) -> bool {
        let committee = &self.reader.committee;
        committee.seats().get(place).is_some_and(|seat| {
            placement::interval(committee, seat, &self.context.id(), self.context.shape()).contains(row)
        })
    }

    /// The seat that is to be asked next for a row: no liar, and whoever lets others wait only where nobody else is left.
    fn next(&mut self, row: RowIndex) -> Option<usize> {
        let (reader, sampled, silent) = (self.reader, &self.sampled, &self.silent);
        let is_out = |place: usize| {
            let seat = reader.committee.seats().get(place);
            seat.is_none_or(|seat| sampled.is_out(seat))
        };
        let is_late = |place: usize| silent.values().any(|call| call.place == place && call.is_handed_on);
        let mut order = self.plan.get(&row)?.clone();
        order.retain(|place| !is_out(*place));
        let is_holder = |place: &usize| self.is_refused && !is_late(*place) && self.holds(*place, row);
        let next = order.iter().position(is_holder);
        let next = next.or_else(|| order.iter().position(|place| !is_late(*place))).unwrap_or(0);
        let next = order.remove(next);
        self.plan.insert(row, order);
        next
    }

    fn call(&mut self, place: usize, seat: Seat, rows: Vec<RowIndex>, rebuilds: bool) {
        let (shape, reader) = (self.context.shape(), self.reader);
        let mut patience = reader.nearest.patience(&seat.address, self.bytes(&rows));
        if rebuilds {
            let data = gather::bytes(shape, shape.data());
            patience += REBUILD + Duration::from_millis(data / (REBUILD_RATE / 1_000));
        }
        self.calls += 1;
        let asked = Instant::now();
        let call =
            Call { number: self.calls, place, seat, rows, rebuilds, asked, patience, is_handed_on: false };
        self.silent.insert(call.number, call.clone());
        let answer = ask(reader.clone(), Arc::clone(self.context), call.clone());
        self.running.push(Box::pin(wait(call, patience, Box::pin(answer))));
    }

    fn bytes(&self, rows: &[RowIndex]) -> u64 {
        gather::wide(rows.len()).saturating_mul(gather::wide(self.context.shape().row_bytes()))
    }

    /// Asks others for what is late, as far as that costs few bytes, or once it is overdue. It may still come.
    fn hand_on(&mut self, mut call: Call, answer: BoxFuture<'static, Answer>) {
        let overdue = call.overdue();
        let is_overdue = call.asked.elapsed() >= overdue;
        if !is_overdue && !self.reader.hedges.spend(self.bytes(&call.rows)) {
            return self.running.push(Box::pin(wait(call, overdue, answer)));
        }
        call.is_handed_on = true;
        self.silent.insert(call.number, call.clone());
        let rows = call.rows.clone();
        self.running.push(Box::pin(async move { Step::Done(call, answer.await) }));
        self.ask(rows);
    }

    fn take(&mut self, call: &Call, (verified, fault, is_refused): Answer) {
        self.silent.remove(&call.number);
        self.is_refused |= is_refused;
        if !verified.is_empty() {
            self.reader.hedges.earn(self.bytes(&verified));
            self.sampled.regions.insert(call.seat.region);
            self.sampled.verified.extend(verified);
        }
        if let Some(fault) = fault {
            fault.report();
            self.sampled.faults.push(fault);
        }
        if !call.is_handed_on {
            self.ask(call.rows.clone());
        }
    }

    /// Notes who has not answered before others had given everything.
    fn note_silent(&mut self) {
        for call in self.silent.values() {
            let waited = call.asked.elapsed();
            if waited > call.patience {
                self.reader.nearest.late(call.seat.address, waited);
            }
            if waited >= call.overdue() {
                let fault = Fault::silent(&call.seat, waited);
                fault.report();
                self.sampled.faults.push(fault);
            }
        }
    }
}

impl Call {
    /// Time after which nothing more is expected of the seat.
    fn overdue(&self) -> Duration {
        self.patience.max(gather::OVERDUE)
    }
}

impl Sampled {
    /// Whether a seat lied or was out of reach, so that others are asked instead.
    fn is_out(&self, seat: &Seat) -> bool {
        self.faults.iter().any(|fault| fault.seat == seat.address && fault.kind != FaultKind::Missing)
    }
}

/// Asks a seat for rows and tells which verified, and what went wrong.
async fn ask(reader: Reader, context: Arc<BlobContext>, call: Call) -> Answer {
    let Call { seat, rows, rebuilds, asked, .. } = call;
    let row_bytes = context.shape().row_bytes();
    let answer = async {
        let replica = reader.channels.replica(&seat.endpoint)?.within(DEADLINE);
        replica.samples(context.id(), &rows, row_bytes).await
    };
    let samples = match answer.await {
        Ok(samples) => samples,
        Err(error) => {
            let mut fault = Fault::of(&seat, &error);
            let is_refused =
                rebuilds && error.reason != Reason::Unreachable && fault.kind == FaultKind::Silent;
            if is_refused {
                // Who cannot rebuild a blob now may well give what it holds.
                fault.kind = FaultKind::Missing;
            }
            reader.note(&fault);
            return (Vec::new(), Some(fault), is_refused);
        }
    };
    // To rebuild rows takes time whoever does it: that says nothing about the way.
    let bytes = samples.iter().map(|sample| gather::wide(sample.row.len())).sum();
    let took =
        if rebuilds { Took::Transfer(0, Duration::ZERO) } else { Took::Answer(bytes, asked.elapsed()) };
    reader.nearest.answered(seat.address, took);
    let check = move || {
        let mut verified = Vec::new();
        for sample in samples {
            match context.check_row(sample.index, sample.row, &sample.path) {
                Ok(_) => verified.push(sample.index),
                Err(error) => return (verified, Some(error)),
            }
        }
        (verified, None)
    };
    match reader.compute(check).await {
        Ok((verified, wrong)) => {
            let fault = wrong.map(|what| Fault::wrong(&seat, what));
            fault.iter().for_each(|fault| reader.note(fault));
            (verified, fault, false)
        }
        Err(error) => {
            let fault = Fault { kind: FaultKind::Silent, ..Fault::wrong(&seat, error) };
            (Vec::new(), Some(fault), false)
        }
    }
}
