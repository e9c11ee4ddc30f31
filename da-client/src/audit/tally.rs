//! What was found at each replica, counted while blobs are audited side by side.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::Address;
use meridian_proofs::committee::Seat;
use meridian_proofs::ids::BlobId;

use crate::fetch::{Fault, FaultKind};
use crate::submit::unix_now;

/// Most faults that are listed one by one.
pub const MAX_FAULTS: usize = 1_000;

/// Most answers of a replica whose times are kept.
const MAX_TIMES: usize = 1 << 16;

/// Blobs in a row about which a replica kept silent, after which it is not asked any more.
const MOST_SILENT: u32 = 3;

/// Rows that were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    /// Rows of the blob's commitment.
    pub right: u64,
    /// Rows in answers that are provably not right.
    pub wrong: u64,
    /// Rows that the replica says it does not hold.
    pub missing: u64,
    /// Rows about which it kept silent.
    pub silent: u64,
}

impl Rows {
    /// All of them.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.right + self.wrong + self.missing + self.silent
    }

    pub(super) fn add(&mut self, kind: Option<FaultKind>, rows: u64) {
        let count = match kind {
            None => &mut self.right,
            Some(FaultKind::Wrong) => &mut self.wrong,
            Some(FaultKind::Missing) => &mut self.missing,
            Some(FaultKind::Silent) => &mut self.silent,
        };
        *count = count.saturating_add(rows);
    }
}

/// A fault, and when it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// The fault.
    pub fault: Fault,
    /// Unix seconds.
    pub at: u64,
    /// The blob that was asked for; nothing where it was a log.
    pub blob: Option<BlobId>,
    /// Rows of the blob that it is about.
    pub rows: u64,
    /// Whether the replica had cosigned the blob's entry, so that it has to hold the rows.
    pub is_cosigned: bool,
}

/// What was found at one replica.
#[derive(Clone, PartialEq, Debug)]
pub struct SeatAudit {
    /// Its seat.
    pub seat: Seat,
    /// Audited entries of the epochs in which it has a seat.
    pub entries: usize,
    /// Those of them that it cosigned, as far as cosignatures are to be had.
    pub cosigned: usize,
    /// Its rows.
    pub rows: Rows,
    /// The time of half of its answers at most, and of the slowest.
    pub latency: Option<(Duration, Duration)>,
    /// Its first fault.
    pub first: Option<Sighting>,
    /// Its last fault.
    pub last: Option<Sighting>,
}

/// What is counted of one replica.
#[derive(Default)]
struct Tally {
    rows: Rows,
    times: Vec<u32>,
    slowest: u32,
    silences: u32,
    first: Option<Sighting>,
    last: Option<Sighting>,
}

/// Counts for all replicas.
#[derive(Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    tallies: BTreeMap<Address, Tally>,
    faults: Vec<Sighting>,
    more: usize,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer with rows, or without any.
    pub(super) fn answered(&self, seat: &Seat, took: Duration, rows: u64) {
        self.with(seat, |tally| {
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            tally.slowest = micros.max(tally.slowest);
            if tally.times.len() < MAX_TIMES {
                tally.times.push(micros);
            }
            tally.rows.add(None, rows);
            if rows > 0 {
                tally.silences = 0;
            }
        });
    }

    /// Notes a fault, and logs it.
    pub(super) fn fault(&self, mut sighting: Sighting) {
        sighting.fault.what = printable(&sighting.fault.what);
        sighting.fault.report();
        let mut state = self.lock();
        let tally = state.tallies.entry(sighting.fault.seat).or_default();
        tally.rows.add(Some(sighting.fault.kind), sighting.rows);
        tally.first.get_or_insert_with(|| sighting.clone());
        tally.last = Some(sighting.clone());
        if state.faults.len() < MAX_FAULTS {
            state.faults.push(sighting);
        } else {
            state.more += 1;
        }
    }

    /// Notes that a seat kept silent about a blob.
    pub(super) fn silent(&self, seat: &Seat) {
        self.with(seat, |tally| tally.silences += 1);
    }

    /// Notes rows of which a seat was not even asked, because it kept silent about others.
    pub(super) fn skipped(&self, seat: &Seat, rows: u64) {
        self.with(seat, |tally| tally.rows.add(Some(FaultKind::Silent), rows));
    }

    /// Whether nothing is expected of a seat any more.
    pub(super) fn is_out(&self, seat: &Seat) -> bool {
        self.lock().tallies.get(&seat.address).is_some_and(|tally| tally.silences >= MOST_SILENT)
    }

    fn with(&self, seat: &Seat, change: impl FnOnce(&mut Tally)) {
        change(self.lock().tallies.entry(seat.address).or_default());
    }

    /// What was found, with how many of the entries each seat cosigned; the faults; and how many more there were.
    pub(super) fn close(self, seats: Vec<(Seat, usize, usize)>) -> (Vec<SeatAudit>, Vec<Sighting>, usize) {
        let State { mut tallies, faults, more } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let audits = seats.into_iter().map(|(seat, entries, cosigned)| {
            let Tally { rows, mut times, slowest, first, last, .. } =
                tallies.remove(&seat.address).unwrap_or_default();
            times.sort_unstable();
            let micros = |micros: u32| Duration::from_micros(u64::from(micros));
            let middle = times.get(times.len().saturating_sub(1) / 2).copied();
            let latency = middle.map(|middle| (micros(middle), micros(slowest)));
            SeatAudit { seat, entries, cosigned, rows, latency, first, last }
        });
        (audits.collect(), faults, more)
    }
}

/// What a node says, without what would move the cursor of a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

impl Sighting {
    /// A fault that was seen now, and is about a log.
    pub(super) fn of_log(fault: Fault) -> Self {
        Self { fault, at: unix_now(), blob: None, rows: 0, is_cosigned: false }
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::RegionId;

    use super::*;

    fn seat(number: u8) -> Seat {
        let address = Address::repeat_byte(number);
        Seat { region: RegionId(1), number: u16::from(number), address, endpoint: String::new() }
    }

    fn seen(number: u8, kind: FaultKind, rows: u64) -> Sighting {
        let fault = Fault { kind, ..Fault::wrong(&seat(number), format!("\u{1b}[2J{rows}")) };
        Sighting { rows, ..Sighting::of_log(fault) }
    }

    #[test]
    fn rows_times_and_faults_are_counted_for_each_seat() {
        let ledger = Ledger::default();
        for micros in [900, 100, 300] {
            ledger.answered(&seat(1), Duration::from_micros(micros), 2);
        }
        ledger.fault(seen(2, FaultKind::Missing, 5));
        ledger.fault(seen(2, FaultKind::Wrong, 1));
        for place in 0..MAX_FAULTS {
            ledger.fault(seen(3, FaultKind::Silent, u64::try_from(place).unwrap()));
        }
        let (audits, faults, more) =
            ledger.close(vec![(seat(1), 4, 3), (seat(2), 4, 4), (seat(3), 4, 0), (seat(4), 4, 0)]);
        assert_eq!((faults.len(), more), (MAX_FAULTS, 2));
        let [one, two, three, four] = &audits[..] else { panic!("four seats") };
        assert_eq!((one.rows.right, one.rows.asked(), one.entries, one.cosigned), (6, 6, 4, 3));
        assert_eq!(one.latency, Some((Duration::from_micros(300), Duration::from_micros(900))));
        assert_eq!((two.rows.missing, two.rows.wrong, two.latency), (5, 1, None));
        assert_eq!(two.first.as_ref().map(|seen| seen.fault.what.as_str()), Some(" [2J5"));
        assert_eq!(two.last.as_ref().map(|seen| seen.fault.kind), Some(FaultKind::Wrong));
        assert_eq!(three.rows.silent, (0..1000).sum::<u64>());
        assert_eq!((four.rows, &four.first, four.latency), (Rows::default(), &None, None));
    }

    #[test]
    fn whoever_keeps_silent_again_and_again_is_not_asked_any_more() {
        let (ledger, seat) = (Ledger::default(), seat(1));
        for _ in 0..2 {
            for _ in 1..MOST_SILENT {
                ledger.silent(&seat);
                // Who says what blob it is and then no rows has not answered.
                ledger.answered(&seat, Duration::ZERO, 0);
            }
            assert!(!ledger.is_out(&seat));
            ledger.answered(&seat, Duration::ZERO, 1);
        }
        for _ in 0..MOST_SILENT {
            ledger.silent(&seat);
        }
        assert!(ledger.is_out(&seat));
        ledger.skipped(&seat, 9);
        let (audits, faults, _) = ledger.close(vec![(seat, 1, 1)]);
        assert_eq!((audits[0].rows.silent, faults.len()), (9, 0));
    }
}
