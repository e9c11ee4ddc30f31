//! Leopard's high-rate code of K data rows and 3K parity rows, K a power of two.
//!
//! Parity row p is the value at the point p of the polynomial f of degree below 4K that has the data at the points
//! 4K..5K and is zero at 5K..8K. Let s be the polynomial that vanishes at 0..K: in a Cantor basis it is linear over
//! GF(2), and takes the points cK..(c + 1)K, the coset c, to the element c. So f is (s + 5)(s + 6)(s + 7) times a
//! polynomial h of degree below K. At the coset 4 the first three factors are 1, 2 and 3, and at a coset c below 4 they
//! are, in some order, those of 4, 5, 6 and 7 that are not c + 4. In a Cantor basis 1 * 2 * 3 = 1 and
//! 4 * 5 * 6 * 7 = 1. Therefore the data are the values of h, and the parity row p of coset c is h(p) / (c + 4): one
//! inverse transform of K rows at offset 4K, and three transforms of K rows at 0, K and 2K.

use super::{
    Level,
    plane::{Plane, each_strip},
    tower::{Block, Halves},
    transform::{Rows, enter, forward, inverse, leave},
    vector::Portable,
};
use crate::shape::BLOCK_BYTES;

/// The fewest data rows that the kernels take: two layers for the rows' way in and out, and some between.
const MIN_ROWS: usize = 16;

/// The most data rows: the code needs 8K points.
const MAX_ROWS: usize = 8192;

/// Whether the kernels take this many data rows.
pub(crate) fn takes(data_rows: usize) -> bool {
    data_rows.is_power_of_two() && (MIN_ROWS..=MAX_ROWS).contains(&data_rows)
}

/// 1 / (4 + c) for the cosets c of the parity rows.
const SCALES: [u8; 3] = [12, 15, 10];

/// Fills the parity rows of `rows`, 4K rows of `row_bytes` of which the first K are given.
///
/// # Panics
/// The kernel does not take K, `row_bytes` is no positive multiple of 64, `rows` not 4K rows, or
/// the level not this processor's.
pub(crate) fn extend(level: Level, data_rows: usize, row_bytes: usize, rows: &mut [u8]) {
    assert!(level.is_available(), "level of this processor");
    assert!(takes(data_rows), "rows of the code");
    assert!(row_bytes > 0 && row_bytes.is_multiple_of(BLOCK_BYTES), "rows of blocks");
    assert_eq!(rows.len(), 4 * data_rows * row_bytes, "rows of the shape");
    let rows = Rows { start: rows.as_mut_ptr(), stride: row_bytes };
    each_strip(data_rows, row_bytes, |at, planes| {
        // SAFETY: the level is available. Strips are disjoint columns of rows that only this call has, so that nobody
        // else works on this strip's bytes, on whichever thread.
        unsafe {
            let strip = Strip { rows: rows.skip_bytes(at), data_rows, planes };
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Gfni => extend_gfni(strip),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => extend_avx2(strip),
                _ => extend_strip::<Halves<Portable>>(strip),
            }
        }
    });
}

/// A strip of columns of 4K rows, and two planes of its width to work in.
#[derive(Clone, Copy)]
struct Strip {
    rows: Rows,
    data_rows: usize,
    planes: [Plane; 2],
}

/// # Safety
/// As [`extend_strip`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn extend_avx2(strip: Strip) {
    // SAFETY: the caller's promises.
    unsafe { extend_strip::<Halves<super::x86::Avx2>>(strip) }
}

/// # Safety
/// As [`extend_strip`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
unsafe fn extend_gfni(strip: Strip) {
    // SAFETY: the caller's promises.
    unsafe { extend_strip::<super::x86::Gfni>(strip) }
}

/// Fills one strip of the parity rows.
///
/// # Safety
/// The processor has the level of `B`. The planes are of K rows and nobody else's; the strip of the width of the planes
/// is inside of the 4K rows, and nobody else works on it.
#[inline(always)]
unsafe fn extend_strip<B: Block>(strip: Strip) {
    let Strip { rows, data_rows, planes: [coefficients, values] } = strip;
    let shelves = coefficients.shelves();
    // SAFETY: the caller's promises.
    unsafe {
        for index in 0..shelves {
            let (span, shelf) = (coefficients.within(4 * data_rows, index), coefficients.shelf(index));
            enter::<B>(span, rows.skip_rows(span.offset - 4 * data_rows), shelf);
            inverse::<B>(span, 2, shelf);
        }
        if shelves > 1 {
            for (at, span) in coefficients.across(4 * data_rows) {
                inverse::<B>(span, 0, coefficients.pieces(at));
            }
        }
        for (coset, scale) in SCALES.into_iter().enumerate() {
            let offset = coset * data_rows;
            if shelves > 1 {
                for (at, span) in values.across(offset) {
                    forward::<B, true>(span, 0, coefficients.pieces(at), values.pieces(at), scale);
                }
            }
            for index in 0..shelves {
                let (span, shelf) = (values.within(offset, index), values.shelf(index));
                if shelves > 1 {
                    forward::<B, false>(span, 2, shelf, shelf, 1);
                } else {
                    forward::<B, true>(span, 2, coefficients.shelf(0), shelf, scale);
                }
                leave::<B>(span, shelf, rows.skip_rows(data_rows + span.offset));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{field, twin::Field};
    use proptest::{collection::vec, prelude::*};
    use reed_solomon_simd::{
        engine::DefaultEngine,
        rate::{HighRateEncoder, RateEncoder},
    };

    /// The parity rows by the crate.
    fn parity(data: &[u8], data_rows: usize) -> Vec<u8> {
        let row_bytes = data.len() / data_rows;
        let engine = DefaultEngine::new();
        let mut encoder = HighRateEncoder::new(data_rows, 3 * data_rows, row_bytes, engine, None).unwrap();
        for row in data.chunks_exact(row_bytes) {
            encoder.add_original_shard(row).unwrap();
        }
        encoder.encode().unwrap().recovery_iter().collect::<Vec<_>>().concat()
    }

    /// All rows by the kernel, in memory that is aligned to nothing.
    fn extended(level: Level, data: &[u8], data_rows: usize, shift: usize) -> Vec<u8> {
        let mut memory = vec![0xA5; shift + 4 * data.len()];
        memory[shift..shift + data.len()].copy_from_slice(data);
        extend(level, data_rows, data.len() / data_rows, &mut memory[shift..]);
        memory.split_off(shift)
    }

    /// Bytes without a pattern.
    fn noise(length: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn scales_are_the_inverses_of_four_and_on() {
        for (coset, scale) in SCALES.into_iter().enumerate() {
            assert_eq!(field::mul(4 + u16::try_from(coset).unwrap(), u16::from(scale)), 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_level_gives_the_parity_of_the_crate(
            (data_rows, data) in (4_u32..10, 1_usize..20).prop_flat_map(|(log, blocks)| {
                let row_bytes = 64 * if log > 7 { 1 + blocks % 3 } else { blocks };
                (Just(1 << log), vec(any::<u8>(), row_bytes << log))
            }),
            shift in 0_usize..64,
        ) {
            let want = [data.clone(), parity(&data, data_rows)].concat();
            for level in Level::available() {
                prop_assert!(extended(*level, &data, data_rows, shift) == want, "{:?}", level);
            }
        }
    }

    #[test]
    fn every_level_gives_the_parity_of_the_twin() {
        let data = noise(16 * 128, 0);
        let rows: Vec<_> = data.chunks_exact(128).map(<[u8]>::to_vec).collect();
        let want = Field::new().extend(&rows).concat();
        for level in Level::available() {
            assert!(extended(*level, &data, 16, 1) == want, "{level:?}");
        }
    }

    #[test]
    fn threads_do_not_show() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (data_rows, row_bytes) in [(64, 1024), (256, 256), (1024, 64), (1024, 448)] {
            let data = noise(data_rows * row_bytes, 2);
            for level in Level::available() {
                let shared = pool.install(|| extended(*level, &data, data_rows, 3));
                assert!(shared == extended(*level, &data, data_rows, 3), "{level:?}");
            }
        }
    }

    #[test]
    fn many_rows_are_those_of_the_crate() {
        let shapes =
            [(16, 16_384), (256, 3072), (1024, 1024), (2048, 1920), (4096, 64), (4096, 704), (8192, 1344)];
        for (data_rows, row_bytes) in shapes {
            let data = noise(data_rows * row_bytes, 1);
            let want = parity(&data, data_rows);
            for level in Level::available() {
                // The scalar level is slow where there is much to do.
                if *level == Level::Scalar && data.len() > 2 << 20 {
                    continue;
                }
                let rows = extended(*level, &data, data_rows, 0);
                assert!(rows[data.len()..] == want, "{level:?}, {data_rows} rows of {row_bytes} bytes");
            }
        }
    }
}
