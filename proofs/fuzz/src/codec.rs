//! Extending, checking and recovering of any rows at any shape, against the crate's Reed-Solomon code and the words of
//! the protocol. Buffers are as long as they have to be and begin anywhere, so that the sanitizer sees a kernel that
//! leaves them.

use super::input::{Input, noise};
use meridian_proofs::{
    codeword::{Codeword, RowChecker, extend, recover},
    field::{Gf128, mul},
    hash::{Blake3, HashProfile},
    merkle::RowTree,
    shape::{BLOCK_BYTES, RowRange, Shape},
};
use reed_solomon_simd::{
    engine::DefaultEngine,
    rate::{HighRateEncoder, RateEncoder},
};

/// Most bytes of all rows of a shape that is tried, unless a row of one block takes more.
const MOST_BYTES: usize = 256 << 10;

/// Logarithm of K u8, blocks of a row u8, where the buffers begin u8, window start u16, rows to skip u8, then what the
/// data rows begin with; noise follows.
pub fn codec(data: &[u8]) {
    let mut input = Input(data);
    let shape = shape(input.byte(), input.byte());
    let (offset, start, skip) = (usize::from(input.byte()) % BLOCK_BYTES, input.u16(), input.byte());
    let data = &input.0[..input.0.len().min(shape.data_bytes())];
    let data = [data, &noise(u64::from(start), shape.data_bytes() - data.len())].concat();

    let mut rows = vec![0; offset + shape.total_bytes()];
    rows[offset..][..data.len()].copy_from_slice(&data);
    extend(&shape, &mut rows[offset..]).unwrap();
    let rows = &rows[offset..];
    assert!(rows.starts_with(&data), "extension changed the data");
    assert!(rows[data.len()..] == parity(&shape, &data), "parity differs");

    // K rows from a window that may wrap, or with gaps: the last whose index is no multiple of `skip` + 1.
    let kept: Vec<usize> = if skip == 0 {
        (0..shape.data_rows()).map(|row| (usize::from(start) + row) % shape.total_rows()).collect()
    } else {
        let rows = (0..shape.total_rows()).rev().filter(|row| row % (usize::from(skip) + 1) != 0);
        rows.take(shape.data_rows()).collect()
    };
    let mut known = vec![None; shape.total_rows()];
    for row in &kept {
        known[*row] = Some(&rows[row * shape.row_bytes()..][..shape.row_bytes()]);
    }
    assert!(recover(&shape, &known).unwrap() == data, "recovered data differ");
    known[kept[0]] = None;
    assert!(recover(&shape, &known).is_err(), "recovered from too few rows");

    commits::<Blake3>(&shape, &data, rows, start);
}

/// The shape for two bytes: K of 1 to 2048.
fn shape(log: u8, blocks: u8) -> Shape {
    // The largest take longest, so hardly any byte chooses them.
    let data_rows = 1 << if log < 252 { log % 9 } else { log - 244 };
    let most = (MOST_BYTES / (4 * BLOCK_BYTES * data_rows)).max(1);
    let blocks = 1 + usize::from(blocks) % most;
    let [data_rows, row_bytes] =
        [data_rows, BLOCK_BYTES * blocks].map(|number| u32::try_from(number).unwrap());
    Shape::custom(data_rows, 3 * data_rows, row_bytes).unwrap()
}

/// The codeword of the data has these rows, the tree that hashing them one by one gives, and the combinations that
/// multiplying symbol by symbol gives; and its rows pass.
fn commits<H: HashProfile>(shape: &Shape, data: &[u8], rows: &[u8], start: u16) {
    let row_bytes = shape.row_bytes();
    let word = Codeword::<H>::of_data(*shape, data).unwrap();
    assert!(word.rows(shape.all()) == rows, "rows differ");
    let leaves: Vec<_> = rows.chunks(row_bytes).map(H::row_leaf).collect();
    assert_eq!(word.leaves(shape.all()), leaves);
    let mut nodes = leaves.clone();
    while nodes.len() > 1 {
        // Pair by pair, where the tree hashes many at a time.
        nodes = nodes.chunks(2).flat_map(H::row_nodes).collect();
    }
    assert_eq!([word.row_root()], nodes[..]);
    assert_eq!(RowTree::build::<H>(leaves).root(), word.row_root());

    let coefficients = H::coefficients(&word.row_root(), shape);
    let picked = usize::from(start) % shape.data_rows();
    for row in [0, picked, shape.data_rows() - 1] {
        assert_eq!(word.rlc().values()[row], combine(&data[row * row_bytes..][..row_bytes], &coefficients));
    }

    let checker = RowChecker::<H>::new(*shape, word.row_root(), word.rlc()).unwrap();
    let last = u32::try_from(shape.total_rows() - 1).unwrap();
    let start = u32::from(start).min(last);
    for range in [shape.all(), shape.data(), shape.range(start, last - start + 1).unwrap()] {
        passes(&checker, &word, range);
    }
    for index in [start, last, start / 2] {
        passes(&checker, &word, RowRange::of_row(shape.index(index).unwrap()));
    }
}

fn passes<H: HashProfile>(checker: &RowChecker<H>, word: &Codeword<H>, range: RowRange) {
    // A copy, so that the rows end where their memory does.
    let rows = word.rows(range).to_vec();
    let leaves = checker.check(range, &rows, &word.range_proof(range).0).unwrap();
    assert_eq!(leaves, word.leaves(range));
}

/// The parity rows of these data rows, by the crate.
pub fn parity(shape: &Shape, data: &[u8]) -> Vec<u8> {
    let (data_rows, parity_rows, row_bytes) = (shape.data_rows(), shape.parity_rows(), shape.row_bytes());
    let mut encoder =
        HighRateEncoder::new(data_rows, parity_rows, row_bytes, DefaultEngine::new(), None).unwrap();
    for row in data.chunks(row_bytes) {
        encoder.add_original_shard(row).unwrap();
    }
    encoder.encode().unwrap().recovery_iter().collect::<Vec<_>>().concat()
}

/// Sum over symbols of symbol times coefficient, limb by limb: the coefficients at the symbols that have a bit, times
/// the element of that bit.
pub fn combine(row: &[u8], coefficients: &[Gf128]) -> Gf128 {
    let mut sums = [0; 16];
    for (s, coefficient) in coefficients.iter().enumerate() {
        let block = 64 * (s / 32);
        let symbol = u16::from_le_bytes([row[block + s % 32], row[block + 32 + s % 32]]);
        for (bit, sum) in sums.iter_mut().enumerate() {
            *sum ^= coefficient.to_bits() * u128::from(symbol >> bit & 1);
        }
    }
    let mut folded = [0; 8];
    for (bit, sum) in sums.into_iter().enumerate() {
        for (folded, limb) in folded.iter_mut().zip(Gf128::from_bits(sum).0) {
            *folded ^= mul(1 << bit, limb);
        }
    }
    Gf128(folded)
}
