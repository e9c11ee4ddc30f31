//! The random linear combination of a row's symbols, and the vector of all data rows' (protocol section 2).

use crate::{
    B256,
    field::{Gf128, VALUE_BYTES},
    hash::HashProfile,
    kernel::{Level, combine::Coefficients},
    rs,
    shape::{BLOCK_BYTES, Shape},
};
use rayon::prelude::*;
use thiserror::Error;

/// Rows that one thread combines at a time, as many as a kernel takes together.
const GROUP: usize = 64;

/// Bytes of rows from which other threads are worth their waking.
const SHARED: usize = 256 << 10;

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

    /// The vector extended by N values as rows are by N rows: each value in a shard of one block.
    pub(crate) fn extend(&self, parity_rows: usize) -> Result<Vec<Gf128>, reed_solomon_simd::Error> {
        let mut shards = vec![0; (self.len() + parity_rows) * BLOCK_BYTES];
        for (shard, value) in shards.as_chunks_mut().0.iter_mut().zip(&self.0) {
            *shard = pack(value);
        }
        rs::extend(self.len(), parity_rows, BLOCK_BYTES, &mut shards)?;
        Ok(shards.as_chunks().0.iter().map(unpack).collect())
    }
}

/// The shard of a value: low bytes of the limbs, and 32 further on high ones.
fn pack(value: &Gf128) -> [u8; BLOCK_BYTES] {
    let mut shard = [0; BLOCK_BYTES];
    for (limb, element) in value.0.iter().enumerate() {
        [shard[limb], shard[32 + limb]] = element.to_le_bytes();
    }
    shard
}

/// The value of a shard.
fn unpack(shard: &[u8; BLOCK_BYTES]) -> Gf128 {
    Gf128(core::array::from_fn(|limb| u16::from_le_bytes([shard[limb], shard[32 + limb]])))
}

/// Combines rows with the coefficients of one blob.
pub(crate) struct Combiner(Coefficients);

impl Combiner {
    /// Prepares W/2 coefficients.
    ///
    /// # Panics
    /// W is no positive multiple of 64.
    pub(crate) fn new(coefficients: &[Gf128]) -> Self {
        Self(Coefficients::new(Level::best(), coefficients))
    }

    /// The combinations of consecutive rows, one for each value of `into`.
    ///
    /// # Panics
    /// The rows are not as many as the values, or not as long as there are coefficients for.
    pub(crate) fn combine_rows(&self, rows: &[u8], into: &mut [Gf128]) {
        if rows.len() >= SHARED && into.len() > GROUP && rayon::current_num_threads() > 1 {
            let row_bytes = rows.len() / into.len();
            let groups = into.par_chunks_mut(GROUP).zip_eq(rows.par_chunks(GROUP * row_bytes));
            groups.for_each(|(into, rows)| self.0.combine(rows, into));
        } else {
            self.0.combine(rows, into);
        }
    }
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
            let extended: Vec<_> = vector.extend(3 * vector.len()).unwrap().iter().map(|value| value.0).collect();
            prop_assert_eq!(extended, TWIN.extend_values(&values));
            prop_assert_eq!(vector.root::<Blake3>(), twin::rlc_root(&values));
            prop_assert_eq!(RlcVector::from_bytes(&vector.to_bytes()), Ok(vector));
        }
    }

    #[test]
    fn threads_do_not_show() {
        let mut stream = ::blake3::Hasher::new().finalize_xof();
        let mut bytes = |count| {
            let mut bytes = vec![0; count];
            stream.fill(&mut bytes);
            bytes
        };
        let coefficients: Vec<_> =
            bytes(1024 * VALUE_BYTES).as_chunks().0.iter().map(|value| Gf128::from_bytes(*value)).collect();
        let combiner = Combiner::new(&coefficients);
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (alone, together) = (pool(1), pool(3));
        for rows in [0, 1, 63, 64, 65, 127, 128, 129, 300] {
            let bytes = bytes(rows * 2048);
            let combined = |pool: &rayon::ThreadPool| {
                let mut values = vec![Gf128::default(); rows];
                pool.install(|| combiner.combine_rows(&bytes, &mut values));
                values
            };
            let one_by_one: Vec<_> = bytes
                .chunks_exact(2048)
                .map(|row| {
                    let mut value = [Gf128::default()];
                    combiner.combine_rows(row, &mut value);
                    value[0]
                })
                .collect();
            assert_eq!(combined(&alone), one_by_one);
            assert_eq!(combined(&together), one_by_one);
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
