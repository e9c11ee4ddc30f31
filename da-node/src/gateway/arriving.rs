//! Payloads on their way in, and which of them gives way where memory is short.
//!
//! Memory is reserved when a payload is announced, so whoever announces much and sends little holds what others need.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a payload is left alone, however slow it begins.
const HEAD_START: Duration = Duration::from_secs(1);
/// Bytes a second at which it is never asked to give way.
const FAST: u64 = 1 << 20;

/// The payloads that are being received.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    payloads: Mutex<Payloads>,
}

#[derive(Debug, Default)]
struct Payloads {
    all: HashMap<u64, Arc<Payload>>,
    next: u64,
    /// When somebody last asked for room.
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Payload {
    begun: Instant,
    /// Bytes of memory that it holds.
    holds: u64,
    received: AtomicU64,
    gives_way: CancellationToken,
}

impl Payload {
    /// Bytes a second so far, of one that may be asked to give way.
    fn slow(&self) -> Option<u64> {
        let elapsed = self.begun.elapsed();
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = self.received.load(Ordering::Relaxed).saturating_mul(1_000) / millis;
        (elapsed >= HEAD_START && rate < FAST && !self.gives_way.is_cancelled()).then_some(rate)
    }
}

/// A payload, as long as it is being received.
#[derive(Debug)]
pub(super) struct Underway {
    arriving: Arc<Arriving>,
    number: u64,
    payload: Arc<Payload>,
}

impl Underway {
    /// Notes how much has come.
    pub(super) fn received(&self, bytes: u64) {
        self.payload.received.store(bytes, Ordering::Relaxed);
    }

    /// Waits until it has to give its memory to others.
    pub(super) async fn gives_way(&self) {
        self.payload.gives_way.cancelled().await;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.arriving.payloads().all.remove(&self.number);
    }
}

impl Arriving {
    /// A payload begins that holds so many bytes of memory.
    pub(super) fn begin(self: &Arc<Self>, holds: u64) -> Underway {
        let payload = Arc::new(Payload {
            begun: Instant::now(),
            holds,
            received: AtomicU64::new(0),
            gives_way: CancellationToken::new(),
        });
        let mut payloads = self.payloads();
        let number = payloads.next;
        payloads.next += 1;
        payloads.all.insert(number, Arc::clone(&payload));
        Underway { arriving: Arc::clone(self), number, payload }
    }

    /// Makes room for one of those who wait, as often as the memory is looked at: however many wait, all payloads are gone
    /// through once.
    pub(super) fn press(&self, bytes: u64, every: Duration) {
        {
            let mut payloads = self.payloads();
            if payloads.asked.is_some_and(|asked| asked.elapsed() < every) {
                return;
            }
            payloads.asked = Some(Instant::now());
        }
        self.make_room(bytes);
    }

    /// Asks the slowest payload to give way to one that takes so many bytes, and no more than it holds itself.
    fn make_room(&self, bytes: u64) {
        let payloads = self.payloads();
        let slow = payloads.all.values().filter(|payload| payload.holds >= bytes);
        let slowest =
            slow.filter_map(|payload| Some((payload.slow()?, payload))).min_by_key(|(rate, _)| *rate);
        if let Some((_, payload)) = slowest {
            payload.gives_way.cancel();
        }
    }

    fn payloads(&self) -> MutexGuard<'_, Payloads> {
        self.payloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_slowest_that_holds_enough_gives_way_after_its_head_start() {
        let arriving = Arc::new(Arriving::default());
        let [slow, slower, fast, small] = [100, 100, 100, 99].map(|holds| arriving.begin(holds));
        for (payload, received) in [(&slow, 9), (&slower, 8), (&fast, FAST), (&small, 0)] {
            payload.received(received);
        }
        let gone =
            || [&slow, &slower, &fast, &small].map(|underway| underway.payload.gives_way.is_cancelled());
        tokio::time::advance(HEAD_START - Duration::from_millis(1)).await;
        arriving.make_room(100);
        assert_eq!(gone(), [false; 4]);
        tokio::time::advance(Duration::from_millis(1)).await;
        for expected in [[false, true, false, false], [true, true, false, false], [true, true, false, false]]
        {
            arriving.make_room(100);
            assert_eq!(gone(), expected);
        }
        arriving.make_room(99);
        assert_eq!(gone(), [true, true, false, true]);
        drop((slow, slower, fast, small));
        assert!(arriving.payloads().all.is_empty());
    }
}
