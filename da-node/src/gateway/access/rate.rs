//! A rate whose charges can be given back.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// The shortest time in which a unit comes back, as the limiter has it.
const LEAST: Duration = Duration::from_nanos(1);

/// So many units a second, and so many at once.
pub(super) struct Rate<C: Clock = MonotonicClock> {
    limiter: RateLimiter<NotKeyed, Spent, C, NoOpMiddleware<C::Instant>>,
    spent: Spent,
    clock: C,
    burst: NonZeroU32,
    /// Time in which a unit comes back.
    each: Duration,
}

/// Why units are not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Short {
    /// There will be as many after this time, if nobody else takes any.
    Wait(Duration),
    /// There are never as many at once.
    Never,
}

/// When everything that was taken has come back, in nanoseconds since the limiter was made; 0 before anything was taken.
#[derive(Clone, Default)]
struct Spent(Arc<AtomicU64>);

impl StateStore for Spent {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let (answer, after) = f((before > 0).then(|| Nanos::from(before)))?;
            match self.0.compare_exchange_weak(before, after.into(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(answer),
                Err(found) => before = found,
            }
        }
    }
}

impl Rate {
    /// A rate that nothing was taken of.
    pub(super) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::by(per_second, burst, MonotonicClock)
    }
}

impl<C: Clock + Clone> Rate<C> {
    fn by(per_second: NonZeroU32, burst: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let spent = Spent::default();
        let limiter = RateLimiter::new(quota, spent.clone(), clock.clone());
        Self { limiter, spent, clock, burst, each: quota.replenish_interval().max(LEAST) }
    }

    /// Most units at once.
    pub(super) fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// Takes units, all or none.
    pub(super) fn take(&self, units: NonZeroU32) -> Result<(), Short> {
        match self.limiter.check_n(units) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(Short::Wait(until.wait_time_from(self.clock.now()))),
            Err(_) => Err(Short::Never),
        }
    }

    /// Gives back units that were taken.
    pub(super) fn give_back(&self, units: NonZeroU32) {
        let time = self.each.as_nanos().saturating_mul(u128::from(units.get()));
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let less = |spent: u64| Some(spent.saturating_sub(time));
        let _ = self.spent.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn units(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn rate(per_second: u32, burst: u32) -> (Rate<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        clock.advance(Duration::from_secs(1));
        (Rate::by(units(per_second), units(burst), clock.clone()), clock)
    }

    #[test]
    fn a_burst_at_once_and_then_by_time() {
        let (rate, clock) = rate(10, 3);
        assert!((0..3).all(|_| rate.take(units(1)).is_ok()));
        assert_eq!(rate.take(units(1)), Err(Short::Wait(Duration::from_millis(100))));
        clock.advance(Duration::from_millis(99));
        assert_eq!(rate.take(units(1)), Err(Short::Wait(Duration::from_millis(1))));
        clock.advance(Duration::from_millis(1));
        assert_eq!(rate.take(units(1)), Ok(()));
        clock.advance(Duration::from_secs(60));
        assert_eq!(rate.take(units(3)), Ok(()), "no more than the burst gathers");
        assert!(rate.take(units(1)).is_err());
    }

    #[test]
    fn more_than_the_burst_is_never_there() {
        let (rate, _) = rate(10, 5);
        assert_eq!(rate.take(units(6)), Err(Short::Never));
        assert_eq!(rate.take(units(5)), Ok(()));
        assert!(matches!(rate.take(units(5)), Err(Short::Wait(_))));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let (rate, clock) = rate(10, 5);
        rate.take(units(5)).unwrap();
        assert!(rate.take(units(1)).is_err());
        rate.give_back(units(2));
        assert_eq!(rate.take(units(2)), Ok(()));
        assert!(rate.take(units(1)).is_err());
        // What came back by time meanwhile is not there twice.
        clock.advance(Duration::from_secs(10));
        rate.give_back(units(5));
        assert_eq!(rate.take(units(5)), Ok(()));
        assert!(rate.take(units(1)).is_err());
    }

    #[test]
    fn the_widest_limits_do_not_overflow() {
        for (per_second, burst) in [(1, u32::MAX), (u32::MAX, u32::MAX), (1_000_000, 1), (1, 1)] {
            let (rate, clock) = rate(per_second, burst);
            assert_eq!(rate.take(units(burst)), Ok(()));
            rate.give_back(units(burst));
            assert_eq!(rate.take(units(burst)), Ok(()));
            clock.advance(Duration::from_secs(1));
            let _ = rate.take(units(burst));
        }
    }
}
