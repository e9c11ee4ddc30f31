//! Copies of what passed, in a folder: a file for each commitment, named by it.
//!
//! A copy is believed no more than any replica: it is checked against its commitment before it is given out.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::commitment::Commitment;
use crate::files;

/// The folder.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Makes the folder where it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, commitment: Commitment) -> PathBuf {
        self.folder.join(commitment.to_string())
    }

    /// The input, if it is there.
    ///
    /// # Errors
    /// It may be there, and cannot be read, or is damaged.
    pub(super) async fn read(&self, commitment: Commitment) -> io::Result<Option<Bytes>> {
        let path = self.path(commitment);
        let read = tokio::task::spawn_blocking(move || {
            let input = match std::fs::read(&path) {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if Commitment::of(commitment.mode(), &input) != Ok(commitment) {
                return Err(io::Error::other(format!("{} is damaged", path.display())));
            }
            Ok(Some(Bytes::from(input)))
        });
        read.await.map_err(io::Error::other)?
    }

    /// Writes a copy and syncs it, unless there is one that is not known to be damaged.
    pub(super) async fn write(
        &self,
        commitment: Commitment,
        input: Bytes,
        is_damaged: bool,
    ) -> io::Result<()> {
        let path = self.path(commitment);
        let written = tokio::task::spawn_blocking(move || {
            // A damaged one is of another length, or is found by who reads it.
            let length = std::fs::metadata(&path).map(|there| there.len());
            let is_there = length.is_ok_and(|length| u64::try_from(input.len()) == Ok(length));
            if is_there && !is_damaged { Ok(()) } else { files::write_whole(&path, &input) }
        });
        written.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::super::commitment::Mode;
    use super::*;

    #[tokio::test]
    async fn a_copy_is_given_out_only_while_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(&folder.path().join("new")).unwrap();
        for mode in [Mode::Keccak, Mode::Generic] {
            let commitment = Commitment::of(mode, b"input").unwrap();
            assert_eq!(archive.read(commitment).await.unwrap(), None);
            for _ in 0..2 {
                archive.write(commitment, Bytes::from_static(b"input"), false).await.unwrap();
                assert_eq!(archive.read(commitment).await.unwrap(), Some(Bytes::from_static(b"input")));
            }
            for damaged in [b"".as_slice(), b"inputs", b"Input"] {
                std::fs::write(archive.path(commitment), damaged).unwrap();
                assert!(archive.read(commitment).await.is_err());
            }
            archive.write(commitment, Bytes::from_static(b"input"), true).await.unwrap();
            assert_eq!(archive.read(commitment).await.unwrap(), Some(Bytes::from_static(b"input")));
            std::fs::remove_file(archive.path(commitment)).unwrap();
            std::fs::create_dir(archive.path(commitment)).unwrap();
            assert!(archive.read(commitment).await.is_err());
        }
    }
}
