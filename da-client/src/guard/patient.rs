//! A stream whose peer may not stand still for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Cut;
use super::places::Visit;

/// A stream that fails once its peer has taken nothing of what is written for too long, and that counts what comes.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    visit: Arc<Visit>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether something waits to be taken.
    is_waiting: bool,
}

impl<S> Patient<S> {
    /// A stream that is patient for so long.
    #[must_use]
    pub fn new(stream: S, visit: Arc<Visit>, stall: Duration) -> Self {
        Self { stream, visit, stall, timer: Box::pin(tokio::time::sleep(stall)), is_waiting: false }
    }

    /// The outcome of a write, or that it has waited for too long.
    fn within<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.is_waiting = false;
            return outcome;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.visit.note(Cut::Stalled);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.visit.receive(u64::try_from(buf.filled().len() - before).unwrap_or(u64::MAX));
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.within(cx, outcome)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.within(cx, outcome)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.within(cx, outcome)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::Place;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_may_be_slow_and_may_not_stop() {
        let (near, mut far) = tokio::io::duplex(4);
        let place = Place::uncounted();
        let mut stream = Patient::new(near, Arc::clone(place.visit()), Duration::from_secs(10));
        let writer = tokio::spawn(async move { stream.write_all(b"0123456789abcdef").await });
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(9_900)).await;
            far.read_exact(&mut [0; 4]).await.unwrap();
        }
        assert!(!writer.is_finished());
        let error = writer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(place.visit().why(), Some(Cut::Stalled));
        assert_eq!(place.visit().why(), None, "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_is_counted() {
        let (near, mut far) = tokio::io::duplex(64);
        let place = Place::uncounted();
        let mut stream = Patient::new(near, Arc::clone(place.visit()), Duration::from_secs(10));
        far.write_all(b"hello").await.unwrap();
        // Whoever has nothing to take may be silent for as long as it likes.
        tokio::time::sleep(Duration::from_secs(60)).await;
        stream.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(place.visit().received(), 5);
        assert_eq!(place.visit().why(), None);
    }
}
