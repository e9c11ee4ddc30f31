//! Reed-Solomon extension and recovery of rows: Leopard's high-rate code over GF(2^16) (protocol section 2).
//!
//! Rows are worked on in column stripes, so that the code's working space stays in the cache and small beside the rows.

use crate::shape::Shape;
use reed_solomon_simd::{
    Error,
    engine::DefaultEngine,
    rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder},
};

/// Widest column stripe in an encoding, in bytes.
const ENCODE_STRIPE: usize = 512;

/// Widest column stripe in a recovery, in bytes: each stripe locates the erasures anew, so it is wider.
const DECODE_STRIPE: usize = 2048;

/// Column stripes of a row: start and length, each a multiple of a block.
fn stripes(row_bytes: usize, widest: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..row_bytes).step_by(widest).map(move |start| (start, widest.min(row_bytes - start)))
}

/// Fills the parity rows of `rows`, T rows of `row_bytes` of which the first `data_rows` are given.
pub(crate) fn extend(data_rows: usize, row_bytes: usize, rows: &mut [u8]) -> Result<(), Error> {
    let parity_rows = 3 * data_rows;
    let widest = ENCODE_STRIPE.min(row_bytes);
    let mut encoder = HighRateEncoder::new(data_rows, parity_rows, widest, DefaultEngine::new(), None)?;
    let mut configured = widest;
    for (start, length) in stripes(row_bytes, widest) {
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
    let missing = rows.iter().take(k).filter(|row| row.is_none()).count();
    if missing == 0 {
        return Ok(data);
    }
    let parity: Vec<(usize, &[u8])> =
        rows.iter().skip(k).enumerate().filter_map(|(i, row)| Some((i, (*row)?))).take(missing).collect();

    let widest = DECODE_STRIPE.min(w);
    let mut decoder = HighRateDecoder::new(k, n, widest, DefaultEngine::new(), None)?;
    let mut configured = widest;
    for (start, length) in stripes(w, widest) {
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
    Ok(data)
}
