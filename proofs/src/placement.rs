//! placement

use crate::{
    committee::{Committee, RegionId, Seat},
    ids::BlobId,
    shape::{RowIndex, RowRange, Shape},
};

/// Rows
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interval {
    ranges: Vec<RowRange>,
}
impl Interval {
    /// ranges
    pub fn ranges(&self) -> &[RowRange] {
        &self.ranges
    }
    /// rows
    pub fn rows(&self) -> usize {
        todo!()
    }
    /// contains
    pub fn contains(&self, _row: RowIndex) -> bool {
        todo!()
    }
}
/// interval
pub fn interval(_committee: &Committee, _seat: &Seat, _id: &BlobId, _shape: Shape) -> Interval {
    todo!()
}
/// region interval
pub fn region_interval(_committee: &Committee, _region: RegionId, _id: &BlobId, _shape: Shape) -> Interval {
    todo!()
}
/// data region
pub fn is_data_region(_committee: &Committee, _region: RegionId, _id: &BlobId, _shape: Shape) -> bool {
    todo!()
}
