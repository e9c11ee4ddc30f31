//! Measures what puts and reads lose while one replica is slow: ten times as far as the others, or with a disk or a line
//! that stands still for a second again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_client::Silent;
use meridian_client::fetch::Reader;
use meridian_integration::devnet::Devnet;
use meridian_integration::load::machine::Machine;
use meridian_integration::network::options;
use meridian_integration::payload;
use meridian_integration::wires::{CLIENTS, Flow, Wires};
use meridian_node::devnet::Plan;
use meridian_proofs::certificate::Certificate;
use tokio::time::sleep;

/// Puts, and reads, at a time.
const AT_A_TIME: usize = 4;
/// How far the members of the healthy network are from each other, one way.
const NEAR: Duration = Duration::from_millis(5);

/// Measures puts and reads beside one slow replica.
#[derive(Debug, Parser)]
#[command(name = "slow", version)]
struct Arguments {
    /// Puts, and reads, of each kind.
    #[arg(long, default_value_t = 400)]
    count: u64,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 24_000)]
    payload: usize,
}

struct Bench {
    devnet: Arc<Devnet>,
    wires: Wires,
    reader: Reader,
    arguments: Arguments,
}

/// Milliseconds at the middle and at the 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    (at(50), at(99))
}

impl Bench {
    /// Everybody as far from everybody.
    fn heal(&self) {
        self.wires.all().for_each(|wire| wire.set(Flow::Late(NEAR), Flow::Late(NEAR)));
    }

    async fn measure(&self, seed: u64) -> Result<[(f64, f64); 2]> {
        let submitter = self.devnet.submitter();
        let puts = stream::iter(0..self.arguments.count).map(|number| {
            let (submitter, length) = (submitter.clone(), self.arguments.payload);
            let payload = payload::noise(length, seed << 32 | number);
            async move {
                let begun = Instant::now();
                let put = submitter.put(payload, &options(), &Silent).await?;
                anyhow::Ok((put.certificate, begun.elapsed()))
            }
        });
        let put: Vec<(Certificate, Duration)> = puts.buffer_unordered(AT_A_TIME).try_collect().await?;
        let reads = stream::iter(&put).map(async |(certificate, _)| {
            let begun = Instant::now();
            self.reader.payload(certificate.id(), &Silent).await?;
            anyhow::Ok(begun.elapsed())
        });
        let read = reads.buffer_unordered(AT_A_TIME).try_collect().await?;
        Ok([percentiles(put.into_iter().map(|(_, time)| time).collect()), percentiles(read)])
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (devnet, wires) = Devnet::start_wired().await?;
    let plan = Plan::load(&devnet.folder())?;
    let members = plan.members(&devnet.folder());
    let replica = members.iter().find(|member| member.name.starts_with("na-west")).context("a replica")?;
    let bench = Bench { reader: devnet.reader(), devnet: Arc::new(devnet), wires, arguments };
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    bench.heal();
    bench.measure(1).await?;
    let healthy = bench.measure(2).await?;
    bench.wires.of(&replica.name).for_each(|wire| wire.set(Flow::Late(10 * NEAR), Flow::Late(10 * NEAR)));
    let far = bench.measure(3).await?;
    bench.heal();
    bench.measure(4).await?;
    let stalls = async {
        loop {
            for (flow, time) in [(Flow::Stalled, 1_000), (Flow::Late(NEAR), 1_500)] {
                bench.wires.of(&replica.name).for_each(|wire| wire.set(flow, flow));
                sleep(Duration::from_millis(time)).await;
            }
        }
    };
    let stalled = tokio::select! {
        measured = bench.measure(5) => measured?,
        () = stalls => unreachable!("stalls never end"),
    };
    println!("{:<34} {:>16} {:>16} {:>16}", "p50 / p99, ms", "healthy", "one far", "one stalling");
    for (kind, name) in ["put", "read"].into_iter().enumerate() {
        let cell = |(middle, high): (f64, f64)| format!("{middle:.1} / {high:.1}");
        println!(
            "{name:<34} {:>16} {:>16} {:>16}   p99 {:.2} and {:.2} of healthy",
            cell(healthy[kind]),
            cell(far[kind]),
            cell(stalled[kind]),
            far[kind].1 / healthy[kind].1,
            stalled[kind].1 / healthy[kind].1
        );
    }
    println!(
        "{} of each, {AT_A_TIME} at a time, {} bytes, {CLIENTS} beside all",
        bench.arguments.count, bench.arguments.payload
    );
    Ok(())
}
