//! What a light client draws says nothing and follows from nothing: every row is as likely as any other, at every place of a
//! draw, beside every other row, and for every client anew.
//!
//! Each statistic is compared with a limit that a fair draw passes less than once in 1e10 runs.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use meridian_client::fetch::{Draw, ReadError};
use meridian_proofs::shape::{PayloadLength, Shape};

/// Minus the logarithm of how rarely a fair draw fails one comparison.
const RARE: f64 = 25.0;

fn shape(bytes: u64) -> Shape {
    Shape::of(PayloadLength::try_from(bytes).unwrap())
}

fn draw(shape: Shape, samples: usize) -> Vec<usize> {
    let rows = Draw::new(shape, samples).unwrap();
    rows.rows().iter().map(|row| usize::try_from(row.0).unwrap()).collect()
}

/// The sum of squared deviations, each in units of what is expected.
fn chi_squared(counts: &[u64], expected: impl Fn(usize) -> f64) -> f64 {
    let part = |(place, count): (usize, &u64)| {
        let expected = expected(place);
        (*count as f64 - expected).powi(2) / expected
    };
    counts.iter().enumerate().map(part).sum()
}

/// Whether a chi-squared number is neither too large nor too small. The limits are those of Laurent and Massart (2000), lemma
/// 1: neither is passed more often than once in e^[`RARE`].
fn assert_fair(what: &str, found: f64, freedom: usize) {
    let freedom = freedom as f64;
    let far = 2.0 * (freedom * RARE).sqrt();
    let (least, most) = (freedom - far, freedom + far + 2.0 * RARE);
    assert!((least..=most).contains(&found), "{what}: {found} is not between {least} and {most}");
}

#[test]
fn every_row_is_as_likely_as_any_other() {
    for (bytes, samples, draws) in [(1, 8, 100_000_u64), (60_000, 16, 20_000), (130_000, 16, 20_000)] {
        let shape = shape(bytes);
        let total = shape.total_rows();
        let (mut all, mut first, mut last) = (vec![0; total], vec![0; total], vec![0; total]);
        for _ in 0..draws {
            let rows = draw(shape, samples);
            rows.iter().for_each(|row| all[*row] += 1);
            first[rows[0]] += 1;
            last[rows[samples - 1]] += 1;
        }
        let each = draws as f64 / total as f64;
        for (place, counts) in [("first", &first), ("last", &last)] {
            assert_fair(&format!("{bytes} {place}"), chi_squared(counts, |_| each), total - 1);
        }
        // A draw has no row twice, which makes counts more even than those of single draws.
        let even = (total - 1) as f64 / (total - samples) as f64;
        let found = even * chi_squared(&all, |_| each * samples as f64);
        assert_fair(&format!("{bytes} anywhere"), found, total - 1);
    }
}

#[test]
fn every_distance_between_two_rows_is_as_likely_as_any_other() {
    for (bytes, samples, draws) in [(1, 2, 100_000_u64), (130_000, 16, 30_000)] {
        let shape = shape(bytes);
        let total = shape.total_rows();
        // Of those drawn one after the other, and of the first and the last.
        let (mut near, mut far) = (vec![0; total - 1], vec![0; total - 1]);
        for _ in 0..draws {
            let rows = draw(shape, samples);
            let distance = |to: usize| (rows[to] + total - rows[0]) % total - 1;
            near[distance(1)] += 1;
            far[distance(samples - 1)] += 1;
        }
        let each = draws as f64 / (total - 1) as f64;
        assert_fair(&format!("{bytes} near"), chi_squared(&near, |_| each), total - 2);
        assert_fair(&format!("{bytes} far"), chi_squared(&far, |_| each), total - 2);
    }
}

#[test]
fn two_clients_have_as_many_rows_in_common_as_chance_gives_them() {
    let (shape, samples, pairs) = (shape(1), 8, 100_000_u64);
    let total = shape.total_rows();
    let ways = |n: usize, k: usize| (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
    let chance = |common: usize| {
        ways(samples, common) * ways(total - samples, samples - common) / ways(total, samples)
    };
    // Five or more are rare: they are counted together, so that some are expected.
    let mut counts = vec![0; 6];
    for _ in 0..pairs {
        let one: HashSet<usize> = draw(shape, samples).into_iter().collect();
        let common = draw(shape, samples).iter().filter(|row| one.contains(row)).count();
        counts[common.min(5)] += 1;
    }
    let expected = |common: usize| {
        let chance: f64 = if common < 5 { chance(common) } else { (5..=samples).map(chance).sum() };
        chance * pairs as f64
    };
    assert!(expected(5) > 5.0);
    assert_fair("in common", chi_squared(&counts, expected), counts.len() - 1);
}

#[test]
fn a_draw_follows_from_the_randomness_of_the_system_alone() {
    // There is nothing else that it could follow from: no blob, no time, no seed.
    let new: fn(Shape, usize) -> Result<Draw, ReadError> = Draw::new;
    let shape = shape(1 << 20);
    let draws: HashSet<Vec<u32>> =
        (0..2_000).map(|_| new(shape, 16).unwrap().rows().iter().map(|row| row.0).collect()).collect();
    assert_eq!(draws.len(), 2_000, "two clients drew the same rows of the same blob");
}

#[test]
fn as_many_distinct_rows_are_drawn_as_asked_for_of_every_shape() {
    for bytes in [1, 16_385, 65_537, 1 << 18, 1 << 20, 4 << 20, 32 << 20, 1 << 27] {
        let shape = shape(bytes);
        let total = shape.total_rows();
        for samples in [0, 1, 15, 16, total - 1, total, total + 1, usize::MAX] {
            let rows = draw(shape, samples);
            let distinct: HashSet<&usize> = rows.iter().collect();
            assert_eq!((rows.len(), distinct.len()), (samples.min(total), rows.len()), "{bytes} {samples}");
            assert!(rows.iter().all(|row| *row < total));
        }
    }
}
