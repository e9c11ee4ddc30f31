//! Every size class at its boundaries, from payload to rows and back from parity alone.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    hash::Blake3,
    merkle::PartialTree,
    reconstruct::RowSet,
    row_proof::BlobContext,
};
use std::sync::Arc;

/// Bytes without a pattern that rows could share.
fn payload(length: usize) -> Vec<u8> {
    let mut state = length as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()[..4].to_vec()
    };
    let mut payload: Vec<u8> = (0..length.div_ceil(4)).flat_map(|_| next()).collect();
    payload.truncate(length);
    payload
}

/// Encodes, and reads back by the range of parity rows that starts at K.
fn round_trip(length: usize) {
    let payload = payload(length);
    let blob: EncodedBlob = encode(&payload, B256::ZERO).unwrap();
    let context: Arc<BlobContext> =
        Arc::new(BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap());
    let k = u32::try_from(blob.shape().data_rows()).unwrap();
    let parity = blob.shape().range(k, k).unwrap();
    let rows = context.check_range(parity, blob.rows(parity), &blob.range_proof(parity)).unwrap();
    let tree = PartialTree::new::<Blake3>(
        blob.shape().total_rows(),
        parity,
        rows.leaves().to_vec(),
        &blob.range_proof(parity),
    )
    .unwrap();
    assert_eq!(tree.root(), blob.header().row_root);
    let mut set = RowSet::new(context);
    set.insert(rows).unwrap();
    assert!(set.payload().unwrap() == payload, "payload of {length} bytes");
}

#[test]
fn classes_up_to_four_mebibytes() {
    const KIB: usize = 1 << 10;
    for boundary in [1, 64, KIB, 16 * KIB, 64 * KIB, 256 * KIB, KIB * KIB, 4 * KIB * KIB] {
        for length in [boundary - 1, boundary, boundary + 1] {
            if length > 0 {
                round_trip(length);
            }
        }
    }
}

/// One after the other: the longest payload needs about 1 GiB.
#[test]
fn large_classes() {
    round_trip((32 << 20) + 1);
    round_trip(128 << 20);
}
