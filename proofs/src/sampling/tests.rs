use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Ways to choose, exactly.
fn choose(n: u128, k: u128) -> u128 {
    if k > n { 0 } else { (0..k).fold(1, |ways, i| ways * (n - i) / (i + 1)) }
}

/// The tail as a fraction of whole numbers.
fn exact(total: u128, marked: u128, draws: u128, least: u128) -> f64 {
    let ways: u128 =
        (least..=draws).map(|hits| choose(marked, hits) * choose(total - marked, draws - hits)).sum();
    ways as f64 / choose(total, draws) as f64
}

fn assert_close(have: f64, want: f64) {
    assert!((have - want).abs() <= 1e-11 * want, "{have} is not {want}");
}

#[test]
fn the_tail_counts_every_draw() {
    // Every subset of eight items, the first five of them marked.
    for draws in 0..=8_u32 {
        for least in 0..=9_u32 {
            let all = (0_u32..256).filter(|set| set.count_ones() == draws);
            let hits = all.clone().filter(|set| (set & 0b11111).count_ones() >= least).count();
            let have = hypergeometric_tail(8, 5, draws as usize, least as usize);
            assert_close(have, hits as f64 / all.count() as f64);
        }
    }
}

#[test]
fn the_bounds_are_exact_in_small_shapes() {
    let shape = Shape::custom(16, 48, 64).unwrap();
    for samples in 0..=24 {
        for verified in 0..=samples {
            let (s, v) = (samples as u128, verified as u128);
            assert_close(bound_unavailable(shape, samples, verified), exact(64, 15, s, v));
            let misencoded = exact(64, 39, s, v) + 128.0 * 2_f64.powi(-128);
            assert_close(bound_misencoded(shape, samples, verified), misencoded.min(1.0));
        }
    }
}

#[test]
fn the_bounds_are_about_what_the_protocol_says() {
    let shape = Shape::custom(8192, 24576, 64).unwrap();
    for samples in [1, 8, 16, 32] {
        let n = i32::try_from(samples).unwrap();
        let ratio = bound_unavailable(shape, samples, samples) / 0.25_f64.powi(n);
        assert!((0.9..=1.0).contains(&ratio), "{samples}: {ratio}");
        let ratio = bound_misencoded(shape, samples, samples) / 0.625_f64.powi(n);
        assert!((0.9..=1.0).contains(&ratio), "{samples}: {ratio}");
    }
    // The algebra's own error is the floor below which no number of samples leads.
    let floor = 2.0 * 32768.0 * 2_f64.powi(-128);
    assert!(bound_misencoded(shape, 2000, 2000) >= floor);
    assert_close(bound_misencoded(shape, 30_000, 30_000), floor);
}

#[test]
fn the_bounds_have_sane_ends() {
    let shape = Shape::custom(64, 192, 64).unwrap();
    for samples in [0, 1, 63, 64, 255, 256, 257, usize::MAX] {
        assert_close(bound_unavailable(shape, samples, 0), 1.0);
        assert_close(bound_misencoded(shape, samples, 0), 1.0);
    }
    // Fewer than K rows cannot answer K samples, nor can more verify than were drawn.
    assert!(bound_unavailable(shape, 63, 63) > 0.0);
    assert_eq!(bound_unavailable(shape, 64, 64).to_bits(), 0);
    assert_eq!(bound_unavailable(shape, 10, 11).to_bits(), 0);
    for (samples, exact) in [(63, false), (64, true), (65, true)] {
        assert_eq!(is_exact(shape, samples), exact);
    }
    for (samples, fooled) in [(0, 0), (1, 63), (16, 3), (63, 1), (64, 0), (1000, 0)] {
        assert_eq!(fooled_clients(shape, samples), fooled);
    }
}

/// A small generator (splitmix64), so that draws repeat.
fn randomness(mut state: u64) -> impl FnMut(&mut [u8]) {
    move |bytes| {
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ z >> 31).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[test]
fn numbers_that_would_favour_some_rows_are_drawn_again() {
    // 2^32 is one more than a multiple of 3: the last number is refused.
    let mut answers = [u32::MAX, u32::MAX, 5].into_iter();
    let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&answers.next().unwrap().to_le_bytes());
    assert_eq!(below(3, &mut random), 2);
    let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    assert_eq!(below(3, &mut random), 2);
    let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(below(4, &mut random), 3);
}

#[test]
fn every_pair_of_rows_is_equally_likely() {
    let shape = Shape::custom(1, 3, 64).unwrap();
    let mut random = randomness(1);
    let mut counts = BTreeMap::new();
    let draws = 12_000;
    for _ in 0..draws {
        let rows: Vec<u32> = draw(shape, 2, &mut random).into_iter().map(|row| row.0).collect();
        *counts.entry(rows).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 12, "every ordered pair of four rows");
    // 1000 expected of each, with a standard deviation of 30.
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

proptest! {
    #[test]
    fn draws_are_distinct_and_in_bounds(size in 4_u32..14, samples in 0_usize..300, seed in any::<u64>()) {
        let shape = Shape::custom(1 << size, 3 << size, 64).unwrap();
        let rows = draw(shape, samples, &mut randomness(seed));
        prop_assert_eq!(rows.len(), samples.min(shape.total_rows()));
        let distinct: BTreeSet<u32> = rows.iter().map(|row| row.0).collect();
        prop_assert_eq!(distinct.len(), rows.len());
        prop_assert!(rows.iter().all(|row| (row.0 as usize) < shape.total_rows()));
    }

    #[test]
    fn a_bound_falls_with_every_verified_sample(size in 4_u32..14, samples in 1_usize..200) {
        let shape = Shape::custom(1 << size, 3 << size, 64).unwrap();
        let (mut last, rounding) = ((1.0, 1.0), 1.0 + 1e-11);
        for verified in 0..=samples {
            let next = (bound_unavailable(shape, samples, verified), bound_misencoded(shape, samples, verified));
            prop_assert!((0.0..=1.0).contains(&next.0) && (0.0..=1.0).contains(&next.1));
            prop_assert!(next.0 <= last.0 * rounding && next.1 <= last.1 * rounding);
            last = next;
        }
    }
}
