//! What others have seen of a log, asked for after each start, so that a disk from a backup cannot sign a fork.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_client::chain::view::View;
use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint, is_conflict};
use meridian_proofs::log::verify_consistency;
use meridian_proofs::{Address, B256};
use meridian_proto::error::{ApiError, Reason};

use super::Replica;
use super::epochs::Standing;

#[cfg(test)]
mod tests;

/// Longest wait for one answer.
const CALL: Duration = Duration::from_secs(2);
/// Time between two rounds of questions.
const ROUND: Duration = Duration::from_millis(200);
/// The same while this replica has no seat in an open epoch.
const NO_SEAT_ROUND: Duration = Duration::from_secs(5);

/// What is kept in memory of the logs: of each gateway that any epoch names.
#[derive(Debug, Default)]
pub(super) struct Floors {
    logs: Mutex<HashMap<Address, Arc<Watched>>>,
}

/// One log.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// One cosignature at a time.
    pub(super) cosigning: Arc<tokio::sync::Mutex<()>>,
    floor: Mutex<Floor>,
}

/// What others know of one log.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Seats that answered.
    answered: HashSet<Address>,
    /// Enough of them answered since the start.
    is_certain: bool,
    /// The highest checkpoint that anybody has and that this replica has not cosigned past.
    highest: Option<Checkpoint>,
    /// Two checkpoints contradict each other.
    forked: bool,
    /// Whether one size and root was proved to lead to another, and the second in which that was asked.
    asked: HashMap<[(u64, B256); 2], (u64, bool)>,
}

impl Watched {
    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Floors {
    fn logs(&self) -> MutexGuard<'_, HashMap<Address, Arc<Watched>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica has cosigned a checkpoint: its own disk knows the log up to there from now on.
    pub(super) fn passed(&self, checkpoint: &Checkpoint) {
        if let Some(watched) = self.logs().get(&checkpoint.gateway) {
            let mut floor = watched.floor();
            floor.highest = floor.highest.filter(|highest| highest.size > checkpoint.size);
        }
    }
}

impl Floor {
    /// Takes a checkpoint whose signature was checked.
    fn note(&mut self, checkpoint: Checkpoint) {
        match &self.highest {
            Some(highest) if is_conflict(highest, &checkpoint) => self.forked = true,
            Some(highest) if highest.size >= checkpoint.size => {}
            _ => self.highest = Some(checkpoint),
        }
    }
}

impl Replica {
    /// What is kept of a log. The gateway has to be one of some epoch, which bounds how many there are.
    pub(super) fn watched(self: &Arc<Self>, gateway: Address) -> Arc<Watched> {
        let mut logs = self.floors.logs();
        if let Some(watched) = logs.get(&gateway) {
            return Arc::clone(watched);
        }
        let watched = Arc::<Watched>::default();
        logs.insert(gateway, Arc::clone(&watched));
        self.spawn(Arc::clone(self).find_floor(gateway, Arc::clone(&watched)));
        watched
    }

    /// Begins to ask about the logs of all gateways of the epochs that are open.
    pub(super) fn watch_gateways(self: &Arc<Self>, view: &View) {
        for term in view.epochs.open(self.clock.now()) {
            term.committee.gateways().iter().for_each(|gateway| drop(self.watched(gateway.address)));
        }
    }

    /// The checkpoint that a cosignature for a seat must not go below, once enough regions have answered.
    pub(super) fn floor(
        &self,
        view: &View,
        gateway: &Address,
        standing: &Standing,
    ) -> Result<Option<Checkpoint>, ApiError> {
        let watched = self.floors.logs().get(gateway).cloned().unwrap_or_default();
        let mut floor = watched.floor();
        if floor.forked {
            return Err(ApiError::new(
                Reason::LogFork,
                "other replicas hold two contradicting checkpoints of the log",
            ));
        }
        if !self.is_certain(view, gateway, &mut floor, standing) {
            let text = "too few regions have confirmed what was last signed of this log";
            return Err(ApiError::new(Reason::NotSyncedWithPeers, text).retry_after(ROUND));
        }
        Ok(floor.highest)
    }

    /// Whether enough regions have answered since the start, at this time or before.
    fn is_certain(&self, view: &View, gateway: &Address, floor: &mut Floor, standing: &Standing) -> bool {
        if !floor.is_certain {
            let needed = self.needed(view, gateway);
            floor.is_certain = match &needed[..] {
                [] => self.is_answered(floor, standing),
                needed => needed.iter().all(|standing| self.is_answered(floor, standing)),
            };
        }
        floor.is_certain
    }

    /// The epochs whose regions have to answer about a log: those that had begun at the start of this program and
    /// are open. In a later one nothing was signed before the start.
    fn needed(&self, view: &View, gateway: &Address) -> Vec<Standing> {
        let open = view.epochs.open(self.clock.now()).filter(|term| term.activation <= self.started);
        let named = open.filter(|term| term.committee.gateway(gateway).is_some());
        named.filter_map(|term| self.standing(term.committee.epoch())).collect()
    }

    /// Whether a checkpoint is proved to be of the same log as a later size and root: a replica that is far behind has
    /// to cosign what lies between step by step. The caller has the log's lock.
    ///
    /// Anybody can show a checkpoint again and again: others are asked about it once a second.
    pub(super) async fn leads_to(&self, view: &View, checkpoint: &Checkpoint, size: u64, root: B256) -> bool {
        let watched = self.floors.logs().get(&checkpoint.gateway).cloned().unwrap_or_default();
        let (question, now) = ([(checkpoint.size, checkpoint.root), (size, root)], self.clock.now());
        if let Some((_, proved)) = watched.floor().asked.get(&question).filter(|(asked, _)| *asked == now) {
            return *proved;
        }
        let proved = self.is_proved(view, checkpoint, size, root).await;
        let mut floor = watched.floor();
        floor.asked.retain(|_, (asked, _)| *asked == now);
        floor.asked.insert(question, (now, proved));
        proved
    }

    async fn is_proved(&self, view: &View, checkpoint: &Checkpoint, size: u64, root: B256) -> bool {
        let log = checkpoint.gateway;
        let calls = self.log_endpoints(view, &log).into_iter().map(async |endpoint| {
            let calls = self.channels.log(&endpoint)?.within(CALL);
            calls.consistency(log, checkpoint.size, size).await
        });
        let mut calls: FuturesUnordered<_> = calls.collect();
        while let Some(proof) = calls.next().await {
            let holds = |proof: Vec<_>| {
                verify_consistency(checkpoint.size, &checkpoint.root, size, &root, &proof).is_ok()
            };
            if proof.is_ok_and(holds) {
                return true;
            }
        }
        false
    }

    /// Whether as many regions of an epoch as a certificate needs have answered, this replica's own counted.
    fn is_answered(&self, floor: &Floor, standing: &Standing) -> bool {
        let committee = &standing.committee;
        let mut regions: HashSet<_> = committee.complete_regions(&floor.answered).into_iter().collect();
        regions.insert(standing.seat.region);
        regions.len() >= committee.min_copies()
    }

    /// Asks until enough have answered.
    async fn find_floor(self: Arc<Self>, gateway: Address, watched: Arc<Watched>) {
        loop {
            let view = self.view();
            let now = self.clock.now();
            let asked = watched.floor().answered.clone();
            let open = || view.epochs.open(now).map(|term| &term.committee);
            let mut seats: BTreeMap<Address, &str> = BTreeMap::new();
            for seat in open().flat_map(|committee| committee.seats()) {
                if seat.address != self.address() && !asked.contains(&seat.address) {
                    seats.entry(seat.address).or_insert(&seat.endpoint);
                }
            }
            let itself = open().find_map(|committee| committee.gateway(&gateway));
            let endpoints = seats.into_iter().map(|(address, endpoint)| (Some(address), endpoint));
            let calls = endpoints
                .chain(itself.map(|member| (None, member.endpoint.as_str())))
                .map(async |(seat, endpoint)| (seat, self.ask(endpoint, gateway).await));
            let mut calls: FuturesUnordered<_> = calls.collect();
            while let Some((seat, answer)) = calls.next().await {
                match answer {
                    Ok(checkpoint) => self.note_answer(&gateway, seat, checkpoint),
                    Err(error) => {
                        tracing::debug!(?seat, log = %gateway, %error, "no answer about a log");
                    }
                }
            }
            let standings: Vec<_> = open().filter_map(|c| self.standing(c.epoch())).collect();
            if standings.iter().any(|own| self.is_certain(&view, &gateway, &mut watched.floor(), own)) {
                return;
            }
            tokio::time::sleep(if standings.is_empty() { NO_SEAT_ROUND } else { ROUND }).await;
        }
    }

    async fn ask(&self, endpoint: &str, gateway: Address) -> Result<Option<SignedCheckpoint>, ApiError> {
        let calls = self.channels.log(endpoint)?.within(CALL);
        Ok(calls.checkpoint(gateway).await?.map(|cosigned| cosigned.signed))
    }

    /// Takes an answer. A checkpoint without the gateway's signature says nothing, and neither does who sent it.
    pub(super) fn note_answer(
        &self,
        gateway: &Address,
        seat: Option<Address>,
        answer: Option<SignedCheckpoint>,
    ) {
        let Some(watched) = self.floors.logs().get(gateway).cloned() else { return };
        let mut floor = watched.floor();
        if let Some(signed) = answer {
            if signed.checkpoint.gateway != *gateway || signed.verify(&self.domain).is_err() {
                tracing::warn!(?seat, log = %gateway, "answer with a checkpoint that its gateway did not sign");
                return;
            }
            floor.note(signed.checkpoint);
        }
        floor.answered.extend(seat);
    }
}
