//! What needs no network: ids, certificates, usage, documentation.

use std::path::Path;

use meridian_client::cli::exit::Exit;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::{B256, encode::encode, hash::Blake3};
use serde_json::json;

use crate::command::{Run, da};
use crate::json;
use crate::network::{Gateway, NAMESPACE, Network, RETENTION, Replica, keys, payload};

fn offline<S: AsRef<std::ffi::OsStr>>(args: &[S], stdin: &[u8]) -> Run {
    let config = tempfile::tempdir().unwrap();
    da(config.path(), args, stdin)
}

#[test]
fn the_published_ids_come_out() {
    let batches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/testdata/batches");
    for (file, id) in [
        ("op-stack-tx3699-0.bin", "0xf114189be91d9a69a925617dc38382d28a8c0fccfcf29827c3529b62a6ff73e4"),
        ("base-mainnet-tx524451-4.bin", "0xf6a3cc150aa15543f9dc3b8663e7b645eb312c70a62c8287acace02be4da8e44"),
    ] {
        let run = offline(&[Path::new("id"), &batches.join(file)], b"").ends_with(0);
        assert_eq!(String::from_utf8(run.stdout).unwrap().trim(), id);
        assert!(run.stderr.is_empty());
    }
    let printed = offline(&["id", "-", "--json"], b"a").ends_with(0).json();
    json::check("id", &printed);
    assert_eq!(printed["blob_id"], "0x8bbe96c4b7b4da51763b2d9b73bfbcecf806bf207095d4f763e641b78878bb75");
    assert_eq!(printed["data_rows"], 16);
    assert_eq!(printed["row_bytes"], 64);
}

#[test]
fn payloads_that_can_never_be_put_are_refused() {
    let run = offline(&["id", "-", "--json"], b"").ends_with(6);
    json::check("error", &run.json());
    assert_eq!(run.stderr.lines().count(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big");
    std::fs::File::create(&path).unwrap().set_len((1 << 27) + 1).unwrap();
    offline(&[Path::new("id"), &path], b"").ends_with(6);
    let run = offline(&["id", "/nowhere/at/all"], b"").ends_with(1);
    assert!(run.stderr.contains("/nowhere/at/all"), "{}", run.stderr);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [
        ["bogus"].as_slice(),
        &[],
        &["put"],
        &["put", "-", "--namespace", "11"],
        &["put", "-", "--retention", "soon"],
        &["put", "-", "--gateway", "ftp://a:1"],
        &["get"],
        &["get", "0x12"],
        &["sample", "0x12", "-n", "0"],
        &["get", "0xf114189be91d9a69a925617dc38382d28a8c0fccfcf29827c3529b62a6ff73e4", "--json"],
        &["regions"],
    ] {
        let run = offline(args, b"").ends_with(2);
        assert!(!run.stderr.is_empty());
    }
    let printed = offline(&["put", "--json"], b"").ends_with(2).json();
    json::check("error", &printed);
    assert_eq!(printed["error"]["reason"], "USAGE");
}

#[test]
fn help_names_the_exit_codes() {
    let run = offline(&["--help"], b"").ends_with(0);
    let text = String::from_utf8(run.stdout).unwrap();
    for exit in Exit::ALL {
        let start: String = exit.meaning().chars().take(20).collect();
        assert!(text.contains(&format!("{}  {start}", exit.code())), "{text}");
    }
}

/// A certificate with its committee, in files.
fn certificate(seats: usize) -> (tempfile::TempDir, Vec<u8>) {
    let urls: Vec<String> = (1..=5).map(|port| format!("http://127.0.0.1:{port}")).collect();
    let keys = keys(&urls, &["http://127.0.0.1:9".to_owned()]);
    let blob = encode::<Blake3>(&payload(20_000), B256::ZERO).unwrap();
    let length = blob.header().length.get();
    let entries =
        keys.entries(blob.id(), length, Namespace::from(NAMESPACE), PayloadHash::UNBOUND, RETENTION);
    let bytes = keys.certify(0, &blob, &entries, seats).encode();
    let folder = tempfile::tempdir().unwrap();
    meridian_client::committee_source::save(&folder.path().join("committee.toml"), &keys.committee).unwrap();
    (folder, bytes)
}

fn verify(folder: &Path, bytes: &[u8]) -> Run {
    let committee = folder.join("committee.toml");
    let file = folder.join("cert");
    std::fs::write(&file, bytes).unwrap();
    offline(
        &[
            Path::new("cert"),
            Path::new("verify"),
            &file,
            Path::new("--committee"),
            &committee,
            Path::new("--json"),
        ],
        b"",
    )
}

#[test]
fn a_certificate_verifies_without_a_network() {
    let (folder, bytes) = certificate(4);
    let printed = verify(folder.path(), &bytes).ends_with(0).json();
    json::check("cert verify", &printed);
    assert_eq!(printed["verified"], true);
    assert_eq!(printed["regions"], json!(["region-1", "region-2", "region-3", "region-4"]));
    let text = format!("0x{}\n", hex::encode(&bytes));
    verify(folder.path(), text.as_bytes()).ends_with(0);
    let printed = offline(&["cert", "show", "-", "--json"], &bytes).ends_with(0).json();
    json::check("cert show", &printed);
    assert_eq!(printed["verified"], false);
}

#[test]
fn a_certificate_that_does_not_hold_ends_with_5() {
    let (folder, bytes) = certificate(4);
    // Every 7th byte is flipped in turn: some do not decode, others do not verify.
    for place in (0..bytes.len()).step_by(7) {
        let mut tampered = bytes.clone();
        tampered[place] ^= 0x40;
        let run = verify(folder.path(), &tampered).ends_with(5);
        json::check("error", &run.json());
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("CERTIFICATE_INVALID"), "{}", run.stderr);
    }
    verify(folder.path(), &bytes[..bytes.len() - 1]).ends_with(5);
    verify(folder.path(), &[bytes.as_slice(), &[0]].concat()).ends_with(5);
    verify(folder.path(), b"").ends_with(5);
    let (few, bytes) = certificate(3);
    verify(few.path(), &bytes).ends_with(5);
}

#[test]
fn a_certificate_needs_a_committee() {
    let (_folder, bytes) = certificate(4);
    offline(&["cert", "verify", "-"], &bytes).ends_with(2);
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let printed = offline(&["completions", shell, "--json"], b"").ends_with(0).json();
        json::check("completions", &printed);
        assert!(printed["script"].as_str().unwrap().contains("put"));
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let printed = offline(&[Path::new("man"), &pages, Path::new("--json")], b"").ends_with(0).json();
    json::check("man", &printed);
    for page in ["da.1", "da-put.1", "da-cert-verify.1"] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

#[test]
fn the_committee_is_pinned_once_and_a_change_is_refused() {
    let first = Network::start(100, &[Replica::Honest], &[Gateway::Honest]);
    let gateway = first.gateways[0].as_str();
    let run = first.da_pinning(&["regions", "--gateway", gateway]).ends_with(0);
    assert!(run.stderr.contains(&first.committee.fingerprint().to_string()), "{}", run.stderr);
    let run = first.da_pinning(&["regions", "--gateway", gateway]).ends_with(0);
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    // The pin serves without any gateway.
    first.da_pinning(&["cert", "verify", "@cert"]).ends_with(0);
    first.da_pinning(&["regions"]).ends_with(0);
    let second = Network::start(100, &[Replica::Honest, Replica::Honest], &[Gateway::Honest]);
    let run = first.da_pinning(&["regions", "--gateway", &second.gateways[0], "--json"]).ends_with(6);
    json::check("error", &run.json());
    assert!(run.stderr.contains("COMMITTEE_CHANGED"), "{}", run.stderr);
}
