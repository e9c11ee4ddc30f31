//! Asks several seats the same question, a few at a time.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::committee::Seat;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use crate::nearest::Nearest;

/// Wait before one more seat is asked.
const HEDGE: Duration = Duration::from_millis(500);

/// A seat and what it answered.
type Answer<T> = (Seat, Result<T, ApiError>);

/// The same question to seats in order of preference.
///
/// Starts with some; asks one more whenever one fails, or nobody answered for half a second.
pub(crate) struct Race<'a, T> {
    waiting: VecDeque<Seat>,
    running: FuturesUnordered<BoxFuture<'a, Answer<T>>>,
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
                    _ => nearest.answered(seat.address, started.elapsed()),
                }
                (seat, answer)
            })
        });
        let mut race = Self { waiting: seats.into(), running: FuturesUnordered::new(), call };
        for _ in 0..at_once.max(1) {
            race.start_one();
        }
        race
    }

    fn start_one(&mut self) {
        if let Some(seat) = self.waiting.pop_front() {
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
            tokio::select! {
                answer = self.running.next() => {
                    if matches!(answer, Some((_, Err(_)))) {
                        self.start_one();
                    }
                    return answer;
                }
                () = tokio::time::sleep(HEDGE), if !self.waiting.is_empty() => self.start_one(),
            }
        }
    }
}
