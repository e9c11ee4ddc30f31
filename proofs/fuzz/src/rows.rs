//! Rows with their proofs: nothing is accepted but the blob's own rows under the blob's own proof.

use super::{blobs::Honest, input::Input};
use bytes::Bytes;
use meridian_proofs::{
    hash::Blake3,
    merkle::{PartialTree, RangeProof, RowProof, range_proof_len},
    row_proof::VerifiedRange,
};

/// A blob's choice, index u16, the row, its proof.
pub fn row(data: &[u8]) {
    let mut input = Input(data);
    let honest = Honest::choose(input.byte());
    let shape = honest.blob.shape();
    let Some(index) = shape.index(input.u16().into()) else { return };
    let row = Bytes::copy_from_slice(input.take(shape.row_bytes()));
    let proof = RowProof(input.hashes());

    let same = row == honest.blob.row(index) && proof == honest.blob.row_proof(index);
    match honest.context.check_row(index, row.clone(), &proof) {
        Ok(checked) => {
            assert!(same, "accepted a row that is not the blob's");
            assert_eq!(checked.row(index), Some(row));
            assert_eq!(checked.proof().0, proof.0);
        }
        Err(error) => assert!(!same, "refused an honest row: {error}"),
    }
}

/// A blob's choice, start u16, count u16, the rows, the proof.
pub fn range(data: &[u8]) {
    let mut input = Input(data);
    let honest = Honest::choose(input.byte());
    let shape = honest.blob.shape();
    let Some(range) = honest.range(input.u16(), input.u16()) else { return };
    let rows =
        Bytes::copy_from_slice(input.take(usize::try_from(range.count()).unwrap() * shape.row_bytes()));
    let proof = RangeProof(input.hashes());

    // Over the blob's own leaves only the blob's own proof leads to the root.
    let own = honest.blob.range_proof(range);
    let tree = PartialTree::new::<Blake3>(shape.total_rows(), range, honest.blob.leaves(range), &proof);
    let root = tree.as_ref().ok().map(PartialTree::root);
    assert_eq!(root == Some(honest.blob.header().row_root), proof == own);
    assert_eq!(tree.is_ok(), proof.0.len() == range_proof_len(shape.total_rows(), range));

    let same = rows == honest.blob.rows(range) && proof == own;
    match honest.context.check_range(range, rows, &proof) {
        Ok(checked) => {
            assert!(same, "accepted rows that are not the blob's");
            reads_back(honest, &checked);
        }
        Err(error) => assert!(!same, "refused honest rows: {error}"),
    }
}

/// What a replica does with a range that it holds: serves every row of it under a proof of its own.
fn reads_back(honest: &Honest, held: &VerifiedRange) {
    let leaves = held.leaves().to_vec();
    let total_rows = honest.blob.shape().total_rows();
    let tree = PartialTree::new::<Blake3>(total_rows, held.range(), leaves, held.proof()).unwrap();
    for index in held.range().indices() {
        assert_eq!(tree.prove_row(index), Some(honest.blob.row_proof(index)));
        assert_eq!(held.row(index), Some(honest.blob.row(index)));
    }
}
