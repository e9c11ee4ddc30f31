//! Which requests are taken: those that are too many are refused at once, and told when to try again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_client::guard::Origin;
use meridian_client::guard::places::{InUse, Visit};
use meridian_proto::error::{ApiError, Reason};

use super::rates::Rates;
use crate::config::host::Server as Settings;
use crate::metrics::{self, KeyValue};

/// How long to wait where too many requests are in work.
const BUSY: Duration = Duration::from_millis(250);
/// Health is always told: whoever asks for it decides whether others come here.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Decides which requests are taken.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    per_address: usize,
    rates: Arc<Rates>,
    in_work: AtomicUsize,
    most_unread: usize,
    origins: Mutex<HashMap<Origin, Share>>,
}

/// What is in work for an address.
#[derive(Debug, Default)]
struct Share {
    requests: usize,
    unread: Arc<AtomicUsize>,
}

/// Bytes of answers that one address was given and has not taken.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    bytes: Arc<AtomicUsize>,
    most: usize,
}

impl Unread {
    pub(super) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.most
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A request that was taken, in work until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    admission: Arc<Admission>,
    unread: Unread,
    origin: Option<Origin>,
    is_counted: bool,
    _in_use: InUse,
}

impl Admission {
    pub(super) fn new(settings: &Settings, rates: Arc<Rates>) -> Arc<Self> {
        Arc::new(Self {
            most: settings.max_requests,
            per_address: settings.max_requests_per_address,
            rates,
            in_work: AtomicUsize::new(0),
            most_unread: settings.max_unread_bytes_per_address,
            origins: Mutex::default(),
        })
    }

    /// Takes a request, or says why not.
    pub(super) fn take(self: &Arc<Self>, visit: &Arc<Visit>, path: &str) -> Result<Taken, ApiError> {
        let origin = visit.origin();
        let mut unread = Unread { bytes: Arc::default(), most: self.most_unread };
        if let Some(origin) = origin {
            self.rates.request(origin).map_err(|wait| {
                refused("rate", "this address asks too often", wait.max(Duration::from_millis(1)))
            })?;
            let mut origins = self.origins();
            let share = origins.entry(origin).or_default();
            if share.requests >= self.per_address {
                let text = format!("this address has {} requests in work", self.per_address);
                return Err(refused("address", &text, BUSY));
            }
            unread.bytes = Arc::clone(&share.unread);
            if !unread.has_room() {
                let text = format!("this address has {} bytes of answers to take", self.most_unread);
                return Err(refused("unread", &text, BUSY));
            }
            share.requests += 1;
        }
        let is_health = path.starts_with(HEALTH);
        // From here on dropping it gives everything back.
        let mut taken = Taken {
            admission: Arc::clone(self),
            unread,
            origin,
            is_counted: false,
            // A watch may stand for ever: it gives way to those who do something.
            _in_use: if is_health { visit.watch() } else { visit.request() },
        };
        if !is_health {
            let more = |count: usize| (count < self.most).then_some(count + 1);
            if self.in_work.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                let text = format!("this node has {} requests in work", self.most);
                return Err(refused("full", &text, BUSY));
            }
            taken.is_counted = true;
        }
        Ok(taken)
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<Origin, Share>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    pub(super) fn unread(&self) -> &Unread {
        &self.unread
    }
}

fn refused(why: &'static str, text: &str, wait: Duration) -> ApiError {
    metrics::get().refused_requests.add(1, &[KeyValue::new("reason", why)]);
    ApiError::new(Reason::TooManyRequests, text).retry_after(wait)
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.is_counted {
            self.admission.in_work.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(origin) = self.origin else { return };
        let mut origins = self.admission.origins();
        if let Some(share) = origins.get_mut(&origin) {
            share.requests -= 1;
            if share.requests == 0 {
                origins.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use meridian_client::guard::{Limits, Place, Places};

    use super::*;

    fn admission(max_requests: usize, max_requests_per_address: usize) -> Arc<Admission> {
        let settings = Settings { max_requests, max_requests_per_address, ..Settings::default() };
        let rates = Arc::new(Rates::new(&settings));
        Admission::new(&settings, rates)
    }

    fn visitor(places: &Arc<Places>, number: u8) -> Place {
        places.take(IpAddr::from([192, 0, 2, number])).unwrap()
    }

    fn places() -> Arc<Places> {
        Places::new(Limits { connections: 10, per_address: 10, stall: Duration::from_secs(1) })
    }

    #[test]
    fn who_takes_no_answers_is_given_no_more() {
        let settings = Settings { max_unread_bytes_per_address: 100, ..Settings::default() };
        let admission = Admission::new(&settings, Arc::new(Rates::new(&settings)));
        let places = places();
        let (one, two) = (visitor(&places, 1), visitor(&places, 2));
        let first = admission.take(one.visit(), "/a").unwrap();
        first.unread().add(99);
        let second = admission.take(one.visit(), "/a").unwrap();
        second.unread().add(1);
        assert!(!first.unread().has_room());
        assert_eq!(admission.take(one.visit(), "/a").unwrap_err().reason, Reason::TooManyRequests);
        assert!(admission.take(two.visit(), "/a").unwrap().unread().has_room());
        first.unread().remove(1);
        assert!(admission.take(one.visit(), "/a").is_ok());
        second.unread().remove(99);
    }

    #[test]
    fn shares_and_the_whole_hold_at_their_boundary() {
        let (admission, places) = (admission(3, 2), places());
        let (one, two) = (visitor(&places, 1), visitor(&places, 2));
        let take = |place: &Place, path| admission.take(place.visit(), path);
        let first = take(&one, "/a").unwrap();
        let second = take(&one, "/a").unwrap();
        let refused = take(&one, "/a").unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::TooManyRequests, Some(BUSY)));
        let third = take(&two, "/a").unwrap();
        assert!(take(&two, "/a").is_err(), "all are in work");
        // What was refused has left nothing behind: health is told.
        let health = take(&two, "/grpc.health.v1.Health/Check").unwrap();
        assert!(take(&two, "/grpc.health.v1.Health/Check").is_err(), "of the address's own share");
        drop(second);
        let fourth = take(&one, "/a").unwrap();
        assert!(!one.visit().is_idle());
        drop((first, third, fourth, health));
        assert!(one.visit().is_idle() && two.visit().is_idle());
        assert!(admission.origins().is_empty());
        assert_eq!(admission.in_work.load(Ordering::Relaxed), 0);
    }
}
