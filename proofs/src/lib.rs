//! The mathematics of Meridian: codec, proofs, logs, committees and certificates.
//!
//! Nothing in this crate does I/O, waits, reads a clock or talks to a network. Everything that comes from outside is
//! checked here once and carried on as a type that can only hold checked values.

pub mod authorization;
pub mod buffers;
pub mod certificate;
pub mod checkpoint;
pub mod codeword;
pub mod committee;
pub mod conflict;
pub mod encode;
pub mod field;
pub mod hash;
pub mod header;
pub mod ids;
mod kernel;
pub mod kzg;
pub mod log;
pub mod merkle;
pub mod placement;
pub mod reconstruct;
pub mod rlc;
pub mod row_proof;
pub mod rs;
pub mod sampling;
pub mod shape;
pub mod signature;
#[cfg(test)]
mod twin;

pub use alloy_primitives::{Address, B256, keccak256};
pub use kernel::simd_level;
