//! A gateway that leaves entries out.

use meridian_proofs::log::LogEntry;
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// Requests whose entries do not reach from the cosigned size to the checkpoint's.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry) -> Vec<Attempt> {
    let honest = log.honest(*next);
    let counted = |size: u64| log.sign(&log.with(std::slice::from_ref(next)), |c| c.size = size);
    vec![
        Attempt { what: "no entries", entries: Vec::new(), refused: Reason::LogGap, ..honest.clone() },
        Attempt {
            what: "one entry too many",
            entries: vec![*next, *next],
            refused: Reason::LogGap,
            ..honest.clone()
        },
        Attempt {
            what: "a size that is larger than the entries",
            signed: counted(log.size() + 2),
            refused: Reason::LogGap,
            ..honest.clone()
        },
        Attempt {
            what: "the largest size there is",
            signed: counted(u64::MAX),
            refused: Reason::LogGap,
            ..honest.clone()
        },
        Attempt {
            what: "an entry left out of the root",
            signed: log.sign(std::slice::from_ref(next), |c| c.size = log.size() + 1),
            refused: Reason::RootMismatch,
            ..honest
        },
    ]
}
