//! A budget for bytes in flight, so that memory is bounded by configuration and not by what callers send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{self, KeyValue};

/// A number of bytes that may be in use at once. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    total: u64,
    used: AtomicU64,
}

/// Bytes of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `total` bytes, with a name for the metrics.
    #[must_use]
    pub fn new(name: &'static str, total: u64) -> Self {
        metrics::get().memory_budget.record(total, &[KeyValue::new("budget", name)]);
        Self { shared: Arc::new(Shared { name, total, used: AtomicU64::new(0) }) }
    }

    /// Reserves `bytes`, or nothing when they are not free now.
    #[must_use]
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let take = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.shared.total);
        self.shared.used.try_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        self.shared.count(signed(bytes));
        Some(Reservation { shared: Arc::clone(&self.shared), bytes })
    }

    /// Bytes reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Acquire)
    }

    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.shared.total
    }
}

impl Shared {
    fn count(&self, bytes: i64) {
        metrics::get().memory_reserved.add(bytes, &[KeyValue::new("budget", self.name)]);
    }
}

impl Reservation {
    /// Bytes reserved.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what is over so many bytes.
    pub fn shrink(&mut self, bytes: u64) {
        let over = self.bytes.saturating_sub(bytes);
        self.bytes -= over;
        self.shared.used.fetch_sub(over, Ordering::AcqRel);
        self.shared.count(-signed(over));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.shared.count(-signed(self.bytes));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_at_its_boundary() {
        let budget = MemoryBudget::new("test", 10);
        assert!(budget.try_reserve(11).is_none());
        assert!(budget.try_reserve(u64::MAX).is_none());
        let nine = budget.try_reserve(9).unwrap();
        assert!(budget.try_reserve(2).is_none());
        let one = budget.try_reserve(1).unwrap();
        assert_eq!((budget.used(), budget.total(), one.bytes()), (10, 10, 1));
        drop(nine);
        assert_eq!(budget.used(), 1);
        drop(one);
        assert!(budget.try_reserve(10).is_some());
        assert_eq!(budget.used(), 0);
        let mut shrinks = budget.try_reserve(10).unwrap();
        for (bytes, left) in [(11, 10), (10, 10), (4, 4), (5, 4), (0, 0)] {
            shrinks.shrink(bytes);
            assert_eq!((shrinks.bytes(), budget.used()), (left, left));
        }
        drop(shrinks);
        assert_eq!(budget.used(), 0);
    }
}
