//! Rebuilt blobs that are being sampled.
//!
//! What is kept is the whole code word with its tree, as it was rebuilt: any row and its proof are slices of it, while the
//! least part of it that would do, K rows and the tree, costs an encoding for each question.
//!
//! The bytes of a blob are reserved before it is kept, those asked for longest ago make room, and they are given back only
//! when the last reader has let go. So it is a plain list by the time of asking and no `moka`, which evicts some time after
//! a bound was passed, and does not know what is still being read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use meridian_proofs::ids::BlobId;
use meridian_proofs::shape::Shape;
use tokio::time::Instant;

use super::Replica;
use super::rebuild::Whole;
use super::record::wide;
use super::settings::Settings;
use crate::cpu;
use crate::memory::{MemoryBudget, Reservation};
use crate::metrics::{self, KeyValue};

/// Bytes of a hash and of a value of an RLC vector.
const HASH: usize = 32;
const VALUE: usize = 16;
/// Bytes that every blob takes beside its rows, tree and RLC vector: no fewer than its header and the lists that hold them.
const FIXED: usize = 2048;

/// Blobs by when they were asked for last, within a number of bytes.
pub(super) struct Cache {
    kept: Mutex<Kept>,
    memory: MemoryBudget,
    idle: Duration,
}

struct Kept {
    blobs: LruCache<BlobId, Entry>,
    bytes: u64,
}

struct Entry {
    whole: Arc<Whole>,
    bytes: u64,
    asked: Instant,
}

/// Why a blob is kept no longer.
#[derive(Clone, Copy)]
enum Gone {
    Room,
    Idle,
    Dropped,
}

impl Gone {
    fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Idle => "idle",
            Self::Dropped => "dropped",
        }
    }
}

/// Bytes that a rebuilt blob takes: its rows, the two hashes of each in the tree, and the RLC vector.
pub(super) fn weight(shape: Shape) -> u64 {
    wide(shape.total_bytes() + 2 * HASH * shape.total_rows() + VALUE * shape.data_rows() + FIXED)
}

impl Kept {
    fn remove(&mut self, id: &BlobId, why: Gone) -> Option<Entry> {
        let entry = self.blobs.pop(id)?;
        self.bytes -= entry.bytes;
        metrics::get().cache_evictions.add(1, &[KeyValue::new("reason", why.name())]);
        metrics::get().cache_bytes.record(self.bytes, &[]);
        Some(entry)
    }

    /// Takes out the blob that was asked for longest ago, if that was no later than `until`.
    fn remove_oldest(&mut self, until: Instant, why: Gone) -> Option<Entry> {
        let (id, entry) = self.blobs.peek_lru()?;
        let (id, is_due) = (*id, entry.asked <= until);
        if is_due { self.remove(&id, why) } else { None }
    }
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            kept: Mutex::new(Kept { blobs: LruCache::unbounded(), bytes: 0 }),
            memory: MemoryBudget::new("cache", settings.cache_bytes),
            idle: Duration::from_secs(settings.cache_idle_seconds),
        }
    }

    /// Bytes of what is kept, and of what was and is still being read.
    pub(super) fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A blob that is kept. It is asked for.
    pub(super) fn get(&self, id: &BlobId) -> Option<Arc<Whole>> {
        let mut kept = self.kept();
        let entry = kept.blobs.get_mut(id)?;
        entry.asked = Instant::now();
        Some(Arc::clone(&entry.whole))
    }

    /// Room for a blob of so many bytes, for which others go. Nothing where it has none: because it is too small, or readers
    /// still have what is in the way. Gives pages back to the system, which takes its time.
    pub(super) fn room(&self, bytes: u64) -> Option<Reservation> {
        if bytes > self.memory.total() {
            return None;
        }
        loop {
            if let Some(room) = self.memory.try_reserve(bytes) {
                return Some(room);
            }
            let oldest = self.kept().remove_oldest(Instant::now(), Gone::Room);
            // After the lock.
            drop(oldest?);
        }
    }

    /// Keeps a blob whose bytes are in the room that it was given.
    pub(super) fn keep(&self, id: BlobId, whole: Arc<Whole>, bytes: u64) {
        let mut kept = self.kept();
        let entry = Entry { whole, bytes, asked: Instant::now() };
        kept.bytes += bytes;
        let before = kept.blobs.put(id, entry);
        kept.bytes -= before.as_ref().map_or(0, |before| before.bytes);
        metrics::get().cache_bytes.record(kept.bytes, &[]);
        drop(kept);
        drop(before);
    }

    /// Forgets a blob that is dropped from disk.
    pub(super) fn forget(&self, id: &BlobId) {
        let gone = self.kept().remove(id, Gone::Dropped);
        drop(gone);
    }

    /// Forgets what nobody has asked for by now. Gives the time until more may have to go.
    fn forget_idle(&self, now: Instant) -> Duration {
        loop {
            let mut kept = self.kept();
            let gone = now.checked_sub(self.idle).and_then(|until| kept.remove_oldest(until, Gone::Idle));
            let oldest = kept.blobs.peek_lru().map_or(now, |(_, entry)| entry.asked);
            drop(kept);
            if gone.is_none() {
                return self.idle.saturating_sub(now.saturating_duration_since(oldest));
            }
        }
    }
}

impl Replica {
    /// Forgets rebuilt blobs that nobody asks for any more.
    pub(super) async fn forget_idle_for_ever(self: Arc<Self>) {
        loop {
            let cache = Arc::clone(&self.cache);
            let wait = cpu::blocking(move || cache.forget_idle(Instant::now())).await;
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::B256;
    use meridian_proofs::encode::encode;
    use meridian_proofs::shape::PayloadLength;

    use super::*;

    const LENGTH: usize = 1000;

    fn one() -> u64 {
        weight(Shape::of(PayloadLength::try_from(1000_u64).unwrap()))
    }

    fn cache(bytes: u64, idle: u64) -> Cache {
        Cache::new(&Settings { cache_bytes: bytes, cache_idle_seconds: idle, ..Settings::default() })
    }

    /// Keeps a blob, if there is room for it.
    fn keep(cache: &Cache, seed: u8) -> Option<(BlobId, Arc<Whole>)> {
        let blob = Box::new(encode(&[seed; LENGTH], B256::ZERO).unwrap());
        let (id, memory) = (blob.id(), cache.room(one())?);
        let whole = Arc::new(Whole::Blob { blob, context: None, _memory: memory });
        cache.keep(id, Arc::clone(&whole), one());
        Some((id, whole))
    }

    #[test]
    fn the_bound_holds_at_its_boundary() {
        for (bytes, held) in
            [(0, 0), (one() - 1, 0), (one(), 1), (one() + 1, 1), (2 * one() - 1, 1), (2 * one(), 2)]
        {
            let cache = cache(bytes, 1);
            let ids: Vec<_> = (0..5).filter_map(|seed| keep(&cache, seed)).map(|(id, _)| id).collect();
            let kept: Vec<_> = ids.iter().filter(|id| cache.get(id).is_some()).collect();
            assert_eq!(kept, ids.iter().skip(5 - held).collect::<Vec<_>>(), "{bytes}");
            let used = u64::try_from(held).unwrap() * one();
            assert_eq!((cache.memory_used(), cache.kept().bytes), (used, used));
        }
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_first() {
        let cache = cache(3 * one(), 1);
        let ids: Vec<_> = (0..3).map(|seed| keep(&cache, seed).unwrap().0).collect();
        assert!(cache.get(&ids[0]).is_some());
        let new = keep(&cache, 3).unwrap().0;
        let is_kept = [ids[0], ids[1], ids[2], new].map(|id| cache.kept().blobs.contains(&id));
        assert_eq!(is_kept, [true, false, true, true]);
        // One that is there already takes no second place.
        cache.keep(new, cache.get(&new).unwrap(), one());
        assert_eq!(cache.kept().bytes, 3 * one());
        cache.forget(&new);
        assert!(cache.get(&new).is_none());
        assert_eq!(cache.memory_used(), 2 * one());
    }

    #[test]
    fn what_is_still_read_keeps_its_memory() {
        let cache = cache(one(), 1);
        let (id, reader) = keep(&cache, 0).unwrap();
        assert!(keep(&cache, 1).is_none(), "there is no room");
        assert!(cache.get(&id).is_none());
        assert_eq!((cache.memory_used(), cache.kept().bytes), (one(), 0));
        drop(reader);
        assert_eq!(cache.memory_used(), 0);
        assert!(keep(&cache, 1).is_some());
    }

    #[test]
    fn what_nobody_asks_for_goes() {
        let cache = cache(10 * one(), 60);
        let (idle, begun) = (Duration::from_secs(60), Instant::now());
        assert_eq!(cache.forget_idle(begun), idle);
        let ids = [0, 1].map(|seed| keep(&cache, seed).unwrap().0);
        let kept = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        assert!(cache.get(&ids[1]).is_some());
        let asked = Instant::now();
        let is_kept = || ids.map(|id| cache.kept().blobs.contains(&id));
        assert!(cache.forget_idle(begun + idle / 2) >= idle / 2);
        assert_eq!(is_kept(), [true, true]);
        assert!(cache.forget_idle(kept + idle) > Duration::ZERO);
        assert_eq!(is_kept(), [false, true]);
        assert_eq!(cache.forget_idle(asked + idle), idle);
        assert_eq!((is_kept(), cache.memory_used()), ([false, false], 0));
    }

    #[test]
    fn a_weight_is_no_less_than_what_a_blob_takes() {
        // Rows, both hashes of every row, 16 bytes of every data row: 512 MiB and two more at most.
        let shape = |length: u64| Shape::of(PayloadLength::try_from(length).unwrap());
        assert_eq!(weight(shape(1)), 64 * 64 + 64 * 64 + 16 * 16 + 2048);
        assert_eq!(weight(shape(1 << 27)), (512 << 20) + (2 << 20) + (128 << 10) + 2048);
    }
}
