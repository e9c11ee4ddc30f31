//! The complete binary tree over the rows, and proofs of ranges of it (protocol sections 2 and 3).

use crate::{
    B256,
    hash::HashProfile,
    shape::{RowIndex, RowRange, wide},
};
use thiserror::Error;

/// Missing siblings of a range, level by level from the leaves, left before right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeProof(pub Vec<B256>);

/// Siblings of one row from leaf to root: the range proof of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowProof(pub Vec<B256>);

/// A proof that cannot belong to its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProofError {
    /// The range is not inside a tree of that many rows, or the tree is not complete.
    #[error("rows {start} to {end} are not inside a tree of {total_rows} rows")]
    Outside {
        /// First row.
        start: u32,
        /// Row after the last.
        end: u32,
        /// Leaves of the tree.
        total_rows: usize,
    },
    /// Another number of leaves than the range has rows.
    #[error("{got} leaves for {want} rows")]
    Leaves {
        /// What was given.
        got: usize,
        /// What the range needs.
        want: usize,
    },
    /// Another number of siblings than the range needs.
    #[error("proof has {got} siblings, not {want}")]
    Siblings {
        /// What was given.
        got: usize,
        /// What the range needs.
        want: usize,
    },
}

/// The nodes of one level that are known, without a gap.
#[derive(Clone, Debug)]
struct Level {
    first: usize,
    nodes: Vec<B256>,
}

/// What the holder of one range knows of the tree: its leaves and the siblings of the range.
#[derive(Clone, Debug)]
pub struct PartialTree {
    range: RowRange,
    /// From the leaves to the root.
    levels: Vec<Level>,
}

/// The whole tree over the rows of a blob.
#[derive(Clone, Debug)]
pub struct RowTree {
    /// From the leaves to the root.
    levels: Vec<Level>,
}

/// Which siblings the nodes `start..end` of one level lack to make up whole pairs.
fn lacking(start: usize, end: usize) -> (bool, bool) {
    (!start.is_multiple_of(2), !end.is_multiple_of(2))
}

/// Number of siblings in the proof of a range in a complete tree over `total_rows` rows.
#[must_use]
pub fn range_proof_len(total_rows: usize, range: RowRange) -> usize {
    let (mut start, mut end, mut width) = (wide(range.start()), wide(range.end()), total_rows);
    let mut siblings = 0;
    while width > 1 {
        let (left, right) = lacking(start, end);
        siblings += usize::from(left) + usize::from(right);
        (start, end, width) = (start / 2, end.div_ceil(2), width / 2);
    }
    siblings
}

impl PartialTree {
    /// Builds all nodes that follow from the leaves of a range and its proof.
    ///
    /// Nothing is trusted by this: the proof holds if [`Self::root`] is the root one expects.
    ///
    /// # Errors
    /// The range is outside the tree, `total_rows` is no power of two, or a number of hashes is not exact.
    pub fn new<H: HashProfile>(
        total_rows: usize,
        range: RowRange,
        leaves: Vec<B256>,
        proof: &RangeProof,
    ) -> Result<Self, ProofError> {
        Self::build::<H>(total_rows, range, leaves, &proof.0)
    }

    /// What can be refused before any hash is computed.
    pub(crate) fn check_lengths(
        total_rows: usize,
        range: RowRange,
        siblings: &[B256],
    ) -> Result<(), ProofError> {
        if wide(range.end()) > total_rows || !total_rows.is_power_of_two() {
            return Err(ProofError::Outside { start: range.start(), end: range.end(), total_rows });
        }
        let want = range_proof_len(total_rows, range);
        if siblings.len() != want {
            return Err(ProofError::Siblings { got: siblings.len(), want });
        }
        Ok(())
    }

    pub(crate) fn build<H: HashProfile>(
        total_rows: usize,
        range: RowRange,
        leaves: Vec<B256>,
        siblings: &[B256],
    ) -> Result<Self, ProofError> {
        Self::check_lengths(total_rows, range, siblings)?;
        if leaves.len() != wide(range.count()) {
            return Err(ProofError::Leaves { got: leaves.len(), want: wide(range.count()) });
        }
        let (mut start, mut end) = (wide(range.start()), wide(range.end()));
        let mut siblings = siblings.iter();
        let mut levels = Vec::new();
        let mut nodes = leaves;
        let mut width = total_rows;
        while width > 1 {
            let (left, right) = lacking(start, end);
            if left && let Some(sibling) = siblings.next() {
                nodes.insert(0, *sibling);
                start -= 1;
            }
            if right && let Some(sibling) = siblings.next() {
                nodes.push(*sibling);
            }
            let parents = parents::<H>(&nodes);
            levels.push(Level { first: start, nodes: core::mem::replace(&mut nodes, parents) });
            (start, end, width) = (start / 2, end.div_ceil(2), width / 2);
        }
        levels.push(Level { first: 0, nodes });
        Ok(Self { range, levels })
    }

    /// The root that follows.
    #[must_use]
    pub fn root(&self) -> B256 {
        root(&self.levels)
    }

    /// Proves a range inside the one that is held, or `None` when it is not inside.
    #[must_use]
    pub fn prove_range(&self, range: RowRange) -> Option<RangeProof> {
        self.range.contains_range(&range).then(|| RangeProof(siblings(&self.levels, range)))
    }

    /// Proves a row of the range that is held, or `None` when it is not inside.
    #[must_use]
    pub fn prove_row(&self, row: RowIndex) -> Option<RowProof> {
        self.range.contains(row).then(|| RowProof(siblings(&self.levels, RowRange::of_row(row))))
    }
}

impl RowTree {
    /// Builds the tree over the leaves of all rows.
    ///
    /// # Panics
    /// The number of leaves is no power of two, which no [`Shape`](crate::shape::Shape) has.
    #[must_use]
    pub fn build<H: HashProfile>(leaves: Vec<B256>) -> Self {
        assert!(leaves.len().is_power_of_two(), "a shape has a power of two of rows");
        let mut levels = vec![Level { first: 0, nodes: leaves }];
        while let Some(below) = levels.last().filter(|level| level.nodes.len() > 1) {
            let nodes = parents::<H>(&below.nodes);
            levels.push(Level { first: 0, nodes });
        }
        Self { levels }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> B256 {
        root(&self.levels)
    }

    /// Proves a range of rows.
    ///
    /// # Panics
    /// The range is of another shape and not inside the tree.
    #[must_use]
    pub fn prove_range(&self, range: RowRange) -> RangeProof {
        RangeProof(siblings(&self.levels, range))
    }

    /// Proves a row.
    ///
    /// # Panics
    /// The row is of another shape and not inside the tree.
    #[must_use]
    pub fn prove_row(&self, row: RowIndex) -> RowProof {
        RowProof(siblings(&self.levels, RowRange::of_row(row)))
    }

    /// Leaves of a range.
    ///
    /// # Panics
    /// The range is of another shape and not inside the tree.
    #[must_use]
    pub fn leaves(&self, range: RowRange) -> &[B256] {
        &self.levels[0].nodes[wide(range.start())..wide(range.end())]
    }
}

fn parents<H: HashProfile>(nodes: &[B256]) -> Vec<B256> {
    nodes.as_chunks().0.iter().map(|[left, right]| H::row_node(left, right)).collect()
}

fn root(levels: &[Level]) -> B256 {
    levels.last().and_then(|level| level.nodes.first()).copied().unwrap_or_default()
}

fn siblings(levels: &[Level], range: RowRange) -> Vec<B256> {
    let (mut start, mut end) = (wide(range.start()), wide(range.end()));
    let mut siblings = Vec::new();
    for level in &levels[..levels.len().saturating_sub(1)] {
        let (left, right) = lacking(start, end);
        if left {
            siblings.push(level.nodes[start - 1 - level.first]);
        }
        if right {
            siblings.push(level.nodes[end - level.first]);
        }
        (start, end) = (start / 2, end.div_ceil(2));
    }
    siblings
}
