//! Whether peers take what they asked for.
//!
//! HTTP/2 keeps what a stream's window has no room for, so a peer that reads the connection and opens no window holds
//! answers in memory, and nobody who writes ever waits. Every piece of an answer therefore says when it has gone out.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::admission::Taken;

/// Bytes that have to be taken, or all that is there, for the time to begin anew: no peer lives on single bytes.
const ENOUGH: usize = 16 << 10;
/// How often an answer looks whether its address has taken enough of others for it to go on.
const LOOK: Duration = Duration::from_millis(20);

/// What goes out on one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

/// What of an answer has not been taken.
#[derive(Debug)]
struct Waiting {
    bytes: usize,
    /// Bytes that were taken since then.
    taken: usize,
    since: Instant,
}

impl Outgoing {
    /// Whether an answer has been waiting for too long.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        let answers = self.answers();
        answers.waiting.values().any(|answer| answer.bytes > 0 && answer.since.elapsed() > limit)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.answers().waiting.is_empty()
    }

    fn answer(self: &Arc<Self>, taken: Option<Taken>) -> Arc<Answer> {
        let mut answers = self.answers();
        let number = answers.next;
        answers.next += 1;
        answers.waiting.insert(number, Waiting { bytes: 0, taken: 0, since: Instant::now() });
        Arc::new(Answer { outgoing: Arc::clone(self), number, taken })
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer, as long as a part of it is somewhere.
#[derive(Debug)]
struct Answer {
    outgoing: Arc<Outgoing>,
    number: u64,
    /// The request, in work until all of its answer has gone out.
    taken: Option<Taken>,
}

impl Answer {
    fn with(&self, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.outgoing.answers().waiting.get_mut(&self.number) {
            change(waiting);
        }
    }

    fn may_go_on(&self) -> bool {
        self.taken.as_ref().is_none_or(|taken| taken.unread().has_room())
    }

    fn give(&self, bytes: usize) {
        if let Some(taken) = &self.taken {
            taken.unread().add(bytes);
        }
        self.with(|waiting| {
            if waiting.bytes == 0 {
                (waiting.taken, waiting.since) = (0, Instant::now());
            }
            waiting.bytes += bytes;
        });
    }

    fn take(&self, bytes: usize) {
        if let Some(taken) = &self.taken {
            taken.unread().remove(bytes);
        }
        self.with(|waiting| {
            waiting.bytes = waiting.bytes.saturating_sub(bytes);
            waiting.taken += bytes;
            if waiting.taken >= ENOUGH || waiting.bytes == 0 {
                (waiting.taken, waiting.since) = (0, Instant::now());
            }
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.outgoing.answers().waiting.remove(&self.number);
    }
}

/// A piece of an answer.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    answer: Arc<Answer>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }
    fn chunk(&self) -> &[u8] {
        &self.bytes
    }
    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.answer.take(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.answer.take(self.bytes.len());
    }
}

/// The body of an answer, in pieces that are followed; nothing where there is none.
#[derive(Debug)]
pub(super) struct Followed<B> {
    body: Option<B>,
    answer: Arc<Answer>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Followed<B> {
    pub(super) fn new(body: Option<B>, outgoing: &Arc<Outgoing>, taken: Option<Taken>) -> Self {
        Self { body, answer: outgoing.answer(taken), timer: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Followed<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // What is not asked for yet is not made yet.
        while !this.answer.may_go_on() {
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
            ready!(timer.as_mut().poll(cx));
            this.timer = None;
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            Ok(frame?.map_data(|bytes| {
                this.answer.give(bytes.len());
                Piece { bytes, answer: Arc::clone(&this.answer) }
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn piece(answer: &Arc<Answer>, bytes: usize) -> Piece {
        answer.give(bytes);
        Piece { bytes: vec![1; bytes].into(), answer: Arc::clone(answer) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_noticed() {
        let outgoing = Arc::new(Outgoing::default());
        let (slow, fast) = (outgoing.answer(None), outgoing.answer(None));
        let mut waits = piece(&slow, ENOUGH * 3);
        let passed = async |seconds| tokio::time::advance(Duration::from_secs(seconds)).await;
        passed(8).await;
        // Others that go on change nothing about it.
        drop(piece(&fast, 10));
        waits.advance(ENOUGH - 1);
        passed(3).await;
        assert!(outgoing.is_stalled(LIMIT));
        waits.advance(1);
        assert!(!outgoing.is_stalled(LIMIT));
        passed(11).await;
        assert!(outgoing.is_stalled(LIMIT));
        drop(waits);
        assert!(!outgoing.is_stalled(LIMIT));
        // What has nothing to give keeps nobody.
        passed(60).await;
        assert!(!outgoing.is_stalled(LIMIT) && !outgoing.is_empty());
        drop((slow, fast));
        assert!(outgoing.is_empty());
    }
}
