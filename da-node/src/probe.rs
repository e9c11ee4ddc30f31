//! Asks a host for its health.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Time that a host has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Whether the host at this endpoint says by `grpc.health.v1` that it serves.
pub async fn is_serving(endpoint: &str) -> bool {
    let check = async {
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).ok()?;
        let mut client = HealthClient::new(endpoint.connect().await.ok()?);
        let answer = client.check(HealthCheckRequest { service: String::new() }).await.ok()?;
        Some(answer.into_inner().status() == ServingStatus::Serving)
    };
    timeout(ANSWER_WITHIN, check).await.ok().flatten().unwrap_or(false)
}

/// Waits until the host serves.
///
/// # Errors
/// When it does not within that time.
pub async fn until_serving(endpoint: &str, within: Duration) -> Result<()> {
    let end = Instant::now() + within;
    while !is_serving(endpoint).await {
        ensure!(Instant::now() < end, "{endpoint} does not serve");
        sleep(ASK_EVERY).await;
    }
    Ok(())
}
