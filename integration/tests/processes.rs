//! Real processes: kill -9, restart, and what is left of everything that was acknowledged.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::submit::PutError;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use meridian_integration::programs::Programs;
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use serde_json::Value;

/// The address of the replica that a devnet calls by this name.
fn address(network: &Devnet, name: &str) -> Result<Address> {
    let (label, number) = name.rsplit_once('-').context("REGION-NUMBER")?;
    let committee = network.committee();
    let region =
        committee.regions().iter().find(|r| r.label == label).context("a region of the committee")?;
    let number: u16 = number.parse()?;
    let seat = committee.seats_of(region.id).find(|seat| seat.number == number).context("a seat")?;
    Ok(seat.address)
}

fn run(mut command: Command, arguments: &[&str]) -> Result<Output> {
    Ok(command.args(arguments).output()?)
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("{}: {out} {err}", output.status)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_killed_and_come_back() -> Result<()> {
    let network = Devnet::start(&[], &[]).await?;
    let submitter = network.submitter();
    let mut kept = Vec::new();
    for seed in 0..3 {
        let payload = payload::noise(30_000, seed);
        let receipt = submitter.put(payload.clone(), &options(), &Silent).await?;
        kept.push((receipt.certificate, payload));
    }

    network.kill("ap-northeast-0")?;
    let first = address(&network, "ap-northeast-0")?;
    let payload = payload::noise(30_000, 10);
    let receipt = submitter.put(payload.clone(), &options(), &Silent).await?;
    ensure!(!receipt.signers.contains(&first), "a dead replica signed");
    let missed = receipt.certificate.clone();
    kept.push((receipt.certificate, payload));

    network.kill("na-east-0")?;
    let refused = submitter.put(payload::noise(30_000, 11), &options(), &Silent).await;
    let Err(PutError::Failed(attempts)) = refused else { anyhow::bail!("{refused:?}") };
    let text = format!("{}", PutError::Failed(attempts));
    ensure!(text.contains("ap-northeast") || text.contains("QUORUM_UNREACHABLE"), "{text}");
    let reader = network.reader();
    for (certificate, payload) in &kept {
        ensure!(reader.payload(certificate.id(), &Silent).await?.payload == *payload, "bytes differ");
    }

    network.revive("ap-northeast-0")?;
    network.revive("na-east-0")?;
    // The put that was refused goes through now.
    eventually(Duration::from_secs(30), "a put after the restart", async || {
        submitter.put(payload::noise(30_000, 11), &options(), &Silent).await.ok()
    })
    .await?;
    let gateway = network.channels().gateway(&network.gateways()[0])?;
    eventually(Duration::from_secs(60), "the replica catches up and cosigns", async || {
        let fuller = gateway.certificate(missed.id(), None).await.ok()?;
        fuller.verify(network.committee()).ok()?.signers.contains(&first).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_between_puts_forgets_nothing() -> Result<()> {
    let network = Devnet::start(&[], &[]).await?;
    let submitter = network.submitter();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        // Killed while puts are on their way: those that got a certificate must be found again.
        let puts = (0..6).map(|number| {
            let (submitter, payload) = (submitter.clone(), payload::noise(60_000, round * 100 + number));
            tokio::spawn(async move {
                let receipt = submitter.put(payload.clone(), &options(), &Silent).await.ok()?;
                Some((receipt.certificate, payload))
            })
        });
        let puts: Vec<_> = puts.collect();
        tokio::time::sleep(Duration::from_millis(10 + 40 * round)).await;
        network.kill("gateway-0")?;
        for put in puts {
            acknowledged.extend(put.await?);
        }
        network.revive("gateway-0")?;
        let payload = payload::noise(60_000, round * 100 + 50);
        let receipt = eventually(Duration::from_secs(30), "a put after the restart", async || {
            submitter.put(payload.clone(), &options(), &Silent).await.ok()
        })
        .await?;
        acknowledged.push((receipt.certificate, payload));
    }
    let gateway = network.channels().gateway(&network.gateways()[0])?;
    let reader = network.reader();
    for (certificate, payload) in &acknowledged {
        let again: Certificate = gateway.certificate(certificate.id(), None).await?;
        ensure!((again.index, again.entry) == (certificate.index, certificate.entry), "the log has changed");
        again.verify(network.committee())?;
        ensure!(reader.payload(certificate.id(), &Silent).await?.payload == *payload, "bytes differ");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_against_real_processes() -> Result<()> {
    let network = Devnet::start(&[], &[]).await?;
    let dir = tempfile::tempdir()?;
    let input = dir.path().join("in");
    let payload = payload::noise(50_000, 1);
    std::fs::write(&input, &payload)?;
    let input = input.to_str().context("a path")?;

    let put = run(network.da()?, &["--json", "put", input])?;
    ensure!(put.status.success(), "{put:?}");
    let id = json(&put)?["blob_id"].as_str().context("put prints blob_id")?.to_owned();
    let offline = json(&run(network.da()?, &["--json", "id", input])?)?;
    assert_eq!(offline["blob_id"].as_str(), Some(id.as_str()));

    let output = dir.path().join("out");
    let out = output.to_str().context("a path")?;
    let get = run(network.da()?, &["get", &id, "--out", out])?;
    ensure!(get.status.success(), "{get:?}");
    assert!(std::fs::read(&output)? == payload);
    let sample = run(network.da()?, &["--json", "sample", &id, "-n", "16"])?;
    ensure!(sample.status.success(), "{sample:?}");

    let unknown = format!("0x{}", "11".repeat(32));
    assert_eq!(run(network.da()?, &["get", &unknown, "--out", out])?.status.code(), Some(3));
    assert_eq!(run(network.da()?, &["get", "nonsense", "--out", out])?.status.code(), Some(2));
    assert!(std::fs::read(&output)? == payload, "a get that failed touched its output");
    network.kill("eu-central-0")?;
    network.kill("na-west-0")?;
    let other = dir.path().join("other");
    std::fs::write(&other, payload::noise(50_000, 2))?;
    let refused = run(network.da()?, &["put", other.to_str().context("a path")?])?;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("eu-central") && said.contains("na-west"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_stops_when_it_is_asked_to() -> Result<()> {
    let mut network = Devnet::start(&["--regions", "2"], &[]).await?;
    // Also where the folder is named from within another one.
    let mut command = Programs::build()?.da_node();
    command.current_dir(network.folder()).args(["devnet", "status", "--dir", "."]);
    let said = String::from_utf8(command.output()?.stdout)?;
    assert_eq!(said.matches(" serving (pid ").count(), 3, "{said}");
    let status = network.stop()?;
    ensure!(status.success(), "{status}: {}", network.output());
    Ok(())
}
