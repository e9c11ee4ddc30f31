//! T rows of the code with their tree and RLC vector, and the checking of single rows: the codec itself, which knows
//! neither payloads nor ids (protocol section 2, steps 1 to 6).

use crate::{
    B256,
    buffers::RowBuffer,
    field::Gf128,
    hash::{GROUP, HashProfile},
    merkle::{PartialTree, ProofError, RangeProof, RowProof, RowTree},
    rlc::{Combiner, RlcVector},
    rs,
    shape::{RowIndex, RowRange, Shape, wide},
};
use bytes::Bytes;
use core::marker::PhantomData;
use thiserror::Error;

/// The code refused a shape, which no [`Shape`] is.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[error("reed-solomon code failed: {0}")]
pub struct CodeError(#[from] reed_solomon_simd::Error);

/// Rows that are not of the codeword.
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

/// All T rows in one buffer, their tree and their RLC vector.
#[derive(Clone)]
pub struct Codeword<H: HashProfile> {
    shape: Shape,
    rows: Bytes,
    tree: RowTree,
    rlc: RlcVector,
    profile: PhantomData<H>,
}

/// What single rows are checked against: the row root, and what the combination of each row must be.
pub struct RowChecker<H: HashProfile> {
    shape: Shape,
    row_root: B256,
    /// Of each of the T rows.
    combinations: Vec<Gf128>,
    combiner: Combiner,
    profile: PhantomData<H>,
}

/// Rows whose parity is being made: data rows and their leaves.
pub(crate) struct Unextended<H: HashProfile> {
    shape: Shape,
    rows: RowBuffer,
    /// Leaves of the first rows.
    leaves: Vec<B256>,
    profile: PhantomData<H>,
}

impl<H: HashProfile> Codeword<H> {
    /// Extends and commits to K data rows.
    ///
    /// # Errors
    /// The code refused the shape, which no [`Shape`] is.
    ///
    /// # Panics
    /// The data are not K * W bytes.
    pub fn of_data(shape: Shape, data: &[u8]) -> Result<Self, CodeError> {
        let mut rows = Unextended::new(shape, RowBuffer::zeroed(shape.total_bytes()));
        rows.data().copy_from_slice(data);
        rows.extend()
    }

    /// Puts together what is known to belong together.
    pub(crate) fn assemble(shape: Shape, rows: Bytes, tree: RowTree, rlc: RlcVector) -> Self {
        Self { shape, rows, tree, rlc, profile: PhantomData }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Root of the tree over the rows.
    #[must_use]
    pub fn row_root(&self) -> B256 {
        self.tree.root()
    }

    /// The RLC vector.
    #[must_use]
    pub fn rlc(&self) -> &RlcVector {
        &self.rlc
    }

    /// Consecutive rows, without a copy.
    ///
    /// # Panics
    /// The range is not one of this shape.
    #[must_use]
    pub fn rows(&self, range: RowRange) -> Bytes {
        let row_bytes = self.shape.row_bytes();
        self.rows.slice(wide(range.start()) * row_bytes..wide(range.end()) * row_bytes)
    }

    /// Proof of consecutive rows.
    ///
    /// # Panics
    /// The range is not one of this shape.
    #[must_use]
    pub fn range_proof(&self, range: RowRange) -> RangeProof {
        self.tree.prove_range(self.shape.places(range))
    }

    /// Proof of one row.
    ///
    /// # Panics
    /// The row is not one of this shape.
    #[must_use]
    pub fn row_proof(&self, row: RowIndex) -> RowProof {
        RowProof(self.range_proof(RowRange::of_row(row)).0)
    }

    /// Leaves of consecutive rows, with the padding of the tree between data and parity rows if it has any.
    ///
    /// # Panics
    /// The range is not one of this shape.
    #[must_use]
    pub fn leaves(&self, range: RowRange) -> &[B256] {
        self.tree.leaves(self.shape.places(range))
    }
}

impl<H: HashProfile> Unextended<H> {
    /// Begins in a buffer of T * W bytes; the data rows are whatever it holds until they are written.
    pub(crate) fn new(shape: Shape, rows: RowBuffer) -> Self {
        debug_assert_eq!(rows.len(), shape.total_bytes());
        Self { shape, rows, leaves: Vec::with_capacity(shape.total_rows()), profile: PhantomData }
    }

    /// The data rows.
    pub(crate) fn data(&mut self) -> &mut [u8] {
        &mut self.rows[..self.shape.data_bytes()]
    }

    /// Hashes what is whole in the first `bytes` of the data and not hashed yet, in as many rows as are best hashed
    /// together. They do not change any more.
    pub(crate) fn hash_before(&mut self, bytes: usize) {
        self.hash_rows(bytes / self.shape.row_bytes() / GROUP * GROUP);
    }

    fn hash_rows(&mut self, end: usize) {
        let row_bytes = self.shape.row_bytes();
        let rows = &self.rows[self.leaves.len() * row_bytes..end * row_bytes];
        self.leaves.extend(H::row_leaves(rows, row_bytes));
    }

    /// Adds the parity rows and their tree, and combines the data rows.
    pub(crate) fn extend(self) -> Result<Codeword<H>, CodeError> {
        let (shape, rows, tree) = self.commit()?;
        let combiner = Combiner::new(&H::coefficients(&tree.root(), &shape));
        let rlc = RlcVector::of_rows(&combiner, &shape, &rows[..shape.data_bytes()]);
        Ok(Codeword::assemble(shape, Bytes::from_owner(rows), tree, rlc))
    }

    /// Adds the parity rows, and takes an RLC vector that is known to be theirs if the row root is the expected one.
    pub(crate) fn extend_to(self, row_root: B256, rlc: RlcVector) -> Result<Option<Codeword<H>>, CodeError> {
        let (shape, rows, tree) = self.commit()?;
        Ok((tree.root() == row_root).then(|| Codeword::assemble(shape, Bytes::from_owner(rows), tree, rlc)))
    }

    fn commit(mut self) -> Result<(Shape, RowBuffer, RowTree), CodeError> {
        let shape = self.shape;
        rs::extend(shape.data_rows(), shape.parity_rows(), shape.row_bytes(), &mut self.rows)?;
        self.hash_rows(shape.total_rows());
        let mut leaves = placed::<H>(&shape, shape.all(), self.leaves);
        if leaves.len() < shape.tree_leaves() {
            leaves.resize(shape.tree_leaves(), padding::<H>(&shape));
        }
        Ok((shape, self.rows, RowTree::build::<H>(leaves)))
    }
}

impl<H: HashProfile> RowChecker<H> {
    /// Prepares the checking of rows under a row root and an RLC vector of K values.
    ///
    /// Whether the vector is the one that was committed to is for the caller to know.
    ///
    /// # Errors
    /// The code refused the shape, which no [`Shape`] is.
    ///
    /// # Panics
    /// The vector has not K values.
    pub fn new(shape: Shape, row_root: B256, rlc: &RlcVector) -> Result<Self, CodeError> {
        assert_eq!(rlc.len(), shape.data_rows());
        let combinations = rlc.extend(shape.parity_rows())?;
        let combiner = Combiner::new(&H::coefficients(&row_root, &shape));
        Ok(Self { shape, row_root, combinations, combiner, profile: PhantomData })
    }

    /// Checks consecutive rows with the siblings of their range, and gives their leaves.
    ///
    /// # Errors
    /// A length is not exact, the range is not in the shape, the proof does not lead to the row root, or a row is not
    /// of the code word.
    pub fn check(&self, range: RowRange, rows: &[u8], siblings: &[B256]) -> Result<Vec<B256>, RowError> {
        let (total_rows, row_bytes) = (self.shape.total_rows(), self.shape.row_bytes());
        if wide(range.end()) > total_rows {
            return Err(ProofError::Outside { start: range.start(), end: range.end(), total_rows }.into());
        }
        let (tree_leaves, places) = (self.shape.tree_leaves(), self.shape.places(range));
        PartialTree::check_lengths(tree_leaves, places, siblings)?;
        let want = wide(range.count()) * row_bytes;
        if rows.len() != want {
            return Err(RowError::Bytes { got: rows.len(), want });
        }
        let leaves =
            if range.count() == 1 { vec![H::row_leaf(rows)] } else { H::row_leaves(rows, row_bytes) };
        let root = if let [leaf] = leaves[..] {
            PartialTree::root_of_row::<H>(wide(places.start()), leaf, siblings)
        } else {
            let placed = placed::<H>(&self.shape, range, leaves.clone());
            PartialTree::build::<H>(tree_leaves, places, placed, siblings)?.root()
        };
        if root != self.row_root {
            return Err(RowError::RowRoot);
        }
        let mut combinations = vec![Gf128::default(); wide(range.count())];
        self.combiner.combine_rows(rows, &mut combinations);
        let want = &self.combinations[wide(range.start())..];
        let wrong = range.indices().zip(combinations.iter().zip(want)).find(|(_, (got, want))| got != want);
        match wrong {
            Some((RowIndex(row), _)) => Err(RowError::Combination { row }),
            None => Ok(leaves),
        }
    }
}

/// Leaf of what the tree has where it has no row.
fn padding<H: HashProfile>(shape: &Shape) -> B256 {
    H::row_leaf(&vec![0; shape.row_bytes()])
}

/// Leaves of the rows of a range as they lie in the tree, with those between data and parity rows that are no row.
fn placed<H: HashProfile>(shape: &Shape, range: RowRange, mut leaves: Vec<B256>) -> Vec<B256> {
    let missing = wide(shape.places(range).count() - range.count());
    if missing > 0 {
        let at = shape.data_rows() - wide(range.start());
        leaves.splice(at..at, core::iter::repeat_n(padding::<H>(shape), missing));
    }
    leaves
}

/// Fills the parity rows of `rows`, T rows of W bytes of which the first K are given; neither hashes nor combines.
///
/// # Errors
/// The code refused the shape, which no [`Shape`] is.
///
/// # Panics
/// The rows are not T * W bytes.
pub fn extend(shape: &Shape, rows: &mut [u8]) -> Result<(), CodeError> {
    assert_eq!(rows.len(), shape.total_bytes());
    Ok(rs::extend(shape.data_rows(), shape.parity_rows(), shape.row_bytes(), rows)?)
}

/// The data rows of a codeword from any K or more of its rows; `rows[i]` is row i where it is known.
///
/// # Errors
/// Fewer than K rows.
///
/// # Panics
/// A row is not W bytes, or there are not T places.
pub fn recover(shape: &Shape, rows: &[Option<&[u8]>]) -> Result<Vec<u8>, CodeError> {
    assert_eq!(rows.len(), shape.total_rows());
    Ok(rs::recover(shape, rows)?)
}
