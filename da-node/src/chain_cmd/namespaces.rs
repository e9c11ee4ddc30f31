//! `da-node chain namespaces`: the registry of namespaces on the chain.

use alloy::primitives::{B256, Bytes};
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use meridian_client::chain::namespaces::{Namespaces, Ownership};
use meridian_client::chain::sender::{Receipt, Request};
use meridian_proofs::Address;
use meridian_proofs::ids::Namespace;
use meridian_proto::contract::namespaces::{BYTECODE, NamespaceRegistry as Registry};
use serde_json::json;

use super::{Endpoints, Payer};

/// What `da-node chain namespaces` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy a registry: one for each chain is enough, whoever deploys it.
    Deploy(Deploy),
    /// Make a namespace of the key's account.
    Create(Create),
    /// Let somebody write under a namespace of the key's account.
    Allow(Writer),
    /// Let somebody write no more.
    Deny(Writer),
    /// Offer a namespace to another account, which has to accept it.
    Offer(Offer),
    /// Take over a namespace that was offered to the key's account.
    Accept(Accept),
    /// Show whose a namespace is.
    Show(Show),
}

/// How a registry is deployed.
#[derive(Debug, Args)]
pub struct Deploy {
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(flatten)]
    payer: Payer,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A registry on a chain.
#[derive(Debug, Args)]
struct OnChain {
    #[command(flatten)]
    endpoints: Endpoints,
    /// Address of the registry.
    #[arg(long, value_name = "ADDRESS")]
    registry: Address,
}

/// What every change needs.
#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    on_chain: OnChain,
    #[command(flatten)]
    payer: Payer,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which namespace is made.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    change: Change,
    /// Tells the namespaces of one account from each other: 32 bytes in hex.
    #[arg(long, value_name = "HEX", default_value_t = B256::ZERO)]
    salt: B256,
}

/// Whom a change is about.
#[derive(Debug, Args)]
pub struct Writer {
    #[command(flatten)]
    change: Change,
    /// Which namespace: 32 bytes in hex.
    #[arg(long, value_name = "HEX")]
    namespace: Namespace,
    /// Whose key may sign puts.
    #[arg(long, value_name = "ADDRESS")]
    writer: Address,
}

/// What is offered to whom.
#[derive(Debug, Args)]
pub struct Offer {
    #[command(flatten)]
    change: Change,
    /// Which namespace: 32 bytes in hex.
    #[arg(long, value_name = "HEX")]
    namespace: Namespace,
    /// Who may accept it; the zero address takes an offer back.
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
}

/// What is accepted.
#[derive(Debug, Args)]
pub struct Accept {
    #[command(flatten)]
    change: Change,
    /// Which namespace: 32 bytes in hex.
    #[arg(long, value_name = "HEX")]
    namespace: Namespace,
}

/// What is shown.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    on_chain: OnChain,
    /// Which namespace: 32 bytes in hex.
    #[arg(long, value_name = "HEX")]
    namespace: Namespace,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What makes a registry.
#[must_use]
pub fn deploy() -> Request {
    Request { to: None, data: BYTECODE }
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Deploy(deploy) => deploy.run().await,
            Self::Create(Create { change, salt }) => {
                let pool = change.on_chain.endpoints.pool().await?;
                let owner = change.payer.sender(pool.clone())?.address();
                let registry = Namespaces::new(pool, change.on_chain.registry);
                let namespace = registry.namespace_of(owner, salt).await.context(NO_REGISTRY)?;
                change.run(namespace, Registry::createCall { salt }).await
            }
            Self::Allow(Writer { change, namespace, writer }) => {
                change.run(namespace, Registry::allowCall { namespace: namespace.0, writer }).await
            }
            Self::Deny(Writer { change, namespace, writer }) => {
                change.run(namespace, Registry::denyCall { namespace: namespace.0, writer }).await
            }
            Self::Offer(Offer { change, namespace, to }) => {
                change.run(namespace, Registry::offerCall { namespace: namespace.0, to }).await
            }
            Self::Accept(Accept { change, namespace }) => {
                change.run(namespace, Registry::acceptCall { namespace: namespace.0 }).await
            }
            Self::Show(show) => show.run().await,
        }
    }
}

const NO_REGISTRY: &str = "there is no registry at that address: check --rpc and --registry";

impl Deploy {
    async fn run(self) -> Result<()> {
        let pool = self.endpoints.pool().await?;
        let mut sender = self.payer.sender(pool.clone())?;
        let receipt = self.payer.send(&mut sender, &deploy()).await?;
        let address = receipt.contract.context("the receipt names no contract")?;
        // Whatever else is there does not know the call.
        let registry = Namespaces::new(pool, address);
        let known = registry.ownership(Namespace::default()).await;
        ensure!(
            matches!(known, Ok(None)),
            "what is at {address} is not what was deployed: another program sends with this key"
        );
        if self.json {
            println!("{:#}", json!({ "registry": address, "transaction": transaction(&receipt) }));
        } else {
            println!("registry {address}");
            print_transaction(&receipt);
            eprintln!("next: da-node chain namespaces create --registry {address} ...");
        }
        Ok(())
    }
}

impl Change {
    /// Sends a call and says what has come of it.
    async fn run(self, namespace: Namespace, call: impl SolCall) -> Result<()> {
        let pool = self.on_chain.endpoints.pool().await?;
        let registry = Namespaces::new(pool.clone(), self.on_chain.registry);
        registry.ownership(namespace).await.context(NO_REGISTRY)?;
        let mut sender = self.payer.sender(pool)?;
        let data = Bytes::from(call.abi_encode());
        let request = Request { to: Some(self.on_chain.registry), data };
        let receipt = self.payer.send(&mut sender, &request).await?;
        let ownership = registry.ownership(namespace).await?;
        if self.json {
            let mut report = report(namespace, ownership);
            report["transaction"] = transaction(&receipt);
            println!("{report:#}");
        } else {
            print(namespace, ownership);
            print_transaction(&receipt);
        }
        Ok(())
    }
}

impl Show {
    async fn run(self) -> Result<()> {
        let registry = Namespaces::new(self.on_chain.endpoints.pool().await?, self.on_chain.registry);
        let ownership = registry.ownership(self.namespace).await.context(NO_REGISTRY)?;
        if self.json {
            println!("{:#}", report(self.namespace, ownership));
        } else {
            print(self.namespace, ownership);
        }
        Ok(())
    }
}

fn print(namespace: Namespace, ownership: Option<Ownership>) {
    println!("namespace {namespace}");
    match ownership {
        Some(Ownership { owner, offered }) => {
            println!("owner {owner}");
            if let Some(offered) = offered {
                println!("offered to {offered}");
            }
        }
        None => println!("nobody has made it"),
    }
}

fn report(namespace: Namespace, ownership: Option<Ownership>) -> serde_json::Value {
    json!({
        "namespace": namespace,
        "owner": ownership.map(|ownership| ownership.owner),
        "offered_to": ownership.and_then(|ownership| ownership.offered),
    })
}

fn transaction(receipt: &Receipt) -> serde_json::Value {
    json!({
        "hash": receipt.hash,
        "block": receipt.block,
        "gas_used": receipt.gas_used,
        "fee_wei": receipt.fee().to_string(),
    })
}

fn print_transaction(receipt: &Receipt) {
    println!("transaction {} block {} gas {}", receipt.hash, receipt.block, receipt.gas_used);
}
