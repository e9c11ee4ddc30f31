//! Vectors of x86-64: AVX2, and AVX-512 with GFNI.
//!
//! The methods are inlined into functions that enable the instructions (`#[target_feature]`); elsewhere they work too,
//! one call for each instruction.

use super::vector::{Nibbles, Vector, nibbles};
use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
    _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_storeu_si512,
    _mm512_xor_si512,
};

/// 32 bytes; a map is two shuffles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(pub(crate) __m256i);

impl Vector for Avx2 {
    const BYTES: usize = 32;

    type Map = Nibbles;

    fn prepare(map: impl Fn(u8) -> u8) -> Nibbles {
        nibbles(map)
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, into: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(into.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller has the instruction.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn map(self, map: &Nibbles) -> Self {
        // SAFETY: the caller has the instructions; the map is 32 bytes.
        unsafe {
            let images =
                |at: usize| _mm256_broadcastsi128_si256(_mm_loadu_si128(map.as_ptr().add(at).cast()));
            let mask = _mm256_set1_epi8(15);
            let low = _mm256_and_si256(self.0, mask);
            let high = _mm256_and_si256(_mm256_srli_epi64::<4>(self.0), mask);
            Self(_mm256_xor_si256(_mm256_shuffle_epi8(images(0), low), _mm256_shuffle_epi8(images(16), high)))
        }
    }
}

/// 64 bytes; a map is one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gfni(pub(crate) __m512i);

/// A matrix of 8 by 8 bits as `gf2p8affineqb` takes it: the row of output bit i is byte 7 - i.
pub(crate) fn matrix(map: impl Fn(u8) -> u8) -> u64 {
    let mut rows = [0; 8];
    for bit in 0..8 {
        let image = map(1 << bit);
        for (i, row) in rows.iter_mut().rev().enumerate() {
            *row |= (image >> i & 1) << bit;
        }
    }
    u64::from_le_bytes(rows)
}

impl Vector for Gfni {
    const BYTES: usize = 64;

    type Map = u64;

    fn prepare(map: impl Fn(u8) -> u8) -> u64 {
        matrix(map)
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, into: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(into.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller has the instruction.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn map(self, map: &u64) -> Self {
        // SAFETY: the caller has the instructions.
        unsafe {
            let matrices = _mm512_set1_epi64(map.cast_signed());
            Self(_mm512_gf2p8affine_epi64_epi8::<0>(self.0, matrices))
        }
    }
}
