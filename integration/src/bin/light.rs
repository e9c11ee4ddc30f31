//! Measures what a light client takes: time on the processor for each blob, memory, and how fast it catches up with a
//! log of a hundred thousand entries after a week offline.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_integration::keys;
use meridian_integration::liars::crooked::{Attempt, Crooked};
use meridian_integration::load::machine::Machine;
use meridian_integration::network::{Name, Network, Plan};
use meridian_integration::payload;
use meridian_integration::programs::Programs;
use meridian_proofs::B256;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::Namespace;
use meridian_proofs::log::LogEntry;
use meridian_proto::MAX_ENTRIES;
use meridian_proto::error::Reason;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Puts at a time.
const PUTS: usize = 4;
/// Entries between two that name another blob.
const SAME: usize = 1_000;

/// Time between two looks at a process.
const LOOK: Duration = Duration::from_millis(2);

/// Measures a light client.
#[derive(Debug, Parser)]
#[command(name = "light", version)]
struct Arguments {
    /// Blobs of 1 MiB to sample.
    #[arg(long, default_value_t = 200)]
    blobs: usize,
    /// Entries of the log to catch up with.
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
}

/// What a run of `da light --once` took.
struct Took {
    wall: Duration,
    cpu: Duration,
    /// The most of it, in MiB.
    memory: f64,
    verdict: String,
}

/// Time on the processor of all children that have ended.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// The most memory that a process has had so far, in MiB.
fn most_memory(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Catches up once.
fn once(committee: &Path, state: &Path) -> Result<Took> {
    let mut command: Command = Programs::build()?.da();
    command.args(["--json", "--committee"]).arg(committee);
    command.args(["light", "--once", "--checkpoints", "--patience", "20m", "--state"]).arg(state);
    command.env("XDG_CACHE_HOME", state);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = children()?;
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let mut memory = 0.0;
    while child.try_wait()?.is_none() {
        memory = most_memory(child.id()).unwrap_or(memory);
        std::thread::sleep(LOOK);
    }
    let wall = begun.elapsed();
    let output = child.wait_with_output()?;
    let cpu = children()?.saturating_sub(before);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let verdict = report["verdict"].as_str().context("a verdict")?.to_owned();
    Ok(Took { wall, cpu, memory, verdict })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Blobs of 1 MiB through a gateway.
async fn blobs(count: usize) -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let puts = stream::iter(0..u64::try_from(count)?).map(|seed| network.put(payload::noise(1 << 20, seed)));
    puts.buffer_unordered(PUTS).try_collect::<Vec<_>>().await?;
    let folder = tempfile::tempdir()?;
    let committee = network.committee_file();
    let state = folder.path().to_owned();
    let took = tokio::task::spawn_blocking(move || {
        let first = once(&committee, &state)?;
        // With nothing new: what it takes to start, ask and end.
        anyhow::Ok((first, once(&committee, &state)?))
    });
    let (first, idle) = took.await??;
    let each = first.cpu.saturating_sub(idle.cpu).as_secs_f64() * 1e3 / f64::from(u32::try_from(count)?);
    println!(
        "{count} blobs of 1 MiB, 16 rows each: {:.0} ms, {:.0} ms on the processor, {each:.2} ms for each blob, \
         {:.1} MiB (with nothing new {:.0} ms, {:.0} ms); {}",
        millis(first.wall),
        millis(first.cpu),
        first.memory,
        millis(idle.wall),
        millis(idle.cpu),
        first.verdict
    );
    Ok(())
}

/// A log of so many entries, made by hand: cosigned, a block at a time, by every replica.
async fn entries(count: usize) -> Result<()> {
    let network = Network::start(Plan { gateways: 0, vacant_gateways: 1, ..Plan::default() }).await?;
    let mut log = Crooked::new(keys::secret(&Name::Gateway(0).key_word())?, Arc::clone(network.committee()));
    let mut made: Vec<LogEntry> = Vec::with_capacity(count);
    for (seed, first) in (0..).zip((0..count).step_by(SAME)) {
        let blob = encode::<Blake3>(&payload::noise(20_000, seed), B256::ZERO)?;
        for seat in network.committee().seats() {
            log.disperse(network.channels(), &blob, seat).await?;
        }
        let entry = log.entry(&blob);
        for number in first..count.min(first + SAME) {
            let namespace = Namespace(B256::left_padding_from(&number.to_be_bytes()));
            made.push(LogEntry { namespace, ..entry });
        }
        let is_full = made.len() - log.entries.len() + SAME > MAX_ENTRIES || made.len() == count;
        if is_full {
            let (start, new) = (log.size(), made[log.entries.len()..].to_vec());
            let signed = log.sign(&made, |_| {});
            let request = Attempt { what: "nothing", signed, start, entries: new, refused: Reason::Internal };
            for seat in network.committee().seats() {
                log.ask(network.channels(), seat, &request).await?;
            }
            log.entries.clone_from(&made);
        }
    }
    let folder = tempfile::tempdir()?;
    let (committee, state) = (network.committee_file(), folder.path().to_owned());
    let took = tokio::task::spawn_blocking(move || once(&committee, &state)).await??;
    let size = std::fs::metadata(folder.path().join("light.redb"))?.len();
    println!(
        "a log of {count} entries that name {} blobs: {:.1} s, {:.1} s on the processor, {:.1} MiB, {:.1} MB of state; {}",
        count.div_ceil(SAME),
        took.wall.as_secs_f64(),
        took.cpu.as_secs_f64(),
        took.memory,
        size as f64 / 1e6,
        took.verdict
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    Programs::build()?;
    blobs(arguments.blobs).await?;
    entries(arguments.entries).await?;
    Ok(())
}
