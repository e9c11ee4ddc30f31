//! How payload bytes are field elements, and where a polynomial has them as its value.

use super::{KzgError, failed};
use crate::B256;

/// Payload bytes of an element.
pub const ELEMENT_BYTES: usize = 31;

/// Elements of a polynomial.
pub const ELEMENTS: usize = 4096;

/// Payload bytes of a polynomial: 126,976.
pub const POLYNOMIAL_BYTES: usize = ELEMENT_BYTES * ELEMENTS;

/// Bytes of an element as a number of the field.
const FIELD_BYTES: usize = 32;

/// Place of an element: which polynomial, and which of its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ElementIndex {
    /// Polynomial, from 0.
    pub polynomial: usize,
    /// Element of the polynomial, from 0 to 4095.
    pub element: usize,
}

impl ElementIndex {
    /// The element that holds the payload byte at this offset.
    #[must_use]
    pub fn of_byte(offset: usize) -> Self {
        let element = offset / ELEMENT_BYTES;
        Self { polynomial: element / ELEMENTS, element: element % ELEMENTS }
    }

    /// Offset of the element's first byte in the payload.
    #[must_use]
    pub fn offset(self) -> usize {
        (self.polynomial * ELEMENTS + self.element) * ELEMENT_BYTES
    }

    /// The point at which the polynomial has the element as its value, big-endian: the root of unity whose exponent is
    /// the element's index with its 12 bits reversed.
    #[must_use]
    pub fn point(self) -> B256 {
        let mut bytes = kzg_rs::get_roots_of_unity()[self.element % ELEMENTS].to_bytes();
        bytes.reverse();
        B256::new(bytes)
    }
}

/// The values of the polynomial of at most [`POLYNOMIAL_BYTES`] payload bytes.
pub(super) fn pack(piece: &[u8]) -> Result<c_kzg::Blob, KzgError> {
    let mut values = vec![0; ELEMENTS * FIELD_BYTES];
    for (value, bytes) in values.chunks_exact_mut(FIELD_BYTES).zip(piece.chunks(ELEMENT_BYTES)) {
        value[1..=bytes.len()].copy_from_slice(bytes);
    }
    c_kzg::Blob::from_bytes(&values).map_err(failed)
}

/// The payload bytes of a value, if it is an element at all.
pub(super) fn unpack(value: &B256) -> Option<&[u8]> {
    let (first, bytes) = value.0.split_first()?;
    (*first == 0).then_some(bytes)
}
