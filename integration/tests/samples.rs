//! Samples of light clients: every row from the nearest copy that lives, whoever holds it, and each blob rebuilt once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::fetch::{Draw, FaultKind, Reader, Sampled};
use meridian_client::nearest::Took;
use meridian_integration::devnet::Devnet;
use meridian_integration::liars::ReplicaLie;
use meridian_integration::liars::flood::Flood;
use meridian_integration::liars::silent::Silent as SilentReplica;
use meridian_integration::liars::wrong_lengths::WrongLengths;
use meridian_integration::liars::wrong_proofs::WrongProofs;
use meridian_integration::liars::wrong_rows::WrongRows;
use meridian_integration::metrics::metric;
use meridian_integration::network::{Name, Network, Plan, complete, eventually, options};
use meridian_integration::payload;
use meridian_node::devnet::{Member, Plan as DevnetPlan};
use meridian_node::replica;
use meridian_proofs::committee::{RegionId, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::shape::RowIndex;
use meridian_proto::convert::GetRows;
use meridian_proto::wire::replica_client::ReplicaClient;

/// Longest time of a sample.
const SAMPLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);

/// A reader to whom the seats are the farther the later they come in this order.
fn reader(network: &Network, order: &[usize]) -> Result<Reader> {
    let reader = network.reader();
    for (rank, place) in (0..).zip(order) {
        // So far that nobody is late who answers at all.
        let distance = Duration::from_millis(500 + 100 * rank);
        reader.nearest().answered(network.seat(*place)?.address, Took::RoundTrip(distance));
    }
    Ok(reader)
}

async fn sample(reader: &Reader, id: BlobId) -> Result<Sampled> {
    let context = reader.find(id).await?.context;
    let draw = Draw::new(context.shape(), 16)?;
    Ok(tokio::time::timeout(SAMPLE, reader.sample_rows(&context, &draw)).await??)
}

/// Puts a payload and waits until every region has it.
async fn put(network: &Network, length: usize, seed: u64) -> Result<BlobId> {
    let certificate = network.put(payload::noise(length, seed)).await?;
    complete(network.committee(), network.channels(), &certificate, PATIENCE).await?;
    Ok(certificate.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_that_are_down_cost_no_sample() -> Result<()> {
    for seats in [1, 4] {
        let mut network = Network::start(Plan { seats, ..Plan::default() }).await?;
        let ids = [put(&network, 20_000, 1).await?, put(&network, 300_000, 2).await?];
        let places: Vec<usize> = (0..5 * usize::from(seats)).collect();
        for down in 0..=2_usize {
            let nearest = RegionId(u16::try_from(down + 1)?);
            for id in ids {
                // Who knows the regions, and does not know that the nearest are down; and who knows nothing.
                for reader in [reader(&network, &places)?, network.reader()] {
                    let sampled = sample(&reader, id).await?;
                    ensure!(sampled.verified.len() == 16, "{down} down: {sampled:?}");
                    let dead = |region: RegionId| usize::from(region.0) <= down;
                    ensure!(sampled.faults.iter().all(|fault| dead(fault.region)), "{sampled:?}");
                }
                let sampled = sample(&reader(&network, &places)?, id).await?;
                ensure!(sampled.regions.contains(&nearest), "{down} down: {:?}", sampled.regions);
            }
            for seat in 0..usize::from(seats) {
                network.kill(Name::Replica(down * usize::from(seats) + seat)).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_rebuild_gives_what_it_holds_and_others_give_the_rest() -> Result<()> {
    let replica = replica::Settings { rebuild_memory_bytes: 1, ..replica::Settings::default() };
    let network = Network::start(Plan { replica, ..Plan::default() }).await?;
    for (length, seed) in [(20_000, 1), (300_000, 2)] {
        let id = put(&network, length, seed).await?;
        for reader in [reader(&network, &[0, 1, 2, 3, 4])?, network.reader()] {
            let sampled = sample(&reader, id).await?;
            ensure!(sampled.verified.len() == 16, "{sampled:?}");
            // Nobody was out of reach or lied.
            ensure!(sampled.faults.iter().all(|it| it.kind == FaultKind::Missing), "{sampled:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_replica_lies_and_every_sample_is_answered_by_others() -> Result<()> {
    let lies: [Arc<dyn ReplicaLie>; 7] = [
        Arc::new(WrongRows),
        Arc::new(WrongProofs::Flipped),
        Arc::new(WrongProofs::Short),
        Arc::new(WrongProofs::Reversed),
        Arc::new(WrongLengths::Long),
        Arc::new(WrongLengths::Short),
        Arc::new(Flood::OneMore),
    ];
    for lie in lies {
        let network =
            Network::start(Plan { replica_lies: BTreeMap::from([(0, lie)]), ..Plan::default() }).await?;
        let liar = network.seat(0)?.clone();
        for seed in 0..3 {
            let id = put(&network, 20_000, seed).await?;
            // Found by others, so that what is told of the liar is about samples.
            let context = network.reader().without(liar.address).context(id).await?;
            let draw = Draw::new(context.shape(), 16)?;
            let reader = reader(&network, &[0, 1, 2, 3, 4])?;
            let sampled = tokio::time::timeout(SAMPLE, reader.sample_rows(&context, &draw)).await??;
            ensure!(sampled.verified.len() == 16, "{sampled:?}");
            ensure!(sampled.drawn == draw.rows(), "other rows were drawn");
            let named = |kind| sampled.faults.iter().filter(move |fault| fault.kind == kind);
            // In the call for rows that it holds, and in that for others.
            let noticed = named(FaultKind::Wrong).count();
            ensure!((1..=2).contains(&noticed), "the lie was noticed {noticed} times: {sampled:?}");
            ensure!(sampled.faults.iter().all(|fault| fault.seat == liar.address), "{sampled:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearest_replica_that_says_nothing_holds_up_no_sample() -> Result<()> {
    let lie: Arc<dyn ReplicaLie> = Arc::new(SilentReplica::Rows);
    let network =
        Network::start(Plan { replica_lies: BTreeMap::from([(0, lie)]), ..Plan::default() }).await?;
    let id = put(&network, 20_000, 1).await?;
    let reader = reader(&network, &[0, 1, 2, 3, 4])?;
    let sampled = sample(&reader, id).await?;
    ensure!(sampled.verified.len() == 16 && !sampled.regions.contains(&RegionId(1)), "{sampled:?}");
    // It is not the nearest any more.
    let order = reader.nearest().regions(network.committee(), 1, |_| Duration::ZERO);
    ensure!(order[0] != RegionId(1), "{order:?}");
    Ok(())
}

/// The member with a seat.
fn member(devnet: &Devnet, seat: &Seat) -> Result<Member> {
    let members = DevnetPlan::load(&devnet.folder())?.members(&devnet.folder());
    members.into_iter().find(|member| member.endpoint() == seat.endpoint).context("a member")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_rebuilt_for_the_first_sample_and_for_no_other() -> Result<()> {
    let devnet = Devnet::start(&[], &[]).await?;
    let certificate =
        devnet.submitter().put(payload::noise(1 << 20, 1), &options(), &Silent).await?.certificate;
    complete(devnet.committee(), devnet.channels(), &certificate, PATIENCE).await?;
    let (id, seat) = (certificate.id(), devnet.committee().seats()[0].clone());
    let http = member(&devnet, &seat)?.http;
    // Nothing was counted yet where there is no such line.
    let count = |name: &str| metric(http, name).unwrap_or(0.0);
    let context = devnet.reader().context(id).await?;
    let shape = context.shape();
    let held = placement::interval(devnet.committee(), &seat, &id, shape);
    let foreign: Vec<RowIndex> = shape.all().indices().filter(|row| !held.contains(*row)).collect();
    let replica = devnet.channels().replica(&seat.endpoint)?;
    ensure!(count("meridian_replica_rebuilds_total") == 0.0, "something was rebuilt for nobody");
    // Many at once, of other rows each.
    let first = foreign.chunks(16).take(8).map(|rows| replica.samples(id, rows, shape.row_bytes()));
    for samples in futures::future::try_join_all(first).await? {
        for sample in samples {
            context.check_row(sample.index, sample.row, &sample.path)?;
        }
    }
    ensure!(count("meridian_replica_rebuilds_total") == 1.0, "the work was not shared");
    let bytes = count("meridian_replica_cache_bytes");
    ensure!(bytes > 4.0 * f64::from(1 << 20), "{bytes} bytes are kept");
    for rows in foreign.chunks(16).skip(8).take(8) {
        for sample in replica.samples(id, rows, shape.row_bytes()).await? {
            context.check_row(sample.index, sample.row, &sample.path)?;
        }
    }
    ensure!(count("meridian_replica_rebuilds_total") == 1.0, "it was rebuilt again");
    ensure!(count("meridian_replica_cache_requests_total") == 16.0);
    ensure!(count("meridian_replica_cache_bytes") == bytes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_has_no_more_rows_read_for_it() -> Result<()> {
    let devnet = Devnet::start(&[], &[]).await?;
    let length = 32 << 20;
    let certificate =
        devnet.submitter().put(payload::noise(length, 1), &options(), &Silent).await?.certificate;
    complete(devnet.committee(), devnet.channels(), &certificate, PATIENCE).await?;
    let (id, seat) = (certificate.id(), devnet.committee().seats()[0].clone());
    let http = member(&devnet, &seat)?.http;
    let shape = certificate.header.shape();
    let range = placement::interval(devnet.committee(), &seat, &id, shape).ranges()[0];
    let count = |name: &str| metric(http, name).unwrap_or(0.0);
    let before = count("meridian_replica_served_bytes_total");
    let mut client = ReplicaClient::connect(seat.endpoint.clone()).await?;
    let request = GetRows { blob_id: id, start: range.start(), count: range.count(), held_only: true };
    let mut rows = client.get_rows(tonic::Request::new(request.into())).await?.into_inner();
    // The proof, and the first rows.
    for _ in 0..2 {
        rows.message().await?.context("a part of the answer")?;
    }
    drop((rows, client));
    eventually(PATIENCE, "nothing is being answered any more", async || {
        (metric(http, "meridian_requests_in_flight").ok()? == 0.0).then_some(())
    })
    .await?;
    let served = count("meridian_replica_served_bytes_total") - before;
    ensure!(served > 0.0 && served < f64::from(8 << 20), "{served} bytes were read");
    Ok(())
}
