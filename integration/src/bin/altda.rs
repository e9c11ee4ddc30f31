//! Measures what an OP Stack client sees of `da altda serve`, beside the OP Stack's reference server: one copy in a file that
//! nobody syncs.

use std::time::{Duration, Instant};

use alloy::transports::http::reqwest::Client;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_integration::devnet::Devnet;
use meridian_integration::golang::Reference;
use meridian_integration::load::Times;
use meridian_integration::load::machine::Machine;
use meridian_integration::payload;
use meridian_integration::sidecar::Sidecar;
use meridian_proofs::keccak256;

/// Requests at a time.
const AT_A_TIME: [usize; 3] = [1, 8, 32];
/// Longest time for the reference server to be up.
const START: Duration = Duration::from_secs(20);

/// Measures puts and gets of OP Stack clients.
#[derive(Debug, Parser)]
#[command(name = "altda", version)]
struct Arguments {
    /// Puts, and gets, of each kind.
    #[arg(long, default_value_t = 400)]
    count: u64,
    /// Bytes of each input: those of a full blob of L1.
    #[arg(long, default_value_t = 130_044)]
    input: usize,
}

/// What was measured of one server.
struct Measured {
    put: Times,
    puts_per_second: f64,
    get: Times,
    gets_per_second: f64,
}

async fn put(client: &Client, server: &str, path: &str, input: Bytes) -> Result<()> {
    let answer = client.post(format!("{server}/put/{path}")).body(input).send().await?;
    ensure!(answer.status() == 200, "put: {}", answer.status());
    answer.bytes().await?;
    Ok(())
}

async fn get(client: &Client, server: &str, path: &str, input: &Bytes) -> Result<()> {
    let answer = client.get(format!("{server}/get/{path}")).send().await?;
    ensure!(answer.status() == 200, "get: {}", answer.status());
    ensure!(answer.bytes().await? == *input, "other bytes");
    Ok(())
}

async fn measure(server: &str, at_a_time: usize, seed: u64, arguments: &Arguments) -> Result<Measured> {
    let client = &Client::builder().build()?;
    // Made before, and small in number: what is measured is not this program.
    let inputs: Vec<(String, Bytes)> = (0..arguments.count)
        .map(|number| {
            let input = payload::noise(arguments.input, seed << 32 | number);
            (format!("0x00{}", hex::encode(keccak256(&input))), input)
        })
        .collect();
    let begun = Instant::now();
    let puts = stream::iter(&inputs).map(|(path, input)| async move {
        let begun = Instant::now();
        put(client, server, path, input.clone()).await?;
        anyhow::Ok(begun.elapsed())
    });
    let put: Vec<Duration> = puts.buffer_unordered(at_a_time).try_collect().await?;
    let put_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let gets = stream::iter(&inputs).map(|(path, input)| async move {
        let begun = Instant::now();
        get(client, server, path, input).await?;
        anyhow::Ok(begun.elapsed())
    });
    let got: Vec<Duration> = gets.buffer_unordered(at_a_time).try_collect().await?;
    let get_seconds = begun.elapsed().as_secs_f64();
    let rate = |seconds: f64| inputs.len() as f64 / seconds;
    Ok(Measured {
        puts_per_second: rate(put_seconds),
        gets_per_second: rate(get_seconds),
        put: Times::of(put),
        get: Times::of(got),
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let devnet = Devnet::start(&[], &[]).await?;
    // Nothing from memory: what a node behind another sidecar sees.
    let network = Sidecar::start(devnet.da()?, &["--cache", "0"]).await?;
    let cached = Sidecar::start(devnet.da()?, &[]).await?;
    let reference = Reference::start()?;
    let deadline = Instant::now() + START;
    while measure(&reference.url(), 1, 1, &Arguments { count: 1, input: 1 }).await.is_err() {
        ensure!(Instant::now() < deadline, "the reference server does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let servers = [
        ("da altda serve", network.url()),
        ("the same, inputs in memory", cached.url()),
        ("reference: one file, not synced", reference.url()),
    ];
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    println!(
        "{} puts, then as many gets, of {} bytes, keccak commitments\n",
        arguments.count, arguments.input
    );
    println!("| server | at a time | put p50 / p99, ms | puts/s | get p50 / p99, ms | gets/s |");
    println!("|---|---|---|---|---|---|");
    for (round, at_a_time) in (2..).zip(AT_A_TIME) {
        for (place, (name, server)) in (0..).zip(&servers) {
            let seed = round * 8 + place;
            measure(server, at_a_time, seed + 4096, &Arguments { count: 20, ..arguments }).await?;
            let Measured { put, puts_per_second, get, gets_per_second } =
                measure(server, at_a_time, seed, &arguments).await.with_context(|| (*name).to_owned())?;
            println!(
                "| {name} | {at_a_time} | {:.1} / {:.1} | {puts_per_second:.0} | {:.1} / {:.1} | {gets_per_second:.0} |",
                put.p50_ms, put.p99_ms, get.p50_ms, get.p99_ms
            );
        }
    }
    Ok(())
}
