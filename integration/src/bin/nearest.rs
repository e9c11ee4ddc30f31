//! Measures reads from each of five places of the world, over ways as long as they are there: from the nearest copy, from
//! any, and from a fixed region, beside what the closest region alone can do; and what is left of that when this region
//! stands still or is cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_client::Silent;
use meridian_client::fetch::Reader;
use meridian_integration::devnet::Devnet;
use meridian_integration::load::machine::Machine;
use meridian_integration::network::{complete, options};
use meridian_integration::payload;
use meridian_integration::random::Random;
use meridian_integration::wires::wan::{PLACES, round_trip};
use meridian_integration::wires::{CLIENTS, Flow, Wire, Wires};
use meridian_proofs::committee::Seat;
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::reconstruct::RowSet;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::convert::LookupKey;

/// Puts at a time.
const PUTS: usize = 4;
/// Longest time until every region has a blob.
const COMPLETE: Duration = Duration::from_secs(60);
/// Reads before those that are measured.
const WARM: usize = 20;

/// Measures reads from five places of the world.
#[derive(Debug, Parser)]
#[command(name = "nearest", version)]
struct Arguments {
    /// Reads of each kind.
    #[arg(long, default_value_t = 100)]
    count: usize,
}

struct Bench {
    devnet: Arc<Devnet>,
    wires: Wires,
    count: usize,
}

/// Milliseconds at the middle and at the 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    (at(50), at(99))
}

impl Bench {
    fn seat(&self, place: usize) -> Result<&Seat> {
        let committee = self.devnet.seen();
        let region = committee.regions().iter().find(|region| region.label == PLACES[place]);
        let region = region.context("a region of that name")?.id;
        committee.seats_of(region).next().context("a seat")
    }

    async fn put(&self, length: usize, count: usize) -> Result<Vec<(BlobId, Bytes)>> {
        let puts = stream::iter(0..count).map(|number| {
            let payload = payload::noise(length, (length + number) as u64);
            async move {
                let put = self.devnet.submitter().put(payload.clone(), &options(), &Silent).await?;
                let (committee, channels) = (self.devnet.seen(), self.devnet.channels());
                complete(committee, channels, &put.certificate, COMPLETE).await?;
                anyhow::Ok((put.certificate.id(), payload))
            }
        });
        puts.buffer_unordered(PUTS).try_collect().await
    }

    /// Reads one blob after the other, and says how long each took.
    async fn time<F: Future<Output = Result<Bytes>>>(
        &self,
        blobs: &[(BlobId, Bytes)],
        read: impl Fn(BlobId) -> F,
    ) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for (id, payload) in blobs.iter().cycle().take(self.count) {
            let begun = Instant::now();
            let bytes = read(*id).await?;
            times.push(begun.elapsed());
            ensure!(bytes == *payload, "other bytes");
        }
        Ok(times)
    }

    /// What a region alone can do, without any choice: header and RLC vector, then all its rows.
    async fn straight(&self, id: BlobId, place: usize) -> Result<Bytes> {
        let (seat, committee) = (self.seat(place)?.clone(), Arc::clone(self.devnet.seen()));
        let replica = self.devnet.channels().replica(&seat.endpoint)?;
        let found = replica.lookup(LookupKey::Blob(id), true).await?.into_iter().next().context("a blob")?;
        let rlc = found.rlc.context("an RLC vector")?;
        let context = Arc::new(<BlobContext>::new(id, found.header, rlc)?);
        let (mut set, shape) = (RowSet::new(Arc::clone(&context)), context.shape());
        for range in placement::interval(&committee, &seat, &id, shape).ranges() {
            let (rows, proof) = replica.rows(id, *range, shape.row_bytes(), true).await?;
            set.insert(context.check_range(*range, rows, &proof)?)?;
        }
        Ok(set.payload()?)
    }

    async fn chosen(&self, reader: &Reader, id: BlobId) -> Result<Bytes> {
        Ok(reader.payload(id, &Silent).await?.payload)
    }

    /// The places, nearest first.
    fn order(&self, from: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..PLACES.len()).collect();
        order.sort_by_key(|to| round_trip(from, *to));
        order
    }

    fn way(&self, place: usize) -> Result<&Wire> {
        self.wires.wire(CLIENTS, &format!("{}-0", PLACES[place]))
    }

    async fn measure(&self, blobs: &[(BlobId, Bytes)], random: &mut Random) -> Result<()> {
        println!(
            "{:<14} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15}",
            "p50 / p99, ms",
            "closest alone",
            "nearest",
            "any region",
            "na-east",
            "one stalled",
            "one cut",
            "second alone"
        );
        for (place, name) in PLACES.into_iter().enumerate() {
            self.wires.spread(place);
            let order = self.order(place);
            let (first, second) = (order[0], order[1]);
            let best = self.time(blobs, |id| self.straight(id, first)).await?;
            let reader = self.devnet.reader();
            for (id, _) in blobs.iter().cycle().take(WARM) {
                self.chosen(&reader, *id).await?;
            }
            let nearest = self.time(blobs, |id| self.chosen(&reader, id)).await?;
            let places: Vec<usize> = (0..self.count).map(|_| random.place(PLACES.len())).collect();
            let next = std::cell::Cell::new(0);
            let any = self.time(blobs, |id| {
                let place = places[next.replace(next.get() + 1)];
                self.straight(id, place)
            });
            let any = any.await?;
            let fixed = self.time(blobs, |id| self.straight(id, 1)).await?;
            let other = self.time(blobs, |id| self.straight(id, second)).await?;
            self.way(first)?.set(Flow::Stalled, Flow::Stalled);
            let stalled = self.time(blobs, |id| self.chosen(&reader, id)).await?;
            self.wires.spread(place);
            for (id, _) in blobs.iter().cycle().take(WARM) {
                self.chosen(&reader, *id).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.way(first)?.sever();
            let cut = self.time(blobs, |id| self.chosen(&reader, id)).await?;
            self.wires.mend();
            let all = [best, nearest, any, fixed, stalled, cut, other].map(percentiles);
            print!("{name:<14}");
            all.iter().for_each(|(middle, high)| print!(" {:>15}", format!("{middle:.1} / {high:.1}")));
            println!(
                "   nearest {:.2} and {:.2} of the best, p99 stalled {:.2} and cut {:.2} of the second",
                all[1].0 / all[0].0,
                all[1].1 / all[0].1,
                all[4].1 / all[6].1,
                all[5].1 / all[6].1
            );
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (devnet, wires) = Devnet::start_wired().await?;
    let bench = Bench { devnet: Arc::new(devnet), wires, count: arguments.count };
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    let mut random = Random::new(1);
    for (length, blobs) in [(130_000, 100), (1 << 20, 40)] {
        bench.wires.mend();
        let blobs = bench.put(length, blobs).await?;
        println!("payloads of {length} bytes, {} reads of each kind", bench.count);
        bench.measure(&blobs, &mut random).await?;
    }
    Ok(())
}
