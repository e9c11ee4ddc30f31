//! The codec itself, ready to be measured.

use std::sync::Arc;

use bytes::Bytes;
use meridian_proofs::{
    B256,
    buffers::RowBuffers,
    codeword::extend,
    encode::{EncodedBlob, encode_reusing},
    hash::HashProfile,
    merkle::{RangeProof, RowProof},
    reconstruct::RowSet,
    row_proof::BlobContext,
    shape::{RowIndex, RowRange, Shape},
};

/// An encoder that keeps its buffer.
pub(crate) struct Encoder<'a> {
    buffers: RowBuffers,
    payload: &'a [u8],
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { buffers: RowBuffers::new(usize::MAX), payload }
    }

    pub(crate) fn encode<H: HashProfile>(&self) -> EncodedBlob<H> {
        encode_reusing(&self.buffers, self.payload, B256::ZERO).expect("payload in bounds")
    }
}

/// Reed-Solomon and the leaves of all rows by our own kernels, and nothing else.
pub(crate) struct Floor {
    shape: Shape,
    rows: Vec<u8>,
}

impl Floor {
    pub(crate) fn new<H: HashProfile>(blob: &EncodedBlob<H>) -> Self {
        Self { shape: blob.shape(), rows: blob.rows(blob.shape().all()).to_vec() }
    }

    pub(crate) fn extend(&mut self) {
        extend(&self.shape, &mut self.rows).expect("a shape of the network");
    }

    pub(crate) fn hash<H: HashProfile>(&self) -> Vec<B256> {
        H::row_leaves(&self.rows, self.shape.row_bytes())
    }
}

/// Who checks rows of a blob.
pub(crate) struct Checker<H: HashProfile> {
    context: Arc<BlobContext<H>>,
    interval: (RowRange, Bytes, RangeProof),
    rows: Vec<(RowIndex, Bytes, RowProof)>,
    next: usize,
}

/// A range of the code's rows, which the shape has.
fn range(shape: &Shape, start: usize, count: usize) -> RowRange {
    let index = |value| u32::try_from(value).expect("an index of a row");
    shape.range(index(start), index(count)).expect("rows of the shape")
}

impl<H: HashProfile> Checker<H> {
    pub(crate) fn new(blob: &EncodedBlob<H>, start: usize, rows: &[usize]) -> Self {
        let shape = blob.shape();
        let context = BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).expect("own header");
        let interval = range(&shape, start, shape.data_rows());
        let row = |index: &usize| {
            let row = range(&shape, *index, 1).indices().next().expect("one row");
            (row, blob.row(row), blob.row_proof(row))
        };
        Self {
            context: Arc::new(context),
            interval: (interval, blob.rows(interval), blob.range_proof(interval)),
            rows: rows.iter().map(row).collect(),
            next: 0,
        }
    }

    /// Checks the next one of the rows.
    pub(crate) fn row(&mut self) {
        self.next = (self.next + 1) % self.rows.len();
        let (index, row, proof) = &self.rows[self.next];
        self.context.check_row(*index, row.clone(), proof).expect("own row");
    }

    /// Checks as many consecutive rows as there are data rows.
    pub(crate) fn interval(&self) {
        let (range, rows, proof) = &self.interval;
        self.context.check_range(*range, rows.clone(), proof).expect("own rows");
    }

    /// A set of K consecutive rows from `start`, which are no data rows.
    pub(crate) fn set(&self, blob: &EncodedBlob<H>, start: usize) -> RowSet<H> {
        let rows = range(&blob.shape(), start, blob.shape().data_rows());
        let checked = self.context.check_range(rows, blob.rows(rows), &blob.range_proof(rows));
        let mut set = RowSet::new(Arc::clone(&self.context));
        set.insert(checked.expect("own rows")).expect("own blob");
        set
    }
}
