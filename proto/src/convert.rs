//! The one place where wire becomes domain and domain becomes wire.
//!
//! From the wire: `TryFrom<wire::X>` with [`WireError`], which names the field. To the wire: `From`. A conversion refuses
//! what is missing, of a wrong length, unknown, too many, or has another spelling. It checks no signature and no proof.

use bytes::Bytes;
use meridian_proofs::{Address, B256};

use crate::MAX_CHUNK;
use crate::error::{ApiError, Reason};

mod committee;
mod gateway;
mod log;
mod replica;
mod rows;
mod types;

pub use gateway::{
    AnchorStatus, EpochClosing, GatewayPhase, GatewayStatus, GetCertificate, PutAuthorization, PutPart,
    PutStart, SeatHealth,
};
pub use log::{
    ConsistencyProof, GetConsistencyProof, GetEntries, GetInclusionProof, InclusionProof, LogItem,
};
pub use replica::{
    CosignAnswer, CosignRequest, DisperseOutcome, DispersePart, DisperseStart, RangeStart, ReplicaStatus,
};
pub use rows::{Candidate, EntryRef, GetRows, GetSamples, HeldRows, Lookup, LookupKey, RowsPart, Sample};

/// Most bytes of a text that people read.
const MAX_TEXT: usize = 512;

/// A message that is not what the protocol allows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    /// The field, as `Message.field` in the names of the protobuf files.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: WireProblem,
}

/// What is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireProblem {
    /// A required message or choice is absent.
    #[error("is missing")]
    Missing,
    /// A field of fixed length has another one.
    #[error("is {found} bytes instead of {expected}")]
    Length {
        /// Bytes that it must have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// A list or text is too long.
    #[error("has {found} items, the limit is {limit}")]
    TooMany {
        /// The most items that are allowed.
        limit: usize,
        /// The items that came.
        found: usize,
    },
    /// The value is not allowed, for a reason of its own.
    #[error("{1}")]
    Refused(Reason, String),
}

impl WireError {
    /// A field that is refused for a reason of its own.
    pub(crate) fn refused(field: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self { field, problem: WireProblem::Refused(reason, message.into()) }
    }

    /// A field with a value that is not allowed.
    pub(crate) fn value(field: &'static str, message: impl Into<String>) -> Self {
        Self::refused(field, Reason::FieldInvalid, message)
    }

    /// The stable reason of a request with this fault.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match &self.problem {
            WireProblem::Missing | WireProblem::Length { .. } => Reason::FieldInvalid,
            WireProblem::TooMany { .. } => Reason::TooManyItems,
            WireProblem::Refused(reason, _) => *reason,
        }
    }

    /// The error of a call whose answer has this fault: the other side's, not the caller's.
    #[must_use]
    pub fn in_answer(&self) -> ApiError {
        ApiError::new(Reason::AnswerInvalid, self.to_string()).with("field", self.field)
    }
}

/// The error of a request with this fault.
impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        ApiError::new(error.reason(), error.to_string()).with("field", error.field)
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        ApiError::from(error).into()
    }
}

/// A field of exactly `N` bytes.
pub(crate) fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    let problem = WireProblem::Length { expected: N, found: bytes.len() };
    bytes.try_into().map_err(|_| WireError { field, problem })
}

/// A field of 32 bytes.
pub(crate) fn hash<T: From<[u8; 32]>>(field: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    array::<32>(field, bytes).map(T::from)
}

/// A list of fields of 32 bytes, at most `limit` of them.
pub(crate) fn hashes(field: &'static str, list: &[Bytes], limit: usize) -> Result<Vec<B256>, WireError> {
    at_most(field, list.len(), limit)?;
    list.iter().map(|bytes| hash(field, bytes)).collect()
}

/// A field of 20 bytes.
pub(crate) fn address(field: &'static str, bytes: &[u8]) -> Result<Address, WireError> {
    array::<20>(field, bytes).map(Address::from)
}

/// A list or text of at most `limit` items.
pub(crate) fn at_most(field: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found > limit {
        return Err(WireError { field, problem: WireProblem::TooMany { limit, found } });
    }
    Ok(())
}

/// Bytes of a stream: some, and no more than fit one message.
pub(crate) fn chunk(field: &'static str, bytes: Bytes) -> Result<Bytes, WireError> {
    if bytes.is_empty() {
        return Err(WireError::refused(field, Reason::StreamInvalid, "is empty"));
    }
    if bytes.len() > MAX_CHUNK {
        let text = format!("is {} bytes, the limit is {MAX_CHUNK}", bytes.len());
        return Err(WireError::refused(field, Reason::MessageTooLarge, text));
    }
    Ok(bytes)
}

/// A text that people read.
pub(crate) fn text(field: &'static str, text: String) -> Result<String, WireError> {
    at_most(field, text.len(), MAX_TEXT).map(|()| text)
}

/// A text that is short enough for the wire.
pub(crate) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// A message or choice that must be there.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError { field, problem: WireProblem::Missing })
}

/// A format version that this code speaks.
pub(crate) fn format_version(field: &'static str, found: u32) -> Result<(), WireError> {
    if found != crate::FORMAT_VERSION {
        let text = format!("version {found} is unknown, this node speaks version {}", crate::FORMAT_VERSION);
        return Err(WireError::refused(field, Reason::FormatUnsupported, text));
    }
    Ok(())
}

/// 32 bytes for the wire.
pub(crate) fn bytes(value: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(value.as_ref())
}

#[cfg(test)]
mod tests;
