//! What is known of the way to one seat.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::PROBE_OTHER;
use crate::submit::unix_now;

/// Times that are kept to tell the slow ones from the usual ones.
const WINDOW: usize = 64;
/// Times that it takes to tell a 95th percentile.
const ENOUGH: usize = 20;
/// Shortest and longest wait before somebody else is asked as well.
const PATIENCE: [f64; 2] = [0.01, 2.0];
/// Bytes a second, where nothing was measured.
const USUAL_RATE: f64 = 20e6;
/// Bytes a second that are believed.
const RATES: std::ops::Range<f64> = 1e3..1e12;
/// Fewest bytes whose transfer is timed by itself. Fewer come in one piece, or should.
pub const MEASURABLE: u64 = 128 << 10;
/// Seconds in which a rate that nobody measures doubles: it may have been low for a reason that has passed.
const FORGET_RATE: f64 = 10.0;
/// Seconds in which half of the failures are forgotten.
const FORGET_ERRORS: f64 = 10.0;
/// Seconds that a call costs that fails.
const COST_OF_ERROR: f64 = 2.0;

/// A moving average of times, and the latest of them.
#[derive(Clone, Debug, Default)]
struct Times {
    /// In seconds.
    mean: Option<f64>,
    latest: VecDeque<f64>,
}

impl Times {
    /// Notes one. What is better than expected weighs more: whoever was slow once wins its place back soon.
    fn note(&mut self, seconds: f64) {
        self.mean = Some(match self.mean {
            None => seconds,
            Some(mean) if seconds < mean => f64::midpoint(mean, seconds),
            Some(mean) => (3.0 * mean + seconds) / 4.0,
        });
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(seconds);
    }

    /// Notes that one takes longer than so.
    fn note_longer(&mut self, seconds: f64) {
        self.mean = Some(self.mean.map_or(seconds, |mean| mean.max(seconds)));
    }

    /// The 95th percentile, or a guess. Not far above the mean: whoever is quick most of the time is not to be waited for.
    fn p95(&self) -> Option<f64> {
        let mean = self.mean?;
        if self.latest.len() < ENOUGH {
            return Some(2.0 * mean + 0.03);
        }
        let mut sorted: Vec<f64> = self.latest.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        Some(sorted.get(sorted.len() * 95 / 100)?.min(4.0 * mean + 0.03))
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub enum Took {
    /// All of a short answer.
    RoundTrip(Duration),
    /// An answer with rows, until it began; all of it where that is less than [`MEASURABLE`].
    FirstByte(Duration),
    /// So many bytes of rows, from the first to the last. Ignored where they are fewer than [`MEASURABLE`].
    Transfer(u64, Duration),
    /// All of an answer with so many bytes of rows, or none.
    Answer(u64, Duration),
}

/// What was measured of the way to a seat.
#[derive(Clone, Debug)]
pub(super) struct Way {
    round_trip: Times,
    first_byte: Times,
    /// Bytes a second after the first, and when that was measured.
    rate: Option<(f64, Instant)>,
    /// The share of calls that failed, when it was noted last.
    errors: f64,
    errors_at: Instant,
    /// When something was learned of it last.
    pub(super) heard: Instant,
    /// The same in unix seconds.
    pub(super) heard_at: u64,
    /// A probe is on its way.
    pub(super) is_probed: bool,
}

/// What stays of it from one run to the next.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Seconds of a round trip.
    round_trip: Option<f64>,
    /// Seconds until the first byte of rows.
    first_byte: Option<f64>,
    /// Bytes a second after it.
    rate: Option<f64>,
    /// The share of calls that failed.
    errors: f64,
    /// Unix seconds.
    pub(super) at: u64,
}

impl Way {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            round_trip: Times::default(),
            first_byte: Times::default(),
            rate: None,
            errors: 0.0,
            errors_at: now,
            heard: now,
            heard_at: unix_now(),
            is_probed: false,
        }
    }

    fn hear(&mut self) {
        self.heard = Instant::now();
        self.heard_at = unix_now();
    }

    pub(super) fn answered(&mut self, took: Took) {
        match took {
            Took::Answer(0, time) => return self.answered(Took::RoundTrip(time)),
            Took::Answer(..MEASURABLE, time) => return self.answered(Took::FirstByte(time)),
            Took::Answer(bytes, time) => {
                // When it began is not known, but how long that takes.
                let first = self
                    .first(true)
                    .and_then(|times| times.mean)
                    .map_or(Duration::ZERO, Duration::from_secs_f64);
                return self.answered(Took::Transfer(bytes, time.saturating_sub(first)));
            }
            Took::RoundTrip(time) => self.round_trip.note(time.as_secs_f64()),
            Took::FirstByte(time) => self.first_byte.note(time.as_secs_f64()),
            Took::Transfer(bytes, time) if bytes >= MEASURABLE && !time.is_zero() => {
                let rate = (float(bytes) / time.as_secs_f64()).clamp(RATES.start, RATES.end / 2.0);
                let known = self.rate.map_or(rate, |(known, _)| (3.0 * known + rate) / 4.0);
                self.rate = Some((known, Instant::now()));
            }
            Took::Transfer(..) => {}
        }
        self.note_outcome(0.0, 0.5);
    }

    pub(super) fn failed(&mut self) {
        self.note_outcome(1.0, 0.25);
    }

    fn note_outcome(&mut self, outcome: f64, weight: f64) {
        self.errors = self.errors() * (1.0 - weight) + outcome * weight;
        self.hear();
        self.errors_at = self.heard;
    }

    /// No answer has begun after so long.
    pub(super) fn late(&mut self, waited: Duration) {
        self.first_byte.note_longer(waited.as_secs_f64());
        self.round_trip.note_longer(waited.as_secs_f64());
        self.hear();
    }

    /// So many bytes of rows take longer than so, from the first to the last.
    pub(super) fn slow(&mut self, bytes: u64, time: Duration) {
        if !time.is_zero() {
            let rate = (float(bytes) / time.as_secs_f64()).min(self.rate()).max(RATES.start);
            self.rate = Some((rate, Instant::now()));
        }
        self.hear();
    }

    fn errors(&self) -> f64 {
        self.errors * 0.5_f64.powf(self.errors_at.elapsed().as_secs_f64() / FORGET_ERRORS)
    }

    /// Bytes a second that are expected now.
    fn rate(&self) -> f64 {
        self.rate.map_or(USUAL_RATE, |(rate, at)| {
            let forgotten = rate * 2_f64.powf(at.elapsed().as_secs_f64() / FORGET_RATE);
            // Nobody gets faster than usual by being forgotten.
            if rate < USUAL_RATE { forgotten.min(USUAL_RATE) } else { rate }
        })
    }

    /// Seconds until the first byte of an answer, of rows or not.
    fn first(&self, has_rows: bool) -> Option<&Times> {
        let (first, other) = if has_rows {
            (&self.first_byte, &self.round_trip)
        } else {
            (&self.round_trip, &self.first_byte)
        };
        [first, other].into_iter().find(|times| times.mean.is_some())
    }

    /// Seconds until an answer with so many bytes of rows is complete. Nothing where no call was ever made.
    pub(super) fn expected(&self, bytes: u64) -> Option<f64> {
        let cost = COST_OF_ERROR * self.errors();
        let mean = match self.first(bytes > 0) {
            Some(times) => times.mean?,
            // All that is known is that it fails.
            None if self.errors > 0.0 => COST_OF_ERROR,
            None => return None,
        };
        Some(mean + cost + self.transfer(bytes))
    }

    /// Seconds after which such an answer is later than nineteen of twenty.
    pub(super) fn patience(&self, bytes: u64) -> Option<f64> {
        let first = self.first(bytes > 0)?.p95()?;
        Some((first + 1.5 * self.transfer(bytes)).clamp(PATIENCE[0], PATIENCE[1]))
    }

    /// Seconds until the first byte of rows: as expected, and when it was quickest, as far back as is known.
    pub(super) fn usual_and_best(&self) -> Option<(f64, f64)> {
        let times = self.first(true)?;
        let best = times.latest.iter().copied().min_by(f64::total_cmp);
        Some((times.mean?, best.or(times.mean)?))
    }

    fn transfer(&self, bytes: u64) -> f64 {
        float(bytes) / self.rate()
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            round_trip: self.round_trip.mean,
            first_byte: self.first_byte.mean,
            rate: self.rate.map(|(rate, _)| rate),
            errors: self.errors(),
            at: self.heard_at,
        }
    }

    /// What was kept, so many seconds ago. It is due for a probe: a bad moment must not last from run to run. Nothing where
    /// a number is none that is ever kept.
    pub(super) fn of(kept: Kept, age: u64) -> Option<Self> {
        let Kept { round_trip, first_byte, rate, errors, at } = kept;
        let is_time = |time: Option<f64>| time.is_none_or(|time| (0.0..3_600.0).contains(&time));
        let is_rate = |rate: Option<f64>| rate.is_none_or(|rate| RATES.contains(&rate));
        if !(is_time(round_trip) && is_time(first_byte) && is_rate(rate) && (0.0..=1.0).contains(&errors)) {
            return None;
        }
        let times = |mean| Times { mean, latest: VecDeque::new() };
        let now = Instant::now();
        Some(Self {
            round_trip: times(round_trip),
            first_byte: times(first_byte),
            rate: rate.map(|rate| (rate, now)),
            errors: errors * 0.5_f64.powf(float(age) / FORGET_ERRORS),
            heard: now.checked_sub(PROBE_OTHER).unwrap_or(now),
            heard_at: at,
            ..Self::new()
        })
    }
}

/// The time of a transfer where nothing was measured.
pub(super) fn usual_transfer(bytes: u64) -> Duration {
    Duration::from_secs_f64(float(bytes) / USUAL_RATE)
}

#[allow(clippy::cast_precision_loss, reason = "a blob is far below 2^52 bytes")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
