//! Checking rows against a blob id (protocol section 2, step 6).

use crate::{
    B256,
    field::Gf128,
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    ids::BlobId,
    merkle::{PartialTree, ProofError, RangeProof, RowProof},
    rlc::{Combiner, RlcVector},
    shape::{RowIndex, RowRange, Shape, wide},
};
use bytes::Bytes;
use core::marker::PhantomData;
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
    #[error("reed-solomon code failed: {0}")]
    Code(#[from] reed_solomon_simd::Error),
}

/// Rows that do not belong to the blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RowError {
    /// Another number of bytes than the range has.
    #[error("{got} bytes of rows, not {want}")]
    Bytes {
        /// What was given.
        got: usize,
        /// Rows times W.
        want: usize,
    },
    /// The proof cannot belong to the range.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Rows and proof do not lead to the row root.
    #[error("rows and proof do not lead to the row root")]
    RowRoot,
    /// The row is under the row root, but not of the code word.
    #[error("combination of row {row} does not match the rlc vector")]
    Combination {
        /// Index of the first such row.
        row: u32,
    },
}

/// Header and RLC vector that are proved to belong to an id, prepared to check rows. Share it as an `Arc`.
pub struct BlobContext<H: HashProfile = Blake3> {
    id: BlobId,
    header: BlobHeader,
    shape: Shape,
    rlc: RlcVector,
    /// What the combination of each of the T rows must be.
    combinations: Vec<Gf128>,
    combiner: Combiner,
    profile: PhantomData<H>,
}

/// Consecutive rows that were checked against a blob's id. Only a [`BlobContext`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedRange {
    blob_id: BlobId,
    range: RowRange,
    rows: Bytes,
    leaves: Vec<B256>,
}

/// One row that was checked: a range of one.
pub type VerifiedRow = VerifiedRange;

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
        let combinations = rlc.extend()?;
        let combiner = Combiner::new(&H::coefficients(&header.row_root, &shape));
        Ok(Self { id, header, shape, rlc, combinations, combiner, profile: PhantomData })
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

    fn check(&self, range: RowRange, rows: Bytes, siblings: &[B256]) -> Result<VerifiedRange, RowError> {
        let (total_rows, row_bytes) = (self.shape.total_rows(), self.shape.row_bytes());
        PartialTree::check_lengths(total_rows, range, siblings)?;
        let want = wide(range.count()) * row_bytes;
        if rows.len() != want {
            return Err(RowError::Bytes { got: rows.len(), want });
        }
        let leaves: Vec<B256> = rows.chunks_exact(row_bytes).map(H::row_leaf).collect();
        if PartialTree::build::<H>(total_rows, range, leaves.clone(), siblings)?.root()
            != self.header.row_root
        {
            return Err(RowError::RowRoot);
        }
        for (index, row) in range.indices().zip(rows.chunks_exact(row_bytes)) {
            if self.combiner.combine(row) != self.combinations[wide(index.0)] {
                return Err(RowError::Combination { row: index.0 });
            }
        }
        Ok(VerifiedRange { blob_id: self.id, range, rows, leaves })
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

    /// One of the rows without a copy, or `None` when it is not among them.
    #[must_use]
    pub fn row(&self, row: RowIndex) -> Option<Bytes> {
        let row_bytes = self.rows.len() / wide(self.range.count());
        let start = row.0.checked_sub(self.range.start()).map(wide)? * row_bytes;
        self.range.contains(row).then(|| self.rows.slice(start..start + row_bytes))
    }
}
