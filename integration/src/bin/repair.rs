//! Measures how fast a replica that lost its disk is whole again, and what puts and reads lose meanwhile.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_client::Silent;
use meridian_integration::devnet::Devnet;
use meridian_integration::load::machine::Machine;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use meridian_node::devnet::Plan;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Seat;
use meridian_proofs::hash::Blake3;
use meridian_proofs::placement;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::convert::LookupKey;
use tokio::task::spawn_blocking;

/// Blobs that are copied or put at a time.
const AT_A_TIME: usize = 4;
/// Bytes of each payload of the offered load.
const LOAD: usize = 130_044;
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Measures the rebuild of a lost replica, beside a plain copy, and what the load loses meanwhile.
#[derive(Debug, Parser)]
#[command(name = "repair", version)]
struct Arguments {
    /// MiB of payloads that the network holds.
    #[arg(long, default_value_t = 512)]
    mib: usize,
    /// KiB of each payload.
    #[arg(long, default_value_t = 1024)]
    payload: usize,
    /// Seconds in which the peak and the load without a rebuild are measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

struct Bench {
    devnet: Devnet,
    /// Name and seat of the replica that is lost.
    lost: (String, Seat),
    certificates: Vec<Certificate>,
}

impl Bench {
    async fn start(arguments: &Arguments) -> Result<Self> {
        let devnet = Devnet::start(&[], &[]).await?;
        let members = Plan::load(&devnet.folder())?.members(&devnet.folder());
        let seat = devnet.committee().seats()[0].clone();
        let member = members.iter().find(|member| member.endpoint() == seat.endpoint).context("a member")?;
        let lost = (member.name.clone(), seat);
        let submitter = devnet.submitter();
        let count = (arguments.mib << 10) / arguments.payload;
        let puts = stream::iter(0..u64::try_from(count)?).map(|seed| {
            let submitter = submitter.clone();
            let payload = payload::noise(arguments.payload << 10, seed);
            async move { anyhow::Ok(submitter.put(payload, &options(), &Silent).await?.certificate) }
        });
        let certificates = puts.buffer_unordered(AT_A_TIME).try_collect().await?;
        let bench = Self { devnet, lost, certificates };
        bench.until_whole().await?;
        Ok(bench)
    }

    /// Copies the rows that one other replica holds into a file, each blob verified and synced; bytes a second.
    async fn copy(&self) -> Result<f64> {
        let committee = self.devnet.committee();
        let from = &committee.seats()[1];
        let calls = self.devnet.channels().replica(&from.endpoint)?;
        let folder = tempfile::tempdir()?;
        let begun = Instant::now();
        let copies = stream::iter(self.certificates.iter().enumerate()).map(async |(number, certificate)| {
            let (id, header) = (certificate.id(), certificate.header);
            let found = calls.lookup(LookupKey::Blob(id), true).await?;
            let rlc = found.into_iter().find_map(|found| found.rlc).context("no RLC vector")?;
            let context = Arc::new(BlobContext::<Blake3>::new(id, header, rlc)?);
            let mut bytes = 0;
            for (place, range) in
                placement::interval(committee, from, &id, header.shape()).ranges().iter().enumerate()
            {
                let (rows, proof) = calls.rows(id, *range, header.shape().row_bytes(), true).await?;
                bytes += rows.len();
                let (context, range) = (Arc::clone(&context), *range);
                let path = folder.path().join(format!("{number}-{place}"));
                spawn_blocking(move || {
                    let checked = context.check_range(range, rows, &proof)?;
                    let mut file = File::create(path)?;
                    file.write_all(checked.rows())?;
                    anyhow::Ok(file.sync_all()?)
                })
                .await??;
            }
            anyhow::Ok(bytes)
        });
        let sizes: Vec<usize> = copies.buffer_unordered(AT_A_TIME).try_collect().await?;
        Ok(sizes.iter().sum::<usize>() as f64 / begun.elapsed().as_secs_f64())
    }

    async fn until_whole(&self) -> Result<u64> {
        let calls = self.devnet.channels().replica(&self.lost.1.endpoint)?;
        eventually(PATIENCE, "a replica with nothing left to repair", async || {
            let status = calls.status().await.ok()?;
            (status.logs_behind == 0 && status.repair_left == 0).then_some(status.row_bytes)
        })
        .await
    }

    /// Loses the replica's disk and waits until it is whole again; bytes of rows a second, and how long it took.
    async fn rebuild(&self) -> Result<(f64, f64)> {
        let (name, _) = &self.lost;
        self.devnet.kill(name)?;
        std::fs::remove_dir_all(self.devnet.folder().join(name).join("data").join("store"))?;
        self.devnet.revive(name)?;
        let begun = Instant::now();
        let bytes = self.until_whole().await?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok((bytes as f64 / seconds, seconds))
    }

    /// Kills the replica and starts it again; the bytes of rows that it has, and seconds until it answers.
    async fn start_again(&self) -> Result<(u64, f64)> {
        let (name, seat) = &self.lost;
        self.devnet.kill(name)?;
        let begun = Instant::now();
        self.devnet.revive(name)?;
        let calls = self.devnet.channels().replica(&seat.endpoint)?;
        loop {
            if let Ok(status) = calls.status().await {
                return Ok((status.row_bytes, begun.elapsed().as_secs_f64()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Puts and reads back at a rate, or as fast as it goes, until something ends; how many a second.
    async fn load(&self, rate: Option<f64>, until: impl Future<Output = Result<()>>) -> Result<f64> {
        let done = Arc::new(AtomicUsize::new(0));
        let (submitter, reader) = (self.devnet.submitter(), Arc::new(self.devnet.reader()));
        let seed = u64::from(std::process::id()) << 32 | u64::from(rand_word()?);
        let clients = async {
            let mut ticks = rate.map(|rate| tokio::time::interval(Duration::from_secs_f64(1.0 / rate)));
            let places = Arc::new(tokio::sync::Semaphore::new(if rate.is_some() { 64 } else { AT_A_TIME }));
            for number in 0.. {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                let place = Arc::clone(&places).acquire_owned().await?;
                let (submitter, reader, done) = (submitter.clone(), Arc::clone(&reader), Arc::clone(&done));
                tokio::spawn(async move {
                    let _place = place;
                    let payload: Bytes = payload::noise(LOAD, seed.wrapping_add(number));
                    let put = submitter.put(payload.clone(), &options(), &Silent).await;
                    let Ok(receipt) = put else { return };
                    let read = reader.payload(receipt.certificate.id(), &Silent).await;
                    if read.is_ok_and(|read| read.payload == payload) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            anyhow::Ok(())
        };
        let begun = Instant::now();
        tokio::select! {
            ended = clients => ended?,
            ended = until => ended?,
        }
        Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
    }
}

fn rand_word() -> Result<u32> {
    getrandom::u32().map_err(|error| anyhow::anyhow!("no randomness: {error}"))
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!((1..=128 << 10).contains(&arguments.payload), "payloads of 1 KiB to 128 MiB");
    eprintln!("putting {} MiB", arguments.mib);
    let bench = Bench::start(&arguments).await?;
    let machine = Machine::this();
    println!("{}, {} threads, {}, {}", machine.processor, machine.threads, machine.system, machine.date);
    for _ in 0..3 {
        let (bytes, seconds) = bench.start_again().await?;
        println!(
            "start after a kill, with {:.2} GB of rows in {} blobs: {:.0} ms",
            bytes as f64 / 1e9,
            bench.certificates.len(),
            seconds * 1e3
        );
        bench.until_whole().await?;
    }
    let copy = bench.copy().await?;
    let (rate, seconds) = bench.rebuild().await?;
    println!(
        "rebuild of {} MiB in payloads of {} KiB: {:.0} MB/s ({seconds:.1} s), plain copy {:.0} MB/s: {:.2}",
        arguments.mib,
        arguments.payload,
        rate / 1e6,
        copy / 1e6,
        rate / copy
    );
    let some_time = async || {
        tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
        Ok(())
    };
    let peak = bench.load(None, some_time()).await?;
    let alone = bench.load(Some(peak / 2.0), some_time()).await?;
    let mut under_load = (0.0, 0.0);
    let beside = bench
        .load(Some(peak / 2.0), async {
            under_load = bench.rebuild().await?;
            Ok(())
        })
        .await?;
    println!(
        "puts and reads of {LOAD} bytes: peak {peak:.1}/s; offered {:.1}/s: {alone:.1}/s alone, {beside:.1}/s beside a rebuild \
         of {:.1} s at {:.0} MB/s: {:.2}",
        peak / 2.0,
        under_load.1,
        under_load.0 / 1e6,
        beside / alone
    );
    Ok(())
}
