//! `da altda serve` over HTTP, as clients other than the Go one use it, and what it does beyond serving them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use meridian_client::altda::KECCAK_LIMIT;
use meridian_integration::devnet::Devnet;
use meridian_integration::liars::GatewayLie;
use meridian_integration::liars::false_alias::FalseAlias;
use meridian_integration::liars::false_certificate::{False, FalseCertificate};
use meridian_integration::network::{Name, Network, Plan, eventually};
use meridian_integration::payload;
use meridian_integration::ports;
use meridian_integration::sidecar::{Answer, Sidecar};
use meridian_node::devnet::Plan as DevnetPlan;
use meridian_node::replica;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::{B256, keccak256};
use serde_json::Value;

async fn network(arguments: &[&str]) -> Result<(Devnet, Sidecar)> {
    let devnet = Devnet::start(&[], &[]).await?;
    let sidecar = Sidecar::start(devnet.da()?, arguments).await?;
    Ok((devnet, sidecar))
}

fn keccak(input: &[u8]) -> String {
    format!("0x00{}", hex::encode(keccak256(input)))
}

fn generic(input: &[u8]) -> Result<String> {
    Ok(format!("0x01ff{}", hex::encode(encode::<Blake3>(input, B256::ZERO)?.id().as_bytes())))
}

fn is(answer: &Answer, status: u16, body: &[u8]) -> Result<()> {
    ensure!(answer.status == status, "{}: {}", answer.status, answer.text());
    ensure!(answer.body == body, "{} other bytes", answer.body.len());
    Ok(())
}

/// A sample of the sidecar's metrics.
async fn metric(sidecar: &Sidecar, name: &str) -> Result<f64> {
    let text = sidecar.ask("GET", "/metrics", b"").await?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.trim().parse()?)
}

/// As the client of Base does it: POST to `/put`, an answer of exactly 34 bytes, inputs of up to eight blobs, `/health`.
#[tokio::test(flavor = "multi_thread")]
async fn the_dialect_of_base() -> Result<()> {
    const MOST: usize = 8 * 130_044;
    let (_devnet, sidecar) = network(&[]).await?;
    ensure!(sidecar.ask("GET", "/health", b"").await?.status == 200);
    for length in [1, 130_044, MOST] {
        let input = payload::noise(length, 1);
        let put = sidecar.ask("POST", "/put", &input).await?;
        is(&put, 200, &hex::decode(&generic(&input)?[2..])?)?;
        ensure!(put.body.len() == 34 && put.body.starts_with(&[0x01, 0xff]), "{:?}", put.body);
        let path = format!("/get/0x{}", hex::encode(&put.body));
        is(&sidecar.ask("GET", &path, b"").await?, 200, &input)?;
    }
    ensure!(sidecar.ask("POST", "/put", b"").await?.status == 400, "an empty input");
    let absent = format!("/get/0x01ff{}", "77".repeat(32));
    ensure!(sidecar.ask("GET", &absent, b"").await?.status == 404, "an input that nobody put");
    Ok(())
}

/// As the host of op-succinct does it: a GET of a keccak commitment, in lower case, without anything else.
#[tokio::test(flavor = "multi_thread")]
async fn the_dialect_of_op_succinct() -> Result<()> {
    let (devnet, sidecar) = network(&[]).await?;
    let batches = payload::batches()?;
    for (_, input) in &batches {
        let put = sidecar.ask("POST", &format!("/put/{}", keccak(input)), input).await?;
        is(&put, 200, &hex::decode(&keccak(input)[2..])?)?;
    }
    // Another sidecar, that has never put anything: found through the replicas alone, without any gateway.
    devnet.kill("gateway-0")?;
    let other = Sidecar::start(devnet.da()?, &["--cache", "0"]).await?;
    for (_, input) in &batches {
        is(&other.ask("GET", &format!("/get/{}", keccak(input)), b"").await?, 200, input)?;
    }
    // The lineage of EigenDA adds parameters.
    let first = &batches.first().context("a batch")?.1;
    for query in ["?l1_inclusion_block_number=12", "?commitment_mode=optimism_generic&x=&&y"] {
        is(&other.ask("GET", &format!("/get/{}{query}", keccak(first)), b"").await?, 200, first)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_a_put_and_a_read() -> Result<()> {
    let (_devnet, sidecar) = network(&[]).await?;
    let input = payload::noise(3_000, 1);
    let (keccak, generic) = (keccak(&input), generic(&input)?);
    for method in ["POST", "PUT"] {
        for path in ["/put".to_owned(), "/put/".to_owned(), "//put".to_owned(), format!("/put/{generic}")] {
            is(&sidecar.ask(method, &path, &input).await?, 200, &hex::decode(&generic[2..])?)?;
        }
        for path in [format!("/put/{keccak}"), format!("/put/{}", &keccak[2..])] {
            is(&sidecar.ask(method, &path, &input).await?, 200, &hex::decode(&keccak[2..])?)?;
        }
    }
    for commitment in [&keccak, &generic] {
        for spelling in [commitment.clone(), commitment[2..].to_owned(), commitment[2..].to_uppercase()] {
            is(&sidecar.ask("GET", &format!("/get/{spelling}"), b"").await?, 200, &input)?;
        }
    }
    for (method, path, status) in [
        ("GET", "/put", 405),
        ("POST", &*format!("/get/{keccak}"), 405),
        ("GET", &*format!("/prefix/get/{keccak}"), 400),
        ("POST", &*format!("/put/{}", self::keccak(b"other")), 400),
        ("POST", &*format!("/put/{}", self::generic(b"other")?), 400),
    ] {
        let answer = sidecar.ask(method, path, &input).await?;
        ensure!(answer.status == status, "{method} {path}: {}", answer.status);
    }
    let over = payload::noise(KECCAK_LIMIT + 1, 2);
    let answer = sidecar.ask("POST", &format!("/put/{}", self::keccak(&over)), &over).await?;
    ensure!(answer.status == 413 && answer.text().contains("130672"), "{}", answer.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_puts_and_of_what_others_put() -> Result<()> {
    let (devnet, sidecar) = network(&[]).await?;
    let other = Sidecar::start(devnet.da()?, &[]).await?;
    let input = payload::noise(9_000, 1);
    for commitment in [keccak(&input), generic(&input)?] {
        let path = format!("/put/{commitment}");
        ensure!(sidecar.ask("POST", &path, &input).await?.status == 200);
        for sidecar in [&sidecar, &other] {
            let answer = sidecar.ask("GET", &format!("/certificate/{commitment}"), b"").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            let certificate = Certificate::decode(&answer.body)?;
            let verified = certificate.verify(devnet.committee())?;
            ensure!(verified.complete.len() >= devnet.committee().min_copies());
            ensure!(certificate.id() == encode::<Blake3>(&input, B256::ZERO)?.id());
            ensure!(answer.header("meridian-blob-id") == Some(&*certificate.id().to_string()));
        }
    }
    // That others put it is no reason for a sidecar not to have its own certificate.
    let path = format!("/put/{}", keccak(&input));
    ensure!(other.ask("POST", &path, &input).await?.status == 200);
    ensure!(metric(&other, "meridian_altda_puts_total{kind=\"fresh\"}").await? == 1.0);
    let absent = format!("/certificate/0x01ff{}", "77".repeat(32));
    ensure!(sidecar.ask("GET", &absent, b"").await?.status == 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_puts_and_equal_reads_cost_one() -> Result<()> {
    let (devnet, sidecar) = network(&[]).await?;
    let input = payload::noise(100_000, 1);
    let path = format!("/put/{}", keccak(&input));
    for answer in try_join_all((0..20).map(|_| sidecar.ask("POST", &path, &input))).await? {
        ensure!(answer.status == 200, "{}", answer.text());
    }
    ensure!(metric(&sidecar, "meridian_altda_puts_total{kind=\"fresh\"}").await? == 1.0);
    ensure!(metric(&sidecar, "meridian_altda_puts_total{kind=\"repeated\"}").await? == 19.0);
    ensure!(metric(&sidecar, "meridian_altda_puts_in_flight").await? == 0.0);
    // Ten nodes behind a sidecar of their own.
    let nodes = Sidecar::start(devnet.da()?, &[]).await?;
    let path = format!("/get/{}", keccak(&input));
    for answer in try_join_all((0..10).map(|_| nodes.ask("GET", &path, b""))).await? {
        is(&answer, 200, &input)?;
    }
    ensure!(metric(&nodes, "meridian_altda_reads_total{from=\"network\"}").await? == 1.0);
    ensure!(metric(&nodes, "meridian_altda_reads_total{from=\"memory\"}").await? == 9.0);
    ensure!(metric(&nodes, "meridian_altda_cache_bytes").await? == 100_000.0);
    Ok(())
}

/// Whoever gives up and asks for the same again gets the commitment of the put that went on without anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_goes_on_without_its_caller() -> Result<()> {
    let (devnet, sidecar) = network(&["--patience", "60"]).await?;
    devnet.kill("gateway-0")?;
    let input = payload::noise(50_000, 1);
    let given_up = tokio::time::timeout(Duration::from_secs(2), sidecar.ask("PUT", "/put", &input)).await;
    ensure!(given_up.is_err(), "an answer without a gateway: {given_up:?}");
    devnet.revive("gateway-0")?;
    eventually(Duration::from_secs(60), "the put of somebody who is gone", async || {
        let fresh = metric(&sidecar, "meridian_altda_puts_total{kind=\"fresh\"}").await.ok()?;
        (fresh == 1.0).then_some(())
    })
    .await?;
    is(&sidecar.ask("PUT", "/put", &input).await?, 200, &hex::decode(&generic(&input)?[2..])?)?;
    ensure!(metric(&sidecar, "meridian_altda_puts_total{kind=\"repeated\"}").await? == 1.0);
    Ok(())
}

/// A gateway that takes connections and never answers, and one that gives false certificates, keep nobody from the others.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_hang_or_lie_stop_no_put() -> Result<()> {
    let liar = Arc::new(FalseCertificate::default());
    liar.turn(False::TooFew);
    let gateway_lies = BTreeMap::from([(0, Arc::clone(&liar) as Arc<dyn GatewayLie>)]);
    let network = Network::start(Plan { gateways: 2, gateway_lies, ..Plan::default() }).await?;
    let hanging = ports::listener()?;
    let mut gateways = vec![format!("http://{}", hanging.local_addr()?)];
    gateways.extend(network.gateways());
    let command = Sidecar::command(&gateways, &network.committee_file())?;
    let sidecar = Sidecar::start(command, &[]).await?;
    for seed in 0..3 {
        let input = payload::noise(5_000, seed);
        is(&sidecar.ask("POST", "/put", &input).await?, 200, &hex::decode(&generic(&input)?[2..])?)?;
    }
    Ok(())
}

/// Who is being answered when it is told to stop is told to try again, and nothing is cut.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_when_it_stops_is_answered() -> Result<()> {
    let (devnet, sidecar) = network(&["--patience", "60"]).await?;
    devnet.kill("gateway-0")?;
    let input = payload::noise(5_000, 1);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        sidecar.terminate()
    };
    let (answer, ()) = tokio::try_join!(sidecar.ask("POST", "/put", &input), stop)?;
    ensure!(answer.status == 429 && answer.header("retry-after").is_some(), "{}", answer.text());
    sidecar.stop()
}

/// A replica names a blob for a hash that is not the blob's: what is known of the blob says nothing of the input.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_alias_is_no_answer() -> Result<()> {
    let (named, input) = (payload::noise(3_000, 1), payload::noise(3_000, 2));
    let lie = FalseAlias(encode::<Blake3>(&named, B256::ZERO)?.id());
    let mut network = Network::start(Plan::with_replica_lie(lie)).await?;
    let command = Sidecar::command(&network.gateways(), &network.committee_file())?;
    let liar_first = ["--cache", "0", "--patience", "1", "--near", "37.8,-122.4"];
    let sidecar = Sidecar::start(command, &liar_first).await?;
    for put in [&named, &input] {
        ensure!(sidecar.ask("POST", &format!("/put/{}", keccak(put)), put).await?.status == 200);
    }
    is(&sidecar.ask("GET", &format!("/get/{}", keccak(&input)), b"").await?, 200, &input)?;
    let never_put = keccak(b"never put");
    let absent = sidecar.ask("GET", &format!("/get/{never_put}"), b"").await?;
    ensure!(absent.status == 404, "four deny it: {}", absent.text());
    for place in 1..5 {
        network.kill(Name::Replica(place)).await?;
    }
    for path in [format!("/get/{}", keccak(&input)), format!("/certificate/{}", keccak(&input))] {
        let answer = sidecar.ask("GET", &path, b"").await?;
        let has_own = path.starts_with("/certificate") && answer.status == 200;
        ensure!(answer.status == 503 || has_own, "{path}: {} {}", answer.status, answer.text());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_network_out_of_reach_is_answered_with() -> Result<()> {
    let input = payload::noise(5_000, 1);
    let (devnet, patient) = network(&["--cache", "0", "--patience", "2"]).await?;
    ensure!(patient.ask("POST", &format!("/put/{}", keccak(&input)), &input).await?.status == 200);
    ensure!(patient.ask("GET", "/ready", b"").await?.status == 200, "not ready");
    for member in DevnetPlan::load(&devnet.folder())?.members(&devnet.folder()) {
        devnet.kill(&member.name)?;
    }
    let leaving =
        Sidecar::start(devnet.da()?, &["--cache", "0", "--patience", "0", "--failover", "generic"]).await?;
    let other = payload::noise(5_000, 2);
    for (sidecar, generic_put) in [(&patient, 429), (&leaving, 503)] {
        for (method, path, body, status) in [
            ("POST", "/put".to_owned(), &*other, generic_put),
            ("POST", format!("/put/{}", keccak(&other)), &*other, 503),
            ("GET", format!("/get/{}", keccak(&input)), &[][..], 503),
            ("GET", format!("/get/{}", generic(&input)?), &[][..], 503),
            ("GET", format!("/get/{}", keccak(&other)), &[][..], 503),
        ] {
            let answer = sidecar.ask(method, &path, body).await?;
            ensure!(answer.status == status, "{method} {path}: {} {}", answer.status, answer.text());
            ensure!(answer.header("retry-after").is_some(), "{method} {path}");
        }
        ensure!(sidecar.ask("GET", "/health", b"").await?.status == 200);
        let ready = sidecar.ask("GET", "/ready", b"").await?;
        ensure!(ready.status == 503, "{}", ready.text());
        ensure!(serde_json::from_slice::<Value>(&ready.body)?["regions_answering"] == 0);
    }
    ensure!(metric(&patient, "meridian_altda_retries_total{call=\"get\"}").await? > 0.0);
    Ok(())
}

/// What is put while the network is away for less than the patience is not seen to fail at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_is_not_seen() -> Result<()> {
    let (devnet, sidecar) = network(&["--patience", "60"]).await?;
    devnet.kill("gateway-0")?;
    let input = payload::noise(5_000, 1);
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        devnet.revive("gateway-0")
    };
    let (answer, ()) = tokio::try_join!(sidecar.ask("POST", "/put", &input), back)?;
    is(&answer, 200, &hex::decode(&generic(&input)?[2..])?)?;
    ensure!(metric(&sidecar, "meridian_altda_retries_total{call=\"put\"}").await? > 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_keeps_what_passed_and_is_believed_only_when_right() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("archive");
    let arguments = ["--archive", archive.to_str().context("a path")?, "--cache", "0", "--patience", "0"];
    let (devnet, sidecar) = network(&arguments).await?;
    let (first, second) = (payload::noise(5_000, 1), payload::noise(5_000, 2));
    for input in [&first, &second] {
        ensure!(sidecar.ask("POST", &format!("/put/{}", keccak(input)), input).await?.status == 200);
        ensure!(std::fs::read(archive.join(keccak(input)))? == **input, "no copy");
    }
    // What a broken archive may have is not gone, whatever the network says.
    let never_put = keccak(b"never put");
    let path = format!("/get/{never_put}");
    ensure!(sidecar.ask("GET", &path, b"").await?.status == 404);
    std::fs::write(archive.join(&never_put), b"damaged")?;
    ensure!(sidecar.ask("GET", &path, b"").await?.status == 503);
    // A damaged copy is healed by what is read instead.
    let damaged = vec![0; first.len()];
    std::fs::write(archive.join(keccak(&first)), &damaged)?;
    is(&sidecar.ask("GET", &format!("/get/{}", keccak(&first)), b"").await?, 200, &first)?;
    ensure!(std::fs::read(archive.join(keccak(&first)))? == *first, "still damaged");
    for member in DevnetPlan::load(&devnet.folder())?.members(&devnet.folder()) {
        devnet.kill(&member.name)?;
    }
    std::fs::write(archive.join(keccak(&second)), b"other bytes")?;
    is(&sidecar.ask("GET", &format!("/get/{}", keccak(&first)), b"").await?, 200, &first)?;
    ensure!(sidecar.ask("GET", &format!("/get/{}", keccak(&second)), b"").await?.status == 503);
    ensure!(metric(&sidecar, "meridian_altda_reads_total{from=\"archive\"}").await? == 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_it_works_and_stops_when_told() -> Result<()> {
    let (devnet, sidecar) = network(&["--retention", "2d", "--failover", "generic"]).await?;
    let config: Value = serde_json::from_slice(&sidecar.ask("GET", "/config", b"").await?.body)?;
    ensure!(config["committee"] == devnet.committee().fingerprint().to_string(), "{config}");
    ensure!(config["retention_seconds"] == 2 * 86_400 && config["failover"] == "generic", "{config}");
    ensure!(config["gateways"][0] == devnet.gateways()[0], "{config}");
    sidecar.stop()?;
    ensure!(sidecar.output().contains("--altda.da-server=http://127.0.0.1:"), "{}", sidecar.output());
    for (arguments, complaint) in [
        (["--retention", "1s"], "outside the committee's limits"),
        (["--memory", "1000"], "does not fit into --memory"),
        (["--patience", "2h"], "longer than 3600 s"),
        (["--listen", "192.0.2.1:3100"], "name another address with --listen"),
    ] {
        let output = devnet.da()?.args(["altda", "serve"]).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(complaint), "{arguments:?}: {said}");
    }
    Ok(())
}

/// 404 says to a node that an input is gone: that is certain of what has expired.
#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_gone() -> Result<()> {
    let replica = replica::Settings {
        expiry_grace_seconds: 1,
        sweep_seconds: 1,
        unsigned_seconds: 1,
        ..replica::Settings::default()
    };
    let network = Network::start(Plan { retention: (1, 86_400), replica, ..Plan::default() }).await?;
    let command = Sidecar::command(&network.gateways(), &network.committee_file())?;
    let sidecar = Sidecar::start(command, &["--cache", "0", "--retention", "3s"]).await?;
    let input = payload::noise(5_000, 1);
    let put = sidecar.ask("POST", &format!("/put/{}", keccak(&input)), &input).await?;
    ensure!(put.status == 200, "{}", put.text());
    let path = format!("/get/{}", keccak(&input));
    let begun = Instant::now();
    loop {
        let answer = sidecar.ask("GET", &path, b"").await?;
        if answer.status == 404 {
            ensure!(answer.text().contains("expired"), "{}", answer.text());
            return Ok(());
        }
        // While some have dropped it and others not yet, nobody can be certain.
        ensure!([200, 503].contains(&answer.status), "{}", answer.text());
        ensure!(
            begun.elapsed() < Duration::from_secs(60),
            "still {}: {}",
            answer.status,
            answer.text().len()
        );
        // Without a chain later checkpoints tell the time.
        let later = payload::noise(100, begun.elapsed().as_secs());
        ensure!(sidecar.ask("POST", "/put", &later).await?.status == 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
