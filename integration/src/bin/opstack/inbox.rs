//! The commitments on L1, and what stands behind them.

use std::collections::BTreeSet;

use alloy::consensus::Transaction;
use alloy::hex;
use alloy::primitives::{Bytes, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::transports::http::reqwest;
use anyhow::{Context, Result, ensure};

use super::chain::INBOX;

/// First byte of the calldata of a transaction with a commitment.
const COMMITMENT: u8 = 1;
/// First byte of a commitment that is a Keccak-256 hash.
const KECCAK: u8 = 0;

/// What the batcher has on L1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Posted {
    /// Different commitments.
    pub(crate) commitments: usize,
    /// Bytes of their inputs.
    pub(crate) bytes: usize,
}

/// Reads back the input of every commitment that L1 has after that block, through both sidecars.
///
/// # Errors
/// When one cannot be read, is not what was committed to, or is not the same at both.
pub(crate) async fn read_back(l1: &DynProvider, after: u64, sidecars: [&str; 2]) -> Result<Posted> {
    let commitments = commitments(l1, after).await?;
    let mut bytes = 0;
    for commitment in &commitments {
        let [first, second] = [get(sidecars[0], commitment).await?, get(sidecars[1], commitment).await?];
        let name = hex::encode_prefixed(commitment);
        ensure!(!first.is_empty() && first == second, "the sidecars have different inputs for {name}");
        if commitment[0] == KECCAK {
            ensure!(keccak256(&first) == commitment[1..], "the input for {name} has another hash");
        }
        bytes += first.len();
    }
    Ok(Posted { commitments: commitments.len(), bytes })
}

async fn commitments(l1: &DynProvider, after: u64) -> Result<BTreeSet<Bytes>> {
    let newest = l1.get_block_number().await?;
    let mut found = BTreeSet::new();
    for number in after + 1..=newest {
        let block = l1.get_block_by_number(number.into()).full().await?;
        let block = block.with_context(|| format!("L1 has no block {number}"))?;
        for transaction in block.transactions.txns() {
            if transaction.to() == Some(INBOX) {
                let input = transaction.input();
                ensure!(input.first() == Some(&COMMITMENT) && input.len() > 2, "no commitment: {input}");
                found.insert(input.slice(1..));
            }
        }
    }
    Ok(found)
}

async fn get(sidecar: &str, commitment: &Bytes) -> Result<Vec<u8>> {
    let url = format!("{sidecar}/get/{}", hex::encode_prefixed(commitment));
    let answer = reqwest::get(&url).await?.error_for_status()?;
    Ok(answer.bytes().await?.into())
}
