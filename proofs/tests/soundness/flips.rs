//! Any single bit of a row, a proof, an RLC entry or a header.

use crate::{blob, context, flip, payload, row};
use meridian_proofs::{
    B256,
    encode::EncodedBlob,
    hash::Blake3,
    header::{BlobHeader, HeaderError},
    ids::BlobId,
    merkle::{ProofError, RangeProof, RowProof},
    rlc::RlcVector,
    row_proof::{BlobContext, ContextError, RowError},
    shape::RowRange,
};
use proptest::{prelude::*, sample::Index};

fn flip_hash(hashes: &[B256], bit: usize) -> Vec<B256> {
    flip(&hashes.concat(), bit).chunks(32).map(B256::from_slice).collect()
}

fn refuses_row(blob: &EncodedBlob, context: &BlobContext, index: usize, bit: usize) {
    let row = row(index);
    let refused = context.check_row(row, flip(&blob.row(row), bit).into(), &blob.row_proof(row)).err();
    assert_eq!(refused, Some(RowError::RowRoot), "row {index}, bit {bit}");
}

fn refuses_row_proof(blob: &EncodedBlob, context: &BlobContext, index: usize, bit: usize) {
    let row = row(index);
    let proof = RowProof(flip_hash(&blob.row_proof(row).0, bit));
    let refused = context.check_row(row, blob.row(row), &proof).err();
    assert_eq!(refused, Some(RowError::RowRoot), "proof of row {index}, bit {bit}");
}

fn refuses_range(blob: &EncodedBlob, context: &BlobContext, range: RowRange, bit: usize) {
    let refused =
        context.check_range(range, flip(&blob.rows(range), bit).into(), &blob.range_proof(range)).err();
    assert_eq!(refused, Some(RowError::RowRoot), "{range:?}, bit {bit}");
}

fn refuses_range_proof(blob: &EncodedBlob, context: &BlobContext, range: RowRange, bit: usize) {
    let proof = RangeProof(flip_hash(&blob.range_proof(range).0, bit));
    let refused = context.check_range(range, blob.rows(range), &proof).err();
    assert_eq!(refused, Some(RowError::RowRoot), "proof of {range:?}, bit {bit}");
}

fn refuses_rlc(blob: &EncodedBlob, bit: usize) {
    let rlc = RlcVector::from_bytes(&flip(&blob.rlc().to_bytes(), bit)).unwrap();
    let refused = BlobContext::<Blake3>::new(blob.id(), *blob.header(), rlc).err();
    assert_eq!(refused, Some(ContextError::RlcRoot), "rlc bit {bit}");
}

/// Another codec or a length out of bounds is no header at all; every other flip is the header of another id.
fn refuses_header(blob: &EncodedBlob, bit: usize) {
    match BlobHeader::decode(&flip(&blob.header().encode(), bit)) {
        Ok(header) => {
            assert!(bit >= 8, "the codec is 1");
            assert_ne!(header.id(), blob.id());
            let refused = BlobContext::<Blake3>::new(blob.id(), header, blob.rlc().clone());
            assert_eq!(refused.err(), Some(ContextError::Id { actual: header.id() }), "header bit {bit}");
        }
        Err(HeaderError::Codec(_)) => assert!(bit < 8),
        Err(HeaderError::Length(_)) => assert!((8..72).contains(&bit)),
        Err(error @ HeaderError::Bytes(_)) => panic!("header bit {bit}: {error}"),
    }
}

fn refuses_id(blob: &EncodedBlob, bit: usize) {
    let id = BlobId(B256::from_slice(&flip(blob.id().as_bytes(), bit)));
    let refused = BlobContext::<Blake3>::new(id, *blob.header(), blob.rlc().clone()).err();
    assert_eq!(refused, Some(ContextError::Id { actual: blob.id() }), "id bit {bit}");
}

/// The smallest shape: 64 rows of 64 bytes.
fn smallest() -> EncodedBlob {
    let blob = blob(&payload(1000, 1));
    assert_eq!((blob.shape().data_rows(), blob.shape().row_bytes()), (16, 64));
    blob
}

#[test]
fn every_bit_of_every_row_and_proof() {
    let blob = smallest();
    let context = context(&blob);
    for index in 0..64 {
        context.check_row(row(index), blob.row(row(index)), &blob.row_proof(row(index))).unwrap();
        (0..8 * 64).for_each(|bit| refuses_row(&blob, &context, index, bit));
        (0..6 * 256).for_each(|bit| refuses_row_proof(&blob, &context, index, bit));
    }
}

#[test]
fn every_bit_of_ranges_and_their_proofs() {
    let blob = smallest();
    let context = context(&blob);
    for (start, count) in [(0, 16), (0, 64), (1, 62), (5, 22), (15, 2), (31, 2), (32, 32), (51, 13), (63, 1)]
    {
        let range = blob.shape().range(start, count).unwrap();
        let proof = blob.range_proof(range);
        context.check_range(range, blob.rows(range), &proof).unwrap();
        (0..8 * 64 * count as usize).for_each(|bit| refuses_range(&blob, &context, range, bit));
        (0..256 * proof.0.len()).for_each(|bit| refuses_range_proof(&blob, &context, range, bit));
    }
}

#[test]
fn every_bit_of_header_vector_and_id() {
    let blob = smallest();
    (0..8 * BlobHeader::ENCODED_BYTES).for_each(|bit| refuses_header(&blob, bit));
    (0..16 * 128).for_each(|bit| refuses_rlc(&blob, bit));
    (0..256).for_each(|bit| refuses_id(&blob, bit));
}

#[test]
fn lengths_are_exact() {
    let blob = smallest();
    let context = context(&blob);
    for (start, count) in [(0, 16), (0, 64), (1, 62), (5, 22), (32, 32), (63, 1)] {
        let range = blob.shape().range(start, count).unwrap();
        let (rows, proof) = (blob.rows(range), blob.range_proof(range));
        let want = proof.0.len();
        let longer: Vec<B256> = proof.0.iter().copied().chain([B256::ZERO]).collect();
        let padded: Vec<B256> = [B256::ZERO].into_iter().chain(proof.0.iter().copied()).collect();
        for siblings in [longer, padded, proof.0[..want.saturating_sub(1)].to_vec(), vec![B256::ZERO; 64]] {
            let got = siblings.len();
            let refused = context.check_range(range, rows.clone(), &RangeProof(siblings)).err();
            let error = RowError::Proof(ProofError::Siblings { got, want });
            assert_eq!(refused, (got != want).then_some(error), "{range:?}");
        }
        let want = rows.len();
        for got in [0, 1, want - 64, want - 1, want + 1, want + 64] {
            let mut rows = rows.to_vec();
            rows.resize(got, 0);
            let refused = context.check_range(range, rows.into(), &proof).err();
            assert_eq!(refused, Some(RowError::Bytes { got, want }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bits_of_other_shapes(
        length in prop_oneof![1..16_384_usize, 16_385..65_536_usize, 65_537..300_000_usize],
        seed: u64,
        picks in proptest::collection::vec(any::<[Index; 4]>(), 16),
    ) {
        let blob = blob(&payload(length, seed));
        let context = context(&blob);
        let (total, row_bytes) = (blob.shape().total_rows(), blob.shape().row_bytes());
        for [a, b, c, d] in picks {
            let index = a.index(total);
            refuses_row(&blob, &context, index, c.index(8 * row_bytes));
            refuses_row_proof(&blob, &context, index, d.index(256 * blob.row_proof(row(index)).0.len()));
            let count = 1 + b.index((total - index).min(64));
            let range = blob.shape().range(index.try_into().unwrap(), count.try_into().unwrap()).unwrap();
            refuses_range(&blob, &context, range, c.index(8 * row_bytes * count));
            let siblings = blob.range_proof(range).0.len();
            if siblings > 0 {
                refuses_range_proof(&blob, &context, range, d.index(256 * siblings));
            }
            refuses_rlc(&blob, a.index(128 * blob.rlc().len()));
            refuses_header(&blob, b.index(8 * BlobHeader::ENCODED_BYTES));
            refuses_id(&blob, c.index(256));
        }
    }
}
