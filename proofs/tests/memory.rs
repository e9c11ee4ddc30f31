//! Encoding takes the memory of the rows it makes and little beside: every byte of the heap is counted.
#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a test may stop")]

#[path = "../benches/compare/heap.rs"]
mod heap;

use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    hash::{Blake3, HashProfile, Sha256},
    shape::{PayloadLength, Shape},
};
use rayon::ThreadPoolBuilder;

/// Bytes of a row's leaf and of the node above it.
const TREE_BYTES: usize = 64;

/// Working space that a thread keeps from its first blob on, at most.
const THREAD_BYTES: usize = 1 << 20;

/// Coefficients of a blob and their tables, at most, where they count beside short rows.
const TABLE_BYTES: usize = 64 << 10;

/// Encodes in a pool whose first thread has its working space, and checks what that takes.
fn check<H: HashProfile>(length: usize, threads: usize) {
    let payload: Vec<u8> = (0..length).map(|i| (i * 31 + i / 257).to_le_bytes()[0]).collect();
    let blob = || -> EncodedBlob<H> { encode(&payload, B256::ZERO).unwrap() };
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (blob, peak) = pool.install(|| {
        drop(blob());
        heap::peak(blob)
    });
    let shape = Shape::of(PayloadLength::try_from(length as u64).unwrap());
    let (rows, tree) = (shape.total_bytes(), shape.total_rows() * TREE_BYTES);
    // Rows of half a KiB are so short that their tree alone is more than a tenth of them.
    let beside = if shape.row_bytes() < 1024 { tree + TABLE_BYTES } else { rows / 10 };
    let most = rows + beside + (threads - 1) * THREAD_BYTES;
    assert!((rows..=most).contains(&peak), "{length} bytes, {threads} threads: {peak} of {rows} to {most}");
    assert_eq!(blob.payload(), payload);
}

#[test]
fn encoding_takes_the_rows_and_a_tenth() {
    for length in [24_506, 130_044, 1 << 20, 8 << 20] {
        for threads in [1, 2] {
            check::<Blake3>(length, threads);
            check::<Sha256>(length, threads);
        }
    }
}
