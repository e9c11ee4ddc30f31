//! `da-node chain`, run in this process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{Patience, Pool};
use meridian_client::chain::source::CommitteeSource;
use meridian_integration::anvil::{Anvil, DEV_KEYS, Options};
use meridian_node::cli::Cli;
use meridian_proofs::Address;

use crate::world::{self, GRACE, World};

/// Runs a command line.
async fn run(line: &[&str]) -> Result<()> {
    Cli::try_parse_from(["da-node", "chain"].iter().chain(line))?.run().await
}

async fn refused(line: &[&str]) -> String {
    match run(line).await {
        Ok(()) => panic!("{line:?} was done"),
        Err(error) => format!("{error:#}"),
    }
}

fn private(path: &Path, text: &str) -> Result<String> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(path.to_str().context("a path in utf-8")?.to_owned())
}

fn key(folder: &Path, number: usize) -> Result<String> {
    private(&folder.join(format!("key-{number}")), &hex::encode(DEV_KEYS[number]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_is_deployed() -> Result<()> {
    let Some(chain) = Anvil::start(Options::default()).await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (url, key) = (chain.url(), key(folder.path(), 0)?);
    let owner = world::account(5)?;
    let owner_text = owner.to_string();
    run(&[
        "deploy",
        "--rpc",
        &url,
        "--key",
        &key,
        "--notice",
        "7",
        "--grace",
        "9",
        "--owner",
        &owner_text,
        "--json",
    ])
    .await?;
    let pool = Pool::discover(&[url.parse()?], Patience::default()).await?;
    let contract = Contract::new(pool, world::account(0)?.create(0));
    assert_eq!((contract.notice().await?, contract.grace().await?), (7, 9));
    assert_eq!(contract.owner().await?, owner);
    // A grace of 0 is nothing that the contract takes: nothing is sent.
    let message = refused(&["deploy", "--rpc", &url, "--key", &key, "--grace", "0"]).await;
    assert!(message.contains("GraceOutOfRange"), "{message}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let message = refused(&["deploy", "--rpc", &url, "--key", &key]).await;
    assert!(message.contains("can be read by others"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn committees_are_scheduled_passed_and_cancelled() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (url, contract) = (world.chain.url(), world.contract.address().to_string());
    let (owner, stranger) = (key(folder.path(), 0)?, key(folder.path(), 1)?);
    let chain = ["--rpc", &*url, "--contract", &*contract];
    let with = |command: &[&str], rest: &[&str]| {
        let words = command.iter().chain(&chain).chain(rest);
        words.map(|word| (*word).to_owned()).collect::<Vec<String>>()
    };
    let run = async |line: Vec<String>| run(&line.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let refused =
        async |line: Vec<String>| refused(&line.iter().map(String::as_str).collect::<Vec<_>>()).await;
    run(with(&["committee", "show"], &["--json"])).await?;
    let message = refused(with(&["committee", "show"], &["--epoch", "2"])).await;
    assert!(message.contains("the latest is 1"), "{message}");

    // The file has no chain yet, and one gateway less.
    let mut parts = world.committee.parts().clone();
    (parts.chain_id, parts.verifying_contract, parts.epoch) = (0, Address::ZERO, 2);
    parts.gateways.pop();
    let next = meridian_proofs::committee::Committee::new(parts)?;
    let file = private(&folder.path().join("committee.toml"), &toml::to_string(&next)?)?;
    let late = (world.chain.now().await? + 10 * GRACE).to_string();
    let schedule = |key: &str| {
        with(&["committee", "schedule"], &["--key", key, "--file", &file, "--activation", &late, "--yes"])
    };
    let message = refused(schedule(&stranger)).await;
    assert!(message.contains("only the contract's owner"), "{message}");
    run(schedule(&owner)).await?;
    let message = refused(schedule(&owner)).await;
    assert!(message.contains("set epoch = 3"), "{message}");
    assert_eq!(world.contract.latest_epoch().await?, 2);

    // A second one cannot be scheduled while the first waits, until that is cancelled.
    let (from, to) = (world.committee.seats()[0].address.to_string(), world::account(7)?.to_string());
    let place =
        ["--from", &*from, "--to", &*to, "--endpoint", "http://127.0.0.1:9", "--key", &*owner, "--yes"];
    let message = refused(with(&["committee", "pass-seat"], &place)).await;
    assert!(message.contains("LatestEpochNotActive") && message.contains("cancel it"), "{message}");
    let cancel = with(&["committee", "cancel"], &["--key", &owner, "--yes"]);
    run(cancel.clone()).await?;
    assert_eq!(world.contract.latest_epoch().await?, 1);
    run(with(&["committee", "pass-seat"], &place)).await?;
    // With this notice, an epoch that begins as soon as it may cannot be cancelled.
    let message = refused(cancel).await;
    assert!(message.contains("TooLateToCancel") && message.contains("schedule the next one"), "{message}");
    assert_eq!(world.contract.latest_epoch().await?, 2);
    let source = world.source(0).await?;
    let view = source.view().borrow().clone();
    let latest = &view.epochs.latest().committee;
    assert_eq!(latest.epoch(), 2);
    assert!(latest.seat(&world::account(7)?).is_some() && latest.gateways().len() == 2);
    run(with(&["anchors"], &["--json"])).await?;
    run(with(&["anchors"], &["--gateway", &from])).await
}
