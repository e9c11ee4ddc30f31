//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use meridian_client::guard::places::Visit;
use meridian_client::guard::{Cut, Patient};
use meridian_client::tls::Door;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;

use super::accept::Accepted;
use super::admission::Admission;
use super::frames::Counted;
use super::observe::{Observe, ObservedBody};
use super::paced::Paced;
use super::rates::Rates;
use super::taken::{Followed, Outgoing};
use crate::config::host::Server as Settings;
use crate::metrics::{self, KeyValue};

/// Silence on a connection after which its peer is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Time that the peer has to give one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that the peer of an idle connection has to close it.
const CLOSING: Duration = Duration::from_secs(10);
/// The least that a peer says first: 24 bytes of preface and the head of its settings, RFC 9113 section 3.4.
const GREETING: u64 = 24 + 9;
/// Longest time between two looks at a connection.
const LOOK: Duration = Duration::from_secs(5);

/// What all connections share.
pub(super) struct Host {
    pub(super) settings: Settings,
    pub(super) service: Observe<Routes>,
    pub(super) admission: Arc<Admission>,
    pub(super) rates: Arc<Rates>,
    pub(super) door: Door,
    /// Asks connections to close once what is in work on them is done.
    pub(super) closing: CancellationToken,
    /// Cuts them.
    pub(super) cut: CancellationToken,
}

impl Host {
    fn builder(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.settings.max_concurrent_streams)
            .initial_stream_window_size(self.settings.stream_window_bytes)
            .initial_connection_window_size(self.settings.connection_window_bytes)
            .max_header_list_size(self.settings.max_header_bytes)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        builder
    }
}

/// Lets a connection in, and answers what is asked on it.
pub(super) async fn let_in<S>(host: Arc<Host>, accepted: Accepted<S>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Accepted { stream, place } = accepted;
    let _counted = Counter::new();
    let visit = Arc::clone(place.visit());
    let admitted = tokio::select! {
        admitted = host.door.admit(stream) => admitted,
        () = place.visit().displaced() => None,
        () = host.closing.cancelled() => None,
        () = host.cut.cancelled() => None,
    };
    if let Some(stream) = admitted {
        converse(host, Accepted { stream, place }).await;
    }
    if let Some(why) = visit.why() {
        tracing::debug!(origin = ?visit.origin(), why = why.as_str(), "a connection is closed");
        metrics::get().closed_connections.add(1, &[KeyValue::new("reason", why.as_str())]);
    }
}

/// Answers what is asked on a connection.
async fn converse<S>(host: Arc<Host>, accepted: Accepted<S>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Accepted { stream, place } = accepted;
    let (visit, limits) = (place.visit(), Limits::new(&host.settings, place.visit()));
    let stream = Patient::new(stream, Arc::clone(visit), limits.stall);
    let stream = Counted::new(stream, Arc::clone(&host.rates), Arc::clone(visit));
    let outgoing = Arc::new(Outgoing::default());
    let answers = Answers {
        service: host.service.clone(),
        admission: Arc::clone(&host.admission),
        visit: Arc::clone(visit),
        outgoing: Arc::clone(&outgoing),
        stall: limits.stall,
    };
    let mut connection = std::pin::pin!(host.builder().serve_connection(TokioIo::new(stream), answers));
    let (mut is_closing, mut end, mut may_finish) = (false, None::<Instant>, true);
    let mut looks = tokio::time::interval(limits.look());
    loop {
        tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(origin = ?visit.origin(), %error, "a connection broke");
                }
                break;
            }
            () = visit.displaced() => break,
            () = host.cut.cancelled() => break,
            () = host.closing.cancelled(), if !is_closing => {
                // With whoever has not begun to speak there is nothing to finish.
                if visit.received() < GREETING {
                    break;
                }
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            now = looks.tick() => {
                if end.is_some_and(|end| now >= end) {
                    if !may_finish || (visit.is_idle() && outgoing.is_empty()) {
                        break;
                    }
                    // A call has begun just as the connection was asked to close.
                    may_finish = false;
                    end = Some(now + limits.grace);
                }
                match limits.judge(visit, &outgoing) {
                    Judgement::Fine => {}
                    Judgement::Cut(why) => {
                        visit.note(why);
                        break;
                    }
                    Judgement::Close(why, within) => {
                        if end.is_none() {
                            visit.note(why);
                            end = Some(now + within);
                            may_finish = why == Cut::Idle;
                            is_closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                    }
                }
            }
        }
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judgement {
    Fine,
    Cut(Cut),
    /// It is asked to close, and cut after a time.
    Close(Cut, Duration),
}

/// How long a connection may do what.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// When the peer could begin to speak: after the handshake, where there is one.
    begun: Instant,
    greeting: Duration,
    stall: Duration,
    idle: Duration,
    age: Option<Duration>,
    grace: Duration,
}

impl Limits {
    fn new(settings: &Settings, visit: &Visit) -> Self {
        let age = Some(settings.max_connection_age_ms).filter(|age| *age > 0).map(Duration::from_millis);
        Self {
            begun: Instant::now(),
            greeting: Duration::from_millis(settings.greeting_ms),
            stall: Duration::from_millis(settings.stall_ms),
            idle: Duration::from_millis(settings.idle_ms),
            // Up to a tenth more, so that connections that came together do not all go together.
            age: age.map(|age| age + age / 160 * u32::from(visit.number().to_le_bytes()[0] % 16)),
            grace: Duration::from_millis(settings.connection_grace_ms),
        }
    }

    /// How often to look whether a limit is passed.
    fn look(&self) -> Duration {
        let shortest = self.greeting.min(self.stall).min(self.idle).min(self.age.unwrap_or(LOOK));
        (shortest / 4).clamp(Duration::from_millis(1), LOOK)
    }

    fn judge(&self, visit: &Visit, outgoing: &Outgoing) -> Judgement {
        let age = visit.age();
        if self.begun.elapsed() > self.greeting && visit.received() < GREETING {
            Judgement::Cut(Cut::Silent)
        } else if outgoing.is_stalled(self.stall) {
            Judgement::Cut(Cut::Stalled)
        } else if visit.is_idle()
            && !visit.is_watching()
            && outgoing.is_empty()
            && visit.since_last_use() > self.idle
        {
            Judgement::Close(Cut::Idle, CLOSING)
        } else if self.age.is_some_and(|most| age > most) {
            Judgement::Close(Cut::Old, self.grace)
        } else {
            Judgement::Fine
        }
    }
}

/// Counts a connection while it lives.
struct Counter;

impl Counter {
    fn new() -> Self {
        metrics::get().connections.add(1, &[]);
        Self
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        metrics::get().connections.add(-1, &[]);
    }
}

/// Answers the requests of one connection.
struct Answers {
    service: Observe<Routes>,
    admission: Arc<Admission>,
    visit: Arc<Visit>,
    outgoing: Arc<Outgoing>,
    stall: Duration,
}

type AnswerBody = Followed<ObservedBody<Body>>;

impl hyper::service::Service<Request<Incoming>> for Answers {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let outgoing = Arc::clone(&self.outgoing);
        match self.admission.take(&self.visit, request.uri().path()) {
            Ok(taken) => {
                let mut request = request.map(|body| Body::new(Paced::new(body, self.stall)));
                // For handlers that divide what they have among those who ask.
                if let Some(origin) = self.visit.origin() {
                    request.extensions_mut().insert(origin);
                }
                let answer = self.service.clone().call(request);
                Box::pin(async move {
                    Ok(answer.await?.map(|body| Followed::new(Some(body), &outgoing, Some(taken))))
                })
            }
            Err(refusal) => {
                let answer = Status::from(refusal).into_http::<NoBody>();
                Box::pin(async move { Ok(answer.map(|NoBody| Followed::new(None, &outgoing, None))) })
            }
        }
    }
}

#[derive(Default)]
struct NoBody;

#[cfg(test)]
mod tests {
    use meridian_client::guard::Place;

    use super::*;

    fn limits() -> Limits {
        let settings = Settings {
            greeting_ms: 1_000,
            stall_ms: 2_000,
            idle_ms: 5_000,
            max_connection_age_ms: 20_000,
            connection_grace_ms: 3_000,
            ..Settings::default()
        };
        Limits::new(&settings, Place::uncounted().visit())
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_judged_by_what_they_do() {
        let (place, outgoing, limits) = (Place::uncounted(), Outgoing::default(), limits());
        let visit = place.visit();
        let at = async |ms| {
            tokio::time::advance(Duration::from_millis(ms) - visit.age()).await;
            limits.judge(visit, &outgoing)
        };
        assert_eq!(at(1_000).await, Judgement::Fine);
        assert_eq!(at(1_001).await, Judgement::Cut(Cut::Silent));
        visit.receive(GREETING - 1);
        assert_eq!(at(1_002).await, Judgement::Cut(Cut::Silent));
        visit.receive(1);
        assert_eq!(at(5_000).await, Judgement::Fine);
        assert_eq!(at(5_001).await, Judgement::Close(Cut::Idle, CLOSING));
        let request = visit.request();
        assert_eq!(at(20_000).await, Judgement::Fine);
        assert_eq!(at(20_001).await, Judgement::Close(Cut::Old, Duration::from_secs(3)));
        assert_eq!(Limits { age: None, ..limits }.judge(visit, &outgoing), Judgement::Fine);
        drop(request);
    }
}
