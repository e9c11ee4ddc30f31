//! What nobody can get past the checks: damaged bytes, too few rows, encoders that cheat.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "soundness/cheats.rs"]
mod cheats;
#[path = "soundness/decoding.rs"]
mod decoding;
#[path = "soundness/flips.rs"]
mod flips;
#[path = "soundness/linear.rs"]
mod linear;

use bytes::Bytes;
use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    field::{Gf128, mul},
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    merkle::RowTree,
    reconstruct::{DecodeError, Rebuilt, RowSet},
    rlc::RlcVector,
    row_proof::{BlobContext, RowError, VerifiedRange},
    shape::{PayloadLength, RowIndex, Shape},
};
use std::sync::Arc;

/// Bytes without a pattern, other ones for each seed.
fn payload(length: usize, seed: u64) -> Vec<u8> {
    let mut payload = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut payload);
    payload
}

fn blob(payload: &[u8]) -> EncodedBlob {
    encode(payload, B256::ZERO).unwrap()
}

fn context(blob: &EncodedBlob) -> Arc<BlobContext> {
    Arc::new(BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap())
}

fn row(index: usize) -> RowIndex {
    RowIndex(u32::try_from(index).unwrap())
}

/// The verified rows `start..start + count` of a blob, around the end where the ring wraps.
fn window(blob: &EncodedBlob, context: &BlobContext, start: usize, count: usize) -> Vec<VerifiedRange> {
    let total = blob.shape().total_rows();
    let check = |start: usize, count: usize| {
        let range = blob.shape().range(u32::try_from(start).unwrap(), u32::try_from(count).unwrap()).unwrap();
        context.check_range(range, blob.rows(range), &blob.range_proof(range)).unwrap()
    };
    let first = count.min(total - start);
    let mut ranges = vec![check(start, first)];
    if first < count {
        ranges.push(check(0, count - first));
    }
    ranges
}

fn set(context: &Arc<BlobContext>, ranges: impl IntoIterator<Item = VerifiedRange>) -> RowSet {
    let mut set = RowSet::new(Arc::clone(context));
    for range in ranges {
        set.insert(range).unwrap();
    }
    set
}

/// The combination of a row by its definition.
fn combination(row: &[u8], coefficients: &[Gf128]) -> Gf128 {
    let mut sum = Gf128::default();
    for (s, coefficient) in coefficients.iter().enumerate() {
        let at = 64 * (s / 32) + s % 32;
        let symbol = u16::from_le_bytes([row[at], row[at + 32]]);
        for (sum, limb) in sum.0.iter_mut().zip(coefficient.0) {
            *sum ^= mul(symbol, limb);
        }
    }
    sum
}

/// Flips one bit.
fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// What an encoder publishes that commits to whatever rows and RLC vector it likes.
struct Published {
    header: BlobHeader,
    shape: Shape,
    rows: Bytes,
    tree: RowTree,
    context: Arc<BlobContext>,
}

impl Published {
    /// Commits to the rows, then to the values that `choose` makes of the combinations of all T rows.
    fn new(length: u64, rows: Vec<u8>, choose: impl FnOnce(&[Gf128]) -> Vec<Gf128>) -> Self {
        let length = PayloadLength::try_from(length).unwrap();
        let shape = Shape::of(length);
        assert_eq!(rows.len(), shape.total_bytes());
        let tree = RowTree::build::<Blake3>(rows.chunks(shape.row_bytes()).map(Blake3::row_leaf).collect());
        let coefficients = Blake3::coefficients(&tree.root(), &shape);
        let combinations: Vec<Gf128> =
            rows.chunks(shape.row_bytes()).map(|row| combination(row, &coefficients)).collect();
        let rlc = vector(&choose(&combinations));
        let header = BlobHeader {
            length,
            row_root: tree.root(),
            rlc_root: rlc.root::<Blake3>(),
            kzg_root: B256::ZERO,
        };
        let context = Arc::new(BlobContext::new(header.id(), header, rlc).unwrap());
        Self { header, shape, rows: rows.into(), tree, context }
    }

    fn row(&self, index: usize) -> Bytes {
        let w = self.shape.row_bytes();
        self.rows.slice(index * w..(index + 1) * w)
    }

    fn check(&self, index: usize) -> Result<VerifiedRange, RowError> {
        self.context.check_row(row(index), self.row(index), &self.tree.prove_row(row(index)))
    }

    /// The rows that pass; every other one has to be refused for its combination, alone and within a range.
    fn passing(&self) -> Vec<usize> {
        let all = 0..self.shape.total_rows();
        let (passing, failing): (Vec<usize>, Vec<usize>) = all.partition(|index| self.check(*index).is_ok());
        for index in &failing {
            let row = u32::try_from(*index).unwrap();
            assert_eq!(self.check(*index).err(), Some(RowError::Combination { row }));
        }
        let all = self.shape.all();
        let refused = self.context.check_range(all, self.rows.clone(), &self.tree.prove_range(all)).err();
        let first =
            failing.first().map(|first| RowError::Combination { row: u32::try_from(*first).unwrap() });
        assert_eq!(refused, first);
        passing
    }

    /// What these rows decode to, padding included or not.
    fn decode(&self, rows: impl IntoIterator<Item = usize>) -> Result<Bytes, DecodeError> {
        set(&self.context, rows.into_iter().map(|index| self.check(index).unwrap())).payload()
    }

    /// The protocol's claim of agreement: all sets of K rows that pass decode to one payload, which is given; `None`
    /// where fewer than K pass, and then nothing decodes. Tries windows of the passing rows, strides and halves.
    fn agreement(&self, passing: &[usize]) -> Option<Bytes> {
        let (k, count) = (self.shape.data_rows(), passing.len());
        if count < k {
            let want = Err(DecodeError::NotEnough { have: count, need: k });
            assert_eq!(self.decode(passing.iter().copied()), want);
            return None;
        }
        // Every one of the smallest shape's, about 64 of a larger one's.
        let step = count.div_ceil(64);
        let windows =
            (0..count).step_by(step).map(|start| (0..k).map(|i| passing[(start + i) % count]).collect());
        let strides = (0..count / k).map(|start| (0..k).map(|i| passing[start + i * (count / k)]).collect());
        let halves = (k / 2..=count - k / 2).step_by(step).map(|start| {
            let second = start..start + k / 2;
            passing[..k / 2].iter().chain(&passing[second]).copied().collect()
        });
        let sets: Vec<Vec<usize>> = windows.chain(strides).chain(halves).collect();
        let payload = self.decode(sets[0].iter().copied()).unwrap();
        for rows in sets {
            assert!(self.decode(rows.iter().copied()).unwrap() == payload, "rows {rows:?} decode to another");
        }
        Some(payload)
    }

    /// Whether the rows that pass re-encode to the row root.
    fn is_consistent(&self, passing: &[usize]) -> bool {
        let rows = set(&self.context, passing.iter().map(|index| self.check(*index).unwrap()));
        matches!(rows.rebuild().unwrap(), Rebuilt::Consistent(_))
    }
}

/// The vector of these values.
fn vector(values: &[Gf128]) -> RlcVector {
    RlcVector::from_bytes(&values.iter().flat_map(|value| value.to_bytes()).collect::<Vec<_>>()).unwrap()
}
