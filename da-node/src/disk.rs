//! The room on the disk of a store.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Free for this user.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// The room on the disk of a folder.
///
/// # Errors
/// When the system does not tell.
pub fn space(folder: &Path) -> io::Result<Space> {
    let stat = statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Ok(Space { free: bytes(stat.blocks_available()), total: bytes(stat.blocks()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.free <= space.total, "{space:?}");
        assert!(super::space(Path::new("/there is no such folder")).is_err());
    }
}
