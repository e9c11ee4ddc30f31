use k256::ecdsa::{RecoveryId as TwinId, Signature as TwinSignature, SigningKey, VerifyingKey};
use proptest::prelude::*;

use super::*;

/// The group order, big-endian.
const ORDER: [u8; 32] =
    alloy_primitives::hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32]).unwrap()
}

/// a - b of big-endian numbers.
fn minus(a: &[u8; 32], b: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let mut borrow = false;
    for i in (0..32).rev() {
        let (x, first) = a[i].overflowing_sub(b[i]);
        let (x, second) = x.overflowing_sub(u8::from(borrow));
        (out[i], borrow) = (x, first || second);
    }
    out
}

/// The same bytes with another r, s or v.
fn with(signature: &Signature, at: usize, part: &[u8]) -> Vec<u8> {
    let mut bytes = signature.as_bytes().to_vec();
    bytes[at..at + part.len()].copy_from_slice(part);
    bytes
}

#[test]
fn the_address_is_ethereums() {
    // The first account of the well-known mnemonic "test test ... junk".
    let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let key = SecretKey::from_bytes(alloy_primitives::hex::FromHex::from_hex(key).unwrap()).unwrap();
    assert_eq!(key.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
}

#[test]
fn a_signature_recovers_to_its_signer_only() {
    let (digest, other) = (B256::repeat_byte(7), B256::repeat_byte(8));
    let signature = key(1).sign(&digest);
    assert_eq!(signature.recover(&digest), Ok(key(1).address()));
    assert_ne!(signature.recover(&other), Ok(key(1).address()));
    assert_eq!(key(1).sign(&digest), signature, "signing is deterministic");
    assert_eq!(Signature::from_bytes(signature.as_bytes()), Ok(signature));
}

#[test]
fn there_is_one_spelling() {
    let signature = key(1).sign(&B256::repeat_byte(7));
    let bytes = signature.as_bytes();
    for len in [0, 64, 66] {
        assert_eq!(Signature::from_bytes(&vec![1; len]), Err(SignatureError::Length(len)));
    }
    for v in [0, 1, 2, 3, 26, 29, 30, 255] {
        assert_eq!(Signature::from_bytes(&with(&signature, 64, &[v])), Err(SignatureError::RecoveryId(v)));
    }
    // The twin with high s and flipped v recovers to the same signer, and is refused.
    let mut high = with(&signature, 32, &minus(&ORDER, &bytes[32..64]));
    high[64] = 27 + 28 - high[64];
    assert_eq!(Signature::from_bytes(&high), Err(SignatureError::HighS));
}

#[test]
fn r_and_s_stay_in_range() {
    let signature = key(1).sign(&B256::repeat_byte(7));
    let mut half_and_one = HALF_ORDER;
    half_and_one[31] += 1;
    let zero = [0; 32];
    let one = minus(&ORDER, &minus(&ORDER, &[[0; 31].as_slice(), &[1]].concat()));
    assert!(Signature::from_bytes(&with(&signature, 32, &HALF_ORDER)).is_ok());
    assert_eq!(minus(&ORDER, &HALF_ORDER), half_and_one, "the half is rounded down");
    for (at, part, problem) in [
        (32, half_and_one, SignatureError::HighS),
        (32, [0xff; 32], SignatureError::HighS),
        (32, zero, SignatureError::OutOfRange),
        (0, zero, SignatureError::OutOfRange),
        (0, ORDER, SignatureError::OutOfRange),
        (0, [0xff; 32], SignatureError::OutOfRange),
    ] {
        assert_eq!(Signature::from_bytes(&with(&signature, at, &part)), Err(problem));
    }
    for (at, part) in [(32, one), (0, one), (0, minus(&ORDER, &one))] {
        assert!(Signature::from_bytes(&with(&signature, at, &part)).is_ok());
    }
    // 5 is the x of no point of the curve.
    let nowhere = Signature::from_bytes(&with(&signature, 0, &[[0; 31].as_slice(), &[5]].concat())).unwrap();
    assert_eq!(nowhere.recover(&B256::repeat_byte(7)), Err(SignatureError::Unrecoverable));
}

#[test]
fn secret_keys_stay_in_range_and_are_not_shown() {
    for bytes in [[0; 32], ORDER, [0xff; 32]] {
        assert_eq!(SecretKey::from_bytes(bytes).map(|key| key.address()), Err(SecretKeyError));
    }
    let mut last = ORDER;
    last[31] -= 1;
    assert_eq!(SecretKey::from_bytes(last).unwrap().to_bytes(), last);
    let shown = format!("{:?}", key(0x5a));
    assert!(!shown.contains("5a5a5a") && !shown.contains("90, 90"), "{shown}");
    assert!(shown.contains(&format!("{:?}", key(0x5a).address())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same key, digest and signature in the pure-Rust library.
    #[test]
    fn another_implementation_agrees(secret in 1_u64.., digest in any::<[u8; 32]>()) {
        let secret = keccak256(secret.to_be_bytes()).0;
        let (key, twin) = (SecretKey::from_bytes(secret).unwrap(), SigningKey::from_slice(&secret).unwrap());
        let (signature, id) = twin.sign_prehash_recoverable(&digest);
        let bytes = [signature.to_bytes().as_slice(), &[27 + id.to_byte()]].concat();
        prop_assert_eq!(Ok(key.sign(&B256::from(digest))), Signature::from_bytes(&bytes));
    }

    #[test]
    fn any_bytes_recover_as_elsewhere_or_are_refused(
        r in any::<[u8; 32]>(), s in any::<[u8; 32]>(), v in 27_u8..29, digest in any::<[u8; 32]>(),
    ) {
        let bytes = [r.as_slice(), s.as_slice(), &[v]].concat();
        let recovered = Signature::from_bytes(&bytes).and_then(|signature| signature.recover(&B256::from(digest)));
        let twin = TwinSignature::from_slice(&bytes[..64])
            .ok()
            .filter(|twin| twin.normalize_s() == *twin)
            .and_then(|twin| {
                VerifyingKey::recover_from_prehash(&digest, &twin, TwinId::from_byte(v - 27)?).ok()
            })
            .map(|key| Address::from_slice(&keccak256(&key.to_sec1_point(false).as_bytes()[1..])[12..]));
        prop_assert_eq!(recovered.ok(), twin);
    }
}
