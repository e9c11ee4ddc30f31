//! The members of a devnet: killed, started again, and listened to when something is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use meridian_node::devnet::Plan;
use meridian_proofs::Address;
use tokio::time::sleep;

use crate::devnet::Devnet;

/// Lines of each log that are shown with a failure.
const LOG_LINES: usize = 60;

/// Longest time until a member that is started has a process.
const PROCESS: Duration = Duration::from_secs(30);

/// A process of the network.
#[derive(Clone, Debug)]
pub struct Member {
    /// The devnet's name for it.
    pub name: String,
    /// Where it answers.
    pub endpoint: String,
    /// The address of its key.
    pub address: Address,
    /// Whether it is a gateway, or else a replica.
    pub is_gateway: bool,
    /// Whether it runs.
    pub is_up: bool,
}

/// All members of a devnet.
pub struct Members {
    devnet: Arc<Devnet>,
    /// In the devnet's order.
    pub all: Vec<Member>,
}

impl Members {
    /// Those of a devnet in which all are up.
    ///
    /// # Errors
    /// When the devnet has no plan, or a member that is in no committee.
    pub fn of(devnet: Arc<Devnet>) -> Result<Self> {
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

    /// Where those are in the list that are up, or those that are not.
    #[must_use]
    pub fn places(&self, up: bool) -> Vec<usize> {
        (0..self.all.len()).filter(|place| self.all[*place].is_up == up).collect()
    }

    /// Those that are up.
    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| member.is_up)
    }

    /// How many replicas are up.
    #[must_use]
    pub fn replicas_up(&self) -> usize {
        self.up().filter(|member| !member.is_gateway).count()
    }

    /// Kills some at once.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub async fn kill(&mut self, places: &[usize]) -> Result<()> {
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
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn revive(&mut self, place: usize) -> Result<()> {
        let (devnet, name) = (Arc::clone(&self.devnet), self.all[place].name.clone());
        tokio::task::spawn_blocking(move || devnet.revive(&name)).await??;
        self.all[place].is_up = true;
        Ok(())
    }

    /// Starts one again and kills it so many milliseconds later, which is mostly before it serves.
    ///
    /// # Errors
    /// When there is no process to kill in time.
    pub async fn kill_while_it_starts(&self, place: usize, wait: u64) -> Result<()> {
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
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for member in &self.all {
            let log = self.log(member);
            let wrong = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at"));
            faults.extend(wrong.map(|line| format!("{}: {line}", member.name)));
        }
        faults
    }

    /// How the logs of all members end.
    #[must_use]
    pub fn said(&self) -> String {
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
