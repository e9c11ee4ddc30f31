//! SHA-256 of two messages side by side.
//!
//! The processor's two rounds take four cycles and can begin every second cycle, so that a chain of blocks, each of
//! which waits for the one before, leaves the unit idle half of the time. Two chains fill it.

use sha2::block_api::compress256;

/// Bytes of a block of a message.
pub(crate) const BLOCK_BYTES: usize = 64;

/// A block of a message.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// Takes the blocks of two messages into their states, as far as both have blocks.
pub(crate) fn compress_two(states: &mut [[u32; 8]; 2], blocks: [&[Block]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        // SAFETY: the processor has the instructions.
        unsafe { x86::compress(states, blocks) };
        return;
    }
    one_by_one(states, blocks);
}

fn one_by_one(states: &mut [[u32; 8]; 2], [first, second]: [&[Block]; 2]) {
    let both = first.len().min(second.len());
    let [of_first, of_second] = states;
    compress256(of_first, &first[..both]);
    compress256(of_second, &second[..both]);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Block;
    use std::arch::{
        is_x86_feature_detected as has,
        x86_64::{
            __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
            _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
            _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
        },
    };

    /// Constants of the rounds, four to a vector: FIPS 180-4, section 4.2.2.
    const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// A state in two vectors.
    type Pair = [__m128i; 2];

    pub(super) fn available() -> bool {
        has!("sha") && has!("sse4.1")
    }

    /// The state as the instructions take it, words a b e f and c d g h from the top, from a to h in memory.
    #[target_feature(enable = "sha,sse4.1")]
    fn load(state: &[u32; 8]) -> Pair {
        let words = state.as_ptr().cast::<__m128i>();
        // SAFETY: reads the two halves of the array, at any address.
        let [dcba, hgfe] = unsafe { [_mm_loadu_si128(words), _mm_loadu_si128(words.add(1))] };
        let cdab = _mm_shuffle_epi32(dcba, 0xB1);
        let efgh = _mm_shuffle_epi32(hgfe, 0x1B);
        [_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xF0)]
    }

    /// The inverse of [`load`].
    #[target_feature(enable = "sha,sse4.1")]
    fn store([abef, cdgh]: Pair, state: &mut [u32; 8]) {
        let feba = _mm_shuffle_epi32(abef, 0x1B);
        let dchg = _mm_shuffle_epi32(cdgh, 0xB1);
        let words = state.as_mut_ptr().cast::<__m128i>();
        // SAFETY: writes the two halves of the array, at any address.
        unsafe {
            _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xF0));
            _mm_storeu_si128(words.add(1), _mm_alignr_epi8(dchg, feba, 8));
        }
    }

    /// Quarter `i` of a block: four big-endian words.
    #[target_feature(enable = "sha,sse4.1")]
    fn words(block: &Block, i: usize) -> __m128i {
        let swapped = _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203);
        let quarter = block.as_chunks::<16>().0[i].as_ptr().cast();
        // SAFETY: reads the sixteen bytes of the quarter, at any address.
        _mm_shuffle_epi8(unsafe { _mm_loadu_si128(quarter) }, swapped)
    }

    /// Takes the blocks of both, the rounds of one between those of the other.
    #[target_feature(enable = "sha,sse4.1")]
    pub(super) fn compress(states: &mut [[u32; 8]; 2], blocks: [&[Block]; 2]) {
        let mut now = [load(&states[0]), load(&states[1])];
        for (first, second) in blocks[0].iter().zip(blocks[1]) {
            let before = now;
            // The last sixteen words of each message's schedule, four to a vector.
            let mut schedule = [[_mm_setzero_si128(); 2]; 4];
            for quarter in 0..4 {
                for i in 0..4 {
                    let k = ROUNDS[4 * quarter + i].as_ptr().cast();
                    // SAFETY: reads the four constants, at any address.
                    let k = unsafe { _mm_loadu_si128(k) };
                    for (s, block) in [first, second].into_iter().enumerate() {
                        let w = if quarter == 0 {
                            words(block, i)
                        } else {
                            let [w0, w1, w2, w3] = core::array::from_fn(|j| schedule[(i + j) % 4][s]);
                            let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
                            _mm_sha256msg2_epu32(sum, w3)
                        };
                        schedule[i][s] = w;
                        let [abef, cdgh] = &mut now[s];
                        let wk = _mm_add_epi32(w, k);
                        *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
                        *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(wk, 0x0E));
                    }
                }
            }
            for (now, before) in now.iter_mut().zip(before) {
                *now = [_mm_add_epi32(now[0], before[0]), _mm_add_epi32(now[1], before[1])];
            }
        }
        for (state, now) in states.iter_mut().zip(now) {
            store(now, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn blocks() -> impl Strategy<Value = Vec<Block>> {
        vec(vec(any::<u8>(), BLOCK_BYTES).prop_map(|block| block.try_into().unwrap()), 0..20)
    }

    proptest! {
        #[test]
        fn two_are_compressed_as_one_by_one(states: [[u32; 8]; 2], first in blocks(), second in blocks()) {
            let mut want = states;
            one_by_one(&mut want, [&first, &second]);
            let mut two = states;
            compress_two(&mut two, [&first, &second]);
            prop_assert_eq!(two, want);
        }
    }
}
