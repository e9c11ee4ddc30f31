//! What endpoints do instead of answering.

use alloy::primitives::Bytes;
use alloy::transports::{RpcError, TransportError};
use thiserror::Error;

/// Most characters of what an endpoint says that are repeated in a log or error.
const MAX_SAID: usize = 200;

/// What one endpoint did instead of answering.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    /// Out of reach, too slow, or a broken connection.
    #[error("{0}")]
    Silent(String),
    /// An answer that cannot be right.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// It says otherwise than what was read before, or from another.
    #[error("contradiction: {0}")]
    Contradicts(String),
    /// It does not have yet what was asked for.
    #[error("behind: {0}")]
    Behind(String),
    /// It is of another chain.
    #[error("its chain id is {0}")]
    Foreign(u64),
    /// It answers with a JSON-RPC error.
    #[error("error {code}: {message}")]
    Refused {
        /// The code.
        code: i64,
        /// The message, shortened.
        message: String,
        /// Whether it asks for patience rather than for another call.
        may_pass: bool,
    },
    /// The contract reverts: another endpoint would say the same.
    #[error("reverted with 0x{}", alloy::hex::encode(.0))]
    Reverted(Bytes),
}

/// What the endpoints of a pool did instead of answering.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ChainError {
    /// No endpoint is configured.
    #[error("no json-rpc endpoint is configured")]
    NoEndpoint,
    /// An endpoint cannot be used at all.
    #[error("json-rpc client cannot be set up: {0}")]
    Setup(String),
    /// Every endpoint is of another chain.
    #[error("no endpoint is of chain {expected}: {}", list(found))]
    WrongChain {
        /// The configured chain id.
        expected: u64,
        /// The endpoints' hosts and what they did.
        found: Vec<Attempt>,
    },
    /// No endpoint answered rightly. The last fault of each.
    #[error("no endpoint answers: {}", list(.0))]
    Unavailable(Vec<Attempt>),
    /// The contract reverts.
    #[error("the contract reverts with 0x{}", alloy::hex::encode(.0))]
    Reverted(Bytes),
}

/// What one endpoint did.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{endpoint}: {fault}")]
pub struct Attempt {
    /// Its host and port.
    pub endpoint: String,
    /// What it did.
    pub fault: Fault,
}

fn list(attempts: &[Attempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl From<TransportError> for Fault {
    fn from(error: TransportError) -> Self {
        match error {
            RpcError::ErrorResp(payload) => {
                // EIP-1474 has no code for it; geth says 3, others only say so.
                let reverted = payload.code == 3 || payload.message.contains("revert");
                if reverted {
                    return Self::Reverted(payload.as_revert_data().unwrap_or_default());
                }
                let may_pass = payload.is_retry_err();
                Self::Refused { code: payload.code, message: said(&payload.message), may_pass }
            }
            RpcError::NullResp => Self::Wrong("null".to_owned()),
            RpcError::DeserError { err, .. } => Self::Wrong(said(&err.to_string())),
            other => Self::Silent(said(&other.to_string())),
        }
    }
}

impl Fault {
    /// A wrong answer.
    #[allow(clippy::needless_pass_by_value, reason = "texts and errors alike are given as they are")]
    pub(crate) fn wrong(what: impl ToString) -> Self {
        Self::Wrong(said(&what.to_string()))
    }

    /// Whether another try with the same endpoint may go better.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Wrong(_) | Self::Contradicts(_) | Self::Behind(_) => true,
            Self::Refused { may_pass, .. } => *may_pass,
            Self::Foreign(_) | Self::Reverted(_) => false,
        }
    }
}

/// What somebody outside says, in one short line.
fn said(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID).collect();
    if text.chars().count() > MAX_SAID {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_short_and_one_line() {
        assert_eq!(said("a\nb"), "a b");
        assert_eq!(said(&"é".repeat(MAX_SAID)), "é".repeat(MAX_SAID));
        assert_eq!(said(&"é".repeat(MAX_SAID + 1)).chars().count(), MAX_SAID + 1);
    }
}
