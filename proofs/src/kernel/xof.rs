//! Eight blocks of BLAKE3's extendable output at a time, for AVX2.
//!
//! All blocks of an output are compressions of one and the same block of input; only their counters differ. The crate
//! makes them side by side with AVX-512 and one by one with anything less.

use std::arch::{
    is_x86_feature_detected as has,
    x86_64::{
        __m256i, _mm256_add_epi32, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setr_epi32,
        _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_xor_si256,
    },
};

/// Bytes of a block.
const BLOCK: usize = 64;

/// Blocks made at a time.
const LANES: usize = 8;

/// The first four words of what SHA-256 begins with, as BLAKE3 does.
const INITIAL: [u32; 4] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];

/// Where the words of the block come from in the next of seven rounds.
const PERMUTED: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

/// What all blocks of an output are made from.
pub(crate) struct Source {
    pub(crate) chaining_value: [u32; 8],
    pub(crate) block: [u32; 16],
    /// Bytes of the block that are input.
    pub(crate) length: u32,
    pub(crate) flags: u32,
}

/// Fills `into` with the first bytes of the output.
///
/// # Panics
/// The processor has no AVX2, or there are more than 2^32 blocks.
pub(crate) fn fill(source: &Source, into: &mut [u8]) {
    assert!(has!("avx2"));
    for (part, counter) in into.chunks_mut(LANES * BLOCK).zip((0_u32..).step_by(LANES)) {
        // SAFETY: the processor has the instructions.
        let words = unsafe { blocks(source, counter) };
        for (lane, part) in part.chunks_mut(BLOCK).enumerate() {
            let mut block = [0; BLOCK];
            for (bytes, word) in block.as_chunks_mut().0.iter_mut().zip(&words) {
                *bytes = word[lane].to_le_bytes();
            }
            part.copy_from_slice(&block[..part.len()]);
        }
    }
}

/// Word i of eight blocks in element i.
#[target_feature(enable = "avx2")]
fn blocks(source: &Source, counter: u32) -> [[u32; LANES]; 16] {
    let Source { chaining_value: cv, block, length, flags } = source;
    let initial: [u32; 16] = [
        cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6], cv[7], INITIAL[0], INITIAL[1], INITIAL[2],
        INITIAL[3], counter, 0, *length, *flags,
    ];
    let all = |word: u32| _mm256_set1_epi32(word.cast_signed());
    let mut state = initial.map(all);
    state[12] = _mm256_add_epi32(state[12], _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let mut message = block.map(all);
    for _ in 0..7 {
        let m = message;
        // Columns, then diagonals.
        mix::<0, 4, 8, 12>(&mut state, m[0], m[1]);
        mix::<1, 5, 9, 13>(&mut state, m[2], m[3]);
        mix::<2, 6, 10, 14>(&mut state, m[4], m[5]);
        mix::<3, 7, 11, 15>(&mut state, m[6], m[7]);
        mix::<0, 5, 10, 15>(&mut state, m[8], m[9]);
        mix::<1, 6, 11, 12>(&mut state, m[10], m[11]);
        mix::<2, 7, 8, 13>(&mut state, m[12], m[13]);
        mix::<3, 4, 9, 14>(&mut state, m[14], m[15]);
        message = PERMUTED.map(|from| message[from]);
    }
    let mut words = [[0; LANES]; 16];
    for (i, words) in words.iter_mut().enumerate() {
        let other = if i < 8 { state[i + 8] } else { all(cv[i - 8]) };
        // SAFETY: writes the 32 bytes of the array, at any address.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm256_xor_si256(state[i], other)) };
    }
    words
}

/// BLAKE3's quarter round.
#[inline]
#[target_feature(enable = "avx2")]
fn mix<const A: usize, const B: usize, const C: usize, const D: usize>(
    state: &mut [__m256i; 16],
    x: __m256i,
    y: __m256i,
) {
    let by_16 = _mm256_setr_epi8(
        2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15,
        12, 13,
    );
    let by_8 = _mm256_setr_epi8(
        1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14,
        15, 12,
    );
    state[A] = _mm256_add_epi32(_mm256_add_epi32(state[A], state[B]), x);
    state[D] = _mm256_shuffle_epi8(_mm256_xor_si256(state[D], state[A]), by_16);
    state[C] = _mm256_add_epi32(state[C], state[D]);
    let mixed = _mm256_xor_si256(state[B], state[C]);
    state[B] = _mm256_or_si256(_mm256_srli_epi32(mixed, 12), _mm256_slli_epi32(mixed, 20));
    state[A] = _mm256_add_epi32(_mm256_add_epi32(state[A], state[B]), y);
    state[D] = _mm256_shuffle_epi8(_mm256_xor_si256(state[D], state[A]), by_8);
    state[C] = _mm256_add_epi32(state[C], state[D]);
    let mixed = _mm256_xor_si256(state[B], state[C]);
    state[B] = _mm256_or_si256(_mm256_srli_epi32(mixed, 7), _mm256_slli_epi32(mixed, 25));
}
