//! Working space for a strip of columns of K rows.

use super::transform::{Rows, Span};
use crate::shape::BLOCK_BYTES;
use rayon::prelude::*;
use std::cell::RefCell;

/// Rows of a shelf: what the bottom six layers of a transform stay within.
pub(super) const SHELF: usize = 64;

/// The widest strip: enough of a row for each of its pages to be worth the visit.
const WIDEST: usize = 256;

/// The part of a row that the strips of all threads may take: their planes are then a tenth of the 4K rows.
const PART: usize = 5;

/// Bytes of a plane that may be had in any case.
const SMALL: usize = 128 << 10;

/// Bytes across all shelves that the upper layers work on at a time, and bytes of a shelf at least.
const ACROSS: (usize, usize) = (16 << 10, 256);

/// Bytes of K rows from which more than one thread pays.
const SHARED: usize = 64 << 10;

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "reached through pointers")] [u8; BLOCK_BYTES]);

thread_local! {
    /// Working space, kept for the next call.
    static SPACE: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Room for K rows of a strip: shelves of up to 64 rows, with a gap after each, so that rows of different shelves do
/// not fall on the same lines of the cache.
#[derive(Clone, Copy)]
pub(super) struct Plane {
    start: *mut u8,
    rows: usize,
    width: usize,
}

impl Plane {
    /// Bytes of a plane.
    fn bytes(rows: usize, width: usize) -> usize {
        rows * width + rows.div_ceil(SHELF) * BLOCK_BYTES
    }

    /// Number of shelves.
    #[inline(always)]
    pub(super) fn shelves(&self) -> usize {
        self.rows.div_ceil(SHELF)
    }

    /// From one shelf to the next.
    #[inline(always)]
    fn stride(&self) -> usize {
        SHELF * self.width + BLOCK_BYTES
    }

    /// The rows of a shelf.
    #[inline(always)]
    pub(super) fn shelf(&self, index: usize) -> Rows {
        Rows { start: self.start.wrapping_add(index * self.stride()), stride: self.width }
    }

    /// A row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> *mut u8 {
        self.start.wrapping_add(row / SHELF * self.stride() + row % SHELF * self.width)
    }

    /// Bytes of a row.
    #[inline(always)]
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// What a transform within a shelf is of, where the first row of the plane is at the point `offset`.
    #[inline(always)]
    pub(super) fn within(&self, offset: usize, index: usize) -> Span {
        Span { rows: self.rows.min(SHELF), width: self.width, offset: offset + index * SHELF }
    }

    /// What the transforms across shelves are of: a piece of each shelf at a time, given by its first byte.
    #[inline(always)]
    pub(super) fn across(&self, offset: usize) -> impl Iterator<Item = (usize, Span)> + use<> {
        let (shelves, bytes) = (self.shelves(), SHELF * self.width);
        let piece = (ACROSS.0 / shelves).max(ACROSS.1);
        (0..bytes)
            .step_by(piece)
            .map(move |at| (at, Span { rows: shelves, width: piece.min(bytes - at), offset: offset / SHELF }))
    }

    /// The pieces of the shelves from a byte on.
    #[inline(always)]
    pub(super) fn pieces(&self, at: usize) -> Rows {
        Rows { start: self.start.wrapping_add(at), stride: self.stride() }
    }
}

/// Works on all columns, strip by strip: on the first byte of a strip, with two planes of its width.
///
/// Strips are worked on side by side where there are threads for it and enough to do.
pub(super) fn each_strip(rows: usize, row_bytes: usize, work: impl Fn(usize, [Plane; 2]) + Sync) {
    let threads = if rows * row_bytes < SHARED { 1 } else { rayon::current_num_threads() };
    let share = (row_bytes / BLOCK_BYTES).div_ceil(threads) * BLOCK_BYTES;
    let part = (row_bytes / PART / threads).max(SMALL / rows) & !(BLOCK_BYTES - 1);
    let widest = part.clamp(BLOCK_BYTES, WIDEST).min(share);
    let strip = |index: usize| {
        let at = index * widest;
        let width = widest.min(row_bytes - at);
        let lines = Plane::bytes(rows, width) / BLOCK_BYTES;
        SPACE.with_borrow_mut(|space| {
            if space.len() < 2 * lines {
                space.resize(2 * lines, Line([0; BLOCK_BYTES]));
            }
            let start = space.as_mut_ptr();
            let planes = [start, start.wrapping_add(lines)];
            work(at, planes.map(|start| Plane { start: start.cast(), rows, width }));
        });
    };
    let strips = row_bytes.div_ceil(widest);
    if threads > 1 {
        (0..strips).into_par_iter().for_each(strip);
    } else {
        (0..strips).for_each(strip);
    }
}
