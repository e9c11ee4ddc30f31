//! Single functions of the codec, each by itself; what they are compared with is in the other benchmark, `compare`.
#![allow(clippy::expect_used, missing_docs, reason = "a bench may stop")]

use std::{fs, path::Path, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meridian_proofs::{
    B256,
    buffers::RowBuffers,
    codeword::extend,
    encode::{EncodedBlob, encode, encode_reusing},
    hash::{Blake3, HashProfile, Sha256},
    reconstruct::RowSet,
    row_proof::BlobContext,
    shape::RowIndex,
};

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

fn profile<H: HashProfile>(criterion: &mut Criterion, group: &str) {
    for (name, payload) in payloads() {
        let blob: EncodedBlob<H> = encode(&payload, B256::ZERO).expect("payload in bounds");
        let shape = blob.shape();
        let context: Arc<BlobContext<H>> =
            Arc::new(BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).expect("own header"));
        let k = u32::try_from(shape.data_rows()).expect("rows");
        let parity = shape.range(k, k).expect("parity rows");
        let (rows, proof) = (blob.rows(parity), blob.range_proof(parity));
        let (row, row_proof) = (blob.row(RowIndex(k)), blob.row_proof(RowIndex(k)));
        let mut set = RowSet::new(context.clone());
        set.insert(context.check_range(parity, rows.clone(), &proof).expect("own rows")).expect("own blob");
        let buffers = RowBuffers::new(usize::MAX);
        let mut all = blob.rows(shape.all()).to_vec();

        let mut group = criterion.benchmark_group(group);
        let id = |what| BenchmarkId::new(what, &name);
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(id("encode"), |b| {
            b.iter(|| encode_reusing::<H>(&buffers, &payload, B256::ZERO));
        });
        group.bench_function(id("extend"), |b| b.iter(|| extend(&shape, &mut all)));
        group.bench_function(id("leaves"), |b| b.iter(|| H::row_leaves(&all, shape.row_bytes())));
        group.bench_function(id("coefficients"), |b| {
            b.iter(|| H::coefficients(&blob.header().row_root, &shape));
        });
        group.bench_function(id("context"), |b| {
            b.iter(|| BlobContext::<H>::new(blob.id(), *blob.header(), blob.rlc().clone()));
        });
        group.bench_function(id("payload_from_parity"), |b| b.iter(|| set.payload()));
        group.bench_function(id("rebuild_from_parity"), |b| b.iter(|| set.rebuild()));
        group.throughput(Throughput::Bytes(rows.len() as u64));
        group.bench_function(id("check_interval"), |b| {
            b.iter(|| context.check_range(parity, rows.clone(), &proof));
        });
        group.throughput(Throughput::Bytes(row.len() as u64));
        group.bench_function(id("check_row"), |b| {
            b.iter(|| context.check_row(RowIndex(k), row.clone(), &row_proof));
        });
        group.finish();
    }
}

fn codec(criterion: &mut Criterion) {
    profile::<Blake3>(criterion, "blake3");
    profile::<Sha256>(criterion, "sha256");
}

criterion_group!(benches, codec);
criterion_main!(benches);
