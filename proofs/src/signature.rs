//! ECDSA signatures over secp256k1, in the form that Ethereum recovers.
//!
//! A signature is 65 bytes: r and s big-endian, then v, which is 27 or 28. Only low s is taken (EIP-2), so that nobody
//! but the signer can make a second spelling of a signature.

use core::fmt;

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use thiserror::Error;

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 65;

/// Half of the group order, big-endian: the greatest s that is low.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// The lesser v; the other is one more.
const V_EVEN: u8 = 27;

/// Why 65 bytes are not a signature, or not one of anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SignatureError {
    /// Not [`SIGNATURE_LEN`] bytes.
    #[error("signature has {0} bytes instead of {SIGNATURE_LEN}")]
    Length(usize),
    /// v is neither 27 nor 28.
    #[error("signature has v {0}, which is neither 27 nor 28")]
    RecoveryId(u8),
    /// s is in the upper half of the group.
    #[error("signature has a high s")]
    HighS,
    /// r or s is zero, or r is not below the group order.
    #[error("signature has r or s out of range")]
    OutOfRange,
    /// No public key belongs to this signature and digest.
    #[error("signature does not recover to any key")]
    Unrecoverable,
}

/// 32 bytes that are not a secret key: zero, or not below the group order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("secret key is out of range")]
pub struct SecretKeyError;

/// A signature in its only spelling: r and s in range, s low, v 27 or 28.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; SIGNATURE_LEN]);

impl Signature {
    /// Takes the 65 bytes r, s, v.
    ///
    /// # Errors
    ///
    /// Another length, a v that is neither 27 nor 28, a high s, r or s out of range.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let signature = Self(bytes.try_into().map_err(|_| SignatureError::Length(bytes.len()))?);
        let (r, s) = (&signature.0[..32], &signature.0[32..64]);
        if !matches!(signature.0[64], V_EVEN | 28) {
            return Err(SignatureError::RecoveryId(signature.0[64]));
        }
        if s > HALF_ORDER.as_slice() {
            return Err(SignatureError::HighS);
        }
        if r.iter().all(|byte| *byte == 0) || s.iter().all(|byte| *byte == 0) {
            return Err(SignatureError::OutOfRange);
        }
        signature.recoverable()?;
        Ok(signature)
    }

    /// The 65 bytes r, s, v.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SIGNATURE_LEN] {
        &self.0
    }

    /// Who signed this digest.
    ///
    /// Any digest recovers to somebody, nearly always: compare the address with the one that is expected.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Unrecoverable`] where r belongs to no point of the curve, or the key would be at infinity.
    pub fn recover(&self, digest: &B256) -> Result<Address, SignatureError> {
        let key = self
            .recoverable()?
            .recover_ecdsa(secp256k1::Message::from_digest(digest.0))
            .map_err(|_| SignatureError::Unrecoverable)?;
        Ok(address_of(&key))
    }

    fn recoverable(&self) -> Result<RecoverableSignature, SignatureError> {
        let id = RecoveryId::from_u8_masked(self.0[64] - V_EVEN);
        RecoverableSignature::from_compact(&self.0[..64], id).map_err(|_| SignatureError::OutOfRange)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&alloy_primitives::hex::encode_prefixed(self.0))
    }
}

/// A signing key. Wiped when it is dropped; never shown.
pub struct SecretKey {
    key: secp256k1::SecretKey,
    address: Address,
}

impl SecretKey {
    /// Takes the 32 bytes of a key, big-endian.
    ///
    /// # Errors
    ///
    /// Zero, or not below the group order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, SecretKeyError> {
        let key = secp256k1::SecretKey::from_secret_bytes(bytes).map_err(|_| SecretKeyError)?;
        Ok(Self { address: address_of(&key.public_key()), key })
    }

    /// The 32 bytes of the key, big-endian, for a key file.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.to_secret_bytes()
    }

    /// The address that signatures of this key recover to.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest. The same digest always gets the same signature (RFC 6979).
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "r overflows the group order with probability 2^-128")]
    pub fn sign(&self, digest: &B256) -> Signature {
        let message = secp256k1::Message::from_digest(digest.0);
        let (id, compact) =
            RecoverableSignature::sign_ecdsa_recoverable(message, &self.key).serialize_compact();
        let mut bytes = [0; SIGNATURE_LEN];
        bytes[..64].copy_from_slice(&compact);
        // Ids 2 and 3 mean an r that overflowed the group order: nobody will ever see one.
        assert!(id.to_u8() < 2, "signature with an overflowing r");
        bytes[64] = V_EVEN + id.to_u8();
        Signature(bytes)
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("address", &self.address).finish_non_exhaustive()
    }
}

fn address_of(key: &secp256k1::PublicKey) -> Address {
    // The first byte only says that the point is uncompressed.
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

#[cfg(test)]
mod tests;
