//! The blobs whose rows are on their way in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::ids::BlobId;
use tokio::sync::watch;

/// Counts uploads by blob. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<HashMap<BlobId, usize>>,
    /// Changes when an upload ends.
    ended: watch::Sender<()>,
}

/// An upload that is going on.
#[derive(Debug)]
pub(super) struct Arrival {
    shared: Arc<Shared>,
    id: BlobId,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, HashMap<BlobId, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// An upload begins; it ends when the value is dropped.
    pub(super) fn begin(&self, id: BlobId) -> Arrival {
        *self.shared.counts().entry(id).or_default() += 1;
        Arrival { shared: Arc::clone(&self.shared), id }
    }

    /// Waits until no upload of a blob is going on, at most `limit`.
    pub(super) async fn wait(&self, id: &BlobId, limit: Duration) {
        let mut ended = self.shared.ended.subscribe();
        let none = ended.wait_for(|()| !self.shared.counts().contains_key(id));
        // Whether they ended or the time did: the caller looks at the disk next.
        let _ = tokio::time::timeout(limit, none).await;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut counts = self.shared.counts();
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
        drop(counts);
        self.shared.ended.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_all_uploads_of_the_blob_and_no_other() {
        let arrivals = Arrivals::default();
        let (a, b) = (BlobId::from([1; 32]), BlobId::from([2; 32]));
        let (first, second, _other) = (arrivals.begin(a), arrivals.begin(a), arrivals.begin(b));
        let waiting = tokio::spawn({
            let arrivals = arrivals.clone();
            async move { arrivals.wait(&a, Duration::from_secs(600)).await }
        });
        drop(first);
        assert!(arrivals.shared.counts().contains_key(&a));
        drop(second);
        waiting.await.unwrap();
        arrivals.wait(&b, Duration::ZERO).await;
    }
}
