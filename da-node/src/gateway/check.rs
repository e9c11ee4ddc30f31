//! Looks after the seats: finds those that are back, and compares their checkpoint of this log with the disk.
//!
//! No seat counts before it was compared once, so there is no S, and nothing is appended or signed, before
//! `minCopies` regions said what they know of the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use super::core::Core;

/// Time without a word from a seat after which it is asked whether it is there.
const IDLE: Duration = Duration::from_secs(2);

/// Looks after one seat.
pub(super) async fn run(core: Arc<Core>, seat: usize) {
    let mut look = tokio::time::interval(core.settings.probe());
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !core.seats.wants_probe(seat, IDLE) {
            continue;
        }
        let started = Instant::now();
        let answer = if core.checked[seat].load(Ordering::Acquire) {
            core.links[seat].probe().await
        } else {
            compare(&core, seat).await
        };
        match answer {
            Ok(()) => core.seats.probed(seat, started.elapsed()),
            Err(error) => core.seats.failed(seat, &error),
        }
    }
}

/// Compares a seat's checkpoint of this log with the log.
async fn compare(core: &Arc<Core>, seat: usize) -> Result<(), ApiError> {
    let found = core.links[seat].checkpoint(core.address).await?;
    if let Some(found) = found {
        let size = found.signed.checkpoint.size;
        if found.signed.checkpoint.gateway != core.address || found.signed.verify(&core.domain).is_err() {
            return Err(core.seats.lied(seat, "the checkpoint is not one of this gateway"));
        }
        if !is_ours(core, found).await? {
            let message = "replicas hold a longer or another log of this gateway than its disk: \
                           it must retire its key and start a new log under a new one";
            let error = ApiError::new(Reason::LogRetired, message);
            core.lose(error.clone());
            return Err(error);
        }
        // Where nothing is to be cosigned yet, who has cosigned the closing has cosigned everything.
        let latest = core.checkpoints.head().is_none() && size >= core.opening;
        core.seats.cosigned(seat, size, latest);
    } else if core.opening > 0 {
        core.seats.behind(seat);
    }
    core.checked[seat].store(true, Ordering::Release);
    Ok(())
}

/// Whether a checkpoint that this gateway's key signed is of the log on this disk.
async fn is_ours(core: &Arc<Core>, found: CosignedCheckpoint) -> Result<bool, ApiError> {
    let checkpoint = found.signed.checkpoint;
    let store = core.store.clone();
    let ours = tokio::task::spawn_blocking(move || store.root_at(checkpoint.size)).await;
    let ours = ours.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(ours == Some(checkpoint.root))
}
