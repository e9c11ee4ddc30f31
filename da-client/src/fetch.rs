//! Reading: whole payloads, rows and samples, from whichever replicas have them.
//!
//! Nothing that a replica says is returned before it is checked against the blob id. Wrong answers are attributed to
//! the seat that gave them, counted as erasures, and never retried with that seat.

mod context;
mod epochs;
mod gather;
mod hedges;
mod held;
mod in_order;
mod payload;
mod probe;
mod race;
mod range;
mod sample;
mod seat;

use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::committee::{Committee, RegionId, Seat};
use meridian_proofs::{Address, B256};
use meridian_proto::error::{ApiError, Class, EXPIRY, Reason};
use thiserror::Error;
use tokio::sync::Semaphore;

use self::hedges::Hedges;
use crate::nearest::Nearest;
use crate::rpc::Channels;
use crate::time::utc;

pub use context::Found;
pub use epochs::Readers;
pub use gather::Gathered;
pub use in_order::PayloadStream;
pub use payload::Fetched;
pub use range::FetchedRange;
pub use sample::{Draw, Sampled};

/// Reads from the replicas of one committee.
///
/// Clones share connections and measurements.
#[derive(Clone)]
pub struct Reader {
    committee: Arc<Committee>,
    channels: Channels,
    nearest: Arc<Nearest>,
    hedges: Arc<Hedges>,
    cpu: Arc<Semaphore>,
    ignores_kzg: bool,
    /// A seat that is never asked.
    without: Option<Address>,
}

/// What a seat did instead of answering rightly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// It was out of reach, too slow or overloaded.
    Silent,
    /// It does not hold what it was asked for.
    Missing,
    /// It gave an answer that is provably not the right one.
    Wrong,
}

/// A failure to answer, attributed to a seat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Address of the seat.
    pub seat: Address,
    /// Its region.
    pub region: RegionId,
    /// What kind of failure it was.
    pub kind: FaultKind,
    /// What happened.
    pub what: String,
}

/// Why something could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// Certain: as many regions as a certificate needs say that there is no such blob.
    #[error("{}", absence(*regions, *expired))]
    Unknown {
        /// Regions that said so.
        regions: usize,
        /// Unix seconds at which it expired, if as many regions as a certificate needs say the same.
        expired: Option<u64>,
    },
    /// Too few rows can be had at this time.
    #[error("only {have} of {need} rows can be had now ({})", blame(faults))]
    Unavailable {
        /// Verified rows.
        have: usize,
        /// Rows that are needed.
        need: usize,
        /// What went wrong.
        faults: Vec<Fault>,
    },
    /// Nobody who can be reached knows the blob, and too few answered to be certain that it is unknown.
    #[error("too few replicas answer to find the blob or to say that it is unknown ({})", blame(faults))]
    Unreachable {
        /// What went wrong.
        faults: Vec<Fault>,
    },
    /// The blob is there, and its certificate cannot be put together at this time.
    #[error("the blob is there, and too few cosignatures of its log are within reach for a certificate")]
    Uncertified,
    /// The blob's padding is not zero: it has no payload, for any reader.
    #[error("blob is malformed: its padding is not zero")]
    Malformed,
    /// The blob's rows are not a codeword: it has no payload, for any reader.
    #[error("blob is inconsistent: its rows do not re-encode to its row root")]
    Inconsistent,
    /// The blob's KZG commitments are not those of its payload: a derivation drops it (protocol section 8).
    #[error("the header's kzg root {stated} is not that of the payload, {computed}")]
    KzgMismatch {
        /// Root of the payload's commitments.
        computed: B256,
        /// Root that the header names.
        stated: B256,
    },
    /// The payload has no such bytes.
    #[error("the payload has {length} bytes, and no range {start}..{end}")]
    Range {
        /// First byte of the range.
        start: u64,
        /// The byte after its last.
        end: u64,
        /// Length of the payload.
        length: u64,
    },
    /// A worker of this program failed.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Reader {
    /// A reader without measurements yet.
    #[must_use]
    pub fn new(committee: Arc<Committee>, channels: Channels) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (nearest, hedges, cpu) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(workers)));
        Self { committee, channels, nearest, hedges, cpu, ignores_kzg: false, without: None }
    }

    /// The same reader, with measurements that others share.
    #[must_use]
    pub fn measuring(self, nearest: Arc<Nearest>) -> Self {
        Self { nearest, ..self }
    }

    /// The same reader, which never asks one of the seats: that of the replica that reads.
    #[must_use]
    pub fn without(self, seat: Address) -> Self {
        Self { without: Some(seat), ..self }
    }

    /// The same reader, which gives payloads whatever KZG root their headers name. Not for a derivation: it has to drop a
    /// blob whose binding does not match.
    #[must_use]
    pub fn ignoring_kzg(self) -> Self {
        Self { ignores_kzg: true, ..self }
    }

    /// The committee whose replicas are read.
    #[must_use]
    pub fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// The connections that are used.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// What is known about distances.
    #[must_use]
    pub fn nearest(&self) -> &Nearest {
        &self.nearest
    }

    /// The seats of a region that may be asked for so many bytes of rows, or a short answer, nearest first.
    fn seats(&self, region: RegionId, bytes: u64) -> Vec<Seat> {
        let mut seats = self.nearest.seats(&self.committee, region, bytes);
        seats.retain(|seat| Some(seat.address) != self.without);
        seats
    }

    /// Lets a fault cost its seat the place. Who does not hold a blob may hold all others.
    pub(crate) fn note(&self, fault: &Fault) {
        if fault.kind != FaultKind::Missing {
            self.nearest.failed(fault.seat);
        }
    }

    /// Whether it is known which region to ask first.
    fn is_warm(&self) -> bool {
        let regions = self.committee.regions().iter().map(|region| region.id);
        self.nearest.is_known(&self.committee, regions.filter(|region| !self.seats(*region, 0).is_empty()))
    }

    /// Runs work on the processor off the async threads, no more at once than there are cores.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let _permit = self.cpu.acquire().await.map_err(|closed| ReadError::Internal(closed.to_string()))?;
        tokio::task::spawn_blocking(work).await.map_err(|failed| ReadError::Internal(failed.to_string()))
    }
}

impl Fault {
    /// A provably wrong answer.
    #[allow(clippy::needless_pass_by_value, reason = "texts and errors alike are given as they are")]
    pub(crate) fn wrong(seat: &Seat, what: impl ToString) -> Self {
        Self { seat: seat.address, region: seat.region, kind: FaultKind::Wrong, what: what.to_string() }
    }

    /// Something that it has to hold and does not.
    pub(crate) fn missing(seat: &Seat, what: String) -> Self {
        Self { seat: seat.address, region: seat.region, kind: FaultKind::Missing, what }
    }

    /// No answer in time.
    pub(crate) fn silent(seat: &Seat, waited: Duration) -> Self {
        let what = format!("no answer within {} ms", waited.as_millis());
        Self { seat: seat.address, region: seat.region, kind: FaultKind::Silent, what }
    }

    /// What an error of a call says about the seat.
    pub(crate) fn of(seat: &Seat, error: &ApiError) -> Self {
        let kind = match error.class() {
            Class::Unknown => FaultKind::Missing,
            _ if error.reason == Reason::AnswerInvalid => FaultKind::Wrong,
            _ => FaultKind::Silent,
        };
        Self { seat: seat.address, region: seat.region, kind, what: error.message.clone() }
    }

    /// Logs the fault: a wrong answer as a warning.
    pub(crate) fn report(&self) {
        let Self { seat, region, kind, what } = self;
        if *kind == FaultKind::Wrong {
            tracing::warn!(%seat, region = region.0, what, "replica gave a wrong answer");
        } else {
            tracing::debug!(%seat, region = region.0, what, "replica did not answer");
        }
    }
}

impl ReadError {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown { expired: Some(_), .. } => Reason::BlobExpired,
            Self::Unknown { .. } => Reason::BlobUnknown,
            Self::Unavailable { .. } => Reason::RebuildFailed,
            Self::Unreachable { .. } => Reason::Unreachable,
            Self::Uncertified => Reason::CertificatePending,
            Self::Malformed | Self::Inconsistent | Self::KzgMismatch { .. } => Reason::BlobInconsistent,
            Self::Range { .. } => Reason::RangeInvalid,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// The stable name, finer than the reason.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "BLOB_MALFORMED",
            Self::KzgMismatch { .. } => "KZG_MISMATCH",
            Self::Unavailable { .. } => "ROWS_UNAVAILABLE",
            other => other.reason().as_str(),
        }
    }

    /// Whether another try may succeed: nothing is certain.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Unreachable { .. } | Self::Uncertified | Self::Internal(_)
        )
    }

    /// What went wrong, by seat.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Unavailable { faults, .. } | Self::Unreachable { faults } => faults,
            _ => &[],
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let answer = Self::new(error.reason(), error.to_string());
        match error {
            ReadError::Unknown { expired: Some(expiry), .. } => answer.with(EXPIRY, expiry),
            _ => answer,
        }
    }
}

fn absence(regions: usize, expired: Option<u64>) -> String {
    match expired {
        Some(expiry) => format!("the blob expired at {} ({regions} regions say so)", utc(expiry)),
        None => format!("no such blob, or it has expired ({regions} regions say so)"),
    }
}

/// One short line about the faults: how many of each kind.
fn blame(faults: &[Fault]) -> String {
    let count = |kind| faults.iter().filter(|fault| fault.kind == kind).count();
    format!(
        "{} silent, {} without the rows, {} wrong answers",
        count(FaultKind::Silent),
        count(FaultKind::Missing),
        count(FaultKind::Wrong)
    )
}
