//! Several JSON-RPC endpoints of one chain, used as one.
//!
//! A call goes to the endpoint that answered last. When that one is silent, slow, refuses or answers with garbage, the
//! next one is asked; after all of them a pause, and another round, a few times. An endpoint of another chain than the
//! configured one is never asked for anything but its chain id.
//!
//! # What an endpoint is trusted with
//!
//! Nothing here follows the chain's consensus, so whoever answers is believed as far as these checks go:
//! - Signatures, certificates and proofs are checked by ourselves, over the configured chain id and contract: no endpoint
//!   can make one up. What it can do is to hide or to invent committees and anchors.
//! - Every committee must hash to what the contract keeps for its epoch, events must follow the contract's own rules, and
//!   all of it must agree with the contract's state at the same block. So an endpoint can only lie about all of it alike.
//! - The settled block never goes back, and its hash is asked for again before the next one is read.
//! - Where several endpoints are configured, nothing is read above the block that at least two of those that answer have
//!   settled, and the others are asked for the same events and the same state before anything is believed: what more
//!   contradict than confirm is thrown away, down to what more than one had confirmed. One liar among three or more changes
//!   nothing; of two that contradict each other neither is believed, and what was known before stays. Those that do not
//!   answer have no say; what was believed because only a liar answered is found out when the others are back.
//! - Who sends transactions goes by the nonce, the prices and the anchors that at least two endpoints have reached, by
//!   receipts that two give, by what more of them say of a call than do not, and by gas of which too little would be paid
//!   for in vain: of two the greater counts.
//!
//! Who has one endpoint trusts its operator; who wants more names several of different operators, or runs a node.

mod fault;
mod transport;

use std::cmp::Reverse;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use futures::stream::{FuturesUnordered, StreamExt};

pub use fault::{Attempt, ChainError, Fault};
pub use transport::{MAX_ANSWER, RpcUrl, RpcUrlError};

/// How long an endpoint of another chain is left alone before it is asked for its chain id again.
const FOREIGN_FOR: Duration = Duration::from_secs(60);

/// How long those that kept silent a moment ago have to answer, where another has.
const MUTE_WITHIN: Duration = Duration::from_secs(2);

/// How long that moment lasts: whoever is only slow is heard in between.
const MUTE_FOR: Duration = Duration::from_secs(30);

/// How patient a pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Longest wait for one answer.
    pub deadline: Duration,
    /// How often all endpoints are tried, at least once.
    pub rounds: u32,
    /// Pause after the first round; it doubles after each.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), rounds: 3, pause: Duration::from_millis(250) }
    }
}

/// Several endpoints of one chain. Clones share connections and what is known of the endpoints.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    endpoints: Vec<Endpoint>,
    chain_id: u64,
    patience: Patience,
    preferred: AtomicUsize,
}

struct Endpoint {
    name: String,
    provider: RootProvider,
    chain: Mutex<ChainOf>,
    /// When it kept silent, if it did the last time.
    mute: Mutex<Option<Instant>>,
}

/// What one endpoint says.
pub(super) struct Said<'a, T> {
    /// Its host and port.
    pub(super) endpoint: &'a str,
    /// Whether it kept silent a moment before.
    was_mute: bool,
    pub(super) answer: Result<T, Fault>,
}

/// Which chain an endpoint is of.
#[derive(Clone, Copy)]
enum ChainOf {
    NotAsked,
    Ours,
    Foreign { id: u64, until: Instant },
}

impl Endpoint {
    fn new(url: &RpcUrl, deadline: Duration) -> Result<Self, ChainError> {
        let http = transport::Http::new(url, deadline).map_err(ChainError::Setup)?;
        Ok(Self {
            name: url.to_string(),
            provider: RootProvider::new(RpcClient::new(http, false)),
            chain: Mutex::new(ChainOf::NotAsked),
            mute: Mutex::new(None),
        })
    }

    async fn ask<T, F, Fut>(&self, chain_id: u64, call: &F) -> Result<T, Fault>
    where
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let answer = match self.check_chain(chain_id).await {
            Ok(()) => call(self.provider.clone()).await,
            Err(fault) => Err(fault),
        };
        let silent = matches!(answer, Err(Fault::Silent(_)));
        *self.mute.lock().unwrap_or_else(PoisonError::into_inner) = silent.then(Instant::now);
        if let Err(Fault::Silent(_) | Fault::Wrong(_) | Fault::Contradicts(_)) = &answer {
            // Whoever comes back need not be who went away.
            self.set_chain(ChainOf::NotAsked);
        }
        answer
    }

    fn is_mute(&self) -> bool {
        let mute = *self.mute.lock().unwrap_or_else(PoisonError::into_inner);
        mute.is_some_and(|since| since.elapsed() < MUTE_FOR)
    }

    async fn check_chain(&self, expected: u64) -> Result<(), Fault> {
        match self.chain() {
            ChainOf::Ours => return Ok(()),
            ChainOf::Foreign { id, until } if Instant::now() < until => return Err(Fault::Foreign(id)),
            ChainOf::Foreign { .. } | ChainOf::NotAsked => {}
        }
        let id = self.provider.get_chain_id().await?;
        if id == expected {
            self.set_chain(ChainOf::Ours);
            return Ok(());
        }
        tracing::error!(endpoint = self.name, id, expected, "json-rpc endpoint is of another chain");
        self.set_chain(ChainOf::Foreign { id, until: Instant::now() + FOREIGN_FOR });
        Err(Fault::Foreign(id))
    }

    fn chain(&self) -> ChainOf {
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_chain(&self, chain: ChainOf) {
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
    }
}

/// How often all endpoints are asked again.
struct Rounds {
    chain_id: u64,
    left: u32,
    pause: Duration,
}

impl Rounds {
    /// Waits after a round in which nobody answered, if another may go better.
    async fn pause(&mut self, attempts: Vec<Attempt>) -> Result<(), ChainError> {
        if let Some(Fault::Reverted(data)) = attempts.last().map(|attempt| &attempt.fault) {
            return Err(ChainError::Reverted(data.clone()));
        }
        if attempts.iter().all(|attempt| matches!(attempt.fault, Fault::Foreign(_))) {
            return Err(ChainError::WrongChain { expected: self.chain_id, found: attempts });
        }
        if self.left == 0 || !attempts.iter().any(|attempt| attempt.fault.may_pass()) {
            return Err(ChainError::Unavailable(attempts));
        }
        tokio::time::sleep(self.pause).await;
        self.pause *= 2;
        self.left -= 1;
        Ok(())
    }
}

impl Pool {
    /// Endpoints of a chain, in the order of preference. Nothing is asked yet.
    ///
    /// # Errors
    /// There is no endpoint, or no client can be made.
    pub fn new(urls: &[RpcUrl], chain_id: u64, patience: Patience) -> Result<Self, ChainError> {
        let endpoints: Vec<_> =
            urls.iter().map(|url| Endpoint::new(url, patience.deadline)).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ChainError::NoEndpoint);
        }
        Ok(Self(Arc::new(Inner { endpoints, chain_id, patience, preferred: AtomicUsize::new(0) })))
    }

    /// Endpoints of whatever chain the first that answers is of.
    ///
    /// # Errors
    /// As [`Pool::new`], and when none answers.
    pub async fn discover(urls: &[RpcUrl], patience: Patience) -> Result<Self, ChainError> {
        let mut attempts = Vec::new();
        for url in urls {
            let endpoint = Endpoint::new(url, patience.deadline)?;
            match endpoint.provider.get_chain_id().await {
                Ok(id) => return Self::new(urls, id, patience),
                Err(error) => attempts.push(Attempt { endpoint: endpoint.name, fault: error.into() }),
            }
        }
        Err(if attempts.is_empty() { ChainError::NoEndpoint } else { ChainError::Unavailable(attempts) })
    }

    /// The chain that all endpoints in use are of.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.0.chain_id
    }

    /// Asks one endpoint after the other, some times over, until one answers.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn ask<T, F, Fut>(&self, call: F) -> Result<T, ChainError>
    where
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let mut rounds = self.rounds();
        loop {
            match self.ask_all(&call).await {
                Ok(answer) => return Ok(answer),
                Err(attempts) => rounds.pause(attempts).await?,
            }
        }
    }

    /// Asks all endpoints the same, and takes the greatest answer by `rank` that at least two of them have reached; the
    /// only one where no second comes.
    ///
    /// So one that lies among three changes nothing, whichever way it lies, and of two answers the lower one counts.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub(super) async fn reached<T, K, F, Fut>(&self, rank: impl Fn(&T) -> K, call: F) -> Result<T, ChainError>
    where
        K: Ord,
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let is_decided = |said: &[T]| repeats(said, |one, other| rank(one) == rank(other));
        let mut answers = self.answers(is_decided, call).await?;
        answers.sort_by_key(|answer| Reverse(rank(answer)));
        let place = answers.len().min(2).saturating_sub(1);
        Ok(answers.swap_remove(place))
    }

    /// Asks all endpoints the same, and takes what two of them say, or the only one that answers; nothing where they
    /// contradict each other.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub(super) async fn agreed<T, F, Fut>(&self, call: F) -> Result<Option<T>, ChainError>
    where
        T: PartialEq,
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let mut answers = self.answers(|said| repeats(said, T::eq), call).await?;
        // It ends with the first that is as one before.
        let last = answers.pop();
        Ok(last.filter(|last| answers.is_empty() || answers.contains(last)))
    }

    /// Asks all endpoints the same until what they have said `is_decided`: their answers, at least one.
    ///
    /// Those that kept silent a moment ago are not waited for as long as the others.
    pub(super) async fn answers<T, F, Fut>(
        &self,
        is_decided: impl Fn(&[T]) -> bool,
        call: F,
    ) -> Result<Vec<T>, ChainError>
    where
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let mut rounds = self.rounds();
        loop {
            let mut asked = self.each(&call);
            let (mut answers, mut attempts) = (Vec::new(), Vec::new());
            let mut awaited = self.0.endpoints.iter().filter(|endpoint| !endpoint.is_mute()).count();
            let begun = tokio::time::Instant::now();
            loop {
                let next = if awaited == 0 && !answers.is_empty() {
                    let deadline = begun + MUTE_WITHIN;
                    tokio::time::timeout_at(deadline, asked.next()).await.unwrap_or_default()
                } else {
                    asked.next().await
                };
                let Some(Said { endpoint, was_mute, answer }) = next else { break };
                awaited = awaited.saturating_sub(usize::from(!was_mute));
                match answer {
                    Ok(answer) => {
                        answers.push(answer);
                        if is_decided(&answers) {
                            break;
                        }
                    }
                    Err(fault) => attempts.push(Attempt { endpoint: endpoint.to_owned(), fault }),
                }
            }
            if !answers.is_empty() {
                return Ok(answers);
            }
            rounds.pause(attempts).await?;
        }
    }

    fn rounds(&self) -> Rounds {
        let Patience { rounds, pause, .. } = self.0.patience;
        Rounds { chain_id: self.0.chain_id, left: rounds.saturating_sub(1), pause }
    }

    /// One round over all endpoints, from the preferred one on. It ends where a contract reverts.
    async fn ask_all<T, F, Fut>(&self, call: &F) -> Result<T, Vec<Attempt>>
    where
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>>,
    {
        let Inner { endpoints, chain_id, preferred, .. } = &*self.0;
        let first = preferred.load(Ordering::Relaxed);
        let mut attempts = Vec::new();
        for step in 0..endpoints.len() {
            let place = (first + step) % endpoints.len();
            let endpoint = &endpoints[place];
            match endpoint.ask(*chain_id, call).await {
                Ok(answer) => {
                    if preferred.swap(place, Ordering::Relaxed) != place {
                        tracing::info!(endpoint = endpoint.name, "json-rpc endpoint in use");
                    }
                    return Ok(answer);
                }
                Err(fault) => {
                    tracing::debug!(endpoint = endpoint.name, %fault, "json-rpc endpoint failed");
                    let is_final = matches!(fault, Fault::Reverted(_));
                    attempts.push(Attempt { endpoint: endpoint.name.clone(), fault });
                    if is_final {
                        break;
                    }
                }
            }
        }
        Err(attempts)
    }

    /// Asks every endpoint once, all at the same time: what they say, in the order in which they say it.
    pub(super) fn each<'a, T, F, Fut>(
        &'a self,
        call: &'a F,
    ) -> FuturesUnordered<impl Future<Output = Said<'a, T>>>
    where
        T: 'a,
        F: Fn(RootProvider) -> Fut,
        Fut: Future<Output = Result<T, Fault>> + 'a,
    {
        let Inner { endpoints, chain_id, .. } = &*self.0;
        let asked =
            endpoints.iter().map(|endpoint| {
                let was_mute = endpoint.is_mute();
                async move {
                    Said { endpoint: &endpoint.name, was_mute, answer: endpoint.ask(*chain_id, call).await }
                }
            });
        asked.collect()
    }

    /// Begins with the next endpoint from now on.
    pub(super) fn pass_over(&self) {
        let next = (self.0.preferred.load(Ordering::Relaxed) + 1) % self.0.endpoints.len();
        self.0.preferred.store(next, Ordering::Relaxed);
    }

    /// How many endpoints there are.
    pub(super) fn len(&self) -> usize {
        self.0.endpoints.len()
    }
}

/// The second greatest of what is said, or the only one. Whoever says that there is none of it says the least.
pub(super) fn second<T: Ord>(said: impl IntoIterator<Item = T>) -> Option<T> {
    let mut said: Vec<_> = said.into_iter().collect();
    said.sort_unstable_by(|one, other| other.cmp(one));
    said.truncate(2);
    said.pop()
}

/// Whether the last that was said was said before.
pub(super) fn repeats<T>(said: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    said.split_last().is_some_and(|(last, before)| before.iter().any(|one| same(one, last)))
}

#[cfg(test)]
mod tests;
