//! Encode, check and decode, beside the floor of what any implementation of this codec must do.
#![allow(clippy::expect_used, missing_docs, reason = "a bench may stop")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    hash::{Blake3, HashProfile},
    reconstruct::RowSet,
    row_proof::BlobContext,
    shape::RowIndex,
};
use reed_solomon_simd::{
    engine::DefaultEngine,
    rate::{HighRateEncoder, RateEncoder},
};
use std::{fs, hint::black_box, path::Path, sync::Arc};

fn payloads() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/testdata/batches");
    let batch = |name: &str| fs::read(folder.join(name)).expect("batch of the test data");
    let frame = batch("base-mainnet-tx524451-0.bin");
    let repeated = |length: usize| frame.iter().copied().cycle().take(length).collect();
    vec![
        ("24KB".into(), batch("op-stack-tx3699-0.bin")),
        ("130KB".into(), frame.clone()),
        ("1MiB".into(), repeated(1 << 20)),
        ("8MiB".into(), repeated(8 << 20)),
    ]
}

/// Reed-Solomon in column stripes with a reused encoder, and a leaf for each row: no tree, no combination, no output.
fn floor(blob: &EncodedBlob) {
    let shape = blob.shape();
    let (k, n, w) = (shape.data_rows(), shape.parity_rows(), shape.row_bytes());
    let rows = blob.rows(shape.all());
    let stripe = w.min(512);
    let mut encoder = HighRateEncoder::new(k, n, stripe, DefaultEngine::new(), None).expect("shape");
    for start in (0..w).step_by(stripe) {
        let end = w.min(start + stripe);
        encoder.reset(k, n, end - start).expect("shape");
        for row in rows.chunks_exact(w).take(k) {
            encoder.add_original_shard(&row[start..end]).expect("row");
        }
        black_box(encoder.encode().expect("rows").recovery(0));
    }
    for row in rows.chunks_exact(w) {
        black_box(Blake3::row_leaf(row));
    }
}

fn codec(criterion: &mut Criterion) {
    for (name, payload) in payloads() {
        let blob: EncodedBlob = encode(&payload, B256::ZERO).expect("payload in bounds");
        let context: Arc<BlobContext> =
            Arc::new(BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).expect("own header"));
        let k = u32::try_from(blob.shape().data_rows()).expect("rows");
        let parity = blob.shape().range(k, k).expect("parity rows");
        let (rows, proof) = (blob.rows(parity), blob.range_proof(parity));
        let (row, row_proof) = (blob.row(RowIndex(k)), blob.row_proof(RowIndex(k)));
        let mut set = RowSet::new(context.clone());
        set.insert(context.check_range(parity, rows.clone(), &proof).expect("own rows")).expect("own blob");

        let mut group = criterion.benchmark_group("codec");
        let id = |what| BenchmarkId::new(what, &name);
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(id("floor"), |b| b.iter(|| floor(&blob)));
        group.bench_function(id("encode"), |b| b.iter(|| encode::<Blake3>(&payload, B256::ZERO)));
        group.bench_function(id("context"), |b| {
            b.iter(|| BlobContext::<Blake3>::new(blob.id(), *blob.header(), blob.rlc().clone()));
        });
        group.bench_function(id("decode_from_parity"), |b| b.iter(|| set.payload()));
        group.throughput(Throughput::Bytes(rows.len() as u64));
        group.bench_function(id("check_range_of_k"), |b| {
            b.iter(|| context.check_range(parity, rows.clone(), &proof));
        });
        group.throughput(Throughput::Bytes(row.len() as u64));
        group.bench_function(id("check_row"), |b| {
            b.iter(|| context.check_row(RowIndex(k), row.clone(), &row_proof));
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
