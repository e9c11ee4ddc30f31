//! A gateway that stamps an expiry that nobody wished for.

use meridian_proofs::log::LogEntry;
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// Entries that expire in a minute, in a century, before they begin, just outside the limits, and at the end of time.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry) -> Vec<Attempt> {
    let limits = log.committee().parts();
    let expiring =
        |what, expiry| log.attempt(what, Reason::EntryRetentionOutOfRange, LogEntry { expiry, ..*next });
    let mut all = vec![
        expiring("a century", next.time + 100 * 365 * 86_400),
        expiring("one second over the longest retention", next.time + limits.max_retention + 1),
        expiring("before its time", next.time.saturating_sub(1)),
        expiring("the end of time", u64::MAX),
        expiring("at once", next.time),
    ];
    if limits.min_retention > 60 {
        all.push(expiring("a minute", next.time + 60));
        all.push(expiring("one second under the shortest retention", next.time + limits.min_retention - 1));
    }
    all
}
