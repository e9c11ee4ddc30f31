//! Compares checkpoints with other light clients, over their HTTP ports.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::transports::http::reqwest::{Client, Url, redirect};
use futures::future::join_all;
use meridian_proofs::Address;
use serde::de::DeserializeOwned;

use super::compare::Compared;
use super::{LightClient, LightError};
use crate::evidence::{MAX_FILE, Statement};
use crate::tls::Trust;

/// Longest wait for a peer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Checkpoints that are shown and compared at a time: the longest of each log.
const COMPARED: usize = 64;
/// Longest time for comparing with one peer.
const ROUND: Duration = Duration::from_secs(60);

/// Asks other light clients, or this machine's own, over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    client: Client,
    url: Url,
}

impl Peer {
    /// The light client at a URL.
    pub(crate) fn new(url: Url, trust: &Trust) -> Result<Self, String> {
        let client = Client::builder().timeout(DEADLINE).redirect(redirect::Policy::none());
        let client = match trust.pages() {
            Some(config) => client.tls_backend_preconfigured(config),
            None => client,
        };
        Ok(Self { client: client.build().map_err(|error| error.to_string())?, url })
    }

    /// What it answers at a path: JSON of no more than 4 MiB.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let url = self.url.join(path).map_err(|error| error.to_string())?;
        let failed = |error: alloy::transports::http::reqwest::Error| error.without_url().to_string();
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the answer is {status}"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_FILE {
                return Err(format!("the answer is longer than {MAX_FILE} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("the answer is not what was asked for: {error}"))
    }
}

impl LightClient {
    /// Compares what others have seen with what was seen here. A peer that is silent or talks nonsense is passed over: it
    /// proves nothing.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub(super) async fn compare_with_peers(&self) -> Result<(), LightError> {
        let answers = join_all(
            self.peers
                .iter()
                .map(|peer| async move { (peer, peer.get::<Vec<Statement>>("checkpoints").await) }),
        );
        let kept = self.with_state(|state| state.checkpoints(None)).await?;
        let kept = kept.into_iter().map(|kept| kept.signed.checkpoint);
        let sizes: BTreeSet<(Address, u64)> = kept.map(|kept| (kept.gateway, kept.size)).collect();
        for (peer, answer) in answers.await {
            let statements = match answer {
                Ok(statements) => statements,
                Err(error) => {
                    tracing::warn!(peer = %peer.url, error, "a peer tells nothing");
                    continue;
                }
            };
            let compared = tokio::time::timeout(ROUND, async {
                // One of which nothing can be proved is enough of a log.
                let mut unproved = BTreeSet::new();
                let mut checkpoints: Vec<_> = statements
                    .iter()
                    .rev()
                    .take(COMPARED)
                    .filter_map(|statement| statement.checkpoint().ok())
                    .collect();
                // Roots of one size are compared without asking anybody.
                checkpoints.sort_by_key(|it| {
                    let signed = it.signed.checkpoint;
                    !sizes.contains(&(signed.gateway, signed.size))
                });
                for checkpoint in checkpoints {
                    let log = checkpoint.signed.checkpoint.gateway;
                    if unproved.contains(&log) {
                        continue;
                    }
                    match self.compare(&checkpoint).await? {
                        Compared::Conflicts(file) => tracing::error!(peer = %peer.url, file, "evidence"),
                        Compared::Unproved => drop(unproved.insert(log)),
                        other => tracing::debug!(peer = %peer.url, ?other, "compared with a peer"),
                    }
                }
                Ok::<_, LightError>(())
            });
            match compared.await {
                Ok(compared) => compared?,
                Err(_) => tracing::warn!(peer = %peer.url, "comparing with a peer takes too long"),
            }
        }
        Ok(())
    }

    /// The checkpoints that others may compare, ascending by log and size.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(super) async fn statements(&self) -> Result<Vec<Statement>, LightError> {
        self.with_state(|state| {
            let logs = state.logs()?;
            let most = (COMPARED / logs.len().max(1)).max(1);
            let mut statements = Vec::new();
            for log in logs.keys() {
                let checkpoints = state.checkpoints(Some(log))?;
                let first = checkpoints.len().saturating_sub(most);
                statements.extend(checkpoints[first..].iter().map(Statement::from));
            }
            Ok(statements)
        })
        .await
    }
}
