//! GF(2^16) in Leopard's Cantor basis, and its 8-dimensional space (protocol section 2).

use core::ops::BitXorAssign;
use reed_solomon_simd::engine::tables;
use std::sync::LazyLock;

/// Bytes of a value of GF(2^16)^8.
pub const VALUE_BYTES: usize = 16;

/// A value of GF(2^16)^8: eight elements, least significant limb first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Gf128(pub [u16; 8]);

impl Gf128 {
    /// Reads eight little-endian limbs.
    #[must_use]
    pub fn from_bytes(bytes: [u8; VALUE_BYTES]) -> Self {
        Self::from_bits(u128::from_le_bytes(bytes))
    }

    /// Writes eight little-endian limbs.
    #[must_use]
    pub fn to_bytes(self) -> [u8; VALUE_BYTES] {
        self.to_bits().to_le_bytes()
    }

    /// The value whose limb i is bits 16i to 16i + 15.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "takes the low 16 bits")]
    pub fn from_bits(bits: u128) -> Self {
        Self(core::array::from_fn(|limb| (bits >> (16 * limb)) as u16))
    }

    /// The 128 bits; addition of values is their exclusive or.
    #[must_use]
    pub fn to_bits(self) -> u128 {
        self.0.iter().rev().fold(0, |bits, limb| (bits << 16) | u128::from(*limb))
    }
}

impl BitXorAssign<&Self> for Gf128 {
    #[inline(always)]
    fn bitxor_assign(&mut self, other: &Self) {
        for (limb, other) in self.0.iter_mut().zip(&other.0) {
            *limb ^= other;
        }
    }
}

/// The product of two elements.
#[must_use]
pub fn mul(a: u16, b: u16) -> u16 {
    if b == 0 {
        return 0;
    }
    let tables = tables::get_exp_log();
    tables::mul(a, tables.log[usize::from(b)], &tables.exp, &tables.log)
}

/// Products of the sixteen elements 1 << bit with every low and every high byte of an element.
type BasisProducts = [[[u16; 256]; 2]; 16];

static BASIS_PRODUCTS: LazyLock<Box<BasisProducts>> = LazyLock::new(|| {
    let mut products = Box::new([[[0; 256]; 2]; 16]);
    for (bit, [low, high]) in products.iter_mut().enumerate() {
        for byte in 0..=u8::MAX {
            low[usize::from(byte)] = mul(1 << bit, u16::from(byte));
            high[usize::from(byte)] = mul(1 << bit, u16::from(byte) << 8);
        }
    }
    products
});

/// The sum over `bit` of the element 1 << bit times `sums[bit]`.
///
/// Multiplication is linear over GF(2) in the symbol, so a combination of symbols is this sum over the sums of
/// coefficients at the symbols that have the bit.
#[must_use]
pub fn fold_bits(sums: &[Gf128; 16]) -> Gf128 {
    let mut folded = sums[0]; // 1 << 0 is the one of the field
    for (sum, [low, high]) in sums.iter().zip(BASIS_PRODUCTS.iter()).skip(1) {
        for (limb, element) in folded.0.iter_mut().zip(sum.0) {
            let [low_byte, high_byte] = element.to_le_bytes();
            *limb ^= low[usize::from(low_byte)] ^ high[usize::from(high_byte)];
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::Field;
    use proptest::prelude::*;

    static TWIN: LazyLock<Field> = LazyLock::new(Field::new);

    proptest! {
        #[test]
        fn products_are_those_of_the_cantor_basis(a: u16, b: u16) {
            prop_assert_eq!(mul(a, b), TWIN.mul(a, b));
        }

        #[test]
        fn folding_multiplies_each_sum_by_its_bit(sums: [[u16; 8]; 16]) {
            let mut want = [0; 8];
            for (bit, sum) in sums.iter().enumerate() {
                for (limb, want) in sum.iter().zip(&mut want) {
                    *want ^= TWIN.mul(1 << bit, *limb);
                }
            }
            prop_assert_eq!(fold_bits(&sums.map(Gf128)).0, want);
        }

        #[test]
        fn values_are_little_endian_limbs(limbs: [u16; 8]) {
            let bytes = Gf128(limbs).to_bytes();
            prop_assert_eq!(bytes.to_vec(), limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect::<Vec<_>>());
            prop_assert_eq!(Gf128::from_bytes(bytes).0, limbs);
        }
    }

    #[test]
    fn zero_and_one_are_what_they_are() {
        for x in [0, 1, 2, 0x8000, u16::MAX] {
            assert_eq!((mul(x, 0), mul(0, x), mul(x, 1), mul(1, x)), (0, 0, x, x));
            assert_eq!(mul(x, TWIN.inverse(x)), u16::from(x != 0));
        }
    }
}
