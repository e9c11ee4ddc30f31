//! Files that appear whole or not at all.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Writes a file beside its place, syncs it and renames it into place. One that was there before leaves its mode, and its
/// owner where this user may give files away: others who read it still can.
///
/// # Errors
/// The folder does not exist, or is not writable.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("not the name of a file"))?;
    let mut part = name.to_owned();
    // Nobody else writes there: no other thread, and nobody elsewhere who shares the folder.
    part.push(format!(".{:016x}.part", getrandom::u64().map_err(io::Error::other)?));
    let part = path.with_file_name(part);
    let written = std::fs::File::create(&part).and_then(|mut file| {
        if let Ok(before) = std::fs::metadata(path) {
            // Not everybody may: then it is the writer's own.
            let _ = std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()));
            file.set_permissions(before.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| std::fs::rename(&part, path)).and_then(|()| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    if placed.is_err() {
        // Already failing: the first error says more than one about the remains.
        let _ = std::fs::remove_file(&part);
    }
    placed
}

/// What tells one state of a file from another, without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// A file that is there.
    File {
        /// Device and inode.
        place: (u64, u64),
        /// Bytes.
        length: u64,
        /// Seconds and nanoseconds of the last change of its bytes, and of the last change at all.
        changed: [(i64, i64); 2],
    },
    /// One that cannot be looked at.
    Unreadable(io::ErrorKind),
}

impl Stamp {
    /// The state of a file.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(found) => Self::File {
                place: (found.dev(), found.ino()),
                length: found.len(),
                changed: [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())],
            },
            Err(error) => Self::Unreadable(error.kind()),
        }
    }
}

/// Has a file to itself among those who change it so: the work is given its path, links followed, and is to write it whole.
///
/// # Errors
/// The folder cannot be opened or locked, or the work fails.
pub(crate) fn alone<T, E>(
    path: &Path,
    failed: impl FnOnce(io::Error) -> E,
    work: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    // A link stays one.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // The file itself is replaced, so it is its folder that holds others up.
    let folder = std::fs::File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| {
        folder.lock()?;
        Ok(folder)
    });
    let _locked = folder.map_err(failed)?;
    work(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for mode in [0o600, 0o640, 0o444] {
            write_whole(&path, b"one").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            write_whole(&path, b"two").unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn threads_that_write_the_same_file_do_not_see_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| write_whole(&path, b"same").unwrap()));
            }
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"same");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), b"").unwrap();
        assert!(write_whole(&path, b"one").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(&folder.path().join("missing/out"), b"one").is_err());
    }
}
