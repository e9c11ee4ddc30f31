//! Samples random rows of a blob.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::committee::{RegionId, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::reconstruct::{DecodeError, Rebuilt};
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::sampling;
use meridian_proofs::shape::{RowIndex, Shape};
use meridian_proto::error::ApiError;
use tokio::time::Instant;

use super::{Fault, FaultKind, ReadError, Reader, gather};
use crate::nearest::Took;

/// Longest wait for the samples of one replica before others are asked.
const ROUND: Duration = Duration::from_secs(5);

/// Rows that were drawn once, to be asked for unchanged until they are had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draw(Vec<RowIndex>);

/// What came of sampling a blob.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The blob.
    pub id: BlobId,
    /// Its shape.
    pub shape: Shape,
    /// The rows that were drawn, s of them.
    pub drawn: Vec<RowIndex>,
    /// Those that verified, v of them.
    pub verified: BTreeSet<RowIndex>,
    /// Whether the blob was decoded, encoded again and compared with its row root, because s is K or more.
    pub exact: bool,
    /// The regions that gave verified rows.
    pub regions: BTreeSet<RegionId>,
    /// What went wrong on the way.
    pub faults: Vec<Fault>,
}

impl Draw {
    /// Draws distinct rows, each set equally likely, from the randomness of the operating system.
    ///
    /// Draws every row when `samples` is more than there are.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn new(shape: Shape, samples: usize) -> Result<Self, ReadError> {
        let mut failed = None;
        let rows = sampling::draw(shape, samples.min(shape.total_rows()), &mut |bytes: &mut [u8]| {
            if let Err(error) = getrandom::fill(bytes) {
                failed = Some(ReadError::Internal(error.to_string()));
            }
        });
        failed.map_or(Ok(Self(rows)), Err)
    }

    /// Rows that were drawn before and are not in yet.
    #[must_use]
    pub fn again(rows: Vec<RowIndex>) -> Self {
        Self(rows)
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[RowIndex] {
        &self.0
    }
}

impl Sampled {
    /// Upper bound of the probability that this many rows verify although fewer than K rows can be had.
    #[must_use]
    pub fn bound_unavailable(&self) -> f64 {
        if self.exact {
            return 0.0;
        }
        sampling::bound_unavailable(self.shape, self.drawn.len(), self.verified.len())
    }

    /// Upper bound of the probability that this many rows verify although the blob is badly encoded.
    #[must_use]
    pub fn bound_misencoded(&self) -> f64 {
        if self.exact {
            return 0.0;
        }
        sampling::bound_misencoded(self.shape, self.drawn.len(), self.verified.len())
    }

    /// How many clients an adversary fools who answers K-1 distinct rows and no more: floor((K-1)/s).
    #[must_use]
    pub fn clients_fooled(&self) -> usize {
        if self.exact {
            return 0;
        }
        (self.shape.data_rows() - 1).checked_div(self.drawn.len()).unwrap_or(0)
    }
}

impl Reader {
    /// Draws and samples random rows of a blob; fetches and encodes the whole blob again when `samples` is K or more.
    ///
    /// # Errors
    /// The blob cannot be found, see [`Reader::context`]; rows that cannot be had are no error but not verified.
    /// With `samples` of K or more also [`ReadError::Unavailable`], [`ReadError::Inconsistent`] and [`ReadError::Malformed`].
    pub async fn sample(&self, id: BlobId, samples: usize) -> Result<Sampled, ReadError> {
        let found = self.find(id).await?;
        let shape = found.context.shape();
        let mut sampled = if samples >= shape.data_rows() {
            self.sample_exactly(&found.context).await?
        } else {
            self.sample_rows(&found.context, &Draw::new(shape, samples)?).await?
        };
        sampled.faults.splice(0..0, found.faults);
        Ok(sampled)
    }

    /// Samples the rows of a draw.
    ///
    /// Each row is asked of a seat that holds it, picked at random among them, then of other seats, until it
    /// verifies or everybody was asked.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub async fn sample_rows(&self, context: &Arc<BlobContext>, draw: &Draw) -> Result<Sampled, ReadError> {
        let shape = context.shape();
        let mut sampled = Sampled {
            id: context.id(),
            shape,
            drawn: draw.0.clone(),
            verified: BTreeSet::new(),
            exact: false,
            regions: BTreeSet::new(),
            faults: Vec::new(),
        };
        let mut plans = BTreeMap::new();
        for row in draw.rows() {
            plans.insert(*row, self.plan(context, *row)?);
        }
        for turn in 0..self.committee.seats().len() {
            let mut questions: BTreeMap<usize, Vec<RowIndex>> = BTreeMap::new();
            for (row, seats) in plans.iter().filter(|(row, _)| !sampled.verified.contains(row)) {
                if let Some(seat) = seats.get(turn) {
                    questions.entry(*seat).or_default().push(*row);
                }
            }
            let mut calls: FuturesUnordered<_> = questions
                .iter()
                .filter_map(|(seat, rows)| Some((self.committee.seats().get(*seat)?, rows)))
                .filter(|(seat, _)| !sampled.is_out(seat))
                .map(|(seat, rows)| async move { (seat, self.ask(context, seat, rows).await) })
                .collect();
            let mut answers = Vec::new();
            while let Some(answer) = calls.next().await {
                answers.push(answer);
            }
            for (seat, (verified, fault)) in answers {
                if !verified.is_empty() {
                    sampled.regions.insert(seat.region);
                }
                sampled.verified.extend(verified);
                if let Some(fault) = fault {
                    fault.report();
                    sampled.faults.push(fault);
                }
            }
            if sampled.verified.len() == draw.rows().len() {
                break;
            }
        }
        Ok(sampled)
    }

    /// Fetches K rows, decodes, encodes again and compares the row root.
    ///
    /// # Errors
    /// Fewer rows can be had; [`ReadError::Inconsistent`], or [`ReadError::Malformed`] where the padding is not zero.
    pub(crate) async fn sample_exactly(&self, context: &Arc<BlobContext>) -> Result<Sampled, ReadError> {
        let order = self.nearest.regions(
            &self.committee,
            gather::bytes(context.shape(), context.shape().data()),
            |_| Duration::ZERO,
        );
        let gathered = self
            .gather_in(context, &order, false, gather::Manner { hurries: true, ..gather::Manner::default() })
            .await?;
        let rows = gathered.rows;
        let (verified, rebuilt, is_malformed) = self
            .compute(move || {
                let rebuilt = rows.rebuild().map(|rebuilt| matches!(rebuilt, Rebuilt::Consistent(_)));
                let is_malformed = rows.payload() == Err(DecodeError::Malformed);
                let ranges = rows.into_ranges();
                let verified: BTreeSet<RowIndex> =
                    ranges.iter().flat_map(|range| range.range().indices()).collect();
                (verified, rebuilt, is_malformed)
            })
            .await?;
        match rebuilt {
            Ok(true) if is_malformed => Err(ReadError::Malformed),
            Ok(true) => Ok(Sampled {
                id: context.id(),
                shape: context.shape(),
                drawn: verified.iter().copied().collect(),
                verified,
                exact: true,
                regions: gathered.regions.into_iter().collect(),
                faults: gathered.faults,
            }),
            Ok(false) => Err(ReadError::Inconsistent),
            Err(error) => Err(ReadError::Internal(error.to_string())),
        }
    }

    /// The seats to ask for a row, as places in the committee's list: holders first, each group in random order.
    fn plan(&self, context: &BlobContext, row: RowIndex) -> Result<Vec<usize>, ReadError> {
        let seats = self.committee.seats();
        let mut order = Vec::with_capacity(seats.len());
        for (place, seat) in seats.iter().enumerate() {
            let interval = placement::interval(&self.committee, seat, &context.id(), context.shape());
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|error| ReadError::Internal(error.to_string()))?;
            order.push((!interval.contains(row), u64::from_le_bytes(random), place));
        }
        order.sort_unstable();
        Ok(order.into_iter().map(|(_, _, place)| place).collect())
    }

    /// Asks a seat for rows and tells which verified, and what went wrong.
    async fn ask(
        &self,
        context: &Arc<BlobContext>,
        seat: &Seat,
        rows: &[RowIndex],
    ) -> (Vec<RowIndex>, Option<Fault>) {
        let started = Instant::now();
        let call = async {
            let replica = self.channels.replica(&seat.endpoint)?.within(ROUND);
            replica.samples(context.id(), rows, context.shape().row_bytes()).await
        };
        let answer: Result<_, ApiError> = call.await;
        let samples = match answer {
            Ok(samples) => samples,
            Err(error) => return (Vec::new(), Some(Fault::of(seat, &error))),
        };
        self.nearest.answered(seat.address, Took::RoundTrip(started.elapsed()));
        let asked: Vec<RowIndex> = rows.to_vec();
        let context = context.clone();
        let checked = self
            .compute(move || {
                let mut verified = Vec::new();
                for sample in samples {
                    if !asked.contains(&sample.index) {
                        return (verified, Some("a row that nobody asked for".to_owned()));
                    }
                    match context.check_row(sample.index, sample.row, &sample.path) {
                        Ok(_) => verified.push(sample.index),
                        Err(error) => return (verified, Some(error.to_string())),
                    }
                }
                (verified, None)
            })
            .await;
        match checked {
            Ok((verified, None)) => (verified, None),
            Ok((verified, Some(what))) => {
                self.nearest.failed(seat.address);
                (verified, Some(Fault::wrong(seat, what)))
            }
            Err(error) => (Vec::new(), Some(Fault { kind: FaultKind::Silent, ..Fault::wrong(seat, error) })),
        }
    }
}

impl Sampled {
    /// Whether a seat lied or was out of reach, so that others are asked instead.
    fn is_out(&self, seat: &Seat) -> bool {
        self.faults.iter().any(|fault| fault.seat == seat.address && fault.kind != FaultKind::Missing)
    }
}
