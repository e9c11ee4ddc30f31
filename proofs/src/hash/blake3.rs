//! The network's profile: keyed BLAKE3, a key for each use.

use super::{HashProfile, many::Keyed};
use crate::{
    B256,
    field::{Gf128, VALUE_BYTES},
    shape::Shape,
};
use std::sync::LazyLock;

/// The network's hash profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Blake3;

/// A key of 32 bytes derived from the name of its use.
type Key = LazyLock<Keyed>;

static ROW_LEAF: Key = LazyLock::new(|| Keyed::derive("meridian v1 row leaf"));
static ROW_NODE: Key = LazyLock::new(|| Keyed::derive("meridian v1 row node"));
static RLC_VECTOR: Key = LazyLock::new(|| Keyed::derive("meridian v1 rlc vector"));
static COEFFICIENTS: Key = LazyLock::new(|| Keyed::derive("meridian v1 coefficients"));

impl HashProfile for Blake3 {
    fn row_leaf(row: &[u8]) -> B256 {
        ROW_LEAF.hash(row)
    }

    fn row_leaves(rows: &[u8], row_bytes: usize) -> Vec<B256> {
        ROW_LEAF.hash_rows(rows, row_bytes)
    }

    fn row_node(left: &B256, right: &B256) -> B256 {
        ROW_NODE.hash_pair(left, right)
    }

    fn row_nodes(children: &[B256]) -> Vec<B256> {
        ROW_NODE.hash_pairs(children)
    }

    fn rlc_root(values: &[Gf128]) -> B256 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bytes()).collect();
        RLC_VECTOR.hash(&bytes)
    }

    fn coefficients(row_root: &B256, shape: &Shape) -> Vec<Gf128> {
        let [k, n, w] = shape.parts().map(u32::to_le_bytes);
        let mut bytes = vec![0; shape.row_bytes() / 2 * VALUE_BYTES];
        COEFFICIENTS.fill(&[row_root.as_slice(), &k, &n, &w].concat(), &mut bytes);
        bytes.as_chunks::<VALUE_BYTES>().0.iter().map(|value| Gf128::from_bytes(*value)).collect()
    }
}
