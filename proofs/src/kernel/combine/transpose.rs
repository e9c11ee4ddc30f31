//! Bytes of rows as vectors of a column each.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_set_m128i, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

/// Sixteen columns of 32 rows: byte i of vector j is byte j of row i.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn columns<'a>(row: impl Fn(usize) -> &'a [u8; 16]) -> [__m256i; 16] {
    let load = |i| {
        let row: &[u8; 16] = row(i);
        // SAFETY: the row has sixteen bytes.
        unsafe { _mm_loadu_si128(row.as_ptr().cast()) }
    };
    let mut vectors: [__m256i; 16] = core::array::from_fn(|i| _mm256_set_m128i(load(i + 16), load(i)));
    // With vectors as the high and bytes as the low digits of a place, each round turns the digits by one bit.
    for _ in 0..4 {
        vectors = core::array::from_fn(|i| {
            let (one, other) = (vectors[i / 2], vectors[i / 2 + 8]);
            if i % 2 == 0 { _mm256_unpacklo_epi8(one, other) } else { _mm256_unpackhi_epi8(one, other) }
        });
    }
    vectors
}
