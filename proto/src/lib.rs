//! The wire of Meridian: generated protobuf code, its limits and errors, and the one place where it becomes domain types.
//!
//! Nothing outside this crate and the thin service layers sees a protobuf type: requests and answers are converted by
//! [`convert`], which refuses everything that is missing, unknown, too long or not canonical.

pub mod codec;
pub mod contract;
pub mod convert;
pub mod error;

pub use convert::{WireError, WireProblem};
pub use error::{ApiError, Class, Reason};

/// Generated messages, clients and servers of the package `meridian.da.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]
pub mod wire {
    tonic::include_proto!("meridian.da.v1");
}

/// The compiled protobuf files with their comments, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("meridian");

/// The version of the wire format. Requests that state another one are refused with [`Reason::FormatUnsupported`].
pub const FORMAT_VERSION: u32 = 1;

/// Most bytes of payload or rows in one message of a stream.
pub const MAX_CHUNK: usize = 1 << 20;

/// Most bytes of a protobuf message, for sending and receiving.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Most fields of a message, together with those of the messages inside it: more than any message within the other
/// limits has. Bounds what decoding takes beside the bytes themselves.
pub const MAX_FIELDS: usize = 1 << 17;

/// Most entries of a log in one message, and under one new checkpoint.
pub const MAX_ENTRIES: usize = 4096;

/// Most single rows in one request.
pub const MAX_SAMPLES: usize = 256;

/// Most candidates in the answer to a lookup, and most entries of one candidate.
pub const MAX_CANDIDATES: usize = 16;

/// Most hashes of a row's or a range's proof: the widest tree has 2^15 rows, and a range has two edges.
pub const MAX_ROW_PROOF: usize = 30;

/// Most ranges of rows in the answer to a lookup: an interval may wrap.
pub const MAX_HELD_RANGES: usize = 2;

/// Most hashes of a log proof: 64 levels and, for consistency, one subtree more.
pub const MAX_LOG_PROOF: usize = 65;

/// Most rows of a blob.
pub const MAX_ROWS: u32 = 4 * 8192;

/// Most cosignatures of one checkpoint, and most seats of a committee.
pub const MAX_SEATS: usize = meridian_proofs::certificate::MAX_COSIGNATURES;

/// Most closings of epochs in a gateway's status: the last ones.
pub const MAX_CLOSINGS: usize = 16;

/// Most logs in one listing. A node keeps those of gateways of past epochs, too.
pub const MAX_LOGS: usize = 1024;

/// Most epochs that a status names as open. The chain has two: the current one, and the one before in its grace.
pub const MAX_OPEN_EPOCHS: usize = 16;
