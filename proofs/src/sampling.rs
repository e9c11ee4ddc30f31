//! What a light client may conclude from samples (protocol section 2, "Sampling").
//!
//! A client draws s distinct, private, uniformly random rows once, keeps the draw, and retries it unchanged. With v of
//! them verified it reports two bounds and never one. Beside them belongs what no bound covers: an adversary who
//! answers K-1 distinct rows fools [`fooled_clients`] clients at least, whatever s is.

use crate::shape::{RowIndex, Shape};

/// Upper bound on the probability that this many samples verify although the blob is not available, which means that
/// fewer than K rows are to be had: P[Hyp(T, K-1, s) >= v], about 4^-s for v = s.
///
/// Holds where the adversary cannot tell the requests of this client apart from those of others.
#[must_use]
pub fn bound_unavailable(shape: Shape, samples: usize, verified: usize) -> f64 {
    hypergeometric_tail(shape.total_rows(), shape.data_rows() - 1, samples, verified)
}

/// Upper bound on the probability that this many samples verify although the blob is badly encoded and nobody honest
/// holds a copy: P[Hyp(T, 5K/2 - 1, s) >= v] + 2T * 2^-128, about 0.625^s for v = s.
///
/// A client with at least K samples does better: see [`is_exact`].
#[must_use]
pub fn bound_misencoded(shape: Shape, samples: usize, verified: usize) -> f64 {
    let total = shape.total_rows();
    let tail = hypergeometric_tail(total, 5 * shape.data_rows() / 2 - 1, samples, verified);
    (tail + 2.0 * real(total) * 2_f64.powi(-128)).min(1.0)
}

/// Whether sampling gives way to reading: with K <= s the client fetches K rows, decodes, re-encodes and compares the
/// row root, and then knows.
#[must_use]
pub fn is_exact(shape: Shape, samples: usize) -> bool {
    shape.data_rows() <= samples
}

/// How many clients with this many samples each an adversary fools at least who answers K-1 distinct rows: floor((K-1)/s).
///
/// Draws overlap, so that K-1 rows are enough for some more: where those that are asked for first are answered, for about
/// T/s * ln(T/(T-K+1)), which is 15% more.
///
/// Zero for clients that take no sample, who cannot be fooled because they conclude nothing.
#[must_use]
pub fn fooled_clients(shape: Shape, samples: usize) -> usize {
    (shape.data_rows() - 1).checked_div(samples).unwrap_or(0)
}

/// Draws distinct rows, each set of them equally likely; all rows where more are asked for than there are.
///
/// `random` fills a buffer with random bytes; they must be unpredictable.
pub fn draw(shape: Shape, samples: usize, random: &mut impl FnMut(&mut [u8])) -> Vec<RowIndex> {
    let mut rows: Vec<RowIndex> = (0_u32..).take(shape.total_rows()).map(RowIndex).collect();
    let samples = samples.min(rows.len());
    // The first steps of a Fisher-Yates shuffle.
    for at in 0..samples {
        let other = at + below(rows.len() - at, random);
        rows.swap(at, other);
    }
    rows.truncate(samples);
    rows
}

/// A uniform number below `limit`, which is at least 1 and at most 2^32.
fn below(limit: usize, random: &mut impl FnMut(&mut [u8])) -> usize {
    let limit = limit as u64;
    // The largest multiple of the limit that four bytes can reach: what lies above would favour small numbers.
    let fair = (1 << 32) / limit * limit;
    loop {
        let mut bytes = [0; 4];
        random(&mut bytes);
        let number = u64::from(u32::from_le_bytes(bytes));
        if number < fair {
            return usize::try_from(number % limit).unwrap_or_default();
        }
    }
}

/// P[X >= least], X the number of marked items among `draws` of `total` items of which `marked` are marked.
///
/// 0 where more is asked for than is drawn.
fn hypergeometric_tail(total: usize, marked: usize, draws: usize, least: usize) -> f64 {
    let draws = draws.min(total);
    let unmarked = total - marked;
    let (lowest, highest) = (draws.saturating_sub(unmarked), marked.min(draws));
    if least <= lowest {
        return 1.0;
    }
    if least > highest {
        return 0.0;
    }
    // ln P[X = least], then from one term to the next; logarithms because single terms underflow.
    let mut term = ln_choose(marked, least) + ln_choose(unmarked, draws - least) - ln_choose(total, draws);
    let mut tail = term.exp();
    for hits in least..highest {
        let up = real(marked - hits) * real(draws - hits);
        let down = real(hits + 1) * real(unmarked + hits + 1 - draws);
        term += (up / down).ln();
        tail += term.exp();
    }
    tail.min(1.0)
}

/// Logarithm of the number of ways to choose `k` of `n`.
fn ln_choose(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).map(|i| (real(n - i) / real(i + 1)).ln()).sum()
}

/// Exact: no number here comes near 2^53.
fn real(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
