//! A replica and a gateway are killed at every place that is marked for it, before and after each write, signature and
//! answer, and after the next start everything is there that they had answered for.
//!
//! `MERIDIAN_POINTS=N` kills each of them N times at each place, each time at another visit.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::kept::Kept;
use meridian_integration::knobs;
use meridian_integration::network::{eventually, options};
use meridian_integration::pair::Pair;
use meridian_integration::payload;
use meridian_node::points::{KILL_AT, OF_GATEWAY, OF_REPLICA};
use meridian_proofs::log::verify_consistency;

/// Puts before a host has to have come to a place.
const PUTS: u64 = 60;
/// Longest time for what must happen when both run.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_kill_at_every_place() -> Result<()> {
    let rounds = knobs::number("MERIDIAN_POINTS")?.unwrap_or(1);
    let of_replica = OF_REPLICA.iter().map(|place| (0, *place));
    let of_gateway = OF_GATEWAY.iter().map(|place| (1, *place));
    for (host, place) in of_replica.chain(of_gateway) {
        let dir = tempfile::tempdir()?;
        Pair::prepare(dir.path())?;
        let mut kept = Vec::new();
        for round in 1..=rounds {
            let visit = round * 3;
            let killed = kill_at(dir.path(), host, place, visit, &mut kept).await;
            killed.with_context(|| format!("{place}, at visit {visit}"))?;
        }
    }
    Ok(())
}

/// Puts until a host is killed, starts it again, and looks for everything.
async fn kill_at(dir: &Path, host: usize, place: &str, visit: u64, kept: &mut Vec<Kept>) -> Result<()> {
    let at = format!("{place}:{visit}");
    let arm = |role: usize, program: &mut Command| {
        if role == host {
            program.env(KILL_AT, &at);
        }
    };
    let mut pair = Pair::start_with(dir, &arm, None).await?;
    let mut number = 0;
    while !pair.has_ended(host)? {
        // One that is given up on a slow machine may not have come there.
        ensure!(number < PUTS + 4 * visit, "never came there");
        number += 1;
        let seed = visit * 1_000 + number;
        let payload = payload::noise([900, 24_000, 130_000][usize::try_from(number % 3)?], seed);
        let (submitter, options) = (pair.submitter(), options());
        let put = submitter.put(payload.clone(), &options, &Silent);
        // Whoever waits for a host that is gone may wait long.
        if let Ok(Ok(receipt)) = tokio::time::timeout(Duration::from_secs(2), put).await {
            kept.push(Kept::new(receipt.certificate, payload)?);
        }
    }
    let before =
        pair.channels().log(pair.replica())?.checkpoint(pair.committee().gateways()[0].address).await;
    drop(pair);

    let pair = Pair::start(dir, &[], None).await?;
    // A put that nobody was told of is finished when it is repeated.
    let payload = payload::noise(5_000, visit * 1_000);
    let receipt = eventually(PATIENCE, "a certificate after the start", async || {
        pair.submitter().put(payload.clone(), &options(), &Silent).await.ok()
    })
    .await?;
    kept.push(Kept::new(receipt.certificate, payload)?);
    let (committee, channels) = (pair.committee(), pair.channels());
    let gateway = channels.gateway(pair.gateway())?;
    for blob in kept.iter() {
        ensure!(blob.is_held(channels, committee, &committee.seats()[0]).await?, "rows are missing");
        let again = gateway.certificate(blob.certificate.id(), None).await?;
        again.verify(committee)?;
        ensure!(again.entry.leaf() == blob.certificate.entry.leaf(), "another entry than the one answered");
    }
    // What the replica showed before is a beginning of what it has now.
    if let Ok(Some(before)) = before {
        let (log, address) = (channels.log(pair.replica())?, committee.gateways()[0].address);
        let now = log.checkpoint(address).await?.context("no checkpoint any more")?.signed.checkpoint;
        let before = before.signed.checkpoint;
        let proof = log.consistency(address, before.size, now.size).await?;
        verify_consistency(before.size, &before.root, now.size, &now.root, &proof)?;
    }
    pair.stop()
}

/// A program that is built by itself has none of these places.
#[test]
fn a_released_program_cannot_be_killed_so() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["tree", "--locked", "--offline", "-p", "meridian-node", "-e", "normal", "-f", "{p} {f}"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout)?;
    let fail = tree.lines().find(|line| line.contains(" fail v")).context("fail is not used")?;
    ensure!(!fail.contains("failpoints"), "{fail}");
    Ok(())
}
