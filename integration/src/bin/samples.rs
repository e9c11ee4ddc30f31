//! Measures what the samples of a light client cost: how long the first and the next of a blob take at a replica that holds
//! none of the rows, how many bytes a sample takes on the wire, and what is answered while regions are down.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use meridian_client::Silent;
use meridian_client::fetch::{Draw, Reader};
use meridian_client::rpc::Channels;
use meridian_integration::devnet::Devnet;
use meridian_integration::load::machine::Machine;
use meridian_integration::network::{complete, options};
use meridian_integration::payload;
use meridian_integration::random::Random;
use meridian_integration::wires::{CLIENTS, Wires};
use meridian_node::devnet::Plan;
use meridian_proofs::committee::Seat;
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowIndex;

/// Payload lengths, and how many blobs of each there are.
const PAYLOADS: [(usize, usize); 4] = [(130_000, 20), (1 << 20, 10), (8 << 20, 6), (128 << 20, 3)];
/// Longest time until every region has a blob.
const COMPLETE: Duration = Duration::from_secs(180);
/// Time in which what follows an answer has come, too.
const SETTLE: Duration = Duration::from_millis(300);
/// Regions that are down at last.
const DOWN: usize = 2;
/// Bytes of a header, as its id is computed.
const HEADER: u64 = 160;

/// Measures what samples cost.
#[derive(Debug, Parser)]
#[command(name = "samples", version)]
struct Arguments {
    /// Rows of one sample.
    #[arg(long, default_value_t = 16)]
    rows: usize,
    /// Samples of each length while regions are down.
    #[arg(long, default_value_t = 50)]
    count: usize,
}

struct Bench {
    devnet: Devnet,
    wires: Wires,
    arguments: Arguments,
    random: Random,
}

/// Milliseconds at the middle and at the most.
fn times(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |place: usize| times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("{:.1} / {:.1}", at(times.len() / 2), at(times.len().saturating_sub(1)))
}

impl Bench {
    async fn put(&self, length: usize, count: usize) -> Result<Vec<BlobId>> {
        let mut ids = Vec::new();
        for number in 0..count {
            let payload = payload::noise(length, u64::try_from(length + number)?);
            let put = self.devnet.submitter().put(payload, &options(), &Silent).await?;
            complete(self.devnet.committee(), self.devnet.channels(), &put.certificate, COMPLETE).await?;
            ids.push(put.certificate.id());
        }
        Ok(ids)
    }

    /// Rows that a seat does not hold.
    fn foreign(&mut self, context: &BlobContext, seat: &Seat) -> Vec<RowIndex> {
        let shape = context.shape();
        let held = placement::interval(self.devnet.committee(), seat, &context.id(), shape);
        let mut rows: Vec<_> = shape.all().indices().filter(|row| !held.contains(*row)).collect();
        self.random.shuffle(&mut rows);
        rows.truncate(self.arguments.rows);
        rows
    }

    /// Samples one replica alone; the time until all rows have verified.
    async fn ask(&mut self, context: &BlobContext, seat: &Seat) -> Result<Duration> {
        let rows = self.foreign(context, seat);
        let replica = self.devnet.channels().replica(&seat.endpoint)?;
        let begun = Instant::now();
        let samples = replica.samples(context.id(), &rows, context.shape().row_bytes()).await?;
        for sample in samples {
            context.check_row(sample.index, sample.row, &sample.path)?;
        }
        Ok(begun.elapsed())
    }

    /// The first and the next sample of each blob at each replica.
    async fn latency(&mut self, length: usize, ids: &[BlobId]) -> Result<()> {
        let reader = Reader::new(self.devnet.committee().clone(), self.devnet.channels().clone());
        let (mut first, mut next) = (Vec::new(), Vec::new());
        for id in ids {
            let context = reader.context(*id).await?;
            for seat in self.devnet.committee().seats().to_vec() {
                first.push(self.ask(&context, &seat).await?);
                next.push(self.ask(&context, &seat).await?);
            }
        }
        println!("| {length} | {} | {} | {} |", first.len(), times(first), times(next));
        Ok(())
    }

    /// Bytes that have gone between clients and replicas, both ways.
    fn bytes(&self) -> u64 {
        let wires = self.wires.ends().filter(|(from, ..)| *from == CLIENTS);
        wires.map(|(.., wire)| wire.carried() + wire.carried_back()).sum()
    }

    /// One whole sample by a light client; the bytes that it took.
    async fn sample(&self, reader: &Reader, id: BlobId) -> Result<(u64, Duration)> {
        let before = self.bytes();
        let begun = Instant::now();
        let context = reader.find(id).await?.context;
        let draw = Draw::new(context.shape(), self.arguments.rows)?;
        let sampled = reader.sample_rows(&context, &draw).await?;
        let took = begun.elapsed();
        ensure!(sampled.verified.len() == draw.rows().len(), "{sampled:?}");
        tokio::time::sleep(SETTLE).await;
        Ok((self.bytes() - before, took))
    }

    async fn wire_bytes(&self, length: usize, ids: &[BlobId]) -> Result<()> {
        let fresh = || Reader::new(self.devnet.seen().clone(), Channels::new());
        let mut cold = Vec::new();
        for id in ids {
            cold.push(self.sample(&fresh(), *id).await?.0);
        }
        let reader = fresh();
        for id in ids.iter().cycle().take(ids.len().max(10)) {
            self.sample(&reader, *id).await?;
        }
        let mut warm = Vec::new();
        for id in ids {
            warm.push(self.sample(&reader, *id).await?.0);
        }
        let shape = reader.context(*ids.first().context("a blob")?).await?.shape();
        let [rows, data_rows, row_bytes] =
            [self.arguments.rows, shape.data_rows(), shape.row_bytes()].map(|it| it as u64);
        let bare = rows * (row_bytes + 32 * u64::from(shape.total_rows().ilog2())) + 16 * data_rows + HEADER;
        let more = |mut all: Vec<u64>| {
            all.sort_unstable();
            let middle = all[all.len() / 2];
            format!("{middle}, {:+.1}%", 100.0 * (middle as f64 / bare as f64 - 1.0))
        };
        println!("| {length} | {bare} | {} | {} |", more(warm), more(cold));
        Ok(())
    }

    /// Samples while some regions are down: by a client that knows them, and by new ones.
    async fn outage(&self, down: usize, length: usize, ids: &[BlobId], known: &Reader) -> Result<()> {
        let (mut drawn, mut verified, mut complete, mut took) = (0, 0, 0, Vec::new());
        for (number, id) in ids.iter().cycle().take(self.arguments.count).enumerate() {
            let new = Reader::new(self.devnet.seen().clone(), Channels::new());
            let reader = if number % 2 == 0 { known } else { &new };
            let begun = Instant::now();
            let context = reader.find(*id).await?.context;
            let draw = Draw::new(context.shape(), self.arguments.rows)?;
            let sampled = reader.sample_rows(&context, &draw).await?;
            took.push(begun.elapsed());
            drawn += sampled.drawn.len();
            verified += sampled.verified.len();
            complete += usize::from(sampled.drawn.len() == sampled.verified.len());
        }
        let samples = self.arguments.count;
        println!("| {down} | {length} | {complete} of {samples} | {verified} of {drawn} | {} |", times(took));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (devnet, wires) = Devnet::start_wired().await?;
    let mut bench = Bench { devnet, wires, arguments, random: Random::new(1) };
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    let mut blobs = Vec::new();
    for (length, count) in PAYLOADS {
        blobs.push((length, bench.put(length, count).await?));
    }
    println!(
        "\n| payload, bytes | samples | first, p50 / max, ms | next, p50 / max, ms |\n|---|---|---|---|"
    );
    for (length, ids) in &blobs {
        bench.latency(*length, ids).await?;
    }
    println!("\n| payload, bytes | bare | on connections that are there | on new ones |\n|---|---|---|---|");
    for (length, ids) in &blobs {
        bench.wire_bytes(*length, ids).await?;
    }
    println!(
        "\n| regions down | payload, bytes | samples answered | rows | p50 / max, ms |\n|---|---|---|---|---|"
    );
    let known = Reader::new(bench.devnet.seen().clone(), Channels::new());
    let members = Plan::load(&bench.devnet.folder())?.members(&bench.devnet.folder());
    for down in 0..=DOWN {
        for (length, ids) in &blobs {
            bench.outage(down, *length, ids, &known).await?;
        }
        if down == DOWN {
            break;
        }
        // The one that is the nearest by now.
        let order = known.nearest().regions(bench.devnet.committee(), 0, |_| Duration::ZERO);
        let nearest = bench.devnet.committee().seats_of(*order.first().context("a region")?).next();
        let nearest = nearest.context("a seat")?;
        let member = members.iter().find(|it| it.endpoint() == nearest.endpoint).context("a member")?;
        bench.devnet.kill(&member.name)?;
    }
    Ok(())
}
