//! Where committees come from: a file or the chain.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::StreamExt;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::Committee;
use meridian_proofs::{Address, B256};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::contract::epoch_of;
use super::history::{History, Place};
use super::rpc::{Attempt, ChainError, Fault, Pool, Said, repeats, second};
use super::settled::Settled;
use super::view::View;
use crate::submit::unix_now;

/// Polls after which a chain that stays below what was settled is believed: what was read before was a lie, or the chain
/// has been reset.
const PATIENCE: u32 = 30;

/// How long an endpoint may read before the next one is tried, and how long the others may take to confirm it.
const SLOW: Duration = Duration::from_secs(60);

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

/// The contract: a task reads it again and again, and publishes what is settled and cannot be cancelled. While no endpoint
/// answers, the last view stays. The task ends with the source.
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
            match poller.poll(true).await {
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

/// Reads the chain once: also epochs that may still be cancelled.
///
/// # Errors
/// See [`SourceError`].
pub async fn read(pool: Pool, reading: Reading) -> Result<View, SourceError> {
    Poller::new(pool, reading).poll(false).await
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
        let outcome = poller.poll(true).await;
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
    /// The last history of which all was agreed on.
    agreed: History,
    /// The highest block up to which was read.
    highest: u64,
    /// Successive polls in which the chain had not got there.
    behind: u32,
    /// The last epoch that began on a chain that made no blocks: number, activation and hash of the members.
    stands: Option<(u64, u64, B256)>,
    clock: fn() -> u64,
    /// How long an endpoint may read in a poll before the next one goes on.
    lap: Duration,
    /// How long it has.
    reading: Duration,
}

impl Poller {
    fn new(pool: Pool, reading: Reading) -> Self {
        let Reading { contract, settled, from_block } = reading;
        let domain = Domain { chain_id: pool.chain_id(), verifying_contract: contract };
        let agreed = History::new(Place { domain, settled, from_block });
        let history = tokio::sync::Mutex::new(agreed.clone());
        Self {
            pool,
            settled,
            history,
            agreed,
            highest: 0,
            behind: 0,
            stands: None,
            clock: unix_now,
            lap: SLOW,
            reading: Duration::ZERO,
        }
    }

    /// Reads the chain; with `certain` without what may still be taken back.
    async fn poll(&mut self, certain: bool) -> Result<View, SourceError> {
        let mut limit = self.limit().await?;
        self.reading = Duration::ZERO;
        loop {
            let is_done = self.advance(limit).await?;
            let takes_long = self.reading > self.lap;
            if takes_long {
                // Another endpoint may be faster, or give more at once.
                self.pool.pass_over();
                self.reading = Duration::ZERO;
                let history = self.history.get_mut();
                history.widen();
                tracing::warn!(block = history.reached(), limit, "reading the chain takes long");
            }
            if is_done {
                break;
            }
            if takes_long {
                // What was said of how far it goes may have been a lie.
                limit = limit.min(self.limit().await?);
            }
        }
        let stands = self.stands().await;
        self.history.get_mut().view(certain, stands).ok_or(SourceError::NoCommittee)
    }

    /// Whether an epoch that the settled block does not make certain has begun.
    async fn stands(&mut self) -> bool {
        let history = self.history.get_mut();
        let Some(doubtful) = history.doubtful((self.clock)()) else { return false };
        if self.stands == Some(doubtful) {
            return true;
        }
        let (epoch, activation, members_hash) = doubtful;
        let contract = history.contract();
        let ask = |provider| async move {
            let record = epoch_of(&provider, contract, epoch, None).await?;
            Ok(record.is_some_and(|it| (it.activation, it.members_hash) == (activation, members_hash)))
        };
        let said = self.pool.answers(|said| repeats(said, bool::eq), ask).await.unwrap_or_default();
        let stands = said.iter().filter(|it| **it).count() >= self.pool.len().min(2);
        if stands {
            tracing::warn!(epoch, "the chain settles nothing; the epoch begins as its latest block has it");
            self.stands = Some(doubtful);
        }
        stands
    }

    /// The block up to which to read.
    async fn limit(&mut self) -> Result<u64, SourceError> {
        let settled = self.settled;
        let head = |provider| async move { Ok(settled.block(&provider).await?.number()) };
        // Nobody could contradict one that is ahead of all others.
        let said = self.pool.answers(|said| repeats(said, u64::eq), head).await?;
        let greatest = said.iter().copied().max().unwrap_or_default();
        let limit = second(said).unwrap_or_default();
        self.highest = self.highest.max(self.history.get_mut().reached());
        self.behind = if limit < self.highest { self.behind + 1 } else { 0 };
        if self.behind > PATIENCE {
            let highest = self.highest;
            tracing::error!(
                settled = limit,
                highest,
                "the chain does not get to where it is said to have been"
            );
            if greatest < self.agreed.reached() {
                self.agreed.forget();
            }
            *self.history.get_mut() = self.agreed.clone();
            (self.highest, self.behind) = (self.agreed.reached(), 0);
        }
        Ok(limit.max(self.highest))
    }

    /// Reads on, and believes it if endpoints agree. Says whether all is read.
    async fn advance(&mut self, limit: u64) -> Result<bool, SourceError> {
        let begun = Instant::now();
        let history = &self.history;
        let ask = |provider| async move {
            match history.lock().await.advance(&provider, limit).await {
                // No other endpoint would be asked.
                Err(Fault::Reverted(_)) => Err(Fault::wrong("it says that the contract reverts")),
                outcome => outcome,
            }
        };
        let outcome = self.pool.ask(ask).await;
        self.reading += begun.elapsed();
        let is_done = match outcome {
            Ok(is_done) => is_done,
            Err(error) => {
                if let ChainError::Unavailable(attempts) = &error {
                    self.contradicted(attempts);
                }
                return Err(error.into());
            }
        };
        let (history, others) = (self.history.get_mut(), self.pool.len() > 1);
        let (mut confirm, mut contradict, mut silent) = (0, Vec::new(), Vec::new());
        let known = &*history;
        let ask = |provider| async move { known.confirm(&provider, others, is_done).await };
        let mut words = self.pool.each(&ask);
        let deadline = tokio::time::Instant::now() + SLOW;
        // Whoever is late has no say.
        while let Ok(Some(Said { endpoint, answer, .. })) =
            tokio::time::timeout_at(deadline, words.next()).await
        {
            match answer {
                Ok(()) => confirm += 1,
                Err(fault @ Fault::Contradicts(_)) => {
                    contradict.push(Attempt { endpoint: endpoint.to_owned(), fault });
                }
                Err(fault) => silent.push(Attempt { endpoint: endpoint.to_owned(), fault }),
            }
            if 2 * confirm > self.pool.len() {
                break;
            }
        }
        drop(words);
        let texts: Vec<_> = contradict.iter().map(|it| format!("{}: {}", it.endpoint, it.fault)).collect();
        let what = texts.join("; ");
        if contradict.len() >= confirm.max(1) {
            self.contradicted(&contradict);
            self.pool.pass_over();
            return Err(SourceError::Disputed(what));
        }
        if confirm == 0 {
            return Err(ChainError::Unavailable(silent).into());
        }
        if !contradict.is_empty() {
            tracing::error!(what, "a json-rpc endpoint contradicts the others");
        }
        // What only one tells is looked at again as soon as there is another to ask.
        if history.confirmed(confirm > 1 || !others) {
            self.agreed = history.clone();
        }
        Ok(is_done)
    }

    /// Goes back to what was agreed on, since endpoints contradict what was read after it; to nothing when it is that
    /// which two of them contradict, or the only one.
    fn contradicted(&mut self, attempts: &[Attempt]) {
        let contradict = attempts.iter().filter(|it| matches!(it.fault, Fault::Contradicts(_)));
        let enough = self.pool.len().min(2);
        let names: BTreeSet<_> = contradict.map(|it| &it.endpoint).collect();
        let history = self.history.get_mut();
        if names.is_empty() {
            return;
        }
        tracing::error!(?names, block = history.reached(), "json-rpc endpoints contradict what was read");
        if history.reached() != self.agreed.reached() {
            *history = self.agreed.clone();
        } else if names.len() >= enough {
            self.agreed.forget();
            *history = self.agreed.clone();
        }
    }
}

#[cfg(test)]
mod tests;
