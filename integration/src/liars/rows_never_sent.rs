//! A gateway that asks for cosignatures on what it never uploaded, or on something else than it uploaded.

use meridian_proofs::encode::EncodedBlob;
use meridian_proofs::log::LogEntry;
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// An entry of a blob that nobody has, and one whose length is not that of the blob that was uploaded.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry, never_sent: &EncodedBlob) -> Vec<Attempt> {
    vec![
        log.attempt("an entry of a blob that nobody has", Reason::RowsMissing, log.entry(never_sent)),
        log.attempt(
            "an entry with another length than its blob",
            Reason::EntryLengthMismatch,
            LogEntry { length: next.length + 1, ..*next },
        ),
    ]
}
