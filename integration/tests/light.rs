//! A light client beside a real network: what it follows, samples and reports, and what it finds when somebody withholds,
//! forks or hides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::chain::view::{Anchor, Head, View};
use meridian_client::evidence::Evidence;
use meridian_client::fetch::Readers;
use meridian_client::light::compare::Compared;
use meridian_client::light::report::LightReport;
use meridian_client::light::{LightClient, Settings, http};
use meridian_client::rpc::Channels;
use meridian_integration::devnet::Devnet;
use meridian_integration::liars::ReplicaLie;
use meridian_integration::liars::withholder::{Withheld, Withholder};
use meridian_integration::network::{Name, Network, Plan, complete, eventually, options};
use meridian_integration::programs::Programs;
use meridian_integration::{payload, ports};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proofs::committee::{Committee, CommitteeParts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Rows that are drawn.
const SAMPLES: usize = 16;
/// Time until every region has a blob.
const SOON: Duration = Duration::from_secs(60);

fn settings(folder: &Path, patience: u64) -> Settings {
    Settings {
        samples: SAMPLES,
        folder: folder.to_owned(),
        at_once: 4,
        patience: Duration::from_secs(patience),
        spread: Duration::ZERO,
        checkpoints: false,
        peers: Vec::new(),
    }
}

fn light(network: &Network, settings: Settings) -> Result<LightClient> {
    let readers = Readers::new(network.view().subscribe(), network.channels().clone());
    Ok(LightClient::open(readers, settings)?)
}

/// Lets the chain say what a certificate says of its log.
fn anchor(view: &watch::Sender<Arc<View>>, certificate: &Certificate) {
    let checkpoint = certificate.checkpoint.signed.checkpoint;
    view.send_modify(|view| {
        let mut anchored = View::clone(view);
        let number = anchored.head.map_or(1, |head| head.number + 1);
        anchored.head = Some(Head { number, timestamp: checkpoint.timestamp });
        let anchors = anchored.anchors.entry(checkpoint.gateway).or_default();
        *anchors = vec![Anchor {
            gateway: checkpoint.gateway,
            epoch: checkpoint.epoch,
            size: checkpoint.size,
            root: checkpoint.root,
            timestamp: checkpoint.timestamp,
            block: number,
        }];
        *view = Arc::new(anchored);
    });
}

async fn put(network: &Network, length: usize, seed: u64) -> Result<Certificate> {
    let certificate = network.put(payload::noise(length, seed)).await?;
    Ok(complete(network.committee(), network.channels(), &certificate, SOON).await?.0)
}

fn draws(client: &LightClient, certificates: &[Certificate]) -> Result<Vec<Vec<u32>>> {
    let draw = |certificate: &Certificate| {
        Ok(client.state().blob(&certificate.id())?.context("a blob that was noted")?.draw)
    };
    certificates.iter().map(draw).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_anchored_blob_is_sampled_and_nothing_is_drawn_twice() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let folder = tempfile::tempdir()?;
    let mut certificates = Vec::new();
    for (seed, length) in (0..).zip([1_000, 30_000, 130_000, 1 << 20]) {
        certificates.push(put(&network, length, seed).await?);
    }
    let client = light(&network, settings(folder.path(), 20))?;
    // Nothing is anchored, so there is nothing to say.
    client.run_once().await?;
    assert_eq!(client.report().await?.verdict, "nothing to sample yet");
    anchor(network.view(), certificates.last().context("a put")?);
    client.run_once().await?;
    let report = client.report().await?;
    assert_eq!((report.blobs.sampled, report.blobs.exact, report.blobs.pending), (3, 1, 0), "{report:?}");
    assert_eq!(report.verdict, "all samples of 4 blobs verified");
    assert_eq!(report.logs.len(), 1);
    assert_eq!(
        (report.logs[0].state.as_str(), report.logs[0].size, report.logs[0].block),
        ("followed", 4, Some(1))
    );
    for certificate in &certificates {
        let blob = client.blob_report(certificate.id()).await?.context("a blob")?;
        assert_eq!(blob.index, certificate.index);
        assert_eq!((blob.verified, blob.missing.len()), (blob.drawn, 0));
        let is_exact = blob.data_rows <= SAMPLES;
        assert_eq!((blob.standing == "exact", blob.drawn == 0), (is_exact, is_exact));
        ensure!(blob.bound_unavailable < 1e-8 && (is_exact || blob.bound_misencoded > 1e-5), "{blob:?}");
    }
    let log = network.address(Name::Gateway(0))?;
    let range = client.range_report(log, 0, 4).await?.context("a log")?;
    ensure!(range.bound_misencoded.is_some_and(|bound| bound > 1e-5 && bound < 1e-3), "{range:?}");
    let beyond = client.range_report(log, 0, 5).await?.context("a log")?;
    assert_eq!((beyond.bound_misencoded, beyond.unknown), (None, 1));
    assert!(client.range_report(network.seat(0)?.address, 0, 4).await?.is_none());

    let before = draws(&client, &certificates)?;
    drop(client);
    let client = light(&network, settings(folder.path(), 20))?;
    certificates.push(put(&network, 200_000, 9).await?);
    anchor(network.view(), &certificates[4]);
    client.run_once().await?;
    let report = client.report().await?;
    assert_eq!((report.blobs.sampled, report.blobs.exact, report.logs[0].size), (4, 1, 5), "{report:?}");
    assert_eq!(draws(&client, &certificates)?[..4], before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn withheld_rows_are_named_and_asked_for_unchanged_until_they_come() -> Result<()> {
    let withholder = Arc::new(Withholder::default());
    let lie = |place| (place, Arc::clone(&withholder) as Arc<dyn ReplicaLie>);
    let plan = Plan { replica_lies: (0..5).map(lie).collect(), ..Plan::default() };
    let network = Network::start(plan).await?;
    let certificate = eventually(SOON, "a put", async || put(&network, 130_000, 1).await.ok()).await?;
    anchor(network.view(), &certificate);
    let folder = tempfile::tempdir()?;
    withholder.turn(Withheld::Everything);
    let client = light(&network, settings(folder.path(), 3))?;
    client.run_once().await?;
    // Nobody was asked for a row yet, so none is shown.
    let report = client.report().await?;
    let blob = report.trouble.first().context("a blob in trouble")?;
    assert_eq!(
        (blob.drawn, blob.missing.len(), blob.standing.as_str()),
        (SAMPLES, 0, "withheld"),
        "{report:?}"
    );
    ensure!(blob.problem.is_some() && withholder.asked().is_empty(), "{report:?}");
    drop(client);
    withholder.turn(Withheld::Rows);
    let client = light(&network, settings(folder.path(), 3))?;
    client.run_once().await?;
    let report = client.report().await?;
    assert_eq!((report.blobs.withheld, report.blobs.sampled), (1, 0), "{report:?}");
    assert_eq!(report.verdict, "1 blobs are withheld");
    let blob = report.trouble.first().context("a blob in trouble")?;
    assert_eq!((blob.drawn, blob.verified, blob.missing.len()), (SAMPLES, 0, SAMPLES));
    assert_eq!((blob.bound_unavailable, blob.bound_misencoded), (1.0, 1.0));
    let named: BTreeSet<&str> = blob.faults.iter().map(|fault| &*fault.replica).collect();
    assert_eq!(named.len(), 5, "{blob:?}");
    let draw = client.state().blob(&certificate.id())?.context("a blob")?.draw;
    let drawn: BTreeSet<u32> = draw.iter().copied().collect();
    assert_eq!(withholder.asked(), drawn);

    // Also after a restart the same rows are asked for, and when they come that is enough.
    drop(client);
    let client = light(&network, settings(folder.path(), 3))?;
    client.run_once().await?;
    assert_eq!(client.report().await?.blobs.withheld, 1);
    let again = withholder.asked();
    ensure!(again.is_subset(&drawn), "{again:?} is not of {drawn:?}");
    withholder.turn(Withheld::Nothing);
    drop(client);
    let client = light(&network, settings(folder.path(), 30))?;
    client.run_once().await?;
    let report = client.report().await?;
    assert_eq!((report.blobs.withheld, report.blobs.sampled), (0, 1), "{report:?}");
    assert_eq!(withholder.asked(), drawn);
    assert_eq!(client.state().blob(&certificate.id())?.context("a blob")?.draw, draw);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_nobody_gives_make_the_log_withheld() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let certificate = put(&network, 20_000, 1).await?;
    for place in 0..5 {
        network.kill(Name::Replica(place)).await?;
    }
    anchor(network.view(), &certificate);
    let folder = tempfile::tempdir()?;
    let client = light(&network, settings(folder.path(), 2))?;
    client.run_once().await?;
    let report = client.report().await?;
    let log = report.logs.first().context("a log")?;
    assert_eq!((log.state.as_str(), log.size, log.head_size), ("withheld", 0, 1));
    assert_eq!(log.faults.len(), 5);
    ensure!(log.since.is_some(), "since when?");
    assert_eq!(report.verdict, "1 logs have entries that nobody gives");
    // Four of five come back.
    for place in 0..4 {
        network.restart(Name::Replica(place)).await?;
    }
    drop(client);
    let client = light(&network, settings(folder.path(), 30))?;
    client.run_once().await?;
    let report = client.report().await?;
    assert_eq!((report.logs[0].state.as_str(), report.blobs.sampled), ("followed", 1), "{report:?}");
    Ok(())
}

/// The committee of a network as one of several epochs.
fn term(committee: &Committee, epoch: u64) -> Result<Term> {
    let parts = CommitteeParts { epoch, ..committee.parts().clone() };
    Ok(Term { committee: Arc::new(Committee::new(parts)?), activation: epoch, closes: None })
}

/// Two networks whose members have the same keys: one gateway that signs two logs, with replicas for each. The second log
/// has another entry in the second place.
async fn forked() -> Result<([Network; 2], [Vec<Certificate>; 2])> {
    let networks = [Network::start(Plan::default()).await?, Network::start(Plan::default()).await?];
    let mut logs = [Vec::new(), Vec::new()];
    for (place, network) in networks.iter().enumerate() {
        for seed in 0..3 {
            let seed = if seed == 0 { 0 } else { seed + 10 * u64::try_from(place)? };
            logs[place].push(put(network, 20_000, seed).await?);
        }
    }
    Ok((networks, logs))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_continue_is_followed_no_further() -> Result<()> {
    let ([one, other], [first, second]) = forked().await?;
    let view = watch::Sender::new(Arc::clone(&one.view().borrow()));
    let folder = tempfile::tempdir()?;
    let readers = Readers::new(view.subscribe(), Channels::new());
    let client = LightClient::open(readers, settings(folder.path(), 5))?;
    anchor(&view, &first[1]);
    client.run_once().await?;
    let log = one.address(Name::Gateway(0))?;
    assert_eq!(client.state().log(&log)?.size, 2);
    // Whoever answers now has only the other log.
    view.send_modify(|view| {
        *view = Arc::new(View { epochs: Epochs::fixed(Arc::clone(other.committee())), ..View::clone(view) });
    });
    anchor(&view, &second[2]);
    client.run_once().await?;
    let report: LightReport = client.report().await?;
    let contradicts = report.logs.first().context("a log")?;
    assert_eq!(contradicts.state, "contradicts", "{report:?}");
    let before = contradicts.before.as_ref().context("what was seen before")?;
    let seen = first[1].checkpoint.signed.checkpoint;
    assert_eq!((before.size, &before.root), (2, &seen.root.to_string()));
    assert_eq!(report.verdict, "1 logs contradict what was seen of them before");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_checkpoints_become_evidence_that_others_can_check() -> Result<()> {
    let ([one, other], [first, second]) = forked().await?;
    // Both kinds of replicas are in reach, as members of two epochs.
    let terms = vec![term(one.committee(), 1)?, term(other.committee(), 2)?];
    let both = View { epochs: Epochs::new(terms)?, ..View::clone(&one.view().borrow()) };
    let view = watch::Sender::new(Arc::new(both));
    let folder = tempfile::tempdir()?;
    let client =
        LightClient::open(Readers::new(view.subscribe(), Channels::new()), settings(folder.path(), 5))?;
    anchor(&view, &first[1]);
    client.run_once().await?;

    assert_eq!(client.compare(&first[0].checkpoint).await?, Compared::Agrees);
    assert_eq!(client.compare(&first[1].checkpoint).await?, Compared::Agrees);
    assert_eq!(client.compare(&first[2].checkpoint).await?, Compared::Agrees);
    // The first entry is the same in both logs.
    let same = second[0].checkpoint.signed.checkpoint.root == first[0].checkpoint.signed.checkpoint.root;
    let of_first = client.compare(&second[0].checkpoint).await?;
    ensure!((of_first == Compared::Agrees) == same, "{of_first:?}");
    let mut files = Vec::new();
    for conflicting in &second[1..] {
        match client.compare(&conflicting.checkpoint).await? {
            Compared::Conflicts(file) => files.push(file),
            compared => {
                anyhow::bail!("{compared:?} for size {}", conflicting.checkpoint.signed.checkpoint.size)
            }
        }
    }
    let log = one.address(Name::Gateway(0))?;
    for file in &files {
        let convicted = Evidence::decode(&std::fs::read(folder.path().join(file))?)?.verify()?;
        assert_eq!(convicted.gateway, log);
        assert_eq!(convicted.both.len(), convicted.cosigners.iter().map(Vec::len).min().unwrap_or_default());
    }
    let known: BTreeSet<String> = client.report().await?.evidence.into_iter().collect();
    ensure!(files.iter().all(|file| known.contains(file)), "{known:?}");

    // A larger size of the other log is refuted by its leaves, where its roots cannot be compared.
    let leaves = tempfile::tempdir()?;
    let readers = Readers::new(view.subscribe(), Channels::new());
    let second_client = LightClient::open(readers, settings(leaves.path(), 5))?;
    second_client.run_once().await?;
    assert_eq!(second_client.compare(&first[1].checkpoint).await?, Compared::Agrees);
    let compared = second_client.compare(&second[2].checkpoint).await?;
    let Compared::Conflicts(file) = compared else { anyhow::bail!("{compared:?}") };
    let evidence = Evidence::decode(&std::fs::read(leaves.path().join(&file))?)?;
    ensure!(evidence.index().is_some(), "{evidence:?}");
    assert_eq!(evidence.verify()?.gateway, log);

    // Another light client, which has seen the other log, finds it by asking the first over HTTP.
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?).parse()?;
    let pages = tokio::spawn(http::serve(listener, None, Arc::new(client), stop.clone()));
    let third = tempfile::tempdir()?;
    let asks = Settings { peers: vec![url], ..settings(third.path(), 5) };
    let third_client =
        LightClient::open(Readers::new(other.view().subscribe(), other.channels().clone()), asks)?;
    anchor(other.view(), &second[1]);
    third_client.run_once().await?;
    assert_eq!(third_client.compare(&second[1].checkpoint).await?, Compared::Agrees);
    third_client.run_once().await?;
    let found = third_client.report().await?.evidence;
    ensure!(!found.is_empty(), "no evidence from the peer");
    stop.cancel();
    pages.await??;

    // And anybody checks it with the command, offline.
    let path = third.path().join(&found[0]);
    let da = |arguments: &[&str]| -> Result<std::process::Output> {
        let mut command = Programs::build()?.da();
        command.env("XDG_CONFIG_HOME", third.path()).args(arguments).arg(&path);
        Ok(command.output()?)
    };
    let committee = one.committee_file();
    let output = da(&["--json", "--committee", committee.to_str().context("a path")?, "evidence", "verify"])?;
    ensure!(output.status.success(), "{output:?}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(printed["gateway"], log.to_string());
    assert_eq!(printed["member"], true);
    let state = third.path().join("imported");
    let output = da(&["evidence", "import", "--state", state.to_str().context("a path")?])?;
    ensure!(output.status.success() && state.join(&found[0]).exists(), "{output:?}");
    let mut forged = std::fs::read_to_string(&path)?;
    forged = forged.replacen("\"size\": ", "\"size\": 1", 1);
    std::fs::write(&path, forged)?;
    assert_eq!(da(&["evidence", "verify"])?.status.code(), Some(5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_followed_between_anchors_where_that_is_asked() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    put(&network, 20_000, 1).await?;
    let folder = tempfile::tempdir()?;
    let client = light(&network, Settings { checkpoints: true, ..settings(folder.path(), 20) })?;
    ensure!(client.run_once().await?, "a log was not followed");
    let report = client.report().await?;
    assert_eq!((report.blobs.sampled, report.logs[0].block), (1, None), "{report:?}");
    // What is anchored later under the same root says so.
    let certificate = put(&network, 30_000, 2).await?;
    client.run_once().await?;
    anchor(network.view(), &certificate);
    client.run_once().await?;
    let report = client.report().await?;
    assert_eq!(
        (report.blobs.sampled, report.logs[0].size, report.logs[0].block),
        (2, 2, Some(1)),
        "{report:?}"
    );
    drop(client);
    // Where nobody answers nobody knows whether there is more.
    for name in (0..5).map(Name::Replica).chain([Name::Gateway(0)]) {
        network.kill(name).await?;
    }
    let client = light(&network, Settings { checkpoints: true, ..settings(folder.path(), 1) })?;
    ensure!(!client.run_once().await?, "nobody can have told how far the log goes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_what_is_known_and_nothing_of_what_was_not_asked_for() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let certificate = put(&network, 30_000, 1).await?;
    anchor(network.view(), &certificate);
    let folder = tempfile::tempdir()?;
    let client = Arc::new(light(&network, settings(folder.path(), 20))?);
    client.run_once().await?;
    let router = http::router(Arc::clone(&client));
    let get = async |path: String| -> Result<(u16, String)> {
        use tower::ServiceExt;
        let request = axum::http::Request::get(path).body(axum::body::Body::empty())?;
        let response = router.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await?;
        Ok((status, String::from_utf8(body.to_vec())?))
    };
    let (id, log) = (certificate.id(), network.address(Name::Gateway(0))?);
    for (path, status, part) in [
        ("/health".to_owned(), 200, "serving"),
        ("/status".to_owned(), 200, "all samples of 1 blobs verified"),
        (format!("/blobs/{id}"), 200, "\"standing\":\"sampled\""),
        (format!("/blobs/0x{}", "00".repeat(32)), 404, "error"),
        ("/blobs/nonsense".to_owned(), 400, ""),
        ("/blobs?standing=sampled&limit=1".to_owned(), 200, "\"standing\":\"sampled\""),
        ("/blobs?standing=exact".to_owned(), 200, "\"blobs\":[]"),
        ("/blobs?limit=0".to_owned(), 400, "limit"),
        ("/blobs?limit=1000".to_owned(), 200, "blobs"),
        ("/blobs?limit=1001".to_owned(), 400, "limit"),
        ("/blobs?other=1".to_owned(), 400, ""),
        (format!("/logs/{log}"), 200, "\"bound_unavailable\":"),
        (format!("/logs/{log}?from=1&to=0"), 400, "from is above to"),
        (format!("/logs/{log}?from=0&to=9"), 200, "\"bound_unavailable\":null"),
        (format!("/logs/{}", network.seat(0)?.address), 404, "error"),
        ("/checkpoints".to_owned(), 200, "["),
        ("/metrics".to_owned(), 200, "meridian_light_blobs{standing=\"sampled\"} 1"),
        ("/else".to_owned(), 404, ""),
    ] {
        let (found, body) = get(path.clone()).await?;
        ensure!(found == status && body.contains(part), "{path}: {found} {body}");
    }
    let drawn = client.state().blob(&id)?.context("a blob")?.draw;
    let (_, body) = get(format!("/blobs/{id}")).await?;
    let shown: BTreeMap<String, serde_json::Value> = serde_json::from_str(&body)?;
    assert_eq!(drawn.len(), SAMPLES);
    ensure!(!shown.contains_key("draw"), "the draw is shown");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_follows_a_chain_and_shows_what_it_knows() -> Result<()> {
    let Some(devnet) = Devnet::start_on_chain(&[], &[]).await? else { return Ok(()) };
    let put = devnet.submitter().put(payload::noise(130_000, 1), &options(), &Silent).await?.certificate;
    let (url, contract) = devnet.chain()?;
    let folder = tempfile::tempdir()?;
    let http = format!("http://{}", ports::listener()?.local_addr()?);
    let da = |arguments: &[&str]| -> Result<Command> {
        let mut command = Programs::build()?.da();
        command.env("XDG_CACHE_HOME", folder.path()).arg("--json").args(arguments);
        Ok(command)
    };
    let contract = contract.to_string();
    let state = folder.path().join("state");
    let light = |more: &[&str]| -> Result<Command> {
        let chain = ["light", "--chain", &url, "--contract", &contract, "--settled", "0"];
        let state = state.to_str().context("a path")?;
        da(&[&chain, ["--samples", "16", "--state", state].as_slice(), more].concat())
    };
    let mut child = light(&["--http", http.trim_start_matches("http://")])?.stderr(Stdio::piped()).spawn()?;
    let status = || -> Result<Option<LightReport>> {
        let output = da(&["light", "status", "--http", &http])?.output()?;
        Ok(output.status.success().then(|| serde_json::from_slice(&output.stdout)).transpose()?)
    };
    let report = eventually(SOON, "a light client that has sampled the blob", async || {
        status().ok().flatten().filter(|report| report.blobs.sampled == 1)
    });
    let report = report.await?;
    let log = report.logs.first().context("a log")?;
    assert_eq!(log.log, put.checkpoint.signed.checkpoint.gateway.to_string());
    ensure!(log.block.is_some() && report.block.is_some(), "{report:?}");
    assert_eq!(
        (report.contract.as_str(), report.verdict.as_str()),
        (&*contract, "all samples of 1 blobs verified")
    );
    // Its state belongs to it alone, and it ends when it is asked to.
    let other = light(&["--once"])?.output()?;
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    ensure!(child.wait()?.success(), "it did not end well");
    ensure!(status()?.is_none(), "it is still there");
    let once = light(&["--once"])?.output()?;
    ensure!(once.status.success(), "{once:?}");
    let printed: LightReport = serde_json::from_slice(&once.stdout)?;
    assert_eq!(printed.blobs.sampled, 1);
    Ok(())
}
