//! One row after the other, in plain words.
//!
//! Multiplication is linear over GF(2) in the symbol, so a combination follows from sixteen sums of coefficients: for
//! each bit, of those whose symbol has the bit. Every coefficient is added to a bucket for the low byte of its symbol
//! and to one for the high byte, and the buckets are then added up by bits.

use crate::{
    field::{Gf128, fold_bits},
    shape::BLOCK_BYTES,
};

/// Sums of coefficients by a byte of their symbol.
type Buckets = [Gf128; 256];

/// The combinations of consecutive rows, one for each value of `into`.
#[inline(always)]
pub(super) fn combine(coefficients: &[Gf128], rows: &[u8], into: &mut [Gf128]) {
    let row_bytes = 2 * coefficients.len();
    assert_eq!(rows.len(), row_bytes * into.len());
    for (row, value) in rows.chunks_exact(row_bytes).zip(into) {
        *value = combine_row(coefficients, row);
    }
}

#[inline(always)]
fn combine_row(coefficients: &[Gf128], row: &[u8]) -> Gf128 {
    let mut buckets = [Gf128::default(); 512];
    let (by_low, by_high) = buckets.split_at_mut(256);
    let blocks = row.as_chunks::<BLOCK_BYTES>().0.iter().zip(coefficients.as_chunks::<32>().0);
    for (block, coefficients) in blocks {
        let (low, high) = block.split_at(32);
        for ((low, high), coefficient) in low.iter().zip(high).zip(coefficients) {
            by_low[usize::from(*low)] ^= coefficient;
            by_high[usize::from(*high)] ^= coefficient;
        }
    }
    let mut sums = [Gf128::default(); 16];
    for (buckets, sums) in buckets.as_chunks().0.iter().zip(sums.as_chunks_mut().0) {
        sum_by_bits(buckets, sums);
    }
    fold_bits(&sums)
}

/// For each bit, the sum of the buckets whose byte has it.
#[inline(always)]
fn sum_by_bits(buckets: &Buckets, sums: &mut [Gf128; 8]) {
    let mut by_nibbles = [[Gf128::default(); 16]; 2];
    let [by_low, by_high] = &mut by_nibbles;
    for (buckets, by_high) in buckets.as_chunks::<16>().0.iter().zip(by_high) {
        let mut sum = Gf128::default();
        for (bucket, by_low) in buckets.iter().zip(&mut *by_low) {
            *by_low ^= bucket;
            sum ^= bucket;
        }
        *by_high = sum;
    }
    for (values, sums) in by_nibbles.iter().zip(sums.as_chunks_mut::<4>().0) {
        for (bit, sum) in sums.iter_mut().enumerate() {
            for (_, value) in values.iter().enumerate().filter(|(nibble, _)| nibble >> bit & 1 == 1) {
                *sum ^= value;
            }
        }
    }
}
