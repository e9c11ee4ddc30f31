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
            let parents = H::row_nodes(&nodes);
            levels.push(Level { first: start, nodes: core::mem::replace(&mut nodes, parents) });
            (start, end, width) = (start / 2, end.div_ceil(2), width / 2);
        }
        levels.push(Level { first: 0, nodes });
        Ok(Self { range, levels })
    }

    /// The root that follows from one row, without a tree: whoever samples checks many single rows.
    pub(crate) fn root_of_row<H: HashProfile>(place: usize, leaf: B256, siblings: &[B256]) -> B256 {
        let step = |(place, node): (usize, B256), sibling: &B256| {
            let parent = if place.is_multiple_of(2) {
                H::row_node(&node, sibling)
            } else {
                H::row_node(sibling, &node)
            };
            (place / 2, parent)
        };
        siblings.iter().fold((place, leaf), step).1
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
            let nodes = H::row_nodes(&below.nodes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hash::Blake3, shape::Shape, twin};
    use merkle_light::{hash::Algorithm, merkle::MerkleTree};
    use proptest::prelude::*;

    /// The row tree's hash for `merkle_light`, which hashes leaves once more; leaves are compared as they are.
    #[derive(Clone, Default)]
    struct Peer;
    impl std::hash::Hasher for Peer {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, _: &[u8]) {}
    }
    impl Algorithm<[u8; 32]> for Peer {
        fn hash(&mut self) -> [u8; 32] {
            [0; 32]
        }
        fn leaf(&mut self, leaf: [u8; 32]) -> [u8; 32] {
            leaf
        }
        fn node(&mut self, left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
            twin::node(&left.into(), &right.into()).0
        }
    }

    fn leaves(log: u32) -> Vec<B256> {
        (0..1_u32 << log).map(|i| twin::leaf(&i.to_be_bytes())).collect()
    }

    fn shape(log: u32) -> Shape {
        Shape::custom(1 << (log - 2), 3 << (log - 2), 64).unwrap()
    }

    /// A tree of 4 to 64 leaves, a range of it and a range of that.
    fn nested() -> impl Strategy<Value = (u32, RowRange, RowRange)> {
        (2_u32..7, any::<[prop::sample::Index; 4]>()).prop_map(|(log, [a, b, c, d])| {
            let within = |start: u32, end: u32, a: prop::sample::Index, b: prop::sample::Index| {
                let size = (end - start) as usize;
                let first = a.index(size);
                let count = 1 + b.index(size - first);
                let (first, count) = (u32::try_from(first).unwrap(), u32::try_from(count).unwrap());
                shape(log).range(start + first, count).unwrap()
            };
            let outer = within(0, 1 << log, a, b);
            (log, outer, within(outer.start(), outer.end(), c, d))
        })
    }

    proptest! {
        #[test]
        fn ranges_prove_themselves_and_what_is_inside((log, outer, inner) in nested()) {
            let all = leaves(log);
            let tree = RowTree::build::<Blake3>(all.clone());
            prop_assert_eq!(tree.root(), twin::root(&all));
            let proof = tree.prove_range(outer);
            prop_assert_eq!(&proof.0, &twin::range_proof(&all, wide(outer.start()), wide(outer.end())));
            prop_assert_eq!(proof.0.len(), range_proof_len(all.len(), outer));

            let partial =
                PartialTree::new::<Blake3>(all.len(), outer, tree.leaves(outer).to_vec(), &proof).unwrap();
            prop_assert_eq!(partial.root(), tree.root());
            let row = RowIndex(outer.start());
            let place = wide(row.0);
            let proof = tree.prove_row(row);
            prop_assert_eq!(PartialTree::root_of_row::<Blake3>(place, all[place], &proof.0), tree.root());
            prop_assert_eq!(partial.prove_range(inner), Some(tree.prove_range(inner)));
            for row in shape(log).all().indices() {
                let proof = outer.contains(row).then(|| tree.prove_row(row));
                prop_assert_eq!(partial.prove_row(row), proof);
            }
            if inner != outer {
                let held = PartialTree::new::<Blake3>(
                    all.len(), inner, tree.leaves(inner).to_vec(), &tree.prove_range(inner)).unwrap();
                prop_assert_eq!(held.prove_range(outer), None);
            }
        }

        #[test]
        fn every_hash_and_place_counts((log, range, other) in nested(), byte in 0_usize..32, bit in 0_u32..8) {
            let all = leaves(log);
            let tree = RowTree::build::<Blake3>(all.clone());
            let (held, proof) = (tree.leaves(range).to_vec(), tree.prove_range(range));
            let root = |range, leaves, proof: &RangeProof| {
                PartialTree::new::<Blake3>(all.len(), range, leaves, proof).map(|tree| tree.root())
            };
            for i in 0..held.len() {
                let mut held = held.clone();
                held[i].0[byte] ^= 1_u8 << bit;
                prop_assert_ne!(root(range, held, &proof).unwrap(), tree.root());
            }
            for i in 0..proof.0.len() {
                let mut proof = proof.clone();
                proof.0[i].0[byte] ^= 1_u8 << bit;
                prop_assert_ne!(root(range, held.clone(), &proof).unwrap(), tree.root());
            }
            let mut longer = proof.clone();
            longer.0.push(B256::ZERO);
            let want = proof.0.len();
            let siblings = |got| Err(ProofError::Siblings { got, want });
            prop_assert_eq!(root(range, held.clone(), &longer), siblings(want + 1));
            if !proof.0.is_empty() {
                let shorter = RangeProof(proof.0[1..].to_vec());
                prop_assert_eq!(root(range, held.clone(), &shorter), siblings(want - 1));
            }
            let more = [held.as_slice(), &[B256::ZERO]].concat();
            let leaves = ProofError::Leaves { got: held.len() + 1, want: held.len() };
            prop_assert_eq!(root(range, more, &proof), Err(leaves));
            if other != range {
                prop_assert_ne!(root(other, held, &proof), Ok(tree.root()));
            }
        }
    }

    #[test]
    fn the_tree_is_that_of_a_library() {
        for log in 2..9 {
            let leaves = leaves(log);
            let peer: MerkleTree<[u8; 32], Peer> = MerkleTree::new(leaves.iter().map(|leaf| leaf.0));
            assert_eq!(RowTree::build::<Blake3>(leaves).root().0, peer.root());
        }
    }

    #[test]
    fn trees_that_no_shape_has_are_refused() {
        let range = shape(4).range(3, 2).unwrap();
        for total in [0, 1, 2, 4, 6, 15, 17] {
            let built = PartialTree::new::<Blake3>(total, range, vec![B256::ZERO; 2], &RangeProof(vec![]));
            assert!(matches!(built, Err(ProofError::Outside { .. })));
        }
    }
}
