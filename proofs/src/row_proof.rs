//! Checking rows against a blob id (protocol section 2, step 6).

pub use crate::codeword::RowError;
use crate::{
    B256,
    codeword::{CodeError, RowChecker},
    encode::EncodedBlob,
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    ids::BlobId,
    merkle::{RangeProof, RowProof},
    rlc::RlcVector,
    shape::{RowIndex, RowRange, Shape, wide},
};
use bytes::Bytes;
use core::fmt;
use thiserror::Error;

/// A header or RLC vector that does not belong to the id.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum ContextError {
    /// The header has another id.
    #[error("header belongs to blob {actual}")]
    Id {
        /// The header's own id.
        actual: BlobId,
    },
    /// The RLC vector has not K values.
    #[error("rlc vector has {got} values, not {want}")]
    RlcLength {
        /// What was given.
        got: usize,
        /// K.
        want: usize,
    },
    /// The RLC vector is not the one the header commits to.
    #[error("rlc vector does not match the header's rlc root")]
    RlcRoot,
    /// The code refused the shape, which no shape of this crate is.
    #[error(transparent)]
    Code(#[from] CodeError),
}

/// Header and RLC vector that are proved to belong to an id, prepared to check rows. Share it as an `Arc`.
pub struct BlobContext<H: HashProfile = Blake3> {
    id: BlobId,
    header: BlobHeader,
    shape: Shape,
    rlc: RlcVector,
    checker: RowChecker<H>,
}

/// Consecutive rows that were checked against a blob's id. Only a [`BlobContext`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedRange {
    blob_id: BlobId,
    range: RowRange,
    rows: Bytes,
    leaves: Vec<B256>,
    proof: RangeProof,
}

/// One row that was checked: a range of one.
pub type VerifiedRow = VerifiedRange;

impl<H: HashProfile> fmt::Debug for BlobContext<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobContext")
            .field("id", &self.id)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl<H: HashProfile> BlobContext<H> {
    /// Checks that header and RLC vector belong to the id, and prepares the checking of rows.
    ///
    /// # Errors
    /// Another id, another number of values, another RLC root.
    pub fn new(id: BlobId, header: BlobHeader, rlc: RlcVector) -> Result<Self, ContextError> {
        let actual = header.id();
        if actual != id {
            return Err(ContextError::Id { actual });
        }
        let shape = header.shape();
        if rlc.len() != shape.data_rows() {
            return Err(ContextError::RlcLength { got: rlc.len(), want: shape.data_rows() });
        }
        if rlc.root::<H>() != header.rlc_root {
            return Err(ContextError::RlcRoot);
        }
        let checker = RowChecker::new(shape, header.row_root, &rlc)?;
        Ok(Self { id, header, shape, rlc, checker })
    }

    /// The blob's id.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// The blob's header.
    #[must_use]
    pub fn header(&self) -> &BlobHeader {
        &self.header
    }

    /// The blob's shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The blob's RLC vector.
    #[must_use]
    pub fn rlc(&self) -> &RlcVector {
        &self.rlc
    }

    /// Checks consecutive rows with one range proof.
    ///
    /// # Errors
    /// A length is not exact, the range is not in the shape, the proof does not lead to the row root, or a row is not
    /// of the code word.
    #[allow(clippy::needless_pass_by_value, reason = "the rows become part of the checked range")]
    pub fn check_range(
        &self,
        range: RowRange,
        rows: Bytes,
        proof: &RangeProof,
    ) -> Result<VerifiedRange, RowError> {
        self.check(range, rows, &proof.0)
    }

    /// Checks one row with its own proof.
    ///
    /// # Errors
    /// As [`Self::check_range`].
    pub fn check_row(&self, row: RowIndex, bytes: Bytes, proof: &RowProof) -> Result<VerifiedRow, RowError> {
        self.check(RowRange::of_row(row), bytes, &proof.0)
    }

    /// Consecutive rows of the blob itself, which need no check: whoever encoded it knows that all are of one code word,
    /// under its id. Nothing where it is another blob, or the range is not in its shape.
    #[must_use]
    pub fn rows_of(&self, blob: &EncodedBlob<H>, range: RowRange) -> Option<VerifiedRange> {
        if blob.id() != self.id || wide(range.end()) > self.shape.total_rows() {
            return None;
        }
        let (rows, leaves, proof) = (blob.rows(range), blob.leaves(range), blob.range_proof(range));
        Some(VerifiedRange { blob_id: self.id, range, rows, leaves, proof })
    }

    fn check(&self, range: RowRange, rows: Bytes, siblings: &[B256]) -> Result<VerifiedRange, RowError> {
        let leaves = self.checker.check(range, &rows, siblings)?;
        let proof = RangeProof(siblings.to_vec());
        Ok(VerifiedRange { blob_id: self.id, range, rows, leaves, proof })
    }
}

impl VerifiedRange {
    /// The blob the rows were checked against.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.blob_id
    }

    /// Which rows.
    #[must_use]
    pub fn range(&self) -> RowRange {
        self.range
    }

    /// The rows, one after the other.
    #[must_use]
    pub fn rows(&self) -> &Bytes {
        &self.rows
    }

    /// Leaves of the rows in the blob's tree.
    #[must_use]
    pub fn leaves(&self) -> &[B256] {
        &self.leaves
    }

    /// Proof of the range under the blob's row root.
    #[must_use]
    pub fn proof(&self) -> &RangeProof {
        &self.proof
    }

    /// One of the rows without a copy, or `None` when it is not among them.
    #[must_use]
    pub fn row(&self, row: RowIndex) -> Option<Bytes> {
        let row_bytes = self.rows.len() / wide(self.range.count());
        let start = row.0.checked_sub(self.range.start()).map(wide)? * row_bytes;
        self.range.contains(row).then(|| self.rows.slice(start..start + row_bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        codeword::Codeword,
        encode::encode,
        merkle::{ProofError, RowTree},
        rlc::Combiner,
    };
    use proptest::{collection::vec, prelude::*, sample::Index};

    /// A blob that commits honestly to whatever rows it is given, code word or not.
    pub(crate) fn commit(length: u64, rows: Vec<u8>) -> EncodedBlob {
        let length = length.try_into().unwrap();
        let shape = Shape::of(length);
        let tree = RowTree::build::<Blake3>(Blake3::row_leaves(&rows, shape.row_bytes()));
        let combiner = Combiner::new(&Blake3::coefficients(&tree.root(), &shape));
        let rlc = RlcVector::of_rows(&combiner, &shape, &rows[..shape.data_bytes()]);
        let header = BlobHeader {
            length,
            row_root: tree.root(),
            rlc_root: rlc.root::<Blake3>(),
            kzg_root: B256::ZERO,
        };
        EncodedBlob::assemble(header, Codeword::assemble(shape, rows.into(), tree, rlc))
    }

    pub(crate) fn context(blob: &EncodedBlob) -> BlobContext {
        BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap()
    }

    pub(crate) fn blob(payload: &[u8]) -> EncodedBlob {
        encode(payload, B256::ZERO).unwrap()
    }

    fn flip(bytes: &[u8], bit: usize) -> Bytes {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes.into()
    }

    fn flip_hash(hashes: &[B256], bit: usize) -> Vec<B256> {
        let flipped = flip(&hashes.concat(), bit);
        flipped.chunks(32).map(B256::from_slice).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn honest_ranges_and_rows_are_accepted(payload in vec(any::<u8>(), 1..40_000), a: Index, b: Index) {
            let blob = blob(&payload);
            let (context, total) = (context(&blob), blob.shape().total_rows());
            let start = a.index(total);
            let count = 1 + b.index(total - start);
            let range = blob.shape().range(start.try_into().unwrap(), count.try_into().unwrap()).unwrap();
            let checked = context.check_range(range, blob.rows(range), &blob.range_proof(range)).unwrap();
            prop_assert_eq!((checked.blob_id(), checked.range()), (blob.id(), range));
            prop_assert_eq!(checked.leaves(), blob.leaves(range));
            prop_assert_eq!(checked.rows().as_ptr(), blob.rows(range).as_ptr());
            let known = context.rows_of(&blob, range).unwrap();
            prop_assert_eq!((known.blob_id(), known.range()), (checked.blob_id(), checked.range()));
            prop_assert_eq!((known.rows(), known.leaves()), (checked.rows(), checked.leaves()));
            prop_assert_eq!(known.proof(), checked.proof());
            for row in blob.shape().all().indices() {
                prop_assert_eq!(checked.row(row), range.contains(row).then(|| blob.row(row)));
            }
            let row = RowIndex(range.start());
            let checked = context.check_row(row, blob.row(row), &blob.row_proof(row)).unwrap();
            prop_assert_eq!(checked.range(), RowRange::of_row(row));
        }
    }

    #[test]
    fn rows_of_another_blob_are_not_known() {
        let (small, large) = (blob(&[1; 900]), blob(&[1; 20_000]));
        let end = large.shape().all();
        assert!(context(&small).rows_of(&large, small.shape().data()).is_none());
        assert!(context(&small).rows_of(&small, end).is_none());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let blob = blob(&[0x5A; 1000]);
        let context = context(&blob);
        for row in [0, 15, 16, 63].map(RowIndex) {
            let (bytes, proof) = (blob.row(row), blob.row_proof(row));
            for bit in 0..8 * bytes.len() {
                assert_eq!(context.check_row(row, flip(&bytes, bit), &proof).err(), Some(RowError::RowRoot));
            }
            for bit in 0..256 * proof.0.len() {
                let proof = RowProof(flip_hash(&proof.0, bit));
                assert_eq!(context.check_row(row, bytes.clone(), &proof).err(), Some(RowError::RowRoot));
            }
        }
        let range = blob.shape().range(5, 22).unwrap();
        let (rows, proof) = (blob.rows(range), blob.range_proof(range));
        for bit in (0..8 * rows.len()).step_by(7) {
            let refused = context.check_range(range, flip(&rows, bit), &proof).err();
            assert_eq!(refused, Some(RowError::RowRoot));
        }
        for bit in 0..256 * proof.0.len() {
            let proof = RangeProof(flip_hash(&proof.0, bit));
            assert_eq!(context.check_range(range, rows.clone(), &proof).err(), Some(RowError::RowRoot));
        }
    }

    #[test]
    fn every_flipped_bit_of_header_and_vector_is_refused() {
        let blob = blob(&[0x5A; 1000]);
        let bytes = blob.header().encode();
        for bit in 0..8 * bytes.len() {
            let Ok(header) = BlobHeader::decode(&flip(&bytes, bit)) else { continue };
            let refused = BlobContext::<Blake3>::new(blob.id(), header, blob.rlc().clone()).err();
            assert_eq!(refused, Some(ContextError::Id { actual: header.id() }));
        }
        let bytes = blob.rlc().to_bytes();
        for bit in 0..8 * bytes.len() {
            let rlc = RlcVector::from_bytes(&flip(&bytes, bit)).unwrap();
            let refused = BlobContext::<Blake3>::new(blob.id(), *blob.header(), rlc).err();
            assert_eq!(refused, Some(ContextError::RlcRoot));
        }
        for got in [15, 17] {
            let rlc = RlcVector::from_bytes(&vec![0; 16 * got]).unwrap();
            let refused = BlobContext::<Blake3>::new(blob.id(), *blob.header(), rlc).err();
            assert_eq!(refused, Some(ContextError::RlcLength { got, want: 16 }));
        }
    }

    #[test]
    fn the_vector_of_another_blob_is_refused() {
        let (ours, other) = (blob(&[1; 1000]), blob(&[2; 1000]));
        let refused = BlobContext::<Blake3>::new(ours.id(), *ours.header(), other.rlc().clone()).err();
        assert_eq!(refused, Some(ContextError::RlcRoot));

        // Even a header that commits to it only gets rows refused.
        let header = BlobHeader { rlc_root: other.header().rlc_root, ..*ours.header() };
        let context = BlobContext::<Blake3>::new(header.id(), header, other.rlc().clone()).unwrap();
        for row in ours.shape().all().indices() {
            let refused = context.check_row(row, ours.row(row), &ours.row_proof(row)).err();
            assert_eq!(refused, Some(RowError::Combination { row: row.0 }));
        }
    }

    #[test]
    fn a_wrong_parity_row_under_an_honest_tree_is_refused() {
        let honest = blob(&[3; 1000]);
        let w = honest.shape().row_bytes();
        for (wrong, bit) in [(16, 0), (40, 77), (63, 511)] {
            let mut rows = honest.rows(honest.shape().all()).to_vec();
            rows[wrong * w + bit / 8] ^= 1 << (bit % 8);
            let cheat = commit(1000, rows);
            let context = context(&cheat);
            for row in cheat.shape().all().indices() {
                let refused = context.check_row(row, cheat.row(row), &cheat.row_proof(row)).err();
                let want = (row.0 as usize == wrong).then_some(RowError::Combination { row: row.0 });
                assert_eq!(refused, want);
            }
            let all = cheat.shape().all();
            let refused = context.check_range(all, cheat.rows(all), &cheat.range_proof(all)).err();
            assert_eq!(refused, Some(RowError::Combination { row: u32::try_from(wrong).unwrap() }));
        }
    }

    #[test]
    fn rows_count_only_in_their_place() {
        let blob = blob(&(0..4000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        let context = context(&blob);
        let row = RowIndex(7);
        for other in blob.shape().all().indices().filter(|other| *other != row) {
            let refused = context.check_row(other, blob.row(row), &blob.row_proof(row)).err();
            assert_eq!(refused, Some(RowError::RowRoot));
        }
        let (range, shifted) = (blob.shape().range(8, 8).unwrap(), blob.shape().range(16, 8).unwrap());
        let refused = context.check_range(shifted, blob.rows(range), &blob.range_proof(range)).err();
        assert_eq!(refused, Some(RowError::RowRoot));
    }

    #[test]
    fn lengths_are_exact() {
        let blob = blob(&[9; 1000]);
        let context = context(&blob);
        let range = blob.shape().range(3, 4).unwrap();
        let (rows, proof) = (blob.rows(range), blob.range_proof(range));
        let want = rows.len();
        for got in [0, want - 64, want - 1, want + 1, want + 64] {
            let mut rows = rows.to_vec();
            rows.resize(got, 0);
            let refused = context.check_range(range, rows.into(), &proof).err();
            assert_eq!(refused, Some(RowError::Bytes { got, want }));
        }
        let want = proof.0.len();
        for got in [0, want - 1, want + 1] {
            let mut proof = proof.clone();
            proof.0.resize(got, B256::ZERO);
            let refused = context.check_range(range, rows.clone(), &proof).err();
            assert_eq!(refused, Some(ProofError::Siblings { got, want }.into()));
        }
        let larger = Shape::custom(32, 96, 64).unwrap().range(60, 5).unwrap();
        let refused = context.check_range(larger, Bytes::from(vec![0; 320]), &proof).err();
        assert_eq!(refused, Some(ProofError::Outside { start: 60, end: 65, total_rows: 64 }.into()));
    }
}
