//! The network's profile: keyed BLAKE3, a key for each use.

use super::HashProfile;
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
type Key = LazyLock<[u8; 32]>;

static ROW_LEAF: Key = LazyLock::new(|| ::blake3::derive_key("meridian v1 row leaf", &[]));
static ROW_NODE: Key = LazyLock::new(|| ::blake3::derive_key("meridian v1 row node", &[]));
static RLC_VECTOR: Key = LazyLock::new(|| ::blake3::derive_key("meridian v1 rlc vector", &[]));
static COEFFICIENTS: Key = LazyLock::new(|| ::blake3::derive_key("meridian v1 coefficients", &[]));

impl HashProfile for Blake3 {
    fn row_leaf(row: &[u8]) -> B256 {
        B256::new(*::blake3::keyed_hash(&ROW_LEAF, row).as_bytes())
    }

    fn row_node(left: &B256, right: &B256) -> B256 {
        let mut children = [0; 64];
        children[..32].copy_from_slice(left.as_slice());
        children[32..].copy_from_slice(right.as_slice());
        B256::new(*::blake3::keyed_hash(&ROW_NODE, &children).as_bytes())
    }

    fn rlc_root(values: &[Gf128]) -> B256 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bytes()).collect();
        B256::new(*::blake3::keyed_hash(&RLC_VECTOR, &bytes).as_bytes())
    }

    fn coefficients(row_root: &B256, shape: &Shape) -> Vec<Gf128> {
        let mut hasher = ::blake3::Hasher::new_keyed(&COEFFICIENTS);
        hasher.update(row_root.as_slice());
        let [k, n, w] = shape.parts();
        for part in [k, n, w] {
            hasher.update(&part.to_le_bytes());
        }
        let mut bytes = vec![0; shape.row_bytes() / 2 * VALUE_BYTES];
        hasher.finalize_xof().fill(&mut bytes);
        bytes.as_chunks::<VALUE_BYTES>().0.iter().map(|value| Gf128::from_bytes(*value)).collect()
    }
}
