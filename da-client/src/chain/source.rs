//! Where committees come from: a file or the chain.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian_proofs::Address;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::Committee;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::history::{History, Place};
use super::rpc::{ChainError, Fault, Pool};
use super::settled::Settled;
use super::view::View;

/// Polls after which a chain that stays below what was settled is believed: what was read before was a lie, or the chain
/// has been reset.
const PATIENCE: u32 = 30;

/// Keeps a view up to date.
pub trait CommitteeSource: Send + Sync {
    /// The view as it is now and as it changes.
    fn view(&self) -> watch::Receiver<Arc<View>>;
}

/// A committee file: the view never changes.
pub struct FixedSource(watch::Sender<Arc<View>>);

impl FixedSource {
    /// The source over one committee.
    #[must_use]
    pub fn new(committee: Arc<Committee>) -> Self {
        Self(watch::Sender::new(Arc::new(View::fixed(committee))))
    }
}

impl CommitteeSource for FixedSource {
    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.0.subscribe()
    }
}

/// What to read of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The contract.
    pub contract: Address,
    /// Which blocks count.
    pub settled: Settled,
    /// First block that can have an event of the contract; looked for when it is not known.
    pub from_block: Option<u64>,
}

/// Why there is no view of the chain.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SourceError {
    /// The endpoints do not answer rightly.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// As many endpoints contradict what one says as confirm it.
    #[error("json-rpc endpoints contradict each other: {0}")]
    Disputed(String),
    /// The contract has no committee that can be worked with.
    #[error("the contract has no committee yet that can be worked with")]
    NoCommittee,
}

impl SourceError {
    /// Whether no wait can help.
    fn is_final(&self) -> bool {
        use ChainError::{NoEndpoint, Setup, WrongChain};
        matches!(self, Self::Chain(NoEndpoint | Setup(_) | WrongChain { .. }))
    }
}

/// How a source fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// When the chain was last read.
    pub read_at: Instant,
    /// Why it cannot be read now.
    pub error: Option<SourceError>,
}

impl Health {
    /// Time since the chain was last read.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.read_at.elapsed()
    }
}

/// The contract: a task reads it again and again, and publishes what is settled. While no endpoint answers, the last view
/// stays. The task ends with the source.
pub struct ChainSource {
    view: watch::Sender<Arc<View>>,
    health: Arc<Mutex<Health>>,
    task: JoinHandle<()>,
}

impl ChainSource {
    /// Reads the chain for the first time, however long that takes, and then every `poll`.
    ///
    /// # Errors
    /// What no wait can help: no endpoint, or all are of another chain.
    pub async fn connect(pool: Pool, reading: Reading, poll: Duration) -> Result<Self, SourceError> {
        let mut poller = Poller::new(pool, reading);
        let mut last = None;
        let first = loop {
            match poller.poll().await {
                Ok(view) => break view,
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    if last.as_ref() != Some(&error) {
                        tracing::warn!(%error, "waiting for the chain");
                    }
                    last = Some(error);
                }
            }
            tokio::time::sleep(poll).await;
        };
        let view = watch::Sender::new(Arc::new(first));
        let health = Arc::new(Mutex::new(Health { read_at: Instant::now(), error: None }));
        let task = tokio::spawn(follow(poller, view.clone(), Arc::clone(&health), poll));
        Ok(Self { view, health, task })
    }

    /// How it fares.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CommitteeSource for ChainSource {
    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }
}

impl Drop for ChainSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the chain once.
///
/// # Errors
/// See [`SourceError`].
pub async fn read(pool: Pool, reading: Reading) -> Result<View, SourceError> {
    Poller::new(pool, reading).poll().await
}

/// Reads the chain again and again.
async fn follow(
    mut poller: Poller,
    view: watch::Sender<Arc<View>>,
    health: Arc<Mutex<Health>>,
    poll: Duration,
) {
    loop {
        tokio::time::sleep(poll).await;
        let outcome = poller.poll().await;
        let mut health = health.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(read) => {
                if health.error.take().is_some() {
                    tracing::info!(after_s = health.age().as_secs(), "the chain is read again");
                }
                health.read_at = Instant::now();
                view.send_if_modified(|known| {
                    let is_new = **known != read;
                    if is_new {
                        *known = Arc::new(read);
                    }
                    is_new
                });
            }
            Err(error) => {
                if health.error.as_ref() != Some(&error) {
                    tracing::warn!(%error, age_s = health.age().as_secs(), "the chain cannot be read");
                }
                health.error = Some(error);
            }
        }
    }
}

/// Reads as far as endpoints agree.
struct Poller {
    pool: Pool,
    settled: Settled,
    history: tokio::sync::Mutex<History>,
    /// The highest block up to which was read.
    highest: u64,
    /// Successive polls in which the chain had not got there.
    behind: u32,
}

impl Poller {
    fn new(pool: Pool, reading: Reading) -> Self {
        let Reading { contract, settled, from_block } = reading;
        let domain = Domain { chain_id: pool.chain_id(), verifying_contract: contract };
        let history = History::new(Place { domain, settled, from_block });
        Self { pool, settled, history: tokio::sync::Mutex::new(history), highest: 0, behind: 0 }
    }

    async fn poll(&mut self) -> Result<View, SourceError> {
        let settled = self.settled;
        let head = |provider| async move { Ok(settled.block(&provider).await?.number()) };
        // Nobody could contradict one that is ahead of all others.
        let limit = self.pool.reached(|number| *number, head).await?;
        self.highest = self.highest.max(self.history.get_mut().reached());
        self.behind = if limit < self.highest { self.behind + 1 } else { 0 };
        if self.behind > PATIENCE {
            let highest = self.highest;
            tracing::error!(
                settled = limit,
                highest,
                "the chain does not get to where it is said to have been"
            );
            self.history.get_mut().forget();
            (self.highest, self.behind) = (0, 0);
        }
        while !self.advance(limit.max(self.highest)).await? {}
        self.history.get_mut().view().ok_or(SourceError::NoCommittee)
    }

    /// Reads on, and believes it if endpoints agree. Says whether all is read.
    async fn advance(&mut self, limit: u64) -> Result<bool, SourceError> {
        let history = &self.history;
        let ask = |provider| async move { history.lock().await.advance(&provider, limit).await };
        let is_done = self.pool.ask(ask).await?;
        let history = self.history.get_mut();
        if self.pool.len() > 1 {
            let known = &*history;
            let words = self.pool.ask_each(|provider| async move { known.confirm(&provider).await }).await;
            let confirm = words.iter().filter(|(_, word)| word.is_ok()).count();
            let contradict = words.iter().filter_map(|(endpoint, word)| match word {
                Err(fault @ Fault::Contradicts(_)) => Some(format!("{endpoint}: {fault}")),
                _ => None,
            });
            let contradict: Vec<_> = contradict.collect();
            if contradict.len() >= confirm.max(1) {
                history.forget();
                self.pool.pass_over();
                return Err(SourceError::Disputed(contradict.join("; ")));
            }
            if !contradict.is_empty() {
                let words = contradict.join("; ");
                tracing::error!(words, "a json-rpc endpoint contradicts the others");
            }
        }
        Ok(is_done)
    }
}

#[cfg(test)]
mod tests;
