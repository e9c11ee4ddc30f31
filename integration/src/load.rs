//! Load on a network: what a client sees, beside what the machine could do at best.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub mod clients;
pub mod floor;
pub mod machine;
pub mod report;

/// Times of one kind of call, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// Calls that were measured.
    pub count: usize,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Times {
    /// Sums up measured times.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            // The smallest value that so many percent of all do not exceed.
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { count: times.len(), p50_ms: at(50), p95_ms: at(95), p99_ms: at(99), max_ms: at(100) }
    }
}

/// What one run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Bytes of each payload.
    pub size: usize,
    /// Clients at once.
    pub clients: usize,
    /// Reads for each write.
    pub reads_per_write: usize,
    /// Seconds that it took.
    pub seconds: f64,
    /// From the start of a put to its checked certificate.
    pub put: Times,
    /// From the start of a get to the verified payload.
    pub get: Times,
    /// Payload bytes that were put in a second.
    pub put_bytes_per_second: f64,
    /// Payload bytes that were got in a second.
    pub get_bytes_per_second: f64,
    /// Calls that failed, by class.
    pub errors: BTreeMap<String, usize>,
    /// What the same machine could do at best, measured just before.
    pub floor: floor::Floor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let times = Times::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!((times.count, times.max_ms), (200, 200.0));
        assert_eq!((times.p50_ms, times.p95_ms, times.p99_ms), (100.0, 190.0, 198.0));
        let one = Times::of(vec![Duration::from_millis(7)]);
        assert_eq!((one.p50_ms, one.p99_ms, one.max_ms), (7.0, 7.0, 7.0));
        assert_eq!(Times::of(Vec::new()).p50_ms, 0.0);
    }
}
