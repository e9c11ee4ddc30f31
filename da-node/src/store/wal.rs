//! A look at the write-ahead logs before RocksDB reads them.
//!
//! RocksDB's reader meets a record of a reused log, behind one of a log that is not, again and again without end, and at
//! the beginning of a log it takes all that follows for old (`ReadPhysicalRecord` in its `log_reader.cc`, 11.8). Logs are
//! not reused here, so such a record is damage: a flipped bit in the type of another one, or what lay on the disk where
//! a torn write was to go.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Records are cut at the ends of blocks.
const BLOCK: usize = 32 << 10;
/// Checksum, length and type of a record.
const HEADER: usize = 7;
/// Types of records of a reused log.
const REUSED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// The first log in a folder in which RocksDB would see a record of a reused log, if there is one.
pub(super) fn find_reused(folder: &Path) -> io::Result<Option<PathBuf>> {
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|it| it == "log") && is_reused(&mut File::open(&path)?)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_reused(log: &mut impl Read) -> io::Result<bool> {
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        log.take(BLOCK as u64).read_to_end(&mut block)?;
        if is_reused_in(&block) {
            return Ok(true);
        }
        if block.len() < BLOCK {
            return Ok(false);
        }
    }
}

/// Follows the records of a block as far as RocksDB does: to one that is not whole, or is not what its checksum says.
fn is_reused_in(mut block: &[u8]) -> bool {
    while let Some((&[c0, c1, c2, c3, low, high, kind], rest)) = block.split_first_chunk::<HEADER>() {
        if REUSED.contains(&kind) {
            return true;
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        let Some((payload, rest)) = rest.split_at_checked(length) else { return false };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
        // How RocksDB keeps checksums of what may hold checksums itself.
        let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
        if masked != u32::from_le_bytes([c0, c1, c2, c3]) {
            return false;
        }
        block = rest;
    }
    false
}
