//! What was made from files, made again when they have changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::files::{self, MAX_CERTIFICATES, TlsError};

/// Time between two looks at the files.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a look at the files has found.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing that is to be used, or not yet.
    Same,
    /// Other files, which are used from now on.
    Renewed,
    /// Other files, which are of no use: what there was stays.
    Kept(TlsError),
}

type Make<T> = Box<dyn Fn(IsFirst) -> Result<T, TlsError> + Send + Sync>;

/// Whether nothing was made from the files before.
pub(super) type IsFirst = bool;

/// Something that was made from files.
pub(super) struct Watched<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The files that were last made something from, with or without success.
    used: [u8; 32],
    /// The files at the last look.
    last: [u8; 32],
    /// Files of which it was said that their time has not come.
    early: Option<[u8; 32]>,
}

impl<T> Watched<T> {
    pub(super) fn new(
        files: Vec<PathBuf>,
        make: impl Fn(IsFirst) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before they are used: what changes meanwhile is a change.
        let used = fingerprint(&files);
        let current = RwLock::new(Arc::new(make(true)?));
        Ok(Self {
            files,
            make: Box::new(make),
            current,
            seen: Mutex::new(Seen { used, last: used, early: None }),
        })
    }

    pub(super) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files. They count when two looks have found the same: a certificate and its key are not written at once.
    pub(super) fn look(&self) -> Look {
        let now = fingerprint(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_settled = seen.last == now;
        seen.last = now;
        if seen.used == now || !is_settled {
            return Look::Same;
        }
        let made = (self.make)(false);
        if let Err(error @ TlsError::Early(_)) = made {
            // Tried again at each look, and said once.
            let is_told = seen.early.replace(now) == Some(now);
            return if is_told { Look::Same } else { Look::Kept(error) };
        }
        seen.used = now;
        match made {
            Ok(made) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                Look::Renewed
            }
            Err(error) => Look::Kept(error),
        }
    }
}

/// What is in some files, or why that cannot be told.
fn fingerprint(paths: &[PathBuf]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for path in paths {
        let content: [u8; 32] = match files::read(path, MAX_CERTIFICATES, false) {
            Ok(bytes) => Sha256::digest(&*bytes).into(),
            Err(error) => Sha256::digest(error.to_string()).into(),
        };
        hasher.update(content);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn number(path: &std::path::Path) -> Result<u32, TlsError> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().map_err(|_| TlsError::unusable(path, "no number"))
    }

    #[test]
    fn files_count_when_two_looks_have_found_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let made = path.clone();
        let watched = Watched::new(vec![path.clone()], move |_| number(&made)).unwrap();
        assert!(matches!(watched.look(), Look::Same));
        fs::write(&path, "2").unwrap();
        assert!(matches!(watched.look(), Look::Same));
        fs::write(&path, "3").unwrap();
        assert!(matches!(watched.look(), Look::Same));
        assert_eq!(*watched.current(), 1);
        assert!(matches!(watched.look(), Look::Renewed));
        assert_eq!(*watched.current(), 3);
        assert!(matches!(watched.look(), Look::Same));
    }

    #[test]
    fn what_comes_too_early_is_taken_when_its_time_has_come() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let (made, is_time) = (path.clone(), Arc::new(AtomicBool::new(true)));
        let time = Arc::clone(&is_time);
        let make = move |_| {
            if time.load(Ordering::Relaxed) { number(&made) } else { Err(TlsError::Early(made.clone())) }
        };
        let watched = Watched::new(vec![path.clone()], make).unwrap();
        is_time.store(false, Ordering::Relaxed);
        fs::write(&path, "2").unwrap();
        assert!(matches!(watched.look(), Look::Same));
        assert!(matches!(watched.look(), Look::Kept(_)));
        assert!(matches!(watched.look(), Look::Same));
        assert_eq!(*watched.current(), 1);
        is_time.store(true, Ordering::Relaxed);
        assert!(matches!(watched.look(), Look::Renewed));
        assert_eq!(*watched.current(), 2);
    }

    #[test]
    fn what_is_of_no_use_is_said_once_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        let made = path.clone();
        assert!(Watched::new(vec![path.clone()], move |_| number(&made)).is_err());
        fs::write(&path, "1").unwrap();
        let made = path.clone();
        let watched = Watched::new(vec![path.clone()], move |_| number(&made)).unwrap();
        fs::write(&path, "x").unwrap();
        assert!(matches!(watched.look(), Look::Same));
        assert!(matches!(watched.look(), Look::Kept(_)));
        assert!(matches!(watched.look(), Look::Same));
        fs::remove_file(&path).unwrap();
        assert!(matches!(watched.look(), Look::Same));
        assert!(matches!(watched.look(), Look::Kept(_)));
        assert_eq!(*watched.current(), 1);
        // Back to what is in use: nothing is to be done that would show, and nothing is wrong.
        fs::write(&path, "1").unwrap();
        assert!(matches!(watched.look(), Look::Same));
        assert!(matches!(watched.look(), Look::Renewed));
        assert_eq!(*watched.current(), 1);
    }
}
