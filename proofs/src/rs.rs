//! Reed-Solomon extension and recovery of rows: Leopard's high-rate code over GF(2^16) (protocol section 2).
//!
//! The network's shapes have kernels of their own; others go through `reed-solomon-simd`. Rows are worked on in column
//! stripes either way, so that the code's working space stays in the cache and small beside the rows.

use crate::{
    kernel::{self, Level},
    shape::{BLOCK_BYTES, Shape},
};
use plan::plan;
use reed_solomon_simd::{
    Error,
    engine::DefaultEngine,
    rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder},
};

mod plan;

/// Widest column stripe in bytes: half a KiB measures best for encoding and recovery alike.
const STRIPE: usize = 512;

/// Column stripes of a row: start and length, each a multiple of a block.
fn stripes(row_bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..row_bytes).step_by(STRIPE).map(move |start| (start, STRIPE.min(row_bytes - start)))
}

/// Fills the parity rows of `rows`, K + N rows of `row_bytes` of which the first K are given.
pub(crate) fn extend(
    data_rows: usize,
    parity_rows: usize,
    row_bytes: usize,
    rows: &mut [u8],
) -> Result<(), Error> {
    if let Some(level) = level(data_rows, parity_rows, row_bytes) {
        kernel::extend::extend(level, data_rows, row_bytes, rows);
        return Ok(());
    }
    extend_any(data_rows, parity_rows, row_bytes, rows)
}

/// The level of the kernels for a shape, if they take it and are faster than the crate, which they are with vectors.
fn level(data_rows: usize, parity_rows: usize, row_bytes: usize) -> Option<Level> {
    let ours = kernel::extend::takes(data_rows)
        && parity_rows == 3 * data_rows
        && row_bytes > 0
        && row_bytes.is_multiple_of(BLOCK_BYTES);
    Some(Level::best()).filter(|level| ours && *level != Level::Scalar)
}

/// [`extend`] for every shape of the code.
fn extend_any(data_rows: usize, parity_rows: usize, row_bytes: usize, rows: &mut [u8]) -> Result<(), Error> {
    let widest = STRIPE.min(row_bytes);
    let mut encoder = HighRateEncoder::new(data_rows, parity_rows, widest, DefaultEngine::new(), None)?;
    let mut configured = widest;
    for (start, length) in stripes(row_bytes) {
        if length != configured {
            encoder.reset(data_rows, parity_rows, length)?;
            configured = length;
        }
        let (data, parity) = rows.split_at_mut(data_rows * row_bytes);
        for row in data.chunks_exact(row_bytes) {
            encoder.add_original_shard(&row[start..start + length])?;
        }
        let encoded = encoder.encode()?;
        for (row, part) in parity.chunks_exact_mut(row_bytes).zip(encoded.recovery_iter()) {
            row[start..start + length].copy_from_slice(part);
        }
    }
    Ok(())
}

/// The data rows, padding included, from any K or more rows; `rows[i]` is row i where it is known.
pub(crate) fn recover(shape: &Shape, rows: &[Option<&[u8]>]) -> Result<Vec<u8>, Error> {
    let (k, n, w) = (shape.data_rows(), shape.parity_rows(), shape.row_bytes());
    let mut data = vec![0; shape.data_bytes()];
    for (into, row) in data.chunks_exact_mut(w).zip(rows) {
        if let Some(row) = row {
            into.copy_from_slice(row);
        }
    }
    if rows.iter().take(k).all(Option::is_some) {
        return Ok(data);
    }
    if let Some(level) = level(k, n, w)
        && let Some(task) = plan(rows)
    {
        kernel::recover::recover(level, &task, w, &mut data);
    } else {
        recover_any(shape, rows, &mut data)?;
    }
    Ok(data)
}

/// Fills the missing data rows for every shape of the code and any K or more rows.
fn recover_any(shape: &Shape, rows: &[Option<&[u8]>], data: &mut [u8]) -> Result<(), Error> {
    let (k, n, w) = (shape.data_rows(), shape.parity_rows(), shape.row_bytes());
    let missing = rows.iter().take(k).filter(|row| row.is_none()).count();
    let parity: Vec<(usize, &[u8])> =
        rows.iter().skip(k).enumerate().filter_map(|(i, row)| Some((i, (*row)?))).take(missing).collect();

    let widest = STRIPE.min(w);
    let mut decoder = HighRateDecoder::new(k, n, widest, DefaultEngine::new(), None)?;
    let mut configured = widest;
    for (start, length) in stripes(w) {
        if length != configured {
            decoder.reset(k, n, length)?;
            configured = length;
        }
        for (index, row) in rows.iter().take(k).enumerate() {
            if let Some(row) = row {
                decoder.add_original_shard(index, &row[start..start + length])?;
            }
        }
        for (index, row) in &parity {
            decoder.add_recovery_shard(*index, &row[start..start + length])?;
        }
        let decoded = decoder.decode()?;
        for (index, part) in decoded.restored_original_iter() {
            data[index * w + start..index * w + start + length].copy_from_slice(part);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::Field;
    use proptest::{collection::vec, prelude::*, sample::subsequence};
    use std::sync::LazyLock;

    static TWIN: LazyLock<Field> = LazyLock::new(Field::new);

    fn extended(data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let row_bytes = data[0].len();
        let mut rows = data.concat();
        rows.resize(4 * rows.len(), 0);
        extend(data.len(), 3 * data.len(), row_bytes, &mut rows).unwrap();
        rows.chunks_exact(row_bytes).map(<[u8]>::to_vec).collect()
    }

    /// Data rows of a shape: K in {1, 2, 4, 8, 16}, one block to as many as are asked for.
    fn data(widest: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
        (0_u32..5, 1..=widest).prop_flat_map(|(log, blocks)| vec(vec(any::<u8>(), 64 * blocks), 1 << log))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn parity_is_the_interpolation_through_data_and_zeros(data in data(2)) {
            prop_assert_eq!(extended(&data), TWIN.extend(&data));
        }

        #[test]
        fn stripes_do_not_show(data in data(20)) {
            let by_stripes = extended(&data);
            for block in 0..data[0].len() / 64 {
                let column: Vec<Vec<u8>> = data.iter().map(|row| row[64 * block..][..64].to_vec()).collect();
                for (row, part) in by_stripes.iter().zip(extended(&column)) {
                    prop_assert_eq!(&row[64 * block..][..64], part);
                }
            }
        }

        #[test]
        fn any_k_rows_recover_the_data(
            (data, kept) in data(20).prop_flat_map(|data| {
                let k = data.len();
                (Just(data), subsequence((0..4 * k).collect::<Vec<_>>(), k..=4 * k))
            })
        ) {
            let rows = extended(&data);
            let shape = Shape::custom(
                u32::try_from(data.len()).unwrap(),
                u32::try_from(3 * data.len()).unwrap(),
                u32::try_from(data[0].len()).unwrap(),
            ).unwrap();
            let mut known = vec![None; rows.len()];
            for i in kept {
                known[i] = Some(rows[i].as_slice());
            }
            prop_assert_eq!(recover(&shape, &known).unwrap(), data.concat());
        }
    }

    #[test]
    fn too_few_rows_are_refused() {
        let shape = Shape::custom(4, 12, 64).unwrap();
        let row = [0; 64];
        let mut rows = vec![None; 16];
        rows[3..6].fill(Some(row.as_slice()));
        assert!(recover(&shape, &rows).is_err());
    }
}
