//! `da-node scrub` and `da-node repair`: what a replica's operator looks at when a disk is in doubt.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meridian_client::rpc::Channels;
use meridian_client::tls::Trust;
use meridian_proto::convert::ReplicaStatus;
use serde_json::json;

use crate::replica::scrub::{Checked, check_store};

/// Time between two looks at a replica that is watched.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for its answer.
const CALL: Duration = Duration::from_secs(5);

/// Checks the store of a replica that does not run. What is damaged is noted, and repaired after its next start.
///
/// # Errors
/// When the store cannot be opened, or something in it is damaged.
pub fn scrub(data_dir: &Path, json: bool) -> Result<()> {
    crate::run::raise_open_files();
    let bar = bar(json, "{bar:32} {pos}/{len} blobs  {msg}  {elapsed}, {eta} left");
    let checked = check_store(data_dir, &mut |checked: &Checked, all| {
        bar.set_length(all);
        bar.set_position(checked.blobs);
        bar.set_message(format!("{} MiB", checked.bytes >> 20));
    });
    bar.finish_and_clear();
    let Checked { blobs, bytes, damaged } = checked?;
    if json {
        let damaged: Vec<_> = damaged
            .iter()
            .map(|it| json!({ "blob": it.blob.to_string(), "part": it.part, "first_row": it.first_row }))
            .collect();
        println!("{}", json!({ "blobs": blobs, "bytes": bytes, "damaged": damaged }));
    } else {
        println!("{blobs} blobs, {bytes} bytes of rows checked");
        for it in &damaged {
            let row = it.first_row.map_or_else(String::new, |row| format!(", from row {row}"));
            println!("damaged: {} of blob {}{row}", it.part, it.blob);
        }
    }
    if !damaged.is_empty() {
        bail!("{} values are damaged: the replica repairs them from others when it runs", damaged.len());
    }
    Ok(())
}

/// Moves a damaged store of a replica that does not run into a folder beside it.
///
/// # Errors
/// When the store is not damaged, or an earlier one is still there.
pub fn set_aside(data_dir: &Path) -> Result<()> {
    crate::run::raise_open_files();
    let aside = crate::replica::scrub::set_store_aside(data_dir)?;
    println!("moved to {}: the replica begins anew from the others when it is started", aside.display());
    println!("delete that folder when the disk is known to be good");
    Ok(())
}

/// Shows what a replica has left to repair, once or until nothing is left.
///
/// # Errors
/// When it does not answer.
pub async fn repair(endpoint: &str, trust: Trust, watch: bool, json: bool) -> Result<()> {
    let channels = Channels::new().trusting(trust);
    let calls = channels.replica(endpoint).context("no replica there")?.within(CALL);
    let status = async || calls.status().await.with_context(|| format!("{endpoint} does not answer"));
    let mut now = status().await?;
    if watch {
        let bar = bar(json, "{bar:32} {pos}/{len} repaired  {per_sec}  {elapsed}, {eta} left");
        let mut most = 0;
        while left(&now) > 0 {
            most = most.max(left(&now));
            bar.set_length(most);
            bar.set_position(most - left(&now));
            tokio::time::sleep(LOOK).await;
            now = status().await?;
        }
        bar.finish_and_clear();
    }
    if json {
        println!(
            "{}",
            json!({
                "logs_behind": now.logs_behind,
                "repair_left": now.repair_left,
                "quarantined": now.quarantined,
                "scrubbed_at": now.scrubbed_at,
            })
        );
        return Ok(());
    }
    let scrubbed = match now.scrubbed_at {
        0 => "never".to_owned(),
        at => meridian_client::time::utc(at),
    };
    println!("logs to be looked through: {}", now.logs_behind);
    println!("entries without rows:      {}", now.repair_left);
    println!("damaged values:            {}", now.quarantined);
    println!("all checked the last time: {scrubbed}");
    Ok(())
}

/// What is left to repair.
fn left(status: &ReplicaStatus) -> u64 {
    status.logs_behind.saturating_add(status.repair_left).saturating_add(status.quarantined)
}

fn bar(hidden: bool, template: &str) -> ProgressBar {
    let target = if hidden || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, target).with_style(style)
}
