//! The published vectors of profile `Blake3`, `testdata/blake3`: written here, by the twin.
//!
//! `REGENERATE=1` writes all of them, which takes the twin some minutes; without it the test computes those of up to
//! 256 data rows again and fails when a file drifts. `tests/blake3_vectors.rs` holds the codec against every file, and
//! `testdata/check.py` computes them from the words of the protocol once more.

use super::{Field, coefficients, leaf, range_proof, rlc_root, root, row, symbols};
use crate::{
    B256,
    header::BlobHeader,
    keccak256,
    shape::{PayloadLength, Shape},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::PathBuf, sync::LazyLock};

static FIELD: LazyLock<Field> = LazyLock::new(Field::new);

/// Lengths whose payloads come from a seed: the ends of every size class, and steps of the row length inside the first.
const LENGTHS: [usize; 24] = [
    1,
    63,
    64,
    65,
    1023,
    1024,
    1025,
    (16 << 10) - 1,
    16 << 10,
    (16 << 10) + 1,
    (64 << 10) - 1,
    64 << 10,
    (64 << 10) + 1,
    (256 << 10) - 1,
    256 << 10,
    (256 << 10) + 1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    4 << 20,
    (4 << 20) + 1,
    32 << 20,
    (32 << 20) + 1,
    128 << 20,
];

/// What rollups posted.
const BATCHES: [&str; 3] = ["op-stack-tx3699-0", "base-mainnet-tx524451-0", "base-mainnet-tx524451-4"];

/// Up to so many data rows the twin takes every sum directly, and every run of the tests does so again.
const ALWAYS: usize = 256;

/// Up to so many data rows the twin takes every sum directly when it writes a file.
const DIRECT: usize = 1024;

/// Symbols of a row that are convolved at a time.
const COLUMNS: usize = 1024;

/// One file: its name, where its payload comes from, and the root it is bound to.
struct Case {
    name: String,
    source: Source,
    kzg_root: B256,
}

/// Where a payload comes from.
enum Source {
    /// As many bytes of BLAKE3's extendable output over a seed that names the length.
    Seed(usize),
    /// A batch.
    File(&'static str),
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let case = |name, source| Self { name, source, kzg_root: B256::ZERO };
        let seeded =
            LENGTHS.into_iter().map(move |length| case(format!("{length:09}"), Source::Seed(length)));
        let batches = BATCHES.into_iter().map(move |name| case(name.to_owned(), Source::File(name)));
        let bound =
            Self { kzg_root: keccak256("kzg root"), ..case("000004096-kzg-root".into(), Source::Seed(4096)) };
        seeded.chain(batches).chain([bound])
    }

    /// Whether every run of the tests computes the file again.
    fn is_small(&self) -> bool {
        match self.source {
            Source::Seed(length) => Shape::of((length as u64).try_into().unwrap()).data_rows() <= ALWAYS,
            Source::File(_) => true,
        }
    }

    /// The payload, and what the file says about it.
    fn payload(&self) -> (Vec<u8>, Value) {
        let (payload, mut described) = match self.source {
            Source::Seed(length) => {
                let seed = format!("meridian v1 vector {length}");
                let mut payload = vec![0; length];
                blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut payload);
                (payload, json!({ "seed": seed }))
            }
            Source::File(name) => {
                let file = format!("integration/testdata/batches/{name}.bin");
                let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
                (fs::read(path).unwrap(), json!({ "file": file }))
            }
        };
        described["length"] = json!(payload.len());
        described["blake3"] = hex(blake3::hash(&payload).as_bytes());
        (payload, described)
    }
}

/// Everything about a blob that a file may show.
struct Blob {
    shape: Shape,
    header: BlobHeader,
    rows: Vec<Vec<u8>>,
    leaves: Vec<B256>,
    coefficients: Vec<[u16; 8]>,
    /// Of all T rows.
    values: Vec<[u16; 8]>,
    /// How the parity rows were computed.
    method: String,
}

/// Row x of the answer is the sum over j of kernel[x ^ j] times row j.
///
/// With halves k0, k1 of the kernel and d0, d1 of the rows, the halves of the answer are k0 d0 + k1 d1 and
/// k1 d0 + k0 d1: that is k0 (d0 + d1) + (k0 + k1) d1 and k0 (d0 + d1) + (k0 + k1) d0.
fn convolve(kernel: &[u16], rows: &[Vec<u16>]) -> Vec<Vec<u16>> {
    if let ([factor], [row]) = (kernel, rows) {
        return vec![row.iter().map(|symbol| FIELD.mul(*symbol, *factor)).collect()];
    }
    let add = |a: &[u16], b: &[u16]| -> Vec<u16> { a.iter().zip(b).map(|(a, b)| a ^ b).collect() };
    let add_rows = |a: &[Vec<u16>], b: &[Vec<u16>]| -> Vec<Vec<u16>> {
        a.iter().zip(b).map(|(a, b)| add(a, b)).collect()
    };
    let (k0, k1) = kernel.split_at(kernel.len() / 2);
    let (d0, d1) = rows.split_at(rows.len() / 2);
    let both = convolve(k0, &add_rows(d0, d1));
    let sums = add(k0, k1);
    [add_rows(&both, &convolve(&sums, d1)), add_rows(&both, &convolve(&sums, d0))].concat()
}

/// All parity rows, by convolution: the factor of a data row in a parity row depends on the exclusive or of their
/// points alone, so the factors of the first row of each K parity rows are those of all.
fn convolved(data: &[Vec<u16>]) -> Vec<Vec<u16>> {
    let (k, width) = (data.len(), data[0].len());
    let mut parity = vec![Vec::with_capacity(width); 3 * k];
    let kernels = FIELD.parity_factors(k, &[0, k, 2 * k]);
    for start in (0..width).step_by(COLUMNS) {
        let columns = start..width.min(start + COLUMNS);
        let strip: Vec<Vec<u16>> = data.iter().map(|row| row[columns.clone()].to_vec()).collect();
        let parts = kernels.iter().flat_map(|kernel| convolve(kernel, &strip));
        for (row, part) in parity.iter_mut().zip(parts) {
            row.extend(part);
        }
    }
    parity
}

/// The T rows, and how they came about.
fn extend(data: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, String) {
    let k = data.len();
    if k <= DIRECT {
        return (FIELD.extend(&data), "every parity row by Lagrange's formula".into());
    }
    let given: Vec<Vec<u16>> = data.iter().map(|row| symbols(row)).collect();
    let parity = convolved(&given);
    let sample = [0, 1, k - 1, k, 2 * k + k / 3, 3 * k - 1];
    let want = FIELD.parity_rows(&given, &sample);
    assert!(sample.iter().zip(want).all(|(at, want)| parity[*at] == want), "convolution and sums differ");
    drop(given);
    let rows = data.into_iter().chain(parity.into_iter().map(|symbols| row(&symbols))).collect();
    (rows, format!("parity rows by convolution, of which {sample:?} also by Lagrange's formula"))
}

fn encode(payload: &[u8], kzg_root: B256) -> Blob {
    let length = PayloadLength::try_from(payload.len() as u64).unwrap();
    let shape = Shape::of(length);
    let mut data = payload.to_vec();
    data.resize(shape.data_bytes(), 0);
    let data: Vec<Vec<u8>> = data.chunks(shape.row_bytes()).map(<[u8]>::to_vec).collect();
    let (rows, method) = extend(data);
    let leaves: Vec<B256> = rows.iter().map(|row| leaf(row)).collect();
    let row_root = root(&leaves);
    let coefficients = coefficients(&row_root, &shape);
    let data = &rows[..shape.data_rows()];
    let combined: Vec<[u16; 8]> = data.iter().map(|row| FIELD.combine(row, &coefficients)).collect();
    let header = BlobHeader { length, row_root, rlc_root: rlc_root(&combined), kzg_root };
    let packed: Vec<Vec<u16>> = combined.iter().map(|value| [value.as_slice(), &[0; 24]].concat()).collect();
    let added = convolved(&packed).into_iter().map(|symbols| symbols[..8].try_into().unwrap());
    let values = combined.iter().copied().chain(added).collect();
    Blob { shape, header, rows, leaves, coefficients, values, method }
}

fn hex(bytes: &[u8]) -> Value {
    json!(format!("0x{}", hex::encode(bytes)))
}

fn hashes(hashes: &[B256]) -> Value {
    hashes.iter().map(|hash| hex(hash.as_slice())).collect()
}

/// abi.encode(header).
fn abi(header: &BlobHeader) -> Vec<u8> {
    let integer = |value: u64| [[0; 24].as_slice(), &value.to_be_bytes()].concat();
    let roots = [header.row_root, header.rlc_root, header.kzg_root].concat();
    [integer(1), integer(header.length.get()), roots].concat()
}

/// Some values of a list, with their indices.
fn values(of: &[[u16; 8]], at: &[usize]) -> Value {
    let bytes = |i: usize| of[i].iter().flat_map(|limb| limb.to_le_bytes()).collect::<Vec<_>>();
    at.iter().map(|i| json!({ "index": i, "value": hex(&bytes(*i)) })).collect()
}

/// What the file of a case says.
fn file(case: &Case) -> String {
    let (payload, described) = case.payload();
    let blob = encode(&payload, case.kzg_root);
    let (k, t, w) = (blob.shape.data_rows(), blob.shape.total_rows(), blob.shape.row_bytes());
    let last = (payload.len() - 1) / w;
    let shown: BTreeSet<usize> = [0, 1, last, k - 1, k, 2 * k, 3 * k + 1, t - 1].into();
    let rows: Value = shown
        .iter()
        .map(|i| {
            let proof = hashes(&range_proof(&blob.leaves, *i, i + 1));
            json!({ "index": i, "firstBlock": hex(&blob.rows[*i][..64]), "leaf": hex(blob.leaves[*i].as_slice()), "proof": proof })
        })
        .collect();
    let ranges: Value = [(k - 1, 2), (3, k + 2), (4 * t / 5, k), (t - 1, 2)]
        .iter()
        .map(|(start, count)| {
            let end = start + count;
            let parts = if end <= t { vec![(*start, end)] } else { vec![(*start, t), (0, end - t)] };
            let proofs: Value =
                parts.iter().map(|(start, end)| hashes(&range_proof(&blob.leaves, *start, *end))).collect();
            json!({ "start": start, "count": count, "proofs": proofs })
        })
        .collect();

    let vector = json!({
        "writtenBy": format!("the slow twin of the codec: {}", blob.method),
        "payload": described,
        "shape": { "k": k, "n": t - k, "t": t, "w": w },
        "header": {
            "codec": 1,
            "length": blob.header.length.get(),
            "rowRoot": hex(blob.header.row_root.as_slice()),
            "rlcRoot": hex(blob.header.rlc_root.as_slice()),
            "kzgRoot": hex(blob.header.kzg_root.as_slice()),
        },
        "encodedHeader": hex(&abi(&blob.header)),
        "blobId": hex(keccak256(abi(&blob.header)).as_slice()),
        "coefficients": values(&blob.coefficients, &[0, 1, 2, w / 2 - 1]),
        "rlc": values(&blob.values, &[0, 1, k - 1, k, 2 * k, t - 1]),
        "rows": rows,
        "ranges": ranges,
    });
    serde_json::to_string_pretty(&vector).unwrap() + "\n"
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/blake3")
}

#[test]
fn files_are_what_the_twin_gives() {
    let write = std::env::var_os("REGENERATE").is_some();
    for case in Case::all() {
        let path = folder().join(&case.name).with_extension("json");
        if write {
            fs::write(&path, file(&case)).unwrap();
        } else if case.is_small() {
            let have = fs::read_to_string(&path).unwrap();
            assert!(have == file(&case), "{} drifted: run with REGENERATE=1", path.display());
        }
    }
    let named: BTreeSet<_> = Case::all().map(|case| format!("{}.json", case.name).into()).collect();
    let found: BTreeSet<_> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(found, named);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolution_gives_the_sums(data in (0_u32..7, 1_usize..9).prop_flat_map(|(log, width)| {
        vec(vec(any::<u16>(), width), 1 << log)
    })) {
        let all: Vec<usize> = (0..3 * data.len()).collect();
        prop_assert_eq!(convolved(&data), FIELD.parity_rows(&data, &all));
    }
}
