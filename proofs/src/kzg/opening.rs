//! One value of one polynomial, with its proof: what the point-evaluation precompile takes.

use super::{KzgCommitment, KzgError, POINT_BYTES};
use crate::B256;
use alloy_primitives::hex;
use core::fmt;
use kzg_rs::{Bytes32, Bytes48, EnvKzgSettings, KzgProof};

/// Length of an opening in bytes: the precompile's input.
pub const OPENING_BYTES: usize = 192;

/// Order of the field, big-endian.
const MODULUS: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53,
    0xbd, 0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

/// The claim that the polynomial of a commitment has the value y at z, with its proof. Both are below the order of the
/// field; the claim itself is not checked before [`Opening::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    z: B256,
    y: B256,
    commitment: KzgCommitment,
    proof: [u8; POINT_BYTES],
}

impl Opening {
    /// Puts together what the prover made.
    pub(super) fn new(z: B256, y: B256, commitment: KzgCommitment, proof: [u8; POINT_BYTES]) -> Self {
        Self { z, y, commitment, proof }
    }

    /// Takes the precompile's input: versioned hash, z, y, commitment, proof.
    ///
    /// # Errors
    /// Another length, a versioned hash of something else than the commitment, z or y not below the order of the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KzgError> {
        let bytes: &[u8; OPENING_BYTES] =
            bytes.try_into().map_err(|_| KzgError::OpeningBytes(bytes.len()))?;
        let commitment = KzgCommitment::from_bytes(&bytes[96..144])?;
        if bytes[..32] != commitment.versioned_hash()[..] {
            return Err(KzgError::VersionedHash);
        }
        let (z, y) = (B256::from_slice(&bytes[32..64]), B256::from_slice(&bytes[64..96]));
        for (number, name) in [(&z, "z"), (&y, "y")] {
            if number.0 >= MODULUS {
                return Err(KzgError::Field(name));
            }
        }
        let mut proof = [0; POINT_BYTES];
        proof.copy_from_slice(&bytes[144..]);
        Ok(Self { z, y, commitment, proof })
    }

    /// The precompile's input: versioned hash, z, y, commitment, proof.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; OPENING_BYTES] {
        let mut bytes = [0; OPENING_BYTES];
        bytes[..32].copy_from_slice(self.commitment.versioned_hash().as_slice());
        bytes[32..64].copy_from_slice(self.z.as_slice());
        bytes[64..96].copy_from_slice(self.y.as_slice());
        bytes[96..144].copy_from_slice(self.commitment.as_bytes());
        bytes[144..].copy_from_slice(&self.proof);
        bytes
    }

    /// Point of evaluation, big-endian.
    #[must_use]
    pub fn z(&self) -> &B256 {
        &self.z
    }

    /// Value there, big-endian.
    #[must_use]
    pub fn y(&self) -> &B256 {
        &self.y
    }

    /// Commitment to the polynomial.
    #[must_use]
    pub fn commitment(&self) -> &KzgCommitment {
        &self.commitment
    }

    /// Proof, a compressed point.
    #[must_use]
    pub fn proof(&self) -> &[u8; POINT_BYTES] {
        &self.proof
    }

    /// Checks the claim, as the precompile does.
    ///
    /// # Errors
    /// Commitment or proof is no point of the group, or the polynomial has another value at z.
    pub fn verify(&self) -> Result<(), KzgError> {
        let settings = EnvKzgSettings::Default;
        let verdict = KzgProof::verify_kzg_proof(
            &Bytes48(*self.commitment.as_bytes()),
            &Bytes32(self.z.0),
            &Bytes32(self.y.0),
            &Bytes48(self.proof),
            settings.get(),
        );
        match verdict {
            Ok(true) => Ok(()),
            Ok(false) => Err(KzgError::Proof),
            Err(_) => Err(KzgError::Point),
        }
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.to_bytes()))
    }
}
