//! Sends transactions of one key, one at a time.
//!
//! The nonce always comes from the chain and is always that of the next block: whatever waits of this key, from an
//! earlier call or an earlier life of the process, is replaced by what is sent, so that at most one of them is ever
//! mined. A call waits a bounded time. When it ends with [`Outcome::Waiting`] the caller looks again at what it wanted
//! to change, and calls again only if that still has to be done; then the fees rise.
//!
//! One key belongs to one sender: another program that sends with it at the same time takes its nonces.

mod fees;
mod pool;
mod refusal;
mod revert;
mod transaction;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use meridian_proofs::signature::SecretKey;
use thiserror::Error;
use tokio::time::Instant;

pub use fees::{Fees, Prices, Style};
pub use revert::Revert;

use refusal::Refusal;
use transaction::Signed;

use super::view::Anchor;

/// Longest pause between two looks at endpoints that do not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often in one call fees are raised because a node finds them too low: more than a thousandfold.
const MOST_RAISES: u32 = 60;

/// Transactions of one nonce that are looked after; with more the oldest is left out.
const MOST_TRIES: usize = 64;

/// Looks at a used nonce after which a transaction without a receipt counts as dropped: receipts may come a little later
/// than the nonce, or from another node.
const LOOKS: u32 = 5;

/// Why a node did not answer a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No endpoint gave an answer that can be used: try later.
    #[error("no endpoint answers: {0}")]
    Unavailable(String),
    /// The call would revert.
    #[error("{0}")]
    Reverted(Revert),
    /// A node says no.
    #[error("the node refuses: {0}")]
    Refused(String),
}

/// What a sender needs of a chain. Answers are outside bytes: an implementation bounds and checks them.
pub trait Chain: Send + Sync {
    /// Transactions of an account in blocks, which is its next nonce; with `waiting`, also those that wait.
    fn nonce(&self, of: Address, waiting: bool) -> impl Future<Output = Result<u64, CallError>> + Send;
    /// Current prices.
    fn prices(&self) -> impl Future<Output = Result<Prices, CallError>> + Send;
    /// Gas that a transaction would use.
    fn estimate(
        &self,
        from: Address,
        request: &Request,
    ) -> impl Future<Output = Result<u64, CallError>> + Send;
    /// What a call answers after a block, or after the latest.
    fn call(
        &self,
        from: Address,
        request: &Request,
        block: Option<u64>,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send;
    /// The latest anchor of a gateway's log at a contract.
    fn anchor_of(
        &self,
        contract: Address,
        gateway: Address,
    ) -> impl Future<Output = Result<Option<Anchor>, CallError>> + Send;
    /// What an account holds, in wei.
    fn balance(&self, of: Address) -> impl Future<Output = Result<U256, CallError>> + Send;
    /// Hands a signed transaction to the nodes.
    fn broadcast(&self, raw: Bytes) -> impl Future<Output = Result<(), CallError>> + Send;
    /// The receipt of a transaction in a block.
    fn receipt(&self, hash: B256) -> impl Future<Output = Result<Option<Receipt>, CallError>> + Send;
}

/// A transaction to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom it calls; nobody for a new contract.
    pub to: Option<Address>,
    /// The call, or the code that makes the contract.
    pub data: Bytes,
}

/// What a block says of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which transaction.
    pub hash: B256,
    /// The block.
    pub block: u64,
    /// Whether it did what it should; otherwise it reverted.
    pub success: bool,
    /// Gas that it used.
    pub gas_used: u64,
    /// Wei for each unit of gas.
    pub gas_price: u128,
    /// The contract that it made.
    pub contract: Option<Address>,
}

impl Receipt {
    /// What it cost in wei.
    #[must_use]
    pub fn fee(&self) -> U256 {
        U256::from(self.gas_used) * U256::from(self.gas_price)
    }
}

/// What has become of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A transaction of this sender is in a block, this one or the one that it should have replaced.
    Mined(Receipt),
    /// It is in a block and has done nothing.
    Reverted(Receipt, Revert),
    /// It is not yet in a block. A further call replaces it.
    Waiting(B256),
    /// Another transaction of the same key took its nonce.
    Dropped,
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The chain did not answer, or would not take the call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The chain's prices are over the configured cap.
    #[error("gas costs more than the {cap} wei that are allowed for a unit of it: {prices:?}")]
    TooExpensive {
        /// The cap.
        cap: u128,
        /// What the node says.
        prices: Prices,
    },
    /// The call uses more gas than is allowed.
    #[error("the transaction would use {gas} gas, more than the {limit} that are allowed")]
    TooMuchGas {
        /// What it would use.
        gas: u64,
        /// The limit.
        limit: u64,
    },
    /// The account cannot pay.
    #[error("the account {account} cannot pay for the transaction: send it funds ({message})")]
    Funds {
        /// Whose key it is.
        account: Address,
        /// What the node says.
        message: String,
    },
}

/// How to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The chain that signatures are for.
    pub chain_id: u64,
    /// Which transactions.
    pub style: Style,
    /// Most wei for a unit of gas.
    pub max_fee_per_gas: u128,
    /// Most gas of a transaction.
    pub max_gas: u64,
    /// After this time without a block a transaction can be replaced.
    pub replace_after: Duration,
    /// Time between two looks for a receipt.
    pub poll: Duration,
}

/// Sends transactions of one key.
pub struct Sender<C> {
    chain: C,
    key: Arc<SecretKey>,
    settings: Settings,
    sent: Option<Sent>,
}

/// What was sent with a nonce.
struct Sent {
    nonce: u64,
    /// Each transaction with what it asks for; any of them may be the one that is mined.
    tries: Vec<(B256, Request)>,
    last: Signed,
}

impl<C> fmt::Debug for Sender<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl<C> Sender<C> {
    /// A sender of a key's transactions.
    #[must_use]
    pub fn new(chain: C, key: SecretKey, settings: Settings) -> Self {
        Self { chain, key: Arc::new(key), settings, sent: None }
    }

    /// The account that pays.
    #[must_use]
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// The chain that it sends to.
    #[must_use]
    pub fn chain(&self) -> &C {
        &self.chain
    }
}

impl<C: Chain> Sender<C> {
    /// Waits until no transaction waits that was sent before with this key, at most for the time after which it may be
    /// replaced. Whether none waits then.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn settle(&mut self) -> Result<bool, CallError> {
        let deadline = Instant::now() + self.settings.replace_after;
        loop {
            let next = self.chain.nonce(self.address(), false).await?;
            let waiting = self.chain.nonce(self.address(), true).await?;
            if waiting <= next || Instant::now() >= deadline {
                return Ok(waiting <= next);
            }
            tokio::time::sleep(self.settings.poll).await;
        }
    }

    /// What the call would answer now.
    ///
    /// # Errors
    /// Also when it would revert.
    pub async fn simulate(&self, request: &Request) -> Result<Bytes, CallError> {
        self.chain.call(self.address(), request, None).await
    }

    /// What a transaction of so much gas costs at most at current prices, in wei.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn cost(&self, gas: u64) -> Result<Option<U256>, CallError> {
        let prices = self.chain.prices().await?;
        let fees = Fees::at(&prices, self.settings.style, u128::MAX);
        Ok(fees.map(|fees| U256::from(gas) * U256::from(fees.most())))
    }

    /// Sends a transaction, in place of whatever waits, and waits for its block for a while.
    ///
    /// When the transaction of the call before has found its block meanwhile, nothing is sent and its outcome given.
    ///
    /// # Errors
    /// Nothing new was sent; see [`SendError`].
    pub async fn send(&mut self, request: &Request) -> Result<Outcome, SendError> {
        let nonce = self.chain.nonce(self.address(), false).await?;
        if self.sent.as_ref().is_some_and(|sent| sent.nonce < nonce) {
            return Ok(self.conclude().await?);
        }
        let prices = self.chain.prices().await?;
        let estimate = self.chain.estimate(self.address(), request).await?;
        // The state may change until the block: a fifth more.
        let gas = estimate.saturating_add(estimate / 5);
        let Settings { max_gas: limit, max_fee_per_gas: cap, style, .. } = self.settings;
        if gas > limit {
            return Err(SendError::TooMuchGas { gas, limit });
        }
        let fees = Fees::at(&prices, style, cap).ok_or(SendError::TooExpensive { cap, prices })?;
        let (key, chain_id) = (Arc::clone(&self.key), self.settings.chain_id);
        let sign = |fees| transaction::sign(&key, chain_id, nonce, gas, fees, request);
        let replaced = self.sent.as_ref().filter(|sent| sent.nonce == nonce).map(|sent| sent.last.clone());
        let mut next = match &replaced {
            None => sign(fees),
            // At the cap there is nothing to raise, but the nodes may have forgotten it.
            Some(last) => fees.replacing(last.fees, cap).map_or_else(|| last.clone(), sign),
        };
        for _ in 0..MOST_RAISES {
            self.note(nonce, next.clone(), request);
            match self.chain.broadcast(next.raw.clone()).await {
                Ok(()) => {
                    tracing::info!(hash = %next.hash, nonce, gas, fees = ?next.fees, "transaction sent");
                    return Ok(self.wait(true).await?);
                }
                // It may have arrived all the same.
                Err(CallError::Unavailable(_)) => return Ok(self.wait(false).await?),
                Err(CallError::Reverted(revert)) => {
                    self.forget(next.hash, replaced);
                    return Err(CallError::Reverted(revert).into());
                }
                Err(CallError::Refused(message)) => match Refusal::of(&message) {
                    Refusal::Known => return Ok(self.wait(true).await?),
                    Refusal::NonceUsed => return Ok(self.conclude().await?),
                    Refusal::Underpriced => match fees.replacing(next.fees, cap) {
                        Some(fees) => next = sign(fees),
                        None => break,
                    },
                    refusal => {
                        self.forget(next.hash, replaced);
                        let account = self.address();
                        return Err(match refusal {
                            Refusal::Funds => SendError::Funds { account, message },
                            _ => CallError::Refused(message).into(),
                        });
                    }
                },
            }
        }
        tracing::warn!(fees = ?next.fees, cap, "the nodes ask for higher fees than are allowed");
        Ok(self.wait(true).await?)
    }

    /// Sends a transaction, and again with higher fees until it is in a block.
    ///
    /// # Errors
    /// See [`Sender::send`]; endpoints that do not answer are waited for up to `patience`.
    pub async fn send_until_mined(
        &mut self,
        request: &Request,
        patience: Duration,
        mut told: impl FnMut(&str),
    ) -> Result<Outcome, SendError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.send(request).await {
                Ok(Outcome::Waiting(hash)) if Instant::now() < deadline => {
                    told(&format!("{hash} is not in a block yet: it is sent again with a higher fee"));
                }
                Err(SendError::Call(CallError::Unavailable(why))) if Instant::now() < deadline => {
                    told(&format!("no endpoint answers, trying again: {why}"));
                    tokio::time::sleep(self.settings.poll.max(Duration::from_secs(1))).await;
                }
                done => return done,
            }
        }
    }

    /// Keeps a transaction before it goes out: it may arrive even when no answer comes back.
    fn note(&mut self, nonce: u64, signed: Signed, request: &Request) {
        let entry = (signed.hash, request.clone());
        match &mut self.sent {
            Some(sent) if sent.nonce == nonce => {
                if sent.tries.iter().all(|(hash, _)| *hash != signed.hash) {
                    sent.tries.push(entry);
                }
                if sent.tries.len() > MOST_TRIES {
                    sent.tries.remove(0);
                }
                sent.last = signed;
            }
            _ => self.sent = Some(Sent { nonce, tries: vec![entry], last: signed }),
        }
    }

    /// Takes back a transaction that was refused.
    fn forget(&mut self, hash: B256, replaced: Option<Signed>) {
        match (&mut self.sent, replaced) {
            (Some(sent), Some(last)) => {
                if last.hash != hash {
                    sent.tries.retain(|(known, _)| *known != hash);
                }
                sent.last = last;
            }
            (sent, _) => *sent = None,
        }
    }

    /// Looks for a block until the transaction may be replaced; sends it again where that has failed.
    async fn wait(&mut self, mut arrived: bool) -> Result<Outcome, CallError> {
        let deadline = Instant::now() + self.settings.replace_after;
        let mut pause = self.settings.poll;
        loop {
            let Some(sent) = &self.sent else { return Ok(Outcome::Dropped) };
            let (nonce, last) = (sent.nonce, sent.last.clone());
            if Instant::now() >= deadline {
                return Ok(Outcome::Waiting(last.hash));
            }
            tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            if !arrived {
                arrived = match self.chain.broadcast(last.raw).await {
                    Ok(()) => true,
                    Err(CallError::Refused(message)) => {
                        matches!(Refusal::of(&message), Refusal::Known | Refusal::NonceUsed)
                    }
                    Err(_) => false,
                };
            }
            match self.look(nonce).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => pause = self.settings.poll,
                Err(CallError::Unavailable(why)) => {
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                    tracing::debug!(why, "no endpoint answers while a transaction waits");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What has become of the transactions of a nonce, if that is decided.
    async fn look(&mut self, nonce: u64) -> Result<Option<Outcome>, CallError> {
        if let Some(outcome) = self.receipt().await? {
            return Ok(Some(outcome));
        }
        if self.chain.nonce(self.address(), false).await? <= nonce {
            return Ok(None);
        }
        self.conclude().await.map(Some)
    }

    /// The nonce is used: by one of ours, or by another.
    async fn conclude(&mut self) -> Result<Outcome, CallError> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(self.settings.poll).await;
            }
            if let Some(outcome) = self.receipt().await? {
                return Ok(outcome);
            }
        }
        self.sent = None;
        Ok(Outcome::Dropped)
    }

    /// The outcome of whichever of the transactions of the nonce is in a block.
    async fn receipt(&mut self) -> Result<Option<Outcome>, CallError> {
        let tries = self.sent.as_ref().map(|sent| sent.tries.clone()).unwrap_or_default();
        for (hash, request) in tries.into_iter().rev() {
            let Some(receipt) = self.chain.receipt(hash).await? else { continue };
            let outcome = if receipt.success {
                Outcome::Mined(receipt)
            } else {
                Outcome::Reverted(receipt, self.reason(&receipt, &request).await)
            };
            self.sent = None;
            return Ok(Some(outcome));
        }
        Ok(None)
    }

    /// Why a transaction reverted: receipts do not say it, so it is called again after its block.
    async fn reason(&self, receipt: &Receipt, request: &Request) -> Revert {
        match self.chain.call(self.address(), request, Some(receipt.block)).await {
            Err(CallError::Reverted(revert)) => revert,
            _ => Revert::default(),
        }
    }
}

#[cfg(test)]
mod tests;
