use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::sol_types::{Revert as Message, SolError};

use super::*;

/// A chain with one account: a pool that takes one transaction for each nonce, and blocks when the test says so.
#[derive(Default)]
struct State {
    mined: u64,
    block: u64,
    pool: BTreeMap<u64, TxEnvelope>,
    receipts: HashMap<B256, Receipt>,
    prices: Prices,
    /// Answers nothing.
    is_down: bool,
    /// Takes transactions and then does not answer.
    swallows: bool,
    /// Refuses every transaction with these words.
    refuses: Option<String>,
    /// Mines at once.
    is_fast: bool,
    /// Transactions revert.
    reverts: bool,
    /// Everything that was taken.
    taken: Vec<TxEnvelope>,
    /// Calls for a receipt that answer nothing though there is one.
    late_receipts: u32,
}

#[derive(Default)]
struct Fake(Mutex<State>);

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn up(&self) -> Result<MutexGuard<'_, State>, CallError> {
        let state = self.state();
        if state.is_down { Err(CallError::Unavailable("down".to_owned())) } else { Ok(state) }
    }
}

impl State {
    fn mine(&mut self) {
        let Some(tx) = self.pool.remove(&self.mined) else { return };
        self.block += 1;
        self.mined += 1;
        let (hash, block, success) = (*tx.tx_hash(), self.block, !self.reverts);
        let gas_price = tx.max_fee_per_gas();
        let receipt = Receipt { hash, block, success, gas_used: 21_000, gas_price, contract: None };
        self.receipts.insert(hash, receipt);
    }
}

impl Chain for Fake {
    async fn nonce(&self, _: Address, waiting: bool) -> Result<u64, CallError> {
        let state = self.up()?;
        let waits = state.pool.keys().next_back().map_or(state.mined, |last| last + 1);
        Ok(if waiting { waits } else { state.mined })
    }

    async fn prices(&self) -> Result<Prices, CallError> {
        Ok(self.up()?.prices)
    }

    async fn estimate(&self, _: Address, _: &Request) -> Result<u64, CallError> {
        self.up().map(|_| 21_000)
    }

    async fn call(&self, _: Address, _: &Request, block: Option<u64>) -> Result<Bytes, CallError> {
        let state = self.up()?;
        if !state.reverts {
            return Ok(Bytes::new());
        }
        assert_eq!(block, Some(state.block));
        Err(CallError::Reverted(Revert(Message { reason: "stale".to_owned() }.abi_encode().into())))
    }

    async fn anchor_of(&self, _: Address, _: Address) -> Result<Option<Anchor>, CallError> {
        Ok(None)
    }

    async fn balance(&self, _: Address) -> Result<U256, CallError> {
        Ok(U256::from(1))
    }

    async fn broadcast(&self, raw: Bytes) -> Result<(), CallError> {
        let mut state = self.up()?;
        let refuse = |words: &str| Err(CallError::Refused(words.to_owned()));
        if let Some(words) = &state.refuses {
            return refuse(words);
        }
        let tx = TxEnvelope::decode_2718_exact(&raw).unwrap();
        if tx.nonce() < state.mined {
            return refuse("nonce too low");
        }
        if let Some(old) = state.pool.get(&tx.nonce()) {
            if old.tx_hash() == tx.tx_hash() {
                return refuse("already known");
            }
            if tx.max_fee_per_gas() * 8 < old.max_fee_per_gas() * 9 {
                return refuse("replacement transaction underpriced");
            }
        }
        state.pool.insert(tx.nonce(), tx.clone());
        state.taken.push(tx);
        if state.is_fast {
            state.mine();
        }
        if state.swallows {
            return Err(CallError::Unavailable("timeout".to_owned()));
        }
        Ok(())
    }

    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, CallError> {
        let mut state = self.up()?;
        if state.late_receipts > 0 {
            state.late_receipts -= 1;
            return Ok(None);
        }
        Ok(state.receipts.get(&hash).copied())
    }
}

const CAP: u128 = 10_000;

fn settings() -> Settings {
    Settings {
        chain_id: 2048,
        style: Style::Auto,
        max_fee_per_gas: CAP,
        max_gas: 1_000_000,
        replace_after: Duration::from_millis(40),
        poll: Duration::from_millis(2),
    }
}

fn sender(change: impl FnOnce(&mut State)) -> Sender<Arc<Fake>> {
    let fake = Fake::default();
    fake.state().prices = Prices { gas_price: Some(100), ..Prices::default() };
    change(&mut fake.state());
    again(Arc::new(fake))
}

/// The sender after a restart of the process.
fn again(fake: Arc<Fake>) -> Sender<Arc<Fake>> {
    Sender::new(fake, SecretKey::from_bytes([9; 32]).unwrap(), settings())
}

fn request(byte: u8) -> Request {
    Request { to: Some(Address::repeat_byte(1)), data: vec![byte].into() }
}

impl Chain for Arc<Fake> {
    async fn nonce(&self, of: Address, waiting: bool) -> Result<u64, CallError> {
        (**self).nonce(of, waiting).await
    }
    async fn prices(&self) -> Result<Prices, CallError> {
        (**self).prices().await
    }
    async fn estimate(&self, from: Address, request: &Request) -> Result<u64, CallError> {
        (**self).estimate(from, request).await
    }
    async fn call(&self, from: Address, request: &Request, at: Option<u64>) -> Result<Bytes, CallError> {
        (**self).call(from, request, at).await
    }
    async fn anchor_of(&self, contract: Address, gateway: Address) -> Result<Option<Anchor>, CallError> {
        (**self).anchor_of(contract, gateway).await
    }
    async fn balance(&self, of: Address) -> Result<U256, CallError> {
        (**self).balance(of).await
    }
    async fn broadcast(&self, raw: Bytes) -> Result<(), CallError> {
        (**self).broadcast(raw).await
    }
    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, CallError> {
        (**self).receipt(hash).await
    }
}

#[tokio::test]
async fn both_kinds_of_transactions_are_mined() {
    let mut sender = sender(|state| state.is_fast = true);
    let Outcome::Mined(receipt) = sender.send(&request(1)).await.unwrap() else { panic!("not mined") };
    assert_eq!((receipt.block, receipt.fee()), (1, U256::from(2_100_000)));
    sender.chain().state().prices = Prices { base_fee: Some(50), tip: Some(2), gas_price: Some(52) };
    assert!(matches!(sender.send(&request(2)).await.unwrap(), Outcome::Mined(_)));
    let state = sender.chain().state();
    let [legacy, dynamic] = &state.taken[..] else { panic!("not two") };
    assert!(legacy.is_legacy() && legacy.nonce() == 0 && legacy.max_fee_per_gas() == 100);
    assert!(dynamic.is_eip1559() && dynamic.nonce() == 1);
    assert_eq!((dynamic.max_fee_per_gas(), dynamic.max_priority_fee_per_gas()), (102, Some(2)));
    assert!(state.taken.iter().all(|tx| tx.chain_id() == Some(2048) && tx.gas_limit() == 25_200));
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_with_what_is_wanted_then() {
    let mut sender = sender(|_| {});
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    sender.chain().state().is_fast = true;
    assert!(matches!(sender.send(&request(2)).await.unwrap(), Outcome::Mined(_)));
    let state = sender.chain().state();
    assert_eq!(state.taken.iter().map(Transaction::nonce).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(state.taken[1].max_fee_per_gas(), 113);
    assert_eq!(state.taken[1].input().as_ref(), [2]);
    assert_eq!(state.mined, 1);
}

#[tokio::test]
async fn fees_rise_to_the_cap_and_not_over_it() {
    let mut sender = sender(|state| state.prices.gas_price = Some(CAP - 1_000));
    for _ in 0..3 {
        assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    }
    {
        let state = sender.chain().state();
        assert_eq!(state.taken.len(), 1);
    }
    sender.chain().state().pool.clear();
    sender.chain().state().is_fast = true;
    // A node that has forgotten it gets it again.
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Mined(_)));
    assert_eq!(sender.chain().state().taken[1].max_fee_per_gas(), CAP - 1_000);

    sender.chain().state().prices.gas_price = Some(CAP + 1);
    let error = sender.send(&request(1)).await.unwrap_err();
    assert!(matches!(error, SendError::TooExpensive { cap: CAP, .. }), "{error}");
}

#[tokio::test]
async fn what_was_mined_meanwhile_is_not_sent_again() {
    let mut sender = sender(|_| {});
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    sender.chain().state().mine();
    let Outcome::Mined(receipt) = sender.send(&request(1)).await.unwrap() else { panic!("not mined") };
    assert_eq!(receipt.block, 1);
    assert_eq!(sender.chain().state().taken.len(), 1);
}

#[tokio::test]
async fn an_older_try_counts_when_it_is_mined_instead() {
    let mut sender = sender(|_| {});
    let Outcome::Waiting(first) = sender.send(&request(1)).await.unwrap() else { panic!("not waiting") };
    let old = sender.chain().state().pool[&0].clone();
    assert!(matches!(sender.send(&request(2)).await.unwrap(), Outcome::Waiting(_)));
    {
        let mut state = sender.chain().state();
        state.pool.insert(0, old);
        state.mine();
    }
    let Outcome::Mined(receipt) = sender.send(&request(2)).await.unwrap() else { panic!("not mined") };
    assert_eq!(receipt.hash, first);
}

#[tokio::test]
async fn a_lost_answer_sends_nothing_twice() {
    let mut sender = sender(|state| (state.swallows, state.is_fast) = (true, true));
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Mined(_)));
    assert_eq!(sender.chain().state().taken.len(), 1);
}

#[tokio::test]
async fn an_outage_is_waited_for() {
    let mut sender = sender(|_| {});
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    sender.chain().state().is_down = true;
    let error = sender.send(&request(1)).await.unwrap_err();
    assert!(matches!(error, SendError::Call(CallError::Unavailable(_))));
    {
        let mut state = sender.chain().state();
        state.is_down = false;
        state.mine();
    }
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Mined(_)));
    assert_eq!(sender.chain().state().taken.len(), 1);

    // The same in the middle of a wait, until the end of it.
    let chain = Arc::clone(sender.chain());
    let outage = async {
        while chain.state().pool.is_empty() {
            tokio::task::yield_now().await;
        }
        let mut state = chain.state();
        state.mine();
        state.is_down = true;
    };
    let second = request(2);
    let (outcome, ()) = tokio::join!(sender.send(&second), outage);
    assert!(matches!(outcome.unwrap(), Outcome::Waiting(_)));
    chain.state().is_down = false;
    assert!(matches!(sender.send(&request(2)).await.unwrap(), Outcome::Mined(_)));
    let state = chain.state();
    assert_eq!((state.taken.len(), state.mined), (2, 2));
}

#[tokio::test]
async fn a_restart_replaces_what_still_waits() {
    let mut first = sender(|_| {});
    assert!(matches!(first.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    let mut second = again(Arc::clone(first.chain()));
    assert!(!second.settle().await.unwrap());
    second.chain().state().is_fast = true;
    assert!(matches!(second.send(&request(2)).await.unwrap(), Outcome::Mined(_)));
    let state = second.chain().state();
    assert_eq!(state.taken.len(), 2);
    assert_eq!((state.taken[1].nonce(), state.taken[1].max_fee_per_gas()), (0, 113));
}

#[tokio::test]
async fn a_restart_waits_for_what_is_mined_soon() {
    let mut first = sender(|_| {});
    assert!(matches!(first.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    let mut second = again(Arc::clone(first.chain()));
    let chain = Arc::clone(first.chain());
    let (settled, ()) = tokio::join!(second.settle(), async { chain.state().mine() });
    assert!(settled.unwrap());
    assert_eq!(chain.nonce(second.address(), false).await, Ok(1));
}

#[tokio::test]
async fn another_user_of_the_key_is_noticed() {
    let mut sender = sender(|_| {});
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Waiting(_)));
    {
        let mut state = sender.chain().state();
        state.pool.clear();
        state.mined = 1;
    }
    assert_eq!(sender.send(&request(1)).await.unwrap(), Outcome::Dropped);
    sender.chain().state().is_fast = true;
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Mined(_)));
    assert_eq!(sender.chain().state().taken[1].nonce(), 1);
    // A node that is behind says a nonce that others know to be used.
    sender.chain().state().refuses = Some("nonce too low".to_owned());
    assert_eq!(sender.send(&request(1)).await.unwrap(), Outcome::Dropped);
}

#[tokio::test]
async fn a_receipt_may_come_late() {
    let mut sender = sender(|state| (state.is_fast, state.late_receipts) = (true, 3));
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Mined(_)));
}

#[tokio::test]
async fn a_revert_says_why() {
    let mut sender = sender(|state| (state.is_fast, state.reverts) = (true, true));
    let Outcome::Reverted(receipt, revert) = sender.send(&request(1)).await.unwrap() else {
        panic!("no revert")
    };
    assert!(!receipt.success);
    assert_eq!(revert.to_string(), "the call reverts: stale");
}

#[tokio::test]
async fn refusals_leave_no_trace() {
    let mut sender = sender(|state| state.refuses = Some("insufficient funds for gas * price".to_owned()));
    let error = sender.send(&request(1)).await.unwrap_err();
    assert!(matches!(error, SendError::Funds { .. }), "{error}");
    assert!(error.to_string().contains("send it funds"));
    sender.chain().state().refuses = Some("intrinsic gas too low".to_owned());
    let error = sender.send(&request(1)).await.unwrap_err();
    assert!(matches!(error, SendError::Call(CallError::Refused(_))), "{error}");
    {
        let mut state = sender.chain().state();
        state.refuses = None;
        state.is_fast = true;
    }
    assert!(matches!(sender.send(&request(1)).await.unwrap(), Outcome::Mined(_)));
    // Nothing was sent before, so nothing had to be outbid.
    assert_eq!(sender.chain().state().taken[0].max_fee_per_gas(), 100);
}

#[tokio::test]
async fn gas_is_limited() {
    for (limit, fine) in [(25_199, false), (25_200, true), (25_201, true)] {
        let mut sender = sender(|state| state.is_fast = true);
        sender.settings.max_gas = limit;
        assert_eq!(sender.send(&request(1)).await.is_ok(), fine, "{limit}");
    }
}

#[tokio::test]
async fn nothing_shows_the_key() {
    let sender = sender(|_| {});
    let shown = format!("{sender:?} {:?}", sender.settings);
    assert!(!shown.contains("09090909") && shown.contains(&format!("{:?}", sender.address())), "{shown}");
}
