//! The additive Fourier transform of Lin, Chung and Han over rows of blocks, in Leopard's basis.
//!
//! A transform of n = 2^L rows at offset o (a multiple of n) takes the coefficients of a polynomial of degree below n
//! to its values at the points o..o+n. Layer j pairs rows x and y at distance 2^j; where the first row of their group
//! is r, the factor is the element (o + r) >> j, so that
//!
//! x += factor * y, y += x
//!
//! from the top layer down, and the inverse undoes them from the bottom up. A factor below 256 lies in the subfield
//! GF(256), and takes bytes to bytes: so it is in the upper layers. Two layers are worked at a time: of four rows at
//! distance 2^j the factors are f and f + 2 in layer j, where f is the element (o + r) >> j, and f >> 1 in layer j + 1.
//!
//! Between transforms rows are blocks of pairs over GF(256) (see [`super::tower`]); the bottom layers, where rows enter
//! and leave, change the basis on the way.

use super::{
    tower::{Block, Field, TablesOf},
    vector::Vector,
};
use crate::shape::BLOCK_BYTES;

/// Rows in memory: row r is `stride * r` bytes after the start.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *mut u8,
    pub(super) stride: usize,
}

// SAFETY: a pointer to bytes; whoever reads or writes them promises that nobody else does.
unsafe impl Sync for Rows {}

impl Rows {
    /// The same rows from `row` on.
    ///
    /// # Safety
    /// There is such a row.
    #[inline(always)]
    pub(super) unsafe fn skip_rows(self, row: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.skip_bytes(row.wrapping_mul(self.stride)) }
    }

    /// The same rows from a byte of the first on.
    ///
    /// # Safety
    /// The row has this byte.
    #[inline(always)]
    pub(super) unsafe fn skip_bytes(self, byte: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { start: unsafe { self.start.add(byte) }, stride: self.stride }
    }
}

/// What a transform is of.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// Number of rows, a power of two.
    pub(super) rows: usize,
    /// Bytes of each row that are worked on, a multiple of a block.
    pub(super) width: usize,
    /// The first point.
    pub(super) offset: usize,
}

/// The four rows of a group of two layers, or the two of one.
#[derive(Clone, Copy)]
struct Group {
    from: Rows,
    into: Rows,
    /// Distance of the rows of a butterfly, and the number of butterflies.
    distance: usize,
    width: usize,
    /// (o + r) >> j.
    factor: usize,
}

/// An element below 2^16.
#[allow(clippy::cast_possible_truncation, reason = "points are below 2^16")]
#[inline(always)]
const fn element(point: usize) -> u16 {
    point as u16
}

/// An element below 2^8.
#[allow(clippy::cast_possible_truncation, reason = "called for elements of the subfield")]
#[inline(always)]
const fn byte(point: usize) -> u8 {
    point as u8
}

/// Two layers whose factors are all in GF(256), on bytes; `scale` multiplies the rows first.
///
/// `ZERO`: the first factor is zero, and with it all but one.
///
/// # Safety
/// The processor has the level; the rows of `from` may be read, those of `into` written, in `width` bytes each.
#[inline(always)]
unsafe fn bytes4<V: Field, const FORWARD: bool, const SCALED: bool, const ZERO: bool>(
    group: Group,
    scale: u8,
) {
    let Group { from, into, distance, width, factor } = group;
    let tables = V::tables();
    // SAFETY: the caller's promises; all rows of the group are inside of them.
    unsafe {
        let near = [V::ready(tables.product(byte(factor))), V::ready(tables.product(byte(factor ^ 2)))];
        let far = V::ready(tables.product(byte(factor >> 1)));
        let scale = V::ready(tables.product(scale));
        let (step, out) = (distance.wrapping_mul(from.stride), distance.wrapping_mul(into.stride));
        let (mut from_row, mut into_row) = (from.start.cast_const(), into.start);
        for _ in 0..distance {
            let (mut p, mut q) = (from_row, into_row);
            let end = p.add(width);
            while p < end {
                let mut a = V::load(p);
                let mut b = V::load(p.add(step));
                let mut c = V::load(p.add(step.wrapping_mul(2)));
                let mut d = V::load(p.add(step.wrapping_mul(3)));
                if SCALED {
                    (a, b, c, d) = (a.apply(scale), b.apply(scale), c.apply(scale), d.apply(scale));
                }
                if FORWARD {
                    if !ZERO {
                        (a, b) = (a.xor(c.apply(far)), b.xor(d.apply(far)));
                    }
                    (c, d) = (c.xor(a), d.xor(b));
                    if !ZERO {
                        a = a.xor(b.apply(near[0]));
                    }
                    c = c.xor(d.apply(near[1]));
                    (b, d) = (b.xor(a), d.xor(c));
                } else {
                    (b, d) = (b.xor(a), d.xor(c));
                    if !ZERO {
                        a = a.xor(b.apply(near[0]));
                    }
                    c = c.xor(d.apply(near[1]));
                    (c, d) = (c.xor(a), d.xor(b));
                    if !ZERO {
                        (a, b) = (a.xor(c.apply(far)), b.xor(d.apply(far)));
                    }
                }
                a.store(q);
                b.store(q.add(out));
                c.store(q.add(out.wrapping_mul(2)));
                d.store(q.add(out.wrapping_mul(3)));
                (p, q) = (p.add(V::BYTES), q.add(V::BYTES));
            }
            (from_row, into_row) = (from_row.add(from.stride), into_row.add(into.stride));
        }
    }
}

/// One layer whose factors are in GF(256), on bytes; `scale` multiplies the rows first.
///
/// # Safety
/// As [`bytes4`].
#[inline(always)]
unsafe fn bytes2<V: Field, const FORWARD: bool, const SCALED: bool>(group: Group, scale: u8) {
    let Group { from, into, distance, width, factor } = group;
    let tables = V::tables();
    // SAFETY: the caller's promises; all rows of the group are inside of them.
    unsafe {
        let factor = V::ready(tables.product(byte(factor)));
        let scale = V::ready(tables.product(scale));
        let (step, out) = (distance.wrapping_mul(from.stride), distance.wrapping_mul(into.stride));
        let (mut from_row, mut into_row) = (from.start.cast_const(), into.start);
        for _ in 0..distance {
            let (mut p, mut q) = (from_row, into_row);
            let end = p.add(width);
            while p < end {
                let (mut a, mut b) = (V::load(p), V::load(p.add(step)));
                if SCALED {
                    (a, b) = (a.apply(scale), b.apply(scale));
                }
                if FORWARD {
                    a = a.xor(b.apply(factor));
                    b = b.xor(a);
                } else {
                    b = b.xor(a);
                    a = a.xor(b.apply(factor));
                }
                a.store(q);
                b.store(q.add(out));
                (p, q) = (p.add(V::BYTES), q.add(V::BYTES));
            }
            (from_row, into_row) = (from_row.add(from.stride), into_row.add(into.stride));
        }
    }
}

/// Two layers on blocks: `NEAR` and `FAR` say whether the factors of the lower and of the upper one may be outside of
/// GF(256), `EDGE` whether the rows are in Leopard's basis outside of the transform.
///
/// # Safety
/// As [`bytes4`].
#[inline(always)]
unsafe fn blocks4<B: Block, const FORWARD: bool, const NEAR: bool, const FAR: bool, const EDGE: bool>(
    group: Group,
) {
    let Group { from, into, distance, width, factor } = group;
    let tables = B::Bytes::tables();
    // SAFETY: the caller's promises; all rows of the group are inside of them.
    unsafe {
        let near = [Factor::<B, NEAR>::new(tables, factor), Factor::<B, NEAR>::new(tables, factor ^ 2)];
        let far = Factor::<B, FAR>::new(tables, factor >> 1);
        let (step, out) = (distance.wrapping_mul(from.stride), distance.wrapping_mul(into.stride));
        let (mut from_row, mut into_row) = (from.start.cast_const(), into.start);
        for _ in 0..distance {
            let (mut p, mut q) = (from_row, into_row);
            let end = p.add(width);
            while p < end {
                let mut a = B::load(p);
                let mut b = B::load(p.add(step));
                let mut c = B::load(p.add(step.wrapping_mul(2)));
                let mut d = B::load(p.add(step.wrapping_mul(3)));
                if EDGE && !FORWARD {
                    (a, b) = (a.change_basis(tables), b.change_basis(tables));
                    (c, d) = (c.change_basis(tables), d.change_basis(tables));
                }
                if FORWARD {
                    (a, b) = (a.add(far.times(c)), b.add(far.times(d)));
                    (c, d) = (c.add(a), d.add(b));
                    (a, c) = (a.add(near[0].times(b)), c.add(near[1].times(d)));
                    (b, d) = (b.add(a), d.add(c));
                } else {
                    (b, d) = (b.add(a), d.add(c));
                    (a, c) = (a.add(near[0].times(b)), c.add(near[1].times(d)));
                    (c, d) = (c.add(a), d.add(b));
                    (a, b) = (a.add(far.times(c)), b.add(far.times(d)));
                }
                if EDGE && FORWARD {
                    (a, b) = (a.change_basis(tables), b.change_basis(tables));
                    (c, d) = (c.change_basis(tables), d.change_basis(tables));
                }
                a.store(q);
                b.store(q.add(out));
                c.store(q.add(out.wrapping_mul(2)));
                d.store(q.add(out.wrapping_mul(3)));
                (p, q) = (p.add(BLOCK_BYTES), q.add(BLOCK_BYTES));
            }
            (from_row, into_row) = (from_row.add(from.stride), into_row.add(into.stride));
        }
    }
}

/// A factor of blocks: of the whole field, or of GF(256).
#[derive(Clone, Copy)]
enum Factor<B: Block, const WHOLE: bool> {
    Whole(B::Factor),
    Byte(<B::Bytes as Vector>::Ready),
}

impl<B: Block, const WHOLE: bool> Factor<B, WHOLE> {
    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn new(tables: &'static TablesOf<B>, factor: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            if WHOLE {
                Self::Whole(B::factor(tables, element(factor)))
            } else {
                Self::Byte(B::Bytes::ready(tables.product(byte(factor))))
            }
        }
    }

    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn times(self, block: B) -> B {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Whole(factor) => block.multiply(factor),
                Self::Byte(factor) => block.scale(factor),
            }
        }
    }
}

/// Layers j and j + 1 of a transform.
///
/// # Safety
/// The processor has the level; the rows of `from` may be read, those of `into` written, in the span's width.
#[inline(always)]
unsafe fn two_layers<B: Block, const FORWARD: bool, const EDGE: bool, const SCALED: bool>(
    span: Span,
    j: u32,
    from: Rows,
    into: Rows,
    scale: u8,
) {
    let distance = 1 << j;
    for row in (0..span.rows).step_by(4 << j) {
        let factor = span.offset.wrapping_add(row) >> j;
        // SAFETY: the rows of the group are among the caller's.
        unsafe {
            let (from, into) = (from.skip_rows(row), into.skip_rows(row));
            let group = Group { from, into, distance, width: span.width, factor };
            if SCALED {
                // Only the top layers are, whose factors are small.
                if factor == 0 {
                    bytes4::<B::Bytes, FORWARD, SCALED, true>(group, scale);
                } else {
                    bytes4::<B::Bytes, FORWARD, SCALED, false>(group, scale);
                }
            } else if factor >= 512 {
                blocks4::<B, FORWARD, true, true, EDGE>(group);
            } else if factor >= 256 {
                blocks4::<B, FORWARD, true, false, EDGE>(group);
            } else if EDGE {
                blocks4::<B, FORWARD, false, false, EDGE>(group);
            } else if factor == 0 {
                bytes4::<B::Bytes, FORWARD, false, true>(group, 1);
            } else {
                bytes4::<B::Bytes, FORWARD, false, false>(group, 1);
            }
        }
    }
}

/// The bottom two layers of the inverse transform, for rows that come in Leopard's basis.
///
/// # Safety
/// As [`two_layers`]; at least four rows.
#[inline(always)]
pub(super) unsafe fn enter<B: Block>(span: Span, from: Rows, into: Rows) {
    // SAFETY: the caller's promises.
    unsafe { two_layers::<B, false, true, false>(span, 0, from, into, 1) }
}

/// The bottom two layers of the transform, for rows that go in Leopard's basis.
///
/// # Safety
/// As [`two_layers`]; at least four rows.
#[inline(always)]
pub(super) unsafe fn leave<B: Block>(span: Span, from: Rows, into: Rows) {
    // SAFETY: the caller's promises.
    unsafe { two_layers::<B, true, true, false>(span, 0, from, into, 1) }
}

/// The inverse transform from layer `lowest`, an even one, upwards.
///
/// The factor of a single top layer must be in GF(256).
///
/// # Safety
/// As [`two_layers`].
#[inline(always)]
pub(super) unsafe fn inverse<B: Block>(span: Span, lowest: u32, rows: Rows) {
    let layers = span.rows.trailing_zeros();
    // SAFETY: the caller's promises.
    unsafe {
        for j in (lowest..layers & !1).step_by(2) {
            two_layers::<B, false, false, false>(span, j, rows, rows, 1);
        }
        if layers & 1 == 1 {
            let j = layers & !1;
            let (distance, factor) = (1 << j, span.offset >> j);
            let group = Group { from: rows, into: rows, distance, width: span.width, factor };
            bytes2::<B::Bytes, false, false>(group, 1);
        }
    }
}

/// The transform down to layer `lowest`, an even one, of the rows times `scale` if they are `SCALED`.
///
/// The factor of a single top layer must be in GF(256), and so must those of the two top layers of `SCALED` rows.
///
/// # Safety
/// As [`two_layers`]; a layer from `lowest` on.
#[inline(always)]
pub(super) unsafe fn forward<B: Block, const SCALED: bool>(
    span: Span,
    lowest: u32,
    from: Rows,
    into: Rows,
    scale: u8,
) {
    let layers = span.rows.trailing_zeros();
    // SAFETY: the caller's promises.
    unsafe {
        let done = if layers & 1 == 1 {
            let j = layers & !1;
            let (distance, factor) = (1 << j, span.offset >> j);
            let group = Group { from, into, distance, width: span.width, factor };
            bytes2::<B::Bytes, true, SCALED>(group, scale);
            j
        } else {
            let j = layers.wrapping_sub(2);
            two_layers::<B, true, false, SCALED>(span, j, from, into, scale);
            j
        };
        for j in (lowest..done).step_by(2).rev() {
            two_layers::<B, true, false, false>(span, j, into, into, 1);
        }
    }
}
