//! Measures what becomes of puts at twice the load that a network sustains: how many are certified, how fast those are that
//! are taken, and how many are told to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use clap::Parser;
use futures::future::join_all;
use meridian_client::submit::{Expectation, Identity, unix_now};
use meridian_integration::cores;
use meridian_integration::devnet::Devnet;
use meridian_integration::load::Times;
use meridian_integration::load::machine::Machine;
use meridian_integration::network::options;
use meridian_integration::payload;
use meridian_node::devnet::Plan;
use meridian_proofs::B256;
use meridian_proofs::shape::PayloadLength;
use meridian_proto::convert::PutStart;
use meridian_proto::error::Class;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

/// Clients at a time, in the search for the peak.
const CROWDS: [usize; 4] = [16, 32, 64, 128];
/// How long a client that is refused waits where it is not told.
const PAUSE: Duration = Duration::from_millis(250);

/// Measures puts at twice the load that a network sustains.
#[derive(Debug, Parser)]
#[command(name = "overload", version)]
struct Arguments {
    /// Seconds of each run.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 130_044)]
    payload: usize,
    /// How many times the peak is offered.
    #[arg(long, default_value_t = 2.0)]
    times: f64,
    /// Members as far from each other as regions of the world.
    #[arg(long)]
    wan: bool,
}

struct Bench {
    devnet: Devnet,
    next: AtomicU64,
    length: usize,
    noise: Bytes,
}

#[derive(Default)]
struct Outcome {
    certified: Vec<Duration>,
    refused: usize,
}

impl Outcome {
    fn add(&mut self, put: Put) {
        match put {
            Put::Certified(time) => self.certified.push(time),
            Put::Refused(_) => self.refused += 1,
        }
    }
}

/// How a put went.
#[derive(Clone, Copy)]
enum Put {
    /// It took so long.
    Certified(Duration),
    /// The gateway is overloaded, and says when to come back.
    Refused(Duration),
}

impl Bench {
    /// A payload that nobody has put.
    fn payload(&self) -> Bytes {
        let mut payload = BytesMut::from(&self.noise[..]);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        payload[..8].copy_from_slice(&number.to_be_bytes());
        payload.freeze()
    }

    /// Puts a new payload. Both ends are on one machine, so the time ends before the certificate is checked.
    async fn put(&self) -> Result<Put> {
        let (payload, options, now) = (self.payload(), options(), unix_now());
        let number = usize::try_from(self.next.load(Ordering::Relaxed))?;
        let gateways = self.devnet.gateways();
        let gateway = gateways.get(number % gateways.len().max(1)).context("a gateway")?;
        let start = PutStart {
            namespace: options.namespace,
            length: PayloadLength::try_from(u64::try_from(self.length)?)?,
            retention: options.retention,
            bind_payload_hash: false,
            expected_blob_id: None,
            kzg_root: None,
            authorization: None,
        };
        let begun = Instant::now();
        let answer = self.devnet.channels().gateway(gateway)?.put(start, payload.clone()).await;
        let took = begun.elapsed();
        let certificate = match answer {
            Ok(certificate) => certificate,
            Err(error) if error.class() == Class::Overloaded => {
                return Ok(Put::Refused(error.retry_after.unwrap_or(PAUSE)));
            }
            Err(error) => return Err(error.into()),
        };
        let Identity { id, payload_hash } = Identity::of(&payload, false, B256::ZERO)?;
        let expectation = Expectation {
            id,
            length: u64::try_from(self.length)?,
            payload_hash,
            namespace: options.namespace,
            retention: options.retention,
            now,
        };
        expectation.check(&certificate, self.devnet.committee())?;
        Ok(Put::Certified(took))
    }

    /// So many clients, each with one put at a time.
    async fn crowd(&self, clients: usize, duration: Duration) -> Result<(Outcome, f64)> {
        let begun = Instant::now();
        let client = async || {
            let mut seen = Outcome::default();
            while begun.elapsed() < duration {
                let put = self.put().await?;
                seen.add(put);
                if let Put::Refused(wait) = put {
                    sleep(wait).await;
                }
            }
            anyhow::Ok(seen)
        };
        let mut all = Outcome::default();
        for seen in join_all((0..clients).map(|_| client())).await {
            let seen = seen?;
            all.certified.extend(seen.certified);
            all.refused += seen.refused;
        }
        Ok((all, begun.elapsed().as_secs_f64()))
    }

    /// So many puts a second, however they fare.
    async fn offer(self: &Arc<Self>, rate: f64, duration: Duration) -> Result<(Outcome, f64)> {
        let (mut puts, begun) = (JoinSet::new(), Instant::now());
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        while begun.elapsed() < duration {
            ticks.tick().await;
            let bench = Arc::clone(self);
            puts.spawn(async move { bench.put().await });
        }
        let seconds = begun.elapsed().as_secs_f64();
        let mut all = Outcome::default();
        for put in puts.join_all().await {
            all.add(put?);
        }
        Ok((all, seconds))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.payload >= 8 && arguments.times > 0.0, "at least 8 bytes, and some load");
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    let flags: &[&str] = if arguments.wan { &["--wan", "--wan-mbps", "1000"] } else { &[] };
    let devnet = Devnet::start(flags, &[]).await?;
    let members = Plan::load(&devnet.folder())?.members(&devnet.folder());
    cores::apart(&members)?;
    let noise = payload::noise(arguments.payload, 1);
    let bench = Arc::new(Bench { devnet, next: AtomicU64::new(0), length: arguments.payload, noise });
    let duration = Duration::from_secs(arguments.seconds);

    bench.crowd(4, Duration::from_secs(2)).await?;
    let (alone, _) = bench.crowd(1, duration).await?;
    let alone = Times::of(alone.certified);
    println!("alone: p50 {:.1} ms, p99 {:.1} ms, {} puts", alone.p50_ms, alone.p99_ms, alone.count);
    let mut peak = 0.0_f64;
    for clients in CROWDS {
        let (seen, seconds) = bench.crowd(clients, duration / 2).await?;
        let (rate, times) = (seen.certified.len() as f64 / seconds, Times::of(seen.certified));
        println!(
            "{clients} clients: {rate:.1} puts/s, p50 {:.1} ms, p99 {:.1} ms, {} refused",
            times.p50_ms, times.p99_ms, seen.refused
        );
        peak = peak.max(rate);
    }
    let offered = peak * arguments.times;
    let (seen, seconds) = bench.offer(offered, duration).await?;
    let (rate, times) = (seen.certified.len() as f64 / seconds, Times::of(seen.certified));
    println!(
        "{offered:.1} puts/s offered: {rate:.1} puts/s certified ({:.0}% of the peak of {peak:.1}), p50 {:.1} ms, \
         p99 {:.1} ms ({:.1} times alone), {} refused",
        100.0 * rate / peak,
        times.p50_ms,
        times.p99_ms,
        times.p99_ms / alone.p99_ms,
        seen.refused
    );
    Ok(())
}
