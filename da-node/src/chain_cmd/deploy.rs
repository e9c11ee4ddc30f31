//! `da-node chain deploy`.

use anyhow::{Context, Result, ensure};
use clap::Args;
use meridian_client::chain::contract::Contract;
use meridian_client::chain::sender::{Receipt, Request};
use meridian_proofs::Address;
use meridian_proto::contract::creation_code;
use serde_json::json;

use super::{Endpoints, Payer};

/// Seconds before a committee takes effect, unless it is said otherwise: two days.
const NOTICE: u64 = 2 * 86_400;
/// Seconds that an epoch stays open after the next has begun: a day.
const GRACE: u64 = 86_400;

/// How the contract is deployed.
#[derive(Debug, Args)]
pub struct Deploy {
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(flatten)]
    payer: Payer,
    /// Seconds between scheduling a committee and its activation, at least. Above the grace, or an epoch that
    /// begins as soon as allowed can never be cancelled. Never changes.
    #[arg(long, value_name = "SECONDS", default_value_t = NOTICE)]
    notice: u64,
    /// Seconds that an epoch stays open after the next has begun. Never changes.
    #[arg(long, value_name = "SECONDS", default_value_t = GRACE)]
    grace: u64,
    /// Who decides on committees [default: the account that deploys].
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<Address>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What makes a contract.
#[must_use]
pub fn deploy(owner: Address, notice: u64, grace: u64) -> Request {
    Request { to: None, data: creation_code(owner, notice, grace) }
}

impl Deploy {
    pub(super) async fn run(self) -> Result<()> {
        let pool = self.endpoints.pool().await?;
        let mut sender = self.payer.sender(pool.clone())?;
        let owner = self.owner.unwrap_or(sender.address());
        let receipt = self.payer.send(&mut sender, &deploy(owner, self.notice, self.grace)).await?;
        let address = receipt.contract.context("the receipt names no contract")?;
        let contract = Contract::new(pool, address);
        ensure!(
            contract.notice().await? == self.notice && contract.owner().await? == owner,
            "what is at {address} is not what was deployed: another program sends with this key"
        );
        if self.json {
            println!("{:#}", self.as_json(&contract, owner, &receipt));
        } else {
            println!("contract {address}");
            println!("chain_id {}", contract.pool().chain_id());
            println!("owner {owner}");
            println!("transaction {} block {} gas {}", receipt.hash, receipt.block, receipt.gas_used);
            eprintln!(
                "next: da-node chain committee schedule --contract {address} --file committee.toml ..."
            );
        }
        Ok(())
    }

    fn as_json(&self, contract: &Contract, owner: Address, receipt: &Receipt) -> serde_json::Value {
        json!({
            "contract": contract.address(),
            "chain_id": contract.pool().chain_id(),
            "owner": owner,
            "notice": self.notice,
            "grace": self.grace,
            "transaction": receipt.hash,
            "block": receipt.block,
            "gas_used": receipt.gas_used,
            "fee_wei": receipt.fee().to_string(),
        })
    }
}
