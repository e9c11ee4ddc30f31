//! The contract that is committed is what its sources compile to, and what the hand-written interface says it is.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_sol_types::{SolCall, SolEvent, SolInterface, SolType, SolValue};
use meridian_proofs::committee::{
    MAX_CHAIN_GATEWAYS, MAX_CHAIN_REGIONS, MAX_CHAIN_SEATS, MAX_LABEL_LEN, MAX_RETENTION,
    MAX_SEATS_PER_REGION,
};
use meridian_proto::contract::{
    BYTECODE,
    Meridian::{self, MeridianCalls, MeridianErrors},
    Status, creation_code,
    namespaces::{
        self,
        NamespaceRegistry::{self, NamespaceRegistryCalls, NamespaceRegistryErrors},
    },
};
use serde_json::Value;

const CONTRACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contracts");

/// Longest that npm or the compiler may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn source(name: &str) -> String {
    fs::read_to_string(Path::new(CONTRACTS).join(name)).unwrap()
}

fn artifact(contract: &str) -> Value {
    serde_json::from_str(&source(&format!("out/{contract}.json"))).unwrap()
}

/// The items of a kind in the compiled interface of a contract: signature and item.
fn compiled(contract: &str, kind: &str) -> BTreeMap<String, Value> {
    let items = artifact(contract)["abi"].as_array().unwrap().clone();
    let items = items.into_iter().filter(|item| item["type"] == kind);
    items
        .map(|item| (format!("{}{}", item["name"].as_str().unwrap(), types(&item["inputs"])), item))
        .collect()
}

/// The types of parameters as a signature has them.
fn types(parameters: &Value) -> String {
    let name = |parameter: &Value| {
        let name = parameter["type"].as_str().unwrap();
        match name.strip_prefix("tuple") {
            Some(array) => types(&parameter["components"]) + array,
            None => name.to_owned(),
        }
    };
    format!("({})", parameters.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(","))
}

/// The types of parameters with the names of structs, whose fields the signature has.
fn names<'a>(parameters: impl IntoIterator<Item = &'a Value>) -> String {
    let name = |parameter: &Value| {
        let name = parameter["internalType"].as_str().unwrap();
        name.strip_prefix("struct ").unwrap_or(name).to_owned()
    };
    format!("({})", parameters.into_iter().map(name).collect::<Vec<_>>().join(","))
}

/// Asserts that the call is compiled with the same parameters and answer.
fn has_call<C: SolCall>(functions: &BTreeMap<String, Value>) {
    let function = functions.get(C::SIGNATURE).unwrap_or_else(|| panic!("no function {}", C::SIGNATURE));
    assert_eq!(
        <C::ReturnTuple<'_> as SolType>::SOL_NAME,
        names(function["outputs"].as_array().unwrap()),
        "{}",
        C::SIGNATURE
    );
}

/// Asserts that the event is compiled with the same parameters, and the same of them as topics.
fn has_event<E: SolEvent>(events: &BTreeMap<String, Value>) {
    let event = events.get(E::SIGNATURE).unwrap_or_else(|| panic!("no event {}", E::SIGNATURE));
    assert_eq!(event["anonymous"], false);
    let data = event["inputs"].as_array().unwrap().iter().filter(|input| input["indexed"] == false);
    assert_eq!(<E::DataTuple<'_> as SolType>::SOL_NAME, names(data), "{}", E::SIGNATURE);
}

#[test]
fn the_interface_is_that_of_the_compiled_contract() {
    let functions = compiled("Meridian", "function");
    has_call::<Meridian::scheduleCommitteeCall>(&functions);
    has_call::<Meridian::passSeatCall>(&functions);
    has_call::<Meridian::cancelCommitteeCall>(&functions);
    has_call::<Meridian::anchorCall>(&functions);
    has_call::<Meridian::verifyCertificateCall>(&functions);
    has_call::<Meridian::verifyCertificateUntilCall>(&functions);
    has_call::<Meridian::regionsOfCall>(&functions);
    has_call::<Meridian::verifyAnchoredCall>(&functions);
    has_call::<Meridian::epochOfCall>(&functions);
    has_call::<Meridian::latestEpochCall>(&functions);
    has_call::<Meridian::anchorOfCall>(&functions);
    has_call::<Meridian::noticeCall>(&functions);
    has_call::<Meridian::graceCall>(&functions);
    has_call::<Meridian::ownerCall>(&functions);

    let known: BTreeSet<&str> = MeridianCalls::SIGNATURES.iter().copied().collect();
    let other: Vec<&str> =
        functions.keys().map(String::as_str).filter(|signature| !known.contains(signature)).collect();
    assert_eq!(
        other,
        ["acceptOwnership()", "pendingOwner()", "renounceOwnership()", "transferOwnership(address)"],
        "not in the interface"
    );

    let events = compiled("Meridian", "event");
    has_event::<Meridian::CommitteeScheduled>(&events);
    has_event::<Meridian::SeatPassed>(&events);
    has_event::<Meridian::CommitteeCancelled>(&events);
    has_event::<Meridian::Anchored>(&events);

    let errors: Vec<String> = compiled("Meridian", "error").into_keys().collect();
    let mut known: Vec<&str> = MeridianErrors::SIGNATURES.to_vec();
    known.sort_unstable();
    assert_eq!(errors, known);
    assert_eq!(MeridianErrors::COUNT, errors.len());
}

#[test]
fn the_registrys_interface_is_that_of_the_compiled_contract() {
    let functions = compiled("NamespaceRegistry", "function");
    has_call::<NamespaceRegistry::createCall>(&functions);
    has_call::<NamespaceRegistry::offerCall>(&functions);
    has_call::<NamespaceRegistry::acceptCall>(&functions);
    has_call::<NamespaceRegistry::allowCall>(&functions);
    has_call::<NamespaceRegistry::denyCall>(&functions);
    has_call::<NamespaceRegistry::namespaceOfCall>(&functions);
    has_call::<NamespaceRegistry::ownerOfCall>(&functions);
    has_call::<NamespaceRegistry::offeredToCall>(&functions);
    has_call::<NamespaceRegistry::mayWriteCall>(&functions);
    let same = |kind: &str, known: &[&str]| {
        let mut known = known.to_vec();
        known.sort_unstable();
        assert_eq!(compiled("NamespaceRegistry", kind).into_keys().collect::<Vec<_>>(), known);
    };
    same("function", NamespaceRegistryCalls::SIGNATURES);
    same("error", NamespaceRegistryErrors::SIGNATURES);

    let events = compiled("NamespaceRegistry", "event");
    has_event::<NamespaceRegistry::NamespaceCreated>(&events);
    has_event::<NamespaceRegistry::NamespaceOffered>(&events);
    has_event::<NamespaceRegistry::NamespaceTransferred>(&events);
    has_event::<NamespaceRegistry::WriterAllowed>(&events);
    has_event::<NamespaceRegistry::WriterDenied>(&events);
    assert_eq!(events.len(), 5);

    let bytecode = artifact("NamespaceRegistry")["bytecode"].as_str().unwrap().to_owned();
    assert_eq!(alloy_primitives::hex::encode_prefixed(namespaces::BYTECODE), bytecode);
}

#[test]
fn the_numbers_are_those_of_the_contract() {
    let statuses = source("MeridianStatus.sol");
    for status in Status::ALL {
        let line = format!("uint8 internal constant {} = {};", status.name(), status as u8);
        assert!(statuses.contains(&line), "{line}");
    }
    assert_eq!(statuses.matches("constant").count(), Status::ALL.len());

    let limits = source("MeridianCommittee.sol").replace('_', "");
    for (name, value) in [
        ("MAX_REGIONS", MAX_CHAIN_REGIONS),
        ("MAX_SEATS_PER_REGION", MAX_SEATS_PER_REGION),
        ("MAX_SEATS", MAX_CHAIN_SEATS),
        ("MAX_GATEWAYS", MAX_CHAIN_GATEWAYS),
        ("MAX_LABEL", MAX_LABEL_LEN),
        ("MAX_RETENTION", usize::try_from(MAX_RETENTION).unwrap()),
    ] {
        let line = format!("constant {} = {value};", name.replace('_', ""));
        assert!(limits.contains(&line), "{name} = {value}");
    }
}

#[test]
fn the_creation_code_is_the_compiled_one_with_its_arguments() {
    let bytecode = artifact("Meridian")["bytecode"].as_str().unwrap().to_owned();
    assert_eq!(alloy_primitives::hex::encode_prefixed(BYTECODE), bytecode);
    let owner = alloy_primitives::Address::repeat_byte(7);
    let code = creation_code(owner, 60, 3600);
    let arguments = code.strip_prefix(BYTECODE).unwrap();
    assert_eq!(arguments, (owner, 60_u64, 3600_u64).abi_encode());
}

/// Runs a command in the contracts' folder; false when there is no such program or it fails.
fn run(program: &str, arguments: &[&str]) -> bool {
    let child = Command::new(program).args(arguments).current_dir(CONTRACTS).stdin(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let start = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.success(),
            None if start.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Installs the compiler, unless that of the lock file is there.
fn installed() -> bool {
    let lock = source("package-lock.json");
    // Written after a whole installation only.
    let mark = Path::new(CONTRACTS).join("node_modules/.installed");
    if fs::read_to_string(&mark).is_ok_and(|done| done == lock) {
        return true;
    }
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];
    run("node", &["--version"]) && run("npm", &npm) && fs::write(mark, lock).is_ok()
}

#[test]
fn the_contracts_are_clean_and_compile_to_what_is_committed() {
    if !installed() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no compiler: npm ci in proto/contracts failed"
        );
        println!("skipped: the contracts' compiler could not be installed (node, npm)");
        return;
    }
    assert!(run("node", &["build.js", "--check"]), "out/ is not what the contracts compile to");
    assert!(run("npm", &["run", "--silent", "lint"]), "solhint finds fault with the contracts");
}
