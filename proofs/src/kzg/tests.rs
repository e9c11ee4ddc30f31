mod mainnet;
mod opening;
mod range;
mod vectors;

use super::*;
use alloy_primitives::U256;
use proptest::{collection::vec, prelude::*};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Order of the field.
fn order() -> U256 {
    "0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001".parse().unwrap()
}

/// Bytes without a pattern that a wrong offset could hide in.
fn payload(length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
}

fn length(bytes: usize) -> PayloadLength {
    (bytes as u64).try_into().unwrap()
}

fn commit(payload: &[u8]) -> KzgBinding {
    KzgBinding::of(payload, || ()).unwrap()
}

proptest! {
    #[test]
    fn packing_keeps_every_byte(payload in vec(any::<u8>(), 0..=POLYNOMIAL_BYTES)) {
        let blob = element::pack(&payload).unwrap();
        let values: Vec<B256> = blob.chunks_exact(32).map(B256::from_slice).collect();
        prop_assert_eq!(values.len(), ELEMENTS);
        let mut bytes: Vec<u8> = values.iter().flat_map(|value| element::unpack(value).unwrap()).copied().collect();
        prop_assert_eq!(bytes.split_off(payload.len()), vec![0; POLYNOMIAL_BYTES - payload.len()]);
        prop_assert_eq!(bytes, payload);
    }

    #[test]
    fn bytes_are_in_their_element(offset in 0usize..1 << 27) {
        let index = ElementIndex::of_byte(offset);
        prop_assert!(index.element < ELEMENTS && index.polynomial < 1058);
        prop_assert!((index.offset()..index.offset() + ELEMENT_BYTES).contains(&offset));
    }
}

#[test]
fn elements_are_at_the_bit_reversed_roots_of_unity() {
    // 7 generates the field's multiplicative group.
    let root = U256::from(7).pow_mod((order() - U256::ONE) / U256::from(ELEMENTS), order());
    // As docs/operations.md states it.
    assert_eq!(format!("{root:#x}"), "0x564c0a11a0f704f4fc3e8acfe0f8245f0ad1347b378fbf96e206da11a5d36306");
    for element in 0..ELEMENTS {
        let exponent = u16::try_from(element).unwrap().reverse_bits() >> 4;
        let point = ElementIndex { polynomial: 3, element }.point();
        assert_eq!(U256::from_be_bytes(point.0), root.pow_mod(U256::from(exponent), order()));
    }
}

#[test]
fn a_polynomial_holds_126976_bytes() {
    assert_eq!(POLYNOMIAL_BYTES, 126_976);
    let all = payload(POLYNOMIAL_BYTES + 1);
    for (bytes, polynomials) in
        [(1, 1), (POLYNOMIAL_BYTES - 1, 1), (POLYNOMIAL_BYTES, 1), (POLYNOMIAL_BYTES + 1, 2)]
    {
        assert_eq!(KzgBinding::polynomials(length(bytes)), polynomials);
        let calls = AtomicUsize::new(0);
        let binding = KzgBinding::of(&all[..bytes], || {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        let binding = binding.unwrap();
        assert_eq!(binding.commitments().len(), polynomials);
        assert_eq!(calls.into_inner(), polynomials);
        assert_eq!(binding.length(), length(bytes));
        for (commitment, piece) in binding.commitments().iter().zip(all[..bytes].chunks(POLYNOMIAL_BYTES)) {
            assert_eq!(commit(piece).commitments(), [*commitment]);
        }
    }
    assert_eq!(KzgBinding::polynomials(length(1 << 27)), 1058);
}

#[test]
fn payloads_have_bounds() {
    assert_eq!(KzgBinding::of(&[], || ()), Err(LengthError::Empty.into()));
    let long = vec![0; (1 << 27) + 1];
    assert_eq!(KzgBinding::of(&long, || ()), Err(LengthError::TooLong((1 << 27) + 1).into()));
}

#[test]
fn the_root_is_the_hash_of_all_commitments() {
    let [first, second] = [1, 2].map(|byte| KzgCommitment::from_bytes(&[byte; POINT_BYTES]).unwrap());
    let need = KzgBinding::polynomials(length(POLYNOMIAL_BYTES + 1));
    for have in [0, 1, 3] {
        let refused = KzgBinding::new(length(POLYNOMIAL_BYTES + 1), vec![first; have]);
        assert_eq!(refused, Err(KzgError::Commitments { have, need }));
    }
    let binding = KzgBinding::new(length(POLYNOMIAL_BYTES + 1), vec![first, second]).unwrap();
    let root = keccak256([[1; 48], [2; 48]].concat());
    assert_eq!(binding.root(), root);
    assert_eq!(binding.check(&root), Ok(()));
    let swapped = KzgBinding::new(length(POLYNOMIAL_BYTES + 1), vec![second, first]).unwrap();
    assert_eq!(swapped.check(&root), Err(KzgError::Root { have: swapped.root(), need: root }));
}

#[test]
fn commitments_have_48_bytes() {
    for bytes in [0, 47, 49, 96] {
        assert_eq!(KzgCommitment::from_bytes(&vec![0; bytes]), Err(KzgError::CommitmentBytes(bytes)));
    }
}
