//! Measures reads from each of five places of the world, over ways as long as they are there: from the nearest copy, from
//! any, and from a fixed region, beside the best that is possible; what is left of that when the closest region stands
//! still, is cut off, or lies; and how many bytes are fetched for nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_client::Silent;
use meridian_client::fetch::Reader;
use meridian_integration::devnet::Devnet;
use meridian_integration::liars::turncoat::Turncoat;
use meridian_integration::liars::wrong_rows::WrongRows;
use meridian_integration::liars::{self, Truth};
use meridian_integration::load::machine::Machine;
use meridian_integration::network::{complete, options};
use meridian_integration::payload;
use meridian_integration::random::Random;
use meridian_integration::wires::wan::{PLACES, round_trip};
use meridian_integration::wires::{CLIENTS, Flow, Wire, Wires};
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::reconstruct::RowSet;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::convert::{Lookup, LookupKey};
use tokio::net::TcpListener;

/// Puts at a time.
const PUTS: usize = 4;
/// Longest time until every region has a blob.
const COMPLETE: Duration = Duration::from_secs(60);
/// Reads before those that are measured.
const WARM: usize = 20;
/// Most bytes of rows that one call brings.
const ONE_CALL: u32 = 1 << 20;

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

/// Reads of one kind.
#[derive(Default)]
struct Reads {
    times: Vec<Duration>,
    bytes: u64,
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

    /// How long a read takes.
    async fn time_one(payload: &Bytes, read: impl Future<Output = Result<Bytes>>) -> Result<Duration> {
        let begun = Instant::now();
        let bytes = read.await?;
        let took = begun.elapsed();
        ensure!(bytes == *payload, "other bytes");
        Ok(took)
    }

    /// Reads one blob after the other, and says how long each took.
    async fn time<F: Future<Output = Result<Bytes>>>(
        &self,
        blobs: &[(BlobId, Bytes)],
        read: impl Fn(BlobId) -> F,
    ) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for (id, payload) in blobs.iter().cycle().take(self.count) {
            times.push(Self::time_one(payload, read(*id)).await?);
        }
        Ok(times)
    }

    /// Reads in turn as well as a region alone can and as a client does, so that what slows the machine slows both. Gives the
    /// times of both, and how many bytes they fetched.
    async fn compare(&self, reader: &Reader, blobs: &[(BlobId, Bytes)], place: usize) -> Result<[Reads; 2]> {
        let mut both = [Reads::default(), Reads::default()];
        let [best, nearest] = &mut both;
        for (id, payload) in blobs.iter().cycle().take(self.count) {
            let before = self.fetched();
            best.times.push(Self::time_one(payload, self.straight(*id, place)).await?);
            let between = self.fetched();
            nearest.times.push(Self::time_one(payload, self.chosen(reader, *id)).await?);
            best.bytes += between - before;
            nearest.bytes += self.fetched() - between;
        }
        Ok(both)
    }

    /// What a region alone can do, without any choice, in one round trip: header, RLC vector and all its rows.
    async fn straight(&self, id: BlobId, place: usize) -> Result<Bytes> {
        let replica = self.devnet.channels().replica(&self.seat(place)?.endpoint)?;
        let lookup = Lookup { key: LookupKey::Blob(id), include_rlc: true, max_row_bytes: ONE_CALL };
        let found = replica.lookup_with_rows(lookup).await?.into_iter().next().context("a blob")?;
        let rlc = found.rlc.context("an RLC vector")?;
        let context = Arc::new(<BlobContext>::new(id, found.header, rlc)?);
        let mut set = RowSet::new(Arc::clone(&context));
        for held in found.rows {
            let range = context.shape().range(held.start, held.count).context("rows of the blob")?;
            set.insert(context.check_range(range, held.rows, &held.proof)?)?;
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

    /// Reads until it is known which copy is the nearest.
    async fn warm(&self, reader: &Reader, blobs: &[(BlobId, Bytes)]) -> Result<()> {
        for (id, _) in blobs.iter().cycle().take(WARM) {
            self.chosen(reader, *id).await?;
            // Whoever was bad is tried again only after a while.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Bytes that came to the clients.
    fn fetched(&self) -> u64 {
        self.wires.ends().filter(|(from, ..)| *from == CLIENTS).map(|(.., wire)| wire.carried_back()).sum()
    }

    /// A network in which the closest replica can lie, and the wire to it.
    async fn liar(&self, from: usize, place: usize) -> Result<(Arc<Turncoat<WrongRows>>, Wire, Committee)> {
        let seat = self.seat(place)?;
        let honest = self.devnet.committee().seat(&seat.address).context("a seat")?.endpoint.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let wire = Wire::lay(listener.local_addr()?).await?;
        let way = Flow::Late(round_trip(from, place) / 2);
        wire.set(way, way);
        let liar = Arc::new(Turncoat::new(WrongRows));
        let truth = Truth::at(honest, self.devnet.committee().domain())?;
        // It ends with this process.
        drop(liars::serve_replica(listener, truth, Arc::clone(&liar) as _));
        let mut parts = self.devnet.seen().parts().clone();
        for seat in parts.seats.iter_mut().filter(|other| other.address == seat.address) {
            seat.endpoint = format!("http://{}", wire.address());
        }
        Ok((liar, wire, Committee::new(parts)?))
    }

    async fn measure(&self, blobs: &[(BlobId, Bytes)], random: &mut Random) -> Result<()> {
        println!(
            "{:<14} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15}",
            "p50 / p99, ms",
            "best",
            "nearest",
            "any region",
            "na-east",
            "closest stalled",
            "closest cut",
            "closest lies",
            "second best"
        );
        let length = blobs.first().map_or(0, |(_, payload)| payload.len());
        for (place, name) in PLACES.into_iter().enumerate() {
            self.wires.spread(place);
            let order = self.order(place);
            let (first, second) = (order[0], order[1]);
            // Connections are there before anything is measured.
            for to in &order {
                self.straight(blobs[0].0, *to).await?;
            }
            let reader = self.devnet.reader();
            self.warm(&reader, blobs).await?;
            let [best, nearest] = self.compare(&reader, blobs, first).await?;
            let (needed, fetched) = (best.bytes, nearest.bytes);
            let places: Vec<usize> = (0..self.count).map(|_| random.place(PLACES.len())).collect();
            let next = std::cell::Cell::new(0);
            let any = self.time(blobs, |id| {
                let place = places[next.replace(next.get() + 1)];
                self.straight(id, place)
            });
            let any = any.await?;
            let fixed = self.time(blobs, |id| self.straight(id, 1)).await?;
            let other = self.time(blobs, |id| self.straight(id, second)).await?;
            let hedge = reader.nearest().patience(&self.seat(first)?.address, u64::try_from(length)?);
            self.way(first)?.set(Flow::Stalled, Flow::Stalled);
            let stalled = self.time(blobs, |id| self.chosen(&reader, id)).await?;
            self.wires.spread(place);
            self.warm(&reader, blobs).await?;
            self.way(first)?.sever();
            let cut = self.time(blobs, |id| self.chosen(&reader, id)).await?;
            self.wires.mend();
            self.wires.spread(place);
            let (liar, _wire, committee) = self.liar(place, first).await?;
            let reader = Reader::new(Arc::new(committee), self.devnet.channels().clone());
            self.warm(&reader, blobs).await?;
            liar.turn(true);
            let lying = self.time(blobs, |id| self.chosen(&reader, id)).await?;
            let all = [best.times, nearest.times, any, fixed, stalled, cut, lying, other].map(percentiles);
            print!("{name:<14}");
            all.iter().for_each(|(middle, high)| print!(" {:>15}", format!("{middle:.1} / {high:.1}")));
            let hedge = hedge.as_secs_f64() * 1e3;
            let late = |(_, high): (f64, f64)| high / (all[7].1 + hedge);
            println!(
                "   nearest {:.2} and {:.2} of the best; p99 stalled {:.2}, cut {:.2}, lying {:.2} of the second best \
                 and {hedge:.0} ms; {:.1}% more bytes",
                all[1].0 / all[0].0,
                all[1].1 / all[0].1,
                late(all[4]),
                late(all[5]),
                late(all[6]),
                100.0 * (fetched as f64 / needed as f64 - 1.0),
            );
        }
        self.wires.mend();
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
