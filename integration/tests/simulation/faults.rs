//! What is done to a network: drawn before it is done, so that it follows from the seed alone.

use std::time::Duration;

use meridian_integration::random::Random;

use crate::world::{Host, REPLICAS};

/// One thing that is done to the network.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Nothing goes through between two hosts, and what is on its way is lost.
    Cut(Host, Host),
    /// The same in one direction.
    CutOneWay(Host, Host),
    /// Everything waits between two hosts, and nothing is lost.
    Hold(Host, Host),
    /// All is well between two hosts; what waited arrives.
    Mend(Host, Host),
    /// Every message between two hosts takes so long.
    Slow(Host, Host, Duration),
    /// Of so many messages between two hosts one cuts the link, until one of the next mends it.
    Lossy(Host, Host, u64),
    /// A host is gone at once.
    Crash(Host),
    /// It starts from its folder.
    Start(Host),
}

/// A time in which something is wrong.
#[derive(Debug)]
pub(crate) struct Episode {
    pub(crate) name: &'static str,
    /// What is done when, in that order. What is left of it at the end is undone.
    pub(crate) steps: Vec<(Duration, Action)>,
    pub(crate) length: Duration,
    /// Whether throughout all but one of the replicas, the gateway and the clients are connected.
    pub(crate) keeps_quorum: bool,
}

impl Episode {
    /// One of each kind at least once in [`KINDS`] numbers in a row.
    pub(crate) fn draw(kind: u64, random: &mut Random) -> Self {
        let length = ms(8_000 + random.below(14_000));
        let mut replicas: Vec<Host> = (0..REPLICAS).map(Host::Replica).collect();
        random.shuffle(&mut replicas);
        // Half of the time a quorum stays.
        let some = if random.one_in(2) { 1 } else { 2 + random.place(usize::from(REPLICAS) - 1) };
        let victims = &replicas[..some];
        let mut episode = Self { name: "", steps: Vec::new(), length, keeps_quorum: some == 1 };
        match kind % KINDS {
            0 => episode.partition(victims),
            1 => episode.one_way(victims, random),
            2 => episode.flap(victims, random),
            3 => episode.swizzle(&replicas[..2 + random.place(4)], random),
            4 => episode.stall(victims),
            5 => episode.slow(replicas[0], random),
            6 => episode.lossy(victims, random),
            7 => episode.crash(victims, random),
            8 => episode.crash_gateway(random),
            9 => episode.split_replicas(&replicas),
            10 => episode.crash_all(&replicas, random),
            _ => episode.cut_off_gateway(random),
        }
        episode.steps.sort_by_key(|(at, _)| *at);
        episode
    }

    fn partition(&mut self, victims: &[Host]) {
        self.name = "partition";
        self.each(victims, |victim, other| (Duration::ZERO, Action::Cut(victim, other)));
    }

    fn one_way(&mut self, victims: &[Host], random: &mut Random) {
        self.name = "one-way partition";
        let is_mute = random.one_in(2);
        self.each(victims, |victim, other| {
            let (from, to) = if is_mute { (victim, other) } else { (other, victim) };
            (Duration::ZERO, Action::CutOneWay(from, to))
        });
    }

    fn flap(&mut self, victims: &[Host], random: &mut Random) {
        self.name = "flapping";
        let longest = *random.pick(&[200, 1_000, 4_000]);
        let (mut at, mut is_cut) = (Duration::ZERO, false);
        while at < self.length {
            is_cut = !is_cut;
            self.each(victims, |victim, other| {
                (at, if is_cut { Action::Cut(victim, other) } else { Action::Mend(victim, other) })
            });
            at += ms(20 + random.below(longest));
        }
    }

    /// Hosts are cut off one after the other, and come back in another order.
    fn swizzle(&mut self, hosts: &[Host], random: &mut Random) {
        self.name = "swizzle-clog";
        self.keeps_quorum = false;
        let mut at = Duration::ZERO;
        let mut back = hosts.to_vec();
        random.shuffle(&mut back);
        for host in hosts {
            self.each(&[*host], |host, other| (at, Action::Cut(host, other)));
            at += ms(random.below(3_000));
        }
        let mut away = hosts.to_vec();
        for host in back {
            at += ms(random.below(3_000));
            away.retain(|other| *other != host);
            let still = away.clone();
            for other in others(&[host]).filter(|other| !still.contains(other)) {
                self.steps.push((at, Action::Mend(host, other)));
            }
        }
        self.length = self.length.max(at);
    }

    fn stall(&mut self, victims: &[Host]) {
        self.name = "stall";
        self.each(victims, |victim, other| (Duration::ZERO, Action::Hold(victim, other)));
    }

    /// All links slow, one host's so slow that it counts as away.
    fn slow(&mut self, slowest: Host, random: &mut Random) {
        self.name = "slow links";
        self.keeps_quorum = true;
        let hosts: Vec<Host> = Host::members().chain(Host::clients()).collect();
        for (place, host) in hosts.iter().enumerate() {
            for other in &hosts[place + 1..] {
                let is_slowest = *host == slowest || *other == slowest;
                let latency = if is_slowest { 500 + random.below(500) } else { 20 + random.below(200) };
                self.steps.push((Duration::ZERO, Action::Slow(*host, *other, ms(latency))));
            }
        }
    }

    fn lossy(&mut self, victims: &[Host], random: &mut Random) {
        self.name = "lossy links";
        let one_in = *random.pick(&[20, 100, 400]);
        self.each(victims, |victim, other| (Duration::ZERO, Action::Lossy(victim, other, one_in)));
    }

    fn crash(&mut self, victims: &[Host], random: &mut Random) {
        self.name = "crash";
        if random.one_in(2) {
            // Nobody hears of it, as when the power goes: not even that connections end.
            self.partition(victims);
            self.name = "crash without a word";
        }
        for victim in victims {
            self.steps.push((ms(1), Action::Crash(*victim)));
            if random.one_in(2) {
                self.steps.push((ms(1_000 + random.below(7_000)), Action::Start(*victim)));
            }
        }
    }

    fn crash_gateway(&mut self, random: &mut Random) {
        self.name = "crash of the gateway";
        self.keeps_quorum = false;
        let mut at = Duration::ZERO;
        while at < self.length {
            self.steps.push((at, Action::Crash(Host::Gateway)));
            at += ms(100 + random.below(3_000));
            self.steps.push((at, Action::Start(Host::Gateway)));
            at += ms(200 + random.below(10_000));
        }
    }

    /// No replica hears of another, and the gateway of all.
    fn split_replicas(&mut self, replicas: &[Host]) {
        self.name = "replicas apart";
        self.keeps_quorum = true;
        for (place, one) in replicas.iter().enumerate() {
            let cuts = replicas[place + 1..].iter().map(|other| (Duration::ZERO, Action::Cut(*one, *other)));
            self.steps.extend(cuts);
        }
    }

    fn crash_all(&mut self, replicas: &[Host], random: &mut Random) {
        self.name = "crash of everything";
        self.keeps_quorum = false;
        for host in replicas.iter().copied().chain([Host::Gateway]) {
            self.steps.push((Duration::ZERO, Action::Crash(host)));
            self.steps.push((ms(500 + random.below(6_000)), Action::Start(host)));
        }
    }

    fn cut_off_gateway(&mut self, random: &mut Random) {
        self.name = "gateway cut off";
        self.keeps_quorum = false;
        for host in others(&[Host::Gateway]) {
            if !random.one_in(3) {
                self.steps.push((ms(random.below(2_000)), Action::Cut(Host::Gateway, host)));
            }
        }
    }

    /// Does the same between each of some hosts and all the others.
    fn each(&mut self, victims: &[Host], step: impl Fn(Host, Host) -> (Duration, Action)) {
        for victim in victims {
            self.steps.extend(others(victims).map(|other| step(*victim, other)));
        }
    }
}

/// Kinds of episodes.
pub(crate) const KINDS: u64 = 12;

/// All hosts but some.
fn others(but: &[Host]) -> impl Iterator<Item = Host> {
    Host::members().chain(Host::clients()).filter(move |host| !but.contains(host))
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
