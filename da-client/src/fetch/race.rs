//! Asks several seats for the same blob, a few at a time.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::Address;
use meridian_proofs::committee::Seat;
use meridian_proto::convert::Candidate;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use crate::nearest::{Nearest, Took};

/// A seat and what it answered.
type Answer = (Seat, Result<Vec<Candidate>, ApiError>);

/// The same question to seats in order of preference.
///
/// Starts with some; asks one more whenever one fails, or when nobody answers for as long as the last one asked may take.
pub(crate) struct Race<'a> {
    nearest: &'a Nearest,
    /// Bytes of rows that an answer is expected to have.
    bytes: u64,
    waiting: VecDeque<Seat>,
    running: FuturesUnordered<BoxFuture<'a, Answer>>,
    /// Who has not answered, how long that may take, and since when it was asked.
    silent: Vec<(Address, Duration, Instant)>,
    call: Box<dyn Fn(Seat, bool) -> BoxFuture<'a, Answer> + Send + Sync + 'a>,
}

/// Bytes of rows in an answer.
pub(super) fn row_bytes(candidates: &[Candidate]) -> u64 {
    let rows = candidates.iter().flat_map(|candidate| &candidate.rows);
    rows.map(|held| u64::try_from(held.rows.len()).unwrap_or(u64::MAX)).sum()
}

impl<'a> Race<'a> {
    /// Asks the first `at_once` of the seats. `call` is told whether it asks for what was asked of somebody else, who is late.
    pub(crate) fn new<F>(
        nearest: &'a Nearest,
        bytes: u64,
        seats: Vec<Seat>,
        at_once: usize,
        call: impl Fn(Seat, bool) -> F + Send + Sync + 'a,
    ) -> Self
    where
        F: Future<Output = Result<Vec<Candidate>, ApiError>> + Send + 'a,
    {
        let call = Box::new(move |seat: Seat, again: bool| -> BoxFuture<'a, Answer> {
            let answer = call(seat.clone(), again);
            Box::pin(async move {
                let started = Instant::now();
                let answer = answer.await;
                match &answer {
                    Err(error) if error.reason == Reason::Unreachable => nearest.failed(seat.address),
                    _ => {
                        let bytes = answer.as_ref().map_or(0, |candidates| row_bytes(candidates));
                        nearest.answered(seat.address, Took::Answer(bytes, started.elapsed()));
                    }
                }
                (seat, answer)
            })
        });
        let (waiting, running, silent) = (seats.into(), FuturesUnordered::new(), Vec::new());
        let mut race = Self { nearest, bytes, waiting, running, silent, call };
        for _ in 0..at_once.max(1) {
            race.start_one(false);
        }
        race
    }

    fn start_one(&mut self, again: bool) {
        if let Some(seat) = self.waiting.pop_front() {
            let patience = self.nearest.patience(&seat.address, self.bytes);
            self.silent.push((seat.address, patience, Instant::now()));
            self.running.push((self.call)(seat, again));
        }
    }

    /// Asks everybody who has not been asked yet.
    pub(crate) fn widen(&mut self) {
        while !self.waiting.is_empty() {
            self.start_one(true);
        }
    }

    /// The next answer, or nothing when everybody has answered.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                return None;
            }
            if self.running.is_empty() {
                self.start_one(false);
            }
            let late =
                self.silent.last().map_or_else(Instant::now, |(_, patience, begun)| *begun + *patience);
            tokio::select! {
                answer = self.running.next() => {
                    if let Some((seat, _)) = &answer {
                        self.silent.retain(|(silent, ..)| *silent != seat.address);
                    }
                    if matches!(answer, Some((_, Err(_)))) {
                        self.start_one(false);
                    }
                    return answer;
                }
                () = tokio::time::sleep_until(late), if !self.waiting.is_empty() => self.start_one(true),
            }
        }
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        // Nobody will know how long they take, but that it is longer than it should be.
        for (seat, patience, begun) in &self.silent {
            if begun.elapsed() > *patience {
                self.nearest.late(*seat, begun.elapsed());
            }
        }
    }
}
