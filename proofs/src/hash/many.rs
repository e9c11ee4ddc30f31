//! Keyed BLAKE3 of many inputs of one length, with the lanes of the vector unit filled across the inputs.
//!
//! BLAKE3 cuts an input into chunks of 1 KiB, which may be hashed side by side, and joins their chaining values by a
//! binary tree of 64-byte parents. The crate fills its lanes with the chunks of one input, so an input of one chunk
//! takes as long as one of eight or sixteen. Here chunk j of up to [`GROUP`] inputs is hashed together, then the
//! parents of all of them, level by level. The constants are those of the BLAKE3 paper, section 2.

use super::{GROUP, by_groups};
#[cfg(target_arch = "x86_64")]
use crate::kernel::xof;
use crate::{B256, kernel::Level};
use blake3::{IncrementCounter, platform::Platform};

/// Bytes of a block, of two chaining values and of a chunk.
const BLOCK: usize = 64;
const BLOCK_LEN: u8 = 64;
const CHUNK: usize = 1024;

/// Bytes of a chaining value.
const VALUE: usize = 32;

const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;
const KEYED_HASH: u8 = 16;

/// The instructions that the crate finds, or as few as the codec is held to.
fn platform() -> Platform {
    let held = Level::held().and_then(|level| match level {
        Level::Scalar => Some(Platform::portable()),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => Platform::avx2(),
        _ => None,
    });
    held.unwrap_or_else(Platform::detect)
}

/// BLAKE3 under one key.
pub(super) struct Keyed {
    key: [u8; 32],
    words: [u32; 8],
    platform: Platform,
}

/// How the chunks of one level of a group differ.
#[derive(Clone, Copy)]
struct Chunks {
    /// Where they begin in each input.
    start: usize,
    counter: u64,
    /// Of the last block.
    end_flags: u8,
}

type HashChunks = fn(&Keyed, &[u8], usize, Chunks, &mut [u8]);

/// By the number of blocks of a chunk, less one: the crate wants the length as a constant.
const HASH_CHUNKS: [HashChunks; 16] = [
    Keyed::chunks::<64>,
    Keyed::chunks::<128>,
    Keyed::chunks::<192>,
    Keyed::chunks::<256>,
    Keyed::chunks::<320>,
    Keyed::chunks::<384>,
    Keyed::chunks::<448>,
    Keyed::chunks::<512>,
    Keyed::chunks::<576>,
    Keyed::chunks::<640>,
    Keyed::chunks::<704>,
    Keyed::chunks::<768>,
    Keyed::chunks::<832>,
    Keyed::chunks::<896>,
    Keyed::chunks::<960>,
    Keyed::chunks::<1024>,
];

impl Keyed {
    /// The key of a use, by the name of the use.
    pub(super) fn derive(context: &str) -> Self {
        Self::new(blake3::derive_key(context, &[]), platform())
    }

    fn new(key: [u8; 32], platform: Platform) -> Self {
        let words = core::array::from_fn(|i| u32::from_le_bytes(core::array::from_fn(|j| key[4 * i + j])));
        Self { key, words, platform }
    }

    /// Hash of one input of any length.
    pub(super) fn hash(&self, input: &[u8]) -> B256 {
        B256::new(*blake3::keyed_hash(&self.key, input).as_bytes())
    }

    /// Hash of two children, left before right: one block, for which the crate's hasher takes twice the time.
    pub(super) fn hash_pair(&self, left: &B256, right: &B256) -> B256 {
        let mut value = self.words;
        let flags = KEYED_HASH | CHUNK_START | CHUNK_END | ROOT;
        self.platform.compress_in_place(&mut value, &left.concat_const(*right).0, BLOCK_LEN, 0, flags);
        let mut hash = B256::ZERO;
        for (bytes, word) in hash.0.as_chunks_mut().0.iter_mut().zip(value) {
            *bytes = word.to_le_bytes();
        }
        hash
    }

    /// Fills `into` with extendable output of an input of at most one block.
    pub(super) fn fill(&self, input: &[u8], into: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if matches!(self.platform, Platform::AVX2) && input.len() <= BLOCK {
            let mut block = [0; BLOCK];
            block[..input.len()].copy_from_slice(input);
            let block = block.as_chunks().0;
            let source = xof::Source {
                chaining_value: self.words,
                block: core::array::from_fn(|i| u32::from_le_bytes(block[i])),
                length: u32::try_from(input.len()).unwrap_or_default(),
                flags: u32::from(KEYED_HASH | CHUNK_START | CHUNK_END | ROOT),
            };
            return xof::fill(&source, into);
        }
        blake3::Hasher::new_keyed(&self.key).update(input).finalize_xof().fill(into);
    }

    /// Hash of each row.
    ///
    /// # Panics
    /// `row_bytes` is no positive multiple of a block: less than a block would be left out of a hash.
    pub(super) fn hash_rows(&self, rows: &[u8], row_bytes: usize) -> Vec<B256> {
        assert!(row_bytes > 0 && row_bytes.is_multiple_of(BLOCK), "rows of blocks");
        by_groups(rows, row_bytes, |rows, hashes| {
            if row_bytes <= CHUNK {
                self.hash_short(rows, row_bytes, hashes);
            } else if hashes.len() < self.platform.simd_degree() {
                for (hash, row) in hashes.iter_mut().zip(rows.chunks_exact(row_bytes)) {
                    *hash = self.hash(row);
                }
            } else {
                self.hash_long(rows, row_bytes, hashes);
            }
        })
    }

    /// Hash of each two children, left before right.
    pub(super) fn hash_pairs(&self, children: &[B256]) -> Vec<B256> {
        by_groups(children, 2, |children, hashes| {
            let mut pairs = [0; GROUP * BLOCK];
            let pairs = &mut pairs[..children.len() * VALUE];
            for (into, child) in pairs.chunks_exact_mut(VALUE).zip(children) {
                into.copy_from_slice(child.as_slice());
            }
            self.hash_short(pairs, BLOCK, hashes);
        })
    }

    /// A group of rows of one chunk, which is the root.
    fn hash_short(&self, rows: &[u8], row_bytes: usize, hashes: &mut [B256]) {
        let mut values = [0; GROUP * VALUE];
        let only = Chunks { start: 0, counter: 0, end_flags: CHUNK_END | ROOT };
        HASH_CHUNKS[row_bytes / BLOCK - 1](self, rows, row_bytes, only, &mut values);
        store(&values, hashes);
    }

    /// A group of rows of several chunks.
    fn hash_long(&self, rows: &[u8], row_bytes: usize, hashes: &mut [B256]) {
        let mut width = row_bytes.div_ceil(CHUNK);
        // The values of one level, row after row.
        let mut values = vec![0; hashes.len() * width * VALUE];
        let mut level = vec![0; hashes.len() * width.div_ceil(2) * VALUE];
        for (chunk, counter) in (0..width).zip(0..) {
            let start = chunk * CHUNK;
            let blocks = (row_bytes - start).min(CHUNK) / BLOCK;
            let inner = Chunks { start, counter, end_flags: CHUNK_END };
            HASH_CHUNKS[blocks - 1](self, rows, row_bytes, inner, &mut level);
            let places = values.chunks_exact_mut(width * VALUE);
            for (row, value) in places.zip(level.chunks_exact(VALUE)) {
                row[chunk * VALUE..][..VALUE].copy_from_slice(value);
            }
        }
        while width > 1 {
            let (pairs, half) = (width / 2, width.div_ceil(2));
            let root = if width == 2 { ROOT } else { 0 };
            {
                let rows = values[..hashes.len() * width * VALUE].chunks_exact(width * VALUE);
                let inputs: Vec<&[u8; BLOCK]> = rows.flat_map(|row| row.as_chunks().0).collect();
                self.many(&inputs, 0, PARENT | root, [0, 0], &mut level);
            }
            // Parents move to the front of their row; a last value without a partner goes up as it is.
            for row in 0..hashes.len() {
                let (from, to) = (row * width * VALUE, row * half * VALUE);
                let parents = &level[row * pairs * VALUE..][..pairs * VALUE];
                values[to..to + parents.len()].copy_from_slice(parents);
                if half > pairs {
                    let last = from + (width - 1) * VALUE;
                    values.copy_within(last..last + VALUE, to + parents.len());
                }
            }
            width = half;
        }
        store(&values, hashes);
    }

    /// Chaining values of a chunk of N bytes in each row.
    fn chunks<const N: usize>(&self, rows: &[u8], row_bytes: usize, chunks: Chunks, values: &mut [u8]) {
        let rows = rows.chunks_exact(row_bytes);
        let inputs: Vec<&[u8; N]> = rows.filter_map(|row| row[chunks.start..].first_chunk()).collect();
        self.many(&inputs, chunks.counter, 0, [CHUNK_START, chunks.end_flags], values);
    }

    fn many<const N: usize>(
        &self,
        inputs: &[&[u8; N]],
        counter: u64,
        flags: u8,
        [start, end]: [u8; 2],
        values: &mut [u8],
    ) {
        let (key, flags) = (&self.words, KEYED_HASH | flags);
        self.platform.hash_many(inputs, key, counter, IncrementCounter::No, flags, start, end, values);
    }
}

fn store(values: &[u8], hashes: &mut [B256]) {
    for (hash, value) in hashes.iter_mut().zip(values.chunks_exact(VALUE)) {
        hash.0.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SHARED, *};
    use proptest::{collection::vec, prelude::*};

    /// The same key on everything this machine can do.
    fn all() -> Vec<Keyed> {
        let mut platforms = vec![Platform::portable(), Platform::detect()];
        #[cfg(target_arch = "x86_64")]
        platforms.extend([Platform::sse2(), Platform::sse41(), Platform::avx2()].into_iter().flatten());
        platforms.into_iter().map(|platform| Keyed::new(blake3::derive_key("a key", &[]), platform)).collect()
    }

    fn bytes(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn one_by_one(rows: &[u8], row_bytes: usize) -> Vec<B256> {
        let key = blake3::derive_key("a key", &[]);
        rows.chunks_exact(row_bytes).map(|row| B256::new(blake3::keyed_hash(&key, row).into())).collect()
    }

    fn agree(rows: &[u8], row_bytes: usize) {
        let want = one_by_one(rows, row_bytes);
        for keyed in all() {
            assert_eq!(keyed.hash_rows(rows, row_bytes), want, "{:?} {row_bytes}", keyed.platform);
        }
    }

    #[test]
    fn rows_of_every_length_are_hashed_as_by_the_crate() {
        let rows = bytes(70 * 40 * BLOCK);
        for blocks in 1..=40 {
            for count in [0, 1, 2, 7, 8, 15, 16, 17, 63, 64, 65, 70] {
                agree(&rows[..count * blocks * BLOCK], blocks * BLOCK);
            }
        }
        let rows = bytes(18 * 16_384);
        for row_bytes in [3072, 4096, 4160, 5120, 8128, 8192, 8256, 11_008, 16_320, 16_384] {
            agree(&rows[..rows.len() / row_bytes * row_bytes], row_bytes);
        }
    }

    #[test]
    fn rows_are_of_whole_blocks() {
        for row_bytes in [1, 63, 65, 100, CHUNK + 1] {
            for keyed in all() {
                let hashed = std::panic::catch_unwind(|| keyed.hash_rows(&bytes(2 * row_bytes), row_bytes));
                assert!(hashed.is_err(), "{:?} {row_bytes}", keyed.platform);
            }
        }
    }

    #[test]
    fn any_number_of_rows_is_hashed() {
        for row_bytes in [64, 320, 1024, 1088, 3136] {
            let rows = bytes(131 * row_bytes);
            for count in 0..=131 {
                agree(&rows[..count * row_bytes], row_bytes);
            }
        }
    }

    #[test]
    fn threads_do_not_show() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for row_bytes in [64, 448, 1024, 2112] {
            for length in [SHARED - 1, SHARED, 3 * SHARED] {
                let rows = bytes(length / row_bytes * row_bytes);
                pool.install(|| agree(&rows, row_bytes));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_are_hashed_as_by_the_crate((rows, row_bytes) in (1_usize..40, 0_usize..131).prop_flat_map(
            |(blocks, count)| (vec(any::<u8>(), count * blocks * BLOCK), Just(blocks * BLOCK))
        )) {
            agree(&rows, row_bytes);
        }

        #[test]
        fn output_is_that_of_the_crate(input in vec(any::<u8>(), 0..=70), length in 0_usize..5000) {
            let mut want = vec![0; length];
            blake3::Hasher::new_keyed(&blake3::derive_key("a key", &[])).update(&input).finalize_xof().fill(&mut want);
            for keyed in all() {
                let mut output = vec![0; length];
                keyed.fill(&input, &mut output);
                prop_assert_eq!(&output, &want);
            }
        }

        #[test]
        fn pairs_are_hashed_as_by_the_crate(children in vec(any::<[u8; 32]>(), 0..300)) {
            let children: Vec<B256> = children.into_iter().map(B256::new).collect();
            let want = one_by_one(&children.concat(), BLOCK);
            for keyed in all() {
                prop_assert_eq!(keyed.hash_pairs(&children), want.clone());
                for ([left, right], want) in children.as_chunks().0.iter().zip(&want) {
                    prop_assert_eq!(keyed.hash_pair(left, right), *want);
                }
            }
        }
    }
}
