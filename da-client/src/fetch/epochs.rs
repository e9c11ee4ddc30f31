//! Reading over epochs: the rows of a blob stay with the seats of its entry's epoch.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::epochs::Term;
use meridian_proofs::log::verify_inclusion;
use meridian_proofs::{Address, B256};
use tokio::sync::watch;

use super::{ReadError, Reader};
use crate::chain::view::{Anchor, View};
use crate::nearest::Nearest;
use crate::rpc::Channels;
use crate::submit::unix_now;

/// A reader for each epoch whose blobs may still be kept.
///
/// Clones share connections and measurements.
#[derive(Clone)]
pub struct Readers {
    view: watch::Receiver<Arc<View>>,
    channels: Channels,
    nearest: Arc<Nearest>,
    ignores_kzg: bool,
    readers: Arc<Mutex<BTreeMap<u64, Reader>>>,
}

impl Readers {
    /// Readers without measurements yet.
    #[must_use]
    pub fn new(view: watch::Receiver<Arc<View>>, channels: Channels) -> Self {
        Self { view, channels, nearest: Arc::default(), ignores_kzg: false, readers: Arc::default() }
    }

    /// The same readers, with measurements that others share.
    #[must_use]
    pub fn measuring(self, nearest: Arc<Nearest>) -> Self {
        Self { nearest, readers: Arc::default(), ..self }
    }

    /// The same readers, with [`Reader::ignoring_kzg`].
    #[must_use]
    pub fn ignoring_kzg(self) -> Self {
        Self { ignores_kzg: true, ..self }
    }

    /// What is known of the epochs now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The same as it is now and as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The connections that are used.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The reader of the current epoch.
    #[must_use]
    pub fn current(&self) -> Reader {
        self.reader(self.view().epochs.current(unix_now()))
    }

    /// The reader of an epoch.
    #[must_use]
    pub fn of(&self, epoch: u64) -> Option<Reader> {
        self.view().epochs.term(epoch).map(|term| self.reader(term))
    }

    /// Reads with the committee of an epoch where it is known, else with the current one's, then with those of earlier
    /// epochs whose blobs may still be kept, the latest first: until one has it. Tells which reader that was.
    ///
    /// # Errors
    /// [`ReadError::Unknown`] only when all of them say so; what no other epoch can change at once; else the first error
    /// that may pass.
    pub async fn first<T, F, Fut>(&self, epoch: Option<u64>, read: F) -> Result<(T, Reader), ReadError>
    where
        F: Fn(Reader) -> Fut,
        Fut: Future<Output = Result<T, ReadError>>,
    {
        let mut worst = None;
        for reader in self.order(epoch) {
            match read(reader.clone()).await {
                Ok(found) => return Ok((found, reader)),
                Err(error @ ReadError::Unknown { .. }) => {
                    worst.get_or_insert(error);
                }
                Err(error) if error.is_passing() => {
                    if worst.as_ref().is_none_or(|worst| !ReadError::is_passing(worst)) {
                        worst = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(worst.unwrap_or(ReadError::Unreachable { faults: Vec::new() }))
    }

    /// The readers in the order of trying.
    fn order(&self, epoch: Option<u64>) -> Vec<Reader> {
        let (view, now) = (self.view(), unix_now());
        let named = epoch.and_then(|epoch| view.epochs.term(epoch));
        let current = view.epochs.current(now);
        // Entries are made until an epoch closes, and kept at most for its longest retention.
        let keeps = |term: &&Term| {
            let longest = term.committee.max_retention();
            term.closes.is_none_or(|closes| now < closes.saturating_add(longest))
        };
        let number = |term: &Term| term.committee.epoch();
        let earlier = view.epochs.terms().iter().rev().filter(|term| number(term) < number(current));
        let rest = [current].into_iter().chain(earlier.filter(keeps));
        let rest = rest.filter(|term| named.is_none_or(|named| number(named) != number(term)));
        named.into_iter().chain(rest).map(|term| self.reader(term)).collect()
    }

    fn reader(&self, term: &Term) -> Reader {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            Reader::new(Arc::clone(&term.committee), self.channels.clone())
                .measuring(Arc::clone(&self.nearest))
        };
        let reader = readers.entry(term.committee.epoch()).or_insert_with(make);
        // An epoch that was cancelled may have been scheduled again.
        if reader.committee() != &term.committee {
            *reader = make();
        }
        let reader = reader.clone();
        if self.ignores_kzg { reader.ignoring_kzg() } else { reader }
    }

    /// Proves that a certificate's entry is under an anchor of its log: how certificates of closed epochs hold (protocol
    /// section 5.7). Gives the hashes from the entry's leaf to the anchored root, or nothing when the anchor is of
    /// another log or does not cover the entry.
    ///
    /// # Errors
    /// [`ReadError::Uncertified`] when no replica has a proof that leads to the anchored root.
    pub async fn prove_anchored(
        &self,
        certificate: &Certificate,
        anchor: &Anchor,
    ) -> Result<Option<Vec<B256>>, ReadError> {
        let log = certificate.checkpoint.signed.checkpoint.gateway;
        if anchor.gateway != log || anchor.size <= certificate.index {
            return Ok(None);
        }
        let leaf = certificate.entry.leaf();
        let leads = |path: &[B256]| {
            verify_inclusion(leaf, certificate.index, anchor.size, path, &anchor.root).is_ok()
        };
        if leads(&certificate.inclusion) {
            return Ok(Some(certificate.inclusion.clone()));
        }
        for reader in self.order(Some(certificate.entry.epoch)) {
            let path = reader.inclusion(log, certificate.index, anchor.size, &leads).await;
            if path.is_some() {
                return Ok(path);
            }
        }
        Err(ReadError::Uncertified)
    }
}

impl Reader {
    /// The first inclusion proof that leads where it should, from any replica.
    async fn inclusion(
        &self,
        log: Address,
        index: u64,
        size: u64,
        leads: &impl Fn(&[B256]) -> bool,
    ) -> Option<Vec<B256>> {
        for seat in self.committee().seats() {
            match self.inclusion_from(seat, log, index, size).await {
                Ok(proof) if leads(&proof.path) => return Some(proof.path),
                Ok(_) => tracing::warn!(seat = %seat.address, %log, "replica gave a wrong inclusion proof"),
                Err(error) => {
                    tracing::debug!(seat = %seat.address, %error, "replica gave no inclusion proof");
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
