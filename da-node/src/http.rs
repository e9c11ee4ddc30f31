//! What a host shows over HTTP: `/metrics` for Prometheus, `/healthz` and `/status`.

pub mod status;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use meridian_client::guard::pages::Ended;
use meridian_client::guard::{Limits, pages};
use meridian_client::tls::Acceptor;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::KeyValue;

/// Who may connect, and how long each may stand still.
const SETTINGS: pages::Settings = pages::Settings {
    limits: Limits { connections: 256, per_address: 64, stall: Duration::from_secs(30) },
    head: Duration::from_secs(30),
};

/// Longest time for answers that have begun when it is stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// Makes the answer of `/status`.
pub type StatusSource = Arc<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;

/// What the pages are made from.
#[derive(Clone)]
pub struct Pages {
    /// The metrics.
    pub registry: Registry,
    /// Whether the host is serving.
    pub serving: watch::Receiver<bool>,
    /// The status, as soon as there is one.
    pub status: Arc<OnceLock<StatusSource>>,
}

/// The pages as an axum router.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/status", get(show_status))
        .with_state(pages)
}

/// Answers until `stop` is true or its sender is gone.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    pages: Pages,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let token = CancellationToken::new();
    let stopped = token.clone();
    let stopping = async move {
        let _ = stop.wait_for(|stop| *stop).await;
        token.cancel();
    };
    let server = pages::serve(listener, acceptor, router(pages), SETTINGS, Arc::new(count), stopped);
    let stopping = async {
        stopping.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        outcome = server => outcome.context("the http server failed"),
        // Whoever has not read its answer by now does not hold up the stop.
        () = stopping => Ok(()),
    }
}

/// Counts a connection that did not end by itself, among those of gRPC.
fn count(ended: Ended) {
    let (metrics, reason) = (crate::metrics::get(), [KeyValue::new("reason", ended.as_str())]);
    match ended {
        Ended::Refused(_) => metrics.refused_connections.add(1, &reason),
        Ended::Cut(_) => metrics.closed_connections.add(1, &reason),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&pages.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn healthz(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if *pages.serving.borrow() {
        (StatusCode::OK, "serving\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not serving\n")
    }
}

async fn show_status(State(pages): State<Pages>) -> Response {
    let Some(status) = pages.status.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "phase": "starting" }))).into_response();
    };
    match tokio::time::timeout(Duration::from_secs(5), status()).await {
        Ok(status) => Json(status).into_response(),
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn page(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn pages_show_health_metrics_and_status() {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::IntCounter::new("a_total", "help").unwrap())).unwrap();
        let (serving, seen) = watch::channel(false);
        let status = Arc::new(OnceLock::<StatusSource>::new());
        let router = router(Pages { registry, serving: seen, status: Arc::clone(&status) });
        for path in ["/healthz", "/status"] {
            assert_eq!(page(&router, path).await.0, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert!(status.set(Arc::new(|| Box::pin(async { json!({ "epoch": 1 }) }))).is_ok());
        serving.send(true).unwrap();

        assert_eq!(page(&router, "/healthz").await, (StatusCode::OK, "serving\n".into()));
        assert!(page(&router, "/metrics").await.1.contains("a_total 0"));
        assert_eq!(page(&router, "/status").await.1, "{\"epoch\":1}");
        serving.send(false).unwrap();
        assert_eq!(page(&router, "/healthz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page(&router, "/else").await.0, StatusCode::NOT_FOUND);
    }
}
