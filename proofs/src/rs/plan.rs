//! How the data rows follow from the rows that are known, where these lie in two cosets (see
//! [`crate::kernel::recover`]).

use crate::kernel::recover::{DATA, Known, Task};
use reed_solomon_simd::engine::tables::{self, ExpLog};

/// The order of the field's multiplicative group: logarithms count modulo it.
const ORDER: i64 = 65_535;

/// The known rows of a coset.
fn of_coset<'a, 'r>(rows: &'r [Option<&'a [u8]>], coset: u8) -> &'r [Option<&'a [u8]>] {
    let data_rows = rows.len() / 4;
    let at = if coset == DATA { 0 } else { usize::from(coset) + 1 };
    &rows[at * data_rows..][..data_rows]
}

/// A task that gives the missing data rows of T rows, if two cosets have K known rows between them.
pub(super) fn plan<'a>(rows: &[Option<&'a [u8]>]) -> Option<Task<'a>> {
    let data_rows = rows.len() / 4;
    let count = |coset| of_coset(rows, coset).iter().flatten().count();
    if let Some(whole) = (0..3).find(|coset| count(*coset) == data_rows) {
        let factors = vec![u16::from(4 + whole); data_rows];
        let first = Known { coset: whole, rows: of_coset(rows, whole).to_vec(), factors };
        return Some(Task { first, second: None, wanted: wanted(rows, |_| 1) });
    }
    let pairs = [(0, DATA), (2, DATA), (0, 1), (1, 2), (1, DATA), (0, 2)];
    let (a, b) = pairs.into_iter().find(|(a, b)| count(*a) + count(*b) >= data_rows)?;
    let locator = Locator::new(rows, [a, b]);
    let known = |coset| {
        let scale = if coset == DATA { 1 } else { 4 + u16::from(coset) };
        let factors = locator.logarithms(coset).map(|log| power(log + logarithm(scale))).collect();
        Known { coset, rows: of_coset(rows, coset).to_vec(), factors }
    };
    let inverses: Vec<u16> = locator.logarithms(DATA).map(|log| power(-log)).collect();
    Some(Task { first: known(a), second: Some(known(b)), wanted: wanted(rows, |row| inverses[row]) })
}

/// The missing data rows, each with its factor.
fn wanted(rows: &[Option<&[u8]>], factor: impl Fn(usize) -> u16) -> Vec<(usize, u16)> {
    let missing = of_coset(rows, DATA).iter().enumerate().filter(|(_, row)| row.is_none());
    missing.map(|(row, _)| (row, factor(row))).collect()
}

/// The logarithm of an element, and 0 of zero: so that zero is left out of products.
fn logarithm(element: u16) -> i64 {
    let ExpLog { log, .. } = tables::get_exp_log();
    if element == 0 { 0 } else { i64::from(log[usize::from(element)]) }
}

/// The element with a logarithm.
fn power(log: i64) -> u16 {
    let ExpLog { exp, .. } = tables::get_exp_log();
    exp[usize::try_from(log.rem_euclid(ORDER)).unwrap_or_default()]
}

/// The polynomial e whose zeros are the points of two cosets that are not known.
///
/// The logarithm of e at the point i of a coset c is the sum of the logarithms of (cK + i) + (aK + j) over the unknown
/// points j of each of the two cosets a. This depends on i and j by their sum, that is their exclusive or, so it is a
/// convolution, which a Walsh-Hadamard transform of K values turns into products. At the zeros of e it gives e'.
struct Locator {
    cosets: [u8; 2],
    /// The transform of what is 1 at the unknown points, for each coset.
    unknown: [Vec<i64>; 2],
}

impl Locator {
    fn new(rows: &[Option<&[u8]>], cosets: [u8; 2]) -> Self {
        let unknown = cosets.map(|coset| {
            let unknown = of_coset(rows, coset).iter().map(|row| i64::from(row.is_none()));
            walsh_hadamard(unknown.collect())
        });
        Self { cosets, unknown }
    }

    /// The logarithms of e, or of e' where e is zero, at the points of a coset; not reduced.
    fn logarithms(&self, coset: u8) -> impl Iterator<Item = i64> {
        let points = self.unknown[0].len();
        let mut sums = vec![0; points];
        for (other, unknown) in self.cosets.iter().zip(&self.unknown) {
            let first = usize::from(coset ^ other) * points;
            let logarithms =
                (first..first + points).map(|point| logarithm(u16::try_from(point).unwrap_or(0)));
            for ((sum, logarithm), unknown) in
                sums.iter_mut().zip(walsh_hadamard(logarithms.collect())).zip(unknown)
            {
                *sum += logarithm * unknown;
            }
        }
        // Twice transformed is as many times as there are points. All is below 2 * 2^13 * 2^13 * 2^29 in magnitude.
        let shift = points.trailing_zeros();
        walsh_hadamard(sums).into_iter().map(move |sum| sum >> shift)
    }
}

/// The Walsh-Hadamard transform of a power of two of values.
fn walsh_hadamard(mut values: Vec<i64>) -> Vec<i64> {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (left, right) in left.iter_mut().zip(right) {
                (*left, *right) = (*left + *right, *left - *right);
            }
        }
        half *= 2;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        field,
        kernel::{Level, recover::recover},
        rs::{extend, recover_any},
        shape::Shape,
    };
    use proptest::{collection::vec, prelude::*, sample::subsequence};

    /// T rows of a code word.
    fn code_word(data_rows: usize, row_bytes: usize, seed: u64) -> Vec<u8> {
        let mut rows = vec![0; 4 * data_rows * row_bytes];
        let data = &mut rows[..data_rows * row_bytes];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(data);
        extend(data_rows, 3 * data_rows, row_bytes, &mut rows).unwrap();
        rows
    }

    /// Recovers on every level, and by the crate if asked to; false if there is no plan.
    fn recovers(
        rows: &[u8],
        row_bytes: usize,
        kept: impl IntoIterator<Item = usize>,
        by_crate: bool,
    ) -> bool {
        let mut known = vec![None; rows.len() / row_bytes];
        for row in kept {
            known[row] = Some(&rows[row * row_bytes..][..row_bytes]);
        }
        let data = &rows[..rows.len() / 4];
        let mut got = vec![0; data.len()];
        for (into, row) in got.chunks_exact_mut(row_bytes).zip(&known) {
            into.copy_from_slice(row.unwrap_or(&vec![0xA5; row_bytes]));
        }
        if by_crate {
            let [k, n, w] =
                [known.len() / 4, known.len() / 4 * 3, row_bytes].map(|n| u32::try_from(n).unwrap());
            let mut by_crate = got.clone();
            recover_any(&Shape::custom(k, n, w).unwrap(), &known, &mut by_crate).unwrap();
            assert!(by_crate == data);
        }
        let Some(task) = plan(&known) else { return false };
        for level in Level::available() {
            let mut got = got.clone();
            recover(*level, &task, row_bytes, &mut got);
            assert!(got == data, "{level:?}");
        }
        true
    }

    #[test]
    fn every_window_of_the_ring_gives_the_data() {
        for (data_rows, row_bytes) in [(16, 64), (16, 192), (32, 64), (64, 128), (128, 64)] {
            let rows = code_word(data_rows, row_bytes, 0);
            for start in 1..4 * data_rows {
                let window = (start..start + data_rows).map(|row| row % (4 * data_rows));
                assert!(recovers(&rows, row_bytes, window, start % 16 == 1), "{data_rows} rows from {start}");
            }
        }
    }

    #[test]
    fn windows_of_many_rows_give_the_data() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for (data_rows, row_bytes) in [(256, 320), (1024, 64), (2048, 128), (4096, 64), (8192, 64)] {
            let rows = code_word(data_rows, row_bytes, 1);
            for start in [data_rows, 7 * data_rows / 3, 3 * data_rows + 1, 4 * data_rows - 5] {
                let window = (start..start + data_rows).map(|row| row % (4 * data_rows));
                assert!(
                    pool.install(|| recovers(&rows, row_bytes, window, false)),
                    "{data_rows} rows from {start}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_of_two_cosets_give_the_data(
            (data_rows, kept) in (4_u32..8).prop_flat_map(|log| {
                let data_rows = 1_usize << log;
                (Just(data_rows), subsequence((0..2 * data_rows).collect::<Vec<_>>(), data_rows..2 * data_rows))
            }),
            pair in prop::sample::select(vec![[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]),
            blocks in 1_usize..10,
            seed: u64,
        ) {
            let rows = code_word(data_rows, 64 * blocks, seed);
            let kept = kept.into_iter().map(|row| pair[row / data_rows] * data_rows + row % data_rows);
            prop_assert!(recovers(&rows, 64 * blocks, kept, true));
        }

        #[test]
        fn locators_are_products_of_differences(unknown in vec(any::<bool>(), 32), pair in 0_usize..3) {
            let cosets = [[0, DATA], [1, 2], [2, DATA]][pair];
            let mut rows: Vec<Option<&[u8]>> = vec![Some(&[]); 64];
            let mut zeros = Vec::new();
            for (unknown, coset) in unknown.chunks_exact(16).zip(cosets) {
                let first = if coset == DATA { 0 } else { 16 * (usize::from(coset) + 1) };
                for (i, unknown) in (0_u16..).zip(unknown) {
                    if *unknown {
                        rows[first + usize::from(i)] = None;
                        zeros.push(16 * u16::from(coset) + i);
                    }
                }
            }
            let locator = Locator::new(&rows, cosets);
            for coset in [0, 1, 2, DATA] {
                for (i, log) in (0_u16..).zip(locator.logarithms(coset)) {
                    let at = 16 * u16::from(coset) + i;
                    let others = zeros.iter().filter(|zero| **zero != at);
                    let want = others.fold(1, |product, zero| field::mul(product, at ^ zero));
                    prop_assert_eq!(power(log), want);
                    prop_assert_eq!(field::mul(power(-log), want), 1);
                }
            }
        }
    }

    #[test]
    fn rows_of_more_cosets_have_no_plan() {
        let rows = code_word(16, 64, 2);
        assert!(!recovers(&rows, 64, (0..64).filter(|row| row % 4 == 1), true));
        assert!(!recovers(&rows, 64, 1..16, false));
    }
}
