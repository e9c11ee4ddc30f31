//! The hash profile of the codec: what differs between networks (protocol section 2).

mod blake3;
mod many;
mod sha256;

pub use self::{blake3::Blake3, sha256::Sha256};

use crate::{B256, field::Gf128, shape::Shape};
use rayon::prelude::*;

/// Inputs that are hashed together: a multiple of every number of lanes, with all chaining values in the cache.
pub(crate) const GROUP: usize = 64;

/// Bytes of input from which other threads are worth their waking.
const SHARED: usize = 256 << 10;

/// How rows, nodes and the RLC vector are hashed, and where coefficients come from.
pub trait HashProfile: Clone + Send + Sync + 'static {
    /// Leaf of a row's bytes.
    fn row_leaf(row: &[u8]) -> B256;

    /// Leaves of consecutive rows, each of `row_bytes`, a positive multiple of 64.
    ///
    /// # Panics
    /// `row_bytes` is zero, or no multiple of 64 where the profile needs one.
    fn row_leaves(rows: &[u8], row_bytes: usize) -> Vec<B256>;

    /// Node over two subtrees of rows.
    fn row_node(left: &B256, right: &B256) -> B256;

    /// Nodes over subtrees of rows: one over each two of `children`.
    fn row_nodes(children: &[B256]) -> Vec<B256>;

    /// Root over the K values of the RLC vector, in order.
    fn rlc_root(values: &[Gf128]) -> B256;

    /// The W/2 coefficients of the combination, one for each symbol of a row.
    fn coefficients(row_root: &B256, shape: &Shape) -> Vec<Gf128>;
}

/// Hashes `inputs`, each of `each` elements, by groups: on this thread, or on all where `bytes` of input pay for it.
fn by_groups<T: Sync>(inputs: &[T], each: usize, hash: impl Fn(&[T], &mut [B256]) + Sync) -> Vec<B256> {
    let mut hashes = vec![B256::ZERO; inputs.len() / each];
    let inputs = &inputs[..hashes.len() * each];
    if size_of_val(inputs) >= SHARED && rayon::current_num_threads() > 1 {
        let groups = hashes.par_chunks_mut(GROUP).zip(inputs.par_chunks(GROUP * each));
        groups.for_each(|(hashes, inputs)| hash(inputs, hashes));
    } else {
        let groups = hashes.chunks_mut(GROUP).zip(inputs.chunks(GROUP * each));
        groups.for_each(|(hashes, inputs)| hash(inputs, hashes));
    }
    hashes
}
