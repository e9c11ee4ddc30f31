//! Brings the gateway's log to the chain (protocol sections 5.6, 5.7).
//!
//! The contract is the only memory of what is anchored: every round begins with reading it and the nonce, so that a
//! restart, an outage, a reorganisation and somebody else who anchors all come to the same. Nothing is paid for before
//! the contract has taken it in a simulation. An anchor counts in what is told to others once its block is settled.

mod plan;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use alloy::sol_types::SolCall;
use anyhow::Context;
use meridian_client::chain::sender::{CallError, Chain, Outcome, Request, SendError, Sender};
use meridian_client::chain::view::{Anchor, View};
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, Domain};
use meridian_proofs::signature::{SIGNATURE_LEN, SecretKey};
use meridian_proofs::{Address, B256};
use meridian_proto::contract::Meridian;
use meridian_proto::convert::AnchorStatus;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

pub use settings::AnchorSettings;

use crate::clock::Clock;
use crate::metrics::{self, KeyValue};
use crate::store::log::LogStore;

/// Longest pause after a round that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Successive rounds that may bring nothing before that is a failure.
const IDLE: u32 = 2;
/// How often at least the age of the anchor is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Gas of an anchor before one was sent, for the balance alarm.
const FIRST_GAS: u64 = 300_000;

/// Where the task reads what there is to be anchored.
pub struct Logbook {
    /// Whose log it is.
    pub gateway: Address,
    /// The log.
    pub log: LogStore,
    /// The latest certified checkpoint.
    pub certified: watch::Receiver<Option<Arc<CosignedCheckpoint>>>,
    /// The closings of earlier epochs, ascending. Blocks.
    pub closings: Arc<dyn Fn() -> anyhow::Result<Vec<CosignedCheckpoint>> + Send + Sync>,
    /// Committees, and the anchors that are settled.
    pub view: watch::Receiver<Arc<View>>,
    /// The clock of the ages.
    pub clock: Clock,
}

/// How anchoring goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The account that pays; nobody when this gateway does not anchor.
    pub account: Option<Address>,
    /// Its latest transaction that is in a block.
    pub transaction: Option<B256>,
    /// What it holds in wei.
    pub balance: U256,
    /// Why the last round failed; empty when it did not.
    pub error: String,
}

/// How a log stands on the chain; nothing where there is no chain.
pub(super) fn status(view: &View, gateway: &Address, report: &Report) -> Option<AnchorStatus> {
    view.head?;
    let status = AnchorStatus {
        transaction: report.transaction,
        last_error: report.error.clone(),
        ..AnchorStatus::default()
    };
    Some(match view.latest_anchor(gateway) {
        None => status,
        Some(&Anchor { epoch, size, timestamp, block, .. }) => {
            AnchorStatus { size, epoch, timestamp, block, ..status }
        }
    })
}

/// Why a round failed.
#[derive(Debug, Error)]
enum RoundError {
    #[error(transparent)]
    Chain(#[from] CallError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(
        "the log has forked: the {size} entries that are anchored are not its own, or it has lost some of them"
    )]
    Forked { size: u64 },
    #[error("{0}")]
    Wait(&'static str),
    #[error(
        "no anchor gets into a block: it waits, is dropped, or is refused as if somebody else were faster"
    )]
    Idle,
    #[error("{0:#}")]
    Log(anyhow::Error),
}

/// What comes after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// All is anchored.
    Rest,
    /// The chain has changed: look again at once.
    Again,
    /// Somebody else was faster, or a transaction waits: look again soon.
    Soon,
}

/// A checkpoint with what the contract asks for beside it.
struct Call {
    checkpoint: Checkpoint,
    request: Request,
}

/// The task.
struct Task<C> {
    settings: AnchorSettings,
    sender: Sender<C>,
    book: Logbook,
    domain: Domain,
    report: watch::Sender<Report>,
    /// What the contract had at the last look.
    latest: Option<Anchor>,
    /// Epoch of the certified checkpoint at the last look.
    epoch: u64,
    /// Gas of the last anchor.
    gas: u64,
    is_low: bool,
    failures: u32,
    /// Successive rounds that brought nothing.
    idle: u32,
}

/// Anchors the log until it is dropped. `domain` names chain and contract.
pub async fn run<C: Chain>(
    settings: AnchorSettings,
    chain: C,
    key: SecretKey,
    domain: Domain,
    book: Logbook,
    report: watch::Sender<Report>,
) {
    let sender = Sender::new(chain, key, settings.sending(domain.chain_id));
    let account = sender.address();
    tracing::info!(%account, contract = %domain.verifying_contract, chain_id = domain.chain_id, "anchoring");
    report.send_modify(|report| report.account = Some(account));
    let task = Task {
        settings,
        sender,
        book,
        domain,
        report,
        latest: None,
        epoch: 0,
        gas: FIRST_GAS,
        is_low: false,
        failures: 0,
        idle: 0,
    };
    task.run().await;
}

impl<C: Chain> Task<C> {
    async fn run(mut self) {
        let mut is_settled = false;
        // The next round; earlier than `not_before` it never is.
        let (mut due, mut not_before) = (Instant::now(), Instant::now());
        loop {
            self.tell();
            if Instant::now() < not_before || (Instant::now() < due && !self.is_urgent()) {
                let at = if self.is_urgent() { not_before } else { due.max(not_before) };
                self.wake(at.min(Instant::now() + TELL_EVERY)).await;
                continue;
            }
            if !is_settled {
                // What an earlier life of the process sent may still get into a block.
                is_settled = self.sender.settle().await.is_ok();
            }
            let before = self.reached();
            let outcome = self.round().await;
            let now = Instant::now();
            (due, not_before) = match outcome {
                Ok(next) => {
                    let pause = self.went(next, before);
                    match next {
                        Next::Rest => (now + self.settings.interval(), now + self.settings.poll()),
                        // It has waited for a block long enough.
                        Next::Again => (now, now),
                        Next::Soon => (now, now + pause),
                    }
                }
                Err(error) => {
                    let pause = self.failed(&error);
                    (now + pause, now + pause)
                }
            };
        }
    }

    /// Sleeps until a moment or the next certified checkpoint.
    async fn wake(&mut self, at: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            changed = self.book.certified.changed() => if changed.is_err() {
                // The gateway is going; so will the task.
                tokio::time::sleep_until(at).await;
            }
        }
    }

    fn certified(&self) -> Option<Arc<CosignedCheckpoint>> {
        self.book.certified.borrow().clone()
    }

    /// Entries that are certified and not on the chain.
    fn waiting(&self) -> u64 {
        let certified = self.certified().map_or(0, |cosigned| cosigned.signed.checkpoint.size);
        certified.saturating_sub(self.latest.map_or(0, |anchor| anchor.size))
    }

    /// Whether an anchor is wanted before the interval is over: enough entries wait, or an epoch has to be closed.
    fn is_urgent(&self) -> bool {
        let (waiting, many) = (self.waiting(), self.settings.entries);
        let epoch = self.certified().map_or(0, |cosigned| cosigned.signed.checkpoint.epoch);
        let is_past = || self.book.view.borrow().is_succeeded(epoch, self.book.clock.now());
        (many > 0 && waiting >= many) || (waiting > 0 && (epoch > self.epoch || is_past()))
    }

    /// Looks at the chain and brings it one step forward.
    async fn round(&mut self) -> Result<Next, RoundError> {
        let anchored = self.anchored().await?;
        if let Some(anchor) = &anchored {
            self.compare(anchor).await.inspect_err(|_| count("forked"))?;
        }
        self.look_at_funds().await?;
        let certified = self.certified();
        self.epoch = certified.as_ref().map_or(0, |cosigned| cosigned.signed.checkpoint.epoch);
        let closings = Arc::clone(&self.book.closings);
        let closings = blocking(move || closings()).await?;
        let Some(next) = plan::next(anchored.as_ref(), &closings, certified.as_deref()) else {
            return Ok(Next::Rest);
        };
        let call = self.call(anchored.as_ref(), next).await?;
        match self.sender.simulate(&call.request).await {
            Ok(_) => {}
            // Somebody else was faster.
            Err(CallError::Reverted(revert)) if revert.is::<Meridian::Stale>() => return Ok(Next::Soon),
            Err(CallError::Reverted(revert)) => {
                count("refused");
                return Err(CallError::Reverted(revert).into());
            }
            Err(error) => return Err(error.into()),
        }
        let outcome = self.sender.send(&call.request).await.inspect_err(|_| count("failed"))?;
        self.note(&outcome, &call.checkpoint);
        match outcome {
            // The next look says what is on the chain.
            Outcome::Waiting(_) => Ok(Next::Again),
            Outcome::Dropped => Ok(Next::Soon),
            Outcome::Mined(_) | Outcome::Reverted(..) => {
                self.anchored().await?;
                match outcome {
                    _ if self.reached() >= (self.epoch, call.checkpoint.size) => Ok(Next::Rest),
                    // It was paid for: the next try waits, longer each time.
                    Outcome::Reverted(_, revert) => Err(CallError::Reverted(revert).into()),
                    _ => Ok(Next::Soon),
                }
            }
        }
    }

    /// What the contract has of this log.
    async fn anchored(&mut self) -> Result<Option<Anchor>, RoundError> {
        let (contract, gateway) = (self.domain.verifying_contract, self.book.gateway);
        let anchored = self.sender.chain().anchor_of(contract, gateway).await?;
        let size = anchored.map_or(0, |anchor| anchor.size);
        let before = self.latest.map_or(0, |anchor| anchor.size);
        if size < before {
            tracing::warn!(size, before, "an anchor has gone from the chain: it is sent again");
            count("vanished");
        }
        self.latest = anchored;
        Ok(anchored)
    }

    /// Makes sure that what is anchored is the beginning of this log: the contract would refuse anything else.
    async fn compare(&self, anchor: &Anchor) -> Result<(), RoundError> {
        let (log, gateway, size) = (self.book.log.clone(), self.book.gateway, anchor.size);
        let root = blocking(move || match log.range(&gateway)?.size() >= size {
            true => Ok(Some(log.root_at(&gateway, size)?)),
            false => Ok(None),
        });
        if root.await? == Some(anchor.root) { Ok(()) } else { Err(RoundError::Forked { size }) }
    }

    /// The call that anchors a checkpoint after what is anchored.
    async fn call(
        &self,
        anchored: Option<&Anchor>,
        cosigned: &CosignedCheckpoint,
    ) -> Result<Call, RoundError> {
        let checkpoint = cosigned.signed.checkpoint;
        let committee = self.book.view.borrow().epochs.committee(checkpoint.epoch).cloned();
        let committee =
            committee.ok_or(RoundError::Wait("the chain does not tell the checkpoint's epoch yet"))?;
        let members = committee.members().context("the committee is too large").map_err(RoundError::Log)?;
        let signers =
            cosigned.signers(&self.domain).context("a stored cosignature").map_err(RoundError::Log)?;
        let places = plan::smallest_quorum(&committee, &signers)
            .ok_or(RoundError::Wait("the checkpoint has no quorum of its epoch's seats"))?;
        let mut signatures = Vec::with_capacity((1 + places.len()) * SIGNATURE_LEN);
        signatures.extend_from_slice(cosigned.signed.signature.as_bytes());
        for place in places {
            signatures.extend_from_slice(cosigned.cosignatures[place].as_bytes());
        }
        let (log, gateway) = (self.book.log.clone(), self.book.gateway);
        let (old, new) = (anchored.map_or(0, |anchor| anchor.size), checkpoint.size);
        let consistency = blocking(move || Ok(log.consistency(&gateway, old, new)?)).await?;
        let call = Meridian::anchorCall {
            checkpoint: (&checkpoint).into(),
            signatures: signatures.into(),
            members: members.into(),
            consistency,
        };
        let request = Request { to: Some(self.domain.verifying_contract), data: call.abi_encode().into() };
        Ok(Call { checkpoint, request })
    }

    /// Notes what has become of a transaction.
    fn note(&mut self, outcome: &Outcome, checkpoint: &Checkpoint) {
        let (epoch, size) = (checkpoint.epoch, checkpoint.size);
        let receipt = match outcome {
            Outcome::Mined(receipt) => {
                count("mined");
                let (hash, block, gas) = (receipt.hash, receipt.block, receipt.gas_used);
                tracing::info!(%hash, block, gas, fee_wei = %receipt.fee(), epoch, size, "anchored");
                self.gas = gas;
                receipt
            }
            Outcome::Reverted(receipt, why) => {
                count("reverted");
                let (hash, block) = (receipt.hash, receipt.block);
                tracing::warn!(%hash, block, %why, epoch, size, "an anchor reverted");
                receipt
            }
            Outcome::Waiting(hash) => {
                count("waiting");
                tracing::warn!(%hash, epoch, size, "an anchor is in no block yet and may be replaced");
                return;
            }
            Outcome::Dropped => {
                count("dropped");
                tracing::warn!(
                    epoch,
                    size,
                    "another transaction of the anchoring key took the nonce of an anchor"
                );
                return;
            }
        };
        metrics::get().anchor_gas.add(receipt.gas_used, &[]);
        metrics::get().anchor_fees.add(wei(receipt.fee()), &[]);
        self.report.send_modify(|report| report.transaction = Some(receipt.hash));
    }

    /// Looks at what the account holds, and raises the alarm when it is low.
    async fn look_at_funds(&mut self) -> Result<(), RoundError> {
        let account = self.sender.address();
        let balance = self.sender.chain().balance(account).await?;
        self.report.send_modify(|report| report.balance = balance);
        metrics::get().anchor_balance.record(wei(balance), &[]);
        let Some(cost) = self.sender.cost(self.gas).await?.filter(|cost| !cost.is_zero()) else {
            return Ok(());
        };
        let anchors = u64::try_from(balance / cost).unwrap_or(u64::MAX);
        metrics::get().anchor_funds.record(anchors, &[]);
        let is_low = anchors < self.settings.low_balance;
        if is_low && !self.is_low {
            tracing::warn!(%account, balance_wei = %balance, anchors, "the anchoring account is low: send it funds");
        }
        self.is_low = is_low;
        Ok(())
    }

    /// Shows how far the settled anchor is behind.
    fn tell(&self) {
        let settled = self.book.view.borrow().latest_anchor(&self.book.gateway).copied();
        let certified = self.certified().map_or(0, |cosigned| cosigned.signed.checkpoint.size);
        let size = settled.map_or(0, |anchor| anchor.size);
        metrics::get().anchored_size.record(size, &[]);
        metrics::get().anchor_waiting.record(certified.saturating_sub(size), &[]);
        if let Some(anchor) = settled {
            let age = self.book.clock.now().saturating_sub(anchor.timestamp);
            metrics::get().anchor_age.record(age, &[]);
        }
    }

    /// Epoch and size of what was on the chain at the last look.
    fn reached(&self) -> (u64, u64) {
        self.latest.map_or((0, 0), |anchor| (anchor.epoch, anchor.size))
    }

    /// Notes a round without an error, and says how long to wait before the next: it may have brought nothing all the
    /// same.
    fn went(&mut self, next: Next, before: (u64, u64)) -> Duration {
        if next == Next::Rest || self.reached() > before {
            self.idle = 0;
            self.recovered();
        } else {
            self.idle = self.idle.saturating_add(1);
        }
        if self.idle > IDLE { self.failed(&RoundError::Idle) } else { self.settings.poll() }
    }

    fn recovered(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "anchoring goes on");
            self.failures = 0;
            self.report.send_modify(|report| report.error.clear());
        }
        metrics::get().anchor_failures.record(0, &[]);
    }

    /// Notes a failure and says how long to wait.
    fn failed(&mut self, error: &RoundError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let forked = matches!(error, RoundError::Forked { .. });
        let text = error.to_string();
        let is_news = self.report.borrow().error != text;
        if forked {
            tracing::error!(error = text, "the log cannot be anchored any more");
        } else if is_news {
            tracing::warn!(error = text, "the log cannot be anchored");
        } else {
            tracing::debug!(error = text, failures = self.failures, "the log cannot be anchored");
        }
        self.report.send_modify(|report| report.error = text);
        metrics::get().anchor_failures.record(self.failures.into(), &[]);
        let pause = self.settings.poll().saturating_mul(1 << self.failures.min(10));
        if forked { LONGEST_PAUSE } else { pause.min(LONGEST_PAUSE) }
    }
}

/// Reads the store off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, RoundError> {
    let read = tokio::task::spawn_blocking(work).await.context("a call to the store failed");
    read.and_then(|read| read).map_err(RoundError::Log)
}

/// Counts an anchor by how it went.
fn count(result: &'static str) {
    metrics::get().anchor_transactions.add(1, &[KeyValue::new("result", result)]);
}

/// Wei as a metric, which need not be exact.
fn wei(amount: U256) -> f64 {
    f64::from(amount)
}
