//! Vectors of x86-64: AVX2, and AVX-512 with GFNI.
//!
//! The methods are inlined into functions that enable the instructions (`#[target_feature]`); elsewhere they work too,
//! one call for each instruction.

use super::{
    tower::{Block, Field, Tables},
    vector::{Nibbles, Portable, Vector, nibbles},
};
use std::{
    arch::x86_64::{
        __m256i, __m512i, __mmask8, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
        _mm256_loadu_si256, _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256,
        _mm256_xor_si256, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_mask_set1_epi64,
        _mm512_maskz_set1_epi64, _mm512_set1_epi64, _mm512_shuffle_i64x2, _mm512_storeu_si512,
        _mm512_xor_si512,
    },
    sync::LazyLock,
};

/// 32 bytes; a map is two shuffles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(pub(crate) __m256i);

impl Vector for Avx2 {
    const BYTES: usize = 32;

    type Map = Nibbles;

    type Ready = [__m256i; 2];

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
    unsafe fn ready(map: &Nibbles) -> [__m256i; 2] {
        // SAFETY: the caller has the instructions; the map is 32 bytes.
        unsafe {
            let images = map.as_ptr().cast();
            [
                _mm256_broadcastsi128_si256(_mm_loadu_si128(images)),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(images.add(1))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn apply(self, [low, high]: [__m256i; 2]) -> Self {
        // SAFETY: the caller has the instructions.
        unsafe {
            let [x, y] = self.nibbles();
            Self(_mm256_xor_si256(_mm256_shuffle_epi8(low, x), _mm256_shuffle_epi8(high, y)))
        }
    }
}

impl Avx2 {
    /// The images of bytes that are given by their low and high nibbles.
    ///
    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn images(map: &Nibbles, x: __m256i, y: __m256i) -> Self {
        // SAFETY: the caller has the instructions.
        unsafe {
            let [low, high] = Self::ready(map);
            Self(_mm256_xor_si256(_mm256_shuffle_epi8(low, x), _mm256_shuffle_epi8(high, y)))
        }
    }

    /// The low and the high nibbles.
    ///
    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn nibbles(self) -> [__m256i; 2] {
        // SAFETY: the caller has the instructions.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            [_mm256_and_si256(self.0, mask), _mm256_and_si256(_mm256_srli_epi64::<4>(self.0), mask)]
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

    type Ready = __m512i;

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
    unsafe fn ready(map: &u64) -> __m512i {
        // SAFETY: the caller has the instruction.
        unsafe { _mm512_set1_epi64(map.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn apply(self, matrices: __m512i) -> Self {
        // SAFETY: the caller has the instruction.
        Self(unsafe { _mm512_gf2p8affine_epi64_epi8::<0>(self.0, matrices) })
    }
}

impl Field for Avx2 {
    fn tables() -> &'static Tables<Nibbles> {
        // The maps are those of the portable vectors.
        Portable::tables()
    }

    #[inline(always)]
    unsafe fn multiply(low: Self, high: Self, [m, m_n, n_v]: [&Nibbles; 3]) -> [Self; 2] {
        // SAFETY: the caller has the instructions.
        unsafe {
            // The nibbles of a sum are the sums of nibbles.
            let ([a, b], [c, d]) = (low.nibbles(), high.nibbles());
            let (e, f) = (_mm256_xor_si256(a, c), _mm256_xor_si256(b, d));
            let first = Self::images(m, a, b);
            [first.xor(Self::images(n_v, c, d)), first.xor(Self::images(m_n, e, f))]
        }
    }
}

impl Field for Gfni {
    fn tables() -> &'static Tables<u64> {
        static TABLES: LazyLock<Box<Tables<u64>>> = LazyLock::new(|| Box::new(Tables::new::<Gfni>()));
        &TABLES
    }
}

/// A factor for blocks in one vector: what multiplies each byte for its own place, and for the other half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeFactor {
    own: __m512i,
    other: __m512i,
}

/// The lanes of the high bytes of a block.
const HIGH: __mmask8 = 0xF0;

impl Gfni {
    /// The high bytes, then the low ones.
    ///
    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn swapped(self) -> __m512i {
        // SAFETY: the caller has the instruction.
        unsafe { _mm512_shuffle_i64x2::<0b01_00_11_10>(self.0, self.0) }
    }
}

impl Block for Gfni {
    type Bytes = Self;

    type Factor = WholeFactor;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promises.
        unsafe { <Self as Vector>::load(from) }
    }

    #[inline(always)]
    unsafe fn store(self, into: *mut u8) {
        // SAFETY: the caller's promises.
        unsafe { Vector::store(self, into) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's promises.
        unsafe { self.xor(other) }
    }

    #[inline(always)]
    unsafe fn change_basis(self, tables: &Tables<u64>) -> Self {
        // SAFETY: the caller's promises.
        unsafe {
            let matrices = _mm512_maskz_set1_epi64(!HIGH, tables.difference().cast_signed());
            Self(_mm512_xor_si512(self.0, _mm512_gf2p8affine_epi64_epi8::<0>(self.swapped(), matrices)))
        }
    }

    #[inline(always)]
    unsafe fn scale(self, by: __m512i) -> Self {
        // SAFETY: the caller's promises.
        unsafe { self.apply(by) }
    }

    #[inline(always)]
    unsafe fn factor(tables: &'static Tables<u64>, by: u16) -> WholeFactor {
        let [m, m_n, n_v, n] = tables.products(by);
        // SAFETY: the caller's promises.
        unsafe {
            WholeFactor {
                own: _mm512_mask_set1_epi64(Self::ready(m), HIGH, m_n.cast_signed()),
                other: _mm512_mask_set1_epi64(Self::ready(n_v), HIGH, n.cast_signed()),
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(self, by: WholeFactor) -> Self {
        // SAFETY: the caller's promises.
        unsafe {
            Self(_mm512_xor_si512(
                _mm512_gf2p8affine_epi64_epi8::<0>(self.0, by.own),
                _mm512_gf2p8affine_epi64_epi8::<0>(self.swapped(), by.other),
            ))
        }
    }
}
