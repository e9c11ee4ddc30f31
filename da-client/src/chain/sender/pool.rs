//! A pool of JSON-RPC endpoints as a sender's chain.

use alloy::primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::json_rpc::RpcRecv;
use futures::stream::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CallError, Chain, Prices, Receipt, Refusal, Request, Revert};
use crate::chain::contract;
use crate::chain::rpc::{ChainError, Fault, Pool, Said, repeats, second};
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

/// What endpoints say of a call.
struct Votes<T> {
    passed: Vec<T>,
    reverted: Vec<Bytes>,
}

impl<T> Votes<T> {
    /// Whether more let it pass than revert; of two, the one that reverts counts.
    fn pass(&self) -> bool {
        self.passed.len() > self.reverted.len()
    }
}

impl Pool {
    /// What those say to a call that let it pass, if enough do. One alone can neither stop everything nor have
    /// transactions paid for that do nothing.
    ///
    /// Where it reverts after the latest block, over the state and the clock of the block that is being made: on a quiet
    /// chain the latest block may be old. More than half of those that vote here must let it pass there, since not every
    /// node knows such a block.
    async fn passed<T: RpcRecv>(
        &self,
        method: &'static str,
        transaction: &Value,
    ) -> Result<Vec<T>, ChainError> {
        let mut latest = self.votes(method, transaction, LATEST).await?;
        if latest.pass() {
            return Ok(latest.passed);
        }
        let voted = latest.passed.len() + latest.reverted.len();
        match self.votes(method, transaction, PENDING).await {
            Ok(pending) if 2 * pending.passed.len() > voted && pending.pass() => Ok(pending.passed),
            _ => Err(ChainError::Reverted(latest.reverted.pop().unwrap_or_default())),
        }
    }

    async fn votes<T: RpcRecv>(
        &self,
        method: &'static str,
        transaction: &Value,
        tag: &'static str,
    ) -> Result<Votes<T>, ChainError> {
        let ask = move |provider: RootProvider| async move {
            let answer = provider.raw_request::<_, T>(method.into(), (transaction, tag)).await;
            match answer.map_err(Fault::from) {
                Ok(answer) => Ok(Ok(answer)),
                Err(Fault::Reverted(data)) => Ok(Err(data)),
                Err(fault) => Err(fault),
            }
        };
        let mut votes = Votes { passed: Vec::new(), reverted: Vec::new() };
        // Whoever is fast has no more of a say.
        for vote in self.answers(|_| false, ask).await? {
            match vote {
                Ok(answer) => votes.passed.push(answer),
                Err(data) => votes.reverted.push(data),
            }
        }
        Ok(votes)
    }
}

/// How much gas counts. Too little would be paid for in vain, and what is too much is not used: of two the greater.
fn most(said: Vec<U64>) -> Option<U64> {
    if said.len() > 2 { second(said) } else { said.into_iter().max() }
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
        let said = self.answers(|said| repeats(said, Prices::eq), ask).await?;
        Ok(Prices {
            base_fee: second(said.iter().map(|prices| prices.base_fee)).flatten(),
            tip: second(said.iter().map(|prices| prices.tip)).flatten(),
            gas_price: second(said.iter().map(|prices| prices.gas_price)).flatten(),
        })
    }

    async fn estimate(&self, from: Address, request: &Request) -> Result<u64, CallError> {
        let passed = self.passed("eth_estimateGas", &transaction(from, request)).await?;
        Ok(most(passed).unwrap_or_default().to())
    }

    async fn call(&self, from: Address, request: &Request, block: Option<u64>) -> Result<Bytes, CallError> {
        let transaction = &transaction(from, request);
        let Some(block) = block else {
            return Ok(self.passed("eth_call", transaction).await?.pop().unwrap_or_default());
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

    #[test]
    fn whoever_says_too_little_gas_has_nothing_paid_in_vain() {
        let most =
            |said: &[u64]| most(said.iter().copied().map(U64::from).collect()).map(|gas| gas.to::<u64>());
        assert_eq!(most(&[300, 150]), Some(300));
        assert_eq!(most(&[150, 300, 301]), Some(300));
        assert_eq!(most(&[300, 301, 5_000_000]), Some(301));
        assert_eq!(most(&[150, 150, 300, 300, 300]), Some(300));
        assert_eq!((most(&[300]), most(&[])), (Some(300), None));
    }

    #[tokio::test]
    async fn two_fast_endpoints_of_five_stop_nothing() {
        let mut opened = Vec::new();
        for _ in 0..5 {
            opened.push(Endpoint::open(chain(7)).await);
        }
        let endpoints: Vec<_> = opened.iter().collect();
        let request = Request { to: Some(CONTRACT), data: Meridian::graceCall {}.abi_encode().into() };
        for liar in &opened[..2] {
            liar.behave(Manner::Error(3, "execution reverted"));
        }
        let answer = Chain::call(&pool(&endpoints), Address::ZERO, &request, None).await;
        assert!(answer.is_ok(), "{answer:?}");
    }

    #[tokio::test]
    async fn the_block_that_is_being_made_is_not_believed_to_one_alone() {
        let opened =
            [Endpoint::open(chain(7)).await, Endpoint::open(chain(7)).await, Endpoint::open(chain(7)).await];
        let [one, other, liar] = &opened;
        let request = Request { to: Some(CONTRACT), data: Meridian::graceCall {}.abi_encode().into() };
        let call =
            async || Chain::call(&pool(&[one, other, liar]), Address::ZERO, &request, None).await.map(drop);
        let at = |latest, pending| Manner::At { latest, pending };
        let reverts = Some((3, "execution reverted"));
        for honest in [one, other] {
            honest.behave(at(reverts, Some((-32602, "no such tag"))));
        }
        assert!(matches!(call().await, Err(CallError::Reverted(_))));
        for honest in [one, other] {
            honest.behave(at(reverts, None));
        }
        assert_eq!(call().await, Ok(()));
        liar.behave(Manner::Error(3, "execution reverted"));
        assert_eq!(call().await, Ok(()));
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
