//! One replica and one gateway, each a process of its own, on a folder that a test gives.
//!
//! In the folder are `committee.toml`, `replica.key` and `gateway.key`, and what the hosts keep: `replica` and
//! `gateway`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use meridian_client::chain::source::{CommitteeSource, FixedSource};
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_client::submit::Submitter;
use meridian_proofs::Address;
use meridian_proofs::committee::{
    Committee, CommitteeParts, GatewayMember, MAX_RETENTION, Region, RegionId, Seat,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::eventually;
use crate::programs::Programs;
use crate::{keys, ports};

/// Longest time for the two to know each other, and for one to stop.
const PATIENCE: Duration = Duration::from_secs(60);

const ROLES: [&str; 2] = ["replica", "gateway"];

/// A running pair.
pub struct Pair {
    committee: Arc<Committee>,
    channels: Channels,
    hosts: Vec<Child>,
}

impl Pair {
    /// Makes keys and a committee that allows every retention.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(dir: &Path) -> Result<()> {
        let mut addresses = Vec::new();
        for role in ROLES {
            let key = keys::secret(role)?;
            fs::write(key_file(dir, role), format!("0x{}\n", hex::encode(key.to_bytes())))?;
            addresses.push(key.address());
        }
        let region = RegionId(1);
        let (address, endpoint) = (addresses[0], "http://127.0.0.1:1".to_owned());
        let seats = vec![Seat { region, number: 0, address, endpoint: endpoint.clone() }];
        let gateway = GatewayMember {
            address: addresses[1],
            endpoint,
            max_bytes: 1 << 40,
            max_entries_per_hour: 1 << 20,
        };
        let committee = Committee::new(CommitteeParts {
            chain_id: 0,
            verifying_contract: Address::ZERO,
            epoch: 1,
            min_copies: 1,
            min_retention: 1,
            max_retention: MAX_RETENTION,
            regions: vec![Region { id: region, label: "here".to_owned(), latitude: 0.0, longitude: 0.0 }],
            seats,
            gateways: vec![gateway],
        })?;
        Ok(fs::write(committee_file(dir), toml::to_string(&committee)?)?)
    }

    /// Starts both with some environment variables, and waits until they know each other. Where they listen is written
    /// into the committee's file. With a tracer, each is run by it: the command's last argument is followed by the
    /// host's name and what is to be run.
    ///
    /// # Errors
    /// When they do not come up in time.
    pub async fn start(
        dir: &Path,
        variables: &[(&str, &str)],
        tracer: Option<fn(&Path, &str) -> Command>,
    ) -> Result<Self> {
        let same = |_: usize, program: &mut Command| {
            program.envs(variables.iter().copied());
        };
        Self::start_with(dir, &same, tracer).await
    }

    /// Like [`Pair::start`], with something done to the command of each: of the replica, 0, and of the gateway, 1.
    ///
    /// # Errors
    /// When they do not come up in time.
    pub async fn start_with(
        dir: &Path,
        change: &dyn Fn(usize, &mut Command),
        tracer: Option<fn(&Path, &str) -> Command>,
    ) -> Result<Self> {
        let listeners = ports::listeners(4)?;
        let addresses: Vec<_> = listeners.iter().map(|it| it.local_addr()).collect::<Result<_, _>>()?;
        drop(listeners);
        let committee: Committee = toml::from_str(&fs::read_to_string(committee_file(dir))?)?;
        let mut parts = committee.parts().clone();
        parts.seats[0].endpoint = format!("http://{}", addresses[0]);
        parts.gateways[0].endpoint = format!("http://{}", addresses[1]);
        let committee = Arc::new(Committee::new(parts)?);
        fs::write(committee_file(dir), toml::to_string(&*committee)?)?;

        let mut pair = Self { committee, channels: Channels::new(), hosts: Vec::new() };
        for (place, role) in ROLES.into_iter().enumerate() {
            // Git does not keep that others may not read it.
            fs::set_permissions(key_file(dir, role), Permissions::from_mode(0o600))?;
            let mut program = Programs::build()?.da_node();
            program
                .arg(role)
                .env("MERIDIAN_NODE__KEY", key_file(dir, role))
                .env("MERIDIAN_NODE__COMMITTEE", committee_file(dir))
                .env("MERIDIAN_NODE__DATA_DIR", dir.join(role))
                .env("MERIDIAN_LISTEN__GRPC", addresses[place].to_string())
                .env("MERIDIAN_LISTEN__HTTP", addresses[2 + place].to_string());
            change(place, &mut program);
            let mut command = match tracer {
                None => program,
                Some(tracer) => run_by(tracer(dir, role), &program),
            };
            let out = File::options().create(true).append(true).open(output(dir, role))?;
            command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
            pair.hosts.push(command.spawn().with_context(|| format!("cannot start the {role}"))?);
        }
        let gateway = pair.channels.gateway(pair.gateway())?;
        let up = eventually(PATIENCE, "a gateway that is connected to its replica", async || {
            let status = gateway.status().await.ok()?;
            status.seats.iter().all(|seat| seat.connected).then_some(())
        });
        let up = up.await;
        let said = || ROLES.map(|role| fs::read_to_string(output(dir, role)).unwrap_or_default());
        up.with_context(|| format!("{:#?}", said()))?;
        Ok(pair)
    }

    /// The committee of the two.
    #[must_use]
    pub fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// Connections that a test shares.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Where the replica answers.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.committee.seats()[0].endpoint
    }

    /// Where the gateway answers.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.committee.gateways()[0].endpoint
    }

    /// A client that puts.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        let view = FixedSource::new(Arc::clone(&self.committee)).view();
        Submitter::new(view, self.channels.clone(), vec![self.gateway().to_owned()])
    }

    /// A client that reads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.committee), self.channels.clone())
    }

    /// Whether the replica, 0, or the gateway, 1, runs no more.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn has_ended(&mut self, place: usize) -> Result<bool> {
        Ok(self.hosts[place].try_wait()?.is_some())
    }

    /// Stops both as SIGTERM does.
    ///
    /// # Errors
    /// When one does not stop cleanly in time.
    pub fn stop(mut self) -> Result<()> {
        for host in &self.hosts {
            kill(Pid::from_raw(i32::try_from(host.id())?), Signal::SIGTERM)?;
        }
        for mut host in self.hosts.drain(..) {
            let deadline = Instant::now() + PATIENCE;
            let status = loop {
                if let Some(status) = host.try_wait()? {
                    break status;
                }
                if Instant::now() > deadline {
                    host.kill()?;
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            ensure!(status.success(), "a host ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let ended = host.kill().and_then(|()| host.wait());
            if let Err(error) = ended {
                tracing::warn!(%error, "a host did not end");
            }
        }
    }
}

/// A command that runs another one, in the environment of the other one.
fn run_by(mut tracer: Command, program: &Command) -> Command {
    tracer.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => tracer.env(name, value),
            None => tracer.env_remove(name),
        };
    }
    tracer
}

fn committee_file(dir: &Path) -> PathBuf {
    dir.join("committee.toml")
}

fn key_file(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.key"))
}

fn output(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.out"))
}
