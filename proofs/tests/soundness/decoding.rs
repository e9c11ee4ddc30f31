//! Which rows decode, to what, and when a blob is malformed for everybody.

use crate::{blob, context, payload, row, set, window};
use meridian_proofs::{
    encode::EncodedBlob,
    header::BlobHeader,
    reconstruct::{DecodeError, Rebuilt, RowSet},
    row_proof::{BlobContext, VerifiedRange},
};
use proptest::{prelude::*, sample::subsequence};
use std::sync::Arc;

/// Lengths of one shape each: K = 16, 64 and 256.
const LENGTHS: [usize; 3] = [1000, 20_000, 70_000];

fn rows(
    blob: &EncodedBlob,
    context: &BlobContext,
    indices: impl IntoIterator<Item = usize>,
) -> Vec<VerifiedRange> {
    indices.into_iter().flat_map(|index| window(blob, context, index, 1)).collect()
}

fn refuses(set: &RowSet, have: usize, need: usize) {
    assert_eq!((set.distinct_rows(), set.missing_for_decode()), (have, need - have));
    assert!(!set.is_decodable());
    let want = DecodeError::NotEnough { have, need };
    assert_eq!(set.payload(), Err(want));
    assert_eq!(set.rebuild().err(), Some(want));
}

#[test]
fn one_row_less_than_k_never_decodes() {
    for length in &LENGTHS[..2] {
        let payload = payload(*length, 2);
        let blob = blob(&payload);
        let context = context(&blob);
        let (k, total) = (blob.shape().data_rows(), blob.shape().total_rows());
        refuses(&set(&context, []), 0, k);
        for start in 0..total {
            let mut set = set(&context, window(&blob, &context, start, k - 1));
            refuses(&set, k - 1, k);
            // The same rows once more, together and one by one, are no further rows.
            for range in window(&blob, &context, start, k - 1) {
                set.insert(range).unwrap();
            }
            set.insert(window(&blob, &context, (start + k / 2) % total, 1).remove(0)).unwrap();
            refuses(&set, k - 1, k);
            set.insert(window(&blob, &context, (start + k - 1) % total, 1).remove(0)).unwrap();
            assert!(set.payload().unwrap() == payload);
        }
    }
}

#[test]
fn every_window_of_the_ring_decodes_to_the_payload() {
    for (length, step) in LENGTHS.into_iter().zip([1, 1, 37]) {
        let payload = payload(length, 3);
        let blob = blob(&payload);
        let context = context(&blob);
        let (k, total) = (blob.shape().data_rows(), blob.shape().total_rows());
        for start in (0..total).step_by(step) {
            let set = set(&context, window(&blob, &context, start, k));
            assert!(set.payload().unwrap() == payload, "{k} rows from {start}");
        }
    }
}

#[test]
fn halves_from_anywhere_decode_to_the_payload() {
    let payload = payload(LENGTHS[0], 4);
    let blob = blob(&payload);
    let context = context(&blob);
    let (k, total) = (blob.shape().data_rows(), blob.shape().total_rows());
    for (a, b) in (0..total).flat_map(|a| (0..total).map(move |b| (a, b))) {
        let halves = [a, b].into_iter().flat_map(|start| window(&blob, &context, start, k / 2));
        let set = set(&context, halves);
        let apart = (b + total - a) % total;
        if (k / 2..=total - k / 2).contains(&apart) {
            assert!(set.payload().unwrap() == payload, "half from {a}, half from {b}");
        } else {
            refuses(&set, k / 2 + apart.min(total - apart), k);
        }
    }
}

#[test]
fn rows_far_apart_decode_to_the_payload() {
    for length in &LENGTHS[..2] {
        let payload = payload(*length, 5);
        let blob = blob(&payload);
        let context = context(&blob);
        let (k, total) = (blob.shape().data_rows(), blob.shape().total_rows());
        for stride in (1..total).step_by(2) {
            let indices = (0..k).map(|i| (7 + i * stride) % total);
            let set = set(&context, rows(&blob, &context, indices));
            assert!(set.payload().unwrap() == payload, "every row {stride} after the one before");
        }
    }
}

fn any_subset() -> impl Strategy<Value = (usize, Vec<usize>)> {
    prop_oneof![Just((1000, 16)), Just((20_000, 64)), Just((70_000, 256)), Just((300_000, 1024))]
        .prop_flat_map(|(length, k)| {
            let subset = subsequence((0..4 * k).collect::<Vec<_>>(), k).prop_shuffle();
            (Just(length), subset)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_k_rows_decode_to_the_payload_and_one_less_to_nothing((length, subset) in any_subset(), seed: u64) {
        let payload = payload(length, seed);
        let blob = blob(&payload);
        let context = context(&blob);
        let mut rows = rows(&blob, &context, subset.iter().copied());
        let last = rows.pop().unwrap();
        let mut set = set(&context, rows);
        refuses(&set, subset.len() - 1, subset.len());
        set.insert(last).unwrap();
        prop_assert!(set.payload().unwrap() == payload);
        match set.rebuild().unwrap() {
            Rebuilt::Consistent(rebuilt) => prop_assert_eq!(rebuilt.id(), blob.id()),
            Rebuilt::Inconsistent => prop_assert!(false, "an honest blob is consistent"),
        }
    }

    #[test]
    fn any_padding_that_is_not_zero_is_malformed(
        at in 0..4095_usize, byte in 1..=u8::MAX, start in 0..256_usize,
    ) {
        let (blob, context) = padded(16_385, &[(16_385 + at, byte)]);
        let set = set(&context, window(&blob, &context, start, 64));
        prop_assert_eq!(set.payload(), Err(DecodeError::Malformed));
    }
}

/// An encoder that commits honestly to data rows whose padding it chooses, under the header of a shorter payload.
fn padded(length: usize, padding: &[(usize, u8)]) -> (EncodedBlob, Arc<BlobContext>) {
    let header = |length: usize| (length as u64).try_into().unwrap();
    let shape = meridian_proofs::shape::Shape::of(header(length));
    let mut data = payload(length, 6);
    data.resize(shape.data_bytes(), 0);
    for (at, byte) in padding {
        data[*at] = *byte;
    }
    let blob = blob(&data);
    assert_eq!(blob.shape(), shape);
    let header = BlobHeader { length: header(length), ..*blob.header() };
    let context = Arc::new(BlobContext::new(header.id(), header, blob.rlc().clone()).unwrap());
    (blob, context)
}

/// Readers of data rows, of parity, of the wrapped end, of rows from everywhere.
fn readers(blob: &EncodedBlob, context: &Arc<BlobContext>) -> [RowSet; 5] {
    let (k, total) = (blob.shape().data_rows(), blob.shape().total_rows());
    [
        set(context, window(blob, context, 0, k)),
        set(context, window(blob, context, k, k)),
        set(context, window(blob, context, total - k / 2, k)),
        set(context, rows(blob, context, (0..k).map(|i| 4 * i + 1))),
        set(context, window(blob, context, 0, total)),
    ]
}

#[test]
fn padding_is_zero_or_the_blob_is_malformed_for_every_reader() {
    // A payload of one byte; an end inside a row, at the end of a row, one byte before the end of all.
    for (length, w) in [
        (1, 64),
        (1000, 64),
        (960, 64),
        (1023, 64),
        (16_385, 320),
        (16_640, 320),
        (20_479, 320),
        (70_000, 320),
    ] {
        let (blob, context) = padded(length, &[]);
        assert_eq!(blob.shape().row_bytes(), w);
        for reader in readers(&blob, &context) {
            assert!(reader.payload().unwrap() == payload(length, 6));
        }
        let end = blob.shape().data_bytes();
        let next_row = length.next_multiple_of(w);
        let places = [
            length,
            length + 1,
            next_row - 1,
            next_row,
            next_row + w / 2,
            next_row + w - 1,
            next_row + w,
            end - w - 1,
            end - w,
            end - 2,
            end - 1,
        ];
        for place in places.into_iter().filter(|place| (length..end).contains(place)) {
            for byte in [1, 0x80, 0xFF] {
                let (blob, context) = padded(length, &[(place, byte)]);
                for reader in readers(&blob, &context) {
                    assert_eq!(reader.payload(), Err(DecodeError::Malformed), "byte {place} of {length}");
                    // Its rows are of one codeword all the same, and are kept and served like any other's.
                    assert!(matches!(reader.rebuild().unwrap(), Rebuilt::Consistent(_)));
                }
            }
        }
        // Bytes that would cancel in a sum do not cancel.
        if end - length >= 2 {
            let (blob, context) = padded(length, &[(length, 0x80), (end - 1, 0x80)]);
            for reader in readers(&blob, &context) {
                assert_eq!(reader.payload(), Err(DecodeError::Malformed));
            }
        }
    }
}

#[test]
fn every_byte_and_bit_of_padding_counts() {
    for length in [1, 1000] {
        for (place, bit) in (length..1024).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            if length == 1 && bit != place % 8 {
                continue; // one bit of each byte is enough here
            }
            let (blob, context) = padded(length, &[(place, 1 << bit)]);
            let set = set(&context, window(&blob, &context, place % 64, 16));
            assert_eq!(set.payload(), Err(DecodeError::Malformed), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn rows_of_another_blob_are_no_rows() {
    let (ours, other) = (blob(&payload(1000, 7)), blob(&payload(1000, 8)));
    let (our_context, other_context) = (context(&ours), context(&other));
    let mut set = set(&our_context, window(&ours, &our_context, 20, 15));
    for range in window(&other, &other_context, 40, 16) {
        assert_eq!(set.insert(range).unwrap_err().0, other.id());
    }
    refuses(&set, 15, 16);
    let index = row(40);
    let refused = our_context.check_row(index, other.row(index), &other.row_proof(index));
    assert!(refused.is_err());
}
