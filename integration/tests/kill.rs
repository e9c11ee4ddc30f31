//! Members of a network under load are killed with SIGKILL and started again, and after every start an oracle outside
//! compares everything that was certified with what is on disk.
//!
//! `MERIDIAN_KILLS` is how many are killed, `MERIDIAN_SEED` what all choices follow from: who is killed when, who is
//! started when, what is put and when. How the members' work falls in between is up to the machine.
//!
//! A killed process leaves to the kernel what it has written, so nothing here tells what was synced.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_client::submit::{least_expiry, unix_now};
use meridian_integration::devnet::Devnet;
use meridian_integration::knobs;
use meridian_integration::network::{complete, eventually};
use meridian_integration::oracle::Oracle;
use meridian_integration::oracle::clients::{Acknowledged, Clients, Draft, options, put_at_last};
use meridian_integration::oracle::members::Members;
use meridian_integration::oracle::mirror::Mirror;
use meridian_integration::random::Random;
use meridian_proto::error::Reason;
use tokio::time::sleep;

/// Kills without `MERIDIAN_KILLS`.
const KILLS: u64 = 20;

/// Kills after which a new network is started, so that the blobs fit the disk.
const KILLS_PER_NETWORK: u64 = 100;

/// Members that are down at the same time, unless all are killed at once.
const MOST_DOWN: usize = 3;

/// Milliseconds between two steps, at most: many in the middle of puts, and some after them.
const PAUSES: [u64; 2] = [150, 1_200];

/// Milliseconds after its start in which a member is killed that is killed while it starts.
const STARTING: u64 = 200;

/// Blobs that are put once more after each restart.
const REPEATED: usize = 3;

/// Longest time for what must happen once everything is up. Only there so that a fault ends the test.
const DEADLINE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_certified_survives_every_kill() -> Result<()> {
    let seed = knobs::seed()?;
    let kills = knobs::number("MERIDIAN_KILLS")?.unwrap_or(KILLS);
    println!("MERIDIAN_SEED={seed} MERIDIAN_KILLS={kills}");
    let (begun, mut random) = (Instant::now(), Random::new(seed));
    let mut total = Total::default();
    while total.kills() < kills {
        let part = KILLS_PER_NETWORK.min(kills - total.kills());
        let run = Run::start(&mut random).await?;
        let ran = run.run(&mut random, part, &mut total).await;
        ran.with_context(|| format!("MERIDIAN_SEED={seed} MERIDIAN_KILLS={kills}, after {total}"))?;
    }
    println!("seed {seed}, {total}, {} s", begun.elapsed().as_secs());
    Ok(())
}

/// What happened in all networks.
#[derive(Debug, Default)]
struct Total {
    gateways: u64,
    replicas: u64,
    restarts: u64,
    puts: u64,
    refusals: BTreeMap<String, u64>,
    repeated: u64,
    reads: u64,
    blobs: u64,
    row_bytes: u64,
    checkpoints: usize,
}

impl Total {
    fn kills(&self) -> u64 {
        self.gateways + self.replicas
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusals: Vec<String> =
            self.refusals.iter().map(|(why, count)| format!("{why}: {count}")).collect();
        write!(
            f,
            "kills {} (gateways {}, replicas {}), restarts {}, puts {}, repeated puts {}, reads {}, refused [{}], \
             blobs checked {}, row bytes compared {}, checkpoints {}",
            self.kills(),
            self.gateways,
            self.replicas,
            self.restarts,
            self.puts,
            self.repeated,
            self.reads,
            refusals.join(", "),
            self.blobs,
            self.row_bytes,
            self.checkpoints
        )
    }
}

/// One network with its clients and its oracle.
struct Run {
    devnet: Arc<Devnet>,
    members: Members,
    clients: Clients,
    oracle: Oracle,
    /// Of what is looked at after a restart. Apart from the schedule, which may not depend on what was certified.
    choice: Random,
}

impl Run {
    async fn start(random: &mut Random) -> Result<Self> {
        let devnet = Arc::new(Devnet::start(&["--gateways", "2"], &[]).await?);
        let (committee, channels) = (Arc::clone(devnet.committee()), devnet.channels().clone());
        Ok(Self {
            members: Members::of(Arc::clone(&devnet))?,
            clients: Clients::new(Arc::clone(&devnet)),
            oracle: Oracle::new(committee, channels, random.number()),
            choice: Random::new(random.number()),
            devnet,
        })
    }

    async fn run(mut self, random: &mut Random, kills: u64, total: &mut Total) -> Result<()> {
        let ran = self.work(random, kills, total).await;
        total.puts += u64::try_from(self.clients.acknowledged.len())?;
        total.reads += self.clients.reads;
        for (why, count) in &self.clients.refusals {
            *total.refusals.entry(why.clone()).or_default() += count;
        }
        total.checkpoints += self.oracle.logs.values().map(Mirror::checkpoints).sum::<usize>();
        if ran.is_err() {
            eprintln!("{}", self.members.said());
        }
        ran
    }

    async fn work(&mut self, random: &mut Random, kills: u64, total: &mut Total) -> Result<()> {
        let mut left = usize::try_from(kills)?;
        while left > 0 {
            self.clients.begin(random);
            let longest = *random.pick(&PAUSES);
            sleep(Duration::from_millis(random.below(longest))).await;
            let (mut up, down) = (self.members.places(true), self.members.places(false));
            let more = random.one_in(2);
            if down.is_empty() || (more && down.len() < MOST_DOWN) {
                let victims = match random.below(24) {
                    0 => up.len(),
                    1..7 => 2,
                    7 => 3,
                    _ => 1,
                };
                random.shuffle(&mut up);
                up.truncate(victims.min(left));
                left -= up.len();
                self.kill(&up, random, total).await?;
            } else {
                let (place, wait) = (*random.pick(&down), random.below(STARTING));
                if random.one_in(4) {
                    left -= 1;
                    self.members.kill_while_it_starts(place, wait).await?;
                    self.count(&[place], total);
                } else {
                    self.revive(place, total).await?;
                }
            }
            self.clients.collect()?;
        }
        self.settle(total).await
    }

    /// Kills some at once. Where too few are left for a quorum, a put must be refused.
    async fn kill(&mut self, places: &[usize], random: &mut Random, total: &mut Total) -> Result<()> {
        self.members.kill(places).await?;
        self.count(places, total);
        let draft = Draft::draw(random);
        if self.members.replicas_up() < self.devnet.committee().min_copies() {
            let refusal = self.clients.put(draft).await?.context("certified without a quorum")?;
            let named = refusal.metadata.get("missing_regions").is_some_and(|regions| !regions.is_empty());
            ensure!(refusal.reason != Reason::QuorumUnreachable || named, "which regions? {refusal:?}");
        }
        Ok(())
    }

    fn count(&self, killed: &[usize], total: &mut Total) {
        for place in killed {
            let count =
                if self.members.all[*place].is_gateway { &mut total.gateways } else { &mut total.replicas };
            *count += 1;
        }
    }

    /// Starts one again, then compares.
    async fn revive(&mut self, place: usize, total: &mut Total) -> Result<()> {
        self.members.revive(place).await?;
        total.restarts += 1;
        let name = &self.members.all[place].name;
        let checked = format!(
            "after {name} was started again, {} kills and {} restarts",
            total.kills(),
            total.restarts
        );
        self.check(false, total).await.context(checked)
    }

    async fn check(&mut self, all: bool, total: &mut Total) -> Result<()> {
        self.clients.collect()?;
        let up: Vec<_> = self.members.up().cloned().collect();
        let acknowledged = self.clients.acknowledged.clone();
        let compared = if all {
            self.oracle.check_all(&up, &acknowledged).await?
        } else {
            self.oracle.check(&up, &acknowledged).await?
        };
        total.blobs += compared.blobs;
        total.row_bytes += compared.row_bytes;
        if acknowledged.is_empty() {
            return Ok(());
        }
        for _ in 0..REPEATED {
            let blob = &acknowledged[self.choice.place(acknowledged.len())];
            self.repeat(blob, total).await?;
        }
        let place = self.choice.place(acknowledged.len());
        self.read(&acknowledged[place]).await
    }

    /// A payload that is put once more gets the entry that it has.
    async fn repeat(&self, blob: &Acknowledged, total: &mut Total) -> Result<()> {
        let Some(gateway) = self.members.up().find(|member| member.address == blob.gateway()) else {
            return Ok(());
        };
        if self.members.replicas_up() < self.devnet.committee().min_copies() {
            return Ok(());
        }
        let submitter = self.devnet.submitter_to(vec![gateway.endpoint.clone()]);
        let again = put_at_last(&submitter, &blob.draft.payload(), &options(), DEADLINE).await?.certificate;
        let before = &blob.certificate;
        ensure!(again.id() == before.id(), "another id: {} after {}", again.id(), before.id());
        if before.entry.expiry >= least_expiry(unix_now(), options().retention) {
            let same = (again.index, again.entry) == (before.index, before.entry);
            ensure!(same, "another entry: {again:?} after {before:?}");
        }
        total.repeated += 1;
        Ok(())
    }

    /// A blob of which a cosigner is up can be read.
    async fn read(&mut self, blob: &Acknowledged) -> Result<()> {
        if self.members.up().any(|member| blob.signers.contains(&member.address)) {
            eventually(DEADLINE, "a read of a certified blob", async || {
                match self.clients.read(blob).await {
                    Ok(came) => came.then_some(Ok(())),
                    Err(error) => Some(Err(error)),
                }
            })
            .await??;
        }
        Ok(())
    }

    /// Starts everything, waits until every region has every blob, and compares all.
    async fn settle(&mut self, total: &mut Total) -> Result<()> {
        for place in self.members.places(false) {
            self.revive(place, total).await?;
        }
        self.clients.finish().await?;
        self.clients.put_refused(DEADLINE).await?;
        let full = stream::iter(&self.clients.acknowledged).map(|blob| self.complete(blob)).buffered(8);
        self.clients.acknowledged = full.try_collect().await?;
        self.check(true, total).await.context("at the end")?;
        let faults = self.members.faults();
        ensure!(faults.is_empty(), "members logged {faults:#?}");
        Ok(())
    }

    /// The certificate with all regions, once they have it.
    async fn complete(&self, blob: &Arc<Acknowledged>) -> Result<Arc<Acknowledged>> {
        let (committee, channels) = (self.devnet.committee(), self.devnet.channels());
        let (certificate, signers) = complete(committee, channels, &blob.certificate, DEADLINE).await?;
        Ok(Arc::new(Acknowledged { draft: blob.draft, certificate, signers }))
    }
}
