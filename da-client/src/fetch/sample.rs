//! Samples random rows of a blob.

mod asking;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::committee::RegionId;
use meridian_proofs::ids::BlobId;
use meridian_proofs::reconstruct::{DecodeError, Rebuilt};
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::sampling;
use meridian_proofs::shape::{RowIndex, Shape};

use self::asking::Sampling;
use super::{Fault, ReadError, Reader, gather};

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

    /// Rows that were drawn before, in the order in which they were. Nothing where one is there twice, or is none of the
    /// shape's.
    #[must_use]
    pub fn again(shape: Shape, rows: Vec<RowIndex>) -> Option<Self> {
        let distinct: BTreeSet<RowIndex> = rows.iter().copied().collect();
        let is_drawn = distinct.len() == rows.len() && rows.iter().all(|row| shape.index(row.0).is_some());
        is_drawn.then_some(Self(rows))
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

    /// How many clients an adversary fools at least who answers K-1 distinct rows and no more: floor((K-1)/s).
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
    /// They are asked of the nearest copy, about a quarter of them of others that hold them, several of one seat in one call.
    /// Whoever fails, lies or is late hands its rows to the next nearest, until each has verified or everybody was asked.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub async fn sample_rows(&self, context: &Arc<BlobContext>, draw: &Draw) -> Result<Sampled, ReadError> {
        let plan = self.plan(context, draw)?;
        Ok(Sampling::new(self, context, draw, plan).run().await)
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
}
