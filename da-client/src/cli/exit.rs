//! How the program ends: exit codes, and errors that say what to do next.

use std::path::Path;

use meridian_proofs::committee::Committee;
use meridian_proofs::kzg::KzgError;
use meridian_proto::error::{ApiError, Class, Reason};

use super::report::{ErrorBody, ErrorReport, FaultReport};
use crate::chain::rpc::ChainError;
use crate::chain::source::SourceError;
use crate::committee_source::CommitteeFault;
use crate::fetch::{Fault, FaultKind, ReadError};
use crate::submit::{Attempt, Failure, PutError};

/// What to do about a binding that does not match.
const KZG_ADVICE: &str = "drop this blob, as a derivation has to; da get --ignore-kzg reads it all the same";

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done, and all of it was right.
    Done,
    /// A file could not be read or written, or the program itself failed.
    Local,
    /// The command line is wrong.
    Usage,
    /// It is certain that there is no such thing.
    Unknown,
    /// Out of reach or overloaded now: try again.
    Unavailable,
    /// Something did not verify.
    Verification,
    /// Refused: the same request can never succeed.
    Refused,
}

impl Exit {
    /// Every way to end.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Local,
        Self::Usage,
        Self::Unknown,
        Self::Unavailable,
        Self::Verification,
        Self::Refused,
    ];

    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Local => 1,
            Self::Usage => 2,
            Self::Unknown => 3,
            Self::Unavailable => 4,
            Self::Verification => 5,
            Self::Refused => 6,
        }
    }

    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, and all of it was right",
            Self::Local => "a file could not be read or written, or the program itself failed",
            Self::Usage => "usage: the command line is wrong",
            Self::Unknown => {
                "unknown: it is certain that there is no such blob or log, or that it has expired"
            }
            Self::Unavailable => "unavailable: too much is out of reach or overloaded now; try again",
            Self::Verification => "failed verification: a certificate, a log or what was read is not right",
            Self::Refused => {
                "refused: the request can never succeed, or a gateway works with another committee than the pinned one"
            }
        }
    }
}

/// Why a command failed.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How the program ends.
    pub exit: Exit,
    /// Stable reason.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub next: String,
    /// What replicas did.
    pub faults: Vec<Fault>,
}

impl Problem {
    /// A problem without faults of replicas.
    #[allow(clippy::needless_pass_by_value, reason = "texts and errors alike are given as they are")]
    pub fn new(exit: Exit, reason: &str, message: impl ToString, next: &str) -> Self {
        Self {
            exit,
            reason: reason.to_owned(),
            message: message.to_string(),
            next: next.to_owned(),
            faults: Vec::new(),
        }
    }

    /// A wrong command line that the parser cannot see.
    pub fn usage(message: impl ToString, next: &str) -> Self {
        Self::new(Exit::Usage, "USAGE", message, next)
    }

    /// A certificate that does not hold.
    pub fn certificate(message: impl ToString) -> Self {
        let next = "do not rely on this certificate; get another from a gateway with da cert fetch";
        Self::new(Exit::Verification, "CERTIFICATE_INVALID", message, next)
    }

    /// A file that could not be read or written.
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{}: {error}", path.display());
        Self::new(Exit::Local, "FILE", message, "check the path and its permissions")
    }

    /// A failure of the program itself.
    pub fn local(message: impl ToString) -> Self {
        Self::new(Exit::Local, "LOCAL", message, "run again with RUST_LOG=debug and report what it says")
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("da: {} ({}); {}", one_line(&self.message), self.reason, one_line(&self.next))
    }

    /// The object for programs.
    #[must_use]
    pub fn report(&self, committee: Option<&Committee>) -> ErrorReport {
        ErrorReport {
            error: ErrorBody {
                reason: self.reason.clone(),
                message: self.message.clone(),
                next: self.next.clone(),
                exit_code: self.exit.code(),
                faults: fault_reports(&self.faults, committee),
            },
        }
    }
}

/// Faults as they are printed.
pub(crate) fn fault_reports(faults: &[Fault], committee: Option<&Committee>) -> Vec<FaultReport> {
    let label = |fault: &Fault| {
        committee
            .and_then(|committee| committee.region(fault.region))
            .map_or_else(|| fault.region.to_string(), |region| region.label.clone())
    };
    faults
        .iter()
        .map(|fault| FaultReport {
            replica: fault.seat.to_string(),
            region: label(fault),
            kind: kind(fault.kind).to_owned(),
            message: fault.what.clone(),
        })
        .collect()
}

/// A kind of fault in one word.
pub(crate) fn kind(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Silent => "silent",
        FaultKind::Missing => "missing",
        FaultKind::Wrong => "wrong",
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (exit, next) = match (error.class(), error.reason) {
            (_, Reason::AnswerInvalid) => {
                (Exit::Verification, "the node that answered is broken or lying; ask another one")
            }
            (Class::Unknown, _) => (Exit::Unknown, "check the id"),
            (Class::Unavailable, _) => {
                (Exit::Unavailable, "try again in a moment; da regions shows who answers")
            }
            (Class::Overloaded, _) => (Exit::Unavailable, "try again later, or through another gateway"),
            (Class::Internal, _) => {
                (Exit::Unavailable, "try again, or through another gateway; tell its operator the trace id")
            }
            (_, Reason::AuthorizationMissing) => (Exit::Refused, "name a key that may put there with --key"),
            (_, Reason::AuthorizationExpired | Reason::AuthorizationTooEarly) => {
                (Exit::Refused, "set the clock of this machine: it and the gateway's differ")
            }
            (_, Reason::NamespaceUnlisted | Reason::NotPermitted) => {
                (Exit::Refused, "check --namespace and --key, or ask the gateway's operator")
            }
            (Class::Invalid | Class::Unauthenticated | Class::Forbidden | Class::TooLarge, _) => {
                (Exit::Refused, "change the request: the same one can never succeed")
            }
        };
        let mut message = error.message.clone();
        for (key, value) in error.metadata.iter().filter(|(_, value)| !error.message.contains(*value)) {
            message.push_str(&format!(", {key}: {value}"));
        }
        if let Some(wait) = error.retry_after {
            message.push_str(&format!(", retry after {} ms", wait.as_millis()));
        }
        Self::new(exit, error.reason.as_str(), message, next)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let faults = error.faults().to_vec();
        let lied = !faults.is_empty() && faults.iter().all(|fault| fault.kind == FaultKind::Wrong);
        let (exit, next) = match &error {
            ReadError::Unknown { expired: Some(_), .. } => (Exit::Unknown, "nobody keeps it any more"),
            ReadError::Unknown { .. } => (Exit::Unknown, "check the id and whether the blob has expired"),
            ReadError::Unavailable { .. } | ReadError::Unreachable { .. } if lied => {
                (Exit::Verification, "every replica that answered lied; check the committee")
            }
            ReadError::Unavailable { .. } | ReadError::Unreachable { .. } => {
                (Exit::Unavailable, "try again in a moment; da regions shows who answers")
            }
            ReadError::Uncertified => (Exit::Unavailable, "try again when a gateway or more replicas answer"),
            ReadError::Malformed | ReadError::Inconsistent => {
                (Exit::Verification, "nobody can read this blob; its submitter encoded it wrongly")
            }
            ReadError::KzgMismatch { .. } => (Exit::Verification, KZG_ADVICE),
            ReadError::Range { .. } => (Exit::Refused, "ask for a range within the payload"),
            ReadError::Internal(_) => (Exit::Local, "run again with RUST_LOG=debug and report what it says"),
        };
        Self { faults, ..Self::new(exit, error.name(), error, next) }
    }
}

impl From<KzgError> for Problem {
    fn from(error: KzgError) -> Self {
        match error {
            KzgError::Root { .. } => Self::new(Exit::Verification, "KZG_MISMATCH", error, KZG_ADVICE),
            KzgError::Length(error) => PutError::Length(error).into(),
            KzgError::Range { .. } | KzgError::TooManyOpenings(_) => Self::new(
                Exit::Refused,
                Reason::RangeInvalid.as_str(),
                error,
                "ask for a range within the payload, a long one in parts",
            ),
            _ => Self::local(error),
        }
    }
}

impl From<PutError> for Problem {
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        match error {
            PutError::Length(_) => {
                Self::new(Exit::Refused, "LENGTH", message, "put 1 byte to 128 MiB; split what is longer")
            }
            PutError::OtherId { .. } => Self::new(
                Exit::Refused,
                Reason::IdMismatch.as_str(),
                message,
                "nothing was sent; check the file and --expect",
            ),
            PutError::NoGateway => Self::usage(
                message,
                "name one with --gateway or MERIDIAN_GATEWAY, or a committee that has one",
            ),
            PutError::Internal(_) => Self::local(message),
            PutError::Failed(attempts) => {
                let describe = |attempt: &Attempt| match &attempt.failure {
                    // With its data: which regions are missing, which limit was passed.
                    Failure::Call(error) => {
                        format!("{}: {}", attempt.gateway, Self::from(error.clone()).message)
                    }
                    Failure::Certificate(_) => attempt.to_string(),
                };
                let message = attempts.iter().map(describe).collect::<Vec<_>>().join("; ");
                let refused = attempts.iter().find_map(|attempt| match &attempt.failure {
                    Failure::Call(error) => Some(Self::from(error.clone())),
                    Failure::Certificate(_) => None,
                });
                let lied = attempts.iter().any(|attempt| matches!(attempt.failure, Failure::Certificate(_)));
                let last = match attempts.last().map(|attempt| &attempt.failure) {
                    Some(Failure::Call(error)) => Some(Self::from(error.clone())),
                    _ => refused,
                };
                match last {
                    Some(problem) if !lied || problem.exit == Exit::Refused => {
                        // The reason of the last attempt is printed behind the message anyway.
                        let reason = format!(" ({})", problem.reason);
                        let message = message.strip_suffix(&reason).unwrap_or(&message).to_owned();
                        Self { message, ..problem }
                    }
                    _ => Self::certificate(message),
                }
            }
        }
    }
}

impl From<ChainError> for Problem {
    fn from(error: ChainError) -> Self {
        let (exit, reason, next) = match &error {
            ChainError::NoEndpoint => (Exit::Usage, "USAGE", "name an endpoint with --chain"),
            ChainError::Setup(_) => (Exit::Local, "LOCAL", "check --chain"),
            ChainError::WrongChain { .. } => {
                (Exit::Refused, "WRONG_CHAIN", "check --chain and --chain-id: they are of different chains")
            }
            ChainError::Unavailable(_) => {
                (Exit::Unavailable, "CHAIN_UNAVAILABLE", "try again, or name other endpoints with --chain")
            }
            ChainError::Reverted(_) => {
                (Exit::Refused, "CONTRACT_REVERTED", "check --contract: it is no contract of this kind")
            }
        };
        Self::new(exit, reason, error, next)
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Chain(error) => error.into(),
            SourceError::Disputed(_) => Self::new(
                Exit::Verification,
                "CHAIN_DISPUTED",
                error,
                "name more endpoints of other operators with --chain: one of these lies or is broken",
            ),
            SourceError::NoCommittee => {
                Self::new(Exit::Unknown, "NO_COMMITTEE", error, "check --contract, or ask its owner")
            }
        }
    }
}

impl From<CommitteeFault> for Problem {
    fn from(fault: CommitteeFault) -> Self {
        let message = fault.to_string();
        match fault {
            CommitteeFault::File { path, error } => Self::file(&path, &error),
            CommitteeFault::Invalid { .. } => {
                Self::new(Exit::Usage, "COMMITTEE_INVALID", message, "check the committee file")
            }
            CommitteeFault::Unreachable(error) => Self { message, ..Self::from(error) },
            CommitteeFault::Changed { .. } => Self::new(
                Exit::Refused,
                "COMMITTEE_CHANGED",
                message,
                "ask the operators whether that is right; if so, remove the pin or give the new file with --committee",
            ),
            CommitteeFault::Nowhere => Self::usage(
                message,
                "give a file with --committee, a chain with --chain, or a gateway with --gateway to pin its committee",
            ),
        }
    }
}
