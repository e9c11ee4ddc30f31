//! Bodies of requests, which have to come while they are waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use meridian_proto::error::{ApiError, Reason};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::metrics::{self, KeyValue};

/// Bytes a second that a body has to come at, beyond the time that it may stop for.
const SLOWEST: u64 = 16 << 10;

/// A body that fails once it has been waited for for too long. Time in which nobody reads it does not count.
#[derive(Debug)]
pub(super) struct Paced<B> {
    body: B,
    stall: Duration,
    received: u64,
    waited: Duration,
    /// Since when it is being waited for.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, stall: Duration) -> Self {
        Self { body, stall, received: 0, waited: Duration::ZERO, since: None, timer: None }
    }

    /// How much longer may be waited for it.
    fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.received.saturating_mul(1000) / SLOWEST);
        (self.stall.saturating_add(earned)).saturating_sub(self.waited)
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(since) = this.since.take() {
                this.waited += since.elapsed();
            }
            if let Some(Ok(frame)) = &frame {
                let length = frame.data_ref().map_or(0, Buf::remaining);
                this.received = this.received.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Status::from_error(error.into()))));
        }
        if this.since.is_none() {
            let now = Instant::now();
            this.since = Some(now);
            let end = now + this.left();
            match &mut this.timer {
                Some(timer) => timer.as_mut().reset(end),
                None => this.timer = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        if let Some(timer) = &mut this.timer {
            ready!(timer.as_mut().poll(cx));
            metrics::get().refused_requests.add(1, &[KeyValue::new("reason", "slow")]);
            let message = format!(
                "the request stopped for {} ms, or came at less than {SLOWEST} bytes a second",
                this.stall.as_millis()
            );
            return Poll::Ready(Some(Err(ApiError::new(Reason::Timeout, message).into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt;
    use futures::stream::BoxStream;

    use super::*;

    struct Parts(BoxStream<'static, Bytes>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_next_unpin(cx).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// A body of so many parts of so many bytes, each after so many milliseconds.
    fn body(count: usize, length: usize, pause: u64) -> Paced<Parts> {
        let parts = futures::stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Bytes::from(vec![0; length])
        });
        Paced::new(Parts(parts.boxed()), Duration::from_secs(10))
    }

    async fn next(body: &mut Paced<Parts>) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_or_drips_fails_and_a_slow_one_does_not() {
        for (count, length, pause, passes) in [
            (1, 1, 9_999, true),
            (1, 1, 10_001, false),
            // A byte a second lives on what may be waited for in all.
            (9, 1, 1_000, true),
            (12, 1, 1_000, false),
            // Sixteen KiB a second is enough for ever.
            (100, 16 << 10, 1_000, true),
            (100, 8 << 10, 1_000, false),
        ] {
            let mut body = body(count, length, pause);
            let mut outcome = Ok(());
            while let Some(frame) = next(&mut body).await {
                if let Err(status) = frame {
                    outcome = Err(ApiError::from_status(&status).reason);
                    break;
                }
            }
            assert_eq!(outcome.is_ok(), passes, "{count} x {length} each {pause} ms");
            assert!(outcome.is_ok() || outcome == Err(Reason::Timeout));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_does_not_count() {
        let mut body = body(3, 1, 1_000);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            next(&mut body).await.unwrap().unwrap();
        }
        assert!(next(&mut body).await.is_none());
    }
}
