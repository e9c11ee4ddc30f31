//! Submitting: a payload goes to a gateway, a certificate comes back and is checked in full.

mod expectation;
mod signing;

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::FutureExt;
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::RegionId;
use meridian_proofs::encode::{self, EncodeError};
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::shape::{LengthError, PayloadLength};
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{B256, keccak256};
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Class, Reason};
use thiserror::Error;
use tokio::sync::watch;

use crate::Progress;
use crate::chain::view::View;
use crate::rpc::Channels;

pub use self::expectation::{CertificateFault, Expectation};

/// Most seconds by which the entry that a put gets may expire sooner than it asked, protocol section 3.
const EXPIRY_SLACK: u64 = 3600;

/// The earliest expiry that serves a put: an earlier entry's may lie up to an hour, and half of the retention, before
/// what was asked for. Unix seconds.
#[must_use]
pub fn least_expiry(now: u64, retention: u64) -> u64 {
    now.saturating_add(retention - EXPIRY_SLACK.min(retention / 2))
}

/// By how many seconds a gateway's clock may differ from ours.
pub(crate) const CLOCK_SLACK: u64 = 120;

/// Longest wait for a gateway, beside what the upload takes.
const PUT_DEADLINE: Duration = Duration::from_secs(60);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Bytes a second that an upload makes at least.
const PUT_RATE: u64 = 256 << 10;

/// How a payload is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutOptions {
    /// Whose blob it is.
    pub namespace: Namespace,
    /// Seconds to keep it.
    pub retention: u64,
    /// Whether the entry shall carry keccak256(payload).
    pub bind_payload_hash: bool,
    /// The id that the payload must have, where the caller knows it.
    pub expected: Option<BlobId>,
    /// Root of the payload's KZG commitments (see [`crate::kzg::commit`]), where the blob shall be bound to them. Zero is
    /// as good as none.
    pub kzg_root: Option<B256>,
}

/// A certificate that was checked.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The certificate.
    pub certificate: Certificate,
    /// The regions that are complete in it.
    pub complete: Vec<RegionId>,
    /// The seats that signed it.
    pub signers: Vec<Address>,
    /// The gateway that gave it.
    pub gateway: String,
    /// The gateways that were tried before and failed.
    pub failed: Vec<Attempt>,
}

/// A gateway that failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{gateway}: {failure}")]
pub struct Attempt {
    /// Its endpoint.
    pub gateway: String,
    /// How it failed.
    pub failure: Failure,
}

/// How a gateway failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Failure {
    /// It answered with an error, or not at all.
    #[error(transparent)]
    Call(#[from] ApiError),
    /// It answered with a certificate that does not hold.
    #[error("bad certificate: {0}")]
    Certificate(#[from] CertificateFault),
}

/// Why a payload could not be put.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PutError {
    /// It is empty or too long.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// It has another id than the caller expected. Nothing was sent.
    #[error("the payload's blob id is {computed}, not {expected}")]
    OtherId {
        /// What the caller expected.
        expected: BlobId,
        /// What it is.
        computed: BlobId,
    },
    /// No gateway is known.
    #[error("no gateway is known")]
    NoGateway,
    /// A gateway refused the request for good, or the last one failed; the others failed before.
    #[error("{}", describe(.0))]
    Failed(Vec<Attempt>),
    /// A worker of this program failed.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Puts payloads through any of several gateways.
#[derive(Clone)]
pub struct Submitter {
    view: watch::Receiver<Arc<View>>,
    channels: Channels,
    gateways: Vec<String>,
    now: fn() -> u64,
    /// Longest wait for a gateway, beside what the upload takes.
    wait: Duration,
    insists: bool,
    /// Who answers for the puts.
    signer: Option<Arc<SecretKey>>,
}

/// What a payload is, computed by ourselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its blob id, under the KZG root of the put.
    pub id: BlobId,
    /// Its hash where the put asks for it, else unbound.
    pub payload_hash: PayloadHash,
}

impl Identity {
    /// Hashes and encodes a payload.
    ///
    /// # Errors
    /// The payload is empty or too long.
    pub fn of(payload: &[u8], bind_payload_hash: bool, kzg_root: B256) -> Result<Self, EncodeError> {
        let id = encode::encode::<Blake3>(payload, kzg_root)?.id();
        let hash = || PayloadHash(keccak256(payload));
        Ok(Self { id, payload_hash: if bind_payload_hash { hash() } else { PayloadHash::UNBOUND } })
    }
}

impl Submitter {
    /// Tries the gateways in their order, and takes certificates of the epochs that are open then.
    #[must_use]
    pub fn new(view: watch::Receiver<Arc<View>>, channels: Channels, gateways: Vec<String>) -> Self {
        Self { view, channels, gateways, now: unix_now, wait: PUT_DEADLINE, insists: false, signer: None }
    }

    /// Waits for each gateway no longer than this, beside what the upload takes.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait: wait.min(PUT_DEADLINE), ..self }
    }

    /// Asks the other gateways also when one refuses the request for good: what one says of it is not what all do.
    #[must_use]
    pub fn insisting(self) -> Self {
        Self { insists: true, ..self }
    }

    /// Takes the time at which a put begins from elsewhere than the machine's clock, unix seconds. An earlier time than
    /// the machine's does not make certificates of then acceptable.
    #[must_use]
    pub fn with_clock(self, now: fn() -> u64) -> Self {
        Self { now, ..self }
    }

    /// Puts a payload and checks the certificate.
    ///
    /// Computes the id itself while the payload is on its way, from the payload and the KZG root of the options, which is
    /// not checked. A gateway that is out of reach, overloaded or broken,
    /// or that answers with a bad certificate, is passed over.
    ///
    /// # Errors
    /// See [`PutError`].
    pub async fn put(
        &self,
        payload: Bytes,
        options: &PutOptions,
        progress: &dyn Progress,
    ) -> Result<Receipt, PutError> {
        let (own, bind) = (payload.clone(), options.bind_payload_hash);
        let kzg_root = options.kzg_root.unwrap_or(B256::ZERO);
        let identity = tokio::task::spawn_blocking(move || Identity::of(&own, bind, kzg_root));
        let identity = async {
            let identity = identity.await.map_err(|error| PutError::Internal(error.to_string()))?;
            identity.map_err(|error| PutError::Internal(error.to_string()))
        };
        self.put_identified(payload, identity, options, progress).await
    }

    /// Puts a payload whose identity is known: see [`Self::put`].
    ///
    /// # Errors
    /// See [`PutError`].
    pub async fn put_as(
        &self,
        payload: Bytes,
        identity: Identity,
        options: &PutOptions,
        progress: &dyn Progress,
    ) -> Result<Receipt, PutError> {
        self.put_identified(payload, ready(Ok(identity)), options, progress).await
    }

    async fn put_identified(
        &self,
        payload: Bytes,
        identity: impl Future<Output = Result<Identity, PutError>>,
        options: &PutOptions,
        progress: &dyn Progress,
    ) -> Result<Receipt, PutError> {
        let length = PayloadLength::try_from(u64::try_from(payload.len()).unwrap_or(u64::MAX))?;
        let now = (self.now)();
        let identity = identity.shared();
        if let Some(expected) = options.expected {
            let Identity { id, .. } = identity.clone().await?;
            if id != expected {
                return Err(PutError::OtherId { expected, computed: id });
            }
        }
        let start = PutStart {
            namespace: options.namespace,
            length,
            retention: options.retention,
            bind_payload_hash: options.bind_payload_hash,
            expected_blob_id: options.expected,
            kzg_root: options.kzg_root.filter(|root| *root != B256::ZERO),
            authorization: None,
        };
        let expectation = |identity: Identity| Expectation {
            id: identity.id,
            length: length.get(),
            payload_hash: identity.payload_hash,
            namespace: options.namespace,
            retention: options.retention,
            now,
        };
        let signing = self.to_sign(&payload);
        let deadline = self.wait + Duration::from_secs(length.get() / PUT_RATE);
        let mut failed = Vec::new();
        for gateway in &self.gateways {
            progress.start(length.get());
            let uploaded = async {
                let start = match &signing {
                    Some(signing) => self.signed(signing, gateway, start).await?,
                    None => start,
                };
                self.upload(gateway, start, payload.clone(), deadline, progress).await
            };
            let mut answer = uploaded.await;
            if matches!(&answer, Err(error) if error.reason == Reason::QuotaExceeded)
                && let Some(earlier) = self.earlier(gateway, &expectation(identity.clone().await?)).await
            {
                answer = Ok(earlier);
            }
            let failure = match answer {
                Ok(certificate) => {
                    let expectation = expectation(identity.clone().await?);
                    let view = Arc::clone(&self.view.borrow());
                    match expectation.check_open(&certificate, &view.epochs) {
                        Ok(verified) => {
                            progress.finish();
                            return Ok(Receipt {
                                certificate,
                                complete: verified.complete,
                                signers: verified.signers,
                                gateway: gateway.clone(),
                                failed,
                            });
                        }
                        Err(fault) => {
                            tracing::warn!(gateway, %fault, "gateway gave a bad certificate");
                            Failure::Certificate(fault)
                        }
                    }
                }
                Err(error) => Failure::Call(error),
            };
            let last = !self.insists && !failure.may_work_elsewhere() && !failure.is_of_one_gateway();
            tracing::info!(gateway, %failure, "gateway failed");
            failed.push(Attempt { gateway: gateway.clone(), failure });
            if last {
                break;
            }
        }
        Err(if failed.is_empty() { PutError::NoGateway } else { PutError::Failed(failed) })
    }

    /// The certificate of a put whose answer was lost: it is there, however little fits now.
    async fn earlier(&self, gateway: &str, wanted: &Expectation) -> Option<Certificate> {
        let calls = self.channels.gateway(gateway).ok()?;
        let certificate = calls.certificate(wanted.id, Some(wanted.namespace)).await.ok()?;
        let view = Arc::clone(&self.view.borrow());
        wanted.check_open(&certificate, &view.epochs).is_ok().then_some(certificate)
    }

    /// Sends a payload to a gateway, and tells how far that is.
    async fn upload(
        &self,
        gateway: &str,
        start: PutStart,
        payload: Bytes,
        deadline: Duration,
        progress: &dyn Progress,
    ) -> Result<Certificate, ApiError> {
        let sent = Arc::new(AtomicU64::new(0));
        let mut told = 0;
        let mut tell = |sent: u64| {
            progress.advance(sent - told);
            told = sent;
        };
        let gateway = self.channels.gateway(gateway)?.within(deadline);
        let mut call = std::pin::pin!(gateway.put_counted(start, payload, sent.clone()));
        loop {
            match tokio::time::timeout(TELL_EVERY, &mut call).await {
                Ok(answer) => return answer,
                Err(_) => tell(sent.load(Ordering::Relaxed)),
            }
        }
    }
}

impl Failure {
    /// The stable name of what happened.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Call(error) => error.reason.as_str(),
            Self::Certificate(_) => "CERTIFICATE_INVALID",
        }
    }

    /// Whether another gateway may do better.
    pub(crate) fn may_work_elsewhere(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retryable() || error.class() == Class::Internal,
            Self::Certificate(_) => true,
        }
    }

    /// Whether this gateway alone refuses: who may put is for each to say, by its own clock.
    fn is_of_one_gateway(&self) -> bool {
        match self {
            Self::Call(error) => matches!(error.class(), Class::Unauthenticated | Class::Forbidden),
            Self::Certificate(_) => false,
        }
    }
}

/// Unix seconds.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Unix milliseconds.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn describe(attempts: &[Attempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
