//! The hash profile of the codec: what differs between networks (protocol section 2).

mod blake3;
mod many;

pub use self::blake3::Blake3;

use crate::{B256, field::Gf128, shape::Shape};

/// How rows, nodes and the RLC vector are hashed, and where coefficients come from.
pub trait HashProfile: Clone + Send + Sync + 'static {
    /// Leaf of a row's bytes.
    fn row_leaf(row: &[u8]) -> B256;

    /// Leaves of consecutive rows, each of `row_bytes`, a positive multiple of 64.
    fn row_leaves(rows: &[u8], row_bytes: usize) -> Vec<B256>;

    /// Nodes over subtrees of rows: one over each two of `children`.
    fn row_nodes(children: &[B256]) -> Vec<B256>;

    /// Root over the K values of the RLC vector, in order.
    fn rlc_root(values: &[Gf128]) -> B256;

    /// The W/2 coefficients of the combination, one for each symbol of a row.
    fn coefficients(row_root: &B256, shape: &Shape) -> Vec<Gf128>;
}
