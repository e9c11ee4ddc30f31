//! KZG commitments and openings, made off the async threads, with progress.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::kzg::{
    self, ELEMENT_BYTES, ElementRange, KzgBinding, KzgError, Opening, POLYNOMIAL_BYTES,
};
use meridian_proofs::shape::PayloadLength;

use crate::Progress;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Commits to a payload: some 80 ms of a core for each 124 KiB. Progress is in payload bytes.
///
/// # Errors
/// The payload is empty or too long.
pub async fn commit(payload: Bytes, progress: &dyn Progress) -> Result<KzgBinding, KzgError> {
    let (total, step) = (wide(payload.len()), wide(POLYNOMIAL_BYTES));
    told(total, step, progress, move |done| KzgBinding::of(&payload, done)).await
}

/// Opens a range of a payload and checks what came out as any verifier of the root would. Progress is in payload bytes.
///
/// # Errors
/// The binding is not that of a payload of this length, or the range is empty, outside the payload or too long.
pub async fn open(
    payload: Bytes,
    binding: Arc<KzgBinding>,
    range: Range<u64>,
    progress: &dyn Progress,
) -> Result<Vec<Opening>, KzgError> {
    let step = wide(ELEMENT_BYTES);
    let elements = ElementRange::new(binding.length(), &range)?.elements().len();
    told(step * wide(elements), step, progress, move |done| {
        let length = PayloadLength::try_from(wide(payload.len()))?;
        let openings = kzg::open_range(&payload, &binding, &range, done)?;
        kzg::verify_range(&binding.root(), length, &range, &openings, binding.commitments())?;
        Ok(openings)
    })
    .await
}

/// The header's KZG root of a payload that may have none.
pub(crate) fn root_of(binding: Option<&KzgBinding>) -> B256 {
    binding.map_or(B256::ZERO, KzgBinding::root)
}

/// Runs work that says when each of its steps is done.
async fn told<T: Send + 'static>(
    total: u64,
    step: u64,
    progress: &dyn Progress,
    work: impl FnOnce(&(dyn Fn() + Sync)) -> Result<T, KzgError> + Send + 'static,
) -> Result<T, KzgError> {
    progress.start(total);
    let steps = Arc::new(AtomicU64::new(0));
    let counted = steps.clone();
    let mut work = tokio::task::spawn_blocking(move || {
        work(&|| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
    });
    let mut told = 0;
    loop {
        let answer = tokio::time::timeout(TELL_EVERY, &mut work).await;
        let done = total.min(step.saturating_mul(steps.load(Ordering::Relaxed)));
        progress.advance(done - told);
        told = done;
        if let Ok(answer) = answer {
            return answer.unwrap_or_else(|failed| Err(KzgError::Prover(failed.to_string())));
        }
    }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
