//! A gateway that signs for another epoch than the current one.

use meridian_proofs::log::LogEntry;
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// Checkpoints and entries of other epochs.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry) -> Vec<Attempt> {
    let honest = log.honest(*next);
    let foreign = log.committee().epoch() + 1;
    vec![
        Attempt {
            what: "a checkpoint of the next epoch",
            signed: log.sign(&log.with(std::slice::from_ref(next)), |c| c.epoch = foreign),
            refused: Reason::WrongEpoch,
            ..honest
        },
        log.attempt(
            "an entry of the next epoch",
            Reason::EntryEpochMismatch,
            LogEntry { epoch: foreign, ..*next },
        ),
    ]
}
