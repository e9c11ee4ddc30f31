//! sampling

use crate::shape::{RowIndex, Shape};

/// bound
pub fn bound_unavailable(_shape: Shape, _samples: usize, _verified: usize) -> f64 {
    todo!()
}
/// bound
pub fn bound_misencoded(_shape: Shape, _samples: usize, _verified: usize) -> f64 {
    todo!()
}
/// draw
pub fn draw(_shape: Shape, _samples: usize, _random: &mut impl FnMut(&mut [u8])) -> Vec<RowIndex> {
    todo!()
}
