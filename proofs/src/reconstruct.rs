//! From verified rows back to the payload, or to the whole blob.

use crate::{
    buffers::{RowBuffer, RowBuffers},
    codeword::{CodeError, Unextended, recover},
    encode::EncodedBlob,
    hash::{Blake3, HashProfile},
    ids::BlobId,
    row_proof::{BlobContext, VerifiedRange},
    shape::wide,
};
use bytes::Bytes;
use core::fmt;
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
    #[error(transparent)]
    Code(#[from] CodeError),
}

/// What verified rows re-encode to.
#[derive(Debug)]
pub enum Rebuilt<H: HashProfile = Blake3> {
    /// The blob itself.
    Consistent(Box<EncodedBlob<H>>),
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

impl<H: HashProfile> fmt::Debug for RowSet<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { context, distinct, .. } = self;
        f.debug_struct("RowSet").field("context", context).field("distinct", distinct).finish_non_exhaustive()
    }
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
        self.rebuild_within(RowBuffer::zeroed(self.context.shape().total_bytes()))
    }

    /// Like [`Self::rebuild`], in a buffer that is used again: fresh pages cost more than the arithmetic.
    ///
    /// # Errors
    /// Fewer than K rows.
    pub fn rebuild_reusing(&self, buffers: &RowBuffers) -> Result<Rebuilt<H>, DecodeError> {
        self.rebuild_within(buffers.take(self.context.shape().total_bytes()))
    }

    fn rebuild_within(&self, buffer: RowBuffer) -> Result<Rebuilt<H>, DecodeError> {
        let shape = self.context.shape();
        let data = self.data()?;
        let mut rows = Unextended::new(shape, buffer);
        rows.data().copy_from_slice(&data);
        drop(data);
        let header = self.context.header();
        // K verified rows determine the RLC vector, so the context's is that of these rows.
        let codeword = rows.extend_to(header.row_root, self.context.rlc().clone())?;
        Ok(codeword.map_or(Rebuilt::Inconsistent, |codeword| {
            Rebuilt::Consistent(Box::new(EncodedBlob::assemble(*header, codeword)))
        }))
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
        Ok(recover(&shape, &rows)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        row_proof::tests::{blob, commit, context},
        rs,
        shape::{RowIndex, RowRange},
    };
    use proptest::{collection::vec, prelude::*, sample::subsequence};

    fn checked(context: &BlobContext, blob: &EncodedBlob, range: RowRange) -> VerifiedRange {
        context.check_range(range, blob.rows(range), &blob.range_proof(range)).unwrap()
    }

    fn set(context: &Arc<BlobContext>, blob: &EncodedBlob, rows: impl IntoIterator<Item = usize>) -> RowSet {
        let mut set = RowSet::new(context.clone());
        for row in rows {
            let row = RowIndex(u32::try_from(row).unwrap());
            set.insert(checked(context, blob, RowRange::of_row(row))).unwrap();
        }
        set
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_k_rows_give_payload_and_blob(
            (payload, kept) in vec(any::<u8>(), 1..40_000).prop_flat_map(|payload| {
                let k = if payload.len() <= 16 << 10 { 16 } else { 64 };
                (Just(payload), subsequence((0..4 * k).collect::<Vec<_>>(), k))
            })
        ) {
            let blob = blob(&payload);
            let context = Arc::new(context(&blob));
            let (last, fewer) = kept.split_last().unwrap();

            let mut rows = set(&context, &blob, fewer.iter().copied());
            let (have, need) = (fewer.len(), kept.len());
            prop_assert_eq!((rows.distinct_rows(), rows.missing_for_decode(), rows.is_decodable()), (have, 1, false));
            prop_assert_eq!(rows.payload(), Err(DecodeError::NotEnough { have, need }));
            prop_assert!(rows.rebuild().is_err());

            let last = RowIndex(u32::try_from(*last).unwrap());
            rows.insert(checked(&context, &blob, RowRange::of_row(last))).unwrap();
            prop_assert!(rows.is_decodable());
            prop_assert_eq!(rows.payload().unwrap(), payload);
            let Rebuilt::Consistent(rebuilt) = rows.rebuild().unwrap() else { panic!("consistent") };
            let all = blob.shape().all();
            prop_assert_eq!((rebuilt.id(), rebuilt.rlc()), (blob.id(), blob.rlc()));
            prop_assert_eq!(rebuilt.rows(all), blob.rows(all));
            prop_assert_eq!(rebuilt.row_proof(last), blob.row_proof(last));
        }
    }

    #[test]
    fn rows_count_once() {
        let blob = blob(&[4; 900]);
        let context = Arc::new(context(&blob));
        let mut rows = set(&context, &blob, [3; 40]);
        assert_eq!((rows.distinct_rows(), rows.missing_for_decode()), (1, 15));
        rows.insert(checked(&context, &blob, blob.shape().range(2, 4).unwrap())).unwrap();
        rows.insert(checked(&context, &blob, blob.shape().range(4, 4).unwrap())).unwrap();
        assert_eq!(rows.distinct_rows(), 6);
        rows.insert(checked(&context, &blob, blob.shape().range(2, 6).unwrap())).unwrap();
        assert_eq!((rows.distinct_rows(), rows.into_ranges().len()), (6, 3));
    }

    #[test]
    fn rows_of_another_blob_are_refused() {
        let (ours, other) = (blob(&[1; 900]), blob(&[2; 900]));
        let mut rows = RowSet::new(Arc::new(context(&ours)));
        let range = other.shape().data();
        assert_eq!(rows.insert(checked(&context(&other), &other, range)), Err(OtherBlob(other.id())));
        assert_eq!(rows.distinct_rows(), 0);
    }

    #[test]
    fn data_rows_in_one_piece_are_not_copied() {
        let blob = blob(&[6; 900]);
        let context = Arc::new(context(&blob));
        for range in [blob.shape().data(), blob.shape().all()] {
            let mut rows = RowSet::new(context.clone());
            rows.insert(checked(&context, &blob, blob.shape().range(40, 9).unwrap())).unwrap();
            rows.insert(checked(&context, &blob, range)).unwrap();
            let payload = rows.payload().unwrap();
            assert_eq!((payload.as_ptr(), payload.len()), (blob.payload().as_ptr(), 900));
        }
    }

    #[test]
    fn padding_that_is_not_zero_is_malformed() {
        for byte in [900, 901, 1023] {
            let honest = blob(&[8; 900]);
            let shape = honest.shape();
            let mut rows = vec![0; shape.total_bytes()];
            rows[..shape.data_bytes()].copy_from_slice(&honest.rows(shape.data()));
            rows[byte] = 1;
            rs::extend(shape.data_rows(), shape.parity_rows(), shape.row_bytes(), &mut rows).unwrap();
            let malformed = commit(900, rows);
            let context = Arc::new(context(&malformed));
            for kept in [0..16, 20..36] {
                let rows = set(&context, &malformed, kept);
                assert_eq!(rows.payload(), Err(DecodeError::Malformed));
                assert!(matches!(rows.rebuild(), Ok(Rebuilt::Consistent(_))));
            }
        }
    }

    #[test]
    fn rows_that_are_no_code_word_are_inconsistent() {
        let honest = blob(&[8; 900]);
        let mut rows = honest.rows(honest.shape().all()).to_vec();
        let last = rows.len() - 1;
        rows[last] ^= 1;
        let cheat = commit(900, rows);
        let context = Arc::new(context(&cheat));
        for kept in [0..16, 40..56] {
            assert!(matches!(set(&context, &cheat, kept).rebuild(), Ok(Rebuilt::Inconsistent)));
        }
    }
}
