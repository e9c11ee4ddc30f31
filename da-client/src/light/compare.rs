//! Compares signed checkpoints of others with what was seen of their logs. What contradicts it is evidence, and is written
//! into the state's folder.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use meridian_proofs::checkpoint::{CosignedCheckpoint, is_conflict};
use meridian_proofs::log::{verify_consistency, verify_inclusion};
use meridian_proofs::{Address, B256};
use meridian_proto::MAX_ENTRIES;
use meridian_proto::error::ApiError;

use super::{LightClient, LightError};
use crate::certificates::merge;
use crate::chain::view::View;
use crate::evidence::{Evidence, MAX_FILE};
use crate::fetch::Reader;
use crate::files;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most items of a log that are searched for the one in which two logs differ.
const SEARCHED: u64 = 1 << 16;
/// Own checkpoints that another one is held against.
const OURS: usize = 4;
/// Files with evidence that are looked at.
const FILES: usize = 1_024;
/// Checkpoints of which it is remembered that nothing was proved.
const REFUSED: usize = 1_024;

/// What comparing a checkpoint has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compared {
    /// The network has no such gateway, or it did not sign.
    Foreign,
    /// Nothing of the log was seen that it could be compared with.
    Unseen,
    /// It is of the log that was seen.
    Agrees,
    /// Nobody has a proof that it is of the log that was seen, nor one that it is not.
    Unproved,
    /// It is of another log of the same gateway: evidence was written into this file.
    Conflicts(String),
}

impl LightClient {
    /// Compares a signed checkpoint with what was seen of its log, and keeps it where it agrees: who signs any number of
    /// others must not push those out.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub async fn compare(&self, theirs: &CosignedCheckpoint) -> Result<Compared, LightError> {
        let view = self.readers.view();
        let signed = theirs.signed.checkpoint;
        let domain = view.epochs.latest().committee.domain();
        let is_member =
            view.epochs.terms().iter().any(|term| term.committee.gateway(&signed.gateway).is_some());
        if !is_member || theirs.signed.verify(&domain).is_err() {
            return Ok(Compared::Foreign);
        }
        // Of cosignatures those of seats: anybody can make others, and they would push these out.
        let mut clean = CosignedCheckpoint { signed: theirs.signed, cosignatures: Vec::new() };
        if let Some(committee) = view.epochs.committee(signed.epoch) {
            merge(&mut clean, theirs, committee);
        }
        let theirs = clean;
        let digest = signed.digest(&domain);
        if self.refused().contains(&digest) {
            return Ok(Compared::Unproved);
        }
        let log = signed.gateway;
        let known = self.with_state(move |state| state.checkpoints(Some(&log))).await?;
        if let Some(ours) = known.iter().find(|ours| is_conflict(&ours.signed.checkpoint, &signed)) {
            return self.convict(&Evidence::of_roots(&domain, [ours, &theirs])).await;
        }
        let record = self.with_state(move |state| state.log(&log)).await?;
        let Some(reached) = record.reached else { return Ok(Compared::Unseen) };
        if signed.size == 0 {
            return Ok(Compared::Agrees);
        }
        if (signed.size, signed.root) == (reached.size, reached.root) {
            return self.agrees(theirs).await;
        }
        let readers: Vec<Reader> =
            self.readers.of(signed.epoch).into_iter().chain([self.readers.current()]).collect();
        let (ours, theirs_end) = ((reached.size, reached.root), (signed.size, signed.root));
        if signed.size != reached.size && self.is_consistent(&readers, log, ours, theirs_end).await {
            return self.agrees(theirs).await;
        }
        // Ours are those that are consistent with what was followed; the longest first.
        for ours in known.iter().rev().take(OURS) {
            let end = (ours.signed.checkpoint.size, ours.signed.checkpoint.root);
            let is_ours = end == (reached.size, reached.root)
                || (end.0 != reached.size
                    && self.is_consistent(&readers, log, (reached.size, reached.root), end).await);
            if !is_ours {
                continue;
            }
            if let Some(evidence) = self.find_leaves(&readers, [ours, &theirs]).await {
                return self.convict(&evidence).await;
            }
            break;
        }
        let mut refused = self.refused();
        if refused.len() >= REFUSED {
            refused.clear();
        }
        refused.insert(digest);
        Ok(Compared::Unproved)
    }

    /// Checkpoints that nothing was proved of: they are not looked at again for a while.
    fn refused(&self) -> MutexGuard<'_, HashSet<B256>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn agrees(&self, theirs: CosignedCheckpoint) -> Result<Compared, LightError> {
        self.keep_checkpoint(theirs).await?;
        Ok(Compared::Agrees)
    }

    /// Compares what a replica, picked at random, last cosigned of each log with what was followed.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub(super) async fn compare_with_replicas(&self) -> Result<(), LightError> {
        let logs = self.with_state(|state| state.logs()).await?;
        for log in logs.into_keys() {
            let reader = self.readers.current();
            let seats = reader.committee().seats();
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|error| LightError::Random(error.to_string()))?;
            let count = u64::try_from(seats.len()).unwrap_or(1).max(1);
            let place = usize::try_from(u64::from_le_bytes(random) % count).unwrap_or_default();
            let Some(seat) = seats.get(place) else { continue };
            let call =
                async { reader.channels().log(&seat.endpoint)?.within(DEADLINE).checkpoint(log).await };
            let answer: Result<Option<CosignedCheckpoint>, ApiError> = call.await;
            if let Ok(Some(checkpoint)) = answer {
                let compared = self.compare(&checkpoint).await?;
                tracing::debug!(%log, seat = %seat.address, ?compared, "compared with a replica");
            }
        }
        Ok(())
    }

    /// Writes evidence into the state's folder, where it is not yet.
    async fn convict(&self, evidence: &Evidence) -> Result<Compared, LightError> {
        let name = evidence.file_name();
        match evidence.verify() {
            Ok(convicted) => {
                tracing::error!(gateway = %convicted.gateway, file = name, "a gateway signed two logs");
            }
            Err(error) => return Err(LightError::Internal(format!("evidence does not hold: {error}"))),
        }
        let (path, bytes) = (self.settings.folder.join(&name), evidence.encode());
        let write = move || if path.exists() { Ok(()) } else { files::write_whole(&path, &bytes) };
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.map_err(|error| LightError::Internal(error.to_string()))?;
        written.map_err(|error| LightError::Evidence { name: name.clone(), error })?;
        Ok(Compared::Conflicts(name))
    }

    /// The names of the files with evidence against gateways of this network. Others that lie there do not count.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) async fn evidence_files(&self) -> Result<Vec<String>, LightError> {
        let (folder, view) = (self.settings.folder.clone(), self.readers.view());
        let known = self.evidence.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let list = move || {
            let mut names = BTreeMap::new();
            for file in std::fs::read_dir(&folder)? {
                let name = file?.file_name().to_string_lossy().into_owned();
                if names.len() >= FILES || !name.starts_with("evidence-") || !name.ends_with(".json") {
                    continue;
                }
                let holds = match known.get(&name) {
                    Some(holds) => *holds,
                    None => holds(&folder.join(&name), &view),
                };
                names.insert(name, holds);
            }
            Ok(names)
        };
        let names = tokio::task::spawn_blocking(list).await;
        let names: std::io::Result<_> = names.map_err(|error| LightError::Internal(error.to_string()))?;
        let names: BTreeMap<String, bool> =
            names.map_err(|error| LightError::Evidence { name: "the state's folder".to_owned(), error })?;
        let files = names.iter().filter(|(_, holds)| **holds).map(|(name, _)| name.clone()).collect();
        *self.evidence.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(files)
    }

    /// Whether somebody proves that one state of a log continues the other.
    pub(super) async fn is_consistent(
        &self,
        readers: &[Reader],
        log: Address,
        one: (u64, B256),
        other: (u64, B256),
    ) -> bool {
        let (old, new) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        for (reader, endpoint) in seats(readers) {
            let call = async {
                let calls = reader.channels().log(endpoint)?.within(DEADLINE);
                calls.consistency(log, old.0, new.0).await
            };
            let proof: Result<Vec<B256>, ApiError> = call.await;
            if proof.is_ok_and(|proof| verify_consistency(old.0, &old.1, new.0, &new.1, &proof).is_ok()) {
                return true;
            }
        }
        false
    }

    /// Looks for an index at which two checkpoints of one gateway have different leaves, among what replicas serve.
    async fn find_leaves(
        &self,
        readers: &[Reader],
        checkpoints: [&CosignedCheckpoint; 2],
    ) -> Option<Evidence> {
        let [one, other] = checkpoints.map(|checkpoint| checkpoint.signed.checkpoint);
        let (log, end) = (one.gateway, one.size.min(other.size));
        let mut start = end.saturating_sub(SEARCHED);
        while start < end {
            let count = u64::try_from(MAX_ENTRIES).unwrap_or(u64::MAX).min(end - start);
            let pages = seats(readers).map(|(reader, endpoint)| async move {
                let items =
                    reader.channels().log(endpoint)?.within(DEADLINE).entries(log, start, count).await?;
                Ok::<_, ApiError>(items.iter().map(|item| item.leaf()).collect::<Vec<B256>>())
            });
            let pages: Vec<Vec<B256>> = join_all(pages).await.into_iter().flatten().collect();
            let differs = |place: &usize| {
                let mut leaves = pages.iter().filter_map(|page| page.get(*place));
                let first = leaves.next();
                leaves.any(|leaf| Some(leaf) != first)
            };
            if let Some(place) = (0..usize::try_from(count).unwrap_or(usize::MAX)).find(differs) {
                let index = start + u64::try_from(place).ok()?;
                return self.prove_leaves(readers, index, checkpoints).await;
            }
            start += count;
        }
        None
    }

    /// Evidence of different leaves at an index, if replicas have the proofs.
    async fn prove_leaves(
        &self,
        readers: &[Reader],
        index: u64,
        checkpoints: [&CosignedCheckpoint; 2],
    ) -> Option<Evidence> {
        let mut proved: BTreeMap<usize, (B256, Vec<B256>)> = BTreeMap::new();
        for (place, checkpoint) in checkpoints.iter().enumerate() {
            let signed = checkpoint.signed.checkpoint;
            let proofs = seats(readers).map(|(reader, endpoint)| async move {
                let calls = reader.channels().log(endpoint)?.within(DEADLINE);
                calls.inclusion(signed.gateway, index, signed.size).await
            });
            let proofs: Vec<Result<_, ApiError>> = join_all(proofs).await;
            let found = proofs.into_iter().flatten().find_map(|proof| {
                let leaf = proof.item.leaf();
                verify_inclusion(leaf, index, signed.size, &proof.path, &signed.root)
                    .is_ok()
                    .then_some((leaf, proof.path))
            });
            proved.insert(place, found?);
        }
        let domain = self.readers.view().epochs.latest().committee.domain();
        let (one, other) = (proved.remove(&0)?, proved.remove(&1)?);
        let [first, second] = checkpoints;
        let leaves = [(first, one.0, one.1), (second, other.0, other.1)];
        (leaves[0].1 != leaves[1].1).then(|| Evidence::of_leaves(&domain, index, leaves))
    }
}

/// Whether a file convicts a gateway of this network.
fn holds(path: &Path, view: &View) -> bool {
    let domain = view.epochs.latest().committee.domain();
    let is_short = std::fs::metadata(path)
        .is_ok_and(|file| usize::try_from(file.len()).is_ok_and(|length| length <= MAX_FILE));
    let convicted = std::fs::read(path)
        .ok()
        .filter(|_| is_short)
        .and_then(|bytes| Evidence::decode(&bytes).ok()?.verify().ok());
    convicted.is_some_and(|convicted| convicted.domain == domain && is_member(view, &convicted.gateway))
}

/// Whether an address is a gateway in any epoch.
fn is_member(view: &View, gateway: &Address) -> bool {
    view.epochs.terms().iter().any(|term| term.committee.gateway(gateway).is_some())
}

/// The endpoints of all seats.
fn seats(readers: &[Reader]) -> impl Iterator<Item = (&Reader, &str)> {
    let mut seen = std::collections::BTreeSet::new();
    readers
        .iter()
        .flat_map(|reader| reader.committee().seats().iter().map(move |seat| (reader, &*seat.endpoint)))
        .filter(move |(_, endpoint)| seen.insert(*endpoint))
}
