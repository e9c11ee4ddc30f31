//! Where committees come from: a file or the chain.

use std::sync::Arc;

use meridian_proofs::committee::Committee;
use tokio::sync::watch;

use super::view::View;

/// Keeps a view up to date.
pub trait CommitteeSource: Send + Sync {
    /// The view as it is now and as it changes.
    fn view(&self) -> watch::Receiver<Arc<View>>;
}

/// A committee file: the view never changes.
pub struct FixedSource(watch::Sender<Arc<View>>);

impl FixedSource {
    /// The source over one committee.
    #[must_use]
    pub fn new(committee: Arc<Committee>) -> Self {
        Self(watch::Sender::new(Arc::new(View::fixed(committee))))
    }
}

impl CommitteeSource for FixedSource {
    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.0.subscribe()
    }
}
