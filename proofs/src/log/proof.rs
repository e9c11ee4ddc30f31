//! Inclusion and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2).

use alloy_primitives::B256;
use thiserror::Error;

use super::{CompactRange, fold_peaks, node_hash};

/// Where the complete nodes of a log are kept.
pub trait NodeSource {
    /// What can go wrong when a node is read.
    type Error;

    /// Hash of the complete node at this level and index.
    ///
    /// # Errors
    ///
    /// The node is not there or cannot be read.
    fn node(&self, level: u8, index: u64) -> Result<B256, Self::Error>;
}

/// Why a proof does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProofError {
    /// The entry would be past the end.
    #[error("index {index} is not below the log size {size}")]
    Index {
        /// Index of the entry.
        index: u64,
        /// Size of the log.
        size: u64,
    },
    /// The log would have shrunk.
    #[error("log size {new_size} is below the earlier size {old_size}")]
    Shrunk {
        /// Earlier size.
        old_size: u64,
        /// Later size.
        new_size: u64,
    },
    /// Too many or too few hashes.
    #[error("proof has {have} hashes instead of {need}")]
    Length {
        /// Hashes given.
        have: usize,
        /// Hashes that the sizes call for.
        need: usize,
    },
    /// The proof leads to another root; for a consistency proof, to another new root.
    #[error("proof leads to another root")]
    Root,
    /// The consistency proof leads to another old root: the log was rewritten, or the proof is wrong.
    #[error("proof leads to another root of the earlier log")]
    OldRoot,
}

/// Root of the log when it had `size` entries.
///
/// # Errors
///
/// Those of the source, which must hold all complete nodes of that size.
pub fn root_at<S: NodeSource>(source: &S, size: u64) -> Result<B256, S::Error> {
    subtree(source, 0, size)
}

/// Compact range of the log when it had `size` entries.
///
/// # Errors
///
/// Those of the source, which must hold all complete nodes of that size.
pub fn range_at<S: NodeSource>(source: &S, size: u64) -> Result<CompactRange, S::Error> {
    Ok(CompactRange { size, peaks: peaks(source, 0, size)? })
}

/// Proof that the entry at `index` is under the root of `size` entries.
///
/// Empty, and so worthless, where `index` is not below `size`.
///
/// # Errors
///
/// Those of the source, which must hold all complete nodes of that size.
pub fn inclusion_proof<S: NodeSource>(source: &S, index: u64, size: u64) -> Result<Vec<B256>, S::Error> {
    let mut path = Vec::with_capacity(inclusion_proof_len(index, size));
    if index >= size {
        return Ok(path);
    }
    // PATH(index, [start, start + size)), written from the root down.
    let (mut start, mut size) = (0, size);
    while size > 1 {
        let half = split(size);
        if index - start < half {
            path.push(subtree(source, start + half, size - half)?);
            size = half;
        } else {
            path.push(subtree(source, start, half)?);
            (start, size) = (start + half, size - half);
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the log of `new_size` entries begins with the log of `old_size` entries.
///
/// Empty where the sizes are equal or the old one is 0; empty, and so worthless, where the log would shrink.
///
/// # Errors
///
/// Those of the source, which must hold all complete nodes of the new size.
pub fn consistency_proof<S: NodeSource>(
    source: &S,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<B256>, S::Error> {
    let mut proof = Vec::with_capacity(consistency_proof_len(old_size, new_size));
    if old_size == 0 || old_size >= new_size {
        return Ok(proof);
    }
    // SUBPROOF(old, [start, start + size), whole), written from the root down.
    let (mut start, mut size) = (0, new_size);
    while old_size - start < size {
        let half = split(size);
        if old_size - start <= half {
            proof.push(subtree(source, start + half, size - half)?);
            size = half;
        } else {
            proof.push(subtree(source, start, half)?);
            (start, size) = (start + half, size - half);
        }
    }
    // The verifier has the old root already when it is this very subtree.
    if start > 0 {
        proof.push(subtree(source, start, size)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Number of hashes in an inclusion proof, 0 where `index` is not below `size`.
#[must_use]
pub fn inclusion_proof_len(index: u64, size: u64) -> usize {
    if index >= size {
        return 0;
    }
    let (inner, border) = inclusion_parts(index, size);
    inner + border
}

/// Number of hashes in a consistency proof, 0 where the log would shrink.
#[must_use]
pub fn consistency_proof_len(old_size: u64, new_size: u64) -> usize {
    if old_size == 0 || old_size >= new_size {
        return 0;
    }
    let (inner, border) = consistency_parts(old_size, new_size);
    usize::from(!old_size.is_power_of_two()) + inner + border
}

/// Checks that a leaf is at `index` under the root of `size` entries.
///
/// # Errors
///
/// An index past the end, another number of hashes than needed, another root.
pub fn verify_inclusion(
    leaf: B256,
    index: u64,
    size: u64,
    proof: &[B256],
    root: &B256,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (inner, border) = inclusion_parts(index, size);
    let (inner, border) = parts(proof, inner, border)?;
    let hash = border_root(inner_root(leaf, inner, index), border);
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the log with the new root begins with the log with the old one.
///
/// # Errors
///
/// A log that shrank, another number of hashes than needed, another old or new root.
pub fn verify_consistency(
    old_size: u64,
    old_root: &B256,
    new_size: u64,
    new_root: &B256,
    proof: &[B256],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::Shrunk { old_size, new_size });
    }
    let need = consistency_proof_len(old_size, new_size);
    if proof.len() != need {
        return Err(ProofError::Length { have: proof.len(), need });
    }
    if old_size == 0 && *old_root != B256::ZERO {
        return Err(ProofError::OldRoot);
    }
    if old_size == new_size {
        return if old_root == new_root { Ok(()) } else { Err(ProofError::Root) };
    }
    if old_size == 0 {
        return Ok(());
    }
    // The last complete subtree of the old log, from which both roots are reached.
    let (seed, rest) = match proof.split_first() {
        Some((first, rest)) if !old_size.is_power_of_two() => (*first, rest),
        _ => (*old_root, proof),
    };
    let (inner, border) = consistency_parts(old_size, new_size);
    let (inner, border) = parts(rest, inner, border)?;
    let index = (old_size - 1) >> old_size.trailing_zeros();
    // In the old log there was nothing to the right of the seed.
    let left_of_seed =
        inner.iter().enumerate().filter(|(level, _)| index >> level & 1 == 1).map(|(_, sibling)| *sibling);
    let old = left_of_seed.fold(seed, |hash, left| node_hash(&left, &hash));
    if border_root(old, border) != *old_root {
        return Err(ProofError::OldRoot);
    }
    if border_root(inner_root(seed, inner, index), border) != *new_root {
        return Err(ProofError::Root);
    }
    Ok(())
}

/// Root over the leaves `[start, start + size)`, where `start` is a multiple of the next power of two from `size`.
fn subtree<S: NodeSource>(source: &S, start: u64, size: u64) -> Result<B256, S::Error> {
    Ok(fold_peaks(&peaks(source, start, size)?))
}

fn peaks<S: NodeSource>(source: &S, start: u64, size: u64) -> Result<Vec<B256>, S::Error> {
    let mut peaks = Vec::new();
    let mut at = start;
    for level in (0..64_u8).rev().filter(|level| size >> level & 1 == 1) {
        peaks.push(source.node(level, at >> level)?);
        // Past the last peak the sum is only the end of the range, which may be 2^64.
        at = at.wrapping_add(1 << level);
    }
    Ok(peaks)
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Siblings below and above the point where the paths of the entry and of the last entry meet.
///
/// Below it both sides have siblings; above it the path runs along the right border, with siblings on the left only.
fn inclusion_parts(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

/// The same for a consistency proof, from the last complete subtree of the old log upwards.
fn consistency_parts(old_size: u64, new_size: u64) -> (usize, usize) {
    let (inner, border) = inclusion_parts(old_size - 1, new_size);
    (inner - old_size.trailing_zeros() as usize, border)
}

fn parts(proof: &[B256], inner: usize, border: usize) -> Result<(&[B256], &[B256]), ProofError> {
    if proof.len() != inner + border {
        return Err(ProofError::Length { have: proof.len(), need: inner + border });
    }
    Ok(proof.split_at(inner))
}

fn inner_root(seed: B256, siblings: &[B256], index: u64) -> B256 {
    siblings.iter().enumerate().fold(seed, |hash, (level, sibling)| {
        if index >> level & 1 == 1 { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) }
    })
}

fn border_root(seed: B256, siblings: &[B256]) -> B256 {
    siblings.iter().fold(seed, |hash, left| node_hash(left, &hash))
}
