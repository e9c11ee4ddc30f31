//! A gateway's log as the oracle rebuilt it, and every checkpoint that was ever seen of it.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, ensure};
use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Checkpoint, is_conflict};
use meridian_proofs::log::{CompactRange, LogEntry};

/// One log.
///
/// The root of every size follows from the entries, so checkpoints that all have these roots are consistent with each
/// other, whichever two are taken.
#[derive(Debug, Default)]
pub struct Mirror {
    entries: Vec<LogEntry>,
    range: CompactRange,
    /// The root of each size from 1.
    roots: Vec<B256>,
    seen: HashSet<Checkpoint>,
    /// One checkpoint of each size.
    by_size: BTreeMap<u64, Checkpoint>,
    /// Those above the entries.
    unlinked: Vec<Checkpoint>,
}

impl Mirror {
    /// Entries that are known.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.range.size()
    }

    /// The entry at an index, where it is known.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&LogEntry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Different checkpoints that were seen.
    #[must_use]
    pub fn checkpoints(&self) -> usize {
        self.seen.len()
    }

    /// Checkpoints that no entries lead to so far.
    #[must_use]
    pub fn unlinked(&self) -> &[Checkpoint] {
        &self.unlinked
    }

    /// Takes the entries from [`Mirror::size`] on.
    ///
    /// # Errors
    /// When a checkpoint that was seen has another root.
    pub fn extend(&mut self, entries: &[LogEntry]) -> Result<()> {
        for entry in entries {
            self.range.append(entry.leaf());
            self.roots.push(self.range.root());
            self.entries.push(*entry);
        }
        for checkpoint in std::mem::take(&mut self.unlinked) {
            self.link(checkpoint)?;
        }
        Ok(())
    }

    /// Takes a checkpoint, whose signature was checked.
    ///
    /// # Errors
    /// When it contradicts the entries or another checkpoint.
    pub fn see(&mut self, checkpoint: Checkpoint) -> Result<()> {
        if !self.seen.insert(checkpoint) {
            return Ok(());
        }
        let other = *self.by_size.entry(checkpoint.size).or_insert(checkpoint);
        ensure!(!is_conflict(&checkpoint, &other), "checkpoints that conflict: {checkpoint:?} and {other:?}");
        self.link(checkpoint)
    }

    fn link(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let root = match checkpoint.size.checked_sub(1) {
            None => Some(B256::ZERO),
            Some(last) => usize::try_from(last).ok().and_then(|last| self.roots.get(last).copied()),
        };
        match root {
            None => self.unlinked.push(checkpoint),
            Some(root) => ensure!(
                root == checkpoint.root,
                "the entries lead to root {root} at size {}, not to {checkpoint:?}",
                checkpoint.size
            ),
        }
        Ok(())
    }
}
