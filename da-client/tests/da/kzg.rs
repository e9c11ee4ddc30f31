//! Blobs that are bound to KZG commitments of their payload.

use meridian_proofs::kzg::{
    KzgBinding, KzgCommitment, MAX_OPENINGS, Opening, POLYNOMIAL_BYTES, verify_range,
};
use meridian_proofs::{B256, encode::encode, hash::Blake3, keccak256};
use serde_json::Value;

use crate::command::Run;
use crate::json;
use crate::network::{Gateway, Network, Replica, payload};

const HONEST: [Replica; 5] = [Replica::Honest; 5];

/// A byte more than one polynomial holds.
const LENGTH: usize = POLYNOMIAL_BYTES + 1;

fn root(length: usize) -> B256 {
    KzgBinding::of(&payload(length), || ()).unwrap().root()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().strip_prefix("0x").unwrap()).unwrap()
}

#[track_caller]
fn fails_with(run: Run, code: i32, reason: &str) {
    let run = run.ends_with(code);
    assert!(run.stderr.contains(reason), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

/// Checks printed openings with nothing but the header's root and length.
fn check_openings(printed: &Value, length: usize, bytes_of: std::ops::Range<usize>) {
    json::check("open", printed);
    let payload = payload(length);
    let commitments: Vec<KzgCommitment> = printed["commitments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|commitment| KzgCommitment::from_bytes(&bytes(commitment)).unwrap())
        .collect();
    let all: Vec<u8> = commitments.iter().flat_map(|commitment| *commitment.as_bytes()).collect();
    assert_eq!(printed["kzg_root"], keccak256(all).to_string());
    let openings: Vec<Opening> = printed["openings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|opening| {
            let parts = ["versioned_hash", "z", "y", "commitment", "proof"].map(|part| bytes(&opening[part]));
            assert_eq!(parts.concat(), bytes(&opening["input"]));
            Opening::from_bytes(&bytes(&opening["input"])).unwrap()
        })
        .collect();
    let range = bytes_of.start as u64..bytes_of.end as u64;
    let shown =
        verify_range(&root(length), (length as u64).try_into().unwrap(), &range, &openings, &commitments);
    assert_eq!(shown.unwrap(), &payload[bytes_of.clone()]);
    assert_eq!(bytes(&printed["bytes"]), &payload[bytes_of]);
}

#[test]
fn put_binds_and_says_to_what() {
    let network = Network::start(LENGTH, &HONEST, &[Gateway::Honest]);
    let printed = network.da(&["put", "@payload", "--kzg", "--json", "--cert-out", "@new"]);
    let printed = printed.ends_with(0).json();
    json::check("put", &printed);
    let root = root(LENGTH);
    let id = encode::<Blake3>(&payload(LENGTH), root).unwrap().id();
    assert_eq!(printed["kzg_root"], root.to_string());
    assert_eq!(printed["blob_id"], id.to_string());
    assert_ne!(id, network.blob.id());
    let printed = network.da(&["put", "@payload", "--json"]).ends_with(0).json();
    assert_eq!(printed["kzg_root"], B256::ZERO.to_string());

    let run = network.da(&["put", "@payload", "--kzg", "--expect", &id.to_string()]).ends_with(0);
    assert!(String::from_utf8(run.stdout).unwrap().contains(&root.to_string()));
    fails_with(network.da(&["put", "@payload", "--expect", &id.to_string()]), 6, "ID_MISMATCH");

    let printed = network.da(&["id", "@payload", "--kzg", "--json"]).ends_with(0).json();
    json::check("id", &printed);
    assert_eq!(printed["blob_id"], id.to_string());
    assert_eq!(printed["kzg_root"], root.to_string());

    let printed = network.da(&["cert", "verify", "@new", "--payload", "@payload", "--json"]);
    let printed = printed.ends_with(0).json();
    json::check("cert verify", &printed);
    assert_eq!(printed["payload_verified"], true);
    assert_eq!(printed["kzg_root"], root.to_string());
    let printed = network.da(&["cert", "verify", "@new", "--json"]).ends_with(0).json();
    assert_eq!(printed["payload_verified"], false);
    fails_with(network.da(&["cert", "verify", "@new", "--payload", "@cert"]), 5, "PAYLOAD_MISMATCH");
    network.da(&["cert", "verify", "@cert", "--payload", "@payload"]).ends_with(0);
    network.da(&["cert", "verify", "-", "--payload", "-"]).ends_with(2);

    // The same opening without any network, from the id or the certificate.
    let end = LENGTH.to_string();
    let range = format!("{}..{end}", LENGTH - 2);
    for blob in ["@new", &id.to_string()] {
        let args = ["open", blob, "--payload", "@payload", "--range", &range, "--json"];
        let printed = network.da(&args).ends_with(0).json();
        assert_eq!(printed["openings"].as_array().unwrap().len(), 2);
        check_openings(&printed, LENGTH, LENGTH - 2..LENGTH);
    }
    let args = ["open", &network.blob.id().to_string(), "--payload", "@payload", "--range", "0..1"];
    fails_with(network.da(&args), 5, "PAYLOAD_MISMATCH");
    fails_with(network.da(&["open", "@cert", "--payload", "@payload", "--range", "0..1"]), 6, "KZG_UNBOUND");
}

#[test]
fn a_gateway_that_forgets_the_root_is_caught() {
    let network = Network::start(100, &HONEST, &[Gateway::NoKzg]);
    network.da(&["put", "@payload"]).ends_with(0);
    fails_with(network.da(&["put", "@payload", "--kzg"]), 5, "CERTIFICATE_INVALID");
}

#[test]
fn a_bound_blob_is_read_and_opened() {
    let network = Network::start_bound(LENGTH, root(LENGTH), &HONEST, &[Gateway::Down]);
    let id = network.blob.id().to_string();
    let printed = network.da(&["get", &id, "--out", "@out", "--json"]).ends_with(0).json();
    json::check("get", &printed);
    assert_eq!(printed["kzg_root"], root(LENGTH).to_string());
    assert_eq!(std::fs::read(network.path("out")).unwrap(), payload(LENGTH));

    let printed = network.da(&["open", "@cert", "--range", "30..63", "--json"]).ends_with(0).json();
    assert_eq!(printed["openings"].as_array().unwrap().len(), 3);
    check_openings(&printed, LENGTH, 30..63);
    let run = network.da(&["open", &id, "--range", "0..31"]).ends_with(0);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains(&format!("0x00{}", hex::encode(payload(31)))), "{text}");

    let over = (MAX_OPENINGS * 31 + 1).to_string();
    for range in [format!("0..{}", LENGTH + 1), format!("{LENGTH}..{}", LENGTH + 1), format!("0..{over}")] {
        fails_with(network.da(&["open", &id, "--range", &range]), 6, "RANGE_INVALID");
        let args = ["open", "@cert", "--range", &range, "--payload", "@payload"];
        fails_with(network.da(&args), 6, "RANGE_INVALID");
    }
    for range in ["", "1", "1..1", "2..1", "a..b"] {
        network.da(&["open", &id, "--range", range]).ends_with(2);
    }
}

#[test]
fn an_unbound_blob_has_no_openings() {
    let network = Network::start(100, &HONEST, &[Gateway::Down]);
    fails_with(network.da(&["open", "@cert", "--range", "0..1"]), 6, "KZG_UNBOUND");
}

#[test]
fn a_binding_that_does_not_match_is_reported() {
    // The root of another payload of the same length.
    let wrong = KzgBinding::of(&[9; 1000], || ()).unwrap().root();
    let network = Network::start_bound(1000, wrong, &HONEST, &[Gateway::Down]);
    let id = network.blob.id().to_string();
    let run = network.da(&["get", &id, "--out", "@out", "--json"]).ends_with(5);
    json::check("error", &run.json());
    assert_eq!(run.json()["error"]["reason"], "KZG_MISMATCH");
    assert!(run.stderr.contains(&wrong.to_string()), "{}", run.stderr);
    assert!(!network.path("out").exists());
    let hash = network.certificate.entry.payload_hash.to_string();
    fails_with(network.da(&["get", "--alias", &hash]), 5, "KZG_MISMATCH");
    fails_with(network.da(&["cert", "verify", "@cert", "--payload", "@payload"]), 5, "KZG_MISMATCH");
    fails_with(network.da(&["open", &id, "--range", "0..1"]), 5, "KZG_MISMATCH");
    let args = ["open", "@cert", "--range", "0..1", "--payload", "@payload"];
    fails_with(network.da(&args), 5, "KZG_MISMATCH");

    // The certificate says nothing of the binding, and the bytes are there for whoever wants them all the same.
    network.da(&["cert", "verify", "@cert"]).ends_with(0);
    let run = network.da(&["get", &id, "--ignore-kzg"]).ends_with(0);
    assert_eq!(run.stdout, payload(1000));
    // Nor is a part of it given as if it were bound.
    fails_with(network.da(&["get", &id, "--range", "5..9"]), 5, "KZG_MISMATCH");
    let run = network.da(&["get", &id, "--range", "5..9", "--ignore-kzg"]).ends_with(0);
    assert_eq!(run.stdout, payload(1000)[5..9]);
}

#[test]
fn a_binding_of_another_payload_says_nothing_of_an_alias() {
    let wrong = B256::repeat_byte(1);
    let mut replicas = HONEST;
    replicas[2] = Replica::Misnamer;
    let network = Network::start_bound(1000, wrong, &replicas, &[Gateway::Down]);
    let stranger = format!("0x{}", "77".repeat(32));
    // Not KZG_MISMATCH, for which a derivation drops a blob.
    fails_with(network.da(&["get", "--alias", &stranger]), 4, "UNREACHABLE");
}
