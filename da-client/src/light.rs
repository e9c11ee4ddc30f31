//! A light client: follows the logs of a network from the chain, samples every blob that they name, and says what may be
//! concluded from that (protocol sections 2 and 6).
//!
//! Nothing here is believed without a proof: entries are under an anchored root, headers lead to blob ids, rows to headers.
//! What is drawn for a blob is on disk before it is asked for, and is asked for unchanged until it is had or the blob expires.

pub mod compare;
mod follow;
pub mod http;
pub(crate) mod peers;
pub mod record;
pub mod report;
mod sampler;
pub mod state;
pub mod statement;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::transports::http::reqwest::Url;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::{Address, B256};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::peers::Peer;
use self::state::{State, StateError};
use crate::fetch::Readers;
use crate::submit::{unix_millis, unix_now};

/// Time between two looks for new heads, where none is announced.
const LOOK: Duration = Duration::from_secs(2);
/// Time between two rounds of comparing with replicas and peers.
const COMPARE: Duration = Duration::from_secs(30);
/// Time between two rounds of forgetting what has expired.
const PRUNE: Duration = Duration::from_secs(600);

/// The folder in which `da light` keeps its state: `meridian/light` among the user's data.
#[must_use]
pub fn default_folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "meridian").map(|dirs| dirs.data_local_dir().join("light"))
}

/// How a light client works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rows that are drawn of each blob, s. A blob with no more than so many data rows is checked exactly.
    pub samples: usize,
    /// Folder of the state.
    pub folder: PathBuf,
    /// Blobs that are sampled at a time.
    pub at_once: usize,
    /// How long everybody who may have a row or an entry is asked for it before it is called withheld.
    pub patience: Duration,
    /// Longest time between the requests for the rows of one blob.
    pub spread: Duration,
    /// Follow checkpoints that minCopies regions cosigned too, between anchors.
    pub checkpoints: bool,
    /// HTTP ports of other light clients to compare checkpoints with.
    pub peers: Vec<Url>,
}

/// Why a light client cannot go on.
#[derive(Debug, Error)]
pub enum LightError {
    /// Its state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Evidence cannot be written or listed.
    #[error("{name}: {error}")]
    Evidence {
        /// Its file.
        name: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// Another light client cannot be asked.
    #[error("peer {0}")]
    Peer(String),
    /// Its state does not fit together.
    #[error("the state is damaged: {0}")]
    Damaged(String),
    /// The operating system has no randomness.
    #[error("nothing can be drawn: {0}")]
    Random(String),
    /// A worker of this program failed.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A light client.
pub struct LightClient {
    readers: Readers,
    state: Arc<State>,
    settings: Settings,
    peers: Vec<Peer>,
    /// Something may be due.
    wake: Notify,
    /// Unix seconds at which it began to run: patience does not count what was before.
    started: u64,
    /// Digests of checkpoints of which nothing was proved.
    refused: Mutex<HashSet<B256>>,
    /// Files with what is said to be evidence, and whether it holds.
    evidence: Mutex<BTreeMap<String, bool>>,
}

impl LightClient {
    /// Goes on with the state in the folder, or begins there.
    ///
    /// # Errors
    /// The state cannot be opened, see [`StateError`].
    pub fn open(readers: Readers, settings: Settings) -> Result<Self, LightError> {
        let domain = readers.view().epochs.latest().committee.domain();
        let state = Arc::new(State::open(&settings.folder, &domain)?);
        state.hurry(unix_millis())?;
        let peers = settings.peers.iter().cloned();
        let peers = peers.map(|url| Peer::new(url, readers.channels().trust())).collect::<Result<_, _>>();
        let peers = peers.map_err(LightError::Peer)?;
        let (refused, evidence) = (Mutex::default(), Mutex::default());
        Ok(Self {
            readers,
            state,
            settings,
            peers,
            wake: Notify::new(),
            started: unix_now(),
            refused,
            evidence,
        })
    }

    /// What is kept.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// How it works.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who is read from, and what is known of the chain.
    #[must_use]
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Follows and samples until it is stopped.
    ///
    /// # Errors
    /// The state cannot be read or written, or the operating system has no randomness.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), LightError> {
        let work = async {
            tokio::try_join!(self.follow_on(), self.sample_on(), self.compare_on(), self.prune_on()).map(drop)
        };
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            outcome = work => outcome,
        };
        self.with_state(|state| state.sync()).await?;
        outcome
    }

    /// Follows every log to its latest head and samples what they name, each until all of it is in or patience is over.
    /// Says whether it is known how far every log goes, and all of them were followed there.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_once(&self) -> Result<bool, LightError> {
        let end = Instant::now() + self.settings.patience;
        let mut is_followed = self.follow().await?;
        while !is_followed && Instant::now() < end {
            tokio::time::sleep_until(end.min(Instant::now() + LOOK)).await;
            is_followed = self.follow().await?;
        }
        let end = Instant::now() + self.settings.patience;
        self.sample_until(end).await?;
        self.judge().await?;
        self.compare_with_peers().await?;
        self.with_state(|state| state.sync()).await?;
        Ok(is_followed)
    }

    /// Follows each log at its own pace: one that nobody gives holds up no other.
    async fn follow_on(&self) -> Result<(), LightError> {
        let mut view = self.readers.watch();
        let mut running = FuturesUnordered::new();
        let mut logs: BTreeSet<Address> = BTreeSet::new();
        let mut next = Instant::now();
        loop {
            view.mark_unchanged();
            if Instant::now() >= next {
                for (log, heads) in self.heads().await?.logs {
                    if logs.insert(log) {
                        running.push(async move { (log, self.follow_heads(log, heads).await) });
                    }
                }
                next = Instant::now() + LOOK;
            }
            let change = async {
                if view.changed().await.is_err() {
                    // Nobody will change it any more: checkpoints and replicas still do.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                Some((log, followed)) = running.next() => {
                    followed?;
                    logs.remove(&log);
                }
                () = change => next = Instant::now(),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    async fn compare_on(&self) -> Result<(), LightError> {
        loop {
            tokio::time::sleep(COMPARE).await;
            self.compare_with_replicas().await?;
            self.compare_with_peers().await?;
        }
    }

    async fn prune_on(&self) -> Result<(), LightError> {
        loop {
            while self.with_state(|state| state.prune(unix_now())).await? > 0 {}
            tokio::time::sleep(PRUNE).await;
        }
    }

    async fn keep_checkpoint(&self, checkpoint: CosignedCheckpoint) -> Result<(), LightError> {
        self.with_state(move |state| state.keep_checkpoint(&checkpoint)).await
    }

    /// Works on the state off the async threads.
    pub(crate) async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, LightError> {
        let state = Arc::clone(&self.state);
        let done = tokio::task::spawn_blocking(move || work(&state)).await;
        Ok(done.map_err(|error| LightError::Internal(error.to_string()))??)
    }
}
