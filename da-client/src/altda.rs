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
mod readiness;
pub mod refusal;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::committee::epochs::Term;
use meridian_proofs::ids::Namespace;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use prometheus::Registry;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::archive::Archive;
use self::commitment::{Commitment, Mode};
use self::metrics::Metrics;
use self::readiness::Readiness;
use self::refusal::Refusal;
use crate::Silent;
use crate::chain::view::View;
use crate::fetch::{ReadError, Reader, Readers};
use crate::submit::{
    Attempt, CLOCK_SLACK, Identity, PutError, PutOptions, Submitter, least_expiry, unix_now,
};

/// Longest input of a keccak commitment that an OP Stack derivation takes, in bytes: it skips a longer one.
pub const KECCAK_LIMIT: usize = 130_672;

/// First and longest wait before another try.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Shortest time for one try: of a read, and of one gateway beside what the upload takes.
const READ_TRY: Duration = Duration::from_secs(8);
const PUT_TRY: Duration = Duration::from_secs(5);
/// How long a gateway that failed is asked after the others.
const AVOID: Duration = Duration::from_secs(60);
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
    /// A put of a generic commitment that fails for now gets 429: try again.
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
    /// Seconds to keep them.
    pub retention: u64,
    /// Longest input of a keccak commitment, in bytes.
    pub keccak_limit: usize,
    /// Longest input of a generic commitment, in bytes.
    pub generic_limit: usize,
    /// How long what fails for now is tried again before the client is told.
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
            memory: body::budget(settings.memory_bytes),
            reads: Semaphore::new(READS),
            gets: Arc::new(Semaphore::new(GETS)),
            readiness: Readiness::default(),
            registry,
            metrics,
            settings,
        })
    }

    /// Puts an input, and gives its commitment once a certificate for it holds. What is asked for again while it is on its
    /// way, or after that, is put once.
    ///
    /// A put goes on when its caller goes away: whoever gives up asks for the same again.
    async fn put(
        self: &Arc<Self>,
        mode: Mode,
        stated: Option<Commitment>,
        body: body::Body,
        deadline: Instant,
    ) -> Result<Commitment, Refusal> {
        let body::Body { input, permit } = body;
        if input.is_empty() {
            return Err(Refusal::Invalid("the input is empty".to_owned()));
        }
        let hashed = input.clone();
        let identity = move || Identity::of(&hashed, mode == Mode::Keccak, B256::ZERO);
        let identity = self.readers.current().compute(identity).await.map_err(internal)?;
        let identity = identity.map_err(|error| Refusal::Invalid(error.to_string()))?;
        let commitment = match mode {
            Mode::Keccak => Commitment::Keccak(identity.payload_hash),
            Mode::Generic => Commitment::Generic(identity.id),
        };
        if let Some(stated) = stated.filter(|stated| *stated != commitment) {
            return Err(Refusal::Mismatch { stated, computed: commitment });
        }
        let least = least_expiry(unix_now(), self.retention());
        if let Some(known) = self.certificates.get(&commitment).await
            && known.entry.expiry.saturating_add(CLOCK_SLACK) < least
        {
            self.certificates.invalidate(&commitment).await;
        }
        let this = Arc::clone(self);
        let put = async move {
            let in_flight = this.metrics.put();
            let put = this.certify(mode, identity, input.clone(), deadline);
            let entry = this.certificates.entry(commitment).or_try_insert_with(put).await;
            let is_fresh = entry.map_err(|refusal| Refusal::clone(&refusal))?.is_fresh();
            this.keep(commitment, &input, false).await;
            this.metrics.repeated(!is_fresh);
            if is_fresh {
                this.inputs.insert(commitment, input).await;
            }
            drop((in_flight, permit));
            Ok(commitment)
        };
        self.puts.spawn(put.in_current_span()).await.map_err(internal)?
    }

    /// A certificate for an input, from the first gateway that gives one that holds.
    async fn certify(
        &self,
        mode: Mode,
        identity: Identity,
        input: Bytes,
        deadline: Instant,
    ) -> Result<Arc<Certificate>, Refusal> {
        let options = PutOptions {
            namespace: self.settings.namespace,
            retention: self.retention(),
            bind_payload_hash: mode == Mode::Keccak,
            expected: None,
            kzg_root: None,
        };
        let try_once = |left: Duration| {
            let gateways = self.gateways();
            let share = left / u32::try_from(gateways.len().max(1)).unwrap_or(u32::MAX);
            let submitter = Submitter::new(self.readers.watch(), self.readers.channels().clone(), gateways);
            let submitter = submitter.waiting(share.max(PUT_TRY)).insisting();
            let input = input.clone();
            async move {
                let put = submitter.put_as(input, identity, &options, &Silent).await;
                let failed = match &put {
                    Ok(receipt) => &receipt.failed,
                    Err(PutError::Failed(attempts)) => attempts,
                    Err(_) => &Vec::new(),
                };
                self.avoid(failed);
                put.map(|receipt| Arc::new(receipt.certificate)).map_err(|error| Refusal::of_put(&error))
            }
        };
        let certificate = self.patiently("put", deadline, try_once).await?;
        tracing::info!(blob = %identity.id, index = certificate.index, "input certified");
        Ok(certificate)
    }

    /// The input of a commitment, verified: from memory, the archive, or the nearest copy. Equal reads share one, which goes
    /// on when its caller goes away.
    async fn get(self: &Arc<Self>, commitment: Commitment, deadline: Instant) -> Result<Bytes, Refusal> {
        // They go on when their callers go away.
        let Ok(permit) = Arc::clone(&self.gets).try_acquire_owned() else {
            let message = "as many inputs are being asked for as may be at a time".to_owned();
            return Err(Refusal::Busy(message, Duration::from_secs(1)));
        };
        let this = Arc::clone(self);
        let read = async move {
            let _permit = permit;
            let fetched = this.fetch(commitment, deadline);
            let entry = this.inputs.entry(commitment).or_try_insert_with(fetched).await;
            let entry = entry.map_err(|refusal| Refusal::clone(&refusal))?;
            if !entry.is_fresh() {
                this.metrics.read_from("memory");
            }
            Ok(entry.into_value())
        };
        tokio::spawn(read.in_current_span()).await.map_err(internal)?
    }

    async fn fetch(&self, commitment: Commitment, deadline: Instant) -> Result<Bytes, Refusal> {
        let _permit = self.read_permit(deadline).await?;
        let archived = match &self.archive {
            Some(archive) => {
                let read = timeout(ARCHIVE, archive.read(commitment)).await;
                read.unwrap_or_else(|late| Err(std::io::Error::other(late)))
            }
            None => Ok(None),
        };
        match archived {
            Ok(None) => {}
            Ok(Some(input)) => {
                self.metrics.read_from("archive");
                return Ok(input);
            }
            Err(ref error) => {
                self.metrics.archive_failed();
                tracing::error!(%commitment, %error, "the archive cannot be read");
            }
        }
        let longest = u64::try_from(self.settings.limit(commitment.mode())).unwrap_or(u64::MAX);
        let read = |reader: Reader| async move { read_one(&reader, commitment, longest).await };
        let try_once = |left: Duration| async move {
            let asked = unix_now();
            match timeout(left.max(READ_TRY), self.readers.first(None, read)).await {
                Ok(Ok((input, _))) => input,
                Ok(Err(error)) => Err(self.certain(Refusal::of_read(&error), asked)),
                Err(_) => Err(Refusal::Unavailable("no copy could be read in time".to_owned())),
            }
        };
        let input = self.patiently("get", deadline, try_once).await.map_err(|refusal| match &archived {
            Err(error) if matches!(refusal, Refusal::Unknown(_)) => {
                Refusal::Unavailable(format!("{refusal}, and the archive cannot be read: {error}"))
            }
            _ => refusal,
        })?;
        self.metrics.read_from("network");
        self.keep(commitment, &input, archived.is_err()).await;
        Ok(input)
    }

    async fn read_permit(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Refusal> {
        match timeout_at(deadline, self.reads.acquire()).await {
            Ok(permit) => permit.map_err(internal),
            Err(_) => {
                let message = "as many inputs are being read as may be at a time".to_owned();
                Err(Refusal::Busy(message, Duration::from_secs(1)))
            }
        }
    }

    /// The certificate of a commitment: of its put, or from gateways or replicas.
    async fn certificate(
        &self,
        commitment: Commitment,
        deadline: Instant,
    ) -> Result<Arc<Certificate>, Refusal> {
        if let Some(certificate) = self.certificates.get(&commitment).await {
            return Ok(certificate);
        }
        let _permit = self.read_permit(deadline).await?;
        let gateways = &self.gateways();
        let read = |reader: Reader| async move { certificate_of(&reader, gateways, commitment).await };
        let (left, asked) = (deadline.saturating_duration_since(Instant::now()), unix_now());
        match timeout(left.max(READ_TRY), self.readers.first(None, read)).await {
            Ok(Ok((certificate, _))) => Ok(Arc::new(certificate)),
            Ok(Err(error)) => Err(self.certain(Refusal::of_read(&error), asked)),
            Err(_) => Err(Refusal::Unavailable("no certificate could be had in time".to_owned())),
        }
    }

    /// Tries again what fails for now, up to a deadline. Each try is told how long that is still.
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

    /// Whoever did not know all committees that may hold an input when it was asked for, or does not know them now, cannot
    /// say that it is gone.
    fn certain(&self, refusal: Refusal, asked: u64) -> Refusal {
        let view = self.readers.view();
        match refusal {
            Refusal::Unknown(message) if !knows_all(&view, asked) || !knows_all(&view, unix_now()) => {
                let message = format!("{message}, and there may be a committee that is not known here yet");
                Refusal::Unavailable(message)
            }
            other => other,
        }
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

    /// The gateways that were named, or those of the current committee; those that have just failed last.
    fn gateways(&self) -> Vec<String> {
        let mut gateways = self.settings.gateways.clone();
        if gateways.is_empty() {
            let committee = self.committee();
            gateways = committee.gateways().iter().map(|gateway| gateway.endpoint.clone()).collect();
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.sort_by_key(|gateway| failed.get(gateway).is_some_and(|at| at.elapsed() < AVOID));
        gateways
    }

    /// Has the others asked before a gateway that has just failed.
    fn avoid(&self, attempts: &[Attempt]) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, at| at.elapsed() < AVOID);
        failed.extend(attempts.iter().map(|attempt| (attempt.gateway.clone(), Instant::now())));
    }

    fn committee(&self) -> Arc<Committee> {
        Arc::clone(&self.readers.view().epochs.current(unix_now()).committee)
    }

    /// Seconds to keep inputs: what was asked for, or the limit of the current committee next to it.
    fn retention(&self) -> u64 {
        let committee = self.committee();
        self.settings.retention.clamp(committee.min_retention(), committee.max_retention())
    }
}

/// Whether every epoch is known in which an input may have been put by now. Not when the chain was last read so long ago
/// that another may have begun since, nor when one begins about now by a clock that is ahead of ours.
fn knows_all(view: &View, now: u64) -> bool {
    let begins = |term: &Term| term.activation > now && term.activation <= now.saturating_add(CLOCK_SLACK);
    view.final_by >= now && !view.epochs.terms().iter().any(begins)
}

/// Reads an input with one committee. A longer one is none that was put for such a commitment here.
async fn read_one(
    reader: &Reader,
    commitment: Commitment,
    longest: u64,
) -> Result<Result<Bytes, Refusal>, ReadError> {
    match commitment {
        Commitment::Generic(id) => {
            let found = reader.open(id).await?;
            let length = found.context.header().length.get();
            if length > longest {
                let limit = usize::try_from(longest).unwrap_or(usize::MAX);
                return Ok(Err(Refusal::TooLarge(limit)));
            }
            Ok(Ok(reader.read(found, &Silent).await?.payload))
        }
        Commitment::Keccak(hash) => {
            let (ids, absence) = reader.named(hash).await?;
            // What has the hash is the input, whatever its header is bound to.
            let reader = reader.clone().ignoring_kzg();
            let read = reader.payload_among(&ids, hash, longest, &Silent);
            // What somebody names here and does not give out must not keep the other committees from being asked.
            let read = timeout(READ_TRY, read).await;
            let read = read.unwrap_or(Err(ReadError::Unreachable { faults: Vec::new() }));
            read.map(|fetched| Ok(fetched.payload))
                .map_err(|error| absence.unwrap_or_else(|| unsettled(error)))
        }
    }
}

/// A certificate of a commitment that one committee has given.
async fn certificate_of(
    reader: &Reader,
    gateways: &[String],
    commitment: Commitment,
) -> Result<Certificate, ReadError> {
    let hash = match commitment {
        Commitment::Generic(id) => {
            return Ok(reader.certificate(gateways, id, None, None).await?.certificate);
        }
        Commitment::Keccak(hash) => hash,
    };
    let (ids, absence) = reader.named(hash).await?;
    for id in ids {
        let fetched = reader.certificate(gateways, id, None, None).await;
        // Whose hash it is was only said by whoever named the blob; signed is what the entry says.
        if let Ok(fetched) = fetched
            && fetched.certificate.entry.payload_hash == hash
        {
            return Ok(fetched.certificate);
        }
    }
    Err(absence.unwrap_or(ReadError::Uncertified))
}

/// A blob may be named for a hash that is not its own, and what is certain of it says nothing of the input.
fn unsettled(error: ReadError) -> ReadError {
    if error.is_passing() { error } else { ReadError::Unreachable { faults: error.faults().to_vec() } }
}

#[allow(clippy::needless_pass_by_value, reason = "errors are given as they are")]
fn internal(error: impl ToString) -> Refusal {
    Refusal::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::epochs::Epochs;

    use super::*;
    use crate::chain::testing::committee;

    #[test]
    fn absence_is_certain_only_while_all_committees_are_known() {
        let now = 1_000_000;
        let term =
            |epoch, activation| Term { committee: Arc::new(committee(epoch)), activation, closes: None };
        let view = |second, final_by| {
            let first = Term { closes: Some(second + 60), ..term(1, 1) };
            let epochs = Epochs::new(vec![first, term(2, second)]).unwrap();
            View { epochs, final_by, ..View::fixed(Arc::new(committee(1))) }
        };
        for (activation, final_by, certain) in [
            (now - 1, u64::MAX, true),
            (now, u64::MAX, true),
            (now + 1, u64::MAX, false),
            (now + CLOCK_SLACK, u64::MAX, false),
            (now + CLOCK_SLACK + 1, u64::MAX, true),
            (now - 1, now, true),
            (now - 1, now - 1, false),
        ] {
            assert_eq!(knows_all(&view(activation, final_by), now), certain, "{activation} {final_by}");
        }
        assert!(knows_all(&View::fixed(Arc::new(committee(1))), now));
    }
}
