//! `da-node chain`: deploys the contract, changes its committee and shows what is on the chain.

mod committee;
mod deploy;
pub mod namespaces;
mod show;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{Patience, Pool, RpcUrl};
use meridian_client::chain::sender::{Outcome, Receipt, Request, Sender, Settings, Style};
use meridian_client::chain::settled::Settled;
use meridian_client::chain::source::{self, Reading, SourceError};
use meridian_client::chain::view::View;
use meridian_proofs::Address;

use crate::key;

pub use deploy::deploy;

/// Time between two looks for a receipt.
const POLL: Duration = Duration::from_secs(1);
/// Time after which a transaction that is in no block is sent again with a higher fee.
const REPLACE_AFTER: Duration = Duration::from_secs(60);
/// Most gas of a transaction: chains take 15 to 60 million in a block, and the largest committee takes less.
const MAX_GAS: u64 = 15_000_000;

/// What `da-node chain` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy the contract.
    Deploy(deploy::Deploy),
    /// Show and change the committee.
    #[command(subcommand)]
    Committee(committee::Command),
    /// Say who may write under which namespace, in a registry on the chain.
    #[command(subcommand)]
    Namespaces(namespaces::Command),
    /// Show how far each log is anchored.
    Anchors(show::Anchors),
}

/// Where the chain answers.
#[derive(Debug, Args)]
struct Endpoints {
    /// JSON-RPC endpoint of the chain; more of them, with commas between or in further flags, stand in for each other.
    #[arg(long, value_name = "URL", required = true, value_delimiter = ',')]
    rpc: Vec<RpcUrl>,
}

impl Endpoints {
    async fn pool(&self) -> Result<Pool> {
        let pool = Pool::discover(&self.rpc, Patience::default()).await;
        pool.context("cannot reach the chain: check --rpc")
    }
}

/// A contract on a chain.
#[derive(Debug, Args)]
struct OnChain {
    #[command(flatten)]
    endpoints: Endpoints,
    /// Address of the contract.
    #[arg(long, value_name = "ADDRESS")]
    contract: Address,
}

impl OnChain {
    async fn contract(&self) -> Result<Contract> {
        Ok(Contract::new(self.endpoints.pool().await?, self.contract))
    }
}

/// Who pays for a transaction.
#[derive(Debug, Args)]
struct Payer {
    /// File with the secret key of the account: hex, or a Web3 keystore; readable by its owner only.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File with the password of a keystore; readable by its owner only.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Most wei for a unit of gas.
    #[arg(long, value_name = "WEI", default_value_t = 500_000_000_000)]
    max_fee_per_gas: u64,
    /// Send transactions with a gas price, as before EIP-1559, whatever the chain says.
    #[arg(long)]
    legacy: bool,
    /// Replace a transaction of the account that is in no block yet.
    #[arg(long)]
    replace: bool,
    /// Seconds to wait for a block.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

impl Payer {
    fn sender(&self, pool: Pool) -> Result<Sender<Pool>> {
        let key = key::load_account(&self.key, self.password_file.as_deref())?;
        let settings = Settings {
            chain_id: pool.chain_id(),
            style: if self.legacy { Style::Legacy } else { Style::Auto },
            max_fee_per_gas: self.max_fee_per_gas.into(),
            max_gas: MAX_GAS,
            replace_after: REPLACE_AFTER,
            poll: POLL,
        };
        Ok(Sender::new(pool, key, settings))
    }

    /// Sends a transaction and waits for its block, with lines on standard error about how it goes.
    async fn send(&self, sender: &mut Sender<Pool>, request: &Request) -> Result<Receipt> {
        eprintln!("sending from {} on chain {}", sender.address(), sender.chain().chain_id());
        ensure!(
            sender.settle().await? || self.replace,
            "a transaction of {} is in no block yet: wait for it, or have it replaced with --replace",
            sender.address()
        );
        sender.simulate(request).await.context("the chain would refuse this, so it was not sent")?;
        let patience = Duration::from_secs(self.timeout);
        let outcome = sender.send_until_mined(request, patience, |what| eprintln!("{what}")).await?;
        match outcome {
            Outcome::Mined(receipt) => Ok(receipt),
            Outcome::Reverted(receipt, why) => {
                bail!("transaction {} in block {} has done nothing: {why}", receipt.hash, receipt.block)
            }
            Outcome::Waiting(hash) => bail!(
                "transaction {hash} is in no block after {} s: it may still get into one; look before you try again",
                self.timeout
            ),
            Outcome::Dropped => {
                bail!("another transaction of this key took its nonce: use a key that nobody else sends with")
            }
        }
    }
}

/// Asks whether to go on, unless it was said before.
fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(
        io::stdin().is_terminal(),
        "nobody can be asked here: look at what changes and repeat with --yes"
    );
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was sent");
    Ok(())
}

/// Everything on the chain up to its newest block; nothing before the first committee.
async fn read(contract: &Contract) -> Result<Option<View>> {
    let reading =
        Reading { contract: contract.address(), settled: Settled::Confirmations(0), from_block: None };
    match source::read(contract.pool().clone(), reading).await {
        Ok(view) => Ok(Some(view)),
        Err(SourceError::NoCommittee) => Ok(None),
        Err(error) => Err(error).with_context(|| {
            format!("cannot read the contract {}: check --rpc and --contract", contract.address())
        }),
    }
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// When it cannot be done; says what to do next.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Deploy(deploy) => deploy.run().await,
            Self::Committee(committee) => committee.run().await,
            Self::Namespaces(namespaces) => namespaces.run().await,
            Self::Anchors(anchors) => anchors.run().await,
        }
    }
}
