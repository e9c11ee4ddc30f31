//! Combinations of rows: sums of symbols times coefficients, a value of GF(2^16)^8 for each row.

mod buckets;
#[cfg(target_arch = "x86_64")]
mod products;
#[cfg(target_arch = "x86_64")]
mod shuffles;
#[cfg(target_arch = "x86_64")]
mod transpose;

use super::Level;
use crate::{field::Gf128, shape::BLOCK_BYTES};

/// Coefficients of the symbols of a row, as a level wants them.
pub(crate) enum Coefficients {
    /// As they are.
    Scalar(Vec<Gf128>),
    /// As they are: the kernel for many rows lays them out again for each 64 rows, at little cost.
    #[cfg(target_arch = "x86_64")]
    Avx2(Vec<Gf128>),
    /// Limb by limb beside the symbols.
    #[cfg(target_arch = "x86_64")]
    Gfni(products::Coefficients),
}

impl Coefficients {
    /// Prepares one coefficient for each symbol.
    ///
    /// # Panics
    /// The processor has not the level, or the symbols are none or not those of whole blocks: the kernels would leave
    /// out what is less than a block.
    pub(crate) fn new(level: Level, coefficients: &[Gf128]) -> Self {
        assert!(level.is_available(), "level of this processor");
        assert!(
            !coefficients.is_empty() && coefficients.len().is_multiple_of(BLOCK_BYTES / 2),
            "rows of blocks"
        );
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the level.
            Level::Gfni => Self::Gfni(unsafe { products::Coefficients::new(coefficients) }),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self::Avx2(coefficients.to_vec()),
            _ => Self::Scalar(coefficients.to_vec()),
        }
    }

    /// The combinations of consecutive rows of whole blocks, one for each value of `into`.
    ///
    /// # Panics
    /// The rows are not as many as the values, or not as long as there are coefficients for.
    pub(crate) fn combine(&self, rows: &[u8], into: &mut [Gf128]) {
        match self {
            Self::Scalar(coefficients) => buckets::combine(coefficients, rows, into),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the coefficients were prepared for a level that the processor has.
            Self::Avx2(coefficients) => unsafe { shuffles::combine(coefficients, rows, into) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Gfni(coefficients) => unsafe { coefficients.combine(rows, into) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::Field;
    use proptest::{collection::vec, prelude::*};
    use std::sync::LazyLock;

    static TWIN: LazyLock<Field> = LazyLock::new(Field::new);

    /// The combinations at a level, of rows that begin at any address.
    fn combinations(level: Level, coefficients: &[[u16; 8]], offset: usize, rows: &[u8]) -> Vec<[u16; 8]> {
        let coefficients: Vec<_> = coefficients.iter().copied().map(Gf128).collect();
        let shifted = [vec![0; offset].as_slice(), rows].concat();
        let mut values = vec![Gf128([0xABCD; 8]); rows.len() / 2 / coefficients.len()];
        Coefficients::new(level, &coefficients).combine(&shifted[offset..], &mut values);
        values.iter().map(|value| value.0).collect()
    }

    fn twins(coefficients: &[[u16; 8]], rows: &[u8]) -> Vec<[u16; 8]> {
        rows.chunks_exact(2 * coefficients.len()).map(|row| TWIN.combine(row, coefficients)).collect()
    }

    /// Bytes or limbs of which some are zero.
    fn often_zero<T: Arbitrary + Clone + Default>() -> impl Strategy<Value = T> {
        prop_oneof![4 => any::<T>(), 1 => Just(T::default())]
    }

    fn blocks_and_rows(
        blocks: impl Strategy<Value = usize>,
        rows: impl Strategy<Value = usize>,
    ) -> impl Strategy<Value = (Vec<[u16; 8]>, Vec<u8>)> {
        (blocks, rows).prop_flat_map(|(blocks, rows)| {
            let coefficient = [(); 8].map(|()| often_zero::<u16>());
            (vec(coefficient, 32 * blocks), vec(often_zero::<u8>(), 64 * blocks * rows))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn levels_agree_with_the_twin(
            (coefficients, rows) in blocks_and_rows(1_usize..7, 0_usize..70), offset in 0_usize..64
        ) {
            let want = twins(&coefficients, &rows);
            for level in Level::available() {
                prop_assert_eq!(&combinations(*level, &coefficients, offset, &rows), &want, "{:?}", level);
            }
        }

        #[test]
        fn long_rows_agree_with_the_twin(
            (coefficients, rows) in blocks_and_rows(7_usize..40, prop_oneof![0_usize..3, 16_usize..22])
        ) {
            let want = twins(&coefficients, &rows);
            for level in Level::available() {
                prop_assert_eq!(&combinations(*level, &coefficients, 0, &rows), &want, "{:?}", level);
            }
        }
    }

    #[test]
    fn bytes_and_limbs_of_one_kind_agree_with_the_twin() {
        for byte in [0, 1, 0x80, 0xFF] {
            for limb in [0, 1, 0x00FF, 0x0100, 0x8000, 0xFFFF] {
                for rows in [1, 9, 10, 31, 32, 33, 64, 65] {
                    let coefficients = vec![[limb; 8]; 64];
                    let rows = vec![byte; rows * 128];
                    let want = twins(&coefficients, &rows[..128]).repeat(rows.len() / 128);
                    for level in Level::available() {
                        assert_eq!(combinations(*level, &coefficients, 0, &rows), want, "{level:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_symbol_counts_by_its_own_coefficient() {
        let coefficients: Vec<[u16; 8]> = (0..96_u16).map(|s| [s + 1, 0, 0, 0, 0, 0, 0, !s]).collect();
        for rows in [1, 20, 64] {
            for symbol in 0..96 {
                let mut bytes = vec![0; rows * 192];
                let last = bytes.len() - 192;
                bytes[last + 64 * (symbol / 32) + symbol % 32] = 1;
                let mut want = vec![[0; 8]; rows];
                want[rows - 1] = coefficients[symbol];
                for level in Level::available() {
                    assert_eq!(combinations(*level, &coefficients, 0, &bytes), want, "{level:?}");
                }
            }
        }
    }

    #[test]
    fn rows_must_be_of_whole_blocks() {
        for level in Level::available() {
            for symbols in [0, 1, 31, 33, 65] {
                let coefficients = vec![Gf128([1; 8]); symbols];
                let combined = std::panic::catch_unwind(|| {
                    let mut value = [Gf128::default()];
                    Coefficients::new(*level, &coefficients).combine(&vec![1; 2 * symbols], &mut value);
                });
                assert!(combined.is_err(), "{level:?} {symbols}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn rows_must_be_whole() {
        let mut values = [Gf128::default(); 2];
        Coefficients::new(Level::best(), &[Gf128::default(); 32]).combine(&[0; 127], &mut values);
    }
}
