//! The members of a devnet: killed, started again, and listened to when something is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use meridian_integration::devnet::Devnet;
use meridian_node::devnet::Plan;
use meridian_proofs::Address;
use tokio::time::sleep;

/// Lines of each log that are shown with a failure.
const LOG_LINES: usize = 60;

/// Longest time until a member that is started has a process.
const PROCESS: Duration = Duration::from_secs(30);

/// A process of the network.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    pub(crate) address: Address,
    pub(crate) is_gateway: bool,
    pub(crate) is_up: bool,
}

pub(crate) struct Members {
    devnet: Arc<Devnet>,
    pub(crate) all: Vec<Member>,
}

impl Members {
    pub(crate) fn of(devnet: Arc<Devnet>) -> Result<Self> {
        let committee = devnet.committee();
        let gateways = committee.gateways().iter().map(|gateway| (&gateway.endpoint, gateway.address, true));
        let seats = committee.seats().iter().map(|seat| (&seat.endpoint, seat.address, false));
        let known: Vec<_> = gateways.chain(seats).collect();
        let mut all = Vec::new();
        for member in Plan::load(&devnet.folder())?.members(&devnet.folder()) {
            let endpoint = member.endpoint();
            let found = known.iter().find(|(theirs, ..)| **theirs == endpoint);
            let (_, address, is_gateway) = *found.context("a member of the committee")?;
            all.push(Member { name: member.name, endpoint, address, is_gateway, is_up: true });
        }
        Ok(Self { devnet, all })
    }

    pub(crate) fn places(&self, up: bool) -> Vec<usize> {
        (0..self.all.len()).filter(|place| self.all[*place].is_up == up).collect()
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| member.is_up)
    }

    pub(crate) fn replicas_up(&self) -> usize {
        self.up().filter(|member| !member.is_gateway).count()
    }

    /// Kills some at once.
    pub(crate) async fn kill(&mut self, places: &[usize]) -> Result<()> {
        let kills = places.iter().map(|place| {
            let (devnet, name) = (Arc::clone(&self.devnet), self.all[*place].name.clone());
            tokio::task::spawn_blocking(move || devnet.kill(&name))
        });
        for outcome in try_join_all(kills).await? {
            outcome?;
        }
        places.iter().for_each(|place| self.all[*place].is_up = false);
        Ok(())
    }

    /// Starts one again and waits until it serves.
    pub(crate) async fn revive(&mut self, place: usize) -> Result<()> {
        let (devnet, name) = (Arc::clone(&self.devnet), self.all[place].name.clone());
        tokio::task::spawn_blocking(move || devnet.revive(&name)).await??;
        self.all[place].is_up = true;
        Ok(())
    }

    /// Starts one again and kills it so many milliseconds later, which is mostly before it serves.
    pub(crate) async fn kill_while_it_starts(&self, place: usize, wait: u64) -> Result<()> {
        let (devnet, name) = (Arc::clone(&self.devnet), self.all[place].name.clone());
        let start = {
            let (devnet, name) = (Arc::clone(&devnet), name.clone());
            tokio::task::spawn_blocking(move || devnet.revive(&name))
        };
        sleep(Duration::from_millis(wait)).await;
        let killed = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + PROCESS;
            // Until there is a process there is none to kill.
            while let Err(error) = devnet.kill(&name) {
                ensure!(Instant::now() < deadline, "{error:#}");
            }
            Ok(())
        });
        killed.await??;
        // Whether it came up before it was killed does not matter.
        drop(start.await?);
        Ok(())
    }

    /// Lines in which members say that something is wrong with themselves.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for member in &self.all {
            let log = self.log(member);
            let wrong = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at"));
            faults.extend(wrong.map(|line| format!("{}: {line}", member.name)));
        }
        faults
    }

    /// How the logs of all members end.
    pub(crate) fn said(&self) -> String {
        let said = self.all.iter().map(|member| {
            let log = self.log(member);
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            let state = if member.is_up { "up" } else { "down" };
            format!("== {} ({}), {state}\n{end}\n", member.name, member.address)
        });
        said.collect()
    }

    fn log(&self, member: &Member) -> String {
        let log = std::fs::read(self.devnet.folder().join(&member.name).join("log"));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }
}
