//! Serves pages over HTTP/1.1, within limits.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{IntCounterVec, Opts};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::places::{InUse, Visit};
use super::{Cut, Limits, Patient, Place, Places, Refusal};
use crate::tls::{Acceptor, Door, Wire};

/// Pause after a connection could not be accepted, as when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);
/// Most bytes of a request's head.
const HEAD: usize = 16 << 10;

/// How pages are served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What holds for connections.
    pub limits: Limits,
    /// Longest time to the end of the next request's head, counted from the end of the last answer too.
    pub head: Duration,
}

/// How a connection ended that did not end by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was closed as it came.
    Refused(Refusal),
    /// It was cut.
    Cut(Cut),
}

impl Ended {
    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.as_str(),
            Self::Cut(cut) => cut.as_str(),
        }
    }
}

/// Counts the connections that ended so.
pub type Count = Arc<dyn Fn(Ended) + Send + Sync>;

/// A counter of connections by how they ended.
///
/// # Errors
/// The name is no name of a metric.
pub fn counter(name: &str) -> prometheus::Result<(IntCounterVec, Count)> {
    let help = "Connections that were closed as they came, or cut, by reason.";
    let counter = IntCounterVec::new(Opts::new(name, help), &["reason"])?;
    for ended in [Ended::Refused(Refusal::Address), Ended::Refused(Refusal::Full), Ended::Cut(Cut::Stalled)] {
        counter.with_label_values(&[ended.as_str()]);
    }
    let counts = counter.clone();
    Ok((counter, Arc::new(move |ended| counts.with_label_values(&[ended.as_str()]).inc())))
}

/// Answers until it is stopped, and then what has begun.
///
/// # Errors
/// Never while connections can be waited for.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    router: Router,
    settings: Settings,
    count: Count,
    stop: CancellationToken,
) -> io::Result<()> {
    let door = Door::new(acceptor);
    let (places, tasks) = (Places::new(settings.limits), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "a connection stays with Nagle's algorithm");
                }
                (stream, peer)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match places.take(peer.ip()) {
            Ok(place) => {
                let (door, router, stop) = (door.clone(), router.clone(), stop.clone());
                let count = Arc::clone(&count);
                tasks.spawn(async move {
                    let admitted = tokio::select! {
                        admitted = door.admit(stream) => admitted,
                        () = place.visit().displaced() => None,
                        () = stop.cancelled() => None,
                    };
                    if let Some(stream) = admitted {
                        converse(stream, peer, &place, router, settings, stop).await;
                    }
                    if let Some(why) = place.visit().why() {
                        tracing::debug!(%peer, why = why.as_str(), "a connection is cut");
                        count(Ended::Cut(why));
                    }
                });
            }
            Err(refusal) => {
                tracing::debug!(%peer, why = refusal.as_str(), "a connection is refused");
                count(Ended::Refused(refusal));
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Answers what is asked on a connection.
async fn converse(
    stream: Wire<TcpStream>,
    peer: SocketAddr,
    place: &Place,
    router: Router,
    settings: Settings,
    stop: CancellationToken,
) {
    let visit = place.visit();
    let stream = Patient::new(stream, Arc::clone(visit), settings.limits.stall);
    let service = service_fn(|request: Request<Incoming>| answer(&router, visit, request));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.head)
            .max_header_size(HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut is_closing = false;
    loop {
        tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%peer, %error, "a connection broke");
                }
                break;
            }
            () = visit.displaced() => break,
            () = stop.cancelled(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// An answer, with which its connection is in use until it has gone out.
async fn answer(
    router: &Router,
    visit: &Arc<Visit>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, std::convert::Infallible> {
    let in_use = visit.request();
    let answer = router.clone().oneshot(request.map(Body::new)).await?;
    Ok(answer.map(|body| Answer { body, _in_use: in_use }))
}

/// The body of an answer.
struct Answer {
    body: Body,
    _in_use: InUse,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
