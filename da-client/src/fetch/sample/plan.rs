//! Whom to ask for which row of a sample.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use meridian_proofs::committee::RegionId;
use meridian_proofs::placement::{self, Interval};
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowIndex;

use super::super::{ReadError, Reader, gather};
use super::Draw;

/// One row of so many is asked for elsewhere than in the nearest region.
const ELSEWHERE: usize = 4;

/// The seats to ask for each row, in order, as places in the committee's list.
pub(super) type Plan = BTreeMap<RowIndex, VecDeque<usize>>;

/// A seat that may be asked.
struct Holder {
    place: usize,
    /// The rank of its region among all, nearest first.
    rank: usize,
    /// Whether it is known to take too long.
    is_slow: bool,
    /// What it holds.
    interval: Interval,
}

impl Reader {
    /// Plans a sample.
    ///
    /// Any seat answers for any row, so a row is asked of the nearest region, of a seat that holds it before one that has to
    /// rebuild it, and so on from region to region. The first rows of the draw, which is in random order, are asked of
    /// who holds them elsewhere before: so no replica sees the whole draw, and none has to rebuild anything for that.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub(super) fn plan(&self, context: &BlobContext, draw: &Draw) -> Result<Plan, ReadError> {
        let holders = self.holders(context, draw.rows().len())?;
        let nearest = holders.iter().map(|holder| holder.rank).min().unwrap_or_default();
        let mut elsewhere = match draw.rows().len() {
            0 | 1 => 0,
            rows => (rows / ELSEWHERE).max(1),
        };
        let mut plan = Plan::new();
        for row in draw.rows() {
            let mut order: Vec<(&Holder, u64)> = holders.iter().zip(random(holders.len())?).collect();
            order.sort_by_key(|(holder, random)| {
                (holder.rank, holder.is_slow, !holder.interval.contains(*row), *random)
            });
            let mut seats: Vec<usize> = order.iter().map(|(holder, _)| holder.place).collect();
            let is_elsewhere =
                |holder: &Holder| holder.rank > nearest && !holder.is_slow && holder.interval.contains(*row);
            if elsewhere > 0
                && let Some(place) = order.iter().position(|(holder, _)| is_elsewhere(holder))
            {
                elsewhere -= 1;
                seats[..=place].rotate_right(1);
            }
            plan.insert(*row, seats.into());
        }
        Ok(plan)
    }

    /// The seats that may be asked for a sample of so many rows.
    fn holders(&self, context: &BlobContext, rows: usize) -> Result<Vec<Holder>, ReadError> {
        let committee = &self.committee;
        let (id, shape) = (context.id(), context.shape());
        let bytes = gather::wide(rows).saturating_mul(gather::wide(shape.row_bytes()));
        let regions = committee.regions().iter().map(|region| region.id);
        let mut order: Vec<(Duration, u64, RegionId)> = regions
            .zip(random(committee.regions().len())?)
            .map(|(id, random)| {
                (self.nearest.guess(committee, id, bytes).unwrap_or(Duration::MAX), random, id)
            })
            .collect();
        order.sort_unstable();
        let ranks: BTreeMap<RegionId, usize> = order.iter().map(|(.., id)| *id).zip(0..).collect();
        let seats = committee.seats().iter().enumerate();
        let seats = seats.filter(|(_, seat)| Some(seat.address) != self.without);
        let holders = seats.filter_map(|(place, seat)| {
            let expected = self.nearest.expected(&seat.address, bytes);
            Some(Holder {
                place,
                rank: *ranks.get(&seat.region)?,
                is_slow: expected.is_some_and(|time| time >= gather::OVERDUE),
                interval: placement::interval(committee, seat, &id, shape),
            })
        });
        Ok(holders.collect())
    }
}

/// Random numbers, for an order that nobody can tell beforehand.
fn random(count: usize) -> Result<Vec<u64>, ReadError> {
    let mut bytes = vec![0; 8 * count];
    getrandom::fill(&mut bytes).map_err(|error| ReadError::Internal(error.to_string()))?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}
