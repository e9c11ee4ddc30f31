//! Vectors of bytes with exclusive or and GF(2)-linear maps: all that the kernels are made of.

/// A vector of bytes.
///
/// Multiplication by a constant of GF(256), or of any field whose elements are bytes, is a GF(2)-linear map, and so is
/// every change of basis.
///
/// The methods that are `unsafe` need the instructions of the vector's level, beside what each states.
pub(crate) trait Vector: Copy {
    /// Bytes of a vector.
    const BYTES: usize;

    /// A linear map of bytes as tables keep it.
    type Map: Copy + Send + Sync + 'static;

    /// A linear map in registers, for loops that apply it often.
    type Ready: Copy;

    /// Prepares a map, which must be linear over GF(2).
    fn prepare(map: impl Fn(u8) -> u8) -> Self::Map;

    /// Loads a vector from anywhere.
    ///
    /// # Safety
    /// `from` is good for reads of `BYTES` bytes.
    unsafe fn load(from: *const u8) -> Self;

    /// Stores the vector anywhere.
    ///
    /// # Safety
    /// `into` is good for writes of `BYTES` bytes.
    unsafe fn store(self, into: *mut u8);

    /// Exclusive or.
    ///
    /// # Safety
    /// The processor has the level.
    unsafe fn xor(self, other: Self) -> Self;

    /// Takes a map into registers.
    ///
    /// # Safety
    /// The processor has the level.
    unsafe fn ready(map: &Self::Map) -> Self::Ready;

    /// Applies a map to every byte.
    ///
    /// # Safety
    /// The processor has the level.
    unsafe fn apply(self, map: Self::Ready) -> Self;

    /// Applies a map from a table to every byte.
    ///
    /// # Safety
    /// The processor has the level.
    #[inline(always)]
    unsafe fn map(self, map: &Self::Map) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.apply(Self::ready(map)) }
    }
}

/// Images of the sixteen low nibbles, then of the sixteen high ones.
pub(crate) type Nibbles = [u8; 32];

/// The images of nibbles under a linear map.
pub(crate) fn nibbles(map: impl Fn(u8) -> u8) -> Nibbles {
    core::array::from_fn(|i| {
        let nibble = u8::try_from(i & 15).unwrap_or_default();
        map(if i < 16 { nibble } else { nibble << 4 })
    })
}

/// 32 bytes, without any instruction of a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Portable(pub(crate) [u8; 32]);

impl Vector for Portable {
    const BYTES: usize = 32;

    type Map = Nibbles;

    type Ready = Nibbles;

    fn prepare(map: impl Fn(u8) -> u8) -> Nibbles {
        nibbles(map)
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise; an array of bytes has no alignment.
        Self(unsafe { from.cast::<[u8; 32]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, into: *mut u8) {
        // SAFETY: the caller's promise; an array of bytes has no alignment.
        unsafe { into.cast::<[u8; 32]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }

    #[inline(always)]
    unsafe fn ready(map: &Nibbles) -> Nibbles {
        *map
    }

    #[inline(always)]
    unsafe fn apply(self, map: Nibbles) -> Self {
        Self(self.0.map(|byte| map[usize::from(byte & 15)] ^ map[usize::from(16 + (byte >> 4))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;
    use proptest::{collection::vec, prelude::*};

    /// The linear map with these images of the eight bits.
    fn linear(images: [u8; 8]) -> impl Fn(u8) -> u8 + Copy {
        move |byte| (0..8).filter(|bit| byte >> bit & 1 == 1).fold(0, |sum, bit| sum ^ images[bit])
    }

    /// # Safety
    /// The processor has the level of `V`.
    unsafe fn mapped_and_added<V: Vector>(bytes: &[u8], map: impl Fn(u8) -> u8) -> Vec<u8> {
        assert!(bytes.len().is_multiple_of(V::BYTES));
        let map = V::prepare(map);
        let mut out = vec![0; bytes.len()];
        for (from, into) in bytes.chunks_exact(V::BYTES).zip(out.chunks_exact_mut(V::BYTES)) {
            // SAFETY: both chunks have the length of a vector.
            unsafe {
                let vector = V::load(from.as_ptr());
                vector.map(&map).xor(vector).store(into.as_mut_ptr());
            }
        }
        out
    }

    proptest! {
        #[test]
        fn vectors_map_and_add_every_byte(images: [u8; 8], bytes in vec(any::<u8>(), 128)) {
            let map = linear(images);
            let want: Vec<u8> = bytes.iter().map(|byte| map(*byte) ^ byte).collect();
            for level in Level::available() {
                // SAFETY: the level is available.
                let got = unsafe {
                    match level {
                        Level::Scalar => mapped_and_added::<Portable>(&bytes, map),
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx2 => mapped_and_added::<crate::kernel::x86::Avx2>(&bytes, map),
                        #[cfg(target_arch = "x86_64")]
                        Level::Gfni => mapped_and_added::<crate::kernel::x86::Gfni>(&bytes, map),
                        #[cfg(not(target_arch = "x86_64"))]
                        _ => unreachable!("only the scalar level is available"),
                    }
                };
                prop_assert_eq!(&got, &want, "{:?}", level);
            }
        }
    }
}
