//! The chain of a devnet: an anvil of its own with the contract on it and the members as its first epoch.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::U256;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, ensure};
use meridian_proofs::Address;
use meridian_proofs::committee::Committee;
use meridian_proto::contract::{self, Meridian};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::anvil::{self, Launch, Running};
use super::plan::{Member, Options, Plan, committee_path};
use crate::{committee_cmd, key};

/// The chain's number, anvil's own.
const CHAIN_ID: u64 = 31_337;
/// Seconds of a block.
const BLOCK_SECONDS: u64 = 1;
/// Seconds between two writings of the chain's state, which is also written when it stops.
const STATE_SECONDS: u64 = 60;
/// States of old blocks that the chain keeps.
const KEPT_STATES: u64 = 512;
/// Seconds between the schedule of an epoch and its begin, at least.
const NOTICE_SECONDS: u64 = 10;
/// Seconds that an epoch goes on beside its successor.
const GRACE_SECONDS: u64 = 120;
/// What each account has whenever the devnet starts: a thousand ether.
const BALANCE: U256 = U256::from_limbs([0x35c9_adc5_dea0_0000, 0x36, 0, 0]);
/// Blocks that follow one which members take for settled.
const SETTLED: u64 = 1;
/// Milliseconds between two looks at the chain.
const POLL_MS: u64 = 500;
/// Seconds between two anchors of a log that grows.
pub(super) const ANCHOR_SECONDS: u64 = 3;
/// Pause before a chain that has ended is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Which chain a devnet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// An anvil of its own.
    Anvil,
    /// None: the committee comes from its file.
    None,
}

/// The chain of a devnet. Kept in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainPlan {
    /// Port of its JSON-RPC.
    pub port: u16,
    /// Its number.
    pub chain_id: u64,
    /// The contract's address.
    pub contract: Address,
    /// Seconds between the schedule of an epoch and its begin, at least.
    pub notice: u64,
    /// Seconds that an epoch goes on beside its successor.
    pub grace: u64,
    /// Rules of the chain; anvil's newest, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardfork: Option<String>,
}

impl ChainPlan {
    /// A plan for a new devnet: the contract is the first that the owner deploys.
    pub(super) fn new(dir: &Path, port: u16, options: &Options) -> Result<Self> {
        let grace = options.grace.unwrap_or(GRACE_SECONDS);
        ensure!(grace > 0, "--grace must be at least 1");
        let owner = key_in(&owner_key(dir))?.address();
        Ok(Self {
            port,
            chain_id: CHAIN_ID,
            contract: owner.create(0),
            notice: options.notice.unwrap_or(NOTICE_SECONDS),
            grace,
            hardfork: options.hardfork.clone(),
        })
    }

    /// What every member's settings say of it.
    pub(super) fn settings(&self) -> String {
        format!(
            "\n[chain]\nrpc = [\"{}\"]\ncontract = \"{}\"\nchain_id = {}\nsettled = {SETTLED}\n\
             poll_ms = {POLL_MS}\nfrom_block = 1\n",
            self.url(),
            self.contract,
            self.chain_id,
        )
    }

    /// Where it answers JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The key of a file, made where there is none.
pub(super) fn key_in(path: &Path) -> Result<meridian_proofs::signature::SecretKey> {
    if path.exists() {
        return key::load(path);
    }
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
    key::create(path)
}

/// The folder of the chain.
fn folder(dir: &Path) -> PathBuf {
    dir.join("chain")
}

fn owner_key(dir: &Path) -> PathBuf {
    folder(dir).join("owner-key")
}

/// The program for the chain that is asked for, or that the folder has; nothing where there shall be none.
pub(super) fn choose(dir: &Path, options: &Options) -> Result<Option<PathBuf>> {
    let there = Plan::load(dir).ok().map(|plan| if plan.chain.is_some() { Kind::Anvil } else { Kind::None });
    let asked = options.chain.or(there).or(options.anvil.is_some().then_some(Kind::Anvil));
    if asked == Some(Kind::None) {
        return Ok(None);
    }
    let found = anvil::find(options.anvil.as_deref())?;
    if found.is_none() && asked.is_none() {
        println!("no anvil in PATH: the network has no chain");
    }
    if asked == Some(Kind::Anvil) {
        ensure!(
            found.is_some(),
            "there is no anvil in PATH: --anvil says where it is, --chain none goes without"
        );
    }
    Ok(found)
}

/// A chain as it shall be.
struct Wanted {
    launch: Launch,
    dir: PathBuf,
    plan: Plan,
    chain: ChainPlan,
}

impl Wanted {
    /// Starts it and puts on it what is not there: all of it, or what it had not written before it was killed.
    async fn begin(&self) -> Result<Running> {
        let running = Running::start(&self.launch).await?;
        if found_on(&self.dir, &self.plan, &self.chain).await? {
            println!("a new chain: the contract and epoch 1 are on it");
        }
        Ok(running)
    }
}

/// A chain that is started again whenever it ends, until this is dropped.
pub(super) struct Chain {
    keeper: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Chain {
    /// Starts the chain, with the contract and the first epoch on it.
    pub(super) async fn start(dir: &Path, program: PathBuf, plan: &Plan, chain: &ChainPlan) -> Result<Self> {
        let launch = launch(dir, program, chain)?;
        let wanted = Wanted { launch, dir: dir.to_owned(), plan: plan.clone(), chain: chain.clone() };
        let running = wanted.begin().await.context("the chain does not start")?;
        let (stop, stopped) = oneshot::channel();
        Ok(Self { keeper: tokio::spawn(keep(wanted, running, stopped)), stop: Some(stop) })
    }

    /// Stops it; it writes its state first.
    pub(super) async fn stop(mut self) {
        drop(self.stop.take());
        let _ = (&mut self.keeper).await;
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(wanted: Wanted, mut chain: Running, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            () = chain.until_ended() => println!("the chain ended: starting it again"),
        }
        chain = loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep(RESTART_AFTER) => {}
            }
            match wanted.begin().await {
                Ok(chain) => break chain,
                Err(error) => println!("the chain does not start: {error:#}"),
            }
        };
    }
    // It takes a moment to write its state.
    let _ = tokio::task::spawn_blocking(move || drop(chain)).await;
}

fn launch(dir: &Path, program: PathBuf, chain: &ChainPlan) -> Result<Launch> {
    let folder = folder(dir);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
    let numbers = [
        ("--chain-id", chain.chain_id),
        ("--block-time", BLOCK_SECONDS),
        ("--state-interval", STATE_SECONDS),
        ("--prune-history", KEPT_STATES),
        // The `finalized` block is two blocks old.
        ("--slots-in-an-epoch", 1),
    ];
    let mut arguments: Vec<_> =
        numbers.into_iter().flat_map(|(name, number)| [name.into(), number.to_string().into()]).collect();
    if let Some(hardfork) = &chain.hardfork {
        arguments.extend(["--hardfork".into(), hardfork.into()]);
    }
    // A line for each call would fill the disk.
    arguments.extend(["--quiet".into(), "--state".into(), folder.join("state.json").into()]);
    Ok(Launch { program, arguments, port: chain.port, log: folder.join("log") })
}

/// Puts on the chain what is not there, and says whether it was new.
async fn found_on(dir: &Path, plan: &Plan, chain: &ChainPlan) -> Result<bool> {
    let owner = key_in(&owner_key(dir))?;
    let signer = PrivateKeySigner::from_slice(&owner.to_bytes()).context("the owner's key")?;
    let url = chain.url().parse().context("the chain's address")?;
    let provider = ProviderBuilder::new().wallet(EthereumWallet::from(signer)).connect_http(url).erased();

    let gateways = plan.members(dir).into_iter().filter(|member| member.role == "gateway");
    let mut accounts = vec![owner.address()];
    for gateway in gateways {
        accounts.push(key_in(&anchor_key(&gateway))?.address());
    }
    for account in accounts {
        let set = provider.raw_request::<_, ()>("anvil_setBalance".into(), (account, BALANCE)).await;
        set.context("cannot fund an account")?;
    }
    let code = provider.get_code_at(chain.contract).await.context("cannot look for the contract")?;
    let new = code.is_empty();
    if new {
        let code = contract::creation_code(owner.address(), chain.notice, chain.grace);
        let receipt = send(&provider, TransactionRequest::default().with_deploy_code(code)).await?;
        let at = receipt.contract_address.context("no contract was made")?;
        ensure!(at == chain.contract, "the contract is at {at} instead of {}", chain.contract);
    }
    let asked = TransactionRequest::default()
        .with_to(chain.contract)
        .with_input(Meridian::latestEpochCall {}.abi_encode());
    let answer = provider.call(asked).await.context("cannot ask the contract")?;
    let latest =
        Meridian::latestEpochCall::abi_decode_returns(&answer).context("the contract answers oddly")?;
    if latest == 0 {
        let committee: Committee = committee_cmd::load(&committee_path(dir))?;
        let call = contract::committee::schedule(&committee, 0)?.abi_encode();
        send(&provider, TransactionRequest::default().with_to(chain.contract).with_input(call)).await?;
    }
    Ok(new)
}

async fn send(provider: &DynProvider, transaction: TransactionRequest) -> Result<TransactionReceipt> {
    let sent = provider.send_transaction(transaction).await.context("the chain takes no transaction")?;
    let receipt = sent.get_receipt().await.context("the transaction is in no block")?;
    ensure!(receipt.status(), "transaction {} failed", receipt.transaction_hash);
    Ok(receipt)
}

/// The key that a gateway pays its anchors with.
pub(super) fn anchor_key(gateway: &Member) -> PathBuf {
    gateway.dir.join("anchor-key")
}
