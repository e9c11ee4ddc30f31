use super::*;
use std::sync::LazyLock;

/// An honest opening of the second element of a short payload.
static OPENING: LazyLock<Opening> = LazyLock::new(|| {
    let payload = payload(100);
    open_range(&payload, &commit(&payload), &(31..62), || ()).unwrap()[0]
});

#[test]
fn the_input_of_the_precompile_has_its_fields_in_place() {
    let payload = payload(100);
    let opening = *OPENING;
    let bytes = opening.to_bytes();
    assert_eq!(bytes.len(), 192);
    let commitment = commit(&payload).commitments()[0];
    assert_eq!(bytes[0], 1);
    assert_eq!(bytes[1..32], Sha256::digest(commitment.as_bytes())[1..]);
    // Element 1 of 4096: exponent 2048, so the square root of one that is not one.
    assert_eq!(U256::from_be_slice(&bytes[32..64]), order() - U256::ONE);
    assert_eq!(bytes[64], 0);
    assert_eq!(bytes[65..96], payload[31..62]);
    assert_eq!(bytes[96..144], *commitment.as_bytes());
    assert_eq!(bytes[144..192], *opening.proof());
    assert_eq!(
        (opening.z().as_slice(), opening.y().as_slice(), opening.commitment()),
        (&bytes[32..64], &bytes[64..96], &commitment)
    );
    assert_eq!(Opening::from_bytes(&bytes), Ok(opening));
    assert_eq!(opening.verify(), Ok(()));
}

#[test]
fn openings_have_192_bytes() {
    let bytes = [OPENING.to_bytes().as_slice(), &[0]].concat();
    for length in [0, 191, 193] {
        assert_eq!(Opening::from_bytes(&bytes[..length]), Err(KzgError::OpeningBytes(length)));
    }
}

#[test]
fn numbers_are_below_the_order_of_the_field() {
    for (at, name) in [(32, "z"), (64, "y")] {
        let mut bytes = OPENING.to_bytes();
        for (number, taken) in [(order() - U256::ONE, true), (order(), false), (U256::MAX, false)] {
            bytes[at..at + 32].copy_from_slice(&number.to_be_bytes::<32>());
            let opening = Opening::from_bytes(&bytes);
            assert_eq!(opening.err(), (!taken).then_some(KzgError::Field(name)), "{number}");
        }
    }
}

#[test]
fn every_bit_of_an_opening_counts() {
    let honest = OPENING.to_bytes();
    // Five is prime to eight and to the lengths of the fields: every bit of a byte comes up in every field.
    (0..OPENING_BYTES * 8).into_par_iter().step_by(5).for_each(|bit| {
        let mut bytes = honest;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = match Opening::from_bytes(&bytes) {
            Ok(opening) => opening.verify(),
            Err(error) => Err(error),
        };
        let refused = refused.unwrap_err();
        match bit / 8 {
            0..32 | 96..144 => assert_eq!(refused, KzgError::VersionedHash),
            32..64 => assert!(matches!(refused, KzgError::Field("z") | KzgError::Proof)),
            64..96 => assert!(matches!(refused, KzgError::Field("y") | KzgError::Proof)),
            _ => assert!(matches!(refused, KzgError::Point | KzgError::Proof)),
        }
    });
}

#[test]
fn another_commitment_under_its_own_hash_is_refused() {
    let honest = OPENING.to_bytes();
    (0..POINT_BYTES * 8).into_par_iter().step_by(11).for_each(|bit| {
        let mut bytes = honest;
        bytes[96 + bit / 8] ^= 1 << (bit % 8);
        let commitment = KzgCommitment::from_bytes(&bytes[96..144]).unwrap();
        bytes[..32].copy_from_slice(commitment.versioned_hash().as_slice());
        let opening = Opening::from_bytes(&bytes).unwrap();
        assert!(matches!(opening.verify(), Err(KzgError::Point | KzgError::Proof)));
    });
}

#[test]
fn zeros_are_bound_too() {
    let payload = [0; 40];
    let binding = commit(&payload);
    let mut infinity = [0; POINT_BYTES];
    infinity[0] = 0xc0;
    assert_eq!(*binding.commitments()[0].as_bytes(), infinity);
    let openings = open_range(&payload, &binding, &(0..40), || ()).unwrap();
    let shown = verify_range(&binding.root(), length(40), &(0..40), &openings, binding.commitments());
    assert_eq!(shown, Ok(payload.to_vec()));
}
