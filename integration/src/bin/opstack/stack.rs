//! All processes of a chain: L1, Meridian, the sidecars, and twice op-geth and op-node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alloy::hex;
use alloy::providers::DynProvider;
use alloy::transports::http::reqwest;
use anyhow::{Context, Result, ensure};
use meridian_integration::devnet::Devnet;
use meridian_integration::programs::Programs;
use meridian_integration::{anvil, ports};
use meridian_node::devnet::Plan;
use meridian_node::devnet::anvil::{Launch, Running};
use tempfile::TempDir;

use super::Mode;
use super::build::Built;
use super::chain::{Anchor, BATCHER, Files, L1_CHAIN, L2_CHAIN};
use super::node::{Node, local, provider, until};
use super::process::Process;

/// Time in which a process must answer.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A running chain. What uses something is dropped before it.
pub(crate) struct Stack {
    batcher: Process,
    first: Pair,
    second: Pair,
    sidecars: [Sidecar; 2],
    /// The Meridian network.
    pub(crate) devnet: Arc<Devnet>,
    /// L1.
    pub(crate) l1: DynProvider,
    chain: Running,
    /// What the L2 chain begins after.
    pub(crate) anchor: Anchor,
    logs: PathBuf,
    _data: TempDir,
}

/// op-geth and the op-node that drives it.
struct Pair {
    node: Process,
    geth: Process,
    client: Node,
}

/// `da altda serve`.
struct Sidecar {
    process: Process,
    url: String,
}

/// What a pair is started with.
struct Part<'a> {
    built: &'a Built,
    files: &'a Files,
    data: &'a Path,
    logs: &'a Path,
}

impl Stack {
    /// Starts everything, with a batcher that makes so many puts at a time; logs go to that folder.
    ///
    /// # Errors
    /// When something does not come up.
    pub(crate) async fn start(built: &Built, mode: Mode, puts: u64, logs: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let chain = start_l1(logs).await?;
        let devnet = Devnet::start(&[], &[]).await?;
        let started = Self::start_on(built, mode, puts, logs, data.path(), &chain, &devnet).await;
        if started.is_err() {
            keep_logs(&devnet, logs);
        }
        let (batcher, first, second, sidecars, l1, anchor) = started?;
        let (devnet, logs) = (Arc::new(devnet), logs.to_owned());
        Ok(Self { batcher, first, second, sidecars, devnet, l1, chain, anchor, logs, _data: data })
    }

    async fn start_on(
        built: &Built,
        mode: Mode,
        puts: u64,
        logs: &Path,
        data: &Path,
        chain: &Running,
        devnet: &Devnet,
    ) -> Result<(Process, Pair, Pair, [Sidecar; 2], DynProvider, Anchor)> {
        let l1 = provider(&chain.url())?;
        let sidecars = [
            Sidecar::start("sidecar-1", devnet, &[], data, logs).await?,
            // Whatever it reads comes from the network.
            Sidecar::start("sidecar-2", devnet, &["--cache", "0"], data, logs).await?,
        ];
        let anchor = Anchor::newest(&l1).await?;
        let files = Files::write(data, &anchor)?;
        let part = Part { built, files: &files, data, logs };
        let first = part.start_geth("op-geth-1").await?;
        let second = part.start_geth("op-geth-2").await?;
        files.write_rollup(&anchor, first.client.hash(0).await?, mode)?;
        let first = part.start_node("op-node-1", first, &chain.url(), &sidecars[0].url, mode, true).await?;
        let second =
            part.start_node("op-node-2", second, &chain.url(), &sidecars[1].url, mode, false).await?;
        let batcher = start_batcher(built, &chain.url(), &first.client, &sidecars[0].url, mode, puts, logs)?;
        Ok((batcher, first, second, sidecars, l1, anchor))
    }

    /// The node that makes blocks, and the node that derives them.
    pub(crate) fn nodes(&self) -> [Node; 2] {
        [self.first.client.clone(), self.second.client.clone()]
    }

    /// Where the sidecars of both nodes answer.
    pub(crate) fn sidecars(&self) -> [&str; 2] {
        [&self.sidecars[0].url, &self.sidecars[1].url]
    }

    /// Where L1 answers.
    pub(crate) fn l1_url(&self) -> String {
        self.chain.url()
    }

    /// Makes sure that every process still runs.
    ///
    /// # Errors
    /// When one has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.batcher.check()?;
        for pair in [&mut self.first, &mut self.second] {
            pair.node.check()?;
            pair.geth.check()?;
        }
        self.sidecars.iter_mut().try_for_each(|sidecar| sidecar.process.check())
    }

    /// Copies what the members of the Meridian network have printed to where the other logs are.
    pub(crate) fn keep_logs(&self) {
        keep_logs(&self.devnet, &self.logs);
    }
}

fn keep_logs(devnet: &Devnet, logs: &Path) {
    let copy = || {
        fs::write(logs.join("devnet.log"), devnet.output())?;
        let folder = devnet.folder();
        for member in Plan::load(&folder)?.members(&folder) {
            fs::copy(member.log(), logs.join(format!("{}.log", member.name)))?;
        }
        anyhow::Ok(())
    };
    // What failed before this is what matters.
    if let Err(error) = copy() {
        eprintln!("the logs of the Meridian network are lost: {error:#}");
    }
}

fn port() -> Result<u16> {
    Ok(ports::listener()?.local_addr()?.port())
}

async fn start_l1(logs: &Path) -> Result<Running> {
    let program = anvil::find()?.context("there is no anvil: run .ci/deps")?;
    let chain = L1_CHAIN.to_string();
    // A finalized block is two epochs old.
    let arguments =
        ["--chain-id", &chain, "--hardfork", "cancun", "--block-time", "2", "--slots-in-an-epoch", "1"];
    let arguments = arguments.map(Into::into).to_vec();
    Running::start(&Launch { program, arguments, port: port()?, log: logs.join("anvil.log") }).await
}

impl Sidecar {
    async fn start(
        name: &'static str,
        devnet: &Devnet,
        more: &[&str],
        data: &Path,
        logs: &Path,
    ) -> Result<Self> {
        let port = port()?;
        let mut command = Programs::build()?.da();
        command.env("NO_COLOR", "1");
        // Nothing that this user has set or measured counts.
        for variable in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, data.join(name));
        }
        command.args(["altda", "serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--gateway", &devnet.gateways().join(",")]);
        command.arg("--committee").arg(devnet.committee_file()).args(more);
        let mut process = Process::start(name, &command, logs)?;
        let (url, http) = (local(port), reqwest::Client::new());
        until(&format!("{name} is ready"), START_WITHIN, async || {
            process.check()?;
            let asked = http.get(format!("{url}/ready")).send().await;
            Ok(asked.is_ok_and(|answer| answer.status().is_success()).then_some(()))
        })
        .await?;
        Ok(Self { process, url })
    }
}

/// op-geth alone, with the ports of both.
struct Geth {
    process: Process,
    client: Node,
    engine: u16,
    rollup: u16,
}

impl Part<'_> {
    async fn start_geth(&self, name: &'static str) -> Result<Geth> {
        let program = self.built.program("op-geth");
        let data = self.data.join(name);
        let made = Command::new(&program)
            .arg("init")
            .arg("--datadir")
            .arg(&data)
            .arg(&self.files.genesis)
            .output()?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "op-geth does not take the genesis: {said}");
        let (http, engine, rollup) = (port()?, port()?, port()?);
        let mut command = Command::new(program);
        command.arg("--datadir").arg(&data).args(["--networkid", &L2_CHAIN.to_string()]);
        // Every block is asked for again at the end.
        command.args(["--syncmode", "full", "--gcmode", "archive", "--cache", "128", "--ipcdisable"]);
        // It hears of blocks from its op-node alone.
        command.args(["--nodiscover", "--maxpeers", "0", "--port", "0", "--rollup.disabletxpoolgossip"]);
        command.args(["--http", "--http.addr", "127.0.0.1", "--http.port", &http.to_string()]);
        // The batcher has it make smaller blocks when much waits to be put.
        command.args(["--http.api", "eth,net,web3,txpool,debug,miner"]);
        command.args(["--authrpc.addr", "127.0.0.1", "--authrpc.port", &engine.to_string()]);
        command.arg("--authrpc.jwtsecret").arg(&self.files.secret);
        let mut process = Process::start(name, &command, self.logs)?;
        let client = Node::on(http, rollup)?;
        until(&format!("{name} answers"), START_WITHIN, async || {
            process.check()?;
            Ok(client.hash(0).await.ok())
        })
        .await?;
        Ok(Geth { process, client, engine, rollup })
    }

    async fn start_node(
        &self,
        name: &'static str,
        geth: Geth,
        l1: &str,
        sidecar: &str,
        mode: Mode,
        is_sequencer: bool,
    ) -> Result<Pair> {
        let Geth { process: geth, client, engine, rollup } = geth;
        let mut command = Command::new(self.built.program("op-node"));
        command.args(["--l1", l1, "--l1.trustrpc", "--l1.beacon.ignore"]);
        command.args(["--l1.http-poll-interval", "1s", "--l1.epoch-poll-interval", "4s"]);
        command.args(["--l2", &local(engine), "--l2.enginekind", "geth"]).arg("--l2.jwt-secret");
        command.arg(&self.files.secret).arg("--rollup.config").arg(&self.files.rollup);
        command.arg("--rollup.l1-chain-config").arg(&self.files.l1);
        command.args(["--rpc.addr", "127.0.0.1", "--rpc.port", &rollup.to_string(), "--p2p.disable"]);
        if is_sequencer {
            command.args(["--sequencer.enabled", "--sequencer.l1-confs", "0"]);
        }
        command.args(alt_da(sidecar, mode));
        let mut node = Process::start(name, &command, self.logs)?;
        until(&format!("{name} answers"), START_WITHIN, async || {
            node.check()?;
            Ok(client.heads().await.ok())
        })
        .await?;
        Ok(Pair { node, geth, client })
    }
}

fn start_batcher(
    built: &Built,
    l1: &str,
    node: &Node,
    sidecar: &str,
    mode: Mode,
    puts: u64,
    logs: &Path,
) -> Result<Process> {
    let mut command = Command::new(built.program("op-batcher"));
    command.args(["--l1-eth-rpc", l1, "--l2-eth-rpc", &node.l2_url, "--rollup-rpc", &node.rollup_url]);
    command.args(["--private-key", &hex::encode_prefixed(anvil::DEV_KEYS[BATCHER])]);
    command.args(["--data-availability-type", "calldata", "--max-l1-tx-size-bytes", "120000"]);
    // What does not fill a channel goes to L1 after so many blocks, too.
    command.args(["--max-channel-duration", "2", "--poll-interval", "500ms", "--num-confirmations", "1"]);
    command.args(["--txmgr.receipt-query-interval", "500ms", "--max-pending-tx", "16"]);
    command.args(["--rpc.addr", "127.0.0.1", "--rpc.port", &port()?.to_string()]);
    command.args(alt_da(sidecar, mode)).args(["--altda.max-concurrent-da-requests", &puts.to_string()]);
    Process::start("op-batcher", &command, logs)
}

/// What op-node and op-batcher are told of the sidecar.
fn alt_da(sidecar: &str, mode: Mode) -> [String; 3] {
    let is_service = mode == Mode::Generic;
    [
        "--altda.enabled=true".into(),
        format!("--altda.da-server={sidecar}"),
        format!("--altda.da-service={is_service}"),
    ]
}
