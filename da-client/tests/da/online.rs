//! Commands against gateways and replicas of this process.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::json;
use crate::network::{Gateway, Network, Replica};

const HONEST: [Replica; 5] = [Replica::Honest; 5];

#[test]
fn put_and_what_it_prints() {
    let network = Network::start(100_000, &HONEST, &[Gateway::Honest]);
    let printed = network.da(&["put", "@payload", "--json", "--cert-out", "@new"]).ends_with(0).json();
    json::check("put", &printed);
    assert_eq!(printed["blob_id"], network.blob.id().to_string());
    assert_eq!(printed["regions"].as_array().unwrap().len(), 5);
    assert_eq!(printed["namespace"], format!("0x{}", "00".repeat(32)));
    network.da(&["cert", "verify", "@new"]).ends_with(0);
    let namespace = "ab".repeat(32);
    let args =
        ["put", "@payload", "--json", "--bind-payload-hash", "--namespace", &namespace, "--retention", "2h"];
    let printed = network.da(&args).ends_with(0).json();
    assert_eq!(printed["namespace"], format!("0x{namespace}"));
    assert_eq!(printed["payload_hash"], network.certificate.entry.payload_hash.to_string());
    assert_eq!(printed["expiry"].as_u64().unwrap() - printed["time"].as_u64().unwrap(), 7200);
}

#[test]
fn a_payload_of_another_id_than_expected_is_not_sent() {
    let network = Network::start(100, &HONEST, &[Gateway::Honest]);
    let id = network.blob.id().to_string();
    network.da(&["put", "@payload", "--expect", &id]).ends_with(0);
    let sent = network.chunks.load(Ordering::Relaxed);
    assert!(sent > 0);
    let run = network.da(&["put", "@cert", "--expect", &id]).ends_with(6);
    assert!(run.stderr.contains("ID_MISMATCH"), "{}", run.stderr);
    assert_eq!(network.chunks.load(Ordering::Relaxed), sent);
}

#[test]
fn certificates_of_cheating_gateways_end_with_5() {
    for cheat in [
        Gateway::OtherBlob,
        Gateway::OtherNamespace,
        Gateway::ShortExpiry,
        Gateway::UnaskedHash,
        Gateway::NoQuorum,
    ] {
        let network = Network::start(100, &HONEST, &[cheat]);
        let run = network.da(&["put", "@payload", "--json"]).ends_with(5);
        json::check("error", &run.json());
        assert!(run.stderr.contains("CERTIFICATE_INVALID"), "{cheat:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1);
    }
}

#[test]
fn the_next_gateway_is_taken_when_one_fails() {
    for first in [Gateway::Down, Gateway::Overloaded, Gateway::OtherBlob, Gateway::Forbids] {
        let network = Network::start(100, &HONEST, &[first, Gateway::Honest]);
        let list = network.gateways.join(",");
        let printed = network.da(&["--gateway", &list, "put", "@payload", "--json"]).ends_with(0).json();
        json::check("put", &printed);
        assert_eq!(printed["gateway"], network.gateways[1]);
        assert_eq!(printed["failed"][0]["gateway"], network.gateways[0]);
    }
    let network = Network::start(100, &HONEST, &[Gateway::Down, Gateway::Overloaded]);
    network.da(&["put", "@payload"]).ends_with(4);
    // What one gateway refuses for good is not tried elsewhere.
    let network = Network::start(100, &HONEST, &[Gateway::Refuses, Gateway::Honest]);
    let list = network.gateways.join(",");
    let run = network.da(&["--gateway", &list, "put", "@payload"]).ends_with(6);
    assert!(run.stderr.contains("RETENTION_OUT_OF_RANGE"), "{}", run.stderr);
    assert_eq!(network.chunks.load(Ordering::Relaxed), 0);
    // Who may put is for each gateway to say.
    let network = Network::start(100, &HONEST, &[Gateway::Forbids, Gateway::Forbids]);
    let run = network.da(&["put", "@payload"]).ends_with(6);
    let both = network.gateways.iter().all(|gateway| run.stderr.contains(gateway));
    assert!(both && run.stderr.contains("NOT_PERMITTED"), "{}", run.stderr);
    assert_eq!(network.chunks.load(Ordering::Relaxed), 0);
}

#[test]
fn get_writes_what_was_put() {
    let network = Network::start(100_000, &HONEST, &[Gateway::Down]);
    let id = network.blob.id().to_string();
    let run = network.da(&["get", &id]).ends_with(0);
    assert_eq!(run.stdout, network.blob.payload());
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    let printed = network.da(&["get", "@cert", "--out", "@out", "--json"]).ends_with(0).json();
    json::check("get", &printed);
    assert_eq!(std::fs::read(network.path("out")).unwrap(), network.blob.payload());
    let hash = network.certificate.entry.payload_hash.to_string();
    let run = network.da(&["get", "--alias", &hash]).ends_with(0);
    assert_eq!(run.stdout, network.blob.payload());
}

#[test]
fn get_of_a_range() {
    let network = Network::start(100_000, &HONEST, &[Gateway::Down]);
    let id = network.blob.id().to_string();
    let run = network.da(&["get", &id, "--range", "1000..1010"]).ends_with(0);
    assert_eq!(run.stdout, network.blob.payload()[1_000..1_010]);
    let args = ["get", "@cert", "--range", "99990..100000", "--out", "@out", "--json"];
    let printed = network.da(&args).ends_with(0).json();
    json::check("get", &printed);
    assert_eq!(std::fs::read(network.path("out")).unwrap(), network.blob.payload()[99_990..]);
    let expected = (json!(99_990), json!(100_000), json!(100_000));
    assert_eq!(
        (&printed["start"], &printed["end"], &printed["length"]),
        (&expected.0, &expected.1, &expected.2)
    );
    assert!(printed["row_bytes"].as_u64().unwrap() < 20_000, "{printed}");
    let run = network.da(&["get", &id, "--range", "99999..100001"]).ends_with(6);
    assert!(run.stderr.contains("RANGE_INVALID"), "{}", run.stderr);
    network.da(&["get", &id, "--range", "5"]).ends_with(2);
}

#[test]
fn what_was_measured_is_kept_for_the_next_run() {
    let network = Network::start(100_000, &HONEST, &[Gateway::Down]);
    let id = network.blob.id().to_string();
    let kept = network.path("config").join(".cache/meridian/nearest.json");
    network.da(&["id", "@payload"]).ends_with(0);
    assert!(!kept.exists());
    network.da(&["get", &id]).ends_with(0);
    let read = || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap() };
    let first = read();
    assert!(!first["seats"].as_object().unwrap().is_empty());
    // What is no such file is no reason to fail.
    std::fs::write(&kept, "?").unwrap();
    network.da(&["--near", "-33.9,18.4", "get", &id]).ends_with(0);
    assert_eq!(read()["version"], first["version"]);
    let run = network.da(&["--near", "91,0", "get", &id]).ends_with(2);
    assert!(run.stderr.contains("50.1,8.7"), "{}", run.stderr);
}

#[test]
fn get_writes_nothing_unless_all_of_it_is_right() {
    let network = Network::start(100_000, &[Replica::WrongRows; 5], &[Gateway::Down]);
    std::fs::write(network.path("out"), "what was there").unwrap();
    let id = network.blob.id().to_string();
    let run = network.da(&["get", &id, "--out", "@out", "--json"]).ends_with(5);
    let printed = run.json();
    json::check("error", &printed);
    assert_eq!(printed["error"]["faults"][0]["kind"], "wrong");
    assert_eq!(std::fs::read(network.path("out")).unwrap(), b"what was there");
    assert!(network.da(&["get", &id]).ends_with(5).stdout.is_empty());
}

#[test]
fn unknown_is_not_unavailable() {
    let stranger = format!("0x{}", "77".repeat(32));
    let network = Network::start(100, &HONEST, &[Gateway::Honest]);
    for args in [["get", &stranger].as_slice(), &["sample", &stranger], &["get", "--alias", &stranger]] {
        let run = network.da(args).ends_with(3);
        assert!(run.stderr.contains("BLOB_UNKNOWN"), "{}", run.stderr);
    }
    network.da(&["cert", "fetch", &stranger]).ends_with(3);
    // Three of five say that they do not know it: too few to be certain.
    let mut replicas = [Replica::Down; 5];
    replicas[..3].fill(Replica::Ignorant);
    let network = Network::start(100, &replicas, &[Gateway::Down]);
    network.da(&["get", &network.blob.id().to_string()]).ends_with(4);
}

#[test]
fn sampling() {
    let network = Network::start(100_000, &HONEST, &[Gateway::Down]);
    let printed = network.da(&["sample", "@cert", "-n", "16", "--json"]).ends_with(0).json();
    json::check("sample", &printed);
    assert_eq!((&printed["drawn"], &printed["verified"]), (&json!(16), &json!(16)));
    assert!(printed["bound_unavailable"].as_f64().unwrap() < 1e-9);
    assert_eq!(printed["exact"], false);
    let printed = network.da(&["sample", "@cert", "-n", "256", "--json"]).ends_with(0).json();
    assert_eq!(printed["exact"], true);
    let network = Network::start(100_000, &[Replica::WrongRows; 5], &[Gateway::Down]);
    let printed = network.da(&["sample", "@cert", "--json"]).ends_with(5).json();
    json::check("sample", &printed);
    assert_eq!(printed["verified"], 0);
}

#[test]
fn certificates_are_fetched_and_made_fuller() {
    let network = Network::start(100, &HONEST, &[Gateway::Honest]);
    let id = network.blob.id().to_string();
    let printed = network.da(&["cert", "fetch", &id, "--json", "--out", "@fetched"]).ends_with(0).json();
    json::check("cert fetch", &printed);
    assert_eq!(std::fs::read(network.path("fetched")).unwrap(), network.certificate.encode());
    // Without any gateway it is put together from the cosignatures of replicas.
    let network = Network::start(100, &HONEST, &[Gateway::Down]);
    let printed =
        network.da(&["cert", "fetch", &network.blob.id().to_string(), "--json"]).ends_with(0).json();
    assert_eq!(printed["regions"].as_array().unwrap().len(), 5);
    assert_eq!(printed["certificate"], format!("0x{}", hex::encode(network.certificate.encode())));
    let mut replicas = HONEST;
    replicas[..2].fill(Replica::Down);
    let network = Network::start(100, &replicas, &[Gateway::Down]);
    let run = network.da(&["cert", "fetch", &network.blob.id().to_string()]).ends_with(4);
    assert!(run.stderr.contains("CERTIFICATE_PENDING"), "{}", run.stderr);
    // A gateway that answers for another blob is not believed.
    let network = Network::start(100, &HONEST, &[Gateway::OtherBlob]);
    network.da(&["cert", "fetch", &format!("0x{}", "77".repeat(32))]).ends_with(3);
}

#[test]
fn regions_and_status() {
    let mut replicas = HONEST;
    replicas[2] = Replica::Down;
    let network = Network::start(100, &replicas, &[Gateway::Honest, Gateway::Down]);
    let printed = network.da(&["regions", "--json"]).ends_with(0).json();
    json::check("regions", &printed);
    assert_eq!(printed["regions"][4]["label"], "region-3");
    assert_eq!(printed["regions"][4]["reachable"], 0);
    assert_eq!(printed["regions"][0]["logs"][0]["size"], 3);
    let printed = network.da(&["status", "--json"]).ends_with(0).json();
    json::check("status", &printed);
    assert_eq!(printed["replicas"][2]["reachable"], false);
    let up = printed["gateways"].as_array().unwrap().iter().filter(|gateway| gateway["reachable"] == true);
    assert_eq!(up.count(), 1);
    network.da(&["regions"]).ends_with(0);
    network.da(&["status"]).ends_with(0);
}

#[test]
fn logs_are_listed_enumerated_and_verified() {
    let network = Network::start(100, &HONEST, &[Gateway::Down]);
    let printed = network.da(&["log", "list", "--json"]).ends_with(0).json();
    json::check("log list", &printed);
    assert_eq!(printed["logs"][0]["size"], 3);
    let printed = network.da(&["log", "entries", "--start", "1", "--json"]).ends_with(0).json();
    json::check("log entries", &printed);
    assert_eq!(printed["items"].as_array().unwrap().len(), 2);
    assert_eq!(printed["items"][1]["blob_id"], network.blob.id().to_string());
    let printed = network.da(&["log", "verify", "--json"]).ends_with(0).json();
    json::check("log verify", &printed);
    assert_eq!((&printed["entries"], &printed["leaves"]), (&json!(2), &json!(1)));
    assert_eq!(printed["root"], network.certificate.checkpoint.signed.checkpoint.root.to_string());
    let stranger = format!("0x{}", "77".repeat(20));
    network.da(&["log", "verify", "--log", &stranger]).ends_with(3);
    network.da(&["log", "list", "--from", &network.gateways[0]]).ends_with(4);
}
