//! A gateway whose clock says what suits it.

use meridian_proofs::log::LogEntry;
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked, now};

/// Timestamps from the past and the future, and entries whose times do not fit. The log must have an entry.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry) -> Vec<Attempt> {
    let honest = log.honest(*next);
    let stamped =
        |timestamp: u64| log.sign(&log.with(std::slice::from_ref(next)), |c| c.timestamp = timestamp);
    let outside = |what, timestamp| Attempt {
        what,
        signed: stamped(timestamp),
        refused: Reason::TimestampOutOfRange,
        ..honest.clone()
    };
    let moved = |time: u64| LogEntry { time, expiry: time + (next.expiry - next.time), ..*next };
    let before = log.entries.last().map_or(0, |last| last.time.saturating_sub(1));
    vec![
        outside("a timestamp of two minutes ahead", now() + 120),
        outside("a timestamp of the year 3000", 32_503_680_000),
        outside("the last timestamp there is", u64::MAX),
        outside("a timestamp of two minutes ago", now() - 120),
        outside("the first timestamp there is", 0),
        log.attempt("an entry later than its checkpoint", Reason::TimeFalls, moved(now() + 30)),
        log.attempt("an entry earlier than the one before", Reason::TimeFalls, moved(before)),
    ]
}
