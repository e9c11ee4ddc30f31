//! What a machine could do at best: the work of a put and of a get, and nothing else.
//!
//! The work is that of five regions with one replica each: the payload and every replica's rows copied over loopback,
//! one encode by the gateway while the client computes the id, each interval checked, three syncs one after the other
//! (rows by five writers at once, entry and checkpoint with the payload, cosigning state by five at once), and all
//! signatures. What can run at once runs at once, each replica on its own, and a put waits for four of the five.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::reconstruct::RowSet;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::RowRange;
use meridian_proofs::signature::{SecretKey, Signature};
use rocksdb::{DB, WriteBatch, WriteOptions};
use serde::Serialize;

use super::Times;
use crate::{keys, payload};

/// Replicas of the network whose work is done.
const REPLICAS: usize = 5;

/// Replicas that a certificate needs: four regions of five.
const QUORUM: usize = 4;

/// Bytes of an entry with its place in the tree, of a checkpoint with its signatures.
const STATE: usize = 1024;

/// Bytes that are moved at a time.
const CHUNK: usize = 1 << 20;

/// What the machine could do.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    /// One put after the other.
    pub put: Times,
    /// One get after the other.
    pub get: Times,
    /// Milliseconds of the first sync, p50: rows by five writers at once.
    pub sync_rows_ms: f64,
    /// Milliseconds of the second sync, p50: entry, checkpoint and payload.
    pub sync_entry_ms: f64,
    /// Milliseconds of the third sync, p50: cosigning state by five writers at once.
    pub sync_cosign_ms: f64,
    /// Milliseconds of everything that is not a sync, p50.
    pub work_ms: f64,
    /// Puts a second with as many at once as the run has clients.
    pub puts_per_second: f64,
}

/// A loopback connection with somebody at the other end who reads.
struct Pipe(Mutex<TcpStream>);

impl Pipe {
    fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            let mut length = [0; 8];
            // Ends when the near end is dropped.
            while far.read_exact(&mut length).is_ok() {
                let mut left = usize::try_from(u64::from_be_bytes(length)).unwrap_or(0);
                while left > 0 {
                    let part = left.min(CHUNK);
                    if far.read_exact(&mut buffer[..part]).is_err() {
                        return;
                    }
                    left -= part;
                }
                if far.write_all(&[1]).is_err() {
                    return;
                }
            }
        });
        Ok(Self(Mutex::new(near)))
    }

    /// Sends bytes and waits until all of them were read.
    fn copy(&self, pieces: &[&[u8]]) -> Result<()> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        stream.write_all(&(total as u64).to_be_bytes())?;
        for piece in pieces {
            stream.write_all(piece)?;
        }
        stream.read_exact(&mut [0])?;
        Ok(())
    }
}

/// Runs jobs at once and gives back the first failure.
fn at_once<'env>(
    jobs: impl IntoIterator<Item = Box<dyn FnOnce() -> Result<()> + Send + 'env>>,
) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

/// The machine with everything open that the work needs.
struct Bench {
    size: usize,
    replicas: Vec<DB>,
    gateway: DB,
    pipes: Vec<Pipe>,
    upload: Pipe,
    keys: Vec<SecretKey>,
    next: AtomicU64,
}

#[derive(Clone, Copy)]
struct Phases {
    total: Duration,
    rows: Duration,
    entry: Duration,
    cosign: Duration,
}

/// Waits for as many replicas as a certificate needs, and gives back the longest of their syncs.
fn most(answers: &mpsc::Receiver<Result<Duration>>) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for _ in 0..QUORUM {
        longest = longest.max(answers.recv()??);
    }
    Ok(longest)
}

impl Bench {
    fn open(dir: &Path, size: usize) -> Result<Self> {
        let open = |name: String| {
            let path = dir.join(name);
            DB::open_default(&path).with_context(|| format!("opening {}", path.display()))
        };
        Ok(Self {
            size,
            replicas: (0..REPLICAS).map(|i| open(format!("floor-replica-{i}"))).collect::<Result<_>>()?,
            gateway: open("floor-gateway".into())?,
            pipes: (0..REPLICAS).map(|_| Pipe::open()).collect::<Result<_>>()?,
            upload: Pipe::open()?,
            keys: (0..=REPLICAS).map(|i| keys::secret(&format!("floor {i}"))).collect::<Result<_>>()?,
            next: AtomicU64::new(0),
        })
    }

    fn write(&self, db: &DB, values: &[(&str, &[u8])]) -> Result<()> {
        let mut batch = WriteBatch::default();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        for (name, value) in values {
            batch.put(format!("{name}/{number}"), value);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(db.write_opt(batch, &options)?)
    }

    /// The rows of one region with one replica: the ring from this place.
    fn range(blob: &EncodedBlob, replica: usize) -> Result<RowRange> {
        let shape = blob.shape();
        let (total, rows) = (shape.total_rows(), shape.data_rows());
        let start = (replica * total / REPLICAS).min(total - rows);
        shape.range(u32::try_from(start)?, u32::try_from(rows)?).context("a range of the blob")
    }

    fn check(blob: &EncodedBlob, replica: usize) -> Result<(Arc<BlobContext>, VerifiedRange)> {
        let context = Arc::new(BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone())?);
        let range = Self::range(blob, replica)?;
        let rows = context.check_range(range, blob.rows(range), &blob.range_proof(range))?;
        Ok((context, rows))
    }

    /// All of a put's work. The fifth replica works on after the time that is told, and is waited for nevertheless.
    fn put(&self, payload: &Bytes) -> Result<(Arc<EncodedBlob>, Phases)> {
        let begin = Instant::now();
        thread::scope(|scope| {
            let id = scope.spawn(|| encode::<Blake3>(payload, B256::ZERO).map(|blob| blob.id()));
            self.upload.copy(&[payload])?;
            let blob = Arc::new(encode::<Blake3>(payload, B256::ZERO)?);
            let digest = B256::from(*blob.id().as_bytes());

            let (done, stored) = mpsc::channel();
            for place in 0..REPLICAS {
                let (blob, done) = (Arc::clone(&blob), done.clone());
                scope.spawn(move || done.send(self.store(place, &blob, &digest)));
            }
            drop(done);
            let rows = most(&stored)?;

            let sync = Instant::now();
            let checkpoint = self.keys[REPLICAS].sign(&digest);
            self.write(&self.gateway, &[("state", &[0; STATE]), ("payload", payload)])?;
            let entry = sync.elapsed();

            let (done, cosigned) = mpsc::channel();
            for place in 0..REPLICAS {
                let done = done.clone();
                scope.spawn(move || done.send(self.cosign(place, &digest, &checkpoint)));
            }
            drop(done);
            let cosign = most(&cosigned)?;
            for _ in 0..=QUORUM {
                // What the client checks: the gateway's signature and the cosignatures.
                checkpoint.recover(&digest)?;
            }
            let id = id.join().map_err(|_| anyhow!("a worker panicked"))??;
            ensure!(id == blob.id(), "the floor encoded something else");
            let total = begin.elapsed();
            Ok((blob, Phases { total, rows, entry, cosign }))
        })
    }

    /// What one replica does with its rows. Gives back how long the sync took.
    fn store(&self, place: usize, blob: &EncodedBlob, digest: &B256) -> Result<Duration> {
        let rows = blob.rows(Self::range(blob, place)?);
        let permit = self.keys[REPLICAS].sign(digest);
        self.pipes[place].copy(&[&rows, &blob.rlc().to_bytes()])?;
        permit.recover(digest)?;
        Self::check(blob, place)?;
        let sync = Instant::now();
        self.write(&self.replicas[place], &[("rows", &rows), ("rlc", &blob.rlc().to_bytes())])?;
        Ok(sync.elapsed())
    }

    /// What one replica does for a checkpoint, and the gateway with its cosignature.
    fn cosign(&self, place: usize, digest: &B256, checkpoint: &Signature) -> Result<Duration> {
        checkpoint.recover(digest)?;
        let cosignature = self.keys[place].sign(digest);
        let sync = Instant::now();
        self.write(&self.replicas[place], &[("state", &[0; STATE])])?;
        let sync = sync.elapsed();
        cosignature.recover(digest)?;
        Ok(sync)
    }

    /// All of a get's work: the rows of one region copied, checked and decoded.
    fn get(&self, blob: &EncodedBlob, replica: usize) -> Result<()> {
        let range = Self::range(blob, replica)?;
        self.pipes[replica].copy(&[&blob.rows(range), &blob.rlc().to_bytes()])?;
        let (context, rows) = Self::check(blob, replica)?;
        let mut set = RowSet::new(context);
        set.insert(rows)?;
        let payload = set.payload()?;
        ensure!(payload.len() == self.size, "the floor decoded something else");
        Ok(())
    }
}

fn ms(phase: impl Fn(&Phases) -> Duration, all: &[Phases]) -> f64 {
    Times::of(all.iter().map(phase).collect()).p50_ms
}

impl Floor {
    /// Measures for about twice `duration`: first one call at a time, then as many puts at once as there are clients.
    ///
    /// # Errors
    /// When a folder cannot be written or a connection made.
    pub fn measure(dir: &Path, size: usize, clients: usize, duration: Duration) -> Result<Self> {
        let bench = Bench::open(dir, size)?;
        let (mut puts, mut gets, mut phases) = (Vec::new(), Vec::new(), Vec::new());
        bench.put(&payload::noise(size, u64::MAX))?;
        let end = Instant::now() + duration;
        while puts.len() < 3 || Instant::now() < end {
            let payload = payload::noise(size, puts.len() as u64);
            let (blob, phase) = bench.put(&payload)?;
            puts.push(phase.total);
            phases.push(phase);
            let begin = Instant::now();
            bench.get(&blob, puts.len() % REPLICAS)?;
            gets.push(begin.elapsed());
        }
        let (done, begin) = (AtomicU64::new(0), Instant::now());
        let end = begin + duration;
        at_once((0..clients).map(|client| {
            let (bench, done) = (&bench, &done);
            let job = move || {
                let payload = payload::noise(size, 1_000_000 + client as u64);
                while Instant::now() < end {
                    bench.put(&payload)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            Box::new(job) as Box<dyn FnOnce() -> Result<()> + Send>
        }))?;
        let puts_per_second = done.into_inner() as f64 / begin.elapsed().as_secs_f64();
        Ok(Self {
            put: Times::of(puts),
            get: Times::of(gets),
            sync_rows_ms: ms(|p| p.rows, &phases),
            sync_entry_ms: ms(|p| p.entry, &phases),
            sync_cosign_ms: ms(|p| p.cosign, &phases),
            work_ms: ms(|p| p.total.saturating_sub(p.rows + p.entry + p.cosign), &phases),
            puts_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_and_every_part_of_it_takes_time() {
        let dir = tempfile::tempdir().unwrap();
        let floor = Floor::measure(dir.path(), 10_000, 2, Duration::from_millis(20)).unwrap();
        assert!(floor.put.count >= 3 && floor.get.count == floor.put.count);
        assert!(floor.puts_per_second > 0.0);
        for part in
            [floor.sync_rows_ms, floor.sync_entry_ms, floor.sync_cosign_ms, floor.work_ms, floor.get.p50_ms]
        {
            assert!(part > 0.0, "{floor:?}");
        }
        // What is written is really there.
        let rows = DB::open_default(dir.path().join("floor-replica-3")).unwrap();
        let lengths = rows.iterator(rocksdb::IteratorMode::Start).map(|item| item.unwrap().1.len());
        assert_eq!(lengths.max().unwrap(), 16 * 64 * 10_000usize.div_ceil(16 * 64));
    }
}
