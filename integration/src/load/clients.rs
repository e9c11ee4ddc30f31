//! Clients that put and get as fast as they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use meridian_client::Silent;
use meridian_client::fetch::{ReadError, Reader};
use meridian_client::submit::{Failure, PutError, PutOptions, Submitter};

use super::floor::Floor;
use super::{Run, Times};
use crate::payload;

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Bytes of each payload.
    pub size: usize,
    /// Clients at once.
    pub clients: usize,
    /// Reads for each write.
    pub reads_per_write: usize,
    /// How long.
    pub duration: Duration,
    /// How everything is put.
    pub options: PutOptions,
    /// Makes this run's payloads different from those of every other.
    pub seed: u64,
}

#[derive(Default)]
struct Seen {
    puts: Vec<Duration>,
    gets: Vec<Duration>,
    errors: BTreeMap<String, usize>,
}

fn put_class(error: &PutError) -> String {
    let PutError::Failed(attempts) = error else { return "invalid".into() };
    match attempts.last().map(|attempt| &attempt.failure) {
        Some(Failure::Call(error)) => error.class().to_string(),
        _ => "bad certificate".into(),
    }
}

fn get_class(error: &ReadError) -> String {
    error.reason().class().to_string()
}

async fn client(
    submitter: Submitter,
    reader: Arc<Reader>,
    task: Task,
    next: Arc<AtomicU64>,
    bar: ProgressBar,
) -> Seen {
    let (mut seen, begin) = (Seen::default(), Instant::now());
    while begin.elapsed() < task.duration {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let payload = payload::noise(task.size, task.seed.wrapping_add(number));
        let start = Instant::now();
        let receipt = match submitter.put(payload.clone(), &task.options, &Silent).await {
            Ok(receipt) => receipt,
            Err(error) => {
                *seen.errors.entry(format!("put {}", put_class(&error))).or_default() += 1;
                // As any client that is told to come back later.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        seen.puts.push(start.elapsed());
        for _ in 0..task.reads_per_write {
            let start = Instant::now();
            match reader.payload(receipt.certificate.id(), &Silent).await {
                Ok(fetched) if fetched.payload == payload => seen.gets.push(start.elapsed()),
                Ok(_) => *seen.errors.entry("get wrong bytes".into()).or_default() += 1,
                Err(error) => *seen.errors.entry(format!("get {}", get_class(&error))).or_default() += 1,
            }
        }
        bar.set_position(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX));
        bar.set_message(format!("{number} puts"));
    }
    seen
}

/// Runs the clients and sums up what they saw.
///
/// # Errors
/// When a client cannot be run.
pub async fn run(submitter: &Submitter, reader: Arc<Reader>, task: Task, floor: Floor) -> Result<Run> {
    let bar = ProgressBar::new(u64::try_from(task.duration.as_millis())?);
    bar.set_style(ProgressStyle::with_template("{prefix} {wide_bar} {msg} {elapsed}")?);
    bar.set_prefix(format!("{} x {}", super::report::size(task.size), task.clients));
    let (next, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let clients: Vec<_> = (0..task.clients)
        .map(|_| {
            let (reader, next) = (Arc::clone(&reader), Arc::clone(&next));
            tokio::spawn(client(submitter.clone(), reader, task, next, bar.clone()))
        })
        .collect();
    let mut all = Seen::default();
    for client in clients {
        let seen = client.await?;
        all.puts.extend(seen.puts);
        all.gets.extend(seen.gets);
        for (class, count) in seen.errors {
            *all.errors.entry(class).or_default() += count;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let rate = |calls: usize| calls as f64 * task.size as f64 / seconds;
    Ok(Run {
        size: task.size,
        clients: task.clients,
        reads_per_write: task.reads_per_write,
        seconds,
        put_bytes_per_second: rate(all.puts.len()),
        get_bytes_per_second: rate(all.gets.len()),
        put: Times::of(all.puts),
        get: Times::of(all.gets),
        errors: all.errors,
        floor,
    })
}
