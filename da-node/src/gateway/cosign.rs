//! Gathers cosignatures: asks every seat at once and keeps the fullest certificate of the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fail::fail_point;
use meridian_client::rpc::CosignAnswer;
use meridian_proofs::checkpoint::{CosignedCheckpoint, SignedCheckpoint};
use meridian_proofs::committee::Committee;
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::Signature;
use meridian_proofs::{Address, B256};
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::watch;

use super::core::Core;
use super::seats::{Call, class_of};
use crate::metrics::{self, KeyValue};

/// Most entries that go to a replica in one request, and so into one checkpoint.
pub(super) const MAX_ENTRIES: u64 = 4096;

/// Seconds after which a checkpoint is signed again before somebody new is asked to cosign it: replicas refuse one
/// that is 60 s from their clock.
pub(super) const STALE_AFTER: u64 = 30;

/// How often in a row a replica may ask for other entries instead of signing.
const MOST_DETOURS: u32 = 3;

/// Longest wait before a seat that refused is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The latest checkpoint that was signed.
pub(super) struct Head {
    pub(super) signed: SignedCheckpoint,
    pub(super) digest: B256,
    /// Index of the first of `entries`.
    pub(super) first: u64,
    /// The entries that came with it.
    pub(super) entries: Vec<LogEntry>,
}

/// The latest checkpoint, who cosigned it, and the latest that enough regions cosigned.
pub(super) struct Checkpoints {
    state: Mutex<State>,
    head: watch::Sender<Option<Arc<Head>>>,
    certified: watch::Sender<Option<Arc<CosignedCheckpoint>>>,
    progress: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    head: Collection,
    certified: Collection,
}

/// Cosignatures of one checkpoint, ascending by signer.
#[derive(Default)]
struct Collection {
    digest: B256,
    cosignatures: BTreeMap<Address, Signature>,
}

impl Checkpoints {
    pub(super) fn new(certified: watch::Sender<Option<Arc<CosignedCheckpoint>>>) -> Self {
        Self {
            state: Mutex::default(),
            head: watch::Sender::new(None),
            certified,
            progress: watch::Sender::new(()),
        }
    }

    /// Puts a new checkpoint before the seats.
    pub(super) fn publish(&self, head: Head) {
        self.lock().head = Collection { digest: head.digest, cosignatures: BTreeMap::new() };
        self.head.send_replace(Some(Arc::new(head)));
    }

    /// The latest checkpoint, now and as it changes.
    pub(super) fn heads(&self) -> watch::Receiver<Option<Arc<Head>>> {
        self.head.subscribe()
    }

    /// The latest checkpoint.
    pub(super) fn head(&self) -> Option<Arc<Head>> {
        self.head.borrow().clone()
    }

    /// Fires at every cosignature.
    pub(super) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Whether enough regions cosigned the latest checkpoint, be they those of S or not.
    pub(super) fn is_head_certified(&self) -> bool {
        let state = self.lock();
        !state.head.cosignatures.is_empty() && state.certified.digest == state.head.digest
    }

    /// Whether a seat cosigned the latest checkpoint.
    pub(super) fn is_head_cosigned_by(&self, seat: &Address) -> bool {
        self.lock().head.cosignatures.contains_key(seat)
    }

    /// Whether all of these seats cosigned the latest checkpoint.
    pub(super) fn cosigned_by<'a>(&self, mut seats: impl Iterator<Item = &'a Address>) -> bool {
        let state = self.lock();
        seats.all(|address| state.head.cosignatures.contains_key(address))
    }

    /// Adds a cosignature that was checked.
    pub(super) fn collect(
        &self,
        committee: &Committee,
        head: &Head,
        signer: Address,
        cosignature: Signature,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        let latest = state.head.digest == head.digest;
        let collection = if latest {
            &mut state.head
        } else if state.certified.digest == head.digest {
            &mut state.certified
        } else {
            return;
        };
        collection.cosignatures.insert(signer, cosignature);
        fail_point!("cosignature-taken");
        let complete =
            committee.complete_regions(collection.cosignatures.keys()).len() >= committee.min_copies();
        if complete {
            let cosignatures: Vec<_> = collection.cosignatures.values().cloned().collect();
            if latest {
                let cosignatures = collection.cosignatures.clone();
                state.certified = Collection { digest: head.digest, cosignatures };
            }
            let certified = CosignedCheckpoint { signed: head.signed, cosignatures };
            self.certified.send_replace(Some(Arc::new(certified)));
            fail_point!("certified");
        }
        self.progress.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one seat's cosignature up with the log.
pub(super) async fn run(core: Arc<Core>, seat: usize) {
    let mut heads = core.checkpoints.heads();
    let mut up = core.seats.up(seat);
    let mut signed: Option<B256> = None;
    let mut refusals = 0u32;
    loop {
        let is_up = *up.borrow_and_update();
        if !is_up {
            // Whoever comes back may have lost what it signed.
            signed = None;
        }
        let head = heads.borrow_and_update().clone();
        let due = head.filter(|head| is_up && signed != Some(head.digest));
        if let Some(head) = due {
            if !core.is_stale(&head) {
                if catch_up(&core, seat, &head).await.is_ok() {
                    signed = Some(head.digest);
                    refusals = 0;
                    continue;
                }
                let wait = core.settings.probe().saturating_mul(1 << refusals.min(5)).min(LONGEST_WAIT);
                refusals += 1;
                tokio::select! {
                    _ = up.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            }
            core.seats.behind(seat);
            core.refresh.notify_one();
        }
        tokio::select! {
            _ = up.changed() => {}
            _ = heads.changed() => {}
        }
    }
}

/// Brings a seat from where it stands to a checkpoint: in several steps, each with a checkpoint of its own size, when
/// it is further behind than one request can carry.
///
/// A checkpoint of a smaller size over the same log contradicts nothing, and all have the timestamp of the last, so
/// that a replica sees time go forward. The epoch of a step is that of the last, so a step may end within an earlier
/// epoch, but not before that one's closing is anchored: a chain that took the step could not take the closing.
async fn catch_up(core: &Core, seat: usize, head: &Head) -> Result<(), ApiError> {
    let target = head.signed.checkpoint.size;
    let start = match core.seats.cosigned_size(seat) {
        // A seat that is new starts from the anchored closing of the epoch before.
        0 => core.opening,
        size => size,
    };
    let mut start = start.min(target);
    let mut detours = 0;
    loop {
        let end = target.min(start.saturating_add(MAX_ENTRIES));
        if end < core.opening && !core.is_opening_anchored() {
            let message = "the closing of the epoch before is not anchored yet";
            core.seats.cosigns_not(seat, message.to_owned());
            return Err(ApiError::new(Reason::NotReady, message));
        }
        let step = if end == target { head.signed } else { core.sign_prefix(head, end).await? };
        let loaded;
        let entries = if start >= head.first && end == target {
            let skip = usize::try_from(start - head.first).unwrap_or(usize::MAX);
            head.entries.get(skip..).unwrap_or_default()
        } else {
            loaded = core.entries(start, end - start).await?;
            &loaded
        };
        let started = Instant::now();
        let answer =
            core.seats.watched(seat, Call::Cosign, core.links[seat].cosign(&step, start, entries)).await;
        let result = answer.as_ref().map_or_else(class_of, |_| "ok");
        let member = &core.committee.seats()[seat];
        let region = KeyValue::new("region", i64::from(member.region.0));
        metrics::get().cosign_requests.add(1, &[region, KeyValue::new("result", result)]);
        match answer {
            Ok(CosignAnswer::Cosignature(cosignature)) => {
                let digest = step.checkpoint.digest(&core.domain);
                if cosignature.recover(&digest).ok() != Some(member.address) {
                    return Err(core.seats.lied(seat, "the cosignature is not of this seat's key"));
                }
                detours = 0;
                start = end;
                core.seats.cosigned(seat, end, end == target);
                if end == target {
                    tracing::debug!(address = %member.address, size = end, took = ?started.elapsed(), "cosigned");
                    core.checkpoints.collect(&core.committee, head, member.address, cosignature);
                    return Ok(());
                }
            }
            Ok(CosignAnswer::EntriesFrom(size)) if size > target => {
                core.suspect(seat);
                return Err(core.seats.lied(seat, "the replica has cosigned more of this log than there is"));
            }
            Ok(CosignAnswer::EntriesFrom(_)) if detours == MOST_DETOURS => {
                return Err(core.seats.lied(seat, "the replica asks for other entries again and again"));
            }
            Ok(CosignAnswer::EntriesFrom(size)) => {
                detours += 1;
                start = size;
                core.seats.cosigned(seat, size, false);
            }
            Err(error) => return Err(error),
        }
    }
}
