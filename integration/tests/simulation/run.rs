//! One simulated network: what is done to it, and what has to hold.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use meridian_integration::random::Random;
use turmoil::{Builder, Sim};

use crate::faults::{Action, Episode, KINDS};
use crate::load::{self, Put};
use crate::net::channels;
use crate::oracle;
use crate::world::{CLIENTS, Host, REPLICAS, Vitals, World, run_gateway, run_replica};

/// Steps of simulated time.
const TICK: Duration = Duration::from_millis(5);

/// How long messages take while all is well.
const LATENCY: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(60)];

/// Episodes of each network.
const EPISODES: u64 = 6;

/// Time in which a put is certified as soon as a quorum is connected.
///
/// The simulated network does not send again what a cut link has swallowed, so a connection over one is dead until
/// keep-alive finds it, 10 s after the last answer, and a replica that refused may be asked again after 10 s more.
const PROGRESS: Duration = Duration::from_secs(30);

/// Time in which every region has every blob once all is well.
const COMPLETE: Duration = Duration::from_secs(180);

/// Time in which connections that are dead have been found and given up, by those who serve too: their keep-alive
/// takes 30 s.
const QUIET: Duration = Duration::from_secs(45);

/// Tasks by which a host may have more than before the load: those of connections between members that were not needed
/// before. There are hundreds of puts, reads, repairs and broken connections: one task of a few of them would be above.
const MORE_TASKS: usize = 2 * (REPLICAS as usize + 1);

/// What happened in one network.
#[derive(Debug)]
pub(crate) struct Report {
    /// The first thing that went wrong.
    pub(crate) outcome: Result<()>,
    certified: usize,
    refused: usize,
    reads: u64,
    checkpoints: usize,
    simulated: Duration,
    /// Longest time without a certificate while a quorum was connected.
    slowest: Duration,
    episodes: Vec<&'static str>,
    /// All that was done and all that came of it, in order.
    pub(crate) trace: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certified, refused, reads, checkpoints, simulated, slowest, episodes, .. } = self;
        write!(
            f,
            "{certified} certified, {refused} refused, {reads} read, {checkpoints} checkpoints in {} s of simulated \
             time, a quorum was idle for at most {} ms: {}",
            simulated.as_secs(),
            slowest.as_millis(),
            episodes.join(", ")
        )
    }
}

/// Runs the network of a seed.
pub(crate) fn run(seed: u64) -> Report {
    let mut report = Report {
        outcome: Ok(()),
        certified: 0,
        refused: 0,
        reads: 0,
        checkpoints: 0,
        simulated: Duration::ZERO,
        slowest: Duration::ZERO,
        episodes: Vec::new(),
        trace: Vec::new(),
    };
    report.outcome = simulate(seed, &mut report);
    report
}

fn simulate(seed: u64, report: &mut Report) -> Result<()> {
    let mut random = Random::new(seed);
    let world = World::new(|| random.below(6))?;
    let mut builder = Builder::new();
    builder
        .rng_seed(random.number())
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(24 * 3_600))
        .min_message_latency(LATENCY[0])
        .max_message_latency(LATENCY[1])
        .repair_rate(0.3)
        .tcp_capacity(256);
    let mut run = Run { sim: builder.build(), world, down: BTreeSet::new(), report };
    run.register(&mut random);
    let outcome = run.all(seed, &mut random);
    let Run { sim, world, report, .. } = run;
    report.simulated = sim.elapsed();
    // Hosts go before their folder.
    drop(sim);
    let state = world.state();
    report.certified = state.oracle.acknowledged.len();
    report.refused = state.puts.iter().filter(|put| put.result.is_err()).count();
    (report.reads, report.checkpoints) = (state.reads, state.oracle.log.checkpoints());
    report.trace.extend(state.puts.iter().map(|put| format!("{put:?}")));
    outcome
}

struct Run<'a> {
    sim: Sim<'a>,
    world: Arc<World>,
    down: BTreeSet<Host>,
    report: &'a mut Report,
}

impl Run<'_> {
    /// Draws how long messages take on each link while all is well. The same for all messages, so that one more or less
    /// changes nothing for those that follow.
    fn draw_latencies(&mut self, random: &mut Random) {
        let hosts: Vec<Host> = Host::members().chain(Host::clients()).collect();
        for (place, a) in hosts.iter().enumerate() {
            for b in &hosts[place + 1..] {
                let latency = LATENCY[0] + Duration::from_millis(random.below(60));
                self.sim.set_link_latency(a.name(), b.name(), latency);
            }
        }
    }

    fn register(&mut self, random: &mut Random) {
        for place in 0..REPLICAS {
            let world = Arc::clone(&self.world);
            self.sim.host(Host::Replica(place).name(), move || run_replica(Arc::clone(&world), place));
        }
        let world = Arc::clone(&self.world);
        self.sim.host(Host::Gateway.name(), move || run_gateway(Arc::clone(&world)));
        for number in 0..CLIENTS {
            let load = load::run(Arc::clone(&self.world), random.number());
            self.sim.client(Host::Client(number).name(), load);
        }
        self.draw_latencies(random);
    }

    fn all(&mut self, seed: u64, random: &mut Random) -> Result<()> {
        self.until(COMPLETE, "everybody is there", |_, vitals| is_complete(vitals))?;
        self.load()?;
        self.quiet_down()?;
        let before = self.vitals();
        self.world.be_quiet(false);
        for number in 0..EPISODES {
            // No kind twice in one network, and other ones with the next seed: three in a row have all.
            let episode = Episode::draw((seed % KINDS) + number * 5, random);
            self.episode(episode, random)?;
        }
        self.load()?;
        self.quiet_down()?;
        self.check_quiet(&before)?;
        self.restart_all()?;
        self.audit()?;
        // And everything goes on.
        self.world.be_quiet(false);
        self.load()?;
        self.world.be_quiet(true);
        self.until(load::PUT_LIMIT, "the last puts end", |run, _| run.world.state().underway == 0)?;
        self.run_for(Duration::from_secs(1))?;
        self.world.state().oracle.check_log()
    }

    /// Simulates one step, in which nothing may go wrong.
    fn step(&mut self) -> Result<()> {
        let stepped = self.sim.step().map_err(|error| anyhow!("a host failed: {error:?}"));
        self.world.set_clocks(self.sim.elapsed());
        // What the oracle found says more than what a host ended with.
        match self.world.fault() {
            Some(fault) => Err(fault),
            None => stepped.map(drop),
        }
    }

    fn run_for(&mut self, time: Duration) -> Result<()> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Goes on to a full ten seconds, so that the same is done at the same time in each run of a seed, although what was
    /// waited for before took a little longer in one than in another.
    fn align(&mut self) -> Result<()> {
        let past = self.sim.elapsed().as_millis() % 10_000;
        self.run_for(Duration::from_millis(10_000 - u64::try_from(past)?))
    }

    fn until(
        &mut self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Self, &BTreeMap<Host, Vitals>) -> bool,
    ) -> Result<()> {
        let end = self.sim.elapsed() + limit;
        while !holds(self, &self.vitals()) {
            let now = self.sim.elapsed();
            ensure!(now < end, "not within {limit:?}: {what}; {:?}", self.vitals());
            self.step()?;
        }
        Ok(())
    }

    fn vitals(&self) -> BTreeMap<Host, Vitals> {
        self.world.state().vitals.clone()
    }

    /// The first put that began at or after a time and was certified.
    fn first_certified(&self, since: Duration) -> Option<Put> {
        let state = self.world.state();
        state.puts.iter().find(|put| put.begun >= since && put.result.is_ok()).cloned()
    }

    /// Waits for a put that begins now to be certified, which must not take too long.
    fn progress(&mut self, since: Duration, what: &str) -> Result<()> {
        let limit = (since + PROGRESS).saturating_sub(self.sim.elapsed());
        self.until(limit, what, |run, _| run.first_certified(since).is_some())?;
        let took = self.first_certified(since).map_or(Duration::ZERO, |put| put.ended - since);
        self.report.slowest = self.report.slowest.max(took);
        Ok(())
    }

    /// Has every client put for a while.
    fn load(&mut self) -> Result<()> {
        self.world.be_quiet(false);
        let since = self.sim.elapsed();
        self.progress(since, "a put while all is well")?;
        self.run_for(Duration::from_secs(5))
    }

    fn episode(&mut self, episode: Episode, random: &mut Random) -> Result<()> {
        let Episode { name, steps, length, keeps_quorum } = episode;
        self.align()?;
        self.report.episodes.push(name);
        let begun = self.sim.elapsed();
        for (at, action) in steps {
            while self.sim.elapsed() < begun + at {
                self.step()?;
            }
            self.act(action);
        }
        self.run_for((begun + length).saturating_sub(self.sim.elapsed()))?;
        if keeps_quorum {
            // From the beginning, when nobody has noticed yet, and with all the harm done.
            for since in [begun, self.sim.elapsed()] {
                let during = || format!("{name} since {begun:?}");
                self.progress(since, "a put with a quorum").with_context(during)?;
            }
        }
        self.heal();
        self.draw_latencies(random);
        let healed = self.sim.elapsed();
        self.progress(healed, "a put after all was mended")
            .with_context(|| format!("{name} from {begun:?} to {healed:?}"))
    }

    fn act(&mut self, action: Action) {
        let (at, sim) = (self.sim.elapsed(), &mut self.sim);
        self.report.trace.push(format!("{at:?} {action:?}"));
        match action {
            Action::Cut(a, b) => sim.partition(a.name(), b.name()),
            Action::CutOneWay(from, to) => sim.partition_oneway(from.name(), to.name()),
            Action::Hold(a, b) => sim.hold(a.name(), b.name()),
            Action::Mend(a, b) => sim.release(a.name(), b.name()),
            Action::Slow(a, b, latency) => sim.set_link_latency(a.name(), b.name(), latency),
            Action::Lossy(a, b, one_in) => {
                sim.set_link_fail_rate(a.name(), b.name(), 1.0 / one_in as f64);
            }
            Action::Crash(host) => {
                if self.down.insert(host) {
                    sim.crash(host.name());
                    self.world.state().vitals.remove(&host);
                }
            }
            Action::Start(host) => {
                if self.down.remove(&host) {
                    sim.bounce(host.name());
                }
            }
        }
    }

    /// Undoes everything.
    fn heal(&mut self) {
        let hosts: Vec<Host> = Host::members().chain(Host::clients()).collect();
        for (place, a) in hosts.iter().enumerate() {
            for b in &hosts[place + 1..] {
                self.sim.set_link_fail_rate(a.name(), b.name(), 0.0);
                self.sim.release(a.name(), b.name());
            }
        }
        for host in hosts {
            self.act(Action::Start(host));
        }
    }

    /// Ends the load, waits until everything is done that is left to do, and then some more.
    fn quiet_down(&mut self) -> Result<()> {
        self.world.be_quiet(true);
        self.until(load::PUT_LIMIT, "the last puts end", |run, _| run.world.state().underway == 0)?;
        self.until(COMPLETE, "every region has everything", |_, vitals| is_complete(vitals))?;
        self.run_for(QUIET)
    }

    /// Nothing may be left of all the puts and faults: no task, and no memory.
    fn check_quiet(&mut self, before: &BTreeMap<Host, Vitals>) -> Result<()> {
        let vitals = self.vitals();
        ensure!(is_complete(&vitals), "not complete any more: {vitals:?}");
        for (host, now) in vitals {
            let before = before.get(&host).context("a host that was not looked at")?;
            ensure!(now.memory == 0, "{host:?} holds {} bytes of its budgets", now.memory);
            let most = before.tasks + MORE_TASKS;
            ensure!(now.tasks <= most, "{host:?} has {} tasks after {}", now.tasks, before.tasks);
        }
        self.world.state().oracle.check_log()
    }

    /// Every member starts again from its folder.
    fn restart_all(&mut self) -> Result<()> {
        Host::members().for_each(|host| self.act(Action::Crash(host)));
        self.run_for(Duration::from_secs(1))?;
        Host::members().for_each(|host| self.act(Action::Start(host)));
        self.until(COMPLETE, "everybody is back", |_, vitals| is_complete(vitals))
    }

    /// Everything that was certified is read, and every replica has its rows of it.
    fn audit(&mut self) -> Result<()> {
        let acknowledged = self.world.state().oracle.acknowledged.clone();
        let put: HashSet<_> = acknowledged.iter().map(|blob| blob.certificate.id()).collect();
        ensure!(put.len() >= 20, "{} blobs were certified", put.len());
        let (committee, done) = (Arc::clone(&self.world.committee), Arc::new(AtomicBool::new(false)));
        let (world, told) = (Arc::clone(&self.world), Arc::clone(&done));
        self.sim.client("auditor", async move {
            if let Err(fault) = oracle::audit(committee, channels(), acknowledged).await {
                world.fail(fault.context("after everybody was restarted"));
            }
            told.store(true, Ordering::Relaxed);
            Ok(())
        });
        self.until(Duration::from_secs(3_600), "the audit", |_, _| done.load(Ordering::Relaxed))
    }
}

/// Whether all members are up, and every region has every blob and has cosigned the whole log.
fn is_complete(vitals: &BTreeMap<Host, Vitals>) -> bool {
    let is_done = |host| vitals.get(&host).is_some_and(|vitals| vitals.left == 0);
    let gateway = vitals.get(&Host::Gateway);
    Host::members().all(is_done) && gateway.is_some_and(|gateway| gateway.current == REPLICAS)
}
