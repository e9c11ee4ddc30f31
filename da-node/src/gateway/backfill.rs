//! Brings blobs to seats that did not get them before their certificate, out of the kept payloads.
//!
//! One task for each seat, so that no seat waits for another; few blobs are encoded at a time. What a seat did not
//! answer for stays written down, so a restart goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::encode::{self, EncodedBlob};
use meridian_proofs::shape::PayloadLength;
use meridian_proto::error::ApiError;

use super::core::Core;
use super::dispersal::{self, Route};
use super::link::Rows;
use super::store::Owed;
use super::submit::footprint;

/// How often a seat's list is gone through when nothing new was put on it.
const SWEEP: Duration = Duration::from_secs(60);

/// Wait after blobs were left out because puts need the memory.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Brings one seat what it lacks.
pub(super) async fn run(core: Arc<Core>, seat: usize) {
    let mut up = core.seats.up(seat);
    let address = core.committee.seats()[seat].address;
    let mut after = None;
    loop {
        if !*up.borrow_and_update() {
            if up.changed().await.is_err() {
                return;
            }
            continue;
        }
        let store = core.store.clone();
        let next = tokio::task::spawn_blocking(move || store.owed(address, after)).await;
        let owed = match next {
            Ok(Ok(owed)) => owed,
            Ok(Err(error)) => {
                tracing::error!(%error, "the list of uploads cannot be read");
                tokio::time::sleep(SWEEP).await;
                continue;
            }
            Err(_) => return,
        };
        let Some(owed) = owed else {
            after = None;
            tokio::select! {
                () = core.backfills[seat].notified() => {}
                _ = up.changed() => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
            continue;
        };
        after = Some(owed.id);
        if core.clock.now() >= owed.expiry {
            core.forget(owed.id).await;
            continue;
        }
        let Some(route) = core.route(seat, owed.epoch) else {
            // Nobody takes uploads of that epoch any more: the replica repairs what it lacks.
            core.delivered(owed.id, owed.epoch, seat).await;
            continue;
        };
        if core.live.contains(owed.id, seat) {
            continue;
        }
        let mut pressure = core.pressure.subscribe();
        tokio::select! {
            done = bring(&core, seat, route, &owed) => match done {
                Ok(()) => {}
                Err(error) => {
                    tracing::info!(%address, blob = %owed.id, %error, "a blob could not be brought to its replica");
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
            _ = pressure.changed() => tokio::time::sleep(BACK_OFF).await,
            _ = up.changed() => {}
        }
    }
}

/// Encodes one blob again and sends one seat its rows.
async fn bring(core: &Arc<Core>, seat: usize, route: Route, owed: &Owed) -> Result<(), ApiError> {
    let slot = core.backfill_slots.acquire().await;
    let _slot = slot.map_err(|_| ApiError::internal("the limit on uploads is gone"))?;
    let length = PayloadLength::try_from(owed.length)
        .map_err(|_| ApiError::internal("a kept length is out of range"))?;
    let memory = core.try_reserve(footprint(length))?;
    let (id, worker) = (owed.id, core.clone());
    // The work goes on when this is given up, so the memory goes with it.
    let work = move || -> Result<Option<Rows>, ApiError> {
        let Some((header, payload)) = worker.store.kept(id)? else { return Ok(None) };
        let blob = encode::encode_reusing(&worker.buffers, &payload, header.kzg_root);
        let blob: EncodedBlob =
            blob.map_err(|error| ApiError::internal(format!("a kept payload: {error}")))?;
        if blob.id() == id {
            Ok(Some(Rows::new(blob, memory)))
        } else {
            Err(ApiError::internal("a kept payload has another blob id"))
        }
    };
    if let Some(rows) = core.cpu.run(work).await? {
        dispersal::send(core, seat, route, Arc::new(rows)).await?;
        core.delivered(id, owed.epoch, seat).await;
    }
    Ok(())
}
