//! The optional KZG binding of a blob (protocol section 8): EIP-4844 commitments to the payload, and openings of single
//! elements in the form that the point-evaluation precompile takes.
//!
//! An element is 31 payload bytes behind a zero byte, read as a big-endian number; 4096 elements in order are the values
//! of one polynomial, over the 4096th roots of unity in bit-reversed order. So element i of a polynomial is its value at
//! the i-th of these points, and an opening there shows these 31 bytes and nothing else. The last polynomial is filled
//! up with zeros; the header's length says where the payload ends.
//!
//! Commitments and openings are made with `c-kzg` and checked with `kzg-rs`: two implementations, none in the other's
//! place. Each holds its trusted setup, which is loaded at the first use and never without one.

mod element;
mod opening;
mod range;
#[cfg(test)]
mod tests;

use core::fmt;

use crate::{
    B256, keccak256,
    shape::{LengthError, PayloadLength},
};
use alloy_primitives::hex;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use element::{ELEMENT_BYTES, ELEMENTS, ElementIndex, POLYNOMIAL_BYTES};
pub use opening::{OPENING_BYTES, Opening};
pub use range::{ElementRange, MAX_OPENINGS, open_range, verify_range};

/// Length of a commitment or of a proof in bytes: a compressed point of BLS12-381's first group.
pub const POINT_BYTES: usize = 48;

/// Why there is no binding or opening, or why one is not believed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KzgError {
    /// The payload is empty or too long.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// Not [`POINT_BYTES`] bytes.
    #[error("commitment has {0} bytes instead of {POINT_BYTES}")]
    CommitmentBytes(usize),
    /// Not [`OPENING_BYTES`] bytes.
    #[error("opening has {0} bytes instead of {OPENING_BYTES}")]
    OpeningBytes(usize),
    /// An opening whose versioned hash is not that of its commitment.
    #[error("versioned hash is not that of the commitment")]
    VersionedHash,
    /// A number that is not below the order of the field.
    #[error("{0} is not below the order of the field")]
    Field(&'static str),
    /// A commitment or proof that is no point of the group.
    #[error("commitment or proof is no point of the group")]
    Point,
    /// The polynomial of the commitment does not have this value at this point.
    #[error("proof does not show this value")]
    Proof,
    /// A payload of this length has another number of polynomials.
    #[error("{have} commitments instead of {need}")]
    Commitments {
        /// Commitments given.
        have: usize,
        /// Polynomials of a payload of this length.
        need: usize,
    },
    /// The commitments are not those that the header names.
    #[error("commitments have root {have} instead of {need}")]
    Root {
        /// Root of the commitments.
        have: B256,
        /// Root expected.
        need: B256,
    },
    /// A range without bytes, or past the end of the payload.
    #[error("range {start}..{end} is empty or not within the {length} bytes of the payload")]
    Range {
        /// First byte.
        start: u64,
        /// Byte after the last.
        end: u64,
        /// Payload length in bytes.
        length: u64,
    },
    /// A range of more than [`MAX_OPENINGS`] elements.
    #[error("range touches {0} elements of 31 bytes, over the limit of {MAX_OPENINGS}")]
    TooManyOpenings(u64),
    /// Not one opening for each element.
    #[error("{have} openings instead of {need}")]
    Openings {
        /// Openings given.
        have: usize,
        /// Elements of the range.
        need: usize,
    },
    /// An opening of something else than the element in its place.
    #[error("opening {index} is not of element {index} of the range: {part} differs")]
    OtherElement {
        /// Place of the opening, from 0.
        index: usize,
        /// The part that differs.
        part: &'static str,
    },
    /// An element that no payload has: its first byte, or a byte past the payload's end, is not zero.
    #[error("opening {index} shows an element that no payload of this length has")]
    Malformed {
        /// Place of the opening, from 0.
        index: usize,
    },
    /// The prover failed, which no payload makes it do.
    #[error("kzg prover failed: {0}")]
    Prover(String),
}

/// A commitment to one polynomial, as bytes: whether they are a point of the group shows when an opening is verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KzgCommitment([u8; POINT_BYTES]);

impl KzgCommitment {
    /// Takes the 48 bytes of the compressed point.
    ///
    /// # Errors
    /// Another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KzgError> {
        bytes.try_into().map(Self).map_err(|_| KzgError::CommitmentBytes(bytes.len()))
    }

    /// The 48 bytes of the compressed point.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; POINT_BYTES] {
        &self.0
    }

    /// The versioned hash of EIP-4844: SHA-256 with the first byte set to 1.
    #[must_use]
    pub fn versioned_hash(&self) -> B256 {
        let mut hash = <[u8; 32]>::from(Sha256::digest(self.0));
        hash[0] = 1;
        B256::new(hash)
    }
}

impl fmt::Display for KzgCommitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for KzgCommitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The commitments to all polynomials of a payload, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KzgBinding {
    length: PayloadLength,
    commitments: Vec<KzgCommitment>,
}

impl KzgBinding {
    /// Polynomials, and so commitments, of a payload of this length: 1 to 1058.
    #[must_use]
    pub fn polynomials(length: PayloadLength) -> usize {
        length.to_usize().div_ceil(POLYNOMIAL_BYTES)
    }

    /// Commits to a payload: some 80 ms a core for each polynomial, over all threads of the pool it is called in.
    ///
    /// `done` is called once for each polynomial, from any thread.
    ///
    /// # Errors
    /// The payload is empty or too long.
    pub fn of(payload: &[u8], done: impl Fn() + Sync) -> Result<Self, KzgError> {
        let length = PayloadLength::try_from(u64::try_from(payload.len()).unwrap_or(u64::MAX))?;
        let prover = prover();
        let commit = |piece: &[u8]| {
            let commitment = prover.blob_to_kzg_commitment(&element::pack(piece)?).map_err(failed)?;
            done();
            Ok(KzgCommitment(commitment.to_bytes().into_inner()))
        };
        let commitments =
            payload.par_chunks(POLYNOMIAL_BYTES).map(commit).collect::<Result<_, KzgError>>()?;
        Ok(Self { length, commitments })
    }

    /// Takes the commitments that somebody else made. Whether they are those of a payload is not known before an opening
    /// is verified.
    ///
    /// # Errors
    /// A payload of this length has another number of commitments.
    pub fn new(length: PayloadLength, commitments: Vec<KzgCommitment>) -> Result<Self, KzgError> {
        let (have, need) = (commitments.len(), Self::polynomials(length));
        if have == need {
            Ok(Self { length, commitments })
        } else {
            Err(KzgError::Commitments { have, need })
        }
    }

    /// Length of the payload in bytes.
    #[must_use]
    pub fn length(&self) -> PayloadLength {
        self.length
    }

    /// The commitments, in order.
    #[must_use]
    pub fn commitments(&self) -> &[KzgCommitment] {
        &self.commitments
    }

    /// The header's `kzgRoot`: keccak256 of the commitments one after the other.
    #[must_use]
    pub fn root(&self) -> B256 {
        keccak256(self.commitments.iter().flat_map(|commitment| commitment.0).collect::<Vec<_>>())
    }

    /// Whether these are the commitments that a header names.
    ///
    /// # Errors
    /// They have another root.
    pub fn check(&self, kzg_root: &B256) -> Result<(), KzgError> {
        let have = self.root();
        if have == *kzg_root { Ok(()) } else { Err(KzgError::Root { have, need: *kzg_root }) }
    }
}

/// The prover's trusted setup, loaded at the first call. Nothing is precomputed: that only serves cells.
fn prover() -> &'static c_kzg::KzgSettings {
    c_kzg::ethereum_kzg_settings(0)
}

fn failed(error: impl fmt::Display) -> KzgError {
    KzgError::Prover(error.to_string())
}
