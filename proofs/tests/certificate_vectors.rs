//! The published vectors of entry leaf, digests of what is signed, and certificate.
//!
//! `REGENERATE=1` rewrites `testdata/certificate.json` and the table in `docs/protocol.md`; without it the test fails
//! when either of them drifts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, path::PathBuf};

use meridian_proofs::{
    Address, B256,
    authorization::{Authorization, SignedAuthorization},
    certificate::Certificate,
    checkpoint::{Checkpoint, CosignedCheckpoint, Dispersal, SignedCheckpoint},
    committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat},
    encode::encode,
    hash::Blake3,
    ids::{Namespace, PayloadHash},
    keccak256,
    log::{CompactRange, LogEntry, NodeSource, inclusion_proof},
    signature::SecretKey,
};
use serde_json::{Value, json};

const TIME: u64 = 1_800_000_000;
const RETENTION: u64 = 1_209_600;

fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(keccak256(name).0).unwrap()
}

fn committee() -> Committee {
    Committee::new(CommitteeParts {
        chain_id: 31337,
        verifying_contract: Address::repeat_byte(0x11),
        epoch: 1,
        min_copies: 1,
        min_retention: 3600,
        max_retention: RETENTION,
        regions: vec![Region { id: RegionId(1), label: "eu-central".into(), latitude: 50.1, longitude: 8.7 }],
        seats: vec![Seat {
            region: RegionId(1),
            number: 0,
            address: key("replica").address(),
            endpoint: "http://127.0.0.1:9001".into(),
        }],
        gateways: vec![GatewayMember {
            address: key("gateway").address(),
            endpoint: "http://127.0.0.1:9000".into(),
            max_bytes: 1 << 40,
            max_entries_per_hour: 100_000,
        }],
    })
    .unwrap()
}

/// Three entries of the one byte `a`, under the namespaces 1, 2 and 3.
fn entries() -> [LogEntry; 3] {
    let blob = encode::<Blake3>(b"a", B256::ZERO).unwrap();
    [1, 2, 3].map(|namespace| LogEntry {
        blob_id: blob.id(),
        namespace: Namespace(B256::left_padding_from(&[namespace])),
        payload_hash: PayloadHash(keccak256(b"a")),
        length: 1,
        epoch: 1,
        time: TIME,
        expiry: TIME + RETENTION,
    })
}

struct Nodes(Vec<meridian_proofs::log::Node>);

impl NodeSource for Nodes {
    type Error = String;

    fn node(&self, level: u8, index: u64) -> Result<B256, String> {
        let node = self.0.iter().find(|node| (node.level, node.index) == (level, index));
        node.map(|node| node.hash).ok_or_else(|| format!("no node {level} {index}"))
    }
}

/// The certificate of the second entry, under the checkpoint of all three.
fn certificate() -> Certificate {
    let (mut log, entries, domain) = (CompactRange::empty(), entries(), committee().domain());
    let nodes = Nodes(entries.iter().flat_map(|entry| log.append(entry.leaf())).collect());
    let checkpoint = Checkpoint {
        gateway: key("gateway").address(),
        epoch: 1,
        size: 3,
        root: log.root(),
        timestamp: TIME + 1,
    };
    let signed = SignedCheckpoint::sign(checkpoint, &domain, &key("gateway"));
    let cosignatures = vec![key("replica").sign(&checkpoint.digest(&domain))];
    Certificate {
        header: *encode::<Blake3>(b"a", B256::ZERO).unwrap().header(),
        entry: entries[1],
        index: 1,
        inclusion: inclusion_proof(&nodes, 1, 3).unwrap(),
        checkpoint: CosignedCheckpoint { signed, cosignatures },
    }
}

fn vectors() -> Vec<(&'static str, Value)> {
    let (committee, certificate) = (committee(), certificate());
    let domain = committee.domain();
    let checkpoint = certificate.checkpoint.signed.checkpoint;
    let dispersal = Dispersal {
        gateway: checkpoint.gateway,
        replica: key("replica").address(),
        epoch: 1,
        blob_id: certificate.id(),
        deadline: TIME + 60,
    };
    let authorization = Authorization {
        gateway: checkpoint.gateway,
        namespace: certificate.entry.namespace,
        payload_hash: PayloadHash(keccak256(b"a")),
        length: 1,
        retention: RETENTION,
        kzg_root: B256::ZERO,
        bind_payload_hash: true,
        nonce: keccak256("nonce"),
        deadline: TIME + 120,
    };
    let signed = SignedAuthorization::sign(authorization, &domain, &key("writer"));
    let hex = |bytes: &[u8]| json!(format!("0x{}", hex::encode(bytes)));
    vec![
        ("chain id", json!(domain.chain_id)),
        ("verifying contract", hex(domain.verifying_contract.as_slice())),
        ("gateway, key keccak256(\"gateway\")", hex(checkpoint.gateway.as_slice())),
        ("replica, key keccak256(\"replica\")", hex(dispersal.replica.as_slice())),
        ("blob id", hex(certificate.id().as_bytes())),
        ("entry namespace", hex(certificate.entry.namespace.as_bytes())),
        ("entry payloadHash", hex(certificate.entry.payload_hash.as_bytes())),
        ("entry length", json!(certificate.entry.length)),
        ("entry epoch", json!(certificate.entry.epoch)),
        ("entry time", json!(certificate.entry.time)),
        ("entry expiry", json!(certificate.entry.expiry)),
        ("entry leaf", hex(certificate.entry.leaf().as_slice())),
        ("checkpoint size", json!(checkpoint.size)),
        ("checkpoint root", hex(checkpoint.root.as_slice())),
        ("checkpoint timestamp", json!(checkpoint.timestamp)),
        ("checkpoint digest", hex(checkpoint.digest(&domain).as_slice())),
        ("dispersal deadline", json!(dispersal.deadline)),
        ("dispersal digest", hex(dispersal.digest(&domain).as_slice())),
        ("writer, key keccak256(\"writer\")", hex(key("writer").address().as_slice())),
        ("put retention", json!(authorization.retention)),
        ("put kzgRoot", hex(authorization.kzg_root.as_slice())),
        ("put bindPayloadHash", json!(authorization.bind_payload_hash)),
        ("put nonce, keccak256(\"nonce\")", hex(authorization.nonce.as_slice())),
        ("put deadline", json!(authorization.deadline)),
        ("put digest", hex(authorization.digest(&domain).as_slice())),
        ("put signature", hex(signed.signature.as_bytes())),
        ("committee fingerprint", hex(committee.fingerprint().as_slice())),
        ("certificate", hex(&certificate.encode())),
    ]
}

/// Compares a file with what it should be, or writes it.
fn check(path: &str, want: impl FnOnce(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let have = fs::read_to_string(&path).unwrap_or_default();
    let want = want(&have);
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(&path, want).unwrap();
    } else {
        assert!(have == want, "{} drifted: run with REGENERATE=1", path.display());
    }
}

#[test]
fn the_vector_file_is_what_the_code_gives_and_its_certificate_holds() {
    let vectors: serde_json::Map<String, Value> =
        vectors().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    check("testdata/certificate.json", |_| serde_json::to_string_pretty(&vectors).unwrap() + "\n");

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/certificate.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let bytes = hex::decode(&vectors["certificate"].as_str().unwrap()[2..]).unwrap();
    let certificate = Certificate::decode(&bytes).unwrap();
    let verified = certificate.verify(&committee()).unwrap();
    assert_eq!(verified.complete, [RegionId(1)]);
    assert_eq!(verified.signers, [key("replica").address()]);
    assert_eq!(vectors["entry leaf"], json!(certificate.entry.leaf().to_string()));
}

#[test]
fn the_protocol_page_shows_the_vectors() {
    let mut table = String::from("| what | value |\n|---|---|\n");
    let mut flat = String::new();
    for (name, value) in vectors() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if name == "certificate" {
            flat = value;
        } else {
            table += &format!("| {name} | `{value}` |\n");
        }
    }
    let lines: Vec<&str> =
        (0..flat.len()).step_by(100).map(|at| &flat[at..flat.len().min(at + 100)]).collect();
    let section =
        format!("{table}\nThe certificate, in lines of 100 characters:\n\n```\n{}\n```\n", lines.join("\n"));
    let (begin, end) = ("<!-- vectors: begin -->\n", "<!-- vectors: end -->");
    check("../docs/protocol.md", |page| {
        let (before, rest) = page.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        [before, begin, &section, end, after].concat()
    });
}
