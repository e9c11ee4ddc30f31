//! The wall clock, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where unix time comes from. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `now`, unix seconds, until it is set.
    #[must_use]
    pub fn manual(now: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(now))))
    }

    /// Unix seconds. A machine whose clock stands before 1970 reads 0.
    #[must_use]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Unix milliseconds, of a manual clock in whole seconds. A machine whose clock stands before 1970 reads 0.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            Source::Manual(now) => now.load(Ordering::Relaxed).saturating_mul(1000),
        }
    }

    /// Sets a manual clock, unix seconds. The clock of the machine is left alone.
    pub fn set(&self, now: u64) {
        if let Source::Manual(at) = &self.0 {
            at.store(now, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_set() {
        let clock = Clock::manual(7);
        let other = clock.clone();
        assert_eq!(other.now(), 7);
        clock.set(9);
        assert_eq!((other.now(), other.now_ms()), (9, 9_000));
    }

    #[test]
    fn the_clock_of_the_machine_cannot_be_set() {
        let clock = Clock::system();
        clock.set(1);
        let (now, ms) = (clock.now(), clock.now_ms());
        assert!(now > 1 && ms / 1000 >= now, "{now} s, {ms} ms");
    }
}
