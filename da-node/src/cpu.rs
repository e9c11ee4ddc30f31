//! A bounded pool for work that keeps a core busy.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::Semaphore;
use tracing::Span;

use crate::metrics;

/// Runs closures off the async threads, a bounded number at a time. Clones share the bound.
///
/// What a closure splits up (the codec does, for long blobs) runs on the threads of this pool, so that one kind of work
/// does not wait for another's.
#[derive(Clone, Debug)]
pub struct CpuPool {
    /// As many as threads. A thread that waits for a part of its closure may begin another whole one meanwhile, so this
    /// also bounds how many lie on each other on one stack; none may wait for what only another can give.
    permits: Arc<Semaphore>,
    threads: Arc<rayon::ThreadPool>,
}

impl CpuPool {
    /// A pool that runs at most `threads` closures at a time, at least one.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(threads: usize) -> anyhow::Result<Self> {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).thread_name(|i| format!("cpu-{i}"));
        let pool = pool.build().context("cannot start the threads of the cpu pool")?;
        Ok(Self { permits: Arc::new(Semaphore::new(pool.current_num_threads())), threads: Arc::new(pool) })
    }

    /// A pool as wide as the machine.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn of_machine() -> anyhow::Result<Self> {
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
        let (threads, span) = (Arc::clone(&self.threads), Span::current());
        // The runtime waits for its blocking threads when it stops, and nobody for those of the pool: through one of the
        // former no closure outlives the program's main function, with a store in its hands.
        blocking(move || {
            let _permit = permit;
            threads.install(|| span.in_scope(work))
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
            let pool = CpuPool::new(bound).unwrap();
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

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_of_many_closures_all_get_done() {
        fn sum(from: u64, to: u64) -> u64 {
            match to - from {
                0 => 0,
                1 => from,
                _ => {
                    let middle = from.midpoint(to);
                    let (left, right) = rayon::join(|| sum(from, middle), || sum(middle, to));
                    left + right
                }
            }
        }
        for bound in [1, 2, 3] {
            let pool = CpuPool::new(bound).unwrap();
            let jobs = (0..200).map(|i| {
                let pool = pool.clone();
                // One in ten breaks in a part, and one in ten loses its caller.
                let work = async move {
                    pool.run(move || rayon::join(|| assert_ne!(i % 10, 3), || sum(0, 1000)).1).await
                };
                let job = tokio::spawn(work);
                if i % 10 == 7 {
                    job.abort();
                }
                async move { (i, job.await) }
            });
            for (i, outcome) in futures::future::join_all(jobs).await {
                match i % 10 {
                    3 => assert!(outcome.unwrap_err().is_panic()),
                    7 => assert!(outcome.map_or_else(|error| error.is_cancelled(), |sum| sum == 499_500)),
                    _ => assert_eq!(outcome.unwrap(), 499_500),
                }
            }
            assert_eq!(pool.run(|| sum(0, 10)).await, 45);
            let all = u32::try_from(bound).unwrap();
            assert!(pool.permits.acquire_many(all).await.is_ok(), "every place is given back");
        }
    }

    #[test]
    fn a_runtime_that_stops_waits_for_what_has_begun() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (begun, waits) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        runtime.spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                // Until the other side hangs up, which it does right before the runtime stops.
                let _ = gone.recv();
                std::thread::yield_now();
                count.fetch_add(1, Ordering::SeqCst);
            };
            CpuPool::new(1).unwrap().run(work).await;
        });
        waits.recv().unwrap();
        drop(go);
        drop(runtime);
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    #[should_panic(expected = "inside")]
    async fn a_panic_comes_out() {
        CpuPool::new(1).unwrap().run(|| panic!("inside")).await;
    }
}
