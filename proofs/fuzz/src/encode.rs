//! Payloads on their way in, whole or in pieces, and back out of any K rows.

use super::input::{Input, noise};
use meridian_proofs::{
    encode::{EncodeError, EncodedBlob, StreamEncoder, encode as encode_whole},
    hash::{Blake3, HashProfile},
    reconstruct::{DecodeError, Rebuilt, RowSet},
    row_proof::BlobContext,
    shape::{MAX_PAYLOAD, PayloadLength},
};
use std::sync::Arc;

/// Longest payload that is tried: the second size class.
const LONGEST: u64 = 64 << 10;

/// Announced length u64, KZG root, window start u16, how many times the rest is repeated u16, then the pieces of the
/// payload, each after its length u8.
pub fn encode(data: &[u8]) {
    let mut input = Input(data);
    let announced = input.u64();
    let Ok(length) = PayloadLength::try_from(announced) else {
        return assert!(announced == 0 || announced > MAX_PAYLOAD);
    };
    if announced > LONGEST {
        return;
    }
    let (kzg_root, start, times) = (input.hash(), input.u16(), input.u16());
    let mut pieces = Vec::new();
    while !input.0.is_empty() {
        let bytes = input.byte().into();
        pieces.push(input.take(bytes));
    }

    let mut encoder = StreamEncoder::<Blake3>::new(length);
    let mut payload = Vec::new();
    for piece in (0..=times).flat_map(|_| &pieces).take(usize::from(u16::MAX)) {
        let taken = encoder.push(piece);
        if payload.len() + piece.len() > length.to_usize() {
            assert_eq!(taken, Err(EncodeError::Excess { announced }));
            break;
        }
        assert_eq!(taken, Ok(()));
        payload.extend_from_slice(piece);
        assert_eq!(encoder.remaining(), announced - u64::try_from(payload.len()).unwrap());
    }
    let missing = encoder.remaining();
    match encoder.finish(kzg_root) {
        Ok(blob) => {
            assert_eq!(payload.len(), length.to_usize());
            assert_eq!(blob.id(), encode_whole::<Blake3>(&payload, kzg_root).unwrap().id());
            reads_back(&blob, &payload, start);
        }
        Err(error) => assert!(missing > 0 && error == EncodeError::Short { missing }),
    }
    // Where the pieces leave off, noise goes on, so that most inputs give a blob.
    if missing > 0 {
        payload.extend(noise(missing, missing.try_into().unwrap()));
        reads_back(&encode_whole::<Blake3>(&payload, kzg_root).unwrap(), &payload, start);
    }
}

/// K rows from `start`, around the end of the rows, are enough and give everything back.
fn reads_back<H: HashProfile>(blob: &EncodedBlob<H>, payload: &[u8], start: u16) {
    let shape = blob.shape();
    let rows = blob.rows(shape.all());
    assert!(rows.starts_with(payload) && blob.payload() == payload);
    assert!(rows[payload.len()..shape.data_bytes()].iter().all(|byte| *byte == 0));

    let context = BlobContext::<H>::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap();
    let context = Arc::new(context);
    let mut set = RowSet::new(context.clone());
    let [data_rows, total_rows] =
        [shape.data_rows(), shape.total_rows()].map(|rows| u32::try_from(rows).unwrap());
    let start = u32::from(start) % total_rows;
    let first = data_rows.min(total_rows - start);
    let ranges = [shape.range(start, first), shape.range(0, data_rows - first)];
    for range in ranges.into_iter().flatten() {
        assert!(matches!(set.payload(), Err(DecodeError::NotEnough { .. })));
        set.insert(context.check_range(range, blob.rows(range), &blob.range_proof(range)).unwrap()).unwrap();
    }
    assert_eq!(set.distinct_rows(), shape.data_rows());
    assert!(set.payload().unwrap() == payload, "payload differs");
    let Rebuilt::Consistent(rebuilt) = set.rebuild().unwrap() else { panic!("honest rows are inconsistent") };
    assert!(rebuilt.rows(shape.all()) == rows && rebuilt.id() == blob.id(), "rebuilt blob differs");
}
