//! Errors as callers see them: a class, a stable reason and a message.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use opentelemetry::trace::TraceContextExt;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub mod reason;

pub use reason::{Class, Reason};

/// The domain of every `google.rpc.ErrorInfo` of Meridian.
pub const ERROR_DOMAIN: &str = "meridian";

/// The metadata key under which an internal error carries its trace id.
pub const TRACE_ID: &str = "trace_id";

/// Metadata of [`Reason::BlobExpired`]: unix seconds of the blob's last expiry.
pub const EXPIRY: &str = "expiry";

/// Most bytes of a message that goes out: it travels in an HTTP/2 header.
const MAX_TEXT: usize = 1024;

/// Most key-value pairs that go out or are taken from a peer.
const MAX_METADATA: usize = 16;

/// Longest wait that a peer's answer can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An error that a caller of the network gets to see.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} ({reason})")]
pub struct ApiError {
    /// Why, in a form that programs can rely on.
    pub reason: Reason,
    /// Why, for people. Lower case, without the reason.
    pub message: String,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// Data that belongs to the message, such as the limit that was passed or the regions that are missing.
    pub metadata: BTreeMap<String, String>,
}

impl ApiError {
    /// An error with a reason and a message.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None, metadata: BTreeMap::new() }
    }

    /// An error of our own making. The message is logged and never leaves the node.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::Internal, message)
    }

    /// Adds a piece of data.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts alike are given as they are")]
    pub fn with(mut self, key: impl Into<String>, value: impl core::fmt::Display) -> Self {
        self.metadata.insert(key.into(), value.to_string());
        self
    }

    /// Says how long to wait before trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What this means for the caller.
    #[must_use]
    pub fn class(&self) -> Class {
        self.reason.class()
    }

    /// Whether the same request may succeed later or elsewhere.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.class(), Class::Unavailable | Class::Overloaded)
    }

    /// Reads the error out of the status of a call that failed.
    ///
    /// A status that does not come from Meridian says nothing certain about a blob: it becomes
    /// [`Reason::Unreachable`] when the connection failed, and never [`Class::Unknown`].
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let message = truncate(status.message());
        let source = std::error::Error::source(status);
        if source.is_some_and(|source| source.is::<crate::codec::ParseError>()) {
            return Self::new(Reason::AnswerInvalid, message);
        }
        let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let Some(info) = info else {
            return Self::new(foreign_reason(status), message);
        };
        let metadata = || {
            let pairs = info.metadata.iter().take(MAX_METADATA);
            pairs.map(|(key, value)| (truncate(key), truncate(value))).collect()
        };
        let Some(reason) = Reason::from_name(&info.reason) else {
            let error = Self::new(unknown_reason(status.code()), message);
            return error.with("peer_reason", truncate(&info.reason));
        };
        let retry_after = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        Self {
            reason,
            message,
            retry_after: retry_after.map(|wait| wait.min(MAX_RETRY_AFTER)),
            metadata: metadata(),
        }
    }

    /// The same error without anything that only its own node may know: an internal one keeps its trace id alone.
    fn masked(mut self) -> Self {
        if self.class() != Class::Internal {
            return self;
        }
        tracing::error!(reason = %self.reason, error = %self.message, data = ?self.metadata, "internal error");
        let known = self.metadata.remove(TRACE_ID);
        let error = Self::new(Reason::Internal, "internal error, reported under its trace id");
        match known.or_else(trace_id) {
            Some(id) => error.with(TRACE_ID, id),
            None => error,
        }
    }
}

/// The trace id of the current span, where there is one.
#[must_use]
pub fn trace_id() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// The reason of a status that our code did not make.
fn foreign_reason(status: &Status) -> Reason {
    let local = std::error::Error::source(status).is_some();
    match status.code() {
        Code::OutOfRange => Reason::MessageTooLarge,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => Reason::Unreachable,
        _ if local => Reason::Unreachable,
        Code::ResourceExhausted => Reason::TooManyRequests,
        Code::Unimplemented => Reason::FormatUnsupported,
        _ => Reason::PeerInternal,
    }
}

/// The reason closest to one that this version does not know. Being certain takes a reason that it does know.
fn unknown_reason(code: Code) -> Reason {
    match code {
        Code::InvalidArgument => Reason::Refused,
        Code::Unauthenticated => Reason::SignatureInvalid,
        Code::PermissionDenied => Reason::NotPermitted,
        Code::ResourceExhausted => Reason::TooManyRequests,
        Code::OutOfRange => Reason::MessageTooLarge,
        Code::Unavailable => Reason::Unreachable,
        _ => Reason::PeerInternal,
    }
}

/// The first bytes of a text, cut between characters.
fn truncate(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text[..end].to_owned()
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let error = error.masked();
        let metadata = error.metadata.iter().take(MAX_METADATA);
        let metadata: HashMap<_, _> = metadata.map(|(key, value)| (truncate(key), truncate(value))).collect();
        let mut details = ErrorDetails::with_error_info(error.reason.as_str(), ERROR_DOMAIN, metadata);
        if let Some(wait) = error.retry_after {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(error.class().code(), truncate(&error.message), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_a_status() {
        for reason in Reason::ALL.iter().copied().filter(|reason| reason.class() != Class::Internal) {
            let error = ApiError::new(reason, "what happened")
                .with("limit", 7)
                .retry_after(Duration::from_millis(250));
            let status = Status::from(error.clone());
            assert_eq!(status.code(), reason.class().code());
            assert_eq!(ApiError::from_status(&status), error);
        }
    }

    #[test]
    fn internal_errors_say_nothing_but_a_trace_id() {
        for reason in Reason::ALL.iter().copied().filter(|reason| reason.class() == Class::Internal) {
            let error = ApiError::new(reason, "secret detail").with("path", "/secret").with(TRACE_ID, "00ff");
            let status = Status::from(error);
            assert!(!format!("{status:?}").contains("secret"));
            assert!(!String::from_utf8_lossy(status.details()).contains("secret"));
            let seen = ApiError::from_status(&status);
            assert_eq!(seen.reason, Reason::Internal);
            assert_eq!(seen.metadata, BTreeMap::from([(TRACE_ID.to_owned(), "00ff".to_owned())]));
        }
    }

    #[test]
    fn foreign_statuses_never_mean_that_a_blob_is_unknown() {
        for code in (0..=16).map(Code::from_i32) {
            let plain = Status::new(code, "from elsewhere");
            assert_ne!(ApiError::from_status(&plain).class(), Class::Unknown);
            let details = ErrorDetails::with_error_info("BLOB_UNKNOWN", "example.org", HashMap::new());
            let other_domain = Status::with_error_details(code, "", details);
            assert_ne!(ApiError::from_status(&other_domain).class(), Class::Unknown);
            let details = ErrorDetails::with_error_info("NEVER_HEARD_OF", ERROR_DOMAIN, HashMap::new());
            let other_reason = Status::with_error_details(code, "", details);
            assert_ne!(ApiError::from_status(&other_reason).class(), Class::Unknown);
        }
    }

    #[test]
    fn a_broken_connection_is_unreachable() {
        for code in [Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded] {
            assert_eq!(ApiError::from_status(&Status::new(code, "")).reason, Reason::Unreachable);
        }
        let broken = Status::from_error(Box::new(std::io::Error::other("connection reset")));
        assert_eq!(ApiError::from_status(&broken).reason, Reason::Unreachable);
        assert_eq!(ApiError::from_status(&Status::new(Code::Internal, "")).reason, Reason::PeerInternal);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let error = ApiError::new(Reason::FieldInvalid, "ß".repeat(2000)).with("k", "x".repeat(5000));
        let seen = ApiError::from_status(&Status::from(error));
        assert_eq!(seen.message.len(), MAX_TEXT);
        assert_eq!(seen.metadata["k"].len(), MAX_TEXT);
        assert_eq!(truncate(&format!("x{}", "ß".repeat(2000))).len(), MAX_TEXT - 1);
    }

    #[test]
    fn a_peer_cannot_ask_for_an_endless_wait() {
        let mut details = ErrorDetails::with_error_info("MEMORY_BUDGET", ERROR_DOMAIN, HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(1 << 30)));
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        assert_eq!(ApiError::from_status(&status).retry_after, Some(MAX_RETRY_AFTER));
    }
}
