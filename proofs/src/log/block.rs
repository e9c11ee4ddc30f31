//! Blocks of a log that are proved by the audit path of their first leaf: how a log is taken from somebody who is not
//! trusted, a bounded part at a time and from several at once.

use alloy_primitives::B256;

use super::{CompactRange, ProofError, verify_inclusion};

/// How many leaves from `start` on are one subtree of a log of `size` entries, at most `most`, a power of two.
///
/// 0 where `start` is not below `size`.
#[must_use]
pub fn block_len(start: u64, size: u64, most: u64) -> u64 {
    let aligned = if start == 0 { most } else { most.min(1 << start.trailing_zeros()) };
    aligned.min(size.saturating_sub(start))
}

/// Checks that leaves which are one subtree of a log (see [`block_len`]) are under its root, by the audit path of the
/// first: within the subtree its siblings are the roots of the second leaf, the next two, the next four and so on.
///
/// # Errors
///
/// As [`verify_inclusion`]; [`ProofError::Length`] without leaves or with a path that is too short for them.
pub fn verify_block(
    leaves: &[B256],
    start: u64,
    size: u64,
    path: &[B256],
    root: &B256,
) -> Result<(), ProofError> {
    let first = leaves.first().ok_or(ProofError::Length { have: 0, need: 1 })?;
    verify_inclusion(*first, start, size, path, root)?;
    let (mut from, mut siblings) = (1, path.iter());
    while from < leaves.len() {
        let to = leaves.len().min(2 * from);
        let mut sibling = CompactRange::empty();
        leaves[from..to].iter().for_each(|leaf| drop(sibling.append(*leaf)));
        if siblings.next() != Some(&sibling.root()) {
            return Err(ProofError::Root);
        }
        from = to.max(2 * from);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
