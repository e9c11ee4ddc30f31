//! What a light client shows over HTTP.
//!
//! | path | shows |
//! |---|---|
//! | `/health` | that it runs |
//! | `/status` | logs, counts, trouble: what `da light status` prints |
//! | `/blobs?standing=withheld&after=ID&limit=100` | blobs, by id |
//! | `/blobs/ID` | one blob |
//! | `/logs/ADDRESS?from=A&to=B` | what may be said of a range of a log |
//! | `/checkpoints` | signed checkpoints, for other light clients to compare |
//! | `/metrics` | Prometheus |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use meridian_proofs::Address;
use meridian_proofs::ids::BlobId;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;

use super::record::Standing;
use super::report::LightReport;
use super::{LightClient, LightError};
use crate::guard::{Limits, pages};
use crate::tls::Acceptor;

/// Who may connect, and how long each may stand still.
const PAGES: pages::Settings = pages::Settings {
    limits: Limits { connections: 256, per_address: 64, stall: Duration::from_secs(30) },
    head: Duration::from_secs(30),
};
/// Answers that are made at a time.
const AT_ONCE: usize = 16;
/// Most blobs in an answer.
const MOST: usize = 1_000;
/// Most entries in a range of a log.
const MOST_ENTRIES: u64 = 100_000;

/// The routes of a light client.
pub fn router(client: Arc<LightClient>) -> Router {
    Router::new()
        .route("/health", get(async || "serving\n"))
        .route("/status", get(status))
        .route("/blobs", get(blobs))
        .route("/blobs/{id}", get(blob))
        .route("/logs/{log}", get(log))
        .route("/checkpoints", get(checkpoints))
        .route("/metrics", get(metrics))
        .layer(GlobalConcurrencyLimitLayer::new(AT_ONCE))
        .with_state(client)
}

/// Answers until it is stopped.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    client: Arc<LightClient>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let counter = pages::counter("meridian_light_ended_connections_total");
    let (ended, count) = counter.map_err(std::io::Error::other)?;
    pages::serve(listener, acceptor, router(client).layer(Extension(ended)), PAGES, count, stop).await
}

fn refused(status: StatusCode, what: &str) -> Response {
    #[derive(Serialize)]
    struct Refusal {
        error: String,
    }
    (status, Json(Refusal { error: what.to_owned() })).into_response()
}

/// An answer, or that there is none. What went wrong inside is in the log alone.
fn answer<T: Serialize>(answer: Result<Option<T>, LightError>) -> Response {
    match answer {
        Ok(Some(answer)) => Json(answer).into_response(),
        Ok(None) => refused(StatusCode::NOT_FOUND, "no followed log names it"),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be made");
            refused(StatusCode::INTERNAL_SERVER_ERROR, "the state cannot be read")
        }
    }
}

async fn status(State(client): State<Arc<LightClient>>) -> Response {
    answer(client.report().await.map(Some))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobsQuery {
    standing: Option<Standing>,
    after: Option<BlobId>,
    limit: Option<usize>,
}

async fn blobs(State(client): State<Arc<LightClient>>, Query(query): Query<BlobsQuery>) -> Response {
    let limit = query.limit.unwrap_or(100);
    if limit == 0 || limit > MOST {
        return refused(StatusCode::BAD_REQUEST, &format!("limit must be 1 to {MOST}"));
    }
    let standings = query.standing.map_or_else(|| Standing::ALL.to_vec(), |standing| vec![standing]);
    answer(client.blobs_report(query.after, standings, limit).await.map(Some))
}

async fn blob(State(client): State<Arc<LightClient>>, Path(id): Path<BlobId>) -> Response {
    answer(client.blob_report(id).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeQuery {
    from: Option<u64>,
    to: Option<u64>,
}

async fn log(
    State(client): State<Arc<LightClient>>,
    Path(log): Path<Address>,
    Query(query): Query<RangeQuery>,
) -> Response {
    let followed = match client.with_state(move |state| state.log(&log)).await {
        Ok(record) => record.size,
        Err(error) => return answer::<()>(Err(error)),
    };
    let to = query.to.unwrap_or(followed);
    let from = query.from.unwrap_or(to.saturating_sub(MOST_ENTRIES));
    if from > to {
        return refused(StatusCode::BAD_REQUEST, "from is above to");
    }
    if to - from > MOST_ENTRIES {
        return refused(StatusCode::BAD_REQUEST, &format!("a range has at most {MOST_ENTRIES} entries"));
    }
    answer(client.range_report(log, from, to).await)
}

async fn checkpoints(State(client): State<Arc<LightClient>>) -> Response {
    answer(client.statements().await.map(Some))
}

async fn metrics(
    State(client): State<Arc<LightClient>>,
    ended: Option<Extension<IntCounterVec>>,
) -> Response {
    let report = match client.report().await {
        Ok(report) => report,
        Err(error) => return answer::<()>(Err(error)),
    };
    let mut text = Vec::new();
    let encoded = gauges(&report).and_then(|registry| {
        if let Some(Extension(ended)) = ended {
            registry.register(Box::new(ended))?;
        }
        TextEncoder::new().encode(&registry.gather(), &mut text)
    });
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What a status says, as gauges.
fn gauges(report: &LightReport) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, labels: &[&str]| {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(gauge.clone()))?;
        prometheus::Result::Ok(gauge)
    };
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let blobs =
        gauge("meridian_light_blobs", "Blobs of all followed logs, by how they stand.", &["standing"])?;
    let counts = &report.blobs;
    for (standing, count) in [
        (Standing::Pending, counts.pending),
        (Standing::Withheld, counts.withheld),
        (Standing::Sampled, counts.sampled),
        (Standing::Exact, counts.exact),
        (Standing::Inconsistent, counts.inconsistent),
        (Standing::Missed, counts.missed),
    ] {
        blobs.with_label_values(&[standing.as_str()]).set(number(count));
    }
    let size = gauge("meridian_light_log_entries", "Items of a log that were proved.", &["log"])?;
    let head = gauge("meridian_light_log_head_entries", "Items under the latest head of a log.", &["log"])?;
    let states = gauge("meridian_light_log_state", "1 for the state that a log is in.", &["log", "state"])?;
    for log in &report.logs {
        size.with_label_values(&[&log.log]).set(number(log.size));
        head.with_label_values(&[&log.log]).set(number(log.head_size));
        for state in ["followed", "behind", "withheld", "contradicts"] {
            states.with_label_values(&[&*log.log, state]).set(i64::from(log.state == state));
        }
    }
    let evidence = gauge("meridian_light_evidence_files", "Files with evidence against gateways.", &[])?;
    let none: [&str; 0] = [];
    evidence.with_label_values(&none).set(number(u64::try_from(report.evidence.len()).unwrap_or(u64::MAX)));
    if let Some(time) = report.block_timestamp {
        let block = gauge(
            "meridian_light_block_timestamp_seconds",
            "Unix seconds of the settled block up to which the chain was read.",
            &[],
        )?;
        block.with_label_values(&none).set(number(time));
    }
    Ok(registry)
}
