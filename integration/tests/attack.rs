//! Strangers attack a gateway and a replica, one way after the other, beside ten honest clients.
//!
//! Nobody may crash, every honest request is answered, and when an attack is over nothing of it is left: memory, open files
//! and tasks are what they were.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::attack::{self, Aim, Attack};
use meridian_integration::devnet::Devnet;
use meridian_integration::honest::{Honest, Seen};
use meridian_integration::metrics::metric;
use meridian_integration::network::options;
use meridian_integration::{cores, knobs, payload};
use meridian_node::devnet::{Member, Plan};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

/// Seconds of each attack unless `MERIDIAN_ATTACK_SECONDS` says otherwise.
const SECONDS: u64 = 5;
/// How long a member may take to be what it was before.
const RECOVERY: Duration = Duration::from_secs(20);
/// What memory may be above the level before, beside a tenth of it: what the honest put meanwhile fills the write buffers of
/// a store, and threads that wait for the disk have stacks.
const MEMORY_MARGIN: f64 = 64.0 * 1024.0 * 1024.0;
/// The same for all attacks together.
const MEMORY_MARGIN_OF_ALL: f64 = 3.0 * MEMORY_MARGIN;
/// What open files and tasks may be above the level before: honest clients come and go, and stores open files.
const FILES_MARGIN: f64 = 48.0;
const TASKS_MARGIN: f64 = 48.0;
/// Most open files while an attack goes on: all connections of gRPC and of the pages, and as many as a store needs.
const MOST_FILES: f64 = 4096.0 + 256.0 + 500.0;

/// A member that is attacked.
struct Attacked {
    member: Member,
    aim: Aim,
    pid: String,
}

/// What a member takes.
#[derive(Clone, Copy, Debug)]
struct Level {
    memory: f64,
    files: f64,
    tasks: f64,
}

impl Attacked {
    fn level(&self) -> Result<Level> {
        let read = |name| {
            let read = || metric(self.member.http, name);
            tokio::task::block_in_place(read).with_context(|| self.member.name.clone())
        };
        Ok(Level {
            memory: read("meridian_process_resident_bytes")?,
            files: read("meridian_process_open_files")?,
            tasks: read("meridian_process_tasks")?,
        })
    }

    /// Waits until what it takes is what it was.
    async fn recover(&self, before: Level, margin: f64, after: &str) -> Result<Level> {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let now = self.level();
            if let Ok(now) = now
                && now.memory <= before.memory * 1.1 + margin
                && now.files <= before.files + FILES_MARGIN
                && now.tasks <= before.tasks + TASKS_MARGIN
            {
                return Ok(now);
            }
            let name = &self.member.name;
            ensure!(Instant::now() < deadline, "{name} after {after}: {now:?}, and before {before:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn show(name: &str, seen: &Seen) -> String {
    let all = seen.times();
    format!("{name}: {} requests, p50 {:.1} ms, p99 {:.1} ms", all.count, all.p50_ms, all.p99_ms)
}

/// Lets an attack loose on all of them, and gives what each took half way, and what the attackers got done.
async fn strike(
    attacked: &[Attacked],
    attack: Attack,
    seconds: u64,
) -> Result<(Vec<Result<Level>>, Vec<u64>)> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let running = attacked.iter().map(|attacked| attack(Aim { until, ..attacked.aim }));
    let running: Vec<_> = running.map(tokio::spawn).collect();
    sleep(Duration::from_secs(seconds) / 2).await;
    let during = attacked.iter().map(Attacked::level).collect();
    let mut done = Vec::new();
    for attack in running {
        done.push(attack.await?);
    }
    Ok((during, done))
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_leave_nothing_behind_and_harm_nobody() -> Result<()> {
    let seconds = knobs::number("MERIDIAN_ATTACK_SECONDS")?.unwrap_or(SECONDS);
    let only = std::env::var("MERIDIAN_ATTACK").ok();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut network = Devnet::start(&[], &[]).await?;
    let members = Plan::load(&network.folder())?.members(&network.folder());
    if knobs::number("MERIDIAN_ATTACK_PIN")?.is_some() {
        cores::apart(&members)?;
    }

    // What long payloads leave behind for the next one is no attacker's doing.
    network.submitter().put(payload::noise(32 << 20, 1), &options(), &Silent).await?;
    // The rows of a large blob are what unread answers are made of.
    let large = network.submitter().put(payload::noise(4 << 20, 2), &options(), &Silent).await?;
    let committee = network.committee();
    let mut attacked = Vec::new();
    for (place, role) in ["gateway", "replica"].into_iter().enumerate() {
        let member = members.iter().find(|member| member.role == role).context("a member")?.clone();
        let seat = committee.seats().iter().find(|seat| seat.endpoint == member.endpoint());
        let aim = Aim {
            grpc: member.grpc,
            http: member.http,
            from: Ipv4Addr::new(127, 0, 0, 50 + u8::try_from(place)?),
            until: Instant::now(),
            blob: large.certificate.id(),
            gateway: committee.gateways().first().context("a gateway")?.address,
            replica: seat.or(committee.seats().first()).context("a seat")?.address,
            domain: committee.domain(),
            epoch: committee.epoch(),
        };
        let pid = std::fs::read_to_string(member.pid())?;
        attacked.push(Attacked { member, aim, pid });
    }

    let honest = Honest::start(&network.submitter(), network.reader()).await?;
    sleep(Duration::from_secs(seconds.min(10))).await;
    let _ = honest.seen();
    sleep(Duration::from_secs(seconds.min(10))).await;
    let quiet = honest.seen();
    println!("{}", show("nobody attacks", &quiet));
    ensure!(quiet.failures.is_empty(), "failures before any attack: {:?}", quiet.failures);
    let levels = || attacked.iter().map(Attacked::level).collect::<Result<Vec<_>>>();
    let first = levels()?;

    let mut broken = Vec::new();
    for (name, attack) in attack::ALL.iter().filter(|(name, _)| only.as_deref().is_none_or(|o| *name == o)) {
        let before = levels().with_context(|| format!("before {name}"))?;
        let between = honest.seen();
        broken.extend(between.failures.into_iter().map(|failure| format!("before {name}: {failure}")));
        let (during, done) = strike(&attacked, *attack, seconds).await?;
        let seen = honest.seen();
        println!("{}; done {done:?}", show(name, &seen));
        for ((attacked, during), before) in attacked.iter().zip(during).zip(&before) {
            let during = during.with_context(|| format!("{name}: the pages do not answer"));
            match during {
                Ok(during) if during.files > MOST_FILES => {
                    broken.push(format!("{name}: {} files are open", during.files));
                }
                Ok(_) => {}
                Err(error) => broken.push(format!("{error:#}")),
            }
            match attacked.recover(*before, MEMORY_MARGIN, name).await {
                Ok(after) => println!(
                    "  {}: {:.0} MiB, {} files, {} tasks",
                    attacked.member.name,
                    after.memory / 1048576.0,
                    after.files,
                    after.tasks
                ),
                Err(error) => broken.push(format!("{error:#}")),
            }
            if std::fs::read_to_string(attacked.member.pid())? != attacked.pid {
                broken.push(format!("{name}: {} was started again", attacked.member.name));
            }
        }
        if !seen.failures.is_empty() {
            broken.push(format!(
                "{name}: {} honest requests failed, the first: {}",
                seen.failures.len(),
                seen.failures[0]
            ));
        }
        if seen.times().count == 0 {
            broken.push(format!("{name}: no honest request was answered"));
        }
    }
    for (attacked, first) in attacked.iter().zip(first) {
        if let Err(error) = attacked.recover(first, MEMORY_MARGIN_OF_ALL, "all attacks").await {
            broken.push(format!("{error:#}"));
        }
    }
    let last = honest.stop().await;
    broken.extend(last.failures.into_iter().map(|failure| format!("after all of them: {failure}")));
    let status = network.stop()?;
    ensure!(status.success(), "the network stopped with {status}");
    let said = network.output();
    ensure!(!said.contains("panicked"), "somebody panicked: {said}");
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}
