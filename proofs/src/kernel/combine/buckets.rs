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
type Buckets = [u128; 256];

/// The combinations of consecutive rows, one for each value of `into`.
pub(super) fn combine(coefficients: &[Gf128], rows: &[u8], into: &mut [Gf128]) {
    let row_bytes = 2 * coefficients.len();
    assert_eq!(rows.len(), row_bytes * into.len());
    for (row, value) in rows.chunks_exact(row_bytes).zip(into) {
        *value = combine_row(coefficients, row);
    }
}

fn combine_row(coefficients: &[Gf128], row: &[u8]) -> Gf128 {
    let (mut by_low, mut by_high): (Buckets, Buckets) = ([0; 256], [0; 256]);
    let blocks = row.as_chunks::<BLOCK_BYTES>().0.iter().zip(coefficients.as_chunks::<32>().0);
    for (block, coefficients) in blocks {
        let (low, high) = block.split_at(32);
        for ((low, high), coefficient) in low.iter().zip(high).zip(coefficients) {
            let bits = coefficient.to_bits();
            by_low[usize::from(*low)] ^= bits;
            by_high[usize::from(*high)] ^= bits;
        }
    }
    let mut sums = [0; 16];
    let (low, high) = sums.split_at_mut(8);
    sum_by_bits(by_low, low);
    sum_by_bits(by_high, high);
    fold_bits(&sums)
}

/// For each bit, the sum of the buckets whose byte has it.
fn sum_by_bits(mut buckets: Buckets, sums: &mut [u128]) {
    for (bit, sum) in sums.iter_mut().enumerate().rev() {
        // The highest bit that is left: without it a byte is one of the lower half, which takes its bucket on.
        let (without, with) = buckets[..2 << bit].split_at_mut(1 << bit);
        for (without, with) in without.iter_mut().zip(with) {
            *sum ^= *with;
            *without ^= *with;
        }
    }
}
