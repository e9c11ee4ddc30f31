//! What clients do meanwhile: puts and reads, whose answers are judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::fetch::{FaultKind, ReadError, Reader};
use meridian_client::submit::{Failure, PutError, PutOptions, Receipt, Submitter};
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use meridian_proto::error::{ApiError, Class, Reason};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::devnet::Devnet;
use crate::network::eventually;
use crate::random::Random;
use crate::{network, payload};

/// Puts and reads that begin with each step.
const PUTS: usize = 6;
const READS: usize = 3;

/// Milliseconds within which they begin: at once, as it were, or one after the other.
const SPREADS: [u64; 2] = [50, 800];

/// Long enough for an earlier entry to serve a repeated put for an hour (protocol section 3).
const RETENTION: u64 = 7_200;

/// How everything is put.
#[must_use]
pub fn options() -> PutOptions {
    PutOptions { retention: RETENTION, ..network::options() }
}

/// A payload, by what it is made from.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    length: usize,
    seed: u64,
}

impl Draft {
    /// Mostly short ones: all together have to fit the disk of a small machine five times.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let length = match random.below(100) {
            0..2 => 8 << 20,
            2..10 => 1 << 20,
            10..40 => 130_000,
            _ => 24_000,
        };
        Self { length, seed: random.number() }
    }

    /// The payload.
    #[must_use]
    pub fn payload(self) -> Bytes {
        payload::noise(self.length, self.seed)
    }
}

/// A put that got its certificate.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// What was put.
    pub draft: Draft,
    /// What came back.
    pub certificate: Certificate,
    /// Replicas that cosigned the certificate's checkpoint.
    pub signers: Vec<Address>,
}

impl Acknowledged {
    /// Whose log it is in.
    #[must_use]
    pub fn gateway(&self) -> Address {
        self.certificate.checkpoint.signed.checkpoint.gateway
    }
}

enum Outcome {
    Put(Draft, Result<Box<Receipt>, PutError>),
    Read(Result<()>),
    ReadRefused(ReadError),
}

/// Puts and reads that are on their way, and what became of the others.
pub struct Clients {
    devnet: Arc<Devnet>,
    reader: Reader,
    tasks: JoinSet<Outcome>,
    /// In the order in which the answers came.
    pub acknowledged: Vec<Arc<Acknowledged>>,
    /// Puts that were refused.
    pub refused: Vec<Draft>,
    /// How often puts and reads were refused, by the reason.
    pub refusals: BTreeMap<String, u64>,
    /// Reads that were answered.
    pub reads: u64,
}

impl Clients {
    /// Clients of a network.
    #[must_use]
    pub fn new(devnet: Arc<Devnet>) -> Self {
        Self {
            reader: devnet.reader(),
            devnet,
            tasks: JoinSet::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            refusals: BTreeMap::new(),
            reads: 0,
        }
    }

    /// Begins some more puts and reads. Takes the same numbers from the sequence whatever happened before.
    pub fn begin(&mut self, random: &mut Random) {
        let spread = *random.pick(&SPREADS);
        for _ in 0..PUTS {
            let (draft, wait) = (Draft::draw(random), random.below(spread));
            let mut gateways = self.devnet.gateways();
            random.shuffle(&mut gateways);
            let submitter = self.devnet.submitter_to(gateways);
            self.tasks.spawn(async move {
                sleep(Duration::from_millis(wait)).await;
                let put = submitter.put(draft.payload(), &options(), &Silent).await;
                Outcome::Put(draft, put.map(Box::new))
            });
        }
        for _ in 0..READS {
            let (which, wait) = (random.number(), random.below(spread));
            let blobs = u64::try_from(self.acknowledged.len()).unwrap_or(u64::MAX);
            let Some(place) = which.checked_rem(blobs) else { continue };
            let blob = Arc::clone(&self.acknowledged[usize::try_from(place).unwrap_or(0)]);
            let reader = self.reader.clone();
            self.tasks.spawn(async move {
                sleep(Duration::from_millis(wait)).await;
                read(&reader, &blob).await
            });
        }
    }

    /// Takes the answers that have come.
    ///
    /// # Errors
    /// An answer that no client may get.
    pub fn collect(&mut self) -> Result<()> {
        while let Some(outcome) = self.tasks.try_join_next() {
            self.note(outcome?)?;
        }
        Ok(())
    }

    /// Waits for all answers.
    ///
    /// # Errors
    /// An answer that no client may get.
    pub async fn finish(&mut self) -> Result<()> {
        while let Some(outcome) = self.tasks.join_next().await {
            self.note(outcome?)?;
        }
        Ok(())
    }

    /// Puts one payload now, and gives back the reason where it was refused.
    ///
    /// # Errors
    /// An answer that no client may get.
    pub async fn put(&mut self, draft: Draft) -> Result<Option<ApiError>> {
        let put = self.devnet.submitter().put(draft.payload(), &options(), &Silent).await;
        let reason = match &put {
            Ok(_) => None,
            Err(error) => Some(refusal(error)?),
        };
        self.note(Outcome::Put(draft, put.map(Box::new)))?;
        Ok(reason)
    }

    /// Puts what was refused until it is certified.
    ///
    /// # Errors
    /// An answer that no client may get, or none within `limit` for one of them.
    pub async fn put_refused(&mut self, limit: Duration) -> Result<()> {
        for draft in std::mem::take(&mut self.refused) {
            eventually(limit, "a certificate for what was refused before", async || {
                match self.put(draft).await {
                    Ok(refused) => refused.is_none().then_some(Ok(())),
                    Err(error) => Some(Err(error)),
                }
            })
            .await??;
        }
        self.refused.clear();
        Ok(())
    }

    /// Reads one blob now; true where it came.
    ///
    /// # Errors
    /// An answer that no client may get.
    pub async fn read(&mut self, blob: &Acknowledged) -> Result<bool> {
        let outcome = read(&self.reader, blob).await;
        let came = matches!(outcome, Outcome::Read(_));
        self.note(outcome).map(|()| came)
    }

    fn note(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Put(draft, Ok(receipt)) => {
                let Receipt { certificate, signers, .. } = *receipt;
                self.acknowledged.push(Arc::new(Acknowledged { draft, certificate, signers }));
            }
            Outcome::Put(draft, Err(error)) => {
                let reason = refusal(&error)?.reason;
                *self.refusals.entry(format!("put {reason}")).or_default() += 1;
                self.refused.push(draft);
            }
            Outcome::Read(compared) => {
                compared?;
                self.reads += 1;
            }
            Outcome::ReadRefused(error) => {
                // Not "unknown" above all: that is a claim that the blob is nowhere.
                let passing = matches!(error.reason().class(), Class::Unavailable | Class::Overloaded);
                ensure!(passing, "a read of a certified blob failed: {error} ({})", error.reason());
                ensure!(error.faults().iter().all(|fault| fault.kind != FaultKind::Wrong), "{error}");
                *self.refusals.entry(format!("read {}", error.reason())).or_default() += 1;
            }
        }
        Ok(())
    }
}

async fn read(reader: &Reader, blob: &Acknowledged) -> Outcome {
    let id = blob.certificate.id();
    match reader.payload(id, &Silent).await {
        Ok(fetched) if fetched.payload != blob.draft.payload() => {
            Outcome::Read(Err(anyhow::anyhow!("blob {id} was read back with other bytes")))
        }
        Ok(fetched) => {
            let wrong = fetched.faults.into_iter().find(|fault| fault.kind == FaultKind::Wrong);
            let judged = wrong.map_or(Ok(()), |fault| Err(anyhow::anyhow!("blob {id}: {fault:?}")));
            Outcome::Read(judged)
        }
        Err(error) => Outcome::ReadRefused(error),
    }
}

/// Puts until it is certified, as a sequencer does: on a slow machine a good region may be silent for a moment.
///
/// # Errors
/// An answer that no client may get, or none within `limit`.
pub async fn put_at_last(
    submitter: &Submitter,
    payload: &Bytes,
    options: &PutOptions,
    limit: Duration,
) -> Result<Receipt> {
    eventually(limit, "a certificate", async || {
        match submitter.put(payload.clone(), options, &Silent).await {
            Ok(receipt) => Some(Ok(receipt)),
            Err(error) => refusal(&error).err().map(Err),
        }
    })
    .await?
}

/// The last gateway's reason, where all said "later" or "elsewhere": anything else is a fault, and so is a bad
/// certificate.
///
/// # Errors
/// The fault.
pub fn refusal(error: &PutError) -> Result<ApiError> {
    let PutError::Failed(attempts) = error else { bail!("a put failed: {error}") };
    for attempt in attempts {
        match &attempt.failure {
            Failure::Call(call) if is_passing(call) => {}
            _ => bail!("a put failed: {attempt}"),
        }
    }
    match attempts.last().map(|attempt| &attempt.failure) {
        Some(Failure::Call(last)) => Ok(last.clone()),
        _ => None.context("a put failed without a reason"),
    }
}

/// Whether the same may work later. No kill may make a gateway give up its log or a member its disk.
fn is_passing(error: &ApiError) -> bool {
    let lasting = matches!(error.reason, Reason::LogRetired | Reason::StoreDamaged | Reason::StoreFailed);
    error.is_retryable() && !lasting
}
