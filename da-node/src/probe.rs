//! Asks a host for its health.

use std::time::Duration;

use anyhow::{Result, bail};
use meridian_client::rpc::Channels;
use meridian_client::tls::Trust;
use meridian_proto::error::ApiError;
use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Time that a host has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Whether the host at this endpoint says by `grpc.health.v1` that it serves.
pub async fn is_serving(endpoint: &str, trust: &Trust) -> bool {
    ask(endpoint, trust).await.is_ok()
}

/// Asks once; an error says why it does not serve.
async fn ask(endpoint: &str, trust: &Trust) -> Result<(), String> {
    let check = async {
        let channel = Channels::new().trusting(trust.clone()).channel(endpoint);
        let mut client = HealthClient::new(channel.map_err(|error| error.message)?);
        let answer = client.check(HealthCheckRequest { service: String::new() }).await;
        let answer = answer.map_err(|status| ApiError::from_status(&status).message)?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            _ => Err("it says so".to_owned()),
        }
    };
    timeout(ANSWER_WITHIN, check).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
}

/// Waits until the host serves.
///
/// # Errors
/// When it does not within that time.
pub async fn until_serving(endpoint: &str, trust: &Trust, within: Duration) -> Result<()> {
    let end = Instant::now() + within;
    loop {
        match ask(endpoint, trust).await {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= end => bail!("{endpoint} does not serve: {why}"),
            Err(_) => sleep(ASK_EVERY).await,
        }
    }
}
