//! Transactions on L2 whose calldata does not compress.

use std::time::Duration;

use alloy::eips::Encodable2718;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder};
use alloy::primitives::Address;
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use anyhow::{Context, Result};
use meridian_integration::{anvil, payload};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::chain::{ACCOUNTS, BATCHER, L2_CHAIN};
use super::node::Node;

/// What is paid for a unit of gas at most: the base fee begins at one gwei.
const FEE: u128 = 100_000_000_000;
/// What the sequencer gets of it.
const TIP: u128 = 1_000_000;

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Transactions in a second.
    pub(crate) per_second: f64,
    /// Bytes of calldata in each.
    pub(crate) bytes: usize,
}

struct Sender {
    wallet: EthereumWallet,
    address: Address,
    sent: u64,
}

/// The accounts that send, and how much they have sent.
pub(crate) struct Load {
    senders: Vec<Sender>,
}

impl Load {
    /// Accounts that have sent nothing yet.
    ///
    /// # Errors
    /// Never, as the keys are known.
    pub(crate) fn new() -> Result<Self> {
        let senders = (0..ACCOUNTS).filter(|&number| number != BATCHER).map(|number| {
            let signer = anvil::signer(number)?;
            Ok(Sender { address: signer.address(), wallet: signer.into(), sent: 0 })
        });
        Ok(Self { senders: senders.collect::<Result<_>>()? })
    }

    /// Sends for that time, or without end.
    ///
    /// # Errors
    /// When op-geth does not take a transaction.
    pub(crate) async fn run(&mut self, to: &Node, rate: Rate, time: Option<Duration>) -> Result<()> {
        let end = time.map(|time| Instant::now() + time);
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate.per_second));
        // No burst after a pause: what the batcher does under a steady load is of interest.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let floor = 21_000 + 40 * u64::try_from(rate.bytes)?;
        for number in 0.. {
            ticks.tick().await;
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            let next = usize::try_from(number)? % self.senders.len();
            let sender = &mut self.senders[next];
            let transaction = TransactionRequest::default()
                .with_to(sender.address)
                .with_chain_id(L2_CHAIN)
                .with_nonce(sender.sent)
                .with_gas_limit(floor)
                .with_max_fee_per_gas(FEE)
                .with_max_priority_fee_per_gas(TIP)
                .with_input(payload::noise(rate.bytes, number));
            let signed = transaction.build(&sender.wallet).await?.encoded_2718();
            let sent = to.l2.send_raw_transaction(&signed).await;
            sent.context("op-geth does not take a transaction").map(drop)?;
            sender.sent += 1;
        }
        Ok(())
    }

    /// Transactions that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.senders.iter().map(|sender| sender.sent).sum()
    }

    /// Transactions that a node has in its blocks up to that one.
    ///
    /// # Errors
    /// When op-geth does not answer.
    pub(crate) async fn included(&self, node: &Node, block: u64) -> Result<u64> {
        let mut included = 0;
        for sender in &self.senders {
            included += node.l2.get_transaction_count(sender.address).block_id(block.into()).await?;
        }
        Ok(included)
    }
}
