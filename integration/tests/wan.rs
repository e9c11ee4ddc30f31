//! Real processes that are as far from each other as regions of the world.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use meridian_client::rpc::Channels;
use meridian_client::{Silent, committee_source};
use meridian_integration::devnet::Devnet;
use meridian_integration::network::{complete, eventually, options};
use meridian_integration::payload;
use meridian_node::devnet::round_trip;
use meridian_proofs::committee::Committee;

/// Time in which anything must come about.
const SOON: Duration = Duration::from_secs(60);

fn ms(from: &str, to: &str) -> Result<Duration> {
    round_trip(from, to).context("places that are known")
}

fn endpoint(committee: &Committee, label: &str) -> Result<String> {
    let region = committee.regions().iter().find(|region| region.label == label).context("a region")?;
    Ok(committee.seats_of(region.id).next().context("a seat")?.endpoint.clone())
}

/// How long a replica takes to answer over a connection that is there.
async fn answer(channels: &Channels, endpoint: &str) -> Result<Duration> {
    let replica = channels.replica(endpoint)?;
    replica.status().await?;
    let begun = Instant::now();
    replica.status().await?;
    Ok(begun.elapsed())
}

/// What is far from a place takes a round trip; what is near has answered before that in one of many races.
async fn is_at(folder: &Path, place: &str, far: &str) -> Result<()> {
    let committee = committee_source::load(&folder.join(format!("committee-from-{place}.toml")))?;
    let channels = Channels::new();
    let (here, there) = (endpoint(&committee, place)?, endpoint(&committee, far)?);
    let far = ms(place, far)?;
    let mut has_won = false;
    for _ in 0..10 {
        let (near, took) = tokio::join!(answer(&channels, &here), answer(&channels, &there));
        let (near, took) = (near?, took?);
        ensure!(took >= far, "{took:?} from {place}, a round trip takes {far:?}");
        ensure!(near >= ms(place, place)?, "{near:?} within {place}");
        has_won |= near < far;
    }
    ensure!(has_won, "the replica in {place} is as far as the other one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_takes_as_long_as_the_world_is_wide() -> Result<()> {
    let mut network = Devnet::start(&["--wan", "--wan-mbps", "1000"], &[]).await?;
    let folder = network.folder();
    is_at(&folder, "na-west", "ap-southeast").await?;
    is_at(&folder, "ap-southeast", "eu-central").await?;

    // The gateway is in na-west, and the fourth region from there is eu-central: rows go there, then a checkpoint.
    let payload = payload::noise(60_000, 1);
    let begun = Instant::now();
    let receipt = network.submitter().put(payload.clone(), &options(), &Silent).await?;
    let (took, least) = (begun.elapsed(), 2 * ms("na-west", "eu-central")?);
    ensure!(took >= least, "a put in {took:?}, and two round trips take {least:?}");
    ensure!(network.reader().payload(receipt.certificate.id(), &Silent).await?.payload == payload);

    // A member that comes back is as far as it was, and catches up.
    network.kill("eu-central-0")?;
    let missed = network.submitter().put(payload::noise(60_000, 2), &options(), &Silent).await?;
    network.revive("eu-central-0")?;
    complete(network.seen(), network.channels(), &missed.certificate, SOON).await?;
    is_at(&folder, "na-west", "eu-central").await?;

    network.restart().await?;
    is_at(&folder, "na-west", "ap-southeast").await?;
    eventually(SOON, "a read after the restart", async || {
        let read = network.reader().payload(receipt.certificate.id(), &Silent).await.ok()?;
        (read.payload == payload).then_some(())
    })
    .await?;
    // Nobody starts a member that could reach nobody.
    network.stop()?;
    let refused = network.revive("eu-central-0").map_err(|error| error.to_string());
    ensure!(refused.as_ref().is_err_and(|said| said.contains("does not run")), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_chain_members_go_other_ways_than_clients() -> Result<()> {
    let arguments = ["--wan", "--wan-from", "sa-east", "--regions", "na-west,eu-central,ap-southeast"];
    let Some(network) = Devnet::start_on_chain(&arguments, &[]).await? else { return Ok(()) };
    // The contract leads clients through the relays of their place: from there a call takes as long as it should.
    let seen = network.seen();
    let took = answer(network.channels(), &endpoint(seen, "ap-southeast")?).await?;
    ensure!(took >= ms("sa-east", "ap-southeast")?, "{took:?}");
    let da = network.chain().map(|(url, contract)| (url, contract.to_string()))?;
    let mut command = network.da()?;
    command.env_remove("MERIDIAN_COMMITTEE").env("MERIDIAN_CHAIN", da.0).env("MERIDIAN_CONTRACT", da.1);
    let input = network.folder().join("in");
    std::fs::write(&input, payload::noise(60_000, 3))?;
    let begun = Instant::now();
    let put = command.env("MERIDIAN_SETTLED", "0").arg("put").arg(&input).output()?;
    ensure!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    // From the clients to the gateway in na-west, and from there twice to the farthest of three regions, or it would not
    // be certified: members do not take the clients' ways, which are longer.
    let least = ms("sa-east", "na-west")? + 2 * ms("na-west", "ap-southeast")?;
    ensure!(begun.elapsed() >= least, "{:?}, and {least:?} are needed", begun.elapsed());
    let status = network.channels().gateway(&network.gateways()[0])?.status().await?;
    ensure!(status.seats.iter().all(|seat| seat.connected), "{status:?}");
    Ok(())
}
