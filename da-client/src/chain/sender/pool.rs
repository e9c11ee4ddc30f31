//! A pool of JSON-RPC endpoints as a sender's chain.

use alloy::primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy::providers::{Provider, RootProvider};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CallError, Chain, Prices, Receipt, Refusal, Request, Revert};
use crate::chain::rpc::{ChainError, Fault, Pool};

/// The block whose state counts.
const LATEST: &str = "latest";
/// The block that is being made, with what waits.
const PENDING: &str = "pending";

/// The parts of a receipt that are used; nodes differ in the others.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReceipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    status: Option<U64>,
    gas_used: U64,
    effective_gas_price: Option<U128>,
    contract_address: Option<Address>,
}

/// The part of a block that is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBlock {
    base_fee_per_gas: Option<U128>,
}

impl From<ChainError> for CallError {
    fn from(error: ChainError) -> Self {
        match &error {
            ChainError::Reverted(data) => Self::Reverted(Revert(data.clone())),
            ChainError::Unavailable(attempts) => {
                let refusal = attempts.iter().find_map(|attempt| match &attempt.fault {
                    Fault::Refused { message, may_pass: false, .. } => Some(message.clone()),
                    _ => None,
                });
                refusal.map_or_else(|| Self::Unavailable(error.to_string()), Self::Refused)
            }
            ChainError::NoEndpoint | ChainError::Setup(_) | ChainError::WrongChain { .. } => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// A transaction as calls take it.
fn transaction(from: Address, request: &Request) -> Value {
    match request.to {
        Some(to) => json!({ "from": from, "to": to, "data": request.data }),
        None => json!({ "from": from, "data": request.data }),
    }
}

/// A number that a node says in hexadecimal and that need not exist there.
async fn price(provider: &RootProvider, method: &'static str) -> Option<u128> {
    let price: Result<U128, _> = provider.raw_request(method.into(), ()).await;
    price.ok().map(|price| price.to())
}

impl Pool {
    /// A call over the state after the latest block; where that reverts, over the state and the clock of the block that
    /// is being made: on a quiet chain the latest block may be old.
    async fn now_or_soon<T>(&self, method: &'static str, transaction: Value) -> Result<T, CallError>
    where
        T: alloy::rpc::json_rpc::RpcRecv,
    {
        let ask = async |tag: &'static str| {
            let transaction = &transaction;
            self.ask(move |provider| async move {
                Ok(provider.raw_request::<_, T>(method.into(), (transaction, tag)).await?)
            })
            .await
        };
        let latest = match ask(LATEST).await {
            Err(ChainError::Reverted(data)) => ChainError::Reverted(data),
            answer => return Ok(answer?),
        };
        ask(PENDING).await.map_err(|_| latest.into())
    }
}

impl Chain for Pool {
    async fn nonce(&self, of: Address, waiting: bool) -> Result<u64, CallError> {
        let tag = if waiting { PENDING } else { LATEST };
        let ask = |provider: RootProvider| async move {
            Ok(provider.raw_request::<_, U64>("eth_getTransactionCount".into(), (of, tag)).await?.to())
        };
        Ok(self.ask(ask).await?)
    }

    async fn prices(&self) -> Result<Prices, CallError> {
        let ask = |provider: RootProvider| async move {
            let block: Option<WireBlock> =
                provider.raw_request("eth_getBlockByNumber".into(), (LATEST, false)).await?;
            let base_fee = block.and_then(|block| block.base_fee_per_gas).map(|fee| fee.to());
            // Not every node knows both; which of them does says how to pay.
            let gas_price = price(&provider, "eth_gasPrice").await;
            let tip = match base_fee {
                Some(_) => price(&provider, "eth_maxPriorityFeePerGas").await,
                None => None,
            };
            if gas_price.is_none() && tip.is_none() {
                return Err(Fault::wrong("no price of gas"));
            }
            Ok(Prices { base_fee, tip, gas_price })
        };
        Ok(self.ask(ask).await?)
    }

    async fn estimate(&self, from: Address, request: &Request) -> Result<u64, CallError> {
        let gas: U64 = self.now_or_soon("eth_estimateGas", transaction(from, request)).await?;
        Ok(gas.to())
    }

    async fn call(&self, from: Address, request: &Request, block: Option<u64>) -> Result<Bytes, CallError> {
        let transaction = transaction(from, request);
        let Some(block) = block else { return self.now_or_soon("eth_call", transaction).await };
        let transaction = &transaction;
        let ask = |provider: RootProvider| async move {
            Ok(provider.raw_request("eth_call".into(), (transaction, U64::from(block))).await?)
        };
        Ok(self.ask(ask).await?)
    }

    async fn balance(&self, of: Address) -> Result<U256, CallError> {
        let ask = |provider: RootProvider| async move {
            Ok(provider.raw_request("eth_getBalance".into(), (of, LATEST)).await?)
        };
        Ok(self.ask(ask).await?)
    }

    /// Every endpoint gets it, so that one that keeps it to itself changes nothing.
    async fn broadcast(&self, raw: Bytes) -> Result<(), CallError> {
        let raw = &raw;
        let ask = |provider: RootProvider| async move {
            let sent: Result<B256, _> = provider.raw_request("eth_sendRawTransaction".into(), (raw,)).await;
            Ok(sent.map(drop)?)
        };
        let mut refused = None;
        let mut silent = None;
        for (endpoint, answer) in self.ask_each(ask).await {
            match answer {
                Ok(()) => return Ok(()),
                Err(Fault::Refused { message, .. }) if Refusal::of(&message) == Refusal::Known => {
                    return Ok(());
                }
                Err(Fault::Refused { message, .. }) => refused = Some(CallError::Refused(message)),
                Err(Fault::Reverted(data)) => refused = Some(CallError::Reverted(Revert(data))),
                Err(fault) => silent = Some(CallError::Unavailable(format!("{endpoint}: {fault}"))),
            }
        }
        Err(refused.or(silent).unwrap_or_else(|| CallError::Unavailable("no endpoint".to_owned())))
    }

    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, CallError> {
        let ask = |provider: RootProvider| async move {
            let receipt: Option<WireReceipt> =
                provider.raw_request("eth_getTransactionReceipt".into(), (hash,)).await?;
            let Some(receipt) = receipt else { return Ok(None) };
            if receipt.transaction_hash != hash {
                return Err(Fault::wrong("the receipt of another transaction"));
            }
            // Some nodes show a receipt before its block.
            let Some(block) = receipt.block_number else { return Ok(None) };
            Ok(Some(Receipt {
                hash,
                block: block.to(),
                success: receipt.status == Some(U64::from(1)),
                gas_used: receipt.gas_used.to(),
                gas_price: receipt.effective_gas_price.unwrap_or_default().to(),
                contract: receipt.contract_address,
            }))
        };
        Ok(self.ask(ask).await?)
    }
}
