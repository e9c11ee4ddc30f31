//! What others have seen of a log, asked for after each start, so that a disk from a backup cannot sign a fork.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::Address;
use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint, is_conflict};
use meridian_proofs::committee::GatewayMember;
use meridian_proofs::log::verify_consistency;
use meridian_proto::error::{ApiError, Reason};

use super::Replica;

#[cfg(test)]
mod tests;

/// Longest wait for one answer.
const CALL: Duration = Duration::from_secs(2);
/// Time between two rounds of questions.
const ROUND: Duration = Duration::from_millis(200);

/// The floors of all logs.
#[derive(Debug)]
pub(super) struct Floors {
    logs: HashMap<Address, Mutex<Floor>>,
}

/// What is known of one log.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Seats that answered.
    answered: HashSet<Address>,
    /// The highest checkpoint that anybody has and that this replica has not cosigned past.
    highest: Option<Checkpoint>,
    /// Two checkpoints contradict each other.
    forked: bool,
}

impl Floors {
    pub(super) fn new(gateways: impl Iterator<Item = Address>) -> Self {
        Self { logs: gateways.map(|gateway| (gateway, Mutex::default())).collect() }
    }

    fn of(&self, gateway: &Address) -> Option<MutexGuard<'_, Floor>> {
        self.logs.get(gateway).map(|floor| floor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This replica has cosigned a checkpoint: its own disk knows the log up to there from now on.
    pub(super) fn passed(&self, checkpoint: &Checkpoint) {
        if let Some(mut floor) = self.of(&checkpoint.gateway) {
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
    /// The checkpoint that a cosignature must not go below, once enough regions have answered.
    pub(super) fn floor(&self, gateway: &Address) -> Result<Option<Checkpoint>, ApiError> {
        let Some(floor) = self.floors.of(gateway) else { return Ok(None) };
        if floor.forked {
            return Err(ApiError::new(
                Reason::LogFork,
                "other replicas hold two contradicting checkpoints of the log",
            ));
        }
        if !self.is_answered(&floor) {
            let text = "too few regions have confirmed what was last signed of this log";
            return Err(ApiError::new(Reason::NotSyncedWithPeers, text).retry_after(ROUND));
        }
        Ok(floor.highest)
    }

    /// The floor, if it is above a checkpoint and proved to be of the same log: a replica that is far behind has to
    /// cosign what lies between step by step.
    pub(super) async fn proved_floor(&self, checkpoint: &Checkpoint) -> Option<Checkpoint> {
        let log = checkpoint.gateway;
        let floor = self.floor(&log).ok().flatten().filter(|floor| floor.size > checkpoint.size)?;
        let seats = self.committee.seats().iter().filter(|seat| seat.address != self.seat.address);
        let gateway = self.committee.gateway(&log).map(|gateway| gateway.endpoint.as_str());
        let endpoints = seats.map(|seat| seat.endpoint.as_str()).chain(gateway);
        let calls = endpoints.map(async |endpoint| {
            let calls = self.reader.channels().log(endpoint)?.within(CALL);
            calls.consistency(log, checkpoint.size, floor.size).await
        });
        let mut calls: FuturesUnordered<_> = calls.collect();
        while let Some(proof) = calls.next().await {
            let (old, new) = (checkpoint, &floor);
            let holds = |proof: Vec<_>| verify_consistency(old.size, &old.root, new.size, &new.root, &proof);
            if proof.is_ok_and(|proof| holds(proof).is_ok()) {
                return Some(floor);
            }
        }
        None
    }

    /// Whether as many regions as a certificate needs have answered, this replica's own counted.
    fn is_answered(&self, floor: &Floor) -> bool {
        let mut regions: HashSet<_> = self.committee.complete_regions(&floor.answered).into_iter().collect();
        regions.insert(self.seat.region);
        regions.len() >= self.committee.min_copies()
    }

    /// Asks until enough have answered.
    pub(super) async fn find_floor(self: Arc<Self>, gateway: GatewayMember) {
        loop {
            let Some(asked) = self.floors.of(&gateway.address).map(|floor| floor.answered.clone()) else {
                return;
            };
            let seats = self.committee.seats().iter().filter(|seat| seat.address != self.seat.address);
            let seats = seats.filter(|seat| !asked.contains(&seat.address));
            let endpoints = seats.map(|seat| (Some(seat.address), seat.endpoint.as_str()));
            let calls = endpoints
                .chain([(None, gateway.endpoint.as_str())])
                .map(async |(seat, endpoint)| (seat, self.ask(endpoint, gateway.address).await));
            let mut calls: FuturesUnordered<_> = calls.collect();
            while let Some((seat, answer)) = calls.next().await {
                match answer {
                    Ok(checkpoint) => self.note_answer(&gateway.address, seat, checkpoint),
                    Err(error) => {
                        tracing::debug!(?seat, log = %gateway.address, %error, "no answer about a log");
                    }
                }
            }
            match self.floors.of(&gateway.address) {
                Some(floor) if !self.is_answered(&floor) => {}
                _ => return,
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn ask(&self, endpoint: &str, gateway: Address) -> Result<Option<SignedCheckpoint>, ApiError> {
        let calls = self.reader.channels().log(endpoint)?.within(CALL);
        Ok(calls.checkpoint(gateway).await?.map(|cosigned| cosigned.signed))
    }

    /// Takes an answer. A checkpoint without the gateway's signature says nothing, and neither does who sent it.
    pub(super) fn note_answer(
        &self,
        gateway: &Address,
        seat: Option<Address>,
        answer: Option<SignedCheckpoint>,
    ) {
        let Some(mut floor) = self.floors.of(gateway) else { return };
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
