//! Gives the space of deleted values back: segments that are mostly garbage are emptied and removed.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fail::fail_point;
use rocksdb::{ColumnFamily, IteratorMode, WriteBatch};

use super::{Db, PLACED, Placed, StoreError, Stored, decode, encode_place, read_options, seal};

/// Least garbage for which it is worth the work; an eighth of all segments where that is more.
const LEAST: u64 = 64 << 20;
/// Bytes that move before segments are removed.
const GROUP_BYTES: u64 = 1 << 30;
/// Values that move under one lock.
const MOVED_BYTES: u64 = 4 << 20;

/// A value that has to leave its segment.
struct Move {
    column: &'static str,
    key: Box<[u8]>,
    placed: Placed,
}

impl Db {
    /// Gives space back where there is enough garbage to be worth it, any where room is short, and nobody is at it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn tidy(&self) -> Result<(), StoreError> {
        let garbage = self.inner.garbage.load(Ordering::Relaxed);
        let is_short = self.check_room(1).is_err();
        if garbage == 0 || (!is_short && garbage < LEAST.max(self.inner.segments.bytes() / 8)) {
            return Ok(());
        }
        match self.inner.tidying.try_lock() {
            Ok(_one) => self.empty_segments(),
            Err(_) => Ok(()),
        }
    }

    /// Removes every segment that is garbage by half or more, after moving what is alive. Reads and writes go on.
    ///
    /// # Errors
    /// When the store fails. A segment with a damaged value stays.
    pub fn compact(&self) -> Result<(), StoreError> {
        let _one = self.inner.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        self.empty_segments()
    }

    fn empty_segments(&self) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let garbage = self.inner.garbage.swap(0, Ordering::Relaxed);
        let outcome = self.empty_all();
        if outcome.is_err() {
            // It is still there.
            self.inner.garbage.fetch_max(garbage, Ordering::Relaxed);
        }
        outcome
    }

    fn empty_all(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        if self.segmented_columns().is_empty() {
            // No key has ever led to a segment: what there is was being written when a process ended, or the keys are lost.
            return Ok(());
        }
        let sizes = {
            // Once this is held alone, every value below the next segment has its key.
            let _alone = inner.moving.write().unwrap_or_else(PoisonError::into_inner);
            inner.segments.sizes(inner.segments.roll())
        };
        let mut alive: BTreeMap<u64, u64> = sizes.keys().map(|number| (*number, 0)).collect();
        self.each_placed(|_, _, placed| {
            if let Some(bytes) = alive.get_mut(&placed.place.segment) {
                *bytes += u64::from(placed.place.bytes);
            }
            Ok(())
        })?;
        alive.retain(|number, bytes| 2 * *bytes <= sizes.get(number).copied().unwrap_or(0));
        let mut emptied: Vec<(u64, u64)> = alive.into_iter().map(|(number, bytes)| (bytes, number)).collect();
        // Those that hold nothing are first: they make room for what has to move.
        emptied.sort_unstable();
        let dead: Vec<u64> = emptied.iter().filter(|(bytes, _)| *bytes == 0).map(|(_, it)| *it).collect();
        self.remove(&dead)?;
        // Where there is no room for many at once, each makes room for the next.
        let reserve = self.inner.min_free.load(Ordering::Relaxed) / 2;
        let most =
            if self.needs_free(reserve.saturating_add(2 * GROUP_BYTES)).is_ok() { GROUP_BYTES } else { 1 };
        let mut group = (0, Vec::new());
        for (bytes, number) in emptied.into_iter().filter(|(bytes, _)| *bytes > 0) {
            group.0 += bytes;
            group.1.push(number);
            if group.0 >= most {
                self.empty_group(std::mem::take(&mut group))?;
            }
        }
        self.empty_group(group)
    }

    /// Moves what is alive in some segments, and removes them.
    fn empty_group(&self, (bytes, mut segments): (u64, Vec<u64>)) -> Result<(), StoreError> {
        if segments.is_empty() {
            return Ok(());
        }
        // This is what space was kept free for.
        self.needs_free((self.inner.min_free.load(Ordering::Relaxed) / 2).saturating_add(bytes))?;
        let stuck = self.empty(&segments)?;
        segments.retain(|number| !stuck.contains(number));
        self.remove(&segments)
    }

    fn remove(&self, segments: &[u64]) -> Result<(), StoreError> {
        // The keys lead elsewhere, or are deleted, for certain before the files go.
        self.written(self.inner.db.flush_wal(true).map_err(rocksdb::Error::into_string))?;
        fail_point!("before-segments-go");
        self.inner.segments.remove(segments).map_err(|error| self.fail(error.to_string()))
    }

    /// Every key that leads to a segment. Where one cannot be read nobody knows what is alive.
    fn each_placed(
        &self,
        mut each: impl FnMut(&'static str, Box<[u8]>, Placed) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let columns = self.segmented_columns().clone();
        for column in columns {
            let handle = self.column(column)?;
            for pair in self.inner.db.iterator_cf_opt(handle, read_options(), IteratorMode::Start) {
                let (key, sealed) = pair.map_err(|error| self.read_error(column, &[], error))?;
                match decode(&key, &sealed) {
                    Some(Stored::Placed(placed)) => each(column, key, placed)?,
                    Some(Stored::Inline(_)) => {}
                    None => return Err(self.damage(column, &key)),
                }
            }
        }
        Ok(())
    }

    /// Moves what is alive in some segments to the end. Gives those in which something cannot be moved.
    fn empty(&self, segments: &[u64]) -> Result<Vec<u64>, StoreError> {
        let (mut stuck, mut moves, mut bytes) = (Vec::new(), Vec::new(), 0);
        self.each_placed(|column, key, placed| {
            if !segments.contains(&placed.place.segment) {
                return Ok(());
            }
            bytes += u64::from(placed.place.bytes);
            moves.push(Move { column, key, placed });
            if bytes >= MOVED_BYTES {
                bytes = 0;
                self.shift(std::mem::take(&mut moves), &mut stuck)?;
            }
            Ok(())
        })?;
        self.shift(moves, &mut stuck)?;
        Ok(stuck)
    }

    /// Moves values, unless their keys have come to lead elsewhere meanwhile.
    fn shift(&self, moves: Vec<Move>, stuck: &mut Vec<u64>) -> Result<(), StoreError> {
        let (mut values, mut kept): (Vec<Bytes>, Vec<Move>) = (Vec::new(), Vec::new());
        for moved in moves {
            match self.placed(moved.column, &moved.key, &moved.placed) {
                Ok(Some(value)) => {
                    values.push(value);
                    kept.push(moved);
                }
                Ok(None) | Err(StoreError::Damaged { .. }) => stuck.push(moved.placed.place.segment),
                Err(error) => return Err(error),
            }
        }
        let places = self.append(&values)?;
        let mut writes = WriteBatch::default();
        let _alone = self.inner.moving.write().unwrap_or_else(PoisonError::into_inner);
        for (Move { column, key, placed }, place) in kept.into_iter().zip(places) {
            let handle = self.column(column)?;
            if self.leads_to(handle, &key, &placed) {
                writes.put_cf(handle, &key, seal(&key, PLACED, &encode_place(place, placed.crc)));
            }
        }
        let moved = self.inner.db.write(writes).map_err(rocksdb::Error::into_string);
        fail_point!("values-moved");
        self.written(moved)
    }

    fn leads_to(&self, handle: &ColumnFamily, key: &[u8], placed: &Placed) -> bool {
        let sealed = self.inner.db.get_pinned_cf(handle, key).ok().flatten();
        matches!(sealed.as_deref().and_then(|it| decode(key, it)), Some(Stored::Placed(now)) if now == *placed)
    }
}
