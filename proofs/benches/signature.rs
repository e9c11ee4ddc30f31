//! Signing and recovery: libsecp256k1, which signatures use, beside k256 in pure Rust.

use std::hint::black_box;

use alloy_primitives::{Address, B256, keccak256};
use criterion::{Criterion, criterion_group, criterion_main};
use k256::ecdsa::{RecoveryId, Signature as TwinSignature, SigningKey, VerifyingKey};
use meridian_proofs::signature::{SecretKey, Signature};

const SECRET: [u8; 32] = [7; 32];

fn libsecp256k1(criterion: &mut Criterion) {
    let (Ok(key), digest) = (SecretKey::from_bytes(SECRET), B256::repeat_byte(1)) else { return };
    let bytes = *key.sign(&digest).as_bytes();
    let mut group = criterion.benchmark_group("secp256k1");
    group.bench_function("sign", |bench| bench.iter(|| key.sign(black_box(&digest))));
    group.bench_function("recover", |bench| {
        bench.iter(|| {
            Signature::from_bytes(black_box(&bytes)).and_then(|signature| signature.recover(&digest))
        });
    });
}

fn pure_rust(criterion: &mut Criterion) {
    let (Ok(key), digest) = (SigningKey::from_slice(&SECRET), [1; 32]) else { return };
    let (signature, id) = key.sign_prehash_recoverable(&digest);
    let (bytes, id) = (signature.to_bytes(), id.to_byte());
    let mut group = criterion.benchmark_group("k256");
    group.bench_function("sign", |bench| bench.iter(|| key.sign_prehash_recoverable(black_box(&digest))));
    group.bench_function("recover", |bench| bench.iter(|| recover(black_box(&bytes), id, &digest)));
}

fn recover(bytes: &[u8], id: u8, digest: &[u8]) -> Option<Address> {
    let signature = TwinSignature::from_slice(bytes).ok()?;
    let key = VerifyingKey::recover_from_prehash(digest, &signature, RecoveryId::from_byte(id)?).ok()?;
    Some(Address::from_slice(&keccak256(&key.to_sec1_point(false).as_bytes()[1..])[12..]))
}

criterion_group!(benches, libsecp256k1, pure_rust);
criterion_main!(benches);
