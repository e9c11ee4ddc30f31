//! The shape of a blob: how many rows, how long (protocol section 2).

use thiserror::Error;

/// Longest payload in bytes: 128 MiB.
pub const MAX_PAYLOAD: u64 = 1 << 27;

/// Index of a row, from 0. Data rows come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowIndex(pub u32);

/// A payload length that is in bounds: 1 to [`MAX_PAYLOAD`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PayloadLength(u64);

/// A payload length out of bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LengthError {
    /// No payload at all.
    #[error("payload is empty")]
    Empty,
    /// More than [`MAX_PAYLOAD`].
    #[error("payload of {0} bytes is over the limit of {MAX_PAYLOAD} bytes")]
    TooLong(u64),
}

/// Rows of a blob: K data rows, then 3K parity rows, each of W bytes.
///
/// K is a power of two, W a multiple of 64. Follows from the payload length alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    data_rows: u32,
    parity_rows: u32,
    row_bytes: u32,
}

/// Consecutive rows of one blob: never empty, never past the end, never wrapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RowRange {
    start: u32,
    count: u32,
}
