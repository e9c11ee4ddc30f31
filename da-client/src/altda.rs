//! A DA server for OP Stack Alt-DA: batchers and nodes use Meridian through it without knowing.
//!
//! It runs beside them and trusts nobody else: it computes commitments and blob ids itself, answers a put only after it has
//! checked the certificate, and gives out nothing that it has not verified. Inputs that are put or read again and again cost
//! the network one put and one read.

mod archive;
mod body;
pub mod commitment;
pub mod http;
mod metrics;
mod puts;
mod readiness;
mod reads;
pub mod refusal;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::Namespace;
use meridian_proofs::signature::SecretKey;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use prometheus::Registry;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::archive::Archive;
use self::commitment::{Commitment, Mode};
use self::metrics::Metrics;
use self::readiness::Readiness;
use self::refusal::Refusal;
use crate::fetch::Readers;
use crate::submit::unix_now;
use crate::tokens::TokenFile;

/// Longest input of a keccak commitment that an OP Stack derivation takes, in bytes: it skips a longer one.
pub const KECCAK_LIMIT: usize = 130_672;

/// First and longest wait before another try.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Reads at a time, from the archive or the network.
const READS: usize = 16;
/// Reads that are answered or wait at a time.
const GETS: usize = 1024;
/// Longest wait for the archive's disk.
const ARCHIVE: Duration = Duration::from_secs(5);
/// Most bytes of certificates that are kept.
const CERTIFICATES: u64 = 32 << 20;

/// Whether batchers may be told to leave: some take any 5xx for the put of a generic commitment as "post to L1 instead".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// A put of a generic commitment whose failure may pass gets 429: try again.
    Never,
    /// It gets 503.
    Generic,
}

/// How a sidecar works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Gateways in the order of trying; none for those of the committee.
    pub gateways: Vec<String>,
    /// Whose blobs the inputs are.
    pub namespace: Namespace,
    /// Who signs the puts, for gateways that ask who puts.
    pub signer: Option<Arc<SecretKey>>,
    /// Seconds to keep them.
    pub retention: u64,
    /// Longest input of a keccak commitment, in bytes.
    pub keccak_limit: usize,
    /// Longest input of a generic commitment, in bytes.
    pub generic_limit: usize,
    /// How long a request is tried again whose failure may pass.
    pub patience: Duration,
    /// Whether puts may fail with 5xx.
    pub failover: Failover,
    /// Whether what a derivation has to drop is answered with 418.
    pub drop_status: bool,
    /// Bytes of inputs that are kept for other readers.
    pub cache_bytes: u64,
    /// Bytes of inputs that may be on their way at a time.
    pub memory_bytes: usize,
    /// Folder for copies of what passed.
    pub archive: Option<PathBuf>,
}

impl Settings {
    fn limit(&self, mode: Mode) -> usize {
        match mode {
            Mode::Keccak => self.keccak_limit,
            Mode::Generic => self.generic_limit,
        }
    }
}

/// The sidecar.
pub struct AltDa {
    settings: Settings,
    readers: Readers,
    inputs: Cache<Commitment, Bytes>,
    /// Of puts alone: what others say that they were given is no reason not to put.
    certificates: Cache<Commitment, Arc<Certificate>>,
    /// Gateways that failed, and when.
    failed: Mutex<HashMap<String, Instant>>,
    /// Puts that go on without their callers.
    puts: TaskTracker,
    stop: CancellationToken,
    archive: Option<Archive>,
    /// Of those who may put; without them everybody may.
    tokens: Option<TokenFile>,
    memory: Arc<Semaphore>,
    reads: Semaphore,
    gets: Arc<Semaphore>,
    readiness: Readiness,
    registry: Registry,
    metrics: Metrics,
}

impl AltDa {
    /// A sidecar that reads and puts with the committees that the readers know, and tries nothing again once it is stopped.
    ///
    /// # Errors
    /// The archive's folder cannot be made.
    pub fn new(readers: Readers, settings: Settings, stop: CancellationToken) -> std::io::Result<Self> {
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // What was put or read last is what the next node asks for, however often others were asked for before.
        let inputs = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(settings.cache_bytes)
            .weigher(move |_: &Commitment, input: &Bytes| weight(input.len()))
            .build();
        let certificates = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(CERTIFICATES)
            .weigher(move |_: &Commitment, certificate: &Arc<Certificate>| weight(certificate.encode().len()))
            .build();
        let archive = settings.archive.as_deref().map(Archive::open).transpose()?;
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).map_err(std::io::Error::other)?;
        Ok(Self {
            readers,
            inputs,
            certificates,
            failed: Mutex::default(),
            puts: TaskTracker::new(),
            stop,
            archive,
            tokens: None,
            memory: body::budget(settings.memory_bytes),
            reads: Semaphore::new(READS),
            gets: Arc::new(Semaphore::new(GETS)),
            readiness: Readiness::default(),
            registry,
            metrics,
            settings,
        })
    }

    /// Lets only those put who have a token for the namespace.
    #[must_use]
    pub fn with_tokens(self, tokens: TokenFile) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Tries again while the failure may pass, up to a deadline. Each try is told how long that is still.
    async fn patiently<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        call: &str,
        deadline: Instant,
        try_once: impl Fn(Duration) -> F,
    ) -> Result<T, Refusal> {
        let mut wait = FIRST_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let refusal = match try_once(left).await {
                Ok(done) => return Ok(done),
                Err(refusal) => refusal,
            };
            let asked = if let Refusal::Busy(_, asked) = &refusal { *asked } else { Duration::ZERO };
            let pause = wait.max(asked.min(LONGEST_WAIT));
            if !refusal.is_passing() || Instant::now() + pause >= deadline || self.stop.is_cancelled() {
                return Err(refusal);
            }
            let wait_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(call, %refusal, wait_ms, "trying again");
            self.metrics.again(call);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Err(refusal),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits for puts that go on without their callers.
    pub async fn finish(&self) {
        self.puts.close();
        self.puts.wait().await;
    }

    /// Keeps a copy in the archive. Without one the input is still where its certificate says.
    async fn keep(&self, commitment: Commitment, input: &Bytes, is_damaged: bool) {
        let Some(archive) = &self.archive else { return };
        let written = timeout(ARCHIVE, archive.write(commitment, input.clone(), is_damaged)).await;
        if let Err(error) = written.unwrap_or_else(|late| Err(std::io::Error::other(late))) {
            self.metrics.archive_failed();
            tracing::error!(%commitment, %error, "no copy in the archive");
        }
    }

    fn committee(&self) -> Arc<Committee> {
        Arc::clone(&self.readers.view().epochs.current(unix_now()).committee)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "errors are given as they are")]
fn internal(error: impl ToString) -> Refusal {
    Refusal::Internal(error.to_string())
}
