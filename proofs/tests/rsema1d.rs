//! The conformance profile against the crate `rsema1d` and against commitments that others publish.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use meridian_proofs::{
    B256,
    codeword::{self, Codeword, RowChecker, RowError},
    encode::encode,
    hash::{HashProfile, Sha256},
    merkle::ProofError,
    reconstruct::RowSet,
    rlc::RlcVector,
    row_proof::BlobContext,
    shape::{RowIndex, RowRange, Shape},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use rsema1d::{ExtendedData, Parameters, RowMatrix, RowProof, VerificationContext};
use serde_json::Value;
use std::sync::Arc;

fn narrow(value: usize) -> u32 {
    value.try_into().unwrap()
}

/// One codeword as we and as the peer make it.
struct Both {
    shape: Shape,
    parameters: Parameters,
    ours: Codeword<Sha256>,
    theirs: ExtendedData,
    commitment: [u8; 32],
    checker: RowChecker<Sha256>,
    context: VerificationContext,
}

impl Both {
    /// Encodes twice and compares everything that is not about a row.
    fn encode(shape: Shape, data: &[u8]) -> Self {
        let (k, n, w) = (shape.data_rows(), shape.parity_rows(), shape.row_bytes());
        let parameters = Parameters::new(k, n, w).unwrap();
        let ours = Codeword::<Sha256>::of_data(shape, data).unwrap();
        let matrix = RowMatrix::with_shape(data.to_vec(), k, w).unwrap();
        let theirs = rsema1d::encode(&matrix, &parameters).unwrap();

        assert!(ours.rows(shape.all()) == theirs.rows().as_row_major(), "extended rows");
        assert_eq!(ours.row_root(), theirs.row_root());
        let coefficients = rsema1d::crypto::derive_coefficients(&theirs.row_root(), k, n, w);
        let coefficients: Vec<[u16; 8]> = coefficients.iter().map(|value| value.limbs).collect();
        let derived: Vec<_> =
            Sha256::coefficients(&ours.row_root(), &shape).iter().map(|value| value.0).collect();
        assert!(derived == coefficients, "coefficients");
        let values: Vec<u8> = theirs.rlc_original().iter().flat_map(|value| value.to_bytes()).collect();
        assert!(ours.rlc().to_bytes() == values, "rlc vector");
        assert_eq!(ours.rlc().root::<Sha256>(), theirs.rlc_root());
        let commitment = theirs.commitment();
        assert_eq!(Sha256::commitment(&ours.row_root(), &ours.rlc().root::<Sha256>()), commitment);

        // Each side checks rows against what the other made.
        let rlc = RlcVector::from_bytes(&values).unwrap();
        let checker = RowChecker::new(shape, theirs.row_root().into(), &rlc).unwrap();
        let values: Vec<_> =
            ours.rlc().values().iter().map(|value| rsema1d::GF128 { limbs: value.0 }).collect();
        let context = VerificationContext::new(&values, &parameters).unwrap();
        Self { shape, parameters, ours, theirs, commitment, checker, context }
    }

    fn they_accept(&self, index: usize, row: &[u8], siblings: &[B256]) -> bool {
        let row_proof = siblings.iter().map(|sibling| sibling.0).collect();
        let proof = RowProof { index, row: row.to_vec().into(), row_proof };
        rsema1d::verify_with_context(&proof, &self.commitment, &self.context).is_ok_and(|valid| valid)
    }

    fn we_accept(&self, index: usize, row: &[u8], siblings: &[B256]) -> bool {
        let index = self.shape.index(narrow(index)).unwrap();
        self.checker.check(RowRange::of_row(index), row, siblings).is_ok()
    }

    /// Compares proofs and verdicts, of honest rows and of such with one bit flipped.
    fn row(&self, index: usize, bit: usize) {
        let proof = self.theirs.generate_row_proof(index).unwrap();
        let theirs: Vec<B256> = proof.row_proof.iter().map(B256::from).collect();
        let ours = self.ours.row_proof(RowIndex(narrow(index))).0;
        assert_eq!(ours, theirs, "proof of row {index}");
        let row = self.ours.rows(self.shape.range(narrow(index), 1).unwrap());
        assert!(self.they_accept(index, &row, &ours) && self.we_accept(index, &proof.row, &theirs));

        let flipped = flip(&row, bit);
        assert!(!self.they_accept(index, &flipped, &ours) && !self.we_accept(index, &flipped, &ours));
        let flipped: Vec<B256> = flip(&ours.concat(), bit).chunks_exact(32).map(B256::from_slice).collect();
        assert!(!self.they_accept(index, &row, &flipped) && !self.we_accept(index, &row, &flipped));
        let other = (index + 1) % self.shape.total_rows();
        assert_eq!(self.they_accept(other, &row, &ours), self.we_accept(other, &row, &ours));
        for siblings in [&ours[1..], &[ours.as_slice(), &[B256::ZERO]].concat()] {
            assert!(!self.they_accept(index, &row, siblings) && !self.we_accept(index, &row, siblings));
        }
    }

    /// A range is checked as its rows are, also one that goes over the padding of the tree.
    fn range(&self, start: usize, count: usize, bit: usize) {
        let range = self.shape.range(narrow(start), narrow(count)).unwrap();
        let (rows, proof) = (self.ours.rows(range), self.ours.range_proof(range));
        let leaves = self.checker.check(range, &rows, &proof.0).unwrap();
        let want: Vec<B256> = rows
            .chunks_exact(self.shape.row_bytes())
            .map(rsema1d::crypto::hash_leaf)
            .map(B256::from)
            .collect();
        assert_eq!(leaves, want);
        assert_eq!(self.checker.check(range, &flip(&rows, bit), &proof.0), Err(RowError::RowRoot));
    }

    fn reconstruct(&self, rows: &[usize]) {
        let row = |index: usize| self.theirs.row(index).unwrap();
        let known: Vec<&[u8]> = rows.iter().map(|index| row(*index)).collect();
        let theirs = rsema1d::reconstruct(&known, rows, &self.parameters).unwrap();
        let mut known = vec![None; self.shape.total_rows()];
        for index in rows {
            known[*index] = Some(row(*index));
        }
        let ours = codeword::recover(&self.shape, &known).unwrap();
        assert!(ours == theirs.as_row_major() && self.ours.rows(self.shape.data()) == ours, "{rows:?}");
    }
}

/// Flips one bit, counted around.
fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = bit % (8 * bytes.len());
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Shapes small enough for many cases: those of the network, those of any power of two, and any.
fn shapes() -> impl Strategy<Value = Shape> {
    let network =
        (0_u32..2, 1_u32..=16).prop_map(|(log, blocks)| (16 << (2 * log), 48 << (2 * log), 64 * blocks));
    let powers = (0_u32..6, 0_u32..7, 1_u32..40).prop_map(|(k, n, blocks)| (1 << k, 1 << n, 64 * blocks));
    let any = (1_u32..80, 1_u32..200, 1_u32..8).prop_map(|(k, n, blocks)| (k, n, 64 * blocks));
    prop_oneof![network, powers, any].prop_map(|(k, n, w)| Shape::custom(k, n, w).unwrap())
}

fn case() -> impl Strategy<Value = (Shape, Vec<u8>, Vec<usize>)> {
    shapes().prop_flat_map(|shape| {
        let all: Vec<usize> = (0..shape.total_rows()).collect();
        (Just(shape), vec(any::<u8>(), shape.data_bytes()), Just(all).prop_shuffle()).prop_map(
            |(shape, data, mut rows)| {
                rows.truncate(shape.data_rows());
                (shape, data, rows)
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn everything_is_as_the_peer_has_it((shape, data, kept) in case(), at: [Index; 5], bit in 0_usize..1 << 20) {
        let both = Both::encode(shape, &data);
        for row in at.map(|at| at.index(shape.total_rows())) {
            both.row(row, bit);
        }
        let start = at[0].index(shape.total_rows());
        both.range(start, 1 + at[1].index(shape.total_rows() - start), bit);
        both.reconstruct(&kept);
    }
}

/// Bytes without a pattern that the code could hide behind.
fn filled(length: usize) -> Vec<u8> {
    (0_u32..).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[i as usize % 3]).take(length).collect()
}

#[test]
fn shapes_at_the_edges_are_as_the_peer_has_them() {
    for (k, n, w) in [
        (1, 1, 64),
        (1, 3, 64),
        (1, 40, 128),
        (2, 1, 64),
        (3, 9, 256),
        (4, 12, 16_448),
        (5, 7, 131_072),
        (33, 17, 64),
        (127, 129, 64),
        (128, 128, 192),
        (256, 768, 448),
        (1000, 24, 128),
        (1024, 3072, 320),
        (1025, 3073, 64),
        (2048, 6144, 64),
        (8192, 24_576, 64),
        (40_000, 20, 64),
    ] {
        let shape = Shape::custom(k, n, w).unwrap();
        let both = Both::encode(shape, &filled(shape.data_bytes()));
        let (k, total) = (shape.data_rows(), shape.total_rows());
        for row in [0, k / 2, k - 1, k, k + (total - k) / 2, total - 1] {
            both.row(row, 8 * (w as usize - 1));
        }
        both.range(0, total, 77);
        both.range(k - 1, 2, 5);
        // As many of the last rows as there may be, and data rows for those that are missing.
        let parity = k.min(total - k);
        both.reconstruct(&(0..k - parity).chain(total - parity..total).collect::<Vec<_>>());
    }
}

#[test]
fn blobs_of_the_profile_are_codewords_of_the_peer() {
    let payload = filled(20_000);
    let blob = encode::<Sha256>(&payload, B256::ZERO).unwrap();
    let mut data = payload.clone();
    data.resize(blob.shape().data_bytes(), 0);
    let both = Both::encode(blob.shape(), &data);
    let header = blob.header();
    assert_eq!(Sha256::commitment(&header.row_root, &header.rlc_root), both.commitment);
    let context = Arc::new(BlobContext::<Sha256>::new(blob.id(), *header, blob.rlc().clone()).unwrap());
    let parity = blob.shape().range(100, 64).unwrap();
    let checked = context.check_range(parity, blob.rows(parity), &blob.range_proof(parity)).unwrap();
    let mut rows = RowSet::new(context);
    rows.insert(checked).unwrap();
    assert_eq!(rows.payload().unwrap(), payload);
}

#[test]
fn the_peer_refuses_what_we_refuse() {
    for (k, n, w) in [(0, 1, 64), (1, 0, 64), (65_536, 1, 64), (1, 65_535, 64), (4, 12, 0), (4, 12, 96)] {
        assert_eq!(Shape::custom(k, n, w), None);
        let [k, n, w] = [k, n, w].map(|value| value as usize);
        let encoded = Parameters::new(k, n, w).and_then(|parameters| {
            rsema1d::encode(&RowMatrix::with_shape(vec![0; k * w], k, w)?, &parameters)
        });
        assert!(encoded.is_err());
    }
}

#[test]
fn rows_that_a_shape_has_not_are_refused() {
    // Row 12 would be a leaf of zeros behind the last row in the tree.
    let (shape, larger) = (Shape::custom(5, 7, 64).unwrap(), Shape::custom(8, 8, 64).unwrap());
    let both = Both::encode(shape, &filled(shape.data_bytes()));
    let range = larger.range(12, 1).unwrap();
    let proof = both.ours.row_proof(RowIndex(11)).0;
    let refused = both.checker.check(range, &[0; 64], &proof);
    assert_eq!(refused, Err(ProofError::Outside { start: 12, end: 13, total_rows: 12 }.into()));
}

fn published() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rsema1d.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn hash(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

fn committed(codeword: &Codeword<Sha256>) -> B256 {
    Sha256::commitment(&codeword.row_root(), &codeword.rlc().root::<Sha256>())
}

#[test]
fn commitments_are_those_of_the_specification() {
    for vector in published()["specification"]["vectors"].as_array().unwrap() {
        let [k, n, w] = ["k", "n", "row_bytes"].map(|key| number(&vector[key]));
        let shape = Shape::custom(k, n, w).unwrap();
        let mut data = vec![0; shape.data_bytes()];
        for (row, last) in data.chunks_exact_mut(shape.row_bytes()).zip(1..) {
            row[shape.row_bytes() - 1] = last;
        }
        let codeword = Codeword::<Sha256>::of_data(shape, &data).unwrap();
        assert_eq!(committed(&codeword), hash(&vector["commitment"]));
    }
}

#[test]
fn commitments_are_those_of_fibre() {
    let published = published();
    let fibre = &published["fibre"];
    let [k, n] = ["k", "n"].map(|key| number(&fibre[key]));
    for vector in fibre["vectors"].as_array().unwrap() {
        let length = number(&vector["length"]);
        let shape = Shape::custom(k, n, (length + 5).div_ceil(k).next_multiple_of(64)).unwrap();
        let mut data = vec![0];
        data.extend(length.to_be_bytes());
        data.extend((0..length).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
        data.resize(shape.data_bytes(), 0);
        let codeword = Codeword::<Sha256>::of_data(shape, &data).unwrap();
        assert_eq!(committed(&codeword), hash(&vector["commitment"]), "{length}");
        let siblings: Vec<B256> = vector["parity_siblings"].as_array().unwrap().iter().map(hash).collect();
        assert_eq!(codeword.range_proof(shape.data()).0, siblings);
    }
}
