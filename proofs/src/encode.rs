//! From a payload to rows, tree, RLC vector and header (protocol section 2).

use crate::{
    B256,
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    ids::BlobId,
    merkle::{RangeProof, RowProof, RowTree},
    rlc::{Combiner, RlcVector},
    rs,
    shape::{LengthError, PayloadLength, RowIndex, RowRange, Shape, wide},
};
use bytes::Bytes;
use core::marker::PhantomData;
use thiserror::Error;

/// Why a payload was not encoded.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum EncodeError {
    /// The length is out of bounds.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// More bytes than announced.
    #[error("payload is longer than the {announced} bytes announced")]
    Excess {
        /// Announced length in bytes.
        announced: u64,
    },
    /// Fewer bytes than announced.
    #[error("payload ended {missing} bytes before the length announced")]
    Short {
        /// Bytes that never came.
        missing: u64,
    },
    /// The code refused the shape, which no shape of this crate is.
    #[error("reed-solomon code failed: {0}")]
    Code(#[from] reed_solomon_simd::Error),
}

/// A blob in full: all rows in one buffer, their tree, the RLC vector and the header.
#[derive(Clone)]
pub struct EncodedBlob<H: HashProfile = Blake3> {
    header: BlobHeader,
    id: BlobId,
    rows: Bytes,
    tree: RowTree,
    rlc: RlcVector,
    profile: PhantomData<H>,
}

impl<H: HashProfile> EncodedBlob<H> {
    /// Puts together what is known to belong together.
    pub(crate) fn assemble(header: BlobHeader, rows: Bytes, tree: RowTree, rlc: RlcVector) -> Self {
        Self { header, id: header.id(), rows, tree, rlc, profile: PhantomData }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BlobHeader {
        &self.header
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.header.shape()
    }

    /// The RLC vector.
    #[must_use]
    pub fn rlc(&self) -> &RlcVector {
        &self.rlc
    }

    /// One row, without a copy.
    ///
    /// # Panics
    /// The row is not one of this blob's shape.
    #[must_use]
    pub fn row(&self, row: RowIndex) -> Bytes {
        self.rows(RowRange::of_row(row))
    }

    /// Consecutive rows, without a copy.
    ///
    /// # Panics
    /// The range is not one of this blob's shape.
    #[must_use]
    pub fn rows(&self, range: RowRange) -> Bytes {
        let row_bytes = self.shape().row_bytes();
        self.rows.slice(wide(range.start()) * row_bytes..wide(range.end()) * row_bytes)
    }

    /// Proof of consecutive rows.
    ///
    /// # Panics
    /// The range is not one of this blob's shape.
    #[must_use]
    pub fn range_proof(&self, range: RowRange) -> RangeProof {
        self.tree.prove_range(range)
    }

    /// Proof of one row.
    ///
    /// # Panics
    /// The row is not one of this blob's shape.
    #[must_use]
    pub fn row_proof(&self, row: RowIndex) -> RowProof {
        self.tree.prove_row(row)
    }

    /// Leaves of consecutive rows.
    ///
    /// # Panics
    /// The range is not one of this blob's shape.
    #[must_use]
    pub fn leaves(&self, range: RowRange) -> Vec<B256> {
        self.tree.leaves(range).to_vec()
    }

    /// The payload, without a copy.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.rows.slice(..self.header.length.to_usize())
    }
}

/// Encodes a payload that arrives in pieces; data rows are hashed as soon as they are whole.
///
/// Holds T * W bytes from the start: about four times the payload, at most 512 MiB.
pub struct StreamEncoder<H: HashProfile = Blake3> {
    length: PayloadLength,
    shape: Shape,
    rows: Vec<u8>,
    received: usize,
    leaves: Vec<B256>,
    profile: PhantomData<H>,
}

impl<H: HashProfile> StreamEncoder<H> {
    /// Starts a payload of the announced length.
    #[must_use]
    pub fn new(length: PayloadLength) -> Self {
        let shape = Shape::of(length);
        Self {
            length,
            shape,
            rows: vec![0; shape.total_bytes()],
            received: 0,
            leaves: Vec::with_capacity(shape.total_rows()),
            profile: PhantomData,
        }
    }

    /// Bytes that are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.length.get() - u64::try_from(self.received).unwrap_or(u64::MAX).min(self.length.get())
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The piece goes past the announced length; nothing of it is taken.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), EncodeError> {
        if piece.len() > self.length.to_usize() - self.received {
            return Err(EncodeError::Excess { announced: self.length.get() });
        }
        let end = self.received + piece.len();
        self.rows[self.received..end].copy_from_slice(piece);
        self.received = end;
        self.hash_rows(end / self.shape.row_bytes());
        Ok(())
    }

    /// Hashes the rows before `end` that are not hashed yet.
    fn hash_rows(&mut self, end: usize) {
        let row_bytes = self.shape.row_bytes();
        let rows = &self.rows[self.leaves.len() * row_bytes..end * row_bytes];
        self.leaves.extend(rows.chunks_exact(row_bytes).map(H::row_leaf));
    }

    /// Extends, commits and gives the whole blob.
    ///
    /// # Errors
    /// Bytes are still to come.
    pub fn finish(mut self, kzg_root: B256) -> Result<EncodedBlob<H>, EncodeError> {
        let missing = self.remaining();
        if missing > 0 {
            return Err(EncodeError::Short { missing });
        }
        let shape = self.shape;
        rs::extend(shape.data_rows(), shape.row_bytes(), &mut self.rows)?;
        self.hash_rows(shape.total_rows());

        let tree = RowTree::build::<H>(self.leaves);
        let row_root = tree.root();
        let combiner = Combiner::new(&H::coefficients(&row_root, &shape));
        let rlc = RlcVector::of_rows(&combiner, &shape, &self.rows[..shape.data_bytes()]);
        let header = BlobHeader { length: self.length, row_root, rlc_root: rlc.root::<H>(), kzg_root };
        Ok(EncodedBlob::assemble(header, Bytes::from(self.rows), tree, rlc))
    }
}

/// Encodes a payload that is whole.
///
/// # Errors
/// The payload is empty or too long.
pub fn encode<H: HashProfile>(payload: &[u8], kzg_root: B256) -> Result<EncodedBlob<H>, EncodeError> {
    let length = PayloadLength::try_from(u64::try_from(payload.len()).unwrap_or(u64::MAX))?;
    let mut encoder = StreamEncoder::new(length);
    encoder.push(payload)?;
    encoder.finish(kzg_root)
}
