//! A gateway that takes entries of its log back.

use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// Smaller logs than the one that was cosigned. The log must have an entry.
#[must_use]
pub fn attempts(log: &Crooked) -> Vec<Attempt> {
    let shorter = &log.entries[..log.entries.len().saturating_sub(1)];
    vec![
        Attempt {
            what: "one entry less",
            signed: log.sign(shorter, |_| {}),
            start: shorter.len() as u64,
            entries: Vec::new(),
            refused: Reason::LogRollback,
        },
        Attempt {
            what: "an empty log",
            signed: log.sign(&[], |_| {}),
            start: 0,
            entries: Vec::new(),
            refused: Reason::LogRollback,
        },
    ]
}
