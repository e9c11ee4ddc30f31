//! Blob ids that an independent implementation of protocol sections 2 and 3 gives.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use meridian_proofs::{B256, encode::encode, hash::Blake3};
use std::{fs, path::Path};

fn batch(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/testdata/batches");
    fs::read(folder.join(name)).unwrap()
}

fn id(payload: &[u8]) -> (usize, usize, String) {
    let blob = encode::<Blake3>(payload, B256::ZERO).unwrap();
    (blob.shape().data_rows(), blob.shape().row_bytes(), blob.id().to_string())
}

#[test]
fn one_byte() {
    let want = "0x8bbe96c4b7b4da51763b2d9b73bfbcecf806bf207095d4f763e641b78878bb75";
    assert_eq!(id(b"a"), (16, 64, want.into()));
}

#[test]
fn an_op_stack_frame() {
    let want = "0xf114189be91d9a69a925617dc38382d28a8c0fccfcf29827c3529b62a6ff73e4";
    assert_eq!(id(&batch("op-stack-tx3699-0.bin")), (64, 384, want.into()));
}

#[test]
fn a_base_frame() {
    let want = "0xf6a3cc150aa15543f9dc3b8663e7b645eb312c70a62c8287acace02be4da8e44";
    assert_eq!(id(&batch("base-mainnet-tx524451-4.bin")), (256, 448, want.into()));
}
