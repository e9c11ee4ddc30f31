//! The published vectors of profile `Blake3`: the codec against every file of `testdata/blake3`, which its slow twin
//! wrote, and the independent program `testdata/check.py` against the same files.
//!
//! `REGENERATE=1` rewrites the table of ids in `docs/protocol.md`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    field::{Gf128, mul},
    hash::{Blake3, HashProfile},
    row_proof::BlobContext,
    shape::{RowIndex, RowRange},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files, the shortest payload first.
fn vectors() -> Vec<(String, Value)> {
    let read = |entry: fs::DirEntry| {
        let vector = serde_json::from_str(&fs::read_to_string(entry.path()).unwrap()).unwrap();
        (entry.file_name().into_string().unwrap(), vector)
    };
    let mut vectors: Vec<(String, Value)> = fs::read_dir(root().join("proofs/testdata/blake3"))
        .unwrap()
        .map(|entry| read(entry.unwrap()))
        .collect();
    vectors.sort_by_key(|(name, vector)| (vector["payload"]["length"].as_u64(), name.clone()));
    vectors
}

fn hex(bytes: &[u8]) -> Value {
    json!(format!("0x{}", hex::encode(bytes)))
}

fn hashes(hashes: &[B256]) -> Value {
    hashes.iter().map(|hash| hex(hash.as_slice())).collect()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn payload(source: &Value) -> Vec<u8> {
    if let Some(file) = source["file"].as_str() {
        return fs::read(root().join(file)).unwrap();
    }
    let mut payload = vec![0; number(&source["length"])];
    blake3::Hasher::new()
        .update(source["seed"].as_str().unwrap().as_bytes())
        .finalize_xof()
        .fill(&mut payload);
    payload
}

/// The combination of a row by its definition.
fn combination(row: &[u8], coefficients: &[Gf128]) -> Gf128 {
    let mut sum = Gf128::default();
    for (s, coefficient) in coefficients.iter().enumerate() {
        let at = 64 * (s / 32) + s % 32;
        let symbol = u16::from_le_bytes([row[at], row[at + 32]]);
        for (sum, limb) in sum.0.iter_mut().zip(coefficient.0) {
            *sum ^= mul(symbol, limb);
        }
    }
    sum
}

fn check(name: &str, vector: &Value) {
    let payload = payload(&vector["payload"]);
    assert_eq!(vector["payload"]["length"], json!(payload.len()), "{name}");
    assert_eq!(vector["payload"]["blake3"], hex(blake3::hash(&payload).as_bytes()), "{name}");
    let kzg_root: B256 = vector["header"]["kzgRoot"].as_str().unwrap().parse().unwrap();
    let blob: EncodedBlob = encode(&payload, kzg_root).unwrap();
    drop(payload);
    let (header, shape) = (*blob.header(), blob.shape());
    let (k, t, w) = (shape.data_rows(), shape.total_rows(), shape.row_bytes());
    assert_eq!(vector["shape"], json!({ "k": k, "n": shape.parity_rows(), "t": t, "w": w }), "{name}");
    let fields = json!({
        "codec": 1,
        "length": header.length.get(),
        "rowRoot": hex(header.row_root.as_slice()),
        "rlcRoot": hex(header.rlc_root.as_slice()),
        "kzgRoot": hex(header.kzg_root.as_slice()),
    });
    assert_eq!(vector["header"], fields, "{name}");
    assert_eq!(vector["blobId"], hex(blob.id().as_bytes()), "{name}");

    let coefficients = Blake3::coefficients(&header.row_root, &shape);
    for entry in list(&vector["coefficients"]) {
        assert_eq!(entry["value"], hex(&coefficients[number(&entry["index"])].to_bytes()), "{name}");
    }
    let row = |entry: &Value| RowIndex(u32::try_from(number(&entry["index"])).unwrap());
    for entry in list(&vector["rlc"]) {
        assert_eq!(
            entry["value"],
            hex(&combination(&blob.row(row(entry)), &coefficients).to_bytes()),
            "{name}"
        );
        if let Some(value) = blob.rlc().values().get(number(&entry["index"])) {
            assert_eq!(entry["value"], hex(&value.to_bytes()), "{name}");
        }
    }
    let context: BlobContext = BlobContext::new(blob.id(), header, blob.rlc().clone()).unwrap();
    for entry in list(&vector["rows"]) {
        let index = row(entry);
        let (bytes, proof) = (blob.row(index), blob.row_proof(index));
        assert_eq!(entry["firstBlock"], hex(&bytes[..64]), "{name}");
        assert_eq!(entry["leaf"], hashes(&blob.leaves(RowRange::of_row(index)))[0], "{name}");
        assert_eq!(entry["proof"], hashes(&proof.0), "{name}");
        context.check_row(index, bytes, &proof).unwrap();
    }
    for entry in list(&vector["ranges"]) {
        let (start, end) = (number(&entry["start"]), number(&entry["start"]) + number(&entry["count"]));
        let parts = if end <= t { vec![(start, end)] } else { vec![(start, t), (0, end - t)] };
        assert_eq!(list(&entry["proofs"]).len(), parts.len(), "{name}");
        for ((start, end), proof) in parts.into_iter().zip(list(&entry["proofs"])) {
            let (start, count) = (u32::try_from(start).unwrap(), u32::try_from(end - start).unwrap());
            let range = shape.range(start, count).unwrap();
            assert_eq!(proof, &hashes(&blob.range_proof(range).0), "{name}");
            context.check_range(range, blob.rows(range), &blob.range_proof(range)).unwrap();
        }
    }
}

#[test]
fn the_codec_gives_what_every_file_says() {
    let vectors = vectors();
    assert!(vectors.len() > 20);
    for (name, vector) in vectors {
        check(&name, &vector);
    }
}

#[test]
fn the_protocol_page_shows_the_ids() {
    let mut table = String::from("| payload | bytes | K, W | blob id |\n|---|---|---|---|\n");
    for (name, vector) in vectors() {
        let (length, shape) = (&vector["payload"]["length"], &vector["shape"]);
        let id = vector["blobId"].as_str().unwrap();
        let name = name.trim_end_matches(".json");
        table += &format!("| `{name}` | {length} | {}, {} | {id} |\n", shape["k"], shape["w"]);
    }
    let path = root().join("docs/protocol.md");
    let (begin, end) = ("<!-- blobs: begin -->\n", "<!-- blobs: end -->");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(&path, [before, begin, &table, end, after].concat()).unwrap();
    } else {
        assert!(shown == table, "docs/protocol.md drifted: run with REGENERATE=1");
    }
}

/// A Python that has the package `blake3`: that of `MERIDIAN_PYTHON`, the one that `.ci/deps` prepares, or the system's.
fn python() -> Result<PathBuf, String> {
    let prepared = std::env::home_dir().map(|home| home.join(".cache/meridian/python/bin/python3"));
    let candidates = std::env::var_os("MERIDIAN_PYTHON").map(PathBuf::from).into_iter().chain(prepared);
    let mut reasons = Vec::new();
    for python in candidates.chain([PathBuf::from("python3")]) {
        match Command::new(&python).args(["-c", "import blake3"]).output() {
            Ok(output) if output.status.success() => return Ok(python),
            Ok(_) => reasons.push(format!("{} lacks the package blake3", python.display())),
            Err(error) => reasons.push(format!("{}: {error}", python.display())),
        }
    }
    Err(reasons.join(", "))
}

#[test]
fn an_independent_program_gives_the_same() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            // Past the capture of output: whoever runs the tests should see it.
            writeln!(std::io::stderr(), "skipped check.py: {reason} (.ci/deps prepares one)").unwrap();
            return;
        }
    };
    let output = Command::new(python).arg(root().join("proofs/testdata/check.py")).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    for (_, vector) in vectors().iter().filter(|(_, vector)| number(&vector["payload"]["length"]) <= 1 << 20)
    {
        assert!(out.contains(vector["blobId"].as_str().unwrap()), "{out}{err}");
    }
}
