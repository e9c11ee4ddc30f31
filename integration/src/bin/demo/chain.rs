//! What the chain shows: an anchor's transaction, and certificates that the contract takes and refuses.

use std::fs;
use std::time::{Duration, Instant};

use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use anyhow::{Context, Result, ensure};
use meridian_node::devnet::{ChainPlan, Plan};
use meridian_proto::contract::{Meridian, Status};

use super::{Demo, heading, text};

/// Time in which a log must be anchored with every batch in it.
const ANCHOR_WITHIN: Duration = Duration::from_secs(30);

/// An anchor as it stands on the chain.
struct Anchored {
    event: Meridian::Anchored,
    transaction: String,
    block: u64,
    gas: u64,
}

impl Demo {
    /// Shows what the chain knows, if there is one.
    pub(super) fn show_chain(&mut self) -> Result<()> {
        heading("the chain: anyone can check against one contract");
        let Some(chain) = Plan::load(&self.network)?.chain else {
            println!("there is no chain: anvil is not here, and .ci/deps could not install it with npm");
            return Ok(());
        };
        println!("{} chain id {}, contract {}", chain.url(), chain.chain_id, chain.contract);
        let count = u64::try_from(self.batches.len())?;
        let runtime = tokio::runtime::Runtime::new()?;
        let begun = Instant::now();
        let anchored = loop {
            match runtime.block_on(newest(&chain))? {
                Some(anchored) if anchored.event.size >= count => break Some(anchored),
                other if begun.elapsed() > ANCHOR_WITHIN => break other,
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        };
        let whole = anchored.as_ref().is_some_and(|anchored| anchored.event.size >= count);
        let mut said = "the log is not on the chain".to_owned();
        if let Some(Anchored { event, transaction, block, gas }) = anchored {
            println!("  transaction {transaction}\n  block {block}, {gas} gas");
            println!("  log of {}: size {}, root {}", event.gateway, event.size, event.root);
            said = format!("a log of {} entries under one root, {gas} gas", event.size);
        }
        self.note("anchor", &said, whole);
        self.show_verdicts(&chain)
    }

    fn show_verdicts(&mut self, chain: &ChainPlan) -> Result<()> {
        let certificate = self.batches[0].certificate.clone();
        let (url, contract) = (chain.url(), chain.contract.to_string());
        let on_chain = ["--chain", url.as_str(), "--contract", contract.as_str()];
        let verify =
            |file| ["cert", "verify", file, "--json"].into_iter().chain(on_chain).collect::<Vec<_>>();
        let good = self.da_on_chain(&verify(text(&certificate)?))?;
        let status = good.json()?["contract_status"].clone();
        self.note("certificate on chain", &format!("the contract says {status}"), good.code == 0);

        let forged = self.scratch.path().join("forged-on-chain.cert");
        let mut bytes = fs::read(&certificate)?;
        ensure!(bytes.len() > FLIPPED, "a certificate of {} bytes", bytes.len());
        bytes[FLIPPED] ^= 1;
        fs::write(&forged, bytes)?;
        let bad = self.da_on_chain(&verify(text(&forged)?))?;
        println!("  {}", bad.last_error());
        let status = bad.json()?["contract_status"].clone();
        let refused = bad.code == 5 && status != Status::Valid.name();
        self.note("certificate on chain", &format!("one changed bit: the contract says {status}"), refused);
        Ok(())
    }
}

/// A byte of the entry's namespace: what was signed no longer covers it.
const FLIPPED: usize = 120;

async fn newest(chain: &ChainPlan) -> Result<Option<Anchored>> {
    let provider = ProviderBuilder::new().connect_http(chain.url().parse()?);
    let filter = Filter::new()
        .address(chain.contract)
        .event_signature(Meridian::Anchored::SIGNATURE_HASH)
        .from_block(0);
    let Some(log) = provider.get_logs(&filter).await?.pop() else { return Ok(None) };
    let event = Meridian::Anchored::decode_log_data(log.data())?;
    let hash = log.transaction_hash.context("an anchor without a transaction")?;
    let receipt = provider.get_transaction_receipt(hash).await?.context("an anchor without a receipt")?;
    Ok(Some(Anchored {
        event,
        transaction: hash.to_string(),
        block: receipt.block_number.context("an anchor without a block")?,
        gas: receipt.gas_used,
    }))
}
