//! Openings of a payload's KZG commitments: the payload's own bytes and nothing else are shown.

use super::input::{Input, noise};
use meridian_proofs::kzg::{
    KzgBinding, KzgCommitment, KzgError, OPENING_BYTES, Opening, POINT_BYTES, open_range, verify_range,
};
use std::sync::LazyLock;

/// Payload bytes: four elements of 31 bytes, the last one not full.
pub const LENGTH: usize = 100;

/// A payload with its commitment and the openings of all of it.
pub struct Bound {
    pub payload: Vec<u8>,
    pub binding: KzgBinding,
    pub openings: Vec<Opening>,
}

/// What inputs are held against.
pub static BOUND: LazyLock<Bound> = LazyLock::new(|| {
    let payload = noise(8, LENGTH);
    let binding = KzgBinding::of(&payload, || ()).unwrap();
    let openings = open_range(&payload, &binding, &(0..binding.length().get()), || ()).unwrap();
    Bound { payload, binding, openings }
});

/// Start u16, end u16, number of commitments u8, the commitments, then openings.
pub fn kzg(data: &[u8]) {
    let mut input = Input(data);
    let range = u64::from(input.u16())..u64::from(input.u16());
    let count = usize::from(input.byte());
    let mut commitments = Vec::new();
    for bytes in input.take(POINT_BYTES * count).chunks(POINT_BYTES) {
        match KzgCommitment::from_bytes(bytes) {
            Ok(commitment) => {
                assert_eq!(commitment.as_bytes(), bytes);
                commitments.push(commitment);
            }
            Err(error) => assert_eq!(error, KzgError::CommitmentBytes(bytes.len())),
        }
    }
    let mut openings = Vec::new();
    for bytes in input.0.chunks(OPENING_BYTES) {
        let Ok(opening) = Opening::from_bytes(bytes) else { continue };
        assert_eq!(opening.to_bytes(), bytes);
        openings.push(opening);
    }
    if let Some(opening) = openings.first() {
        two_libraries_agree(opening);
    }

    let Bound { payload, binding, openings: own } = &*BOUND;
    let end = usize::try_from(range.end).unwrap();
    let elements = if range.start < range.end && end <= LENGTH {
        let start = usize::try_from(range.start).unwrap();
        Some((start / 31..end.div_ceil(31), &payload[start..end]))
    } else {
        None
    };
    let same = commitments == binding.commitments()
        && elements.as_ref().is_some_and(|(elements, _)| own[elements.clone()] == openings);
    match verify_range(&binding.root(), binding.length(), &range, &openings, &commitments) {
        Ok(bytes) => {
            assert!(same, "accepted openings that are not the payload's");
            assert_eq!(bytes, elements.unwrap().1);
        }
        Err(error) => assert!(!same, "refused honest openings: {error}"),
    }
}

/// The verifier and the prover's library take the same openings.
fn two_libraries_agree(opening: &Opening) {
    let verdict = c_kzg::ethereum_kzg_settings(0).verify_kzg_proof(
        &c_kzg::Bytes48::new(*opening.commitment().as_bytes()),
        &c_kzg::Bytes32::new(opening.z().0),
        &c_kzg::Bytes32::new(opening.y().0),
        &c_kzg::Bytes48::new(*opening.proof()),
    );
    assert_eq!(opening.verify().is_ok(), verdict.is_ok_and(|shown| shown));
}
