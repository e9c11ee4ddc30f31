//! The conformance profile: SHA-256, as the published `rsema1d` specification has it.

use super::{HashProfile, by_groups};
use crate::{
    B256,
    field::{Gf128, VALUE_BYTES},
    merkle::RowTree,
    shape::Shape,
};
use sha2::Digest;

/// The hash profile whose commitments are those of `rsema1d`. Its shapes may be any of [`Shape::custom`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sha256;

/// First byte of a leaf's input and of a node's, as in RFC 6962.
const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

fn digest<const N: usize>(parts: [&[u8]; N]) -> B256 {
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    B256::new(hasher.finalize().into())
}

impl Sha256 {
    /// What `rsema1d` publishes for rows and RLC vector.
    #[must_use]
    pub fn commitment(row_root: &B256, rlc_root: &B256) -> B256 {
        digest([row_root.as_slice(), rlc_root.as_slice()])
    }
}

impl HashProfile for Sha256 {
    fn row_leaf(row: &[u8]) -> B256 {
        digest([LEAF, row])
    }

    fn row_leaves(rows: &[u8], row_bytes: usize) -> Vec<B256> {
        by_groups(rows, row_bytes, |rows, leaves| {
            for (leaf, row) in leaves.iter_mut().zip(rows.chunks_exact(row_bytes)) {
                *leaf = Self::row_leaf(row);
            }
        })
    }

    fn row_nodes(children: &[B256]) -> Vec<B256> {
        by_groups(children, 2, |children, nodes| {
            for (node, [left, right]) in nodes.iter_mut().zip(children.as_chunks().0) {
                *node = digest([NODE, left.as_slice(), right.as_slice()]);
            }
        })
    }

    /// The root of a tree over the values and as many zeros as make up a power of two.
    fn rlc_root(values: &[Gf128]) -> B256 {
        let mut leaves: Vec<B256> = values.iter().map(|value| Self::row_leaf(&value.to_bytes())).collect();
        leaves.resize(values.len().next_power_of_two(), Self::row_leaf(&[0; VALUE_BYTES]));
        RowTree::build::<Self>(leaves).root()
    }

    /// The two halves of a digest added, for each coefficient.
    fn coefficients(row_root: &B256, shape: &Shape) -> Vec<Gf128> {
        let [k, n, w] = shape.parts().map(u32::to_le_bytes);
        let seed = digest([row_root.as_slice(), &k, &n, &w]);
        let coefficient = |index: u32| {
            let digest = digest([seed.as_slice(), &index.to_le_bytes()]);
            let [low, high] = [0, VALUE_BYTES]
                .map(|start| u128::from_le_bytes(core::array::from_fn(|i| digest[start + i])));
            Gf128::from_bits(low ^ high)
        };
        (0..).map(coefficient).take(shape.row_bytes() / 2).collect()
    }
}
