//! From verified rows back to the payload, or to the whole blob.

use crate::{
    encode::EncodedBlob,
    hash::{Blake3, HashProfile},
    ids::BlobId,
    merkle::RowTree,
    row_proof::{BlobContext, VerifiedRange},
    rs,
    shape::wide,
};
use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

/// Rows of another blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("rows belong to blob {0}")]
pub struct OtherBlob(pub BlobId);

/// Why verified rows give no payload.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum DecodeError {
    /// Fewer than K distinct rows.
    #[error("{have} rows of {need} needed")]
    NotEnough {
        /// Distinct rows held.
        have: usize,
        /// K.
        need: usize,
    },
    /// The padding is not zero: the blob has no payload, for any reader.
    #[error("blob is malformed: its padding is not zero")]
    Malformed,
    /// The code refused the shape, which no shape of this crate is.
    #[error("reed-solomon code failed: {0}")]
    Code(#[from] reed_solomon_simd::Error),
}

/// What verified rows re-encode to.
pub enum Rebuilt<H: HashProfile = Blake3> {
    /// The blob itself.
    Consistent(EncodedBlob<H>),
    /// Another row root: whoever made the header committed to rows that are not of one code word.
    Inconsistent,
}

/// Verified rows of one blob, each counted once.
pub struct RowSet<H: HashProfile = Blake3> {
    context: Arc<BlobContext<H>>,
    ranges: Vec<VerifiedRange>,
    held: Vec<bool>,
    distinct: usize,
}

impl<H: HashProfile> RowSet<H> {
    /// A set without rows.
    #[must_use]
    pub fn new(context: Arc<BlobContext<H>>) -> Self {
        let held = vec![false; context.shape().total_rows()];
        Self { context, ranges: Vec::new(), held, distinct: 0 }
    }

    /// Adds rows; a range without any new row is dropped.
    ///
    /// # Errors
    /// The rows belong to another blob.
    pub fn insert(&mut self, range: VerifiedRange) -> Result<(), OtherBlob> {
        if range.blob_id() != self.context.id() {
            return Err(OtherBlob(range.blob_id()));
        }
        let held = &mut self.held[wide(range.range().start())..wide(range.range().end())];
        let new = held.iter().filter(|held| !**held).count();
        if new > 0 {
            held.fill(true);
            self.distinct += new;
            self.ranges.push(range);
        }
        Ok(())
    }

    /// Number of distinct rows.
    #[must_use]
    pub fn distinct_rows(&self) -> usize {
        self.distinct
    }

    /// Whether there are K distinct rows.
    #[must_use]
    pub fn is_decodable(&self) -> bool {
        self.missing_for_decode() == 0
    }

    /// How many more distinct rows a decoding needs.
    #[must_use]
    pub fn missing_for_decode(&self) -> usize {
        self.context.shape().data_rows().saturating_sub(self.distinct)
    }

    /// The payload. Decodes only when data rows are missing, and copies only when they are in pieces.
    ///
    /// # Errors
    /// Fewer than K rows, or padding that is not zero.
    pub fn payload(&self) -> Result<Bytes, DecodeError> {
        let mut data = self.data()?;
        let padding = data.split_off(self.context.header().length.to_usize());
        if padding.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Malformed);
        }
        Ok(data)
    }

    /// Re-encodes the rows and compares the row root.
    ///
    /// Also of a malformed blob, whose rows have to be kept like any other's: [`Self::payload`] is what judges padding.
    ///
    /// # Errors
    /// Fewer than K rows.
    pub fn rebuild(&self) -> Result<Rebuilt<H>, DecodeError> {
        let shape = self.context.shape();
        let data = self.data()?;
        let mut rows = vec![0; shape.total_bytes()];
        rows[..data.len()].copy_from_slice(&data);
        drop(data);
        rs::extend(shape.data_rows(), shape.row_bytes(), &mut rows)?;
        let tree = RowTree::build::<H>(rows.chunks_exact(shape.row_bytes()).map(H::row_leaf).collect());
        if tree.root() != self.context.header().row_root {
            return Ok(Rebuilt::Inconsistent);
        }
        // K verified rows determine the RLC vector, so the context's is that of these rows.
        let rlc = self.context.rlc().clone();
        Ok(Rebuilt::Consistent(EncodedBlob::assemble(*self.context.header(), rows.into(), tree, rlc)))
    }

    /// The ranges in the order in which they came.
    #[must_use]
    pub fn into_ranges(self) -> Vec<VerifiedRange> {
        self.ranges
    }

    /// The data rows, padding included.
    fn data(&self) -> Result<Bytes, DecodeError> {
        let shape = self.context.shape();
        if !self.is_decodable() {
            return Err(DecodeError::NotEnough { have: self.distinct, need: shape.data_rows() });
        }
        if let Some(whole) = self.ranges.iter().find(|range| range.range().contains_range(&shape.data())) {
            return Ok(whole.rows().slice(..shape.data_bytes()));
        }
        let mut rows = vec![None; shape.total_rows()];
        for range in &self.ranges {
            let known = &mut rows[wide(range.range().start())..];
            for (known, row) in known.iter_mut().zip(range.rows().chunks_exact(shape.row_bytes())) {
                *known = Some(row);
            }
        }
        Ok(rs::recover(&shape, &rows)?.into())
    }
}
