//! Data rows from rows of one coset, or of two (see [`super::extend`] for the cosets and the polynomial h).
//!
//! The values of h are known at some points of the cosets a and b; let E be the other points of the two, at most K, and
//! e the product of (x + y) over y in E. P = e h has degree below 2K, and its values on both cosets are known: zero at
//! E. Write P = p + s q with p and q of degree below K; s is the element c all over the coset c, so what interpolates P
//! on the coset c is u(c) = p + c q. From u(a) and u(b) follow q = (u(a) + u(b)) / (a + b) and p = u(a) + a q.
//!
//! - Neither is the data's coset: there u(4) = p + 4 q = u(a) + (u(a) + u(b)) (a + 4) / (a + b), and the values
//!   of h are those of u(4) over those of e, which are not zero there.
//! - b = 4 is the data's coset: at E, P' = e' h + e h' = e' h. Since s' = 1 in a Cantor basis and s = 4 on this coset,
//!   P' = p' + q + 4 q' = u(4)' + (u(a) + u(4)) / (a + 4). A basis polynomial of the transform is a product of linear
//!   ones whose derivative is 1, one for each bit of its index, so the coefficient i of a derivative is the sum of the
//!   coefficients i + 2^j over the bits j that i has not.
//!
//! With a coset known whole, E is empty, and u(4) is what interpolates h on it.

use super::{
    Level,
    plane::{Plane, each_strip},
    tower::{Block, Field, Halves, product},
    transform::{Rows, forward, inverse},
    vector::Portable,
};
use crate::shape::BLOCK_BYTES;
use core::iter;

/// The number of the data rows' coset.
pub(crate) const DATA: u8 = 4;

/// Inverses of the elements below 8.
const INVERSES: [u8; 8] = [0, 1, 3, 2, 12, 15, 10, 8];

/// A coset of which rows are known.
pub(crate) struct Known<'a> {
    /// Its number: 0, 1 or 2 of parity rows, or 4 of the data rows.
    pub(crate) coset: u8,
    /// Its K rows, as far as they are known.
    pub(crate) rows: Vec<Option<&'a [u8]>>,
    /// What multiplies each row so that it becomes the value of P; of no meaning where the row is not known.
    pub(crate) factors: Vec<u16>,
}

/// What to work out.
pub(crate) struct Task<'a> {
    /// A coset of parity rows.
    pub(crate) first: Known<'a>,
    /// Another one, of whichever rows, unless the first is known whole.
    pub(crate) second: Option<Known<'a>>,
    /// The data rows that are wanted, each with what multiplies its value.
    pub(crate) wanted: Vec<(usize, u16)>,
}

/// Writes the wanted rows into `data`, K rows of `row_bytes`, and leaves the others as they are.
///
/// # Panics
/// K is no power of two in the bounds of the kernels, `row_bytes` no positive multiple of 64, `data` not K rows, a row
/// not of `row_bytes`, or the level not this processor's.
pub(crate) fn recover(level: Level, task: &Task<'_>, row_bytes: usize, data: &mut [u8]) {
    assert!(level.is_available(), "level of this processor");
    assert!(row_bytes > 0 && row_bytes.is_multiple_of(BLOCK_BYTES), "rows of blocks");
    let data_rows = data.len() / row_bytes;
    assert!(super::extend::takes(data_rows) && data.len() == data_rows * row_bytes, "rows of the code");
    for Known { rows, factors, .. } in iter::once(&task.first).chain(&task.second) {
        assert!(rows.len() == data_rows && factors.len() == data_rows, "rows of a coset");
        assert!(rows.iter().flatten().all(|row| row.len() == row_bytes), "rows of one length");
    }
    assert!(task.wanted.iter().all(|(row, _)| *row < data_rows), "data rows");
    let rows = Rows { start: data.as_mut_ptr(), stride: row_bytes };
    each_strip(data_rows, row_bytes, |at, planes| {
        // SAFETY: the level is available. Strips are disjoint columns of rows that only this call writes; the known rows
        // have all of the columns.
        unsafe {
            let strip = Strip { task, at, data_rows, into: rows.skip_bytes(at), planes };
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Gfni => recover_gfni(&strip),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => recover_avx2(&strip),
                _ => recover_strip::<Halves<Portable>>(&strip),
            }
        }
    });
}

/// A strip of columns: where it begins, where its wanted rows go, and two planes of its width to work in.
struct Strip<'a> {
    task: &'a Task<'a>,
    at: usize,
    data_rows: usize,
    into: Rows,
    planes: [Plane; 2],
}

/// # Safety
/// As [`recover_strip`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn recover_avx2(strip: &Strip<'_>) {
    // SAFETY: the caller's promises.
    unsafe { recover_strip::<Halves<super::x86::Avx2>>(strip) }
}

/// # Safety
/// As [`recover_strip`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
unsafe fn recover_gfni(strip: &Strip<'_>) {
    // SAFETY: the caller's promises.
    unsafe { recover_strip::<super::x86::Gfni>(strip) }
}

/// Writes one strip of the wanted rows.
///
/// # Safety
/// The processor has the level of `B`. The planes are of K rows and nobody else's; the known rows have the columns of
/// the strip, so have the wanted ones, and nobody else works on those.
#[inline(always)]
unsafe fn recover_strip<B: Block>(strip: &Strip<'_>) {
    let Strip { task, at, data_rows, into, planes } = strip;
    // SAFETY: the caller's promises.
    unsafe {
        let [first, second] = planes;
        interpolate::<B>(&task.first, *at, *data_rows, *first);
        if let Some(known) = &task.second {
            interpolate::<B>(known, *at, *data_rows, *second);
            join::<B::Bytes>(*data_rows, [task.first.coset, known.coset], *first, *second);
        }
        let values = first;
        let offset = 4 * data_rows;
        if values.shelves() > 1 {
            for (at, span) in values.across(offset) {
                forward::<B, false>(span, 0, values.pieces(at), values.pieces(at), 1);
            }
        }
        for index in 0..values.shelves() {
            let shelf = values.shelf(index);
            forward::<B, false>(values.within(offset, index), 0, shelf, shelf, 1);
        }
        let tables = B::Bytes::tables();
        for (row, factor) in &task.wanted {
            let (from, into) = (values.row(*row), into.skip_rows(*row).start);
            let factor = B::factor(tables, *factor);
            for byte in (0..values.width()).step_by(BLOCK_BYTES) {
                B::load(from.add(byte)).multiply(factor).change_basis(tables).store(into.add(byte));
            }
        }
    }
}

/// The coefficients of what interpolates the values of P on a coset.
///
/// # Safety
/// The processor has the level of `B`; the plane is of K rows and nobody else's; the known rows have the columns of the
/// plane's width from `at` on.
#[inline(always)]
unsafe fn interpolate<B: Block>(known: &Known<'_>, at: usize, data_rows: usize, plane: Plane) {
    let tables = B::Bytes::tables();
    let offset = usize::from(known.coset) * data_rows;
    let mut rows = known.rows.iter().zip(&known.factors).enumerate();
    // SAFETY: the caller's promises.
    unsafe {
        for index in 0..plane.shelves() {
            let span = plane.within(offset, index);
            for (row, (known, factor)) in rows.by_ref().take(span.rows) {
                let into = plane.row(row);
                let Some(known) = known else {
                    into.write_bytes(0, span.width);
                    continue;
                };
                let factor = B::factor(tables, *factor);
                for byte in (0..span.width).step_by(BLOCK_BYTES) {
                    let block = B::load(known.as_ptr().add(at + byte));
                    block.change_basis(tables).multiply(factor).store(into.add(byte));
                }
            }
            inverse::<B>(span, 0, plane.shelf(index));
        }
        if plane.shelves() > 1 {
            for (at, span) in plane.across(offset) {
                inverse::<B>(span, 0, plane.pieces(at));
            }
        }
    }
}

/// What interpolates the wanted values, from what interpolates those of P on two cosets; into the first plane.
///
/// # Safety
/// The processor has the level of `V`; the planes are of K rows and nobody else's.
#[inline(always)]
unsafe fn join<V: Field>(data_rows: usize, [a, b]: [u8; 2], first: Plane, second: Plane) {
    let tables = V::tables();
    let inverse = INVERSES[usize::from(a ^ b)];
    // SAFETY: the caller's promises.
    unsafe {
        let of_sum = V::ready(tables.product(product(a ^ DATA, inverse)));
        let inverse = V::ready(tables.product(inverse));
        for row in 0..data_rows {
            let (into, other) = (first.row(row), second.row(row));
            for byte in (0..first.width()).step_by(V::BYTES) {
                let (x, y) = (V::load(into.add(byte)), V::load(other.add(byte)));
                let sum = x.xor(y);
                let joined = if b == DATA {
                    let mut joined = sum.apply(inverse);
                    let mut absent = !row & data_rows.wrapping_sub(1);
                    while absent != 0 {
                        let bit = absent & absent.wrapping_neg();
                        joined = joined.xor(V::load(second.row(row | bit).add(byte)));
                        absent ^= bit;
                    }
                    joined
                } else {
                    x.xor(sum.apply(of_sum))
                };
                joined.store(into.add(byte));
            }
        }
    }
}
