//! Blocks of 32 symbols of GF(2^16), seen as GF(256)[t] with t^2 = t + v.
//!
//! In Leopard's basis the low byte of an element is the subfield GF(256), since the first eight elements of the Cantor
//! basis span it. Let t be the ninth, 256, and v the eighth, 128: t^2 = t + v. A high byte h alone is the element
//! h t + d(h) with d(h) in GF(256), and d is linear over GF(2). So adding d(h) to the low byte turns an element of
//! Leopard's basis into the pair (l, h) of l + h t, and doing it again turns it back.
//!
//! The product of a pair by a constant m + n t takes three linear maps of bytes,
//!
//! (l + h t) (m + n t) = (l m + h n v) + ((l + h) (m + n) + l m) t,
//!
//! and one map of each byte where n = 0.

use super::vector::{Nibbles, Portable, Vector};
use crate::field;
use std::sync::LazyLock;

/// t in Leopard's basis.
const T: u16 = 256;

/// v of t^2 = t + v.
const V: u8 = 128;

/// The maps of one level.
#[repr(C, align(64))]
pub(crate) struct Tables<M> {
    /// Products by each element of GF(256).
    products: [M; 256],
    /// d, for vectors.
    difference: M,
    /// d of each byte.
    differences: [u8; 256],
    /// v times each byte.
    by_v: [u8; 256],
}

/// The low byte.
#[allow(clippy::cast_possible_truncation, reason = "takes the low 8 bits")]
fn low(element: u16) -> u8 {
    element as u8
}

/// The high byte.
fn high(element: u16) -> u8 {
    low(element >> 8)
}

/// The product of two elements of GF(256).
pub(super) fn product(a: u8, b: u8) -> u8 {
    low(field::mul(u16::from(a), u16::from(b)))
}

impl<M> Tables<M> {
    /// Computes the maps.
    pub(super) fn new<B: Vector<Map = M>>() -> Self {
        let bytes: [u8; 256] = core::array::from_fn(|i| u8::try_from(i).unwrap_or_default());
        let difference = |h: u8| low(field::mul(T, u16::from(h)));
        Self {
            products: bytes.map(|factor| B::prepare(|byte| product(factor, byte))),
            difference: B::prepare(difference),
            differences: bytes.map(difference),
            by_v: bytes.map(|byte| product(V, byte)),
        }
    }

    /// The product by an element of GF(256).
    #[inline(always)]
    pub(crate) fn product(&self, by: u8) -> &M {
        &self.products[usize::from(by)]
    }

    /// The products by m, m + n, n v and n, where `by` is m + n t.
    #[inline(always)]
    pub(super) fn products(&self, by: u16) -> [&M; 4] {
        let n = high(by);
        let m = low(by) ^ self.differences[usize::from(n)];
        [self.product(m), self.product(m ^ n), self.product(self.by_v[usize::from(n)]), self.product(n)]
    }

    /// d, for vectors.
    #[inline(always)]
    pub(super) fn difference(&self) -> &M {
        &self.difference
    }
}

/// Vectors whose level has its maps.
pub(crate) trait Field: Vector {
    /// The maps of this level.
    fn tables() -> &'static Tables<Self::Map>;

    /// The products of pairs by m + n t, from the maps by m, m + n and n v.
    ///
    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn multiply(low: Self, high: Self, [m, m_n, n_v]: [&Self::Map; 3]) -> [Self; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let first = low.map(m);
            [first.xor(high.map(n_v)), first.xor(low.xor(high).map(m_n))]
        }
    }
}

impl Field for Portable {
    fn tables() -> &'static Tables<Nibbles> {
        static TABLES: LazyLock<Box<Tables<Nibbles>>> = LazyLock::new(|| Box::new(Tables::new::<Portable>()));
        &TABLES
    }
}

/// The maps for blocks of one kind.
pub(crate) type TablesOf<B> = Tables<<<B as Block>::Bytes as Vector>::Map>;

/// 32 symbols: 64 bytes in memory, first the low bytes, then the high ones.
///
/// # Safety
/// Methods need the instructions of the level, and pointers that are good for 64 bytes, aligned or not.
pub(crate) trait Block: Copy {
    /// Vectors, for work that does not tell low bytes from high ones.
    type Bytes: Field;

    /// A factor that is ready to multiply by.
    type Factor: Copy;

    /// Loads a block.
    unsafe fn load(from: *const u8) -> Self;

    /// Stores the block.
    unsafe fn store(self, into: *mut u8);

    /// The sum.
    unsafe fn add(self, other: Self) -> Self;

    /// From Leopard's basis to pairs, or back.
    unsafe fn change_basis(self, tables: &TablesOf<Self>) -> Self;

    /// The product by an element of GF(256).
    unsafe fn scale(self, by: <Self::Bytes as Vector>::Ready) -> Self;

    /// A factor in Leopard's basis made ready.
    unsafe fn factor(tables: &'static TablesOf<Self>, by: u16) -> Self::Factor;

    /// The product of pairs by a factor.
    unsafe fn multiply(self, by: Self::Factor) -> Self;
}

/// A block as two vectors of 32 bytes: the low bytes, the high bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves<V>(V, V);

impl<V: Field> Block for Halves<V> {
    type Bytes = V;

    type Factor = [&'static V::Map; 3];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promises.
        unsafe { Self(V::load(from), V::load(from.add(32))) }
    }

    #[inline(always)]
    unsafe fn store(self, into: *mut u8) {
        // SAFETY: the caller's promises.
        unsafe {
            self.0.store(into);
            self.1.store(into.add(32));
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's promises.
        unsafe { Self(self.0.xor(other.0), self.1.xor(other.1)) }
    }

    #[inline(always)]
    unsafe fn change_basis(self, tables: &Tables<V::Map>) -> Self {
        // SAFETY: the caller's promises.
        unsafe { Self(self.0.xor(self.1.map(tables.difference())), self.1) }
    }

    #[inline(always)]
    unsafe fn scale(self, by: V::Ready) -> Self {
        // SAFETY: the caller's promises.
        unsafe { Self(self.0.apply(by), self.1.apply(by)) }
    }

    #[inline(always)]
    unsafe fn factor(tables: &'static Tables<V::Map>, by: u16) -> Self::Factor {
        let [m, m_n, n_v, _] = tables.products(by);
        [m, m_n, n_v]
    }

    #[inline(always)]
    unsafe fn multiply(self, by: Self::Factor) -> Self {
        // SAFETY: the caller's promises.
        let [low, high] = unsafe { V::multiply(self.0, self.1, by) };
        Self(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_pairs_over_the_subfield() {
        assert_eq!(field::mul(T, T), T ^ u16::from(V));
        for h in 0..=u8::MAX {
            let (alone, h) = (u16::from(h) << 8, u16::from(h));
            assert_eq!(field::mul(T, h) ^ alone, u16::from(low(field::mul(T, h))));
            assert_eq!((0..=u8::MAX).fold(0, |all, m| all | field::mul(h, u16::from(m))) >> 8, 0);
        }
    }
}
