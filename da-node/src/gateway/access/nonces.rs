//! Signed puts that were taken, until nobody would take them again.
//!
//! Memory decides, so that of copies that come at once one goes on; the disk is for the next start.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::ids::Namespace;
use meridian_proofs::{Address, B256};
use meridian_proto::error::{ApiError, Reason};

use super::super::store::{Store, StoreError, Used};
use crate::metrics;

/// How many are forgotten in one write.
const CHUNK: usize = 1024;

/// What was taken.
pub(super) struct Nonces {
    store: Arc<Store>,
    /// Most of one namespace.
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    nonces: HashSet<(Address, B256)>,
    by_deadline: BTreeMap<Used, Namespace>,
    counts: HashMap<Namespace, usize>,
    /// Of this deadline and earlier ones some may be forgotten.
    forgotten: u64,
}

impl Nonces {
    /// What the store has.
    pub(super) fn load(store: &Arc<Store>, most: usize) -> Result<Self, StoreError> {
        let (all, forgotten) = store.nonces()?;
        let mut taken = Taken { forgotten, ..Taken::default() };
        for (used, namespace) in all {
            taken.insert(used, namespace);
        }
        taken.tell();
        Ok(Self { store: store.clone(), most, taken: Mutex::new(taken) })
    }

    /// Refuses what was taken, and what nobody can say of any more whether it was.
    pub(super) fn check(&self, used: &Used) -> Result<(), ApiError> {
        self.taken().check(used)
    }

    /// Takes a nonce for good, whatever becomes of the put: whoever tries again signs again.
    pub(super) async fn take(&self, used: Used, namespace: Namespace, now: u64) -> Result<(), ApiError> {
        {
            let mut taken = self.taken();
            taken.check(&used)?;
            if taken.counts.get(&namespace).copied().unwrap_or(0) >= self.most {
                let first = taken.by_deadline.iter().take(CHUNK).find(|(_, of)| **of == namespace);
                let wait = first.map_or(1, |(first, _)| first.deadline.saturating_sub(now).max(1));
                let message =
                    format!("{} signed puts have not expired, as many as are remembered", self.most);
                let error = ApiError::new(Reason::TooManyRequests, message).with("limit", self.most);
                return Err(error.with("limit_name", "remembered").retry_after(Duration::from_secs(wait)));
            }
            taken.insert(used, namespace);
            taken.tell();
        }
        let store = self.store.clone();
        super::super::core::blocking(move || store.use_nonce(&used, namespace)).await
    }

    /// Forgets those whose deadline is before a time, on disk and then in memory.
    pub(super) fn forget_before(&self, time: u64) -> Result<(), StoreError> {
        loop {
            let expired: Vec<Used> = {
                let taken = self.taken();
                let used = taken.by_deadline.keys().take_while(|used| used.deadline < time);
                used.take(CHUNK).copied().collect()
            };
            let Some(last) = expired.last() else { return Ok(()) };
            let forgotten = self.taken().forgotten.max(last.deadline);
            self.store.forget_nonces(&expired, forgotten)?;
            let mut taken = self.taken();
            taken.forgotten = forgotten;
            for used in &expired {
                taken.remove(used);
            }
            taken.tell();
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn check(&self, used: &Used) -> Result<(), ApiError> {
        if used.deadline <= self.forgotten {
            let message = "the deadline is one of which this gateway has forgotten what it took: sign again";
            return Err(ApiError::new(Reason::AuthorizationExpired, message).with("deadline", used.deadline));
        }
        if self.nonces.contains(&(used.signer, used.nonce)) {
            let message = "this signature was used before: sign each attempt anew";
            return Err(ApiError::new(Reason::AuthorizationReplayed, message));
        }
        Ok(())
    }

    fn insert(&mut self, used: Used, namespace: Namespace) {
        if self.by_deadline.insert(used, namespace).is_none() {
            self.nonces.insert((used.signer, used.nonce));
            *self.counts.entry(namespace).or_default() += 1;
        }
    }

    fn remove(&mut self, used: &Used) {
        let Some(namespace) = self.by_deadline.remove(used) else { return };
        self.nonces.remove(&(used.signer, used.nonce));
        if let Some(count) = self.counts.get_mut(&namespace) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&namespace);
            }
        }
    }

    fn tell(&self) {
        metrics::get().used_nonces.record(u64::try_from(self.nonces.len()).unwrap_or(u64::MAX), &[]);
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::checkpoint::Domain;
    use tempfile::TempDir;

    use super::*;

    const OWNER: Address = Address::repeat_byte(7);

    fn store(folder: &TempDir) -> Arc<Store> {
        let domain = Domain { chain_id: 0, verifying_contract: Address::ZERO };
        Arc::new(Store::open(folder.path(), OWNER, &domain).unwrap().0)
    }

    fn used(signer: u8, nonce: u8, deadline: u64) -> Used {
        Used { deadline, signer: Address::repeat_byte(signer), nonce: B256::repeat_byte(nonce) }
    }

    fn name(byte: u8) -> Namespace {
        Namespace::from([byte; 32])
    }

    fn reason(answer: Result<(), ApiError>) -> Option<Reason> {
        answer.err().map(|error| error.reason)
    }

    #[tokio::test]
    async fn a_nonce_is_taken_once_by_each_signer_also_after_a_start() {
        let folder = TempDir::new().unwrap();
        {
            let nonces = Nonces::load(&store(&folder), 10).unwrap();
            nonces.take(used(1, 1, 50), name(1), 0).await.unwrap();
            let again = nonces.take(used(1, 1, 50), name(1), 0).await;
            assert_eq!(reason(again), Some(Reason::AuthorizationReplayed));
            let later = nonces.take(used(1, 1, 60), name(2), 0).await;
            assert_eq!(reason(later), Some(Reason::AuthorizationReplayed), "whatever else is signed");
            nonces.take(used(2, 1, 50), name(1), 0).await.unwrap();
        }
        let nonces = Nonces::load(&store(&folder), 10).unwrap();
        assert_eq!(reason(nonces.check(&used(1, 1, 50))), Some(Reason::AuthorizationReplayed));
        assert_eq!(reason(nonces.check(&used(2, 1, 50))), Some(Reason::AuthorizationReplayed));
        assert_eq!(reason(nonces.check(&used(3, 1, 50))), None);
    }

    #[tokio::test]
    async fn of_copies_at_once_one_goes_on() {
        let folder = TempDir::new().unwrap();
        let nonces = Nonces::load(&store(&folder), 10).unwrap();
        let copies = (0..32).map(|_| nonces.take(used(1, 1, 50), name(1), 0));
        let answers = futures::future::join_all(copies).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    }

    #[tokio::test]
    async fn what_is_forgotten_is_not_taken_again_whatever_the_clock_says() {
        let folder = TempDir::new().unwrap();
        {
            let nonces = Nonces::load(&store(&folder), 10).unwrap();
            for deadline in [50, 51, 52] {
                nonces.take(used(1, u8::try_from(deadline).unwrap(), deadline), name(1), 0).await.unwrap();
            }
            nonces.forget_before(52).unwrap();
            assert_eq!(reason(nonces.check(&used(1, 51, 51))), Some(Reason::AuthorizationExpired));
        }
        let nonces = Nonces::load(&store(&folder), 10).unwrap();
        assert_eq!(reason(nonces.check(&used(1, 50, 50))), Some(Reason::AuthorizationExpired));
        assert_eq!(reason(nonces.check(&used(1, 51, 51))), Some(Reason::AuthorizationExpired));
        assert_eq!(reason(nonces.check(&used(1, 52, 52))), Some(Reason::AuthorizationReplayed));
        assert_eq!(reason(nonces.check(&used(1, 53, 53))), None);
    }

    #[tokio::test]
    async fn each_namespace_has_a_number_of_its_own() {
        let folder = TempDir::new().unwrap();
        let nonces = Nonces::load(&store(&folder), 3).unwrap();
        for nonce in 0..3 {
            nonces.take(used(1, nonce, 50), name(1), 0).await.unwrap();
        }
        let full = nonces.take(used(1, 3, 50), name(1), 20).await.unwrap_err();
        let wait = Some(Duration::from_secs(30));
        assert_eq!((full.reason, full.retry_after), (Reason::TooManyRequests, wait));
        nonces.take(used(1, 4, 50), name(2), 20).await.unwrap();
        nonces.forget_before(51).unwrap();
        nonces.take(used(1, 3, 51), name(1), 51).await.unwrap();
    }

    #[tokio::test]
    async fn many_are_forgotten() {
        let folder = TempDir::new().unwrap();
        let nonces = Nonces::load(&store(&folder), 10 * CHUNK).unwrap();
        for number in 0..=CHUNK {
            let nonce = B256::left_padding_from(&number.to_be_bytes());
            let used = Used { deadline: 50, signer: OWNER, nonce };
            nonces.take(used, name(1), 0).await.unwrap();
        }
        nonces.forget_before(51).unwrap();
        assert_eq!(store_count(&nonces), 0);
    }

    fn store_count(nonces: &Nonces) -> usize {
        assert!(nonces.taken().nonces.is_empty() && nonces.taken().counts.is_empty());
        nonces.store.nonces().unwrap().0.len()
    }
}
