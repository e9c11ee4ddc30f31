//! A bounded pool for work that keeps a core busy.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tracing::Span;

use crate::metrics;

/// Runs closures off the async threads, a bounded number at a time. Clones share the bound.
#[derive(Clone, Debug)]
pub struct CpuPool {
    permits: Arc<Semaphore>,
}

impl CpuPool {
    /// A pool that runs at most `threads` closures at a time, at least one.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads.max(1))) }
    }

    /// A pool as wide as the machine.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Runs `work` in the span of the caller and gives its result.
    ///
    /// Work that has begun ends even when the caller goes away, and keeps its place in the pool until then.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn run<T, F>(&self, work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let asked = Instant::now();
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        metrics::get().cpu_wait_seconds.record(asked.elapsed().as_secs_f64(), &[]);
        blocking(move || {
            let _permit = permit;
            work()
        })
        .await
    }
}

/// Runs `work`, which may wait for a disk, off the async threads and in the span of the caller.
///
/// # Panics
/// When `work` does.
pub async fn blocking<T, F>(work: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being dropped cancels blocking work, and then nobody waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_than_the_bound_run_at_a_time() {
        for bound in [1, 2] {
            let pool = CpuPool::new(bound);
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let jobs = (0..16).map(|i| {
                let (pool, running, most) = (pool.clone(), Arc::clone(&running), Arc::clone(&most));
                async move {
                    pool.run(move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        i
                    })
                    .await
                }
            });
            assert_eq!(futures::future::join_all(jobs).await, (0..16).collect::<Vec<_>>());
            assert!(most.load(Ordering::SeqCst) <= bound);
        }
    }

    #[tokio::test]
    #[should_panic(expected = "inside")]
    async fn a_panic_comes_out() {
        CpuPool::new(1).run(|| panic!("inside")).await;
    }
}
