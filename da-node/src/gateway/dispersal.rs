//! Sends a blob to every seat at once and keeps count of who holds it.
//!
//! One [`Dispersal`] for a blob, however many puts want it. A slow seat holds up nobody: each has its own tasks and its
//! own limit. What a seat did not get before the entry was appended comes later out of the kept payload, see
//! [`super::backfill`].

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meridian_client::rpc::DisperseOutcome;
use meridian_proofs::checkpoint::{self, SignedDispersal};
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::BlobId;
use meridian_proto::error::{ApiError, Class};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::core::Core;
use super::link::{Rows, SeatLink};
use super::log::until;
use super::seats::{Call, class_of, grace};
use crate::metrics::{self, KeyValue};

/// Seconds for which a permission to upload holds: half of what protocol section 3 allows, so that the clock of a replica
/// may be that much behind or ahead.
const PERMIT_SECONDS: u64 = 30;

/// A blob on its way to the seats.
pub(super) struct Dispersal {
    id: BlobId,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    begun: Instant,
    waiting: AtomicUsize,
    /// Nobody waits for the blob any longer and it is in no log: forget it.
    abandoned: CancellationToken,
}

struct State {
    /// Who holds it, by place of the seat.
    answered: Vec<bool>,
    /// Dropped once the payload is kept: tasks that are sending have their own.
    rows: Option<Arc<Rows>>,
    /// Whether the store knows which seats miss it.
    recorded: bool,
    /// The last refusal that asks to back off.
    overloaded: Option<ApiError>,
}

impl Dispersal {
    /// Waits until every member of S holds the blob. Says whether they do: not when the epoch is cut before.
    ///
    /// A member that is slow while others would do without it is waited for as long again as these took, and then left out
    /// of S: one slow region of five costs the first puts that meet it twice their time, and those after them nothing.
    ///
    /// # Errors
    /// `QUORUM_UNREACHABLE` when there is no S; or what replicas said, when it is they who are overloaded.
    pub(super) async fn complete(&self, core: &Core) -> Result<bool, ApiError> {
        let mut quorum = core.seats.quorum();
        let mut changed = self.changed.subscribe();
        let mut late = None;
        loop {
            changed.borrow_and_update();
            // Not borrowed while seats are looked at: whoever changes a seat changes S under the lock of the seats.
            let members = quorum.borrow_and_update().clone();
            match &members {
                _ if core.cut.is_cancelled() => return Ok(false),
                Ok(members) if self.covers(members) => return Ok(true),
                Ok(_) if late.is_none() && core.seats.would_do(|seat| self.has(seat)) => {
                    late = Some(grace(self.begun));
                }
                Ok(_) => {}
                Err(missing) => {
                    let overloaded = self.lock().overloaded.clone();
                    return Err(overloaded.unwrap_or_else(|| core.seats.unreachable(missing)));
                }
            }
            tokio::select! {
                _ = quorum.changed() => {}
                _ = changed.changed() => {}
                () = core.cut.cancelled() => {}
                () = until(late) => {
                    late = None;
                    core.seats.leave_behind(|seat| !self.has(seat));
                }
            }
        }
    }

    fn has(&self, seat: usize) -> bool {
        self.lock().answered[seat]
    }

    /// Whether all of these seats hold the blob, or an entry of it is in the log: then the kept payload, or their own
    /// repair, brings it to those that do not.
    pub(super) fn covers(&self, members: &[usize]) -> bool {
        let state = self.lock();
        state.rows.is_none() || members.iter().all(|&seat| state.answered[seat])
    }

    /// The rows and the seats that miss the blob. From now on the store keeps count.
    pub(super) fn record(&self) -> (Option<Arc<Rows>>, Vec<usize>) {
        let mut state = self.lock();
        state.recorded = true;
        let missing =
            state.answered.iter().enumerate().filter(|(_, answered)| !**answered).map(|(seat, _)| seat);
        (state.rows.clone(), missing.collect())
    }

    /// Takes back [`Self::record`]: nothing was stored.
    pub(super) fn unrecord(&self) {
        self.lock().recorded = false;
    }

    /// The payload is kept: seats that are not being sent to now get theirs out of the store.
    pub(super) fn kept(&self) {
        self.lock().rows = None;
        self.changed.send_replace(());
    }

    fn is_kept(&self) -> bool {
        self.lock().rows.is_none()
    }

    /// Notes that a seat holds the blob, and says whether the store keeps count.
    fn answer(&self, seat: usize) -> bool {
        let mut state = self.lock();
        state.answered[seat] = true;
        let recorded = state.recorded;
        drop(state);
        self.changed.send_replace(());
        recorded
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blobs on their way, by id.
#[derive(Default)]
pub(super) struct Dispersals(Mutex<HashMap<BlobId, Arc<Dispersal>>>);

/// Which uploads of fresh blobs are being tried, so that nothing is sent twice.
#[derive(Default)]
pub(super) struct Live(Mutex<HashSet<(BlobId, usize)>>);

impl Live {
    /// Whether a fresh blob is being sent to a seat.
    pub(super) fn contains(&self, id: BlobId, seat: usize) -> bool {
        self.lock().contains(&(id, seat))
    }

    fn enter(&self, id: BlobId, seat: usize) -> Entered<'_> {
        self.lock().insert((id, seat));
        Entered { live: self, id, seat }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(BlobId, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entered<'a> {
    live: &'a Live,
    id: BlobId,
    seat: usize,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.live.lock().remove(&(self.id, self.seat));
    }
}

/// A put's share in a dispersal. The last one to go away before the entry is appended ends the dispersal.
pub(super) struct Share {
    dispersal: Arc<Dispersal>,
    /// Kept until the put is appended: the next epoch may need them.
    rows: Arc<Rows>,
    core: Arc<Core>,
}

impl Share {
    pub(super) fn rows(&self) -> Arc<Rows> {
        self.rows.clone()
    }
}

impl std::ops::Deref for Share {
    type Target = Arc<Dispersal>;
    fn deref(&self) -> &Self::Target {
        &self.dispersal
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut dispersals = self.core.dispersals.lock();
        if self.dispersal.waiting.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if !self.dispersal.lock().recorded {
            self.dispersal.abandoned.cancel();
        }
        if dispersals.get(&self.dispersal.id).is_some_and(|own| Arc::ptr_eq(own, &self.dispersal)) {
            dispersals.remove(&self.dispersal.id);
        }
    }
}

impl Dispersals {
    /// Joins the dispersal of the blob, or begins it. The rows are dropped when there is one already.
    pub(super) fn join(core: &Arc<Core>, rows: Arc<Rows>) -> Share {
        let id = rows.blob.id();
        let mut dispersals = core.dispersals.lock();
        if let Some(dispersal) = dispersals.get(&id) {
            dispersal.waiting.fetch_add(1, Ordering::AcqRel);
            let rows = dispersal.lock().rows.clone().unwrap_or(rows);
            return Share { dispersal: dispersal.clone(), rows, core: core.clone() };
        }
        let seats = core.committee.seats().len();
        let dispersal = Arc::new(Dispersal {
            id,
            state: Mutex::new(State {
                answered: vec![false; seats],
                rows: Some(rows.clone()),
                recorded: false,
                overloaded: None,
            }),
            changed: watch::Sender::new(()),
            begun: Instant::now(),
            waiting: AtomicUsize::new(1),
            abandoned: CancellationToken::new(),
        });
        dispersals.insert(id, dispersal.clone());
        drop(dispersals);
        for seat in 0..seats {
            let task = upload(core.clone(), dispersal.clone(), seat, rows.clone());
            core.tasks.spawn(task.in_current_span());
        }
        Share { dispersal, rows, core: core.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobId, Arc<Dispersal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one seat its rows, again and again while puts wait for the blob.
async fn upload(core: Arc<Core>, dispersal: Arc<Dispersal>, seat: usize, rows: Arc<Rows>) {
    let _live = core.live.enter(dispersal.id, seat);
    let mut up = core.seats.up(seat);
    let mut changed = dispersal.changed.subscribe();
    let mut pressure = core.pressure.subscribe();
    loop {
        if !*up.borrow_and_update() {
            if dispersal.is_kept() {
                break;
            }
            tokio::select! {
                _ = up.changed() => {}
                _ = changed.changed() => {}
                () = dispersal.abandoned.cancelled() => return,
                () = core.stop.cancelled() => return,
            }
            continue;
        }
        let Some(route) = core.route(seat, core.committee.epoch()) else { return };
        let mut attempt = std::pin::pin!(send(&core, seat, route, rows.clone()));
        let answer = loop {
            tokio::select! {
                answer = &mut attempt => break Some(answer),
                _ = pressure.changed() => if dispersal.is_kept() { break None },
                () = dispersal.abandoned.cancelled() => return,
                () = core.stop.cancelled() => return,
            }
        };
        match answer {
            Some(Ok(_)) => {
                let recorded = dispersal.answer(seat);
                if recorded {
                    // That the seat misses the blob can be taken back once it is written down.
                    while !dispersal.is_kept() {
                        tokio::select! {
                            _ = changed.changed() => {}
                            () = dispersal.abandoned.cancelled() => return,
                            () = core.stop.cancelled() => return,
                        }
                    }
                    core.delivered(dispersal.id, core.committee.epoch(), seat).await;
                }
                return;
            }
            Some(Err(error)) if error.class() == Class::Overloaded => {
                dispersal.lock().overloaded = Some(error);
            }
            Some(Err(_)) => {}
            None => break,
        }
        if dispersal.is_kept() {
            break;
        }
    }
    core.backfills[seat].notify_one();
}

/// The way of rows to a seat under one epoch.
pub(super) struct Route {
    pub(super) committee: Arc<Committee>,
    /// Of the seat in that committee.
    pub(super) place: usize,
    pub(super) link: Arc<dyn SeatLink>,
}

/// Sends one seat its rows, once.
pub(super) async fn send(
    core: &Core,
    seat: usize,
    route: Route,
    rows: Arc<Rows>,
) -> Result<DisperseOutcome, ApiError> {
    let Route { committee, place, link } = route;
    let member = &committee.seats()[place];
    let turn = core.turns[seat].acquire().await;
    let _turn = turn.map_err(|_| ApiError::internal("the limit on uploads is gone"))?;
    let permit = checkpoint::Dispersal {
        gateway: core.address,
        replica: member.address,
        epoch: committee.epoch(),
        blob_id: rows.blob.id(),
        deadline: core.clock.now().saturating_add(PERMIT_SECONDS),
    };
    let permit = SignedDispersal::sign(permit, &core.domain, &core.key);
    let bytes = rows.upload_bytes(&committee, member);
    let started = Instant::now();
    let answer = core.seats.watched(seat, Call::Upload(bytes), link.disperse(permit, rows)).await;
    let result = match &answer {
        Ok(DisperseOutcome::Stored) => "stored",
        Ok(DisperseOutcome::Held) => "held",
        Err(error) => class_of(error),
    };
    let region = KeyValue::new("region", i64::from(member.region.0));
    metrics::get().dispersals.add(1, &[region.clone(), KeyValue::new("result", result)]);
    metrics::get().dispersal_seconds.record(started.elapsed().as_secs_f64(), &[region]);
    answer
}
