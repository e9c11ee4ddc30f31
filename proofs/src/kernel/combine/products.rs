//! One row after the other by products of bytes, a symbol in each byte of a vector.
//!
//! The low byte of an element in Leopard's basis is the subfield GF(256); with t for element 256, t^2 = t + v, an
//! element is a + b t over it. The processor multiplies bytes of another GF(256), the one of AES: all fields of 256
//! elements are one up to a linear map of bytes. Products are Karatsuba's, three for a limb: their sums over the
//! symbols of a row are kept apart and put together once at the end of the row.

use super::transpose::columns;
use crate::{
    field::{Gf128, VALUE_BYTES, mul},
    kernel::x86::matrix,
    shape::BLOCK_BYTES,
};
use std::{
    arch::x86_64::{
        __m128i, __m512i, _mm_gf2p8affine_epi64_epi8, _mm_set1_epi64x, _mm_srli_epi16, _mm_storeu_si128,
        _mm_xor_si128, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
        _mm256_xor_si256, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi256_si512, _mm512_castsi512_ps,
        _mm512_castsi512_si256, _mm512_extracti64x4_epi64, _mm512_gf2p8affine_epi64_epi8,
        _mm512_gf2p8mul_epi8, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_packus_epi16,
        _mm512_packus_epi32, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512,
        _mm512_shuffle_ps, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_unpackhi_epi64,
        _mm512_unpacklo_epi64, _mm512_xor_si512, _mm512_zextsi256_si512,
    },
    sync::LazyLock,
};

/// Symbols in a vector: those of two blocks.
const SYMBOLS: usize = 64;

/// Bytes of these symbols.
const VECTOR_BYTES: usize = 2 * BLOCK_BYTES;

/// Vectors of a row that are worked on together, so that their coefficients, 24 KiB, stay in the nearest cache.
const TILE: usize = 16;

/// Rows that share a tile of coefficients.
const GROUP: usize = 8;

/// Products of bytes for one product.
const PRODUCTS: usize = 3;

/// Limbs of a value.
const LIMBS: usize = 8;

/// The element t.
const T: u16 = 256;

/// Coefficients, limb by limb beside the symbols.
pub(crate) struct Coefficients {
    row_bytes: usize,
    lanes: Vec<Lanes>,
}

/// For each limb a + b t of the coefficients of 64 symbols: a, v b and a + b, in the field of AES.
#[repr(C, align(64))]
struct Lanes([[[u8; SYMBOLS]; PRODUCTS]; LIMBS]);

/// Sums of the products of bytes, for each limb.
type Sums = [[__m512i; PRODUCTS]; LIMBS];

/// Matrices of the changes of field and basis.
struct Maps {
    /// Leopard's GF(256) to that of AES.
    field: u64,
    /// A high byte b to what the element b t adds to the low byte, in the field of AES.
    difference: u64,
    /// v times a byte, in the field of AES.
    by_v: u64,
    /// The field of AES to Leopard's GF(256).
    back: u64,
    /// The field of AES to what the element b t adds to the low byte, in Leopard's basis.
    difference_back: u64,
}

static MAPS: LazyLock<Maps> = LazyLock::new(|| {
    let field = isomorphism();
    let mut inverse = [0; 256];
    for (byte, image) in (0..=u8::MAX).zip(field) {
        inverse[usize::from(image)] = byte;
    }
    let low = |element: u16| element.to_le_bytes()[0];
    let difference = |byte: u8| low(mul(T, u16::from(byte)));
    let v = mul(T, T) ^ T;
    Maps {
        field: matrix(|byte| field[usize::from(byte)]),
        difference: matrix(|byte| field[usize::from(difference(byte))]),
        by_v: matrix(|byte| field[usize::from(low(mul(v, u16::from(byte))))]),
        back: matrix(|byte| inverse[usize::from(byte)]),
        difference_back: matrix(|byte| difference(inverse[usize::from(byte)])),
    }
});

/// Product of two polynomials over GF(2) modulo x^8 + x^4 + x^3 + x + 1.
fn mul_aes(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |product: u8, bit| {
        let doubled = product << 1 ^ if product >> 7 == 1 { 0x1B } else { 0 };
        doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
    })
}

/// The image in the field of AES of each element of Leopard's GF(256).
fn isomorphism() -> [u8; 256] {
    // Powers of an element of each field, with all 255 of them if it is a generator.
    let powers = |times: &dyn Fn(u8) -> u8| {
        let mut powers = [1; 255];
        for i in 1..255 {
            powers[i] = times(powers[i - 1]);
        }
        (!powers[1..].contains(&1)).then_some(powers)
    };
    let ours = |by: u8| powers(&|byte| mul(u16::from(byte), u16::from(by)).to_le_bytes()[0]);
    let theirs = |by: u8| powers(&|byte| mul_aes(byte, by));
    // A map that takes powers to powers keeps products; if it keeps the addition of one, it keeps all sums.
    let image = |generator: [u8; 255], powers: [u8; 255]| {
        let mut image = [0; 256];
        for (from, into) in generator.into_iter().zip(powers) {
            image[usize::from(from)] = into;
        }
        (0..=255).all(|byte: usize| image[byte ^ 1] == image[byte] ^ 1).then_some(image)
    };
    let generator = (2..=u8::MAX).find_map(ours).unwrap_or([1; 255]);
    (2..=u8::MAX).filter_map(theirs).find_map(|powers| image(generator, powers)).unwrap_or([0; 256])
}

impl Coefficients {
    /// Lays one coefficient for each symbol out.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
    pub(super) fn new(coefficients: &[Gf128]) -> Self {
        let [field, difference, by_v] =
            [MAPS.field, MAPS.difference, MAPS.by_v].map(|matrix| broadcast(matrix));
        let zero = Gf128::default();
        let lanes = coefficients.chunks(SYMBOLS).map(|given| {
            let mut coefficients = [zero; SYMBOLS];
            coefficients[..given.len()].copy_from_slice(given);
            let bytes = coefficients.map(Gf128::to_bytes);
            let [first, second] = [0, SYMBOLS / 2].map(|from| columns(|i| &bytes[from + i]));
            let bytes: [__m512i; VALUE_BYTES] = core::array::from_fn(|i| {
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first[i]), second[i])
            });
            let mut lanes = Lanes([[[0; SYMBOLS]; PRODUCTS]; LIMBS]);
            for (limb, into) in bytes.as_chunks().0.iter().zip(&mut lanes.0) {
                let [low, high] = *limb;
                let a = _mm512_xor_si512(map(low, field), map(high, difference));
                let vectors = [a, map(high, by_v), _mm512_xor_si512(a, map(high, field))];
                for (into, vector) in into.iter_mut().zip(vectors) {
                    // SAFETY: 64 bytes.
                    unsafe { _mm512_storeu_si512(into.as_mut_ptr().cast(), vector) };
                }
            }
            lanes
        });
        Self { row_bytes: 2 * coefficients.len(), lanes: lanes.collect() }
    }

    /// The combinations of consecutive rows, one for each value of `into`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
    pub(super) fn combine(&self, rows: &[u8], into: &mut [Gf128]) {
        assert_eq!(rows.len(), self.row_bytes * into.len());
        for (rows, values) in rows.chunks(GROUP * self.row_bytes).zip(into.chunks_mut(GROUP)) {
            if self.lanes.len() > TILE && values.len() > 1 {
                self.combine_together(rows, values);
            } else {
                for (row, value) in rows.chunks_exact(self.row_bytes).zip(values) {
                    *value = put_together(&add_products(zero(), row, &self.lanes));
                }
            }
        }
    }

    /// At most [`GROUP`] rows, tile by tile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
    fn combine_together(&self, rows: &[u8], into: &mut [Gf128]) {
        let mut sums = [zero(); GROUP];
        for (i, lanes) in self.lanes.chunks(TILE).enumerate() {
            for (row, sums) in rows.chunks_exact(self.row_bytes).zip(&mut sums) {
                let end = self.row_bytes.min((i + 1) * TILE * VECTOR_BYTES);
                *sums = add_products(*sums, &row[i * TILE * VECTOR_BYTES..end], lanes);
            }
        }
        for (value, sums) in into.iter_mut().zip(&sums) {
            *value = put_together(sums);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero() -> Sums {
    [[_mm512_setzero_si512(); PRODUCTS]; LIMBS]
}

/// Adds the products of symbols and coefficients.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
fn add_products(mut sums: Sums, bytes: &[u8], lanes: &[Lanes]) -> Sums {
    let [field, difference] = [MAPS.field, MAPS.difference].map(|matrix| broadcast(matrix));
    let mut add = |low, high, lanes: &Lanes| {
        let b = map(high, field);
        let a = _mm512_xor_si512(map(low, field), map(high, difference));
        let factors = [a, b, _mm512_xor_si512(a, b)];
        sums = core::array::from_fn(|limb| {
            core::array::from_fn(|i| {
                // SAFETY: 64 bytes.
                let lane = unsafe { _mm512_loadu_si512(lanes.0[limb][i].as_ptr().cast()) };
                _mm512_xor_si512(sums[limb][i], _mm512_gf2p8mul_epi8(factors[i], lane))
            })
        });
    };
    // SAFETY: 32 bytes.
    let load = |half: &[u8; 32]| unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    let (pairs, rest) = bytes.as_chunks::<VECTOR_BYTES>();
    for (pair, lanes) in pairs.iter().zip(lanes) {
        let halves = pair.as_chunks().0;
        let [low, high] = [0, 1].map(|half| {
            let first = _mm512_castsi256_si512(load(&halves[half]));
            _mm512_inserti64x4::<1>(first, load(&halves[half + 2]))
        });
        add(low, high, lanes);
    }
    if let ([low, high], Some(lanes)) = (rest.as_chunks().0, lanes.last()) {
        add(_mm512_zextsi256_si512(load(low)), _mm512_zextsi256_si512(load(high)), lanes);
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(matrix: u64) -> __m512i {
    _mm512_set1_epi64(matrix.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,gfni")]
fn map(bytes: __m512i, matrix: __m512i) -> __m512i {
    _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix)
}

/// The value of these sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,gfni")]
fn put_together(sums: &Sums) -> Gf128 {
    // (a + b t)(c + d t) = (ac + v bd) + (ac + (a + b)(c + d)) t
    let bytes = core::array::from_fn(|i| {
        let limb = sums[i / 2];
        _mm512_xor_si512(limb[0], limb[1 + i % 2])
    });
    let bytes = fold(bytes);
    let maps = &*MAPS;
    let apply = |matrix: u64| _mm_gf2p8affine_epi64_epi8::<0>(bytes, _mm_set1_epi64x(matrix.cast_signed()));
    // The high byte of a limb adds to the low one.
    let difference = _mm_srli_epi16::<8>(apply(maps.difference_back));
    let value = _mm_xor_si128(apply(maps.back), difference);
    let mut bytes = [0; VALUE_BYTES];
    // SAFETY: sixteen bytes.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) };
    Gf128::from_bytes(bytes)
}

/// Byte i is the sum of all bytes of vector i.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn fold(vectors: [__m512i; VALUE_BYTES]) -> __m128i {
    let add = |x, y| _mm512_xor_si512(x, y);
    // In each 16 bytes: two vectors by eight bytes, then four by four, eight by two, sixteen by one.
    let eights: [__m512i; 8] = core::array::from_fn(|i| {
        let (x, y) = (vectors[2 * i], vectors[2 * i + 1]);
        add(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y))
    });
    let fours: [__m512i; 4] = core::array::from_fn(|i| {
        let [x, y] = [eights[2 * i], eights[2 * i + 1]].map(|vector| _mm512_castsi512_ps(vector));
        let [even, odd] =
            [_mm512_shuffle_ps::<0b10_00_10_00>(x, y), _mm512_shuffle_ps::<0b11_01_11_01>(x, y)];
        add(_mm512_castps_si512(even), _mm512_castps_si512(odd))
    });
    let twos: [__m512i; 2] = core::array::from_fn(|i| {
        let [x, y] = [fours[2 * i], fours[2 * i + 1]].map(|vector| {
            let sum = add(vector, _mm512_srli_epi32::<16>(vector));
            _mm512_and_si512(sum, _mm512_set1_epi32(0xFFFF))
        });
        _mm512_packus_epi32(x, y)
    });
    let [x, y] = twos.map(|vector| {
        let sum = add(vector, _mm512_srli_epi16::<8>(vector));
        _mm512_and_si512(sum, _mm512_set1_epi16(0xFF))
    });
    let ones = _mm512_packus_epi16(x, y);
    let half = _mm256_xor_si256(_mm512_castsi512_si256(ones), _mm512_extracti64x4_epi64::<1>(ones));
    _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}
