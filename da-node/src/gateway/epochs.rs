//! From epoch to epoch: closes the one that ends, and goes on with the same log in the next. Protocol section 5.7.
//!
//! A little after the next epoch has begun, new puts wait; those whose payload is complete are appended or taken along; a certified
//! checkpoint over all entries is kept on disk, synced, as the closing of the epoch; then the next epoch's [`Core`]
//! starts. So nothing of a later epoch is signed before the earlier one is closed, and what there is to do follows from
//! the log and the view alone, also after a crash at any point between. Where the next epoch has a committee that nobody
//! can use, the log rests until one comes that can be used.

use std::sync::Arc;
use std::time::Duration;

use meridian_client::chain::view::View;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Committee;
use meridian_proofs::committee::epochs::EpochState;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::watch;
use tokio::time::Instant;

use super::core::{Core, Shared, blocking};
use super::store::Loaded;
use crate::metrics;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Seconds for which an epoch that has a successor is worked in, so that nobody whose clock is a little late refuses what
/// is of the next.
pub(super) const MARGIN: u64 = 1;

/// How long a caller is asked to wait for an epoch.
const RETRY: Duration = Duration::from_secs(1);

/// What puts find.
#[derive(Clone)]
pub(super) enum Stage {
    /// An epoch in work.
    Open(Arc<Core>),
    /// An epoch that is being closed: puts wait for the next.
    Closing(Arc<Core>),
    /// No epoch to work in, and why.
    Idle(ApiError),
}

impl Stage {
    /// The epoch in work, or being closed.
    pub(super) fn core(&self) -> Option<&Arc<Core>> {
        match self {
            Self::Open(core) | Self::Closing(core) => Some(core),
            Self::Idle(_) => None,
        }
    }
}

/// Where puts come in.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) stage: watch::Receiver<Stage>,
}

impl Door {
    /// The epoch in work. Waits for a change of epochs, for as long as that may take.
    ///
    /// # Errors
    /// Why there is none; retryable, here or at another gateway.
    pub(super) async fn core(&self) -> Result<Arc<Core>, ApiError> {
        let mut stage = self.stage.clone();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Closing(_)));
        let settled = tokio::time::timeout(self.shared.settings.change_wait(), settled).await;
        match settled {
            Ok(Ok(stage)) => match &*stage {
                Stage::Open(core) => Ok(core.clone()),
                Stage::Closing(_) => Err(closing()),
                Stage::Idle(error) => Err(error.clone()),
            },
            Ok(Err(_)) => Err(ApiError::new(Reason::ShuttingDown, "the gateway is stopping")),
            Err(_) => {
                let stage = self.stage.borrow().clone();
                Err(stage.core().and_then(|core| core.may_append().err()).unwrap_or_else(closing))
            }
        }
    }
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    /// Work in an epoch.
    Work(Arc<Committee>),
    /// Close an epoch that has entries and no closing.
    Close(Arc<Committee>),
    /// Wait for another view or a later time.
    Wait(ApiError),
    /// Sign nothing any more.
    Retire(ApiError),
}

/// Decides what there is to do, by the log and the view.
fn next(gateway: Address, loaded: &Loaded, view: &View, now: u64) -> Next {
    if let Some(error) = retired(gateway, &loaded.closings, view) {
        return Next::Retire(error);
    }
    let current = view.epochs.current(now);
    let epoch = current.committee.epoch();
    let last = loaded.last.map_or(0, |entry| entry.epoch);
    let closed = loaded.closings.last().map_or(0, |closing| closing.signed.checkpoint.epoch);
    // The next one has begun, and nobody can work with it.
    let is_past = view.is_succeeded(epoch, now);
    if last > closed && (last != epoch || is_past) && !is_anchored(view, &gateway, loaded.range.size()) {
        return match view.epochs.state(last, now) {
            EpochState::Closed if is_over(view, last) => Next::Retire(unanchored(last)),
            EpochState::Open | EpochState::Closed => match view.epochs.committee(last) {
                Some(committee) if last <= epoch => Next::Close(committee.clone()),
                _ => Next::Wait(not_ready(format!("epoch {last} of the log is ahead of the clock"))),
            },
            EpochState::Unknown | EpochState::NotYet => {
                Next::Wait(not_ready(format!("epoch {last} of the log has not begun by what is known")))
            }
        };
    }
    if is_past && last <= epoch {
        let text = format!("epoch {epoch} has passed, and the next has a committee that nobody can use");
        return Next::Wait(not_ready(text));
    }
    if epoch <= closed || epoch < last {
        return Next::Wait(not_ready(format!("epoch {epoch} is closed here")));
    }
    let is_member = |committee: &Committee| committee.gateway(&gateway).is_some();
    let later = || view.epochs.terms().iter().any(|term| term.activation > now && is_member(&term.committee));
    if current.activation > now {
        Next::Wait(not_ready("the first epoch has not begun".to_owned()))
    } else if is_member(&current.committee) {
        Next::Work(current.committee.clone())
    } else if later() {
        Next::Wait(not_ready(format!("the gateway is of a later epoch than {epoch}")))
    } else {
        let text = format!("this gateway is not of epoch {epoch}: put to another gateway");
        Next::Wait(ApiError::new(Reason::LogRetired, text))
    }
}

/// Whether the grace of an epoch is over for good: at the settled block, not by a clock.
fn is_over(view: &View, epoch: u64) -> bool {
    let closes = view.epochs.term(epoch).and_then(|term| term.closes);
    closes.zip(view.head).is_some_and(|(closes, head)| head.timestamp >= closes)
}

/// Whether the chain has a root over the first entries of a log.
pub(super) fn is_anchored(view: &View, gateway: &Address, size: u64) -> bool {
    view.latest_anchor(gateway).is_some_and(|anchor| anchor.size >= size)
}

/// Why the log is retired: an epoch was over before its closing was anchored.
fn retired(gateway: Address, closings: &[CosignedCheckpoint], view: &View) -> Option<ApiError> {
    let closings = closings.iter().map(|closing| &closing.signed.checkpoint);
    let mut lost =
        closings.filter(|closing| is_over(view, closing.epoch) && !is_anchored(view, &gateway, closing.size));
    lost.next().map(|closing| unanchored(closing.epoch))
}

fn unanchored(epoch: u64) -> ApiError {
    let text = format!(
        "entries of epoch {epoch} were not anchored before its grace was over: the log is retired, and the \
         gateway must start a new one under a new key"
    );
    ApiError::new(Reason::LogRetired, text)
}

fn not_ready(text: String) -> ApiError {
    ApiError::new(Reason::NotReady, text).retry_after(RETRY)
}

fn closing() -> ApiError {
    not_ready("the gateway is changing to another epoch".to_owned())
}

/// Does what there is to do. `before` is the core of the epoch before, if it was of this run.
pub(super) fn begin(shared: &Arc<Shared>, loaded: Loaded, before: Option<&Core>) -> Stage {
    let next = next(shared.address, &loaded, &shared.view.borrow(), shared.clock.now());
    match next {
        Next::Work(committee) => {
            let epoch = committee.epoch();
            metrics::get().gateway_epoch.record(epoch, &[]);
            tracing::info!(epoch, size = loaded.range.size(), "the epoch is in work");
            Stage::Open(Core::start(shared, committee, loaded, before))
        }
        Next::Close(committee) => Stage::Closing(Core::start(shared, committee, loaded, before)),
        Next::Wait(error) => {
            tracing::info!(%error, "no epoch to work in");
            Stage::Idle(error)
        }
        Next::Retire(error) => {
            shared.lose(error.clone());
            Stage::Idle(error)
        }
    }
}

/// Follows the epochs until the gateway stops or its log is retired.
pub(super) async fn run(shared: Arc<Shared>, stage: watch::Sender<Stage>) {
    loop {
        let now = stage.borrow().clone();
        let mut begun = Instant::now();
        let before = match &now {
            Stage::Open(core) => {
                in_work(&shared, core).await;
                begun = Instant::now();
                stage.send_replace(Stage::Closing(core.clone()));
                Some(core)
            }
            Stage::Closing(core) => Some(core),
            Stage::Idle(_) => {
                changed(&shared).await;
                None
            }
        };
        let outcome = match before {
            Some(core) => close(&shared, core).await,
            None => Ok(()),
        };
        let loaded = match outcome {
            Ok(()) => load(&shared).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok(loaded) => {
                stage.send_replace(begin(&shared, loaded, before.map(Arc::as_ref)));
            }
            Err(error) => shared.lose(error),
        }
        if before.is_some() {
            metrics::get().epoch_changes.add(1, &[]);
            metrics::get().epoch_change_seconds.record(begun.elapsed().as_secs_f64(), &[]);
        }
        if let Some(error) = shared.lost.get() {
            let now = stage.borrow().clone();
            if let Some(core) = now.core() {
                core.end().await;
            }
            stage.send_replace(Stage::Idle(error.clone()));
            return;
        }
    }
}

async fn load(shared: &Arc<Shared>) -> Result<Loaded, ApiError> {
    let store = shared.store.clone();
    blocking(move || store.load()).await
}

/// Waits until a later epoch has begun, be it one that anybody can work with or not, or the log is retired.
async fn in_work(shared: &Arc<Shared>, core: &Core) {
    let mut view = shared.view.clone();
    loop {
        let seen = view.borrow_and_update().clone();
        if retired(shared.address, &core.closings, &seen).is_some() {
            return;
        }
        while !view.has_changed().unwrap_or(false) {
            if seen.is_succeeded(core.committee.epoch(), shared.clock.now().saturating_sub(MARGIN)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Waits until the view, or the epoch by the clock, is another.
async fn changed(shared: &Arc<Shared>) {
    let mut view = shared.view.clone();
    let seen = view.borrow_and_update().clone();
    let moment = || {
        let now = shared.clock.now();
        let term = seen.epochs.current(now);
        (term.committee.epoch(), term.is_open(now), seen.is_succeeded(term.committee.epoch(), now))
    };
    let first = moment();
    while !view.has_changed().unwrap_or(false) && moment() == first {
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends an epoch: lets puts finish, waits for the certified checkpoint over all entries, keeps it.
///
/// Without the closing when it cannot come any more: then [`next`] says what follows.
async fn close(shared: &Arc<Shared>, core: &Core) -> Result<(), ApiError> {
    let epoch = core.committee.epoch();
    tracing::info!(epoch, "the epoch is being closed");
    core.appending.close();
    if tokio::time::timeout(shared.settings.change_finish(), core.appending.wait()).await.is_err() {
        tracing::info!(epoch, "puts that are not appended go on in the next epoch");
    }
    core.cut.cancel();
    core.ended.cancelled().await;
    let loaded = load(shared).await?;
    let is_closed = loaded.closings.iter().any(|closing| closing.signed.checkpoint.epoch == epoch);
    let has_entries = loaded.last.is_some_and(|entry| entry.epoch == epoch);
    let certified = has_entries && !is_closed && certified(shared, core, loaded.range.size()).await;
    core.end().await;
    if !certified {
        return Ok(());
    }
    let Some(closing) = shared.certified.borrow().clone() else { return Ok(()) };
    let (store, kept) = (shared.store.clone(), closing.clone());
    blocking(move || store.close(&kept)).await?;
    let size = closing.signed.checkpoint.size;
    tracing::info!(epoch, size, cosignatures = closing.cosignatures.len(), "the epoch is closed");
    Ok(())
}

/// Waits until enough regions have cosigned the whole log, and a little longer for the other seats that answer: one
/// that has not cosigned the closing cannot go on before it is anchored. Says whether the log is certified.
async fn certified(shared: &Arc<Shared>, core: &Core, size: u64) -> bool {
    let epoch = core.committee.epoch();
    let mut progress = core.checkpoints.progress();
    let mut linger = None;
    loop {
        progress.borrow_and_update();
        let covered = shared.certified.borrow().as_ref().is_some_and(|certified| {
            let checkpoint = &certified.signed.checkpoint;
            checkpoint.epoch == epoch && checkpoint.size == size
        });
        if covered {
            let since = *linger.get_or_insert_with(Instant::now);
            let answering = core.seats.answering();
            let all = !answering.is_empty() && core.checkpoints.cosigned_by(answering.iter());
            if all || since.elapsed() >= shared.settings.change_linger() {
                return true;
            }
        } else {
            let view = shared.view.borrow().clone();
            let is_retired = retired(shared.address, &core.closings, &view).is_some();
            if shared.lost.get().is_some() || is_retired || is_over(&view, epoch) {
                return false;
            }
        }
        tokio::select! {
            _ = progress.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests;
