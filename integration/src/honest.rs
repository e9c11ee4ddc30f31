//! Ten clients that want nothing but to be served, whatever else goes on, and remember how that was.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_client::Silent;
use meridian_client::fetch::Reader;
use meridian_client::submit::Submitter;
use meridian_proofs::ids::BlobId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::load::Times;
use crate::network::options;
use crate::payload;

/// Bytes of each payload.
const LENGTH: usize = 20_000;
/// Rows of each sample.
const ROWS: usize = 4;
/// Pause between two requests of one client.
const PAUSE: Duration = Duration::from_millis(100);
/// Blobs that are read.
const RECENT: usize = 50;

/// Clients that put, get and sample.
pub struct Honest {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    recent: Mutex<VecDeque<(BlobId, u64)>>,
    next: AtomicU64,
}

/// What they saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// How long each put took.
    pub puts: Vec<Duration>,
    /// How long each get took.
    pub gets: Vec<Duration>,
    /// How long each sample took.
    pub samples: Vec<Duration>,
    /// What did not succeed.
    pub failures: Vec<String>,
}

impl Seen {
    /// The times of everything.
    #[must_use]
    pub fn times(&self) -> Times {
        Times::of([&self.puts[..], &self.gets, &self.samples].concat())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Get,
    Sample,
}

impl Honest {
    /// Starts them: four that put, four that get and two that sample. The first blobs are put before they begin.
    ///
    /// # Errors
    /// When a first put fails.
    pub async fn start(submitter: &Submitter, reader: Reader) -> anyhow::Result<Self> {
        let (shared, stop) = (Arc::new(Shared::default()), CancellationToken::new());
        let reader = Arc::new(reader);
        for _ in 0..4 {
            shared.put(submitter).await.map_err(anyhow::Error::msg)?;
        }
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let kind = [Kind::Put, Kind::Get, Kind::Put, Kind::Get, Kind::Sample][number % 5];
            let (shared, reader, submitter, stop) =
                (Arc::clone(&shared), Arc::clone(&reader), submitter.clone(), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    shared.ask(kind, &submitter, &reader).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Ok(Self { shared, tasks, stop })
    }

    /// What they saw since this was asked the last time.
    #[must_use]
    pub fn seen(&self) -> Seen {
        mem::take(&mut *self.shared.seen())
    }

    /// Waits for what they are asking, and asks nothing more.
    pub async fn stop(self) -> Seen {
        self.stop.cancel();
        self.tasks.join_all().await;
        mem::take(&mut *self.shared.seen())
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, kind: Kind, submitter: &Submitter, reader: &Reader) {
        let begun = Instant::now();
        let outcome = match kind {
            Kind::Put => self.put(submitter).await,
            Kind::Get => self.get(reader).await,
            Kind::Sample => self.sample(reader).await,
        };
        let took = begun.elapsed();
        let mut seen = self.seen();
        match (outcome, kind) {
            (Err(why), _) => seen.failures.push(why),
            (Ok(()), Kind::Put) => seen.puts.push(took),
            (Ok(()), Kind::Get) => seen.gets.push(took),
            (Ok(()), Kind::Sample) => seen.samples.push(took),
        }
    }

    async fn put(&self, submitter: &Submitter) -> Result<(), String> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let put = submitter.put(payload::noise(LENGTH, seed), &options(), &Silent).await;
        let receipt = put.map_err(|error| format!("put: {error}"))?;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front((receipt.certificate.id(), seed));
        recent.truncate(RECENT);
        Ok(())
    }

    fn any(&self) -> Result<(BlobId, u64), String> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(self.next.load(Ordering::Relaxed)).unwrap_or(0) % recent.len().max(1);
        recent.get(place).copied().ok_or_else(|| "nothing was put".to_owned())
    }

    async fn get(&self, reader: &Reader) -> Result<(), String> {
        let (id, seed) = self.any()?;
        let got = reader.payload(id, &Silent).await.map_err(|error| format!("get: {error}"))?;
        if got.payload == payload::noise(LENGTH, seed) { Ok(()) } else { Err("get: other bytes".to_owned()) }
    }

    async fn sample(&self, reader: &Reader) -> Result<(), String> {
        let (id, _) = self.any()?;
        let sampled = reader.sample(id, ROWS).await.map_err(|error| format!("sample: {error}"))?;
        if sampled.verified.len() >= sampled.drawn.len() {
            Ok(())
        } else {
            let (verified, drawn) = (sampled.verified.len(), sampled.drawn.len());
            Err(format!("sample: {verified} of {drawn} rows: {:?}", sampled.faults))
        }
    }
}
