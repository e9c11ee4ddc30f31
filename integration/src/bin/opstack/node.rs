//! What op-geth and op-node say.

use std::time::Duration;

use alloy::primitives::B256;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Pause between two looks at something that is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How far a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Newest block that it has.
    pub(crate) newest: u64,
    /// Newest block that follows from L1 and what was put.
    pub(crate) safe: u64,
}

/// An op-geth and its op-node, for whoever asks them.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where op-geth answers.
    pub(crate) l2_url: String,
    /// Where op-node answers.
    pub(crate) rollup_url: String,
    /// op-geth.
    pub(crate) l2: DynProvider,
    rollup: DynProvider,
}

impl Node {
    /// A node that answers on these ports.
    ///
    /// # Errors
    /// Never, as ports make good addresses.
    pub(crate) fn on(l2: u16, rollup: u16) -> Result<Self> {
        let (l2_url, rollup_url) = (local(l2), local(rollup));
        let (l2, rollup) = (provider(&l2_url)?, provider(&rollup_url)?);
        Ok(Self { l2_url, rollup_url, l2, rollup })
    }

    /// How far it is.
    ///
    /// # Errors
    /// When op-node does not answer.
    pub(crate) async fn heads(&self) -> Result<Heads> {
        let status: Value = self.rollup.raw_request("optimism_syncStatus".into(), ()).await?;
        let number = |head: &str| {
            status[head]["number"].as_u64().with_context(|| format!("op-node tells no {head}: {status}"))
        };
        Ok(Heads { newest: number("unsafe_l2")?, safe: number("safe_l2")? })
    }

    /// The hash of a block.
    ///
    /// # Errors
    /// When op-geth does not answer or does not have it.
    pub(crate) async fn hash(&self, number: u64) -> Result<B256> {
        let block = self.l2.get_block_by_number(number.into()).await?;
        let block = block.with_context(|| format!("{} has no block {number}", self.l2_url))?;
        Ok(block.header.hash)
    }
}

/// An address on this machine.
pub(crate) fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A client without a key.
///
/// # Errors
/// When that is no address.
pub(crate) fn provider(url: &str) -> Result<DynProvider> {
    Ok(ProviderBuilder::new().connect_http(url.parse()?).erased())
}

/// Waits until something is there.
///
/// # Errors
/// When it is not there in time.
pub(crate) async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what}: not in {} s", within.as_secs());
        sleep(LOOK_EVERY).await;
    }
}
