//! The database of a node: RocksDB with a format stamp and our own checksum over every value.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use meridian_proto::error::{ApiError, Reason};
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBRecoveryMode,
    Direction, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::{cpu, metrics};

pub mod log;
#[cfg(test)]
mod tests;
mod wal;

/// The format of everything that this version writes.
pub const FORMAT_VERSION: u32 = 2;

/// Column of the format stamp.
const META: &str = "meta";
const STAMP: &[u8] = b"format";
const CRC_LEN: usize = 4;
/// Values from this size on live in blob files: they are written once and not moved by compaction.
const BLOB_BYTES: u64 = 4096;
/// How many of the blob files, the oldest first, a compaction rewrites without garbage.
const OLD_FILES: &str = "0.25";
const ALL_FILES: &str = "1.0";
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

/// Why a database refuses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB or the disk below it failed.
    #[error("store at {path}: {error}", path = path.display())]
    Failed {
        /// Folder of the database.
        path: PathBuf,
        /// What RocksDB said.
        error: String,
    },
    /// A stored value is not what was written.
    #[error("stored value is damaged: column {column}, key 0x{key}")]
    Damaged {
        /// Column of the value.
        column: &'static str,
        /// Key of the value in hex.
        key: String,
    },
    /// The blob was dropped while it was read.
    #[error("the blob was dropped while it was read")]
    Dropped,
    /// An earlier write failed, so nothing is known about what is on disk until the next start.
    #[error("an earlier write failed: the store takes no more writes until it is opened again")]
    Poisoned,
    /// The folder was written by a version that this one does not know.
    #[error("store at {path} has format {found}, this program writes format {FORMAT_VERSION}: use the program that wrote it", path = path.display())]
    Format {
        /// Folder of the database.
        path: PathBuf,
        /// Format that was found.
        found: u32,
    },
    /// The folder belongs to another kind of node.
    #[error("store at {path} belongs to another kind of node than {role:?}", path = path.display())]
    Role {
        /// Folder of the database.
        path: PathBuf,
        /// What was asked for.
        role: Role,
    },
    /// A column that the database was not opened with.
    #[error("store has no column {0}")]
    Column(&'static str),
}

/// What a caller of the network gets to see: where the damage is stays in the log of this host.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error == StoreError::Dropped {
            return Self::new(Reason::BlobUnknown, error.to_string());
        }
        tracing::error!(%error, "the store refused");
        match error {
            StoreError::Damaged { .. } => {
                Self::new(Reason::StoreDamaged, "a stored value failed its checksum")
            }
            StoreError::Failed { .. } | StoreError::Poisoned => {
                Self::new(Reason::StoreFailed, "the disk failed")
            }
            error => Self::internal(error.to_string()),
        }
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is synced to disk, with everything written before it.
    Synced,
    /// When the operating system has it. For what can be found out again.
    Relaxed,
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
enum Operation {
    Put { column: &'static str, key: Vec<u8>, value: Bytes },
    Delete { column: &'static str, key: Vec<u8> },
}

impl Batch {
    /// A batch of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value.
    pub fn put(&mut self, column: &'static str, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.operations.push(Operation::Put { column, key: key.into(), value: value.into() });
    }

    /// Deletes a value if it is there.
    pub fn delete(&mut self, column: &'static str, key: impl Into<Vec<u8>>) {
        self.operations.push(Operation::Delete { column, key: key.into() });
    }

    /// Whether nothing was put or deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
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
    path: PathBuf,
    columns: Vec<&'static str>,
    poisoned: AtomicBool,
    damaged: AtomicU64,
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
        let failed =
            |error: rocksdb::Error| StoreError::Failed { path: path.into(), error: error.into_string() };
        let options = options();
        // A newer program may have made columns that this one does not know: open them too, to read the stamp.
        let exists = path.join("CURRENT").exists();
        let mut names: BTreeSet<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        names.extend([META.to_owned(), "default".to_owned()]);
        if exists {
            let io_failed =
                |error: std::io::Error| StoreError::Failed { path: path.into(), error: error.to_string() };
            if let Some(log) = wal::find_reused(path).map_err(io_failed)? {
                let error = format!("write-ahead log {} is damaged", log.display());
                return Err(StoreError::Failed { path: path.into(), error });
            }
            names.extend(DB::list_cf(&options, path).map_err(failed)?);
        }
        let descriptors = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, column_options()));
        let db = DB::open_cf_descriptors(&options, path, descriptors).map_err(failed)?;
        let columns = columns.iter().copied().chain([META]).collect();
        let inner = Inner {
            db,
            path: path.into(),
            columns,
            poisoned: AtomicBool::new(false),
            damaged: AtomicU64::new(0),
        };
        let store = Self { inner: Arc::new(inner) };
        store.check_stamp(role)?;
        Ok(store)
    }

    fn check_stamp(&self, role: Role) -> Result<(), StoreError> {
        let path = || self.inner.path.clone();
        match self.get(META, STAMP)? {
            Some(stamp) => {
                let version = stamp.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                if version != FORMAT_VERSION {
                    return Err(StoreError::Format { path: path(), found: version });
                }
                if stamp.get(4..) != Some(&[role.byte()]) {
                    return Err(StoreError::Role { path: path(), role });
                }
                Ok(())
            }
            None => {
                let mut stamp = FORMAT_VERSION.to_be_bytes().to_vec();
                stamp.push(role.byte());
                let mut batch = Batch::new();
                batch.put(META, STAMP, stamp);
                self.commit(batch, Durability::Synced)
            }
        }
    }

    /// The value of a key, checked against its checksum.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the checksum is wrong.
    pub fn get(&self, column: &'static str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.inner.db.get_pinned_cf(self.column(column)?, key) {
            Ok(Some(sealed)) => self.unseal(column, key, &sealed).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(self.read_error(column, key, error)),
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
        let pairs = self.inner.db.iterator_cf_opt(self.column(column)?, read_options(), from);
        for pair in pairs.take(limit) {
            let (key, sealed) = pair.map_err(|error| self.read_error(column, prefix, error))?;
            if !key.starts_with(prefix) {
                break;
            }
            let value = self.unseal(column, &key, &sealed)?;
            found.push((key, value));
        }
        Ok(found)
    }

    /// Writes a batch and waits until it counts as done. RocksDB joins synced writes that wait at once.
    ///
    /// # Errors
    /// When the write failed; nothing can be written from then on.
    pub fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        let mut sealed = Vec::new();
        for operation in batch.operations {
            match operation {
                Operation::Put { column, key, value } => {
                    sealed.clear();
                    sealed.extend_from_slice(&checksum(&key, &value).to_be_bytes());
                    sealed.extend_from_slice(&value);
                    writes.put_cf(self.column(column)?, &key, &sealed);
                }
                Operation::Delete { column, key } => writes.delete_cf(self.column(column)?, &key),
            }
        }
        if self.inner.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        let begun = Instant::now();
        let written = self.inner.db.write_opt(writes, &options);
        if durability == Durability::Synced {
            metrics::get().store_sync_seconds.record(begun.elapsed().as_secs_f64(), &[]);
        }
        self.written(written.map_err(rocksdb::Error::into_string))
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

    /// Rewrites a column's keys without those that were deleted, which gives back the files that hold nothing else; all
    /// of it where half of what its files hold is garbage. Reads and writes go on.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn compact(&self, column: &'static str) -> Result<(), StoreError> {
        let (db, handle) = (&self.inner.db, self.column(column)?);
        db.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
        let bytes = |name: &str| db.property_int_value_cf(handle, name).ok().flatten().unwrap_or(0);
        if 2 * bytes("rocksdb.live-blob-file-garbage-size") <= bytes("rocksdb.live-blob-file-size") {
            return Ok(());
        }
        let collect = |cutoff| {
            let set = db.set_options_cf(handle, &[("blob_garbage_collection_age_cutoff", cutoff)]);
            set.map_err(|error| self.read_error(column, &[], error))
        };
        collect(ALL_FILES)?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        db.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
        collect(OLD_FILES)
    }

    /// After a failed write or sync the kernel may have dropped the dirty pages, so that a later sync would succeed
    /// without them: only reading the disk again, at the next start, shows what is there.
    fn written(&self, result: Result<(), String>) -> Result<(), StoreError> {
        result.map_err(|error| {
            self.inner.poisoned.store(true, Ordering::Release);
            tracing::error!(path = %self.inner.path.display(), error, "write failed, the store takes no more writes");
            StoreError::Failed { path: self.inner.path.clone(), error }
        })
    }

    /// Damaged values seen since the start.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.inner.damaged.load(Ordering::Relaxed)
    }

    /// Whether a write failed, so that nothing can be written until the next start.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.poisoned.load(Ordering::Acquire)
    }

    fn column(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        let known = self.inner.columns.contains(&name);
        known.then(|| self.inner.db.cf_handle(name)).flatten().ok_or(StoreError::Column(name))
    }

    fn unseal(&self, column: &'static str, key: &[u8], sealed: &[u8]) -> Result<Bytes, StoreError> {
        match sealed.split_first_chunk::<CRC_LEN>() {
            Some((crc, value)) if u32::from_be_bytes(*crc) == checksum(key, value) => {
                Ok(Bytes::copy_from_slice(value))
            }
            _ => Err(self.damage(column, key)),
        }
    }

    fn read_error(&self, column: &'static str, key: &[u8], error: rocksdb::Error) -> StoreError {
        if error.kind() == rocksdb::ErrorKind::Corruption {
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

/// Covers the key as well, so that a value under another key is noticed.
fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A crash may tear the last record, of a write that nobody was told about: that one is dropped. A record that is all
    // there and wrong is damage to what may have been synced: opening fails. A last record whose length is damaged, or
    // that is all zeros, cannot be told from a torn one, and is dropped. (Absolute consistency would refuse to start after
    // every crash in the middle of a write.)
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
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_BYTES);
    options.set_enable_blob_gc(true);
    options
}

fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}
