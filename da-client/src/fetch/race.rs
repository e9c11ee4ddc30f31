//! Asks several seats the same question, a few at a time.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::Address;
use meridian_proofs::committee::Seat;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use crate::nearest::{Nearest, Took};

/// A seat and what it answered.
type Answer<T> = (Seat, Result<T, ApiError>);

/// The same question to seats in order of preference.
///
/// Starts with some; asks one more whenever one fails, or when nobody answers for as long as the last one asked may take.
pub(crate) struct Race<'a, T> {
    nearest: &'a Nearest,
    waiting: VecDeque<Seat>,
    running: FuturesUnordered<BoxFuture<'a, Answer<T>>>,
    /// Who has not answered, how long that may take, and since when it was asked.
    silent: Vec<(Address, Duration, Instant)>,
    call: Box<dyn Fn(Seat) -> BoxFuture<'a, Answer<T>> + Send + Sync + 'a>,
}

impl<'a, T: Send + 'a> Race<'a, T> {
    /// Asks the first `at_once` of the seats.
    pub(crate) fn new<F>(
        nearest: &'a Nearest,
        seats: Vec<Seat>,
        at_once: usize,
        call: impl Fn(Seat) -> F + Send + Sync + 'a,
    ) -> Self
    where
        F: Future<Output = Result<T, ApiError>> + Send + 'a,
    {
        let call = Box::new(move |seat: Seat| -> BoxFuture<'a, Answer<T>> {
            let answer = call(seat.clone());
            Box::pin(async move {
                let started = Instant::now();
                let answer = answer.await;
                match &answer {
                    Err(error) if error.reason == Reason::Unreachable => nearest.failed(seat.address),
                    _ => nearest.answered(seat.address, Took::RoundTrip(started.elapsed())),
                }
                (seat, answer)
            })
        });
        let (waiting, running, silent) = (seats.into(), FuturesUnordered::new(), Vec::new());
        let mut race = Self { nearest, waiting, running, silent, call };
        for _ in 0..at_once.max(1) {
            race.start_one();
        }
        race
    }

    fn start_one(&mut self) {
        if let Some(seat) = self.waiting.pop_front() {
            self.silent.push((seat.address, self.nearest.patience(&seat.address, 0), Instant::now()));
            self.running.push((self.call)(seat));
        }
    }

    /// Asks everybody who has not been asked yet.
    pub(crate) fn widen(&mut self) {
        while !self.waiting.is_empty() {
            self.start_one();
        }
    }

    /// The next answer, or nothing when everybody has answered.
    pub(crate) async fn next(&mut self) -> Option<Answer<T>> {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                return None;
            }
            if self.running.is_empty() {
                self.start_one();
            }
            let late =
                self.silent.last().map_or_else(Instant::now, |(_, patience, begun)| *begun + *patience);
            tokio::select! {
                answer = self.running.next() => {
                    if let Some((seat, _)) = &answer {
                        self.silent.retain(|(silent, ..)| *silent != seat.address);
                    }
                    if matches!(answer, Some((_, Err(_)))) {
                        self.start_one();
                    }
                    return answer;
                }
                () = tokio::time::sleep_until(late), if !self.waiting.is_empty() => self.start_one(),
            }
        }
    }
}

impl<T> Drop for Race<'_, T> {
    fn drop(&mut self) {
        // Nobody will know how long they take, but that it is longer than it should be.
        for (seat, patience, begun) in &self.silent {
            if begun.elapsed() > *patience {
                self.nearest.late(*seat, begun.elapsed());
            }
        }
    }
}
