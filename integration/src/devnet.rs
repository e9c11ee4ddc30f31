//! A whole network of real processes, run by `da-node devnet`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::U256;
use alloy::providers::{Provider, ProviderBuilder};
use anyhow::{Context, Result, bail, ensure};
use meridian_client::chain::source::{CommitteeSource, FixedSource};
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_client::submit::Submitter;
use meridian_client::tls::Trust;
use meridian_node::devnet::{Kind, Options, Plan, ca_path};
use meridian_proofs::Address;
use meridian_proofs::committee::Committee;
use tempfile::TempDir;

use crate::programs::Programs;
use crate::wires::Wires;
use crate::{anvil, children, ports};

/// Ports that a devnet takes at most.
const PORTS: usize = 64;

/// Longest time for a devnet to be up.
const START: Duration = Duration::from_secs(60);

/// Longest time for a devnet to stop.
const STOP: Duration = Duration::from_secs(30);

/// A running devnet.
pub struct Devnet {
    dir: TempDir,
    child: Child,
    command: Command,
    committee: Arc<Committee>,
    /// The committee as clients see it.
    seen: Arc<Committee>,
    channels: Channels,
}

impl Devnet {
    /// Starts a network without a chain, with more arguments and variables than the usual ones, and waits until it
    /// answers.
    ///
    /// # Errors
    /// When it does not come up within a minute.
    pub async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        Self::launch(&[&["--insecure", "--chain", "none"], arguments].concat(), variables).await
    }

    /// The same, where everybody speaks TLS.
    ///
    /// # Errors
    /// When it does not come up within a minute.
    pub async fn start_secured(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        Self::launch(&[&["--chain", "none"], arguments].concat(), variables).await
    }

    /// Starts a network with a chain of its own; nothing where there is no anvil.
    ///
    /// # Errors
    /// When it does not come up within a minute, or there is no anvil where `CI` is true.
    pub async fn start_on_chain(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Option<Self>> {
        let Some(program) = anvil::find_or_skip()? else { return Ok(None) };
        let program = program.to_str().context("a path")?;
        let arguments = [&["--insecure", "--chain", "anvil", "--anvil", program], arguments].concat();
        Self::launch(&arguments, variables).await.map(Some)
    }

    /// Starts a network without a chain where everybody speaks TLS, after its files were changed.
    ///
    /// # Errors
    /// When they cannot be changed, or it does not come up within a minute.
    pub async fn start_changed(
        options: Options,
        change: impl FnOnce(&Plan, &Path) -> Result<()>,
    ) -> Result<Self> {
        let (dir, base_port) = (tempfile::tempdir()?, port()?);
        let options = Options { base_port: Some(base_port), chain: Some(Kind::None), ..options };
        std::fs::create_dir_all(net(dir.path()))?;
        let folder = net(dir.path()).canonicalize()?;
        change(&Plan::prepare(&folder, &options)?, &folder)?;
        Self::launch_in(dir, base_port, &["--chain", "none"], &[]).await
    }

    /// Starts a network without a chain, of five regions and a gateway, with wires between all who talk to each other.
    ///
    /// # Errors
    /// When it does not come up within a minute.
    pub async fn start_wired() -> Result<(Self, Wires)> {
        let (dir, base_port) = (tempfile::tempdir()?, port()?);
        let options = Options {
            base_port: Some(base_port),
            chain: Some(Kind::None),
            insecure: true,
            ..Options::default()
        };
        Plan::prepare(&net(dir.path()), &options)?;
        let (wires, seen) = Wires::lay(&net(dir.path())).await?;
        let mut devnet = Self::launch_in(dir, base_port, &["--chain", "none"], &[]).await?;
        devnet.seen = Arc::new(seen);
        Ok((devnet, wires))
    }

    async fn launch(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        Self::launch_in(tempfile::tempdir()?, port()?, arguments, variables).await
    }

    async fn launch_in(
        dir: TempDir,
        base_port: u16,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let log = std::fs::File::create(log(dir.path()))?;
        let mut command = Programs::build()?.da_node();
        command.arg("devnet").arg("--dir").arg(net(dir.path())).args(["--base-port", &base_port.to_string()]);
        command.args(arguments).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start da-node devnet")?;
        let mut starting = Starting { dir: Some(dir), child: Some(child) };
        let committee = starting.wait().await?;
        let (Some(dir), Some(child)) = (starting.dir.take(), starting.child.take()) else {
            bail!("the devnet was taken apart while it started")
        };
        let committee = Arc::new(committee);
        let seen = Arc::clone(&committee);
        let channels = Channels::new().trusting(trust(&net(dir.path()))?);
        Ok(Self { dir, child, command, committee, seen, channels })
    }

    /// Stops everything and starts it again on the same folder.
    ///
    /// # Errors
    /// When it does not stop in time or does not come up within a minute.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.child = self.command.spawn().context("cannot start da-node devnet")?;
        until_up(self.dir.path(), &mut self.child).await.map(drop)
    }

    /// The chain's JSON-RPC and the contract on it.
    ///
    /// # Errors
    /// When the devnet has no chain.
    pub fn chain(&self) -> Result<(String, Address)> {
        let plan = Plan::load(&self.folder())?;
        let chain = plan.chain.context("a devnet without a chain")?;
        Ok((chain.url(), chain.contract))
    }

    /// Gives an account of the chain a thousand ether.
    ///
    /// # Errors
    /// When there is no chain or it does not answer.
    pub async fn fund(&self, account: Address) -> Result<()> {
        let provider = ProviderBuilder::new().connect_http(self.chain()?.0.parse()?);
        let ether = U256::from(1_000) * U256::from(10).pow(U256::from(18));
        Ok(provider.raw_request("anvil_setBalance".into(), (account, ether)).await?)
    }

    /// The folder of the network.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        net(self.dir.path())
    }

    /// The committee file.
    #[must_use]
    pub fn committee_file(&self) -> PathBuf {
        self.folder().join("committee.toml")
    }

    /// The committee.
    #[must_use]
    pub fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// Connections that tests share.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The committee as clients see it: behind wires, where there are any.
    #[must_use]
    pub fn seen(&self) -> &Arc<Committee> {
        &self.seen
    }

    /// Endpoints of the gateways, for clients.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        self.seen.gateways().iter().map(|gateway| gateway.endpoint.clone()).collect()
    }

    /// A client that puts through all gateways.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        self.submitter_to(self.gateways())
    }

    /// A client that puts through these gateways.
    #[must_use]
    pub fn submitter_to(&self, gateways: Vec<String>) -> Submitter {
        Submitter::new(FixedSource::new(Arc::clone(&self.seen)).view(), self.channels.clone(), gateways)
    }

    /// A client that reads, with nothing measured yet.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.seen), self.channels.clone())
    }

    /// What the devnet and its members have printed.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(log(self.dir.path())).unwrap_or_default()
    }

    /// The command `da`, with gateway and committee set and a config folder of its own.
    ///
    /// # Errors
    /// When the programs cannot be built.
    pub fn da(&self) -> Result<Command> {
        let mut command = Programs::build()?.da();
        command
            .env("MERIDIAN_GATEWAY", self.gateways().join(","))
            .env("MERIDIAN_COMMITTEE", self.committee_file())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"));
        let ca = ca_path(&self.folder());
        if ca.exists() {
            command.env("MERIDIAN_CA", ca);
        }
        Ok(command)
    }

    /// Kills a process with SIGKILL, by the name that the devnet gives it.
    ///
    /// # Errors
    /// When the command fails.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.control("kill", name)
    }

    /// Starts a process that was killed.
    ///
    /// # Errors
    /// When the command fails.
    pub fn revive(&self, name: &str) -> Result<()> {
        self.control("start", name)
    }

    fn control(&self, verb: &str, name: &str) -> Result<()> {
        let mut command = Programs::build()?.da_node();
        // What is started has the settings of the rest.
        let settings = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(settings);
        let output = command.args(["devnet", verb, "--dir"]).arg(self.folder()).arg(name).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "devnet {verb} {name}: {} {said}", output.status);
        Ok(())
    }

    /// Stops everything as Ctrl-C does.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        children::stop(&mut self.child, STOP)
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if let Err(error) = children::stop(&mut self.child, STOP) {
            tracing::warn!(%error, "the devnet did not stop");
        }
    }
}

struct Starting {
    dir: Option<TempDir>,
    child: Option<Child>,
}

impl Starting {
    async fn wait(&mut self) -> Result<Committee> {
        let dir = self.dir.as_ref().context("a devnet has a folder")?;
        until_up(dir.path(), self.child.as_mut().context("a devnet has a process")?).await
    }
}

/// A port that many unused ones follow.
fn port() -> Result<u16> {
    Ok(ports::listeners(PORTS)?.first().context("a port")?.local_addr()?.port())
}

fn net(dir: &Path) -> PathBuf {
    dir.join("net")
}

fn log(dir: &Path) -> PathBuf {
    dir.join("devnet.log")
}

async fn until_up(dir: &Path, child: &mut Child) -> Result<Committee> {
    let deadline = Instant::now() + START;
    let said = || std::fs::read_to_string(log(dir)).unwrap_or_default();
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the devnet ended with {status}: {}", said());
        }
        if let Some(committee) = load(&net(dir).join("committee.toml"))
            && let Ok(trust) = trust(&net(dir))
            && answers(&committee, &Channels::new().trusting(trust)).await
        {
            return Ok(committee);
        }
        ensure!(Instant::now() < deadline, "the devnet is not up after {START:?}: {}", said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && let Err(error) = children::stop(child, STOP)
        {
            tracing::warn!(%error, "the devnet did not stop");
        }
    }
}

/// Whom tests trust, and who they are to members that ask.
fn trust(network: &Path) -> Result<Trust> {
    let members = Plan::load(network)?.members(network);
    members.first().context("a member")?.trust()
}

fn load(path: &Path) -> Option<Committee> {
    toml::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

/// Whether every gateway is connected to every replica.
async fn answers(committee: &Committee, channels: &Channels) -> bool {
    for gateway in committee.gateways() {
        let Ok(rpc) = channels.gateway(&gateway.endpoint) else { return false };
        match rpc.status().await {
            Ok(status) if status.seats.iter().all(|seat| seat.connected) => {}
            _ => return false,
        }
    }
    true
}
