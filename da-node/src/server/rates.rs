//! How often each address may ask.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use meridian_client::guard::Origin;

use crate::config::host::Server as Settings;

/// Seconds for which an address may have saved up requests.
const SAVED: u32 = 2;
/// Requests that a new connection counts as.
const CONNECTION: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// How often addresses are forgotten that have asked for nothing lately.
const FORGET_EVERY: Duration = Duration::from_secs(1);

type Limiter = DefaultKeyedRateLimiter<Origin>;

/// What each address may do in a second.
#[derive(Debug)]
pub(super) struct Rates {
    requests: Option<Limiter>,
    frames: Option<Limiter>,
    clock: DefaultClock,
    forgotten: Mutex<Instant>,
}

impl Rates {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            requests: limiter(settings.requests_per_second),
            frames: limiter(settings.control_frames_per_second),
            clock: DefaultClock::default(),
            forgotten: Mutex::new(Instant::now()),
        }
    }

    /// Whether an address may open one more connection.
    pub(super) fn connection(&self, origin: Origin) -> bool {
        self.forget();
        self.requests
            .as_ref()
            .is_none_or(|limiter| matches!(limiter.check_key_n(&origin, CONNECTION), Ok(Ok(()))))
    }

    /// Whether an address may ask once more.
    ///
    /// # Errors
    /// After which time it may.
    pub(super) fn request(&self, origin: Origin) -> Result<(), Duration> {
        let Some(limiter) = &self.requests else { return Ok(()) };
        limiter.check_key(&origin).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Whether an address may send so many more frames that ask for nothing.
    pub(super) fn frames(&self, origin: Origin, count: u32) -> bool {
        let (Some(limiter), Some(count)) = (&self.frames, NonZeroU32::new(count)) else { return true };
        matches!(limiter.check_key_n(&origin, count), Ok(Ok(())))
    }

    /// Lets go of addresses whose time is as good as unused, so that there are no more than came in the last seconds.
    fn forget(&self) {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if forgotten.elapsed() < FORGET_EVERY {
            return;
        }
        *forgotten = Instant::now();
        drop(forgotten);
        for limiter in self.requests.iter().chain(&self.frames) {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// So many a second for each address; without a limit where that is 0.
fn limiter(per_second: u32) -> Option<Limiter> {
    let per_second = NonZeroU32::new(per_second)?;
    let burst = per_second.saturating_mul(NonZeroU32::new(SAVED)?);
    Some(RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst.max(CONNECTION))))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn rates(requests_per_second: u32, control_frames_per_second: u32) -> Rates {
        Rates::new(&Settings { requests_per_second, control_frames_per_second, ..Settings::default() })
    }

    fn host(number: u8) -> Origin {
        IpAddr::from([192, 0, 2, number]).into()
    }

    #[test]
    fn an_address_has_what_it_saved_up_and_others_their_own() {
        // One more a second: none comes back while this runs.
        let rates = rates(1, 6);
        for _ in 0..9 {
            assert_eq!(rates.request(host(1)), Ok(()));
        }
        assert!(!rates.connection(host(1)), "one left, and a connection counts as ten");
        assert_eq!(rates.request(host(1)), Ok(()));
        let wait = rates.request(host(1)).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(rates.connection(host(2)));
        assert!(rates.frames(host(1), 0) && rates.frames(host(1), 11) && !rates.frames(host(1), 2));
        assert!(!rates.frames(host(2), 13), "more at once than can be saved up");
        assert!(rates.frames(host(2), 12));
    }

    #[test]
    fn zero_is_no_limit() {
        let rates = rates(0, 0);
        for _ in 0..100_000 {
            assert_eq!(rates.request(host(1)), Ok(()));
        }
        assert!(rates.connection(host(1)) && rates.frames(host(1), u32::MAX));
    }

    #[test]
    fn addresses_are_forgotten() {
        let rates = rates(1_000_000, 0);
        for number in 0..=255 {
            assert!(rates.connection(host(number)));
        }
        let limiter = rates.requests.as_ref().unwrap();
        assert!(!limiter.is_empty());
        std::thread::sleep(Duration::from_millis(5));
        *rates.forgotten.lock().unwrap() = Instant::now() - 2 * FORGET_EVERY;
        rates.forget();
        assert!(limiter.is_empty());
    }
}
