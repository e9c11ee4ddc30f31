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

/// Rows of a codeword: K data rows, then N parity rows, each of W bytes, a multiple of 64.
///
/// That of a blob follows from the payload length alone: K is a power of two and N = 3K.
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

/// Bytes of one block of 32 symbols; the length of a row is a multiple of it.
pub const BLOCK_BYTES: usize = 64;

/// Most data rows of the network: 8K positions of the code fill GF(2^16).
const MAX_DATA_ROWS: u32 = 8192;

/// Positions of the code: elements of GF(2^16).
const POSITIONS: u32 = 1 << 16;

/// Longest row of the network: 128 MiB in 8192 rows.
const MAX_ROW_BYTES: u32 = 16_384;

/// Payload bytes up to which a number of data rows is used.
const CLASSES: [(u64, u32); 7] = [
    (16 << 10, 16),
    (64 << 10, 64),
    (256 << 10, 256),
    (1 << 20, 1024),
    (4 << 20, 2048),
    (32 << 20, 4096),
    (MAX_PAYLOAD, MAX_DATA_ROWS),
];

/// `u32` to `usize`; both of the platforms' widths hold it.
pub(crate) const fn wide(value: u32) -> usize {
    value as usize
}

impl TryFrom<u64> for PayloadLength {
    type Error = LengthError;

    fn try_from(length: u64) -> Result<Self, LengthError> {
        match length {
            0 => Err(LengthError::Empty),
            1..=MAX_PAYLOAD => Ok(Self(length)),
            _ => Err(LengthError::TooLong(length)),
        }
    }
}

impl PayloadLength {
    /// The length in bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The length in bytes, to index memory with.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "at most 2^27")]
    pub fn to_usize(self) -> usize {
        self.0 as usize
    }
}

impl Shape {
    /// The shape of every payload of this length.
    #[must_use]
    pub fn of(length: PayloadLength) -> Self {
        let data_rows =
            CLASSES.iter().find(|(up_to, _)| length.0 <= *up_to).map_or(MAX_DATA_ROWS, |(_, rows)| *rows);
        let blocks = length.0.div_ceil(64 * u64::from(data_rows));
        // At most 256 blocks: the table above bounds length / data_rows.
        let row_bytes = u32::try_from(64 * blocks).unwrap_or(MAX_ROW_BYTES);
        Self { data_rows, parity_rows: 3 * data_rows, row_bytes }
    }

    /// A shape outside the table, for conformance and tests: any that `rsema1d` encodes.
    ///
    /// Refused unless K and N are positive, K and the power of two that holds N together at most 2^16, and W a positive
    /// multiple of 64.
    #[must_use]
    pub fn custom(data_rows: u32, parity_rows: u32, row_bytes: u32) -> Option<Self> {
        let positions = data_rows.checked_add(parity_rows.checked_next_power_of_two()?)?;
        let fits = data_rows > 0
            && parity_rows > 0
            && positions <= POSITIONS
            && row_bytes > 0
            && row_bytes.is_multiple_of(64);
        fits.then_some(Self { data_rows, parity_rows, row_bytes })
    }

    /// K: the number of rows the payload fills.
    #[must_use]
    pub fn data_rows(&self) -> usize {
        wide(self.data_rows)
    }

    /// N: the number of rows the code adds.
    #[must_use]
    pub fn parity_rows(&self) -> usize {
        wide(self.parity_rows)
    }

    /// K, N and W.
    pub(crate) fn parts(&self) -> [u32; 3] {
        [self.data_rows, self.parity_rows, self.row_bytes]
    }

    /// T = K + N.
    #[must_use]
    pub fn total_rows(&self) -> usize {
        self.data_rows() + self.parity_rows()
    }

    /// Leaves of the row tree: K up to a power of two, then N up to one over all. Those that are no row are of zeros.
    ///
    /// T for every blob, whose tree is full.
    #[must_use]
    pub fn tree_leaves(&self) -> usize {
        (self.data_rows().next_power_of_two() + self.parity_rows()).next_power_of_two()
    }

    /// Where the rows of a range are among the leaves of the tree: from the first to after the last of them.
    pub(crate) fn places(&self, range: RowRange) -> RowRange {
        let padding = self.data_rows.next_power_of_two() - self.data_rows;
        let place = |row: u32| if row < self.data_rows { row } else { row.saturating_add(padding) };
        let (start, end) = (place(range.start), place(range.end() - 1).saturating_add(1));
        RowRange { start, count: end - start }
    }

    /// W: bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        wide(self.row_bytes)
    }

    /// K * W: bytes of the data rows, padding included.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.data_rows() * self.row_bytes()
    }

    /// T * W: bytes of all rows.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.total_rows() * self.row_bytes()
    }

    /// The range of `count` rows from `start`, where this shape has them.
    #[must_use]
    pub fn range(&self, start: u32, count: u32) -> Option<RowRange> {
        let end = start.checked_add(count)?;
        (count > 0 && wide(end) <= self.total_rows()).then_some(RowRange { start, count })
    }

    /// All rows.
    #[must_use]
    pub fn all(&self) -> RowRange {
        RowRange { start: 0, count: self.data_rows + self.parity_rows }
    }

    /// The data rows.
    #[must_use]
    pub fn data(&self) -> RowRange {
        RowRange { start: 0, count: self.data_rows }
    }

    /// The row with this index, where this shape has it.
    #[must_use]
    pub fn index(&self, index: u32) -> Option<RowIndex> {
        (wide(index) < self.total_rows()).then_some(RowIndex(index))
    }
}

impl RowRange {
    /// The range of one row.
    #[must_use]
    pub fn of_row(row: RowIndex) -> Self {
        Self { start: row.0, count: 1 }
    }

    /// Index of the first row.
    #[must_use]
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Number of rows, at least 1.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Index after the last row.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.start.saturating_add(self.count)
    }

    /// Whether the row is in the range.
    #[must_use]
    pub fn contains(&self, row: RowIndex) -> bool {
        (self.start..self.end()).contains(&row.0)
    }

    /// Whether all rows of `other` are in the range.
    #[must_use]
    pub fn contains_range(&self, other: &Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The rows in ascending order.
    pub fn indices(&self) -> impl Iterator<Item = RowIndex> + use<> {
        (self.start..self.end()).map(RowIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(length: u64) -> (usize, usize) {
        let shape = Shape::of(PayloadLength::try_from(length).unwrap());
        (shape.data_rows(), shape.row_bytes())
    }

    #[test]
    fn lengths_have_bounds() {
        assert_eq!(PayloadLength::try_from(0), Err(LengthError::Empty));
        assert_eq!(PayloadLength::try_from(1).unwrap().get(), 1);
        assert_eq!(PayloadLength::try_from(MAX_PAYLOAD).unwrap().to_usize(), 1 << 27);
        assert_eq!(PayloadLength::try_from(MAX_PAYLOAD + 1), Err(LengthError::TooLong(MAX_PAYLOAD + 1)));
    }

    #[test]
    fn shapes_follow_the_table_at_every_boundary() {
        let kib = 1 << 10;
        let mib = 1 << 20;
        for (boundary, below, above) in [
            (1024, (16, 64), (16, 128)),
            (16 * kib, (16, 1024), (64, 320)),
            (64 * kib, (64, 1024), (256, 320)),
            (256 * kib, (256, 1024), (1024, 320)),
            (mib, (1024, 1024), (2048, 576)),
            (4 * mib, (2048, 2048), (4096, 1088)),
            (32 * mib, (4096, 8192), (8192, 4160)),
        ] {
            assert_eq!(shape(boundary - 1), below);
            assert_eq!(shape(boundary), below);
            assert_eq!(shape(boundary + 1), above);
        }
        assert_eq!(shape(1), (16, 64));
        assert_eq!(shape(128 * mib - 1), (8192, 16_384));
        assert_eq!(shape(128 * mib), (8192, 16_384));
        assert_eq!(shape(24_506), (64, 384));
        assert_eq!(shape(108_114), (256, 448));
    }

    #[test]
    fn every_shape_holds_its_payload() {
        for exponent in 0..=27 {
            for length in [(1_u64 << exponent) - 1, 1 << exponent, (1 << exponent) + 1] {
                let Ok(length) = PayloadLength::try_from(length) else { continue };
                let shape = Shape::of(length);
                assert!(shape.data_bytes() >= length.to_usize());
                assert_eq!(shape.total_rows(), 4 * shape.data_rows());
                assert_eq!(shape.total_bytes(), shape.total_rows() * shape.row_bytes());
            }
        }
    }

    #[test]
    fn custom_shapes_are_checked() {
        for (k, n, w) in [
            (1, 1, 64),
            (8192, 3 * 8192, 16_384),
            (3, 10, 16_448),
            (32_768, 32_768, 64),
            (65_535, 1, 64),
            (32_768, 16_385, 64),
        ] {
            assert!(Shape::custom(k, n, w).is_some());
        }
        for (k, n, w) in [
            (0, 12, 64),
            (4, 0, 64),
            (4, 12, 0),
            (4, 12, 63),
            (65_536, 1, 64),
            (32_769, 16_385, 64),
            (1, 65_536, 64),
            (1, u32::MAX, 64),
            (u32::MAX, 1, 64),
        ] {
            assert_eq!(Shape::custom(k, n, w), None);
        }
    }

    #[test]
    fn rows_have_places_in_the_tree() {
        let places = |k, n, start, count| {
            let shape = Shape::custom(k, n, 64).unwrap();
            let places = shape.places(shape.range(start, count).unwrap());
            (shape.tree_leaves(), places.start(), places.end())
        };
        assert_eq!(places(4, 12, 3, 5), (16, 3, 8));
        assert_eq!(places(5, 7, 0, 5), (16, 0, 5));
        assert_eq!(places(5, 7, 5, 7), (16, 8, 15));
        assert_eq!(places(5, 7, 4, 2), (16, 4, 9));
        assert_eq!(places(5, 9, 0, 14), (32, 0, 17));
        assert_eq!(places(1, 1, 0, 2), (2, 0, 2));
        for length in [1, 1 << 16, 1 << 20, MAX_PAYLOAD] {
            let shape = Shape::of(length.try_into().unwrap());
            assert_eq!(shape.tree_leaves(), shape.total_rows());
            for range in [shape.all(), shape.data(), shape.range(3, 27).unwrap()] {
                assert_eq!(shape.places(range), range);
            }
        }
    }

    #[test]
    fn ranges_stay_inside() {
        let shape = Shape::custom(4, 12, 64).unwrap();
        assert_eq!(shape.range(0, 16), Some(shape.all()));
        assert_eq!(shape.range(0, 0), None);
        assert_eq!(shape.range(0, 17), None);
        assert_eq!(shape.range(16, 1), None);
        assert_eq!(shape.range(u32::MAX, 2), None);
        assert_eq!(shape.index(15), Some(RowIndex(15)));
        assert_eq!(shape.index(16), None);
        let range = shape.range(3, 2).unwrap();
        assert_eq!((range.start(), range.count(), range.end()), (3, 2, 5));
        assert_eq!(range.indices().collect::<Vec<_>>(), [RowIndex(3), RowIndex(4)]);
        assert!(!range.contains(RowIndex(2)) && range.contains(RowIndex(4)) && !range.contains(RowIndex(5)));
    }
}
