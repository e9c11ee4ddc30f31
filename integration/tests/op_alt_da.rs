//! The OP Stack's own client and manager (`peers/op-alt-da`) use a network through `da altda serve`, unmodified.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use meridian_integration::devnet::Devnet;
use meridian_integration::golang::Peer;
use meridian_integration::knobs;
use meridian_integration::liars::ReplicaLie;
use meridian_integration::liars::denier::Denier;
use meridian_integration::liars::half_stream::HalfStream;
use meridian_integration::liars::misplaced::Misplaced;
use meridian_integration::liars::other_blob::OtherBlob;
use meridian_integration::liars::wrong_proofs::WrongProofs;
use meridian_integration::liars::wrong_rows::WrongRows;
use meridian_integration::network::{Network, Plan};
use meridian_integration::sidecar::Sidecar;
use meridian_node::devnet::Plan as DevnetPlan;

/// A sidecar beside a devnet, that gives up so soon that tests need not wait.
async fn beside(devnet: &Devnet, arguments: &[&str]) -> Result<Sidecar> {
    Sidecar::start(devnet.da()?, &[&["--patience", "3"], arguments].concat()).await
}

/// Names of the devnet's replicas and of its gateway.
fn members(devnet: &Devnet) -> Result<(Vec<String>, String)> {
    let members = DevnetPlan::load(&devnet.folder())?.members(&devnet.folder());
    let (replicas, gateways): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|member| member.role == "replica");
    let gateway = gateways.into_iter().next().context("a gateway")?;
    Ok((replicas.into_iter().map(|member| member.name).collect(), gateway.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_works_in_both_modes() -> Result<()> {
    let Some(peer) = Peer::build_or_skip()? else { return Ok(()) };
    let devnet = Devnet::start(&[], &[]).await?;
    let sidecar = beside(&devnet, &["--generic-limit", "2000000"]).await?;
    for test in [
        "TestEveryRealBatchComesBack",
        "TestRepeatedPutsHaveOneCommitment",
        "TestThirtyTwoAtATime",
        "TestWhatNobodyPutIsNotFound",
        "TestEmptyAndOversizeInputsAreRefused",
        "TestTheManagerDerives",
        "TestTheManagerWaitsForWhatIsMissing",
        "TestTheManagerFollowsChallenges",
    ] {
        peer.run(test, &sidecar.url(), &[]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_never_sees_what_a_replica_makes_up() -> Result<()> {
    let Some(peer) = Peer::build_or_skip()? else { return Ok(()) };
    let lies: [(&str, Arc<dyn ReplicaLie>); 7] = [
        ("wrong rows", Arc::new(WrongRows)),
        ("wrong proofs", Arc::new(WrongProofs::Flipped)),
        ("misplaced rows", Arc::new(Misplaced)),
        ("half a stream", Arc::new(HalfStream::Ends)),
        ("another blob", Arc::new(OtherBlob::new(true))),
        ("denies everything", Arc::new(Denier::Unknown)),
        ("says that everything expired", Arc::new(Denier::Expired)),
    ];
    for (name, lie) in lies {
        let plan = Plan { replica_lies: BTreeMap::from([(0, lie)]), ..Plan::default() };
        let network = Network::start(plan).await?;
        let command = Sidecar::command(&network.gateways(), &network.committee_file())?;
        // The liar seems to be the nearest, and nothing is kept in memory.
        let sidecar = Sidecar::start(command, &["--cache", "0", "--near", "37.8,-122.4"]).await?;
        for test in ["TestEveryRealBatchComesBack", "TestWhatNobodyPutIsNotFound"] {
            peer.run(test, &sidecar.url(), &[]).await.with_context(|| name.to_owned())?;
        }
    }
    Ok(())
}

/// Every member is killed in turn, the gateway first. `MERIDIAN_ALTDA_SECONDS` makes it a soak: a kill every half minute.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_goes_on_while_members_are_killed() -> Result<()> {
    let Some(peer) = Peer::build_or_skip()? else { return Ok(()) };
    let soak = knobs::number("MERIDIAN_ALTDA_SECONDS")?;
    let seconds = soak.unwrap_or(16);
    let (pause, down) = if soak.is_some() { (20, 10) } else { (1, 2) };
    let devnet = Devnet::start(&[], &[]).await?;
    // Longer than anybody is down: no outage is seen by the client.
    let sidecar = Sidecar::start(devnet.da()?, &["--cache", "0", "--patience", "25"]).await?;
    let (replicas, gateway) = members(&devnet)?;
    let url = sidecar.url();
    let text = seconds.to_string();
    let variables = [("MERIDIAN_SECONDS", text.as_str())];
    let run = peer.run("TestPutsAndReadsGoOn", &url, &variables);
    let kills = async {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut killed = 0;
        for member in [&gateway].into_iter().chain(&replicas).cycle() {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            if Instant::now() >= end {
                break;
            }
            devnet.kill(member)?;
            killed += 1;
            tokio::time::sleep(Duration::from_secs(down)).await;
            devnet.revive(member)?;
        }
        Ok(killed)
    };
    let (said, killed) = tokio::try_join!(run, kills)?;
    let counts: Vec<&str> = said.lines().filter(|line| line.contains(" on the way")).collect();
    for line in &counts {
        println!("{}, {killed} kills", line.trim());
    }
    ensure!(counts.len() == 2 && counts.iter().all(|line| line.contains(", 0 failures")), "{counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn down_to_the_quorum_below_it_and_back() -> Result<()> {
    let Some(peer) = Peer::build_or_skip()? else { return Ok(()) };
    let devnet = Devnet::start(&[], &[]).await?;
    let sidecar = beside(&devnet, &["--cache", "0"]).await?;
    let url = sidecar.url();
    let folder = tempfile::tempdir()?;
    let ledger = folder.path().join("ledger");
    let ledger = [("MERIDIAN_LEDGER", ledger.to_str().context("a path")?)];
    let (replicas, _) = members(&devnet)?;
    let quorum = devnet.committee().min_copies();
    peer.run("TestPutAndNote", &url, &ledger).await?;
    let (spare, needed) = replicas.split_at(replicas.len() - quorum);
    for replica in spare {
        devnet.kill(replica)?;
    }
    peer.run("TestPutAndNote", &url, &ledger).await.context("at the quorum")?;
    peer.run("TestNotedComeBack", &url, &ledger).await.context("at the quorum")?;
    ensure!(sidecar.ask("GET", "/ready", b"").await?.status == 200, "not ready at the quorum");
    let (last, first) = needed.split_last().context("a quorum")?;
    for (place, replica) in needed.iter().enumerate() {
        devnet.kill(replica)?;
        if place == 0 {
            peer.run("TestPutsFailForNow", &url, &ledger).await.context("below the quorum")?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            ensure!(sidecar.ask("GET", "/ready", b"").await?.status == 503, "ready below the quorum");
        }
        for test in ["TestNotedAreNeverWrongOrGone", "TestTheManagerNeverGivesUpWhatIsOutOfReach"] {
            peer.run(test, &url, &ledger).await.with_context(|| format!("without {}", place + 1))?;
        }
    }
    for replica in spare.iter().chain(first).chain([last]) {
        devnet.revive(replica)?;
    }
    let back = async {
        while peer.run("TestPutAndNote", &url, &ledger).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back).await.context("no puts after they came back")?;
    peer.run("TestNotedComeBack", &url, &ledger).await.context("after they came back")?;
    Ok(())
}
