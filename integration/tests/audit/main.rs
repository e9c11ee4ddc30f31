//! Audits of real networks: whoever lies, loses rows or is gone is named, over epochs and on a chain, and on a page.

mod chain;
mod epochs;
mod liars;
mod page;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::audit::{Audit, Scope, audit};
use meridian_client::fetch::Readers;
use meridian_integration::network::{Network, eventually};
use meridian_integration::programs::Programs;
use serde_json::Value;

/// Longest wait for anything that has to come.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything, by all rows or by some.
fn scope(is_deep: bool) -> Scope {
    Scope { since: 0, blob: None, log: None, is_deep, samples: 3 }
}

/// Audits a network with nothing measured yet.
async fn audited(network: &Network, scope: Scope) -> Result<Audit> {
    let readers = Readers::new(network.view().subscribe(), network.channels().clone());
    Ok(audit(&readers, scope, &Silent, &Silent).await?)
}

/// Waits until the replicas at these places hold so many blobs: a put waits for enough regions, not for all.
async fn held(network: &Network, places: impl IntoIterator<Item = usize>, blobs: u64) -> Result<()> {
    for place in places {
        let rpc = network.channels().replica(&network.seat(place)?.endpoint)?;
        eventually(LIMIT, "a replica that holds every blob", async || {
            (rpc.status().await.ok()?.blobs >= blobs).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Runs `da`, and gives the object that it prints and its exit code.
fn da(config: &Path, arguments: &[&str]) -> Result<(Value, i32)> {
    let mut command: Command = Programs::build()?.da();
    command.env("XDG_CONFIG_HOME", config).env("XDG_CACHE_HOME", config).arg("--json").args(arguments);
    let output = command.output()?;
    let (out, said) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    let code = output.status.code().context("it was killed")?;
    ensure!(!out.is_empty(), "da {arguments:?}: {code} {said}");
    Ok((serde_json::from_str(&out)?, code))
}
