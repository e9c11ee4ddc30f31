//! Many rows at once by shuffles of nibbles, a row in each byte of a vector.
//!
//! GF(2^16) has the subfields GF(16), the elements below 16 of Leopard's basis, and GF(256), those below 256. With u
//! for element 16 and t for element 256, u^2 = u + w and t^2 = t + v, it is GF(16)[u][t]: an element is four nibbles,
//!
//! (a + b u) + (c + d u) t.
//!
//! Products are Karatsuba's, twice: nine products of sums of nibbles, whose sums over the symbols of a row are kept
//! apart and put together once at the end of the row. A shuffle looks sixteen nibbles up in a table of bytes, so one
//! multiplies the nibbles of 32 rows by the coefficients of two limbs: 36 shuffles for a symbol of 32 rows.

use super::{buckets, transpose::columns};
use crate::{
    field::{Gf128, mul},
    shape::BLOCK_BYTES,
};
use std::{
    arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_maddubs_epi16,
        _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setr_epi8, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_si256,
        _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256,
    },
    sync::LazyLock,
};

/// Rows in a vector.
const ROWS: usize = 32;

/// Fewer rows than this are faster one by one, unless they are short.
const FEW: usize = 18;

/// Fewer rows than this are faster one by one even if they are short.
const FEW_SHORT: usize = 10;

/// Bytes of the longest row that is short.
const SHORT: usize = 1024;

/// Symbols that are worked on between a load and a store of the sums.
const STEP: usize = 16;

/// Pairs of limbs.
const PAIRS: usize = 4;

/// Products of nibbles for one product.
const PRODUCTS: usize = 9;

/// The element u.
const U: u16 = 16;

/// The element t.
const T: u16 = 256;

/// A byte for each nibble.
type Images = [u8; 16];

#[repr(C, align(64))]
struct Tables {
    /// By m + 16 n: the products of each nibble by m, and by n in the high nibble.
    products: [Images; 256],
    /// High nibble of the high byte to what u t times it adds to the low nibble of the high byte, and to the low byte.
    high: [Images; 2],
    /// Low nibble of the high byte to what t times it adds to the low byte.
    middle: Images,
    /// High nibble of the low byte to what u times it adds to the low nibble.
    low: Images,
    /// For each of the nine products, low and high byte of what it contributes to an element.
    parts: [[Images; 2]; PRODUCTS],
}

static TABLES: LazyLock<Box<Tables>> = LazyLock::new(|| Box::new(Tables::new()));

impl Tables {
    fn new() -> Self {
        let nibbles = || core::array::from_fn(|i| u16::try_from(i).unwrap_or_default());
        let images = |image: &dyn Fn(u16) -> u16| nibbles().map(|nibble| image(nibble).to_le_bytes());
        let low = |image: &dyn Fn(u16) -> u16| images(image).map(|[low, _]| low);
        let high = |image: &dyn Fn(u16) -> u16| images(image).map(|[_, high]| high);
        let products = core::array::from_fn(|i| {
            let (m, n) = nibbles_of(u8::try_from(i).unwrap_or_default());
            low(&|nibble| mul(nibble, m) | mul(nibble, n) << 4)
        });
        let square_plus = |x: u16| mul(x, x) ^ x;
        // (1 + x) pq + (x^2 + x) p'q' + x (p + p')(q + q') is the product of p + p' x and q + q' x.
        let parts_of = |x: u16| [1 ^ x, square_plus(x), x];
        let part = |i: usize| mul(parts_of(T)[i / 3], parts_of(U)[i % 3]);
        let ut = mul(U, T);
        Self {
            products,
            high: [high(&|nibble| mul(ut, nibble) & 0x0F00), low(&|nibble| mul(ut, nibble))],
            middle: low(&|nibble| mul(T, nibble)),
            low: low(&|nibble| mul(U, nibble) & 0x000F),
            parts: core::array::from_fn(|i| {
                let product = |nibble| mul(part(i), nibble);
                [low(&product), high(&product)]
            }),
        }
    }
}

/// The low and the high nibble.
fn nibbles_of(byte: u8) -> (u16, u16) {
    (u16::from(byte & 15), u16::from(byte >> 4))
}

/// The combinations of consecutive rows, one for each value of `into`.
#[target_feature(enable = "avx2")]
pub(super) fn combine(coefficients: &[Gf128], mut rows: &[u8], mut into: &mut [Gf128]) {
    let row_bytes = 2 * coefficients.len();
    assert_eq!(rows.len(), row_bytes * into.len());
    let few = if row_bytes <= SHORT { FEW_SHORT } else { FEW };
    while into.len() >= few {
        let vectors = if into.len() < ROWS + few { 1 } else { 2 };
        let count = into.len().min(vectors * ROWS);
        let (now, later) = into.split_at_mut(count);
        let (bytes, rest) = rows.split_at(count * row_bytes);
        match vectors {
            1 => combine_together::<1>(&TABLES, coefficients, bytes, now),
            _ => combine_together::<2>(&TABLES, coefficients, bytes, now),
        }
        (rows, into) = (rest, later);
    }
    buckets::combine(coefficients, rows, into);
}

/// Sums of the products of nibbles: for two limbs in a byte, for each row.
type Sums<const V: usize> = [[[__m256i; V]; PAIRS]; PRODUCTS];

/// At most V times 32 rows.
#[target_feature(enable = "avx2")]
fn combine_together<const V: usize>(
    tables: &Tables,
    coefficients: &[Gf128],
    rows: &[u8],
    into: &mut [Gf128],
) {
    let row_bytes = 2 * coefficients.len();
    let zero = _mm256_setzero_si256();
    let mut sums: Sums<V> = [[[zero; V]; PAIRS]; PRODUCTS];
    // One block of each row; rows that there are not stay zero.
    let mut blocks = [[[0; BLOCK_BYTES]; ROWS]; V];
    let mut symbols = [[[zero; V]; STEP]; PRODUCTS];
    let mut factors = [[[0; PAIRS]; STEP]; PRODUCTS];
    for (i, coefficients) in coefficients.as_chunks::<{ 2 * STEP }>().0.iter().enumerate() {
        for (block, row) in blocks.as_flattened_mut().iter_mut().zip(rows.chunks_exact(row_bytes)) {
            block.copy_from_slice(&row[i * BLOCK_BYTES..(i + 1) * BLOCK_BYTES]);
        }
        for (half, coefficients) in coefficients.as_chunks::<STEP>().0.iter().enumerate() {
            for (v, blocks) in blocks.iter().enumerate() {
                let low = columns(|row| &blocks[row].as_chunks().0[half]);
                let high = columns(|row| &blocks[row].as_chunks().0[2 + half]);
                for (s, (low, high)) in low.into_iter().zip(high).enumerate() {
                    for (symbols, nibbles) in symbols.iter_mut().zip(sums_of_nibbles(tables, low, high)) {
                        symbols[s][v] = nibbles;
                    }
                }
            }
            prepare_factors(tables, coefficients, &mut factors);
            add_products(tables, &factors, &symbols, &mut sums);
        }
    }
    for (v, into) in into.chunks_mut(ROWS).enumerate() {
        let bytes = put_together(tables, sums.map(|pairs| pairs.map(|vectors| vectors[v])));
        for (i, value) in into.iter_mut().enumerate() {
            *value = Gf128::from_bytes(bytes.map(|bytes| bytes[i]));
        }
    }
}

/// For each product and symbol, where its table is, for each pair of limbs.
type Factors = [[[u16; PAIRS]; STEP]; PRODUCTS];

#[inline]
#[target_feature(enable = "avx2")]
fn add_products<const V: usize>(
    tables: &Tables,
    factors: &Factors,
    symbols: &[[[__m256i; V]; STEP]; PRODUCTS],
    sums: &mut Sums<V>,
) {
    for ((sums, symbols), factors) in sums.iter_mut().zip(symbols).zip(factors) {
        let mut kept = *sums;
        for (nibbles, factors) in symbols.iter().zip(factors) {
            for (sums, factor) in kept.iter_mut().zip(factors) {
                // SAFETY: a factor is sixteen times a byte.
                let table = broadcast(unsafe { tables.products.get_unchecked(usize::from(*factor >> 4)) });
                for (sum, nibbles) in sums.iter_mut().zip(nibbles) {
                    *sum = _mm256_xor_si256(*sum, _mm256_shuffle_epi8(table, *nibbles));
                }
            }
        }
        *sums = kept;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(images: &Images) -> __m256i {
    // SAFETY: sixteen bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(images.as_ptr().cast()) })
}

/// The nine sums of nibbles that are multiplied, of elements with these low and high bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_nibbles(tables: &Tables, low: __m256i, high: __m256i) -> [__m256i; PRODUCTS] {
    let mask = _mm256_set1_epi8(15);
    let low_nibbles = |bytes| _mm256_and_si256(bytes, mask);
    let high_nibbles = |bytes| _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
    let image = |images: &Images, nibbles| _mm256_shuffle_epi8(broadcast(images), nibbles);
    let add = |x, y| _mm256_xor_si256(x, y);

    let d = high_nibbles(high);
    let c = add(low_nibbles(high), image(&tables.high[0], d));
    let low = add(low, add(image(&tables.high[1], d), image(&tables.middle, c)));
    let b = high_nibbles(low);
    let a = add(low_nibbles(low), image(&tables.low, b));
    let (ac, bd) = (add(a, c), add(b, d));
    [a, b, add(a, b), c, d, add(c, d), ac, bd, add(ac, bd)]
}

/// Where the tables of coefficients are.
#[inline]
#[target_feature(enable = "avx2")]
fn prepare_factors(tables: &Tables, coefficients: &[Gf128; STEP], factors: &mut Factors) {
    // The low bytes of eight limbs, then the high ones.
    let apart = _mm256_setr_epi8(
        0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11,
        13, 15,
    );
    // An even limb and sixteen times the odd one after it.
    let pair = _mm256_set1_epi16(0x1001);
    for (i, four) in coefficients.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: a coefficient is sixteen bytes.
        let load = |i: usize| unsafe { _mm_loadu_si128(four[i].0.as_ptr().cast()) };
        let [even, odd] =
            [0, 1].map(|first| _mm256_shuffle_epi8(_mm256_set_m128i(load(first + 2), load(first)), apart));
        let low = _mm256_unpacklo_epi64(even, odd);
        let high = _mm256_unpackhi_epi64(even, odd);
        for (factors, nibbles) in factors.iter_mut().zip(sums_of_nibbles(tables, low, high)) {
            let tables = _mm256_slli_epi16::<4>(_mm256_maddubs_epi16(nibbles, pair));
            let into: &mut [[u16; PAIRS]; 4] = &mut factors.as_chunks_mut().0[i];
            // SAFETY: four times four times two bytes.
            unsafe { _mm256_storeu_si256(into.as_mut_ptr().cast(), tables) };
        }
    }
}

/// The bytes of values, for 32 rows each.
#[inline]
#[target_feature(enable = "avx2")]
fn put_together(tables: &Tables, sums: [[__m256i; PAIRS]; PRODUCTS]) -> [[u8; ROWS]; 16] {
    let mask = _mm256_set1_epi8(15);
    let mut bytes = [_mm256_setzero_si256(); 16];
    for (sums, parts) in sums.iter().zip(&tables.parts) {
        for (pair, sum) in sums.iter().enumerate() {
            let limbs = [*sum, _mm256_srli_epi16::<4>(*sum)].map(|sum| _mm256_and_si256(sum, mask));
            for (limb, nibbles) in limbs.into_iter().enumerate() {
                for (byte, part) in parts.iter().enumerate() {
                    let byte = &mut bytes[4 * pair + 2 * limb + byte];
                    *byte = _mm256_xor_si256(*byte, _mm256_shuffle_epi8(broadcast(part), nibbles));
                }
            }
        }
    }
    bytes.map(|vector| {
        let mut bytes = [0; ROWS];
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) };
        bytes
    })
}
