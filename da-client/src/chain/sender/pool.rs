//! A pool of JSON-RPC endpoints as a sender's chain.

use alloy::primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::json_rpc::RpcRecv;
use futures::stream::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CallError, Chain, Prices, Receipt, Refusal, Request, Revert};
use crate::chain::contract;
use crate::chain::rpc::{ChainError, Fault, Pool, Said};
use crate::chain::view::Anchor;

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
    /// What endpoints answer to a call that more of them let pass than revert; of two, the one that reverts counts. One
    /// alone can neither stop everything nor have transactions paid for that do nothing.
    async fn votes<T>(
        &self,
        method: &'static str,
        transaction: &Value,
        tag: &'static str,
        same: impl Fn(&T, &T) -> bool,
    ) -> Result<Vec<T>, ChainError>
    where
        T: RpcRecv,
    {
        let ask = move |provider: RootProvider| async move {
            let answer = provider.raw_request::<_, T>(method.into(), (transaction, tag)).await;
            match answer.map_err(Fault::from) {
                Ok(answer) => Ok(Ok(answer)),
                Err(Fault::Reverted(data)) => Ok(Err(data)),
                Err(fault) => Err(fault),
            }
        };
        let same = |one: &Result<T, Bytes>, other: &Result<T, Bytes>| match (one, other) {
            (Ok(one), Ok(other)) => same(one, other),
            (one, other) => one.is_err() && other.is_err(),
        };
        let votes = self.answers(same, ask).await?;
        let all = votes.len();
        let (mut passed, mut reverted) = (Vec::new(), Vec::new());
        for vote in votes {
            match vote {
                Ok(answer) => passed.push(answer),
                Err(data) => reverted.push(data),
            }
        }
        match reverted.pop() {
            Some(data) if 2 * passed.len() <= all => Err(ChainError::Reverted(data)),
            _ => Ok(passed),
        }
    }

    async fn outvoted(&self, transaction: &Value, tag: &'static str) -> Result<Bytes, ChainError> {
        let mut passed = self.votes::<Bytes>("eth_call", transaction, tag, |_, _| true).await?;
        Ok(passed.pop().unwrap_or_default())
    }

    async fn gas(&self, transaction: &Value, tag: &'static str) -> Result<u64, ChainError> {
        let passed = self.votes::<U64>("eth_estimateGas", transaction, tag, U64::eq).await?;
        Ok(second(passed).unwrap_or_default().to())
    }
}

/// The second greatest of what is said, or the only one. Whoever says that there is none of it says the least.
fn second<T: Ord>(said: impl IntoIterator<Item = T>) -> Option<T> {
    let mut said: Vec<_> = said.into_iter().collect();
    said.sort_unstable_by(|one, other| other.cmp(one));
    said.truncate(2);
    said.pop()
}

impl Chain for Pool {
    async fn nonce(&self, of: Address, waiting: bool) -> Result<u64, CallError> {
        let tag = if waiting { PENDING } else { LATEST };
        let ask = |provider: RootProvider| async move {
            Ok(provider.raw_request::<_, U64>("eth_getTransactionCount".into(), (of, tag)).await?.to())
        };
        Ok(self.reached(|nonce: &u64| *nonce, ask).await?)
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
        let said = self.answers(Prices::eq, ask).await?;
        Ok(Prices {
            base_fee: second(said.iter().map(|prices| prices.base_fee)).flatten(),
            tip: second(said.iter().map(|prices| prices.tip)).flatten(),
            gas_price: second(said.iter().map(|prices| prices.gas_price)).flatten(),
        })
    }

    /// Where it reverts after the latest block, over the state and the clock of the block that is being made: on a quiet
    /// chain the latest block may be old.
    async fn estimate(&self, from: Address, request: &Request) -> Result<u64, CallError> {
        let transaction = transaction(from, request);
        match self.gas(&transaction, LATEST).await {
            Err(reverted @ ChainError::Reverted(_)) => {
                self.gas(&transaction, PENDING).await.map_err(|_| reverted.into())
            }
            gas => Ok(gas?),
        }
    }

    /// As [`Chain::estimate`] where no block is named.
    async fn call(&self, from: Address, request: &Request, block: Option<u64>) -> Result<Bytes, CallError> {
        let transaction = &transaction(from, request);
        let Some(block) = block else {
            return match self.outvoted(transaction, LATEST).await {
                Err(reverted @ ChainError::Reverted(_)) => {
                    self.outvoted(transaction, PENDING).await.map_err(|_| reverted.into())
                }
                answer => Ok(answer?),
            };
        };
        let ask = |provider: RootProvider| async move {
            Ok(provider.raw_request("eth_call".into(), (transaction, U64::from(block))).await?)
        };
        Ok(self.ask(ask).await?)
    }

    async fn anchor_of(&self, contract: Address, gateway: Address) -> Result<Option<Anchor>, CallError> {
        let rank = |anchor: &Option<Anchor>| {
            anchor.map(|Anchor { epoch, size, root, timestamp, block, .. }| {
                (size, timestamp, epoch, root, block)
            })
        };
        let ask = |provider| async move { contract::anchor_of(&provider, contract, gateway, None).await };
        Ok(self.reached(rank, ask).await?)
    }

    async fn balance(&self, of: Address) -> Result<U256, CallError> {
        let ask = |provider: RootProvider| async move {
            Ok(provider.raw_request::<_, U256>("eth_getBalance".into(), (of, LATEST)).await?)
        };
        Ok(self.reached(|balance| *balance, ask).await?)
    }

    /// Every endpoint gets it, so that one that keeps it to itself changes nothing.
    async fn broadcast(&self, raw: Bytes) -> Result<(), CallError> {
        let raw = &raw;
        let ask = |provider: RootProvider| async move {
            let sent: Result<B256, _> = provider.raw_request("eth_sendRawTransaction".into(), (raw,)).await;
            Ok(sent.map(drop)?)
        };
        let (mut taken, mut refused, mut silent) = (false, None, None);
        let mut asked = self.each(&ask);
        while let Some(Said { endpoint, answer, .. }) = asked.next().await {
            match answer {
                Ok(()) => taken = true,
                Err(Fault::Refused { message, .. }) if Refusal::of(&message) == Refusal::Known => {
                    taken = true;
                }
                Err(Fault::Refused { message, .. }) => refused = Some(CallError::Refused(message)),
                Err(Fault::Reverted(data)) => refused = Some(CallError::Reverted(Revert(data))),
                Err(fault) => silent = Some(CallError::Unavailable(format!("{endpoint}: {fault}"))),
            }
        }
        if taken {
            return Ok(());
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
        // Where they contradict each other it is looked for again.
        Ok(self.agreed(ask).await?.flatten())
    }
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolCall;
    use meridian_proto::contract::Meridian;

    use super::*;
    use crate::chain::testing::{CONTRACT, Chain as Blocks, Endpoint, GATEWAY, Manner, committee, pool};

    fn chain(size: u64) -> Blocks {
        let mut chain = Blocks::new();
        chain.schedule(&committee(1), 1);
        chain.anchor(1, size);
        chain
    }

    #[tokio::test]
    async fn an_anchor_counts_when_two_endpoints_have_it() {
        for (sizes, expected) in [
            (&[7][..], 7),
            // It says that all is anchored.
            (&[900, 7, 7], 7),
            (&[900, 7], 7),
            // It says that too little is.
            (&[1, 7, 7], 7),
        ] {
            let mut opened = Vec::new();
            for size in sizes {
                opened.push(Endpoint::open(chain(*size)).await);
            }
            let endpoints: Vec<_> = opened.iter().collect();
            let anchor = pool(&endpoints).anchor_of(CONTRACT, GATEWAY).await.unwrap();
            assert_eq!(anchor.unwrap().size, expected, "{sizes:?}");
        }
    }

    #[test]
    fn what_only_one_says_is_not_the_second_greatest() {
        assert_eq!(second([7, 900, 8]), Some(8));
        assert_eq!(second([7, 900]), Some(7));
        assert_eq!(second([7]), Some(7));
        assert_eq!(second([None, Some(900), None]), Some(None));
        assert_eq!(second([None, Some(900), Some(3)]), Some(Some(3)));
        assert_eq!(second::<u8>([]), None);
    }

    #[tokio::test]
    async fn one_endpoint_that_lets_every_call_revert_changes_nothing() {
        let opened =
            [Endpoint::open(chain(7)).await, Endpoint::open(chain(7)).await, Endpoint::open(chain(7)).await];
        let [liar, second, third] = &opened;
        let request = Request { to: Some(CONTRACT), data: Meridian::graceCall {}.abi_encode().into() };
        let call = async |endpoints: &[&Endpoint]| {
            Chain::call(&pool(endpoints), Address::ZERO, &request, None).await.map(drop)
        };
        liar.behave(Manner::Error(3, "execution reverted"));
        assert_eq!(call(&[liar, second, third]).await, Ok(()));
        assert!(matches!(call(&[liar, second]).await, Err(CallError::Reverted(_))));
        second.behave(Manner::Error(3, "execution reverted"));
        assert!(matches!(call(&[liar, second, third]).await, Err(CallError::Reverted(_))));
        second.behave(Manner::Text(axum::http::StatusCode::BAD_GATEWAY, String::new()));
        assert!(matches!(call(&[liar, second, third]).await, Err(CallError::Reverted(_))));
    }
}
