//! How much may be asked for twice.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One byte may be asked for twice for so many that came.
const ONE_IN: u64 = 20;
/// Bytes that may be asked for twice at once, also before any came.
const MOST: u64 = 8 << 20;

/// The bytes that may still be asked for twice.
#[derive(Debug)]
pub(super) struct Hedges(Mutex<u64>);

impl Default for Hedges {
    fn default() -> Self {
        Self(Mutex::new(MOST))
    }
}

impl Hedges {
    fn left(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn one_byte_in_twenty_may_be_asked_for_twice() {
        let hedges = Hedges::default();
        assert!(hedges.spend(MOST - 1) && !hedges.spend(2) && hedges.spend(1) && !hedges.spend(1));
        hedges.earn(2_000);
        assert!(!hedges.spend(101) && hedges.spend(100) && !hedges.spend(1));
        hedges.earn(u64::MAX);
        assert!(!hedges.spend(MOST + 1) && hedges.spend(MOST));
    }
}
