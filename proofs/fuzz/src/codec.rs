//! Extending, checking and recovering of any rows at any shape, against the crate's Reed-Solomon code and the words of
//! the protocol. Buffers are as long as they have to be and begin anywhere, so that the sanitizer sees a kernel that
//! leaves them.

use super::input::{Input, noise};
use meridian_proofs::{
    codeword::{Codeword, RowChecker, extend, recover},
    field::{Gf128, mul},
    hash::{Blake3, HashProfile, Sha256},
    shape::{BLOCK_BYTES, RowRange, Shape},
};
use reed_solomon_simd::{
    engine::DefaultEngine,
    rate::{HighRateEncoder, RateEncoder},
};

/// Most bytes of all rows of a shape that is tried, unless a row of one block takes more.
const MOST_BYTES: usize = 256 << 10;

/// Rows u8, blocks of a row u8, where the buffers begin u8, first row kept u16, which
/// rows are kept after it u8, then what the
/// data rows begin with; noise follows.
pub fn codec(data: &[u8]) {
    let mut input = Input(data);
    let shape = shape(input.byte(), input.byte());
    let (offset, start, choice) = (usize::from(input.byte()) % BLOCK_BYTES, input.u16(), input.byte());
    let data = &input.0[..input.0.len().min(shape.data_bytes())];
    let data = [data, &noise(u64::from(start), shape.data_bytes() - data.len())].concat();

    let mut rows = vec![0; offset + shape.total_bytes()];
    rows[offset..][..data.len()].copy_from_slice(&data);
    extend(&shape, &mut rows[offset..]).unwrap();
    let rows = &rows[offset..];
    assert!(rows.starts_with(&data), "extension changed the data");
    assert!(rows[data.len()..] == parity(&shape, &data), "parity differs");

    recovers(&shape, &data, rows, start, choice);
    if offset % 2 == 0 {
        commits::<Blake3>(&shape, &data, rows, start);
    } else {
        commits::<Sha256>(&shape, &data, rows, start);
    }
}

/// K rows, or a few more, recover the data: those from `start` around the end of the rows, or every second, third or
/// fourth of them, with regular gaps.
fn recovers(shape: &Shape, data: &[u8], rows: &[u8], start: u16, choice: u8) {
    let (row_bytes, total_rows) = (shape.row_bytes(), shape.total_rows());
    let (step, gap, more) =
        (usize::from(choice % 4) + 1, usize::from(choice / 4 % 16), usize::from(choice / 64));
    let wanted = |place: &usize| place.is_multiple_of(step) && (gap == 0 || place % (gap + 1) != gap);
    let (wanted, others): (Vec<usize>, Vec<usize>) = (0..total_rows).partition(wanted);
    let kept = wanted.into_iter().chain(others).take((shape.data_rows() + more).min(total_rows));
    let kept: Vec<usize> = kept.map(|place| (usize::from(start) + place) % total_rows).collect();

    // Each row in memory of its own.
    let copies: Vec<Vec<u8>> = kept.iter().map(|row| rows[row * row_bytes..][..row_bytes].to_vec()).collect();
    let mut known = vec![None; total_rows];
    for (row, copy) in kept.iter().zip(&copies) {
        known[*row] = Some(copy.as_slice());
    }
    assert!(recover(shape, &known).unwrap() == data, "recovered data differ");
    for row in &kept[shape.data_rows() - 1..] {
        known[*row] = None;
    }
    assert!(recover(shape, &known).is_err(), "recovered from too few rows");
}

/// The shape for two bytes: K of 1 to 2048 and N = 3K, or N and K as only the conformance profile has them.
fn shape(rows: u8, blocks: u8) -> Shape {
    let (data_rows, parity_rows) = match rows {
        0..192 => (1 << (rows % 9), 3 << (rows % 9)),
        192..252 => (usize::from(rows - 191), 1 + usize::from(blocks % 61)),
        // The largest take longest, so hardly any byte chooses them.
        252.. => (1 << (rows - 244), 3 << (rows - 244)),
    };
    let most = (MOST_BYTES / (BLOCK_BYTES * (data_rows + parity_rows))).max(1);
    let row_bytes = BLOCK_BYTES * (1 + usize::from(blocks) % most);
    let [data_rows, parity_rows, row_bytes] =
        [data_rows, parity_rows, row_bytes].map(|number| u32::try_from(number).unwrap());
    Shape::custom(data_rows, parity_rows, row_bytes).unwrap()
}

/// The codeword of the data has these rows, the tree that hashing them one by one gives, and the combinations that
/// multiplying symbol by symbol gives; and its rows pass.
fn commits<H: HashProfile>(shape: &Shape, data: &[u8], rows: &[u8], start: u16) {
    let row_bytes = shape.row_bytes();
    let word = Codeword::<H>::of_data(*shape, data).unwrap();
    assert!(word.rows(shape.all()) == rows, "rows differ");
    let leaves: Vec<_> = rows.chunks(row_bytes).map(H::row_leaf).collect();
    for (index, leaf) in shape.all().indices().zip(&leaves) {
        assert_eq!(word.leaves(RowRange::of_row(index)), [*leaf]);
    }
    if shape.parity_rows() == 3 * shape.data_rows() && shape.total_rows().is_power_of_two() {
        // Pair by pair, where the tree hashes many at a time; other shapes have a tree with gaps.
        let mut nodes = leaves;
        while nodes.len() > 1 {
            nodes = nodes.chunks(2).flat_map(H::row_nodes).collect();
        }
        assert_eq!(nodes, [word.row_root()]);
    }

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
    for (index, leaf) in range.indices().zip(leaves) {
        assert_eq!(word.leaves(RowRange::of_row(index)), [leaf]);
    }
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
