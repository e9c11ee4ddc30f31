//! How many puts are in work at a time.
//!
//! From its complete payload to its certificate a put takes what it would take alone, and beyond that it waits for others.
//! What it would take alone is the least that was seen within ten minutes. Where puts wait for longer than a target, fewer
//! are taken at a time, and whoever comes too many is told so at once: the delay-based control of RFC 6817 (LEDBAT), with
//! one decrease a round as in RFC 5681. What was taken stays fast, whatever it is that is short.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_client::guard::Origin;
use meridian_proofs::shape::PayloadLength;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use crate::metrics;

/// Puts that are taken however long they wait for each other: a replica that is away, or one long payload, is no crowd.
const LEAST: usize = 32;
/// Puts at a time before anything is known.
const START: usize = 256;
/// By how many the window grows in the time that a put takes.
const GROWTH: usize = 8;
/// What is left of the window once puts wait too long, in eighths.
const DECREASE: usize = 7;
/// How far back the least time is looked for: so many spans of a minute.
const SPANS: usize = 10;
const SPAN: Duration = Duration::from_secs(60);
/// Payloads are told apart by the logarithm of their length, which is at most 2^27.
const CLASSES: usize = 28;

/// The puts in work, and how many there may be.
#[derive(Debug)]
pub(super) struct Congestion {
    /// How long puts may wait for each other.
    target: Duration,
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    in_work: usize,
    /// Those of each address.
    of: HashMap<Option<Origin>, usize>,
    window: usize,
    /// What it has earned of one more.
    earned: usize,
    /// Until then the last decrease has not shown yet.
    settling: Instant,
    alone: [Least; CLASSES],
}

/// The least of times within the last spans: when each span began, and its least.
#[derive(Clone, Debug, Default)]
struct Least(VecDeque<(Instant, Duration)>);

impl Least {
    fn note(&mut self, now: Instant, took: Duration) -> Duration {
        match self.0.back_mut() {
            Some((begun, least)) if now < *begun + SPAN => *least = took.min(*least),
            _ => self.0.push_back((now, took)),
        }
        while self.0.len() > SPANS {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, least)| *least).min().unwrap_or(took)
    }
}

/// A put in work, until this is dropped.
#[derive(Debug)]
pub(super) struct InWork {
    congestion: Arc<Congestion>,
    origin: Option<Origin>,
    length: PayloadLength,
    begun: Instant,
}

impl Congestion {
    pub(super) fn new(target: Duration) -> Arc<Self> {
        let control = Control {
            in_work: 0,
            of: HashMap::new(),
            window: START,
            earned: 0,
            settling: Instant::now(),
            alone: std::array::from_fn(|_| Least::default()),
        };
        Arc::new(Self { target, control: Mutex::new(control) })
    }

    /// Whether another put may come from there. Where the window is full it may from whoever has less than an equal share
    /// of it: nobody is kept out by another who asks for much.
    ///
    /// # Errors
    /// `GATEWAY_BUSY`, with a time to come back.
    pub(super) fn check(&self, origin: Option<Origin>) -> Result<(), ApiError> {
        let control = self.control();
        let own = control.of.get(&origin).copied().unwrap_or(0);
        let origins = control.of.len() + usize::from(own == 0);
        if control.in_work < control.window || own < control.window / origins {
            return Ok(());
        }
        let in_work = control.in_work;
        let message = format!("{in_work} puts are in work, as many as this gateway finishes in time");
        Err(ApiError::new(Reason::GatewayBusy, message).retry_after(self.target))
    }

    /// The payload of a put is complete.
    pub(super) fn enter(self: &Arc<Self>, origin: Option<Origin>, length: PayloadLength) -> InWork {
        let mut control = self.control();
        control.in_work += 1;
        *control.of.entry(origin).or_default() += 1;
        InWork { congestion: Arc::clone(self), origin, length, begun: Instant::now() }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InWork {
    /// It went all the way to a certificate of its own: its time says how long others waited.
    pub(super) fn certified(self) {
        let (now, took) = (Instant::now(), self.begun.elapsed());
        let mut control = self.congestion.control();
        let class = usize::try_from(self.length.get().max(1).ilog2()).unwrap_or(CLASSES);
        let alone = control.alone[class.min(CLASSES - 1)].note(now, took);
        let waited = took.saturating_sub(alone);
        if waited <= self.congestion.target {
            // A window that is not used says nothing of a wider one.
            if control.in_work * 2 >= control.window {
                control.earned += GROWTH;
            }
            if control.earned >= control.window {
                control.earned = 0;
                control.window += 1;
            }
        } else if now >= control.settling {
            control.window = (control.window.min(control.in_work) * DECREASE / 8).max(LEAST);
            control.settling = now + took;
        }
        metrics::get().put_window.record(u64::try_from(control.window).unwrap_or(u64::MAX), &[]);
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        let mut control = self.congestion.control();
        control.in_work -= 1;
        if let Entry::Occupied(mut own) = control.of.entry(self.origin) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::advance;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn length() -> PayloadLength {
        PayloadLength::try_from(130_000).unwrap()
    }

    fn window(congestion: &Congestion) -> usize {
        congestion.control().window
    }

    /// A gateway that finishes a put each millisecond, each 100 ms after its turn; gives how many it took and finished, and
    /// the longest time of the last half.
    async fn offered(each_milli: usize, millis: usize) -> (usize, usize, Duration) {
        let congestion = Congestion::new(Duration::from_millis(200));
        let mut waiting: VecDeque<InWork> = VecDeque::new();
        let mut working: VecDeque<(Instant, InWork)> = VecDeque::new();
        let (mut taken, mut finished, mut longest) = (0, 0, Duration::ZERO);
        for milli in 0..millis {
            for _ in 0..each_milli {
                if congestion.check(None).is_ok() {
                    waiting.push_back(congestion.enter(None, length()));
                    taken += 1;
                }
            }
            working.extend(waiting.pop_front().map(|put| (Instant::now() + 99 * MILLI, put)));
            while working.front().is_some_and(|(ready, _)| *ready <= Instant::now()) {
                let (_, put) = working.pop_front().unwrap();
                if milli > millis / 2 {
                    longest = longest.max(put.begun.elapsed());
                    finished += 1;
                }
                put.certified();
            }
            advance(MILLI).await;
        }
        (taken, finished, longest)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_stays_fast_at_twice_the_load() {
        let (taken, finished, longest) = offered(2, 20_000).await;
        assert!(finished > 9_900, "{finished} of 10000 that could be finished");
        // What it takes alone, the target, and what it is off by before a round is over.
        assert!(longest < Duration::from_millis(99 + 200 + 60), "{longest:?}");
        assert!(taken < 21_000, "{taken}");
        let (_, alone, longest) = offered(1, 4_000).await;
        assert!(alone > 1_900 && longest < Duration::from_millis(110), "{alone}, {longest:?}");
    }

    #[test]
    fn nobody_is_kept_out_by_another_who_asks_for_much() {
        let congestion = Congestion::new(Duration::from_millis(200));
        let origin = |last: u8| Some(Origin::from(IpAddr::from([192, 0, 2, last])));
        let many: Vec<_> = (0..START).map(|_| congestion.enter(origin(1), length())).collect();
        assert!(congestion.check(origin(1)).is_err());
        // Half of the window each.
        let other: Vec<_> = (0..START / 2)
            .map(|_| {
                congestion.check(origin(2)).unwrap();
                congestion.enter(origin(2), length())
            })
            .collect();
        assert!(congestion.check(origin(2)).is_err());
        congestion.check(origin(3)).unwrap();
        drop(many);
        congestion.check(origin(1)).unwrap();
        drop(other);
        let control = congestion.control();
        assert_eq!((control.in_work, control.of.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_always_taken_and_the_window_opens_again() {
        let congestion = Congestion::new(Duration::from_millis(200));
        let alone = congestion.enter(None, length());
        advance(10 * MILLI).await;
        alone.certified();
        for _ in 0..40 {
            let slow = congestion.enter(None, length());
            advance(Duration::from_secs(1)).await;
            slow.certified();
        }
        assert_eq!(window(&congestion), LEAST);
        let all: Vec<_> = (0..31).map(|_| congestion.enter(None, length())).collect();
        congestion.check(None).unwrap();
        let last = congestion.enter(None, length());
        let refused = congestion.check(None).unwrap_err();
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::GatewayBusy, Some(Duration::from_millis(200)))
        );
        drop(last);
        congestion.check(None).unwrap();
        advance(20 * MILLI).await;
        all.into_iter().for_each(InWork::certified);
        assert!(window(&congestion) >= LEAST + 3);
        // What takes another time by its length is no crowd, nor is what took longer for ten minutes.
        let long = congestion.enter(None, PayloadLength::try_from(1 << 27).unwrap());
        let before = window(&congestion);
        advance(Duration::from_secs(3)).await;
        long.certified();
        assert_eq!(window(&congestion), before);
        for _ in 0..11 {
            let farther = congestion.enter(None, length());
            advance(Duration::from_secs(60)).await;
            farther.certified();
        }
        let control = congestion.control();
        assert_eq!(control.alone[16].0.iter().map(|(_, least)| *least).min(), Some(SPAN));
    }
}
