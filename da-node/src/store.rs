//! The database of a node: RocksDB with a format stamp and our own checksum over every value. Large values are appended to
//! segment files, so that they are written once; RocksDB keeps where they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Instant;

use bytes::Bytes;
use fail::fail_point;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode, LogLevel, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use tokio::sync::watch;

use crate::{cpu, disk, metrics};

mod batch;
mod error;
mod index;
pub mod log;
mod records;
mod seal;
mod segments;
mod tidy;

#[cfg(test)]
pub(crate) mod tests;

use batch::Operation;
pub use batch::{Batch, Durability};
pub use error::StoreError;
use error::{index_error, io_error, is_full, is_unreadable};
pub use index::{exists, is_condemned, set_aside};
use index::{look_before, visible_damage};
use seal::{INLINE, PLACED, Placed, Stored, checksum, decode, encode_place, seal};
use segments::{Place, Segments, WriteError};

/// The format of everything that this version writes.
pub const FORMAT_VERSION: u32 = 3;
/// The last format that had the index in the folder itself.
const OLD_FORMAT: u32 = 2;

/// Column of the format stamp.
const META: &str = "meta";
const STAMP: &[u8] = b"format";
/// Folders of RocksDB and of the segments.
const INDEX: &str = "index";
const SEGMENTS: &str = "segments";
/// Values from this size on go to segments.
const LARGE: usize = 4096;
/// Of how many keys in a row, and how many of a file's, as many deletions have it compacted.
const DELETIONS: (usize, usize, f64) = (1024, 512, 0.5);
/// Memory of one column's write buffer.
const WRITE_BUFFER: usize = 32 << 20;
/// Size of the write-ahead log at which columns are flushed.
const MAX_WAL: u64 = 256 << 20;

/// What kind of node a database belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A gateway.
    Gateway,
    /// A replica.
    Replica,
}

impl Role {
    fn byte(self) -> u8 {
        match self {
            Self::Gateway => 1,
            Self::Replica => 2,
        }
    }
}

/// A key and its value.
pub type Pair = (Box<[u8]>, Bytes);

/// An open database. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    segments: Segments,
    path: PathBuf,
    columns: Vec<&'static str>,
    /// Bytes of the disk that stay free.
    min_free: AtomicU64,
    /// Whether a write failed.
    failed: watch::Sender<bool>,
    damaged: AtomicU64,
    /// Whether something of the index could not be read since its files were checked.
    doubted: AtomicBool,
    /// Bytes in segments that no key leads to any more. What earlier processes left is not known: very much.
    garbage: AtomicU64,
    /// Columns that have had large values.
    segmented: RwLock<BTreeSet<&'static str>>,
    /// One at a time.
    tidying: Mutex<()>,
    /// Whoever writes holds it with others, from before its values have places until its keys lead there. Alone it is held
    /// for the moments in which values move.
    moving: RwLock<()>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database in a folder, or makes it.
    ///
    /// # Errors
    /// When the folder belongs to another role or a newer format, is open elsewhere, or lost synced data.
    pub fn open(path: &Path, role: Role, columns: &[&'static str]) -> Result<Self, StoreError> {
        if path.join("CURRENT").exists() {
            return Err(StoreError::Format { path: path.into(), found: OLD_FORMAT });
        }
        let options = options();
        let index = path.join(INDEX);
        let failed = |error: rocksdb::Error| index_error(path, error);
        let unreadable = |error: std::io::Error| io_error(path, &error);
        if let Some(error) = visible_damage(path) {
            return Err(StoreError::Index { path: path.into(), error });
        }
        // A newer program may have made columns that this one does not know: open them too, to read the stamp.
        let mut names: BTreeSet<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        names.extend([META.to_owned(), "default".to_owned()]);
        if index.join("CURRENT").exists() {
            names.extend(look_before(path, role)?);
        }
        let segments = Segments::open(&path.join(SEGMENTS)).map_err(unreadable)?;
        let descriptors = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, column_options()));
        let db = DB::open_cf_descriptors(&options, &index, descriptors).map_err(failed)?;
        for folder in [&path.join(".."), path] {
            segments::sync_folder(folder).map_err(unreadable)?;
        }
        let inner = Inner {
            db,
            segments,
            path: path.into(),
            columns: columns.iter().copied().chain([META]).collect(),
            min_free: AtomicU64::new(0),
            failed: watch::Sender::new(false),
            damaged: AtomicU64::new(0),
            doubted: AtomicBool::new(false),
            garbage: AtomicU64::new(u64::MAX / 2),
            segmented: RwLock::default(),
            tidying: Mutex::new(()),
            moving: RwLock::new(()),
        };
        let store = Self { inner: Arc::new(inner) };
        metrics::get().store_failed.record(0, &[]);
        store.stamp(role)?;
        for column in &store.inner.columns {
            if store.contains(META, &segmented_key(column))? {
                store.segmented_columns().insert(column);
            }
        }
        Ok(store)
    }

    /// Notes the format, where nothing is noted yet.
    fn stamp(&self, role: Role) -> Result<(), StoreError> {
        if self.get(META, STAMP)?.is_some() {
            return Ok(());
        }
        let mut stamp = FORMAT_VERSION.to_be_bytes().to_vec();
        stamp.push(role.byte());
        let mut batch = Batch::new();
        batch.put(META, STAMP, stamp);
        self.commit(batch, Durability::Synced)
    }

    /// The value of a key, checked against its checksum.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the checksum is wrong.
    pub fn get(&self, column: &'static str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let handle = self.column(column)?;
        let mut before = None;
        loop {
            let found = self.inner.db.get_pinned_cf(handle, key);
            let Some(sealed) = found.map_err(|error| self.read_error(column, key, error))? else {
                return Ok(None);
            };
            match self.unseal(column, key, &sealed)? {
                Stored::Inline(value) => return Ok(Some(Bytes::copy_from_slice(value))),
                Stored::Placed(placed) => match self.placed(column, key, &placed)? {
                    Some(value) => return Ok(Some(value)),
                    // It moved while it was read, unless its segment was lost.
                    None if before == Some(placed) => return Err(self.damage(column, key)),
                    None => before = Some(placed),
                },
            }
        }
    }

    /// Whether a key has a value, without reading large values' checksums.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn contains(&self, column: &'static str, key: &[u8]) -> Result<bool, StoreError> {
        let found = self.inner.db.get_pinned_cf(self.column(column)?, key);
        found.map(|value| value.is_some()).map_err(|error| self.read_error(column, key, error))
    }

    /// Whether any key begins with a prefix.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn has_any(&self, column: &'static str, prefix: &[u8]) -> Result<bool, StoreError> {
        let from = IteratorMode::From(prefix, Direction::Forward);
        let first = self.inner.db.iterator_cf_opt(self.column(column)?, within(prefix), from).next();
        first.transpose().map(|pair| pair.is_some()).map_err(|error| self.read_error(column, prefix, error))
    }

    /// Bytes of a value, 0 where there is none. The value itself is not looked at.
    ///
    /// # Errors
    /// When the disk fails. A place that is damaged has a length of 0.
    pub fn length(&self, column: &'static str, key: &[u8]) -> Result<u64, StoreError> {
        let found = self.inner.db.get_pinned_cf(self.column(column)?, key);
        let sealed = found.map_err(|error| self.read_error(column, key, error))?;
        Ok(match sealed.as_deref().and_then(|sealed| decode(key, sealed)) {
            Some(Stored::Inline(value)) => wide(value.len()),
            Some(Stored::Placed(placed)) => placed.place.bytes.into(),
            None => 0,
        })
    }

    /// At most `limit` pairs whose keys begin with `prefix`, from `start` on, ascending.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a checksum is wrong.
    pub fn scan(
        &self,
        column: &'static str,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let from = IteratorMode::From(start.max(prefix), Direction::Forward);
        let mut found = Vec::new();
        let pairs = self.inner.db.iterator_cf_opt(self.column(column)?, within(prefix), from);
        for pair in pairs.take(limit) {
            let (key, sealed) = pair.map_err(|error| self.read_error(column, prefix, error))?;
            let value = match self.unseal(column, &key, &sealed)? {
                Stored::Inline(value) => Some(Bytes::copy_from_slice(value)),
                Stored::Placed(placed) => self.placed(column, &key, &placed)?,
            };
            // What has moved since the scan began is read by its key.
            let value = match value {
                None => self.get(column, &key)?,
                value => value,
            };
            found.extend(value.map(|value| (key, value)));
        }
        Ok(found)
    }

    /// Writes a batch and waits until it counts as done. Synced writes that wait at once share a sync.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there was no room for large values: nothing was written. When anything else failed,
    /// nothing can be written from then on.
    pub fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let (inner, operations) = (&self.inner, batch.operations);
        let handles = operations.iter().map(|operation| self.column(operation.column()));
        let handles = handles.collect::<Result<Vec<_>, _>>()?;
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let begun = Instant::now();
        let _moving = inner.moving.read().unwrap_or_else(PoisonError::into_inner);
        let large: Vec<Bytes> = operations.iter().filter_map(Operation::large).cloned().collect();
        // What deletes may write a little beside it, or a full disk would stay full.
        if !operations.iter().any(|operation| matches!(operation, Operation::Delete { .. })) {
            self.check_room(large.iter().map(|value| wide(value.len())).sum())?;
        }
        let mut places = self.append(&large)?.into_iter();
        let (mut writes, mut freed) = (WriteBatch::default(), 0);
        for column in self.newly_segmented(&operations) {
            let key = segmented_key(column);
            writes.put_cf(self.column(META)?, &key, seal(&key, INLINE, &[]));
        }
        for (operation, handle) in operations.iter().zip(handles) {
            let key = operation.key();
            if operation.large().is_some() || matches!(operation, Operation::Delete { .. }) {
                freed += self.placed_bytes(handle, key);
            }
            match operation {
                Operation::Put { value, .. } => {
                    let sealed = match operation.large().and_then(|_| places.next()) {
                        Some(place) => seal(key, PLACED, &encode_place(place, checksum(key, &[value]))),
                        None => seal(key, INLINE, value),
                    };
                    writes.put_cf(handle, key, sealed);
                }
                Operation::Delete { .. } => writes.delete_cf(handle, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        fail_point!("before-batch");
        let written = inner.db.write_opt(writes, &options);
        fail_point!("batch-written");
        if durability == Durability::Synced {
            metrics::get().store_sync_seconds.record(begun.elapsed().as_secs_f64(), &[]);
        }
        self.written(written.map_err(rocksdb::Error::into_string))?;
        inner.garbage.fetch_add(freed, Ordering::Relaxed);
        let segmented = self.newly_segmented(&operations);
        if !segmented.is_empty() {
            self.segmented_columns().extend(segmented);
        }
        Ok(())
    }

    fn segmented_columns(&self) -> RwLockWriteGuard<'_, BTreeSet<&'static str>> {
        self.inner.segmented.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The columns to which a batch brings their first large values.
    fn newly_segmented(&self, operations: &[Operation]) -> BTreeSet<&'static str> {
        let known = self.inner.segmented.read().unwrap_or_else(PoisonError::into_inner);
        let large = operations.iter().filter(|operation| operation.large().is_some());
        large.map(Operation::column).filter(|column| !known.contains(column)).collect()
    }

    /// Appends large values, synced also where the batch is not: a key never leads to what a power cut may take.
    fn append(&self, values: &[Bytes]) -> Result<Vec<Place>, StoreError> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        fail_point!("before-values");
        self.inner.segments.append(values).map_err(|error| match error {
            WriteError::Write(error) | WriteError::Refused(error) if is_full(&error) => {
                tracing::warn!(path = %self.inner.path.display(), "the disk is full");
                StoreError::Full { path: self.inner.path.clone() }
            }
            WriteError::Refused(error) | WriteError::Write(error) | WriteError::Sync(error) => {
                self.fail(error.to_string())
            }
        })
    }

    /// Like [`Db::commit`], off the async threads.
    ///
    /// # Errors
    /// When the write failed; nothing can be written from then on.
    pub async fn commit_async(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let store = self.clone();
        cpu::blocking(move || store.commit(batch, durability)).await
    }

    /// The first key from `start` on. Its value is not looked at.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn next_key(&self, column: &'static str, start: &[u8]) -> Result<Option<Box<[u8]>>, StoreError> {
        let from = IteratorMode::From(start, Direction::Forward);
        let pair = self.inner.db.iterator_cf_opt(self.column(column)?, read_options(), from).next();
        pair.transpose()
            .map(|pair| pair.map(|(key, _)| key))
            .map_err(|error| self.read_error(column, start, error))
    }

    /// After a failed write or sync the kernel may have dropped the dirty pages, so that a later sync would succeed
    /// without them: only reading the disk again, at the next start, shows what is there.
    fn written(&self, result: Result<(), String>) -> Result<(), StoreError> {
        result.map_err(|error| self.fail(error))
    }

    fn fail(&self, error: String) -> StoreError {
        // RocksDB says so too when it met damage while it merged files: whether it is there the next look tells.
        if !error.contains("No space left on device") {
            self.inner.doubted.store(true, Ordering::Relaxed);
        }
        self.inner.failed.send_replace(true);
        metrics::get().store_failed.record(1, &[]);
        tracing::error!(path = %self.inner.path.display(), error, "write failed, the store takes no more writes");
        StoreError::Failed { path: self.inner.path.clone(), error }
    }

    /// Damaged values seen since the start.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.inner.damaged.load(Ordering::Relaxed)
    }

    /// Whether a write failed, so that nothing can be written until the next start.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        *self.inner.failed.borrow()
    }

    /// Leaves so many bytes of the disk free, half of them also for small values.
    pub fn keep_free(&self, bytes: u64) {
        self.inner.min_free.store(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for so many bytes of large values, or for small ones where there are none.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is not.
    pub fn check_room(&self, large: u64) -> Result<(), StoreError> {
        let min_free = self.inner.min_free.load(Ordering::Relaxed);
        if min_free == 0 {
            return Ok(());
        }
        self.needs_free(if large == 0 { min_free / 2 } else { min_free.saturating_add(large) })
    }

    fn needs_free(&self, bytes: u64) -> Result<(), StoreError> {
        let path = &self.inner.path;
        let free = disk::space(path).map_err(|error| self.fail(error.to_string()))?.free;
        if free < bytes { Err(StoreError::Full { path: path.clone() }) } else { Ok(()) }
    }

    fn column(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        let known = self.inner.columns.contains(&name);
        known.then(|| self.inner.db.cf_handle(name)).flatten().ok_or(StoreError::Column(name))
    }

    fn unseal<'a>(
        &self,
        column: &'static str,
        key: &[u8],
        sealed: &'a [u8],
    ) -> Result<Stored<'a>, StoreError> {
        decode(key, sealed).ok_or_else(|| self.damage(column, key))
    }

    /// The value at a place, checked; nothing where its segment is gone.
    fn placed(&self, column: &'static str, key: &[u8], placed: &Placed) -> Result<Option<Bytes>, StoreError> {
        match self.inner.segments.read(placed.place) {
            None => Ok(None),
            Some(Ok(value)) if checksum(key, &[&value]) == placed.crc => Ok(Some(value)),
            Some(Ok(_)) => Err(self.damage(column, key)),
            // A file that is too short or a sector that cannot be read: this value is lost, and others are not.
            Some(Err(error)) => {
                tracing::error!(column, key = hex::encode(key), %error, "a segment cannot be read");
                Err(self.damage(column, key))
            }
        }
    }

    /// Bytes in segments to which a key leads; 0 also where that cannot be read.
    fn placed_bytes(&self, handle: &ColumnFamily, key: &[u8]) -> u64 {
        let sealed = self.inner.db.get_pinned_cf(handle, key).ok().flatten();
        match sealed.as_deref().and_then(|sealed| decode(key, sealed)) {
            Some(Stored::Placed(placed)) => placed.place.bytes.into(),
            _ => 0,
        }
    }

    fn read_error(&self, column: &'static str, key: &[u8], error: rocksdb::Error) -> StoreError {
        if is_unreadable(&error) {
            tracing::error!(%error, column, "the index cannot be read");
            self.inner.doubted.store(true, Ordering::Relaxed);
            return self.damage(column, key);
        }
        StoreError::Failed { path: self.inner.path.clone(), error: error.into_string() }
    }

    pub(crate) fn damage(&self, column: &'static str, key: &[u8]) -> StoreError {
        self.inner.damaged.fetch_add(1, Ordering::Relaxed);
        metrics::get().checksum_failures.add(1, &[]);
        StoreError::Damaged { column, key: hex::encode(key) }
    }
}

/// Where it is noted that a column has had large values.
fn segmented_key(column: &str) -> Vec<u8> {
    [b"segmented ", column.as_bytes()].concat()
}

fn wide(length: usize) -> u64 {
    // No platform has a usize above 64 bits.
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A crash may tear the last record, of a write that nobody was told about: that one is dropped. What else is not as it was
    // written was seen before (`records`). (Absolute consistency would refuse to start after every crash in the middle of
    // a write.)
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Without this a whole log file that went missing would pass unnoticed.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(MAX_WAL);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(4);
    options.set_log_level(LogLevel::Warn);
    options
}

fn column_options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER);
    // Files that are mostly deleted keys are compacted soon: whoever looks for the next key has to pass all of them.
    options.add_compact_on_deletion_collector_factory(DELETIONS.0, DELETIONS.1, DELETIONS.2);
    options
}

/// For keys that begin with a prefix: beyond it are perhaps many deleted ones, which need not be passed.
fn within(prefix: &[u8]) -> ReadOptions {
    let mut options = read_options();
    options.set_iterate_range(rocksdb::PrefixRange(prefix));
    options
}

fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}
