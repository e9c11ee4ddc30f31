//! Openings of a range of payload bytes: one for each element that the range touches.

use super::{
    ELEMENT_BYTES, ElementIndex, KzgBinding, KzgCommitment, KzgError, Opening, element, failed, prover,
};
use crate::{B256, shape::PayloadLength};
use core::ops::Range;
use rayon::prelude::*;

/// Elements that one range may touch: making the openings takes some 80 ms a core each. Whoever needs more bytes asks
/// for several ranges.
pub const MAX_OPENINGS: usize = 256;

/// The elements that a range of payload bytes touches: at least one, at most [`MAX_OPENINGS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElementRange {
    length: usize,
    bytes: Range<usize>,
}

impl ElementRange {
    /// The elements of a range of bytes of a payload.
    ///
    /// # Errors
    /// The range is empty, not within the payload, or touches too many elements.
    pub fn new(length: PayloadLength, range: &Range<u64>) -> Result<Self, KzgError> {
        if range.is_empty() || range.end > length.get() {
            return Err(KzgError::Range { start: range.start, end: range.end, length: length.get() });
        }
        let element_bytes = ELEMENT_BYTES as u64;
        let touched = range.end.div_ceil(element_bytes) - range.start / element_bytes;
        if touched > MAX_OPENINGS as u64 {
            return Err(KzgError::TooManyOpenings(touched));
        }
        // Both are within the payload.
        let offset = |byte| usize::try_from(byte).unwrap_or(usize::MAX);
        Ok(Self { length: length.to_usize(), bytes: offset(range.start)..offset(range.end) })
    }

    /// The elements, in order.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = ElementIndex> + use<> {
        let elements = self.bytes.start / ELEMENT_BYTES..self.bytes.end.div_ceil(ELEMENT_BYTES);
        elements.map(|element| ElementIndex::of_byte(element * ELEMENT_BYTES))
    }

    /// The bytes of the range in the values of its elements.
    ///
    /// Fails with the place of the first value that no payload of this length has there.
    pub(super) fn bytes_of<'a>(&self, values: impl Iterator<Item = &'a B256>) -> Result<Vec<u8>, KzgError> {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for (index, (element, value)) in self.elements().zip(values).enumerate() {
            let value = element::unpack(value).ok_or(KzgError::Malformed { index })?;
            let first = element.offset();
            let end = self.length.min(first + ELEMENT_BYTES) - first;
            if value[end..].iter().any(|byte| *byte != 0) {
                return Err(KzgError::Malformed { index });
            }
            let from = self.bytes.start.saturating_sub(first);
            let to = self.bytes.end.min(first + ELEMENT_BYTES) - first;
            bytes.extend_from_slice(&value[from..to]);
        }
        Ok(bytes)
    }
}

/// Opens the elements that a range of payload bytes touches, in order, over all threads of the pool it is called in.
///
/// `done` is called once for each opening, from any thread.
///
/// # Errors
/// The payload is empty or too long, the binding one of another length, the range refused by [`ElementRange::new`].
pub fn open_range(
    payload: &[u8],
    binding: &KzgBinding,
    range: &Range<u64>,
    done: impl Fn() + Sync,
) -> Result<Vec<Opening>, KzgError> {
    let length = PayloadLength::try_from(u64::try_from(payload.len()).unwrap_or(u64::MAX))?;
    let commitments = binding.commitments();
    let need = KzgBinding::polynomials(length);
    if commitments.len() != need {
        return Err(KzgError::Commitments { have: commitments.len(), need });
    }
    let elements: Vec<_> = ElementRange::new(length, range)?.elements().collect();
    let prover = prover();
    let open = |index: &ElementIndex| {
        let piece = payload.chunks(super::POLYNOMIAL_BYTES).nth(index.polynomial).unwrap_or_default();
        let z = index.point();
        let (proof, y) =
            prover.compute_kzg_proof(&element::pack(piece)?, &c_kzg::Bytes32::new(z.0)).map_err(failed)?;
        done();
        let proof = proof.to_bytes().into_inner();
        Ok(Opening::new(z, B256::from_slice(y.as_ref()), commitments[index.polynomial], proof))
    };
    elements.par_iter().map(open).collect()
}

/// The payload bytes of a range, once every opening is known to be of its element under the header's `kzgRoot`.
///
/// # Errors
/// The commitments are not those of the root, the range is refused by [`ElementRange::new`], an opening is missing, of
/// another element or false, or shows what no payload of this length has.
pub fn verify_range(
    kzg_root: &B256,
    length: PayloadLength,
    range: &Range<u64>,
    openings: &[Opening],
    commitments: &[KzgCommitment],
) -> Result<Vec<u8>, KzgError> {
    let binding = KzgBinding::new(length, commitments.to_vec())?;
    let range = ElementRange::new(length, range)?;
    let elements = range.elements();
    if openings.len() != elements.len() {
        return Err(KzgError::Openings { have: openings.len(), need: elements.len() });
    }
    binding.check(kzg_root)?;
    for (index, (element, opening)) in elements.zip(openings).enumerate() {
        if *opening.commitment() != commitments[element.polynomial] {
            return Err(KzgError::OtherElement { index, part: "commitment" });
        }
        if *opening.z() != element.point() {
            return Err(KzgError::OtherElement { index, part: "z" });
        }
    }
    let bytes = range.bytes_of(openings.iter().map(Opening::y))?;
    openings.par_iter().try_for_each(Opening::verify)?;
    Ok(bytes)
}
