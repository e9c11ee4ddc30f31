//! How much may be asked for twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One byte may be asked for twice for so many that came.
const ONE_IN: u64 = 20;
/// Bytes that may be asked for twice at once, also before any came.
const MOST: u64 = 8 << 20;
/// Bytes that a seat is expected to give of the first blob: those of a batch that fills an L1 blob.
const USUAL: u64 = 128 << 10;

/// The bytes that may still be asked for twice.
#[derive(Debug)]
pub(super) struct Hedges {
    left: Mutex<u64>,
    usual: AtomicU64,
}

impl Default for Hedges {
    fn default() -> Self {
        Self { left: Mutex::new(MOST), usual: AtomicU64::new(USUAL) }
    }
}

impl Hedges {
    fn left(&self) -> MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a seat is expected to give of a blob of which nothing is known but its id: about what the last ones gave.
    pub(super) fn usual(&self) -> u64 {
        self.usual.load(Ordering::Relaxed)
    }

    /// A seat gave so many bytes of a blob of which nothing was known.
    pub(super) fn gave(&self, bytes: u64) {
        // Up at once and down slowly: what is taken for late too soon is asked for twice.
        self.usual.store(bytes.max(self.usual() / 4 * 3 + bytes / 4), Ordering::Relaxed);
    }

    /// Bytes came that had been asked for.
    pub(super) fn earn(&self, bytes: u64) {
        let mut left = self.left();
        *left = left.saturating_add(bytes / ONE_IN).min(MOST);
    }

    /// Counts bytes that are asked for once more, unless that is too many.
    pub(super) fn spend(&self, bytes: u64) -> bool {
        let mut left = self.left();
        let rest = left.checked_sub(bytes);
        *left = rest.unwrap_or(*left);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_expected_again() {
        let hedges = Hedges::default();
        assert_eq!(hedges.usual(), USUAL);
        hedges.gave(1 << 20);
        assert_eq!(hedges.usual(), 1 << 20);
        (0..60).for_each(|_| hedges.gave(1_000));
        assert!((1_000..1_010).contains(&hedges.usual()), "{}", hedges.usual());
    }

    #[test]
    fn one_byte_in_twenty_may_be_asked_for_twice() {
        let hedges = Hedges::default();
        assert!(hedges.spend(MOST - 1) && !hedges.spend(2) && hedges.spend(1) && !hedges.spend(1));
        hedges.earn(2_000);
        assert!(!hedges.spend(101) && hedges.spend(100) && !hedges.spend(1));
        hedges.earn(u64::MAX);
        assert!(!hedges.spend(MOST + 1) && hedges.spend(MOST));
    }
}
