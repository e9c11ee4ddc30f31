//! The random linear combination of a row's symbols, and the vector of all data rows' (protocol section 2).

use crate::{
    B256,
    field::{Gf128, VALUE_BYTES, fold_bits},
    hash::HashProfile,
    rs,
    shape::{BLOCK_BYTES, Shape},
};
use thiserror::Error;

/// Combinations of the K data rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RlcVector(Vec<Gf128>);

/// Bytes that are no RLC vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RlcError {
    /// Not a positive multiple of 16 bytes.
    #[error("rlc vector of {0} bytes is not a positive multiple of {VALUE_BYTES} bytes")]
    Bytes(usize),
}

impl RlcVector {
    /// Reads values of 16 bytes in order.
    ///
    /// # Errors
    /// The length is zero or no multiple of 16.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RlcError> {
        match bytes.as_chunks() {
            (values @ [_, ..], []) => {
                Ok(Self(values.iter().map(|value| Gf128::from_bytes(*value)).collect()))
            }
            _ => Err(RlcError::Bytes(bytes.len())),
        }
    }

    /// Writes values of 16 bytes in order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|value| value.to_bytes()).collect()
    }

    /// Number of values: K.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no value, which no blob's vector has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in order.
    #[must_use]
    pub fn values(&self) -> &[Gf128] {
        &self.0
    }

    /// The commitment to all values.
    #[must_use]
    pub fn root<H: HashProfile>(&self) -> B256 {
        H::rlc_root(&self.0)
    }

    /// Combines every data row of `data`, K rows of W bytes.
    pub(crate) fn of_rows(combiner: &Combiner, shape: &Shape, data: &[u8]) -> Self {
        let mut values = vec![Gf128::default(); shape.data_rows()];
        combiner.combine_rows(data, &mut values);
        Self(values)
    }

    /// The vector extended to all T rows by the rows' code: each value in a shard of one block.
    pub(crate) fn extend(&self) -> Result<Vec<Gf128>, reed_solomon_simd::Error> {
        let mut shards = vec![0; 4 * self.len() * BLOCK_BYTES];
        for (shard, value) in shards.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().zip(&self.0) {
            for (limb, element) in value.0.iter().enumerate() {
                let [low, high] = element.to_le_bytes();
                (shard[limb], shard[32 + limb]) = (low, high);
            }
        }
        rs::extend(self.len(), 3 * self.len(), BLOCK_BYTES, &mut shards)?;
        let unpack = |shard: &[u8; BLOCK_BYTES]| {
            Gf128(core::array::from_fn(|limb| u16::from_le_bytes([shard[limb], shard[32 + limb]])))
        };
        Ok(shards.as_chunks().0.iter().map(unpack).collect())
    }
}

/// Sums of every subset of four coefficients, by the mask of those in it.
type Subsets = [u128; 16];

/// Combines rows with the coefficients of one blob.
///
/// A combination is linear over GF(2) in each symbol, so it follows from sixteen sums of coefficients, one for each bit
/// of a symbol (see [`fold_bits`]). A sum takes four symbols at a time from a table.
pub(crate) struct Combiner {
    /// For each four symbols of a row, in order.
    subsets: Vec<Subsets>,
}

impl Combiner {
    /// Prepares W/2 coefficients.
    pub(crate) fn new(coefficients: &[Gf128]) -> Self {
        let subsets = |four: &[Gf128; 4]| {
            let mut sums = [0; 16];
            for (i, coefficient) in four.iter().enumerate() {
                let (without, with) = sums[..2 << i].split_at_mut(1 << i);
                for (with, without) in with.iter_mut().zip(without) {
                    *with = *without ^ coefficient.to_bits();
                }
            }
            sums
        };
        Self { subsets: coefficients.as_chunks().0.iter().map(subsets).collect() }
    }

    /// The combination of a row of as many blocks as there are coefficients for.
    pub(crate) fn combine(&self, row: &[u8]) -> Gf128 {
        let mut sums = [0_u128; 16];
        let blocks = row.as_chunks::<BLOCK_BYTES>().0.iter().zip(self.subsets.as_chunks::<8>().0);
        for (block, subsets) in blocks {
            let (low, high) = block.split_at(BLOCK_BYTES / 2);
            let (low_sums, high_sums) = sums.split_at_mut(8);
            for (bytes, sums) in [(low, low_sums), (high, high_sums)] {
                for (eight, pair) in bytes.as_chunks::<8>().0.iter().zip(subsets.as_chunks::<2>().0) {
                    let masks = transpose(u64::from_le_bytes(*eight)).to_le_bytes();
                    for (sum, mask) in sums.iter_mut().zip(masks) {
                        *sum ^= pair[0][usize::from(mask & 15)] ^ pair[1][usize::from(mask >> 4)];
                    }
                }
            }
        }
        fold_bits(&sums)
    }

    /// The combinations of consecutive rows, one for each value of `into`.
    pub(crate) fn combine_rows(&self, rows: &[u8], into: &mut [Gf128]) {
        let row_bytes = self.subsets.len() / 8 * BLOCK_BYTES;
        for (row, value) in rows.chunks_exact(row_bytes).zip(into) {
            *value = self.combine(row);
        }
    }
}

/// Transposes a matrix of 8 by 8 bits: bit i of byte j becomes bit j of byte i.
fn transpose(matrix: u64) -> u64 {
    let mut m = matrix;
    for (shift, mask) in
        [(7, 0x00AA_00AA_00AA_00AA), (14, 0x0000_CCCC_0000_CCCC), (28, 0x0000_0000_F0F0_F0F0)]
    {
        let swapped = (m ^ (m >> shift)) & mask;
        m ^= swapped ^ (swapped << shift);
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::Blake3,
        twin::{self, Field},
    };
    use proptest::{collection::vec, prelude::*};
    use std::sync::LazyLock;

    static TWIN: LazyLock<Field> = LazyLock::new(Field::new);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn combinations_are_sums_of_products(
            (row, coefficients) in (1_usize..6).prop_flat_map(|blocks| {
                (vec(any::<u8>(), 64 * blocks), vec(any::<[u16; 8]>(), 32 * blocks))
            })
        ) {
            let combiner = Combiner::new(&coefficients.iter().copied().map(Gf128).collect::<Vec<_>>());
            prop_assert_eq!(combiner.combine(&row).0, TWIN.combine(&row, &coefficients));
        }

        #[test]
        fn transposing_moves_every_bit(matrix: u64) {
            let transposed = transpose(matrix);
            for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
                prop_assert_eq!(matrix >> (8 * j + i) & 1, transposed >> (8 * i + j) & 1);
            }
        }

        #[test]
        fn coefficients_are_the_stream_in_order(root: [u8; 32], blocks in 1_u32..40) {
            let (root, shape) = (B256::from(root), Shape::custom(16, 48, 64 * blocks).unwrap());
            let fast: Vec<_> = Blake3::coefficients(&root, &shape).iter().map(|value| value.0).collect();
            prop_assert_eq!(fast, twin::coefficients(&root, &shape));
        }

        #[test]
        fn vectors_extend_by_the_code_of_rows(values in (0_u32..5).prop_flat_map(|log| {
            vec(any::<[u16; 8]>(), 1 << log)
        })) {
            let vector = RlcVector(values.iter().copied().map(Gf128).collect());
            let extended: Vec<_> = vector.extend().unwrap().iter().map(|value| value.0).collect();
            prop_assert_eq!(extended, TWIN.extend_values(&values));
            prop_assert_eq!(vector.root::<Blake3>(), twin::rlc_root(&values));
            prop_assert_eq!(RlcVector::from_bytes(&vector.to_bytes()), Ok(vector));
        }
    }

    #[test]
    fn vectors_are_whole_values() {
        for bytes in [0, 1, 15, 17, 31, 33] {
            assert_eq!(RlcVector::from_bytes(&vec![0; bytes]), Err(RlcError::Bytes(bytes)));
        }
        assert_eq!(RlcVector::from_bytes(&[0; 32]).map(|vector| vector.len()), Ok(2));
    }
}
