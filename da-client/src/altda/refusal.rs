//! Why an OP Stack client does not get what it asked for, and with which status it is told.
//!
//! What a status does to a rollup decides: a node takes 404 for "gone", and halts its chain after the challenge window; any
//! other failure it tries again for ever. Some batchers take any 5xx for a put as "post to L1 instead". So 404 is only for
//! what is certain, and 5xx on puts of generic commitments only where the operator wants batchers to leave.

use std::time::Duration;

use meridian_proto::error::Class;
use serde::Serialize;
use thiserror::Error;

use super::commitment::{Commitment, CommitmentError};
use crate::fetch::ReadError;
use crate::submit::{Failure, PutError};

/// How long to wait where nobody says so.
const WAIT: Duration = Duration::from_secs(1);

/// Reasons to drop a commitment, as clients that know status 418 number them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// The commitment is none of ours.
    NotParsed = 1,
    /// Nobody can read a payload from the blob.
    NotDecoded = 4,
}

/// Why a request is not answered with what it asked for.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The same request can never succeed.
    #[error("{0}")]
    Invalid(String),
    /// The body is not what the path says.
    #[error("the body has the commitment {computed}, not {stated}")]
    Mismatch {
        /// What the path says.
        stated: Commitment,
        /// What it is.
        computed: Commitment,
    },
    /// The caller has no token, or one that does not count any more.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller's token is for something else.
    #[error("{0}")]
    Forbidden(String),
    /// Certain for every reader: a derivation drops the commitment.
    #[error("{1}")]
    Dropped(DropReason, String),
    /// The method is none that the path has.
    #[error("the method is not one of {0}")]
    Method(&'static str),
    /// Certain: nobody has it.
    #[error("{0}")]
    Unknown(String),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    Slow,
    /// The body is over the limit.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// Too much is being asked for at a time.
    #[error("{0}")]
    Busy(String, Duration),
    /// Out of reach now, for longer than the patience.
    #[error("{0}")]
    Unavailable(String),
    /// This program failed.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What is answered in the body.
#[derive(Serialize, Debug)]
pub struct Explanation {
    /// Stable reason.
    pub error: &'static str,
    /// What happened.
    pub message: String,
    /// Finds the request in the logs of all members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl Refusal {
    /// The stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID",
            Self::Mismatch { .. } => "COMMITMENT_MISMATCH",
            Self::Dropped(DropReason::NotParsed, _) => "COMMITMENT_INVALID",
            Self::Dropped(DropReason::NotDecoded, _) => "BLOB_UNREADABLE",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::Method(_) => "METHOD",
            Self::Unknown(_) => "UNKNOWN",
            Self::Slow => "BODY_TOO_SLOW",
            Self::TooLarge(_) => "INPUT_TOO_LARGE",
            Self::Busy(..) => "OVERLOADED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// Whether another try may succeed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy(..) | Self::Unavailable(_) | Self::Internal(_))
    }

    /// What a put that failed comes to.
    pub(super) fn of_put(error: &PutError) -> Self {
        match error {
            PutError::Length(error) => Self::Invalid(error.to_string()),
            // Nothing is expected of the submitter, so this is ours.
            PutError::OtherId { .. } | PutError::Internal(_) => Self::Internal(error.to_string()),
            PutError::NoGateway => Self::Unavailable(error.to_string()),
            PutError::Failed(attempts) => {
                let message = error.to_string();
                let failures = attempts.iter().map(|attempt| &attempt.failure);
                // One gateway's refusal is not the network's, and a later try may reach another.
                let passing: Vec<_> = failures.filter(|failure| failure.may_work_elsewhere()).collect();
                let overloads = passing.iter().map(|failure| match failure {
                    Failure::Call(error) if error.class() == Class::Overloaded => {
                        Some(error.retry_after.unwrap_or(WAIT))
                    }
                    _ => None,
                });
                match overloads.collect::<Option<Vec<_>>>() {
                    None => Self::Unavailable(message),
                    // None that may pass, or the shortest wait of those that are all busy.
                    Some(waits) => match waits.into_iter().min() {
                        None => Self::Invalid(message),
                        Some(wait) => Self::Busy(message, wait),
                    },
                }
            }
        }
    }

    /// What a read that failed comes to.
    pub(super) fn of_read(error: &ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::Unknown { .. } => Self::Unknown(message),
            ReadError::Unavailable { .. } | ReadError::Unreachable { .. } | ReadError::Uncertified => {
                Self::Unavailable(message)
            }
            ReadError::Malformed | ReadError::Inconsistent | ReadError::KzgMismatch { .. } => {
                Self::Dropped(DropReason::NotDecoded, message)
            }
            ReadError::Range { .. } | ReadError::Internal(_) => Self::Internal(message),
        }
    }
}

impl From<CommitmentError> for Refusal {
    fn from(error: CommitmentError) -> Self {
        match error {
            // Such a text is no client's spelling of anything on L1.
            CommitmentError::NotHex => Self::Invalid(error.to_string()),
            _ => Self::Dropped(DropReason::NotParsed, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_proto::error::{ApiError, Reason};

    use super::*;
    use crate::submit::Attempt;

    #[test]
    fn only_certain_absence_is_unknown() {
        let attempt = |reason| {
            let failure = Failure::Call(ApiError::new(reason, "what happened"));
            Attempt { gateway: "http://a:1".to_owned(), failure }
        };
        for reason in Reason::ALL.iter().copied() {
            let refusal = Refusal::of_put(&PutError::Failed(vec![attempt(reason)]));
            assert!(!matches!(refusal, Refusal::Unknown(_)), "{reason}");
            let may_pass = matches!(reason.class(), Class::Unavailable | Class::Overloaded | Class::Internal);
            assert_eq!(refusal.is_passing(), may_pass, "{reason}");
            // Nobody is refused for good while another gateway may take it.
            let others = vec![attempt(Reason::NotPermitted), attempt(Reason::Unreachable), attempt(reason)];
            assert!(Refusal::of_put(&PutError::Failed(others)).is_passing(), "{reason}");
        }
        // Whoever is busy speaks for nobody else, and the one that is free first counts.
        let busy = |seconds| {
            let error = ApiError::new(Reason::MemoryBudget, "busy").retry_after(Duration::from_secs(seconds));
            Attempt { gateway: "http://a:1".to_owned(), failure: Failure::Call(error) }
        };
        let both = Refusal::of_put(&PutError::Failed(vec![busy(3600), busy(2)]));
        assert!(matches!(both, Refusal::Busy(_, wait) if wait == Duration::from_secs(2)), "{both:?}");
        let mixed = Refusal::of_put(&PutError::Failed(vec![attempt(Reason::Unreachable), busy(3600)]));
        assert!(matches!(mixed, Refusal::Unavailable(_)), "{mixed:?}");
        let unreachable = ReadError::Unreachable { faults: Vec::new() };
        assert!(matches!(Refusal::of_read(&unreachable), Refusal::Unavailable(_)));
        let unknown = ReadError::Unknown { regions: 4, expired: None };
        assert!(matches!(Refusal::of_read(&unknown), Refusal::Unknown(_)));
    }
}
