//! Bad connections between real processes: every way between clients, gateway and replicas is a wire that a test can cut,
//! stall, forget, delay or make slow, in one direction too.
//!
//! What always holds: no answer is wrong, nothing that was certified is lost, and nobody signs what contradicts. With
//! `minCopies` regions connected puts go on; once all is mended every region has everything, and no host keeps memory,
//! requests, tasks or connections of what is over.
//!
//! `MERIDIAN_ROUNDS` is how many rounds the storm has, `MERIDIAN_SEED` what all choices of the storm follow from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::submit::{PutError, Receipt};
use meridian_integration::devnet::Devnet;
use meridian_integration::knobs;
use meridian_integration::metrics::metric;
use meridian_integration::network::{complete, eventually, options};
use meridian_integration::oracle::Oracle;
use meridian_integration::oracle::clients::{Acknowledged, Clients, put_at_last, refusal};
use meridian_integration::oracle::members::Members;
use meridian_integration::payload;
use meridian_integration::random::Random;
use meridian_integration::wires::{CLIENTS, Flow, Wire, Wires};
use meridian_node::devnet::Plan;
use meridian_proofs::certificate::Certificate;
use meridian_proto::error::{Class, Reason};
use tokio::time::{Instant, sleep};

const GATEWAY: &str = "gateway-0";
const REPLICAS: [&str; 5] = ["na-west-0", "na-east-0", "eu-central-0", "ap-northeast-0", "ap-southeast-0"];

/// Rounds without `MERIDIAN_ROUNDS`.
const ROUNDS: u64 = 24;

/// Rounds of the storm between two that are calm.
const CALM: u64 = 6;

/// Longest time for what must happen once enough is connected. Only there so that a fault ends the test.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a host may have more of when it is at rest again than when it was at rest first.
const SLACK: [(&str, f64); 4] = [
    ("meridian_memory_reserved_bytes", 0.0),
    ("meridian_requests_in_flight", 0.0),
    // A connection, with two tasks, of everybody to everybody; segments and tables of the stores.
    ("meridian_process_tasks", 24.0),
    ("meridian_process_open_files", 60.0),
];

/// Resident memory that a host at rest may have: several times what it begins with, so that only growth is found.
const MOST_RESIDENT: f64 = 1.5e9;

/// One network at a time: two on two cores are slower than anything that is done to them here.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Net {
    devnet: Arc<Devnet>,
    wires: Wires,
    http: Vec<(String, SocketAddr)>,
    /// What hosts measured when they were at rest.
    at_rest: Vec<[f64; SLACK.len()]>,
    /// Payloads that were made: each is put by one scenario only.
    payloads: AtomicU64,
}

impl Net {
    async fn start() -> Result<Self> {
        let (devnet, wires) = Devnet::start_wired().await?;
        let members = Plan::load(&devnet.folder())?.members(&devnet.folder());
        let http = members.into_iter().map(|member| (member.name, member.http)).collect();
        let mut net =
            Self { devnet: Arc::new(devnet), wires, http, at_rest: Vec::new(), payloads: AtomicU64::new(0) };
        // Whatever is there once from the first put on is there.
        net.complete(&net.put(&net.payload(1_000)).await?.certificate).await?;
        net.at_rest = net.measure()?;
        Ok(net)
    }

    fn measure(&self) -> Result<Vec<[f64; SLACK.len()]>> {
        let measure = |(_, http): &(String, SocketAddr)| {
            let mut values = [0.0; SLACK.len()];
            for (value, (name, _)) in values.iter_mut().zip(SLACK) {
                *value = metric(*http, name)?;
            }
            Ok(values)
        };
        self.http.iter().map(measure).collect()
    }

    /// Nothing is left of what is over.
    async fn is_at_rest(&self) -> Result<()> {
        let mut left = Vec::new();
        let rested = eventually(DEADLINE, "hosts at rest", async || {
            left.clear();
            let now = self.measure().ok()?;
            for ((name, _), (before, now)) in self.http.iter().zip(self.at_rest.iter().zip(now)) {
                for ((metric, slack), (before, now)) in SLACK.iter().zip(before.iter().zip(now)) {
                    if now > before + slack {
                        left.push(format!("{name}: {metric} {now} after {before}"));
                    }
                }
            }
            left.is_empty().then_some(())
        });
        rested.await.with_context(|| left.join(", "))?;
        for (name, http) in &self.http {
            let resident = metric(*http, "meridian_process_resident_bytes")?;
            ensure!(resident < MOST_RESIDENT, "{name} has {resident} bytes of memory");
        }
        Ok(())
    }

    fn wire(&self, from: &str, to: &str) -> Result<&Wire> {
        self.wires.wire(from, to)
    }

    /// A payload that nobody has put.
    fn payload(&self, length: usize) -> Bytes {
        payload::noise(length, self.payloads.fetch_add(1, Ordering::Relaxed))
    }

    async fn try_put(&self, payload: &Bytes) -> Result<Receipt, PutError> {
        self.devnet.submitter().put(payload.clone(), &options(), &Silent).await
    }

    async fn put(&self, payload: &Bytes) -> Result<Receipt> {
        put_at_last(&self.devnet.submitter(), payload, &options(), DEADLINE).await
    }

    /// Waits until every region has a blob and says so.
    async fn complete(&self, certificate: &Certificate) -> Result<()> {
        let (committee, channels) = (self.devnet.committee(), self.devnet.channels());
        complete(committee, channels, certificate, DEADLINE).await.map(drop)
    }

    /// Mends everything, and waits until all is as if nothing had been.
    async fn heal(&self, receipts: &[Receipt]) -> Result<()> {
        self.wires.mend();
        for receipt in receipts {
            self.complete(&receipt.certificate).await?;
        }
        self.is_at_rest().await
    }

    /// Reads until it comes, as a validator does: connections that were forgotten may be found dead only now, and be those to
    /// all who have the blob already.
    async fn read(&self, certificate: &Certificate) -> Result<Bytes> {
        eventually(DEADLINE, "a read", async || {
            match self.devnet.reader().payload(certificate.id(), &Silent).await {
                Ok(fetched) => Some(Ok(fetched.payload)),
                Err(error) => (error.reason().class() != Class::Unavailable).then_some(Err(error)),
            }
        })
        .await?
        .map_err(Into::into)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_bad_connection() -> Result<()> {
    let _alone = ALONE.lock().await;
    let net = Net::start().await?;
    let ran = each_kind(&net).await;
    if ran.is_err() {
        eprintln!("{}", Members::of(Arc::clone(&net.devnet))?.said());
    }
    ran
}

async fn each_kind(net: &Net) -> Result<()> {
    for region in REPLICAS {
        one_region_cut_off(net, region).await.with_context(|| format!("{region} cut off"))?;
    }
    two_regions_cut_off(net).await.context("two regions cut off")?;
    for there in [true, false] {
        one_way_stalled(net, there).await.with_context(|| format!("one way stalled, there: {there}"))?;
    }
    an_upload_cut_in_the_middle(net).await.context("an upload cut in the middle")?;
    forgotten_connections(net).await.context("forgotten connections")?;
    slow_ways(net).await.context("slow ways")?;
    long_ways(net).await.context("long ways")?;
    replicas_without_each_other(net).await.context("replicas without each other")
}

async fn one_region_cut_off(net: &Net, region: &str) -> Result<()> {
    net.wires.of(region).for_each(Wire::sever);
    let payload = net.payload(130_000);
    let receipt = net.put(&payload).await?;
    ensure!(net.read(&receipt.certificate).await? == payload, "other bytes");
    net.heal(&[receipt]).await
}

async fn two_regions_cut_off(net: &Net) -> Result<()> {
    for region in &REPLICAS[..2] {
        net.wires.of(region).for_each(Wire::sever);
    }
    let payload = net.payload(24_000);
    let Err(refused) = net.try_put(&payload).await else { bail!("certified without a quorum") };
    let refused = refusal(&refused)?;
    ensure!(refused.reason == Reason::QuorumUnreachable, "{refused:?}");
    let missing = refused.metadata.get("missing_regions").context("which regions?")?;
    ensure!(["na-east", "na-west"].iter().all(|region| missing.contains(region)), "{missing}");
    net.wires.mend();
    let receipt = net.put(&payload).await?;
    net.heal(&[receipt]).await
}

/// Bytes go in one direction only: what is sent is lost on the way, or what is answered.
async fn one_way_stalled(net: &Net, there: bool) -> Result<()> {
    let wire = net.wire(GATEWAY, REPLICAS[2])?;
    let (stalled, good) = (Flow::Stalled, Flow::Good);
    let (to, from) = if there { (stalled, good) } else { (good, stalled) };
    wire.set(to, from);
    let (short, long) = (net.payload(130_000), net.payload(1 << 20));
    let (short, long) = tokio::try_join!(net.put(&short), net.put(&long))?;
    net.heal(&[short, long]).await
}

async fn an_upload_cut_in_the_middle(net: &Net) -> Result<()> {
    let (wire, payload) = (net.wire(CLIENTS, GATEWAY)?, net.payload(8 << 20));
    wire.set(Flow::Slow(4 << 20), Flow::Good);
    let cut = async {
        let from = wire.carried();
        while wire.carried() < from + (1 << 20) {
            sleep(Duration::from_millis(5)).await;
        }
        wire.cut();
        wire.mend();
    };
    let (put, ()) = tokio::join!(net.try_put(&payload), cut);
    let Err(refused) = put else { bail!("certified before it was sent") };
    ensure!(refusal(&refused)?.is_retryable(), "{refused}");
    let receipt = net.put(&payload).await?;
    net.heal(&[receipt]).await
}

/// Connections that are open at both ends and carry nothing any more, as after a router has started again. Nobody mends
/// them: both ends have to find out.
async fn forgotten_connections(net: &Net) -> Result<()> {
    let first = net.payload(24_000);
    let before = net.put(&first).await?;
    // All connections of clients are made.
    net.read(&before.certificate).await?;
    net.wires.all().for_each(Wire::forget);
    let after = net.put(&net.payload(24_000)).await?;
    ensure!(net.read(&before.certificate).await? == first, "other bytes");
    net.heal(&[before, after]).await
}

async fn slow_ways(net: &Net) -> Result<()> {
    let (rate, payload) = (20_000, net.payload(1 << 20));
    net.wire(GATEWAY, REPLICAS[1])?.set(Flow::Slow(rate), Flow::Slow(rate));
    let receipt = net.put(&payload).await?;
    // A reader of one slow region takes the rows from another.
    net.wire(CLIENTS, REPLICAS[0])?.set(Flow::Slow(rate), Flow::Slow(rate));
    ensure!(net.read(&receipt.certificate).await? == payload, "other bytes");
    net.wires.mend();
    // A sequencer behind a slow line needs its time, and no more.
    net.wire(CLIENTS, GATEWAY)?.set(Flow::Slow(100_000), Flow::Good);
    let slow = net.put(&net.payload(130_000)).await?;
    net.heal(&[receipt, slow]).await
}

async fn long_ways(net: &Net) -> Result<()> {
    let late = |ms| Flow::Late(Duration::from_millis(ms));
    for (place, region) in (0_u64..).zip(REPLICAS) {
        for wire in net.wires.of(region) {
            wire.set(late(20 * place), late(20 * place));
        }
    }
    net.wire(GATEWAY, REPLICAS[4])?.set(late(1_000), late(1_000));
    let payload = net.payload(1 << 20);
    let receipt = net.put(&payload).await?;
    ensure!(net.read(&receipt.certificate).await? == payload, "other bytes");
    net.heal(&[receipt]).await
}

/// Gateway and clients reach everybody, and replicas nobody: puts go on, and a replica that is started again signs nothing
/// before others have told it how far the log is.
async fn replicas_without_each_other(net: &Net) -> Result<()> {
    for (from, to, wire) in net.wires.ends() {
        if REPLICAS.contains(&from) && (REPLICAS.contains(&to) || to == GATEWAY) {
            wire.sever();
        }
    }
    let first = net.put(&net.payload(24_000)).await?;
    let lonely = REPLICAS[3];
    net.devnet.kill(lonely)?;
    net.devnet.revive(lonely)?;
    let second = net.put(&net.payload(24_000)).await?;
    let members = Members::of(Arc::clone(&net.devnet))?;
    let member = members.all.iter().find(|member| member.name == lonely).context("a member")?;
    ensure!(!second.signers.contains(&member.address), "{lonely} signed what it cannot know to be no fork");
    net.heal(&[first, second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm() -> Result<()> {
    let _alone = ALONE.lock().await;
    let seed = knobs::seed()?;
    let rounds = knobs::number("MERIDIAN_ROUNDS")?.unwrap_or(ROUNDS);
    println!("MERIDIAN_SEED={seed} MERIDIAN_ROUNDS={rounds}");
    let begun = Instant::now();
    let mut storm = Storm::start(seed).await?;
    let ran = storm.run(rounds).await;
    if ran.is_err() {
        eprintln!("{}", storm.members.said());
    }
    ran.with_context(|| format!("MERIDIAN_SEED={seed} MERIDIAN_ROUNDS={rounds}"))?;
    println!(
        "seed {seed}, {rounds} rounds, {} puts, {} reads, refused {:?}, {} s",
        storm.clients.acknowledged.len(),
        storm.clients.reads,
        storm.clients.refusals,
        begun.elapsed().as_secs()
    );
    Ok(())
}

struct Storm {
    net: Net,
    members: Members,
    clients: Clients,
    oracle: Oracle,
    random: Random,
}

impl Storm {
    async fn start(seed: u64) -> Result<Self> {
        let (net, mut random) = (Net::start().await?, Random::new(seed));
        let (committee, channels) = (Arc::clone(net.devnet.committee()), net.devnet.channels().clone());
        Ok(Self {
            members: Members::of(Arc::clone(&net.devnet))?,
            clients: Clients::new(Arc::clone(&net.devnet)),
            oracle: Oracle::new(committee, channels, random.number()),
            random,
            net,
        })
    }

    async fn run(&mut self, rounds: u64) -> Result<()> {
        for round in 1..=rounds {
            self.clients.begin(&mut self.random);
            self.strike().await?;
            sleep(Duration::from_millis(self.random.below(1_500))).await;
            self.clients.collect()?;
            if round % CALM == 0 {
                self.calm().await.with_context(|| format!("after {round} rounds"))?;
            }
        }
        self.calm().await?;
        let all: Vec<_> = self.members.up().cloned().collect();
        let acknowledged = self.clients.acknowledged.clone();
        self.oracle.check_all(&all, &acknowledged).await.context("at the end")?;
        let faults = self.members.faults();
        ensure!(faults.is_empty(), "members logged {faults:#?}");
        self.net.is_at_rest().await
    }

    /// Makes some wires bad and some good.
    async fn strike(&mut self) -> Result<()> {
        let random = &mut self.random;
        match random.below(8) {
            0 => self.swizzle().await,
            1 => {
                let end = *random.pick(&REPLICAS);
                self.net.wires.of(end).for_each(Wire::sever);
            }
            _ => {
                let wires: Vec<&Wire> = self.net.wires.all().collect();
                for _ in 0..random.below(16) {
                    let wire = random.pick(&wires);
                    let ms = Duration::from_millis(random.below(400));
                    let flow = *random.pick(&[Flow::Good, Flow::Stalled, Flow::Late(ms), Flow::Slow(50_000)]);
                    match random.below(6) {
                        0 => wire.cut(),
                        1 => wire.sever(),
                        2 => wire.forget(),
                        3 => wire.set(flow, Flow::Good),
                        4 => wire.set(Flow::Good, flow),
                        _ => wire.mend(),
                    }
                }
            }
        }
        Ok(())
    }

    /// Cuts off some members one after the other, and lets them back in another order: what FoundationDB's testers found
    /// to bring up the most faults.
    async fn swizzle(&mut self) {
        let mut ends = [&REPLICAS[..], &[GATEWAY]].concat();
        self.random.shuffle(&mut ends);
        ends.truncate(1 + self.random.place(ends.len()));
        for bad in [true, false] {
            for end in &ends {
                let change = if bad { Wire::sever } else { Wire::mend };
                self.net.wires.of(end).for_each(change);
                sleep(Duration::from_millis(self.random.below(300))).await;
            }
            self.random.shuffle(&mut ends);
        }
    }

    /// Mends everything: then every put gets its certificate, every region becomes complete, and nothing contradicts.
    async fn calm(&mut self) -> Result<()> {
        self.net.wires.mend();
        self.clients.finish().await?;
        self.clients.put_refused(DEADLINE).await?;
        let waiting: Vec<Arc<Acknowledged>> = self.clients.acknowledged.clone();
        for blob in &waiting {
            self.net.complete(&blob.certificate).await?;
        }
        let all: Vec<_> = self.members.up().cloned().collect();
        self.oracle.check(&all, &waiting).await.map(drop)
    }
}
