//! A real chain for tests: anvil at a chosen hard fork, with the hands that a test has on it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use alloy::hex;
use alloy::network::EthereumWallet;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result, bail};
use meridian_node::devnet::anvil::{self, Launch, Running};
use meridian_proofs::Address;
use nix::sys::signal::{Signal, kill};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ports;

/// Secret keys that every anvil gives 10,000 ether to; from the mnemonic "test test ... test junk".
pub const DEV_KEYS: [[u8; 32]; 10] = [
    hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    hex!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    hex!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    hex!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    hex!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    hex!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    hex!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    hex!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    hex!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    hex!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
];

/// Rules that the chain runs by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hardfork {
    /// Without PUSH0 and blobs: what every contract must run under.
    Paris,
    /// The newest that this anvil knows.
    #[default]
    Newest,
}

impl Hardfork {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Paris, Self::Newest];
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mining {
    /// At once, for each transaction.
    #[default]
    EachTransaction,
    /// Every so many seconds.
    Every(u64),
    /// When a test says so.
    OnDemand,
}

/// What a chain is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its rules.
    pub hardfork: Hardfork,
    /// Its number.
    pub chain_id: u64,
    /// When it makes blocks.
    pub mining: Mining,
    /// Its port, by default one that nobody else is given.
    pub port: Option<u16>,
    /// File that it starts from where there is one, and writes when it stops.
    pub state: Option<PathBuf>,
    /// Slots of an epoch; the `finalized` block is two epochs old. 32 by default, 1 to see it move.
    pub slots_in_an_epoch: Option<u64>,
    /// Unix seconds of the first block, now by default.
    pub timestamp: Option<u64>,
    /// Gas of a block.
    pub gas_limit: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hardfork: Hardfork::Newest,
            chain_id: 31_337,
            mining: Mining::EachTransaction,
            port: None,
            state: None,
            slots_in_an_epoch: None,
            timestamp: None,
            gas_limit: None,
        }
    }
}

impl Options {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        add("--chain-id", self.chain_id.to_string().into());
        if self.hardfork == Hardfork::Paris {
            add("--hardfork", "paris".into());
        }
        let numbers = [
            ("--slots-in-an-epoch", self.slots_in_an_epoch),
            ("--timestamp", self.timestamp),
            ("--gas-limit", self.gas_limit),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                add(name, number.to_string().into());
            }
        }
        if let Mining::Every(seconds) = self.mining {
            add("--block-time", seconds.to_string().into());
        }
        if let Some(state) = &self.state {
            add("--state", state.into());
        }
        if self.mining == Mining::OnDemand {
            arguments.push("--no-mining".into());
        }
        arguments
    }
}

/// A running chain; ends when it is dropped.
#[derive(Debug)]
pub struct Anvil {
    running: Running,
    provider: DynProvider,
    log: PathBuf,
    _dir: TempDir,
}

/// Finds the program: where `ANVIL` says, where `npm ci` in this crate's folder puts it, or in `PATH`.
///
/// # Errors
/// When `ANVIL` names no file.
pub fn find() -> Result<Option<PathBuf>> {
    if std::env::var_os("ANVIL").is_none_or(|path| path.is_empty()) {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/@foundry-rs/anvil");
        if let Some(path) = anvil::in_package(&package) {
            return Ok(Some(path));
        }
    }
    anvil::find(None)
}

/// Finds the program; nothing, with a line that says so, where there is none.
///
/// # Errors
/// When there is none where `CI` is true.
pub fn find_or_skip() -> Result<Option<PathBuf>> {
    let found = find()?;
    if found.is_none() {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("there is no anvil: run .ci/deps");
        }
        println!("skipped: there is no anvil; .ci/deps installs it");
    }
    Ok(found)
}

impl Anvil {
    /// Starts a chain and waits until it answers; nothing, with a line that says so, where there is no anvil.
    ///
    /// # Errors
    /// When it does not start, or there is none where `CI` is true.
    pub async fn start(options: Options) -> Result<Option<Self>> {
        let Some(program) = find_or_skip()? else { return Ok(None) };
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("anvil.log");
        let port = match options.port {
            Some(port) => port,
            None => ports::listener()?.local_addr()?.port(),
        };
        let launch = Launch { program, arguments: options.arguments(), port, log: log.clone() };
        let running = Running::start(&launch).await?;
        let provider = ProviderBuilder::new().connect_http(running.url().parse()?).erased();
        Ok(Some(Self { running, provider, log, _dir: dir }))
    }

    /// Where it answers JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.running.port()
    }

    /// What it has printed: every call that it was asked.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A client without a key.
    #[must_use]
    pub fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// A client that signs with the dev key of that number.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn provider_of(&self, number: usize) -> Result<DynProvider> {
        let wallet = EthereumWallet::from(signer(number)?);
        Ok(ProviderBuilder::new().wallet(wallet).connect_http(self.url().parse()?).erased())
    }

    /// Asks anything.
    ///
    /// # Errors
    /// When the chain refuses or answers otherwise.
    pub async fn ask<T>(&self, method: &'static str, parameters: impl Serialize) -> Result<T>
    where
        T: DeserializeOwned + std::fmt::Debug + Send + Sync + Unpin + 'static,
    {
        let parameters = serde_json::to_value(parameters)?;
        let asked = self.provider.raw_request(Cow::Borrowed(method), parameters);
        asked.await.with_context(|| format!("{method} failed"))
    }

    /// Makes blocks.
    ///
    /// # Errors
    /// When the chain refuses.
    pub async fn mine(&self, blocks: u64) -> Result<()> {
        self.ask::<Value>("anvil_mine", (blocks,)).await.map(drop)
    }

    /// Replaces the newest blocks by as many empty ones.
    ///
    /// # Errors
    /// When the chain refuses.
    pub async fn reorg(&self, depth: u64) -> Result<()> {
        self.ask::<Value>("anvil_reorg", json!([depth, []])).await.map(drop)
    }

    /// Sets the unix seconds of the next block.
    ///
    /// # Errors
    /// When that is not after the newest block.
    pub async fn set_next_block_timestamp(&self, seconds: u64) -> Result<()> {
        self.ask::<Value>("evm_setNextBlockTimestamp", (seconds,)).await.map(drop)
    }

    /// Puts the clock of later blocks forward.
    ///
    /// # Errors
    /// When the chain refuses.
    pub async fn increase_time(&self, seconds: u64) -> Result<()> {
        self.ask::<Value>("evm_increaseTime", (seconds,)).await.map(drop)
    }

    /// Switches blocks at once for each transaction on or off.
    ///
    /// # Errors
    /// When the chain refuses.
    pub async fn set_automine(&self, on: bool) -> Result<()> {
        self.ask::<Value>("evm_setAutomine", (on,)).await.map(drop)
    }

    /// Unix seconds of the newest block.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn now(&self) -> Result<u64> {
        let block = self.provider.get_block_by_number(alloy::eips::BlockNumberOrTag::Latest).await?;
        Ok(block.context("no newest block")?.header.timestamp)
    }

    /// Stops the process where it is: calls are taken and never answered.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze(&self) -> Result<()> {
        Ok(kill(self.running.pid(), Signal::SIGSTOP)?)
    }

    /// Lets the process go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        Ok(kill(self.running.pid(), Signal::SIGCONT)?)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // A frozen process would not hear that it should end.
        let _ = self.thaw();
    }
}

/// The signer of the dev key of that number.
///
/// # Errors
/// When there is no such key.
pub fn signer(number: usize) -> Result<PrivateKeySigner> {
    let key = DEV_KEYS.get(number).context("there are ten dev keys")?;
    Ok(PrivateKeySigner::from_slice(key)?)
}

/// The address of the dev key of that number.
///
/// # Errors
/// When there is no such key.
pub fn account(number: usize) -> Result<Address> {
    Ok(signer(number)?.address())
}

#[cfg(test)]
mod tests {
    use alloy::network::TransactionBuilder;
    use alloy::primitives::U256;
    use alloy::rpc::types::TransactionRequest;

    use super::*;

    #[test]
    fn dev_keys_have_the_known_addresses() {
        let known = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        assert_eq!(account(0).unwrap(), known.parse::<Address>().unwrap());
        assert!(account(9).is_ok() && account(10).is_err());
    }

    #[tokio::test]
    async fn a_chain_makes_blocks_forgets_them_and_keeps_its_state() -> Result<()> {
        for hardfork in Hardfork::ALL {
            let dir = tempfile::tempdir()?;
            let state = Some(dir.path().join("state.json"));
            let options = Options { hardfork, chain_id: 2_048, state, ..Options::default() };
            let Some(chain) = Anvil::start(options.clone()).await? else { return Ok(()) };
            assert_eq!(chain.provider().get_chain_id().await?, 2_048);
            chain.mine(3).await?;
            let third = chain.provider().get_block_by_number(3.into()).await?.context("block 3")?;
            chain.reorg(2).await?;
            assert_eq!(chain.provider().get_block_number().await?, 3);
            let other = chain.provider().get_block_by_number(3.into()).await?.context("block 3")?;
            assert_ne!(third.header.hash, other.header.hash);

            let later = chain.now().await? + 1_000;
            chain.set_next_block_timestamp(later).await?;
            let payment = TransactionRequest::default().with_to(account(1)?).with_value(U256::from(1));
            let receipt = chain.provider_of(0)?.send_transaction(payment).await?.get_receipt().await?;
            assert_eq!((receipt.block_number, chain.now().await?), (Some(4), later));
            assert!(chain.log().contains("anvil_reorg"), "{}", chain.log());

            let pid = chain.running.pid();
            chain.freeze()?;
            drop(chain);
            assert!(kill(pid, None).is_err(), "anvil outlives its owner");
            let again = Anvil::start(options).await?.context("it was there before")?;
            assert_eq!(again.provider().get_block_number().await?, 4);
        }
        Ok(())
    }
}
