//! Why a store refuses, and what the network gets to see of that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_proto::error::{ApiError, Reason};

use super::{FORMAT_VERSION, Role};

/// `EIO`.
const UNREADABLE: i32 = nix::errno::Errno::EIO as i32;
/// How long to wait when the disk is full.
const FULL_WAIT: Duration = Duration::from_secs(30);

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
    /// The index is damaged, or a part of it is missing: nobody can tell what is missing of the rest.
    #[error("the index of the store at {path} is damaged: {error}", path = path.display())]
    Index {
        /// Folder of the database.
        path: PathBuf,
        /// What was found.
        error: String,
    },
    /// The store is damaged, and one that was damaged before is still beside it.
    #[error("the store at {path} is damaged again, and {before} is still there: look at the disk, take that folder away, \
             start again", path = path.display(), before = before.display())]
    DamagedAgain {
        /// Folder of the database.
        path: PathBuf,
        /// Folder of what was set aside before.
        before: PathBuf,
    },
    /// A stored value is not what was written.
    #[error("stored value is damaged: column {column}, key 0x{key}")]
    Damaged {
        /// Column of the value.
        column: &'static str,
        /// Key of the value in hex.
        key: String,
    },
    /// There is no store.
    #[error("there is no store at {path}", path = path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no room on the disk. Nothing was written.
    #[error("the disk of the store at {path} is full", path = path.display())]
    Full {
        /// Folder of the database.
        path: PathBuf,
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
        if matches!(error, StoreError::Full { .. }) {
            tracing::warn!(%error, "the store has no room");
        } else {
            tracing::error!(%error, "the store refused");
        }
        match error {
            StoreError::Damaged { .. } => {
                Self::new(Reason::StoreDamaged, "a stored value failed its checksum")
            }
            StoreError::Failed { .. } | StoreError::Poisoned | StoreError::Index { .. } => {
                Self::new(Reason::StoreFailed, "the disk failed")
            }
            StoreError::Full { .. } => {
                Self::new(Reason::StorageFull, "the disk is full").retry_after(FULL_WAIT)
            }
            error => Self::internal(error.to_string()),
        }
    }
}

pub(super) fn io_error(path: &Path, error: &std::io::Error) -> StoreError {
    let (path, text) = (path.to_path_buf(), error.to_string());
    match error.raw_os_error() {
        _ if is_full(error) => StoreError::Full { path },
        Some(UNREADABLE) => StoreError::Index { path, error: text },
        _ => StoreError::Failed { path, error: text },
    }
}

/// Whether something is not what was written, or on a sector that cannot be read any more.
pub(super) fn is_unreadable(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::Corruption || error.as_ref().contains("Input/output error")
}

/// What RocksDB says of an index: that it is damaged, or a file of it missing, that the disk is full, or something else.
pub(super) fn index_error(path: &Path, error: rocksdb::Error) -> StoreError {
    let is_damage = is_unreadable(&error) || error.as_ref().contains("No such file");
    let is_full = error.as_ref().contains("No space left on device");
    let (path, error) = (path.into(), error.into_string());
    match (is_damage, is_full) {
        (true, _) => StoreError::Index { path, error },
        (_, true) => StoreError::Full { path },
        _ => StoreError::Failed { path, error },
    }
}

pub(super) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
