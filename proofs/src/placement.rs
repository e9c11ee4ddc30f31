//! Which rows of a blob a seat holds (protocol section 4).
//!
//! The T rows form a ring. The regions start evenly spread along it, turned by the blob id, and the seats of a region
//! take consecutive intervals of equal length from its start. Each region alone rebuilds the payload, also from any
//! m-f of its seats of which f lie; and every row has a holder.
//!
//! Intervals are rounded up, so the seats of a region may come to a few rows more than the region has to hold. With
//! many seats, few rows and few regions they come to more than the ring: then the last ones share rows with the first.
//! A single interval never holds a row twice.

use crate::{
    committee::{Committee, RegionId, Seat},
    ids::BlobId,
    shape::{RowIndex, RowRange, Shape},
};

/// Consecutive rows on the ring: one range, or two where they pass the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interval {
    ranges: Vec<RowRange>,
}

impl Interval {
    /// `rows` rows from `start`, both on the ring of all rows.
    fn new(start: usize, rows: usize, shape: Shape) -> Self {
        let total = shape.total_rows();
        let (start, rows) = (start % total, rows.min(total));
        let before_end = rows.min(total - start);
        let range = |start: usize, count: usize| {
            shape.range(u32::try_from(start).ok()?, u32::try_from(count).ok().filter(|count| *count > 0)?)
        };
        Self {
            ranges: [range(start, before_end), range(0, rows - before_end)].into_iter().flatten().collect(),
        }
    }

    /// The ranges, in ring order: one, or the one that reaches the end and then the one from row 0.
    #[must_use]
    pub fn ranges(&self) -> &[RowRange] {
        &self.ranges
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ranges.iter().map(|range| range.count() as usize).sum()
    }

    /// Whether a row is among them.
    #[must_use]
    pub fn contains(&self, row: RowIndex) -> bool {
        self.ranges.iter().any(|range| range.contains(row))
    }
}

/// The rows of one seat. Empty where the seat is none of the committee's.
#[must_use]
pub fn interval(committee: &Committee, seat: &Seat, id: &BlobId, shape: Shape) -> Interval {
    let place = committee.seats_of(seat.region).position(|other| other.number == seat.number);
    let start = region_start(committee, seat.region, id, shape);
    match (place, start) {
        (Some(place), Some(start)) => {
            let rows = seat_rows(committee, seat.region, shape);
            Interval::new(start + place * rows, rows, shape)
        }
        _ => Interval { ranges: Vec::new() },
    }
}

/// The rows that the seats of a region hold together. Empty where the region is none of the committee's.
#[must_use]
pub fn region_interval(committee: &Committee, region: RegionId, id: &BlobId, shape: Shape) -> Interval {
    match region_start(committee, region, id, shape) {
        Some(start) => {
            let rows = committee.seats_per_region(region) * seat_rows(committee, region, shape);
            Interval::new(start, rows, shape)
        }
        None => Interval { ranges: Vec::new() },
    }
}

/// Whether a region holds all data rows, so that its rows give the payload without decoding.
#[must_use]
pub fn is_data_region(committee: &Committee, region: RegionId, id: &BlobId, shape: Shape) -> bool {
    let held = region_interval(committee, region, id, shape);
    // Data rows end before the ring does: unless the region holds everything, they are in one range or not all there.
    held.rows() == shape.total_rows()
        || held.ranges.iter().any(|range| range.start() == 0 && range.end() as usize >= shape.data_rows())
}

/// First row of a region: floor(((r + h) mod R) * T / R).
fn region_start(committee: &Committee, region: RegionId, id: &BlobId, shape: Shape) -> Option<usize> {
    let rank = committee.region_rank(region)?;
    let regions = committee.regions().len();
    let turn = ring_turn(id, regions);
    Some((rank + turn) % regions * shape.total_rows() / regions)
}

/// h: the first 8 bytes of the blob id, big-endian, mod R.
fn ring_turn(id: &BlobId, regions: usize) -> usize {
    // Byte by byte, so that the number never leaves the range of a usize.
    id.as_bytes()[..8].iter().fold(0, |turn, byte| (turn * 256 + usize::from(*byte)) % regions)
}

/// Rows of each seat of a region: ceil(C/m), with C = min(T, max(ceil(K*m/(m-2f)), ceil(T/R))).
fn seat_rows(committee: &Committee, region: RegionId, shape: Shape) -> usize {
    let (seats, tolerance) = (committee.seats_per_region(region), committee.tolerance(region));
    let enough = (shape.data_rows() * seats).div_ceil(seats - 2 * tolerance);
    let share = shape.total_rows().div_ceil(committee.regions().len());
    enough.max(share).min(shape.total_rows()).div_ceil(seats)
}

#[cfg(test)]
mod tests;
