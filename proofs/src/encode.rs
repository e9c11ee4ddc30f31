//! From a payload to rows, tree, RLC vector and header (protocol section 2).

use crate::{
    B256,
    buffers::{RowBuffer, RowBuffers},
    codeword::{CodeError, Codeword, Unextended},
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    ids::BlobId,
    merkle::{RangeProof, RowProof},
    rlc::RlcVector,
    shape::{LengthError, PayloadLength, RowIndex, RowRange, Shape},
};
use bytes::Bytes;
use core::fmt;
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
    #[error(transparent)]
    Code(#[from] CodeError),
}

/// A blob in full: header and codeword.
#[derive(Clone)]
pub struct EncodedBlob<H: HashProfile = Blake3> {
    header: BlobHeader,
    id: BlobId,
    codeword: Codeword<H>,
}

impl<H: HashProfile> fmt::Debug for EncodedBlob<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedBlob")
            .field("id", &self.id)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl<H: HashProfile> EncodedBlob<H> {
    /// Puts together what is known to belong together.
    pub(crate) fn assemble(header: BlobHeader, codeword: Codeword<H>) -> Self {
        Self { header, id: header.id(), codeword }
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
        self.codeword.shape()
    }

    /// The RLC vector.
    #[must_use]
    pub fn rlc(&self) -> &RlcVector {
        self.codeword.rlc()
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
        self.codeword.rows(range)
    }

    /// Proof of consecutive rows.
    ///
    /// # Panics
    /// The range is not one of this blob's shape.
    #[must_use]
    pub fn range_proof(&self, range: RowRange) -> RangeProof {
        self.codeword.range_proof(range)
    }

    /// Proof of one row.
    ///
    /// # Panics
    /// The row is not one of this blob's shape.
    #[must_use]
    pub fn row_proof(&self, row: RowIndex) -> RowProof {
        self.codeword.row_proof(row)
    }

    /// Leaves of consecutive rows.
    ///
    /// # Panics
    /// The range is not one of this blob's shape.
    #[must_use]
    pub fn leaves(&self, range: RowRange) -> Vec<B256> {
        self.codeword.leaves(range).to_vec()
    }

    /// The payload, without a copy.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.rows(self.shape().data()).slice(..self.header.length.to_usize())
    }
}

/// Encodes a payload that arrives in pieces; data rows are hashed as soon as they are whole.
///
/// Holds T * W bytes from the start: about four times the payload, at most 512 MiB.
pub struct StreamEncoder<H: HashProfile = Blake3> {
    length: PayloadLength,
    rows: Unextended<H>,
    received: usize,
}

impl<H: HashProfile> StreamEncoder<H> {
    /// Starts a payload of the announced length.
    #[must_use]
    pub fn new(length: PayloadLength) -> Self {
        Self::within(length, RowBuffer::zeroed(Shape::of(length).total_bytes()))
    }

    /// Starts a payload of the announced length in a buffer that is at rest, where one is.
    #[must_use]
    pub fn reusing(buffers: &RowBuffers, length: PayloadLength) -> Self {
        Self::within(length, buffers.take(Shape::of(length).total_bytes()))
    }

    fn within(length: PayloadLength, buffer: RowBuffer) -> Self {
        let mut rows = Unextended::new(Shape::of(length), buffer);
        rows.data()[length.to_usize()..].fill(0);
        Self { length, rows, received: 0 }
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
        self.rows.data()[self.received..end].copy_from_slice(piece);
        self.received = end;
        self.rows.hash_before(end);
        Ok(())
    }

    /// Extends, commits and gives the whole blob.
    ///
    /// # Errors
    /// Bytes are still to come.
    pub fn finish(self, kzg_root: B256) -> Result<EncodedBlob<H>, EncodeError> {
        let missing = self.remaining();
        if missing > 0 {
            return Err(EncodeError::Short { missing });
        }
        let codeword = self.rows.extend()?;
        let header = BlobHeader {
            length: self.length,
            row_root: codeword.row_root(),
            rlc_root: codeword.rlc().root::<H>(),
            kzg_root,
        };
        Ok(EncodedBlob::assemble(header, codeword))
    }
}

/// Encodes a payload that is whole.
///
/// # Errors
/// The payload is empty or too long.
pub fn encode<H: HashProfile>(payload: &[u8], kzg_root: B256) -> Result<EncodedBlob<H>, EncodeError> {
    let length = length_of(payload)?;
    push_all(StreamEncoder::new(length), payload, kzg_root)
}

/// Encodes a payload that is whole in a buffer that is at rest, where one is.
///
/// # Errors
/// As [`encode`].
pub fn encode_reusing<H: HashProfile>(
    buffers: &RowBuffers,
    payload: &[u8],
    kzg_root: B256,
) -> Result<EncodedBlob<H>, EncodeError> {
    let length = length_of(payload)?;
    push_all(StreamEncoder::reusing(buffers, length), payload, kzg_root)
}

fn length_of(payload: &[u8]) -> Result<PayloadLength, LengthError> {
    PayloadLength::try_from(u64::try_from(payload.len()).unwrap_or(u64::MAX))
}

fn push_all<H: HashProfile>(
    mut encoder: StreamEncoder<H>,
    payload: &[u8],
    kzg_root: B256,
) -> Result<EncodedBlob<H>, EncodeError> {
    encoder.push(payload)?;
    encoder.finish(kzg_root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shape::MAX_PAYLOAD,
        twin::{self, Field},
    };
    use proptest::{collection::vec, prelude::*};
    use std::sync::LazyLock;

    static TWIN: LazyLock<Field> = LazyLock::new(Field::new);

    /// The blob by the slow twin: rows, leaves, RLC vector, header.
    fn slow(payload: &[u8], kzg_root: B256) -> (Vec<Vec<u8>>, BlobHeader) {
        let length = PayloadLength::try_from(payload.len() as u64).unwrap();
        let shape = Shape::of(length);
        let mut data = payload.to_vec();
        data.resize(shape.data_bytes(), 0);
        let data: Vec<Vec<u8>> = data.chunks(shape.row_bytes()).map(<[u8]>::to_vec).collect();
        let rows = TWIN.extend(&data);
        let row_root = twin::root(&rows.iter().map(|row| twin::leaf(row)).collect::<Vec<_>>());
        let coefficients = twin::coefficients(&row_root, &shape);
        let values: Vec<_> = data.iter().map(|row| TWIN.combine(row, &coefficients)).collect();
        (rows, BlobHeader { length, row_root, rlc_root: twin::rlc_root(&values), kzg_root })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn encoding_is_that_of_the_twin(payload in vec(any::<u8>(), 1..3000), kzg_root: [u8; 32]) {
            let blob = encode::<Blake3>(&payload, kzg_root.into()).unwrap();
            let (rows, header) = slow(&payload, kzg_root.into());
            prop_assert_eq!(blob.header(), &header);
            prop_assert_eq!(blob.id(), header.id());
            prop_assert_eq!(blob.payload(), payload);
            prop_assert_eq!(blob.rows(blob.shape().all()), rows.concat());
            for (index, row) in blob.shape().all().indices().zip(&rows) {
                prop_assert_eq!(blob.row(index), row);
                prop_assert_eq!(blob.leaves(RowRange::of_row(index)), [twin::leaf(row)]);
            }
        }

        #[test]
        fn pieces_do_not_show(payload in vec(any::<u8>(), 1..70_000), cuts in vec(any::<prop::sample::Index>(), 0..9)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len())).collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let mut encoder = StreamEncoder::<Blake3>::new((payload.len() as u64).try_into().unwrap());
            for cut in cuts.windows(2) {
                prop_assert_eq!(encoder.remaining(), (payload.len() - cut[0]) as u64);
                encoder.push(&payload[cut[0]..cut[1]]).unwrap();
            }
            let whole = encode::<Blake3>(&payload, B256::ZERO).unwrap();
            prop_assert_eq!(encoder.finish(B256::ZERO).unwrap().id(), whole.id());
        }
    }

    #[test]
    fn a_buffer_keeps_nothing_of_an_earlier_blob() {
        let lengths = [1, 63, 64, 65, 1023, 1025, 16_384, 16_385, 65_537, 262_145, (1 << 20) + 1];
        let buffers = RowBuffers::new(usize::MAX);
        for length in lengths {
            let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
            let announced = PayloadLength::try_from(length as u64).unwrap();
            // One of other bytes, one that was given up half-way, and again.
            buffers.take(Shape::of(announced).total_bytes()).fill(0xff);
            let mut given_up = StreamEncoder::<Blake3>::reusing(&buffers, announced);
            let place = given_up.rows.data().as_ptr();
            given_up.push(&vec![0xee; length.div_ceil(2)]).unwrap();
            drop(given_up);
            let fresh = encode::<Blake3>(&payload, B256::ZERO).unwrap();
            for _ in 0..2 {
                let reused = encode_reusing::<Blake3>(&buffers, &payload, B256::ZERO).unwrap();
                let all = reused.shape().all();
                assert_eq!(reused.rows(all).as_ptr(), place, "another buffer");
                assert_eq!(reused.header(), fresh.header());
                assert!(reused.rows(all) == fresh.rows(all));
            }
        }
    }

    #[test]
    fn streams_have_the_announced_length() {
        let mut encoder = StreamEncoder::<Blake3>::new(100.try_into().unwrap());
        assert_eq!(encoder.push(&[1; 101]), Err(EncodeError::Excess { announced: 100 }));
        encoder.push(&[1; 99]).unwrap();
        assert_eq!(encoder.push(&[1; 2]), Err(EncodeError::Excess { announced: 100 }));
        assert_eq!(encoder.remaining(), 1);
        encoder.push(&[1]).unwrap();
        encoder.push(&[]).unwrap();
        assert_eq!(encoder.push(&[1]), Err(EncodeError::Excess { announced: 100 }));
        let blob = encoder.finish(B256::ZERO).unwrap();
        assert_eq!(blob.id(), encode::<Blake3>(&[1; 100], B256::ZERO).unwrap().id());

        let mut encoder = StreamEncoder::<Blake3>::new(100.try_into().unwrap());
        encoder.push(&[1; 99]).unwrap();
        assert_eq!(encoder.finish(B256::ZERO).err(), Some(EncodeError::Short { missing: 1 }));
    }

    #[test]
    fn payloads_have_bounds() {
        let refused = |payload: &[u8]| encode::<Blake3>(payload, B256::ZERO).err();
        assert_eq!(refused(&[]), Some(LengthError::Empty.into()));
        let long = usize::try_from(MAX_PAYLOAD + 1).unwrap();
        assert_eq!(refused(&vec![0; long]), Some(LengthError::TooLong(MAX_PAYLOAD + 1).into()));
    }

    #[test]
    fn rows_share_one_buffer() {
        let blob = encode::<Blake3>(&[7; 5000], B256::ZERO).unwrap();
        let all = blob.rows(blob.shape().all());
        let row = blob.row(RowIndex(3));
        assert_eq!(row.as_ptr(), all[3 * blob.shape().row_bytes()..].as_ptr());
        assert_eq!(blob.payload().as_ptr(), all.as_ptr());
    }
}
