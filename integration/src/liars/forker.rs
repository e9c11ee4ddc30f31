//! A gateway that shows different logs to different replicas.

use meridian_proofs::log::LogEntry;
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// Other histories than the one that was cosigned. The log must have an entry.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry) -> Vec<Attempt> {
    let mut other = log.entries.clone();
    if let Some(last) = other.last_mut() {
        last.expiry += 1;
    }
    let last = other.last().copied();
    let grown: Vec<LogEntry> = other.iter().chain([next]).copied().collect();
    let (start, before) = (log.size(), log.size().saturating_sub(1));
    vec![
        Attempt {
            what: "the same size with another last entry",
            signed: log.sign(&other, |_| {}),
            start: before,
            entries: last.iter().copied().collect(),
            refused: Reason::LogFork,
        },
        Attempt {
            what: "the same size with another root and no entries",
            signed: log.sign(&other, |_| {}),
            start,
            entries: Vec::new(),
            refused: Reason::LogFork,
        },
        Attempt {
            what: "a larger size that grew out of another history",
            signed: log.sign(&grown, |_| {}),
            start,
            entries: vec![*next],
            refused: Reason::RootMismatch,
        },
        Attempt {
            what: "a larger size with the other history sent along",
            signed: log.sign(&grown, |_| {}),
            start: before,
            entries: last.into_iter().chain([*next]).collect(),
            refused: Reason::LogFork,
        },
    ]
}
