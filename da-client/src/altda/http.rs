//! What a sidecar answers over HTTP.
//!
//! | path | methods | answers |
//! |---|---|---|
//! | `/put`, `/put/` | POST, PUT | stores the body, gives the 34 bytes of its generic commitment |
//! | `/put/COMMITMENT` | POST, PUT | stores the body, if it has that commitment, and gives it back |
//! | `/get/COMMITMENT` | GET | the input |
//! | `/certificate/COMMITMENT` | GET | the certificate in its flat form, protocol section 3 |
//! | `/health` | GET | that it serves |
//! | `/ready` | GET | whether a gateway and a quorum of regions answer: 200, or 503 |
//! | `/config` | GET | how it works, and with whom |
//! | `/metrics` | GET | Prometheus |
//!
//! A commitment is hexadecimal with or without `0x`. Queries are ignored, and so are slashes too many. No path that is not
//! here is answered with 404: to a node that means that an input is gone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use meridian_proto::error::trace_id;
use prometheus::{Encoder, TextEncoder};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::commitment::{Commitment, Mode};
use super::refusal::{Explanation, Refusal};
use super::{AltDa, Failover, Settings, body};
use crate::guard::{Limits, pages};
use crate::submit::unix_now;
use crate::tls::Acceptor;
use crate::tokens::Denied;
use crate::trace;

/// Who may connect, and how long each may stand still. All clients of a sidecar may be on one host, and Go's keep a connection
/// for 90 s that they do not use: one that is closed while they begin to use it costs them a put.
const PAGES: pages::Settings = pages::Settings {
    limits: Limits { connections: 2048, per_address: 1024, stall: Duration::from_secs(30) },
    head: Duration::from_secs(120),
};
/// The blob that a certificate is of.
const BLOB_ID: HeaderName = HeaderName::from_static("meridian-blob-id");
const READ: &str = "GET, HEAD";
const WRITE: &str = "POST, PUT";
/// Status 418: "drop this commitment", to clients that know it.
const DROP: StatusCode = StatusCode::IM_A_TEAPOT;

/// Everything that a sidecar answers.
pub fn router(sidecar: Arc<AltDa>) -> Router {
    Router::new().fallback(answer).with_state(sidecar)
}

/// Answers until it is stopped, and then what has begun.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    sidecar: Arc<AltDa>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let count = sidecar.metrics.endings();
    pages::serve(listener, acceptor, router(sidecar), PAGES, count, stop).await
}

/// What a path and a method ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Call {
    Put(Mode, Option<Commitment>),
    Get(Commitment),
    Certificate(Commitment),
    Health,
    Ready,
    Config,
    Metrics,
}

/// The first part of a path, as metrics name it, and what the whole asks for.
fn parse(method: &Method, path: &str) -> (&'static str, Result<Call, Refusal>) {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (first, second, more) = (parts.next(), parts.next(), parts.next());
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let reading = |call: Result<Call, Refusal>| if reads { call } else { Err(Refusal::Method(READ)) };
    match (first, second, more) {
        (Some("put"), commitment, None) => {
            let call = || {
                if !matches!(*method, Method::POST | Method::PUT) {
                    return Err(Refusal::Method(WRITE));
                }
                let commitment = commitment.map(str::parse::<Commitment>).transpose()?;
                let mode = commitment.map_or(Mode::Generic, |commitment| commitment.mode());
                Ok(Call::Put(mode, commitment))
            };
            ("put", call())
        }
        (Some("get"), Some(commitment), None) => {
            ("get", reading(commitment.parse().map(Call::Get).map_err(Refusal::from)))
        }
        (Some("certificate"), Some(commitment), None) => {
            ("certificate", reading(commitment.parse().map(Call::Certificate).map_err(Refusal::from)))
        }
        (Some("health"), None, None) => ("health", reading(Ok(Call::Health))),
        (Some("ready"), None, None) => ("ready", reading(Ok(Call::Ready))),
        (Some("config"), None, None) => ("config", reading(Ok(Call::Config))),
        (Some("metrics"), None, None) => ("metrics", reading(Ok(Call::Metrics))),
        _ => ("other", Err(Refusal::Invalid("there is no such path; the server is at the root".to_owned()))),
    }
}

async fn answer(State(sidecar): State<Arc<AltDa>>, request: Request) -> Response {
    let started = Instant::now();
    let (name, call) = parse(request.method(), request.uri().path());
    let span = tracing::info_span!(
        "altda",
        otel.name = format!("altda {name}"),
        call = name,
        commitment = tracing::field::Empty,
        status = tracing::field::Empty
    );
    if let Ok(Call::Put(_, Some(commitment)) | Call::Get(commitment) | Call::Certificate(commitment)) = &call
    {
        span.record("commitment", commitment.to_string());
    }
    // Without a subscriber there is nothing that a context could be set on.
    let _ = span.set_parent(trace::extract(request.headers()));
    let work = async {
        let is_put_by_server = matches!(call, Ok(Call::Put(Mode::Generic, _)));
        let outcome = match call {
            Ok(call) => {
                let deadline = started + sidecar.settings.patience;
                let working = AssertUnwindSafe(sidecar.work(call, request, deadline)).catch_unwind();
                working.await.unwrap_or_else(|_| Err(Refusal::Internal("a worker panicked".to_owned())))
            }
            Err(refusal) => Err(refusal),
        };
        let response = outcome.unwrap_or_else(|refusal| {
            sidecar.metrics.refused(name, refusal.name());
            let response = refuse(&refusal, &sidecar.settings, name, is_put_by_server);
            tracing::info!(call = name, status = response.status().as_u16(), %refusal, "request refused");
            response
        });
        let status = response.status().as_u16();
        tracing::Span::current().record("status", status);
        sidecar.metrics.answered(name, status, started.elapsed());
        response
    };
    work.instrument(span).await
}

impl AltDa {
    async fn work(
        self: &Arc<Self>,
        call: Call,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, Refusal> {
        let bytes = [(header::CONTENT_TYPE, "application/octet-stream")];
        Ok(match call {
            Call::Put(mode, stated) => {
                let (head, body) = request.into_parts();
                if let Err(refusal) = self.admit(&head.headers) {
                    body::discard(body).await;
                    return Err(refusal);
                }
                let limit = self.settings.limit(mode);
                let body = body::read(&head.headers, body, limit, &self.memory, deadline).await?;
                let length = body.input.len();
                let commitment = self.put(mode, stated, body, deadline).await?;
                self.metrics.received(length);
                (bytes, commitment.encode()).into_response()
            }
            Call::Get(commitment) => {
                let input = self.get(commitment, deadline).await?;
                self.metrics.sent(input.len());
                (bytes, input).into_response()
            }
            Call::Certificate(commitment) => {
                let certificate = self.certificate(commitment, deadline).await?;
                let id = HeaderValue::from_str(&certificate.id().to_string()).map_err(super::internal)?;
                (bytes, [(BLOB_ID, id)], certificate.encode()).into_response()
            }
            Call::Health => (StatusCode::OK, "serving\n").into_response(),
            Call::Ready => {
                let report = self.readiness.report(&self.readers.current(), &self.gateways()).await;
                let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, axum::Json(report)).into_response()
            }
            Call::Config => axum::Json(self.config()).into_response(),
            Call::Metrics => {
                // What was evicted is counted when somebody comes by.
                self.inputs.run_pending_tasks().await;
                self.metrics.cached(self.inputs.weighted_size());
                let mut text = Vec::new();
                TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(super::internal)?;
                ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
            }
        })
    }

    /// Whether a caller may put.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let tokens = tokens.current();
        match tokens.check(headers, self.settings.namespace, unix_now()) {
            Ok(token) => {
                tracing::debug!(token = token.name, "put by a known caller");
                Ok(())
            }
            Err(denied @ Denied::Foreign { .. }) => Err(Refusal::Forbidden(denied.to_string())),
            Err(denied) => Err(Refusal::Unauthenticated(denied.to_string())),
        }
    }

    fn config(&self) -> Config {
        let committee = self.committee();
        let settings = &self.settings;
        Config {
            version: env!("CARGO_PKG_VERSION"),
            committee: committee.fingerprint().to_string(),
            epoch: committee.epoch(),
            chain_id: committee.parts().chain_id,
            min_copies: committee.min_copies(),
            gateways: self.gateways(),
            namespace: settings.namespace.to_string(),
            retention_seconds: self.retention(),
            keccak_limit_bytes: settings.keccak_limit,
            generic_limit_bytes: settings.generic_limit,
            patience_seconds: settings.patience.as_secs(),
            failover: settings.failover,
            drop_status: settings.drop_status,
            cache_bytes: settings.cache_bytes,
            memory_bytes: settings.memory_bytes,
            archive: settings.archive.is_some(),
            puts_need_token: self.tokens.is_some(),
        }
    }
}

/// What `/config` says.
#[derive(Serialize)]
struct Config {
    version: &'static str,
    committee: String,
    epoch: u64,
    chain_id: u64,
    min_copies: usize,
    gateways: Vec<String>,
    namespace: String,
    retention_seconds: u64,
    keccak_limit_bytes: usize,
    generic_limit_bytes: usize,
    patience_seconds: u64,
    failover: Failover,
    drop_status: bool,
    cache_bytes: u64,
    memory_bytes: usize,
    archive: bool,
    puts_need_token: bool,
}

/// The status of a refusal. `is_put_by_server` is whether some clients take a 5xx as "post to L1 instead".
fn status(refusal: &Refusal, settings: &Settings, call: &str, is_put_by_server: bool) -> StatusCode {
    let stays = is_put_by_server && settings.failover == Failover::Never;
    match refusal {
        // Only what stands on L1 can be dropped.
        Refusal::Dropped(..) if settings.drop_status && call == "get" => DROP,
        Refusal::Invalid(_) | Refusal::Mismatch { .. } | Refusal::Dropped(..) => StatusCode::BAD_REQUEST,
        Refusal::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
        Refusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::Unknown(_) => StatusCode::NOT_FOUND,
        Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Unavailable(_) | Refusal::Internal(_) if stays => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Busy(..) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The body of status 418, as clients that know it read it.
#[derive(Serialize)]
struct Dropped {
    #[serde(rename = "StatusCode")]
    code: u8,
    #[serde(rename = "Msg")]
    message: String,
}

fn refuse(refusal: &Refusal, settings: &Settings, call: &str, is_put_by_server: bool) -> Response {
    let status = status(refusal, settings, call, is_put_by_server);
    let message = match refusal {
        // What went wrong inside is in the log alone.
        Refusal::Internal(error) => {
            tracing::error!(call, error, "internal error");
            "internal error, reported under its trace id".to_owned()
        }
        other => other.to_string(),
    };
    let mut response = match refusal {
        Refusal::Dropped(code, _) if status == DROP => {
            axum::Json(Dropped { code: *code as u8, message }).into_response()
        }
        _ => axum::Json(Explanation { error: refusal.name(), message, trace_id: trace_id() }).into_response(),
    };
    *response.status_mut() = status;
    let wait = match refusal {
        Refusal::Busy(_, wait) => Some(*wait),
        Refusal::Unavailable(_) | Refusal::Internal(_) => Some(Duration::from_secs(1)),
        _ => None,
    };
    let headers = response.headers_mut();
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Refusal::Unauthenticated(_) = refusal {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"meridian\""));
    }
    if let Refusal::Method(allowed) = refusal {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

#[cfg(test)]
mod tests;
