//! Whether an index is what was written: before it is opened, while it is open, and what becomes of one that is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rocksdb::{DB, DBRecoveryMode, IteratorMode, Options};

use super::error::{index_error, io_error};
use super::seal::{Stored, decode};
use super::{
    Db, FORMAT_VERSION, INDEX, META, Role, SEGMENTS, STAMP, StoreError, read_options, records, segments,
};
use crate::cpu;

/// File that says that the index is damaged.
const MARK: &str = "index-is-damaged";
/// Beginning of the names of folders with what was set aside.
const ASIDE: &str = "damaged-";
/// Times that the index is read again before it counts as damaged, and the time between.
const CHECK_TRIES: u32 = 3;
const CHECK_WAIT: Duration = Duration::from_millis(500);
/// Least time from a failed write to the next start.
const RESTART_WAIT: Duration = Duration::from_secs(5);
/// Room that a start needs beside that for what is only in the write-ahead logs.
const RESTART_BYTES: u64 = 16 << 20;

impl Db {
    /// Waits until a write has failed and there is room to start again from what is on disk. Meanwhile the index is looked at
    /// where it may be the cause: it would be again.
    pub async fn broken(&self) {
        // The sender is as old as the database.
        let _ = self.inner.failed.subscribe().wait_for(|failed| *failed).await;
        tokio::time::sleep(RESTART_WAIT).await;
        if self.is_doubted() {
            let (store, given_up) = (self.clone(), GiveUp::default());
            let stop = Arc::clone(&given_up.0);
            let looked = cpu::blocking(move || store.check_files(&|| stop.load(Ordering::Relaxed))).await;
            if let Err(error) = looked {
                tracing::error!(%error, "the index cannot be read");
            }
        }
        while self.has_room_to_start().is_err() {
            tokio::time::sleep(RESTART_WAIT).await;
        }
    }

    /// What is only in the write-ahead logs goes to tables at a start.
    fn has_room_to_start(&self) -> Result<(), StoreError> {
        let path = &self.inner.path;
        let logs = records::bytes_of_logs(&path.join(INDEX)).map_err(|error| io_error(path, &error))?;
        self.check_room(0)?;
        self.needs_free(logs.saturating_add(RESTART_BYTES))
    }

    /// Gives up an index that is damaged: it would fail again whenever its files are merged. The next start sees the mark.
    fn condemn(&self, error: &dyn std::fmt::Display) -> StoreError {
        let path = &self.inner.path;
        tracing::error!(path = %path.display(), %error, "the index is damaged");
        let index = path.join(INDEX);
        let marked = std::fs::File::create(index.join(MARK)).and_then(|_| segments::sync_folder(&index));
        if let Err(error) = marked {
            tracing::error!(path = %path.display(), %error, "a damaged index cannot be marked");
        }
        self.fail("the index is damaged".to_owned())
    }

    /// Whether something of the index could not be read since its files were checked.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.inner.doubted.load(Ordering::Relaxed)
    }

    /// Reads the whole index against its checksums, from the files, beside what is in memory; and lets go of segments whose
    /// files have gone, so that their values count as lost now and not after the next start. Ends early when `stop` says so.
    ///
    /// # Errors
    /// [`StoreError::Index`] when something of the index is not what was written; the store takes no more writes then.
    /// Another one when it cannot be looked at now.
    pub fn check_files(&self, stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
        self.inner.doubted.store(false, Ordering::Relaxed);
        for number in self.inner.segments.forget_lost() {
            tracing::error!(path = %self.inner.path.display(), number, "a segment is lost");
        }
        let mut tries = 0;
        while let Err(error) = self.look_at_index(stop) {
            if stop() {
                return Ok(());
            }
            // Files come and go while they are opened.
            if tries < CHECK_TRIES {
                tries += 1;
                tracing::debug!(%error, "the index cannot be read to its end, trying again");
                std::thread::sleep(CHECK_WAIT);
                continue;
            }
            if matches!(error, StoreError::Index { .. }) {
                self.condemn(&error);
            }
            return Err(error);
        }
        Ok(())
    }

    /// Reads the whole index like [`Db::check_files`], once, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Index`] when something of the index is not what was written, or came or went while it was opened.
    pub fn look_at_index(&self, stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
        // A second look at the files has caches of its own: blocks in the first one's would hide what became of them.
        let path = &self.inner.path;
        let (index, failed) = (path.join(INDEX), |error| index_error(path, error));
        // What is to be read must not be removed meanwhile.
        self.inner.db.disable_file_deletions().map_err(failed)?;
        let _files = KeepFiles(&self.inner.db);
        forget_cached(&index).map_err(|error| io_error(path, &error))?;
        if let Some(error) = records::find_damage(&index).map_err(|error| io_error(path, &error))? {
            return Err(StoreError::Index { path: path.clone(), error });
        }
        let (options, names) = open_files(path)?;
        let files = DB::open_cf_for_read_only(&options, &index, &names, false).map_err(failed)?;
        for name in &names {
            let handle = files.cf_handle(name).ok_or(StoreError::Column("of the files"))?;
            let mut options = read_options();
            options.fill_cache(false);
            for pair in files.iterator_cf_opt(handle, options, IteratorMode::Start) {
                let (key, sealed) = pair.map_err(failed)?;
                if stop() {
                    return Ok(());
                }
                if decode(&key, &sealed).is_none() {
                    let error = format!("column {name}: the value of key 0x{}", hex::encode(key));
                    return Err(StoreError::Index { path: path.clone(), error });
                }
            }
        }
        Ok(())
    }
}

/// Tells a thread to give up when it is dropped.
#[derive(Default)]
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets RocksDB remove files again when it is dropped.
struct KeepFiles<'a>(&'a DB);

impl Drop for KeepFiles<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.enable_file_deletions() {
            tracing::error!(%error, "files of the index that are of no use any more stay");
        }
    }
}

/// Has the files of an index read from the disk again, and not from the system's memory.
pub(super) fn forget_cached(index: &Path) -> std::io::Result<()> {
    for file in std::fs::read_dir(index)? {
        let path = file?.path();
        if path.is_file() {
            match std::fs::File::open(&path) {
                Ok(file) => posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// What shows without opening it that an index is damaged. RocksDB would make a new one where `CURRENT` is missing.
pub(super) fn visible_damage(path: &Path) -> Option<String> {
    if is_condemned(path) {
        return Some("it was found damaged while it was open".to_owned());
    }
    let is_lost = !path.join(INDEX).join("CURRENT").exists() && has_data(path);
    is_lost.then(|| "its file CURRENT is missing".to_owned())
}

/// Whether a store was ever written to.
pub(super) fn has_data(path: &Path) -> bool {
    let is_data = |entry: std::fs::DirEntry| {
        let path = entry.path();
        match path.extension().and_then(|it| it.to_str()) {
            Some("log") => records::has_records(&path),
            Some("sst" | segments::EXTENSION) => entry.metadata().is_ok_and(|it| it.len() > 0),
            _ => false,
        }
    };
    let in_part = |part: &str| {
        let entries = std::fs::read_dir(path.join(part)).into_iter().flatten().flatten();
        entries.into_iter().any(is_data)
    };
    in_part(INDEX) || in_part(SEGMENTS)
}

/// Looks at an index before it is opened, which deletes files that a damaged manifest does not name. Gives its columns.
pub(super) fn look_before(path: &Path, role: Role) -> Result<Vec<String>, StoreError> {
    let index = path.join(INDEX);
    let damaged = |error| StoreError::Index { path: path.into(), error };
    if let Some(error) = records::find_damage(&index).map_err(|error| io_error(path, &error))? {
        return Err(damaged(error));
    }
    records::cut_torn_ends(&index).map_err(|error| io_error(path, &error))?;
    let (options, names) = open_files(path)?;
    let Some(meta) = names.iter().find(|name| *name == META) else {
        // It ended before anything was written.
        return if has_data(path) {
            Err(damaged("its format stamp is missing".to_owned()))
        } else {
            Ok(names)
        };
    };
    let files =
        DB::open_cf_for_read_only(&options, &index, [meta], false).map_err(|it| index_error(path, it))?;
    let handle = files.cf_handle(META).ok_or(StoreError::Column(META))?;
    let sealed = files.get_cf(handle, STAMP).map_err(|error| index_error(path, error))?;
    let stamp = match sealed.as_deref().map(|sealed| decode(STAMP, sealed)) {
        Some(Some(Stored::Inline(stamp))) => stamp,
        None if !has_data(path) => return Ok(names),
        None => return Err(damaged("its format stamp is missing".to_owned())),
        Some(_) => return Err(damaged("its format stamp is damaged".to_owned())),
    };
    let version = stamp.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    if version != FORMAT_VERSION {
        return Err(StoreError::Format { path: path.into(), found: version });
    }
    if stamp.get(4..) != Some(&[role.byte()]) {
        return Err(StoreError::Role { path: path.into(), role });
    }
    Ok(names)
}

/// Options to read the files of an index beside whoever has it open, and its columns.
pub(super) fn open_files(path: &Path) -> Result<(Options, Vec<String>), StoreError> {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // As it is written: RocksDB 11.8 crashes where it would have to take logs out of a manifest that it only reads.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_open_files(64);
    let names = DB::list_cf(&options, path.join(INDEX)).map_err(|error| index_error(path, error))?;
    Ok((options, names))
}

/// Whether there is a store in a folder, in whatever state.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.join(INDEX).is_dir() || path.join(SEGMENTS).is_dir()
}

/// Whether a program that had the store open found its index damaged, after it had looked more than once.
#[must_use]
pub fn is_condemned(path: &Path) -> bool {
    path.join(INDEX).join(MARK).exists()
}

/// Moves a damaged store into a folder beside, so that a new one can begin in its place. Nothing is deleted, and it is done
/// once: a disk that damages one store after the other is for people to look at.
///
/// # Errors
/// [`StoreError::DamagedAgain`] when an earlier one is still there; or when files cannot be moved.
pub fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed { path: path.into(), error: error.to_string() };
    let mut unfinished = None;
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let before = entry.map_err(failed)?.path();
        let name = before.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(ASIDE) && before.join(INDEX).exists() {
            return Err(StoreError::DamagedAgain { path: path.into(), before });
        }
        if name.starts_with(ASIDE) {
            // It was begun and not ended.
            unfinished = Some(before);
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = unfinished.unwrap_or_else(|| path.join(format!("{ASIDE}{since}")));
    std::fs::create_dir_all(&aside).map_err(failed)?;
    // Until the index is moved the next start finds it damaged again.
    for name in [SEGMENTS, INDEX] {
        match std::fs::rename(path.join(name), aside.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    segments::sync_folder(path).map_err(failed)?;
    Ok(aside)
}
