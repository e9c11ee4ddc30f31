//! The conformance profile: SHA-256, as the published `rsema1d` specification has it.

use super::{HashProfile, by_groups};
use crate::{
    B256,
    field::{Gf128, VALUE_BYTES},
    kernel::sha256::{BLOCK_BYTES, Block, compress_two},
    merkle::RowTree,
    shape::Shape,
};
use core::slice::from_ref;
use sha2::Digest;

/// The hash profile whose commitments are those of `rsema1d`. Its shapes may be any of [`Shape::custom`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sha256;

/// First byte of a leaf's input and of a node's, as in RFC 6962.
const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// The state before the first block: FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bytes at the end of the last block that hold the length of the message.
const LENGTH_BYTES: usize = 8;

/// Digest of parts one after the other.
fn digest<const N: usize>(parts: [&[u8]; N]) -> B256 {
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    B256::new(hasher.finalize().into())
}

/// Digests of bodies of `each` bytes, each after the same prefix, which is shorter than a block.
fn digests(prefix: &[u8], bodies: &[u8], each: usize) -> Vec<B256> {
    by_groups(bodies, each, |bodies, digests| digest_group(prefix, bodies, each, digests))
}

fn digest_group(prefix: &[u8], bodies: &[u8], each: usize, digests: &mut [B256]) {
    for (digests, bodies) in digests.chunks_mut(2).zip(bodies.chunks(2 * each)) {
        let (first, second) = bodies.split_at(each);
        match digests {
            [of_first, of_second] => [*of_first, *of_second] = digest_two(prefix, [first, second]),
            digests => digests.fill(digest([prefix, first])),
        }
    }
}

/// Digests of two messages of one length.
fn digest_two(prefix: &[u8], bodies: [&[u8]; 2]) -> [B256; 2] {
    let length = prefix.len() + bodies[0].len();
    let mut states = [INITIAL; 2];
    // The first block begins with the prefix, the last one or two have the padding; others are as they lie.
    let (mut prefix, mut rests) = (prefix, bodies);
    if length >= BLOCK_BYTES {
        let [first, second] = bodies.map(|body| body.split_at(BLOCK_BYTES - prefix.len()));
        let heads = [first.0, second.0].map(|head| {
            let mut block = [0; BLOCK_BYTES];
            block[..prefix.len()].copy_from_slice(prefix);
            block[prefix.len()..].copy_from_slice(head);
            block
        });
        compress_two(&mut states, heads.each_ref().map(from_ref));
        let [first, second] = [first.1, second.1].map(<[u8]>::as_chunks);
        compress_two(&mut states, [first.0, second.0]);
        (prefix, rests) = (&[], [first.1, second.1]);
    }
    let ends = rests.map(|rest| end(prefix, rest, length));
    let used = (prefix.len() + rests[0].len() + 1 + LENGTH_BYTES).div_ceil(BLOCK_BYTES);
    compress_two(&mut states, ends.each_ref().map(|end| &end[2 - used..]));
    states.map(|state| {
        let mut digest = B256::ZERO;
        for (bytes, word) in digest.0.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        digest
    })
}

/// The end of a message of this length: what is left of it, a one bit, zeros, and the length in bits. One block at the
/// end, or two.
fn end(prefix: &[u8], rest: &[u8], length: usize) -> [Block; 2] {
    let mut bytes = [0; 2 * BLOCK_BYTES];
    let left = prefix.len() + rest.len();
    let start = if left + 1 + LENGTH_BYTES > BLOCK_BYTES { 0 } else { BLOCK_BYTES };
    bytes[start..start + prefix.len()].copy_from_slice(prefix);
    bytes[start + prefix.len()..start + left].copy_from_slice(rest);
    bytes[start + left] = 0x80;
    let bits = u64::try_from(length).unwrap_or(u64::MAX).saturating_mul(8);
    bytes[2 * BLOCK_BYTES - LENGTH_BYTES..].copy_from_slice(&bits.to_be_bytes());
    let (blocks, _) = bytes.as_chunks();
    [blocks[0], blocks[1]]
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
        digests(LEAF, rows, row_bytes)
    }

    fn row_node(left: &B256, right: &B256) -> B256 {
        digest([NODE, left.as_slice(), right.as_slice()])
    }

    fn row_nodes(children: &[B256]) -> Vec<B256> {
        by_groups(children, 2, |children, nodes| {
            digest_group(NODE, &children.concat(), 2 * size_of::<B256>(), nodes);
        })
    }

    /// The root of a tree over the values and as many zeros as make up a power of two.
    fn rlc_root(values: &[Gf128]) -> B256 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bytes()).collect();
        let mut leaves = digests(LEAF, &bytes, VALUE_BYTES);
        leaves.resize(values.len().next_power_of_two(), Self::row_leaf(&[0; VALUE_BYTES]));
        RowTree::build::<Self>(leaves).root()
    }

    /// The two halves of a digest added, for each coefficient.
    fn coefficients(row_root: &B256, shape: &Shape) -> Vec<Gf128> {
        let [k, n, w] = shape.parts().map(u32::to_le_bytes);
        let seed = digest([row_root.as_slice(), &k, &n, &w]);
        let indices: Vec<u8> = (0_u32..).take(shape.row_bytes() / 2).flat_map(u32::to_le_bytes).collect();
        let sum = |digest: &B256| {
            let [low, high] = [0, VALUE_BYTES]
                .map(|start| u128::from_le_bytes(core::array::from_fn(|i| digest[start + i])));
            Gf128::from_bits(low ^ high)
        };
        digests(seed.as_slice(), &indices, size_of::<u32>()).iter().map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn messages_are_digested_as_by_the_crate(
            prefix in vec(any::<u8>(), 0..BLOCK_BYTES),
            (bodies, each) in (0_usize..9, 1_usize..300)
                .prop_flat_map(|(count, each)| (vec(any::<u8>(), count * each), Just(each)))
        ) {
            let want: Vec<B256> = bodies.chunks(each).map(|body| digest([&prefix, body])).collect();
            prop_assert_eq!(digests(&prefix, &bodies, each), want);
        }
    }

    #[test]
    fn messages_of_every_length_are_digested() {
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * 520).collect();
        for each in 1..520 {
            for prefix in [&[][..], LEAF, &[7; 63]] {
                let bodies = [&bytes[..each], &bytes[each..2 * each]];
                assert_eq!(digest_two(prefix, bodies), bodies.map(|body| digest([prefix, body])));
            }
        }
    }

    #[test]
    fn threads_do_not_show() {
        let rows: Vec<u8> = (0..=255).cycle().take(3 * super::super::SHARED).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for row_bytes in [64, 1024, 16_384] {
            let want: Vec<B256> = rows.chunks(row_bytes).map(Sha256::row_leaf).collect();
            assert_eq!(pool.install(|| Sha256::row_leaves(&rows, row_bytes)), want);
        }
    }
}
