//! A look at RocksDB's own logs, the write-ahead logs and the manifest, before RocksDB reads them.
//!
//! Where a record is not what was written RocksDB 11.8 cannot tell what a crash tore from what a disk damaged: it takes
//! every record that seems to reach beyond the last block for torn, and forgets all that follows it there, in a manifest
//! perhaps the whole store, whose files it then deletes. And it meets a record of a reused log, behind one of a log that
//! is not, again and again without end (`ReadPhysicalRecord` in its `log_reader.cc`). Logs are not reused here, so such a
//! record is damage.
//!
//! Here a record counts as torn only if nothing whole follows it, none of its lengths makes it whole, and it is cut short
//! or ends in sectors of zeros. The format is in RocksDB's `db/log_format.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Records are cut at the ends of blocks.
const BLOCK: usize = 32 << 10;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Checksum, length and type of a record.
const HEADER: usize = 7;
/// Types of records: of a whole one and of parts of one; of what they are compressed with, how long their timestamps are,
/// and which log is before theirs. Others are of logs that are used again, which ours are not.
const KINDS: [u8; 7] = [1, 2, 3, 4, 9, 10, 130];

/// How the records of a log end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Whole,
    /// From this byte on there is a record that was never written to its end. In `zeros` it is not cut short.
    Torn {
        at: u64,
        zeros: bool,
    },
    /// At this byte there is something else than what was written.
    Damaged {
        at: u64,
    },
}

/// What is damaged in the logs of a RocksDB, if anything is.
pub(super) fn find_damage(index: &Path) -> io::Result<Option<String>> {
    let Some(manifest) = manifest(index)? else {
        return Ok(Some("its file CURRENT is missing or damaged".to_owned()));
    };
    if !manifest.is_file() {
        return Ok(Some(format!("{} is missing", manifest.display())));
    }
    let (end, _) = end_of(&mut File::open(&manifest)?)?;
    let mut ends = vec![(manifest, end, true)];
    for log in logs(index)? {
        let (end, has_records) = end_of(&mut File::open(&log)?)?;
        if has_records {
            // Nothing is written to a log once there are records in the next.
            ends.iter_mut().skip(1).for_each(|(_, _, is_last)| *is_last = false);
        }
        ends.push((log, end, true));
    }
    let damaged = ends.into_iter().find_map(|(path, end, is_last)| match end {
        End::Damaged { at } => Some((path, at)),
        End::Torn { at, .. } if !is_last => Some((path, at)),
        _ => None,
    });
    Ok(damaged.map(|(path, at)| format!("{} is damaged at byte {at}", path.display())))
}

/// Takes away the zeros that a power cut has left where the last record of a log was to be: RocksDB would take them for
/// damage. Only for logs in which [`find_damage`] finds none.
pub(super) fn cut_torn_ends(index: &Path) -> io::Result<()> {
    for path in logs(index)?.into_iter().chain(manifest(index)?) {
        if let (End::Torn { at, zeros: true }, _) = end_of(&mut File::open(&path)?)? {
            tracing::warn!(log = %path.display(), at, "the last write to this log was not finished: it is cut off");
            let log = OpenOptions::new().write(true).open(&path)?;
            log.set_len(at)?;
            log.sync_all()?;
        }
    }
    Ok(())
}

/// Whether anything was ever written to a log as a whole.
pub(super) fn has_records(log: &Path) -> bool {
    File::open(log).and_then(|mut log| end_of(&mut log)).is_ok_and(|(_, has_records)| has_records)
}

/// Bytes of the write-ahead logs.
pub(super) fn bytes_of_logs(index: &Path) -> io::Result<u64> {
    logs(index)?.iter().map(|path| Ok(path.metadata()?.len())).sum()
}

/// The write-ahead logs, the last one at the end.
fn logs(index: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for file in std::fs::read_dir(index)? {
        let path = file?.path();
        if path.extension().is_some_and(|it| it == "log") {
            logs.push(path);
        }
    }
    // Their names are numbers of six digits or more.
    logs.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(logs)
}

/// The manifest in use; none where its name is lost or cannot be one.
fn manifest(index: &Path) -> io::Result<Option<PathBuf>> {
    let current = match std::fs::read(index.join("CURRENT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        current => current?,
    };
    let name = std::str::from_utf8(&current).ok().and_then(|text| text.strip_suffix('\n'));
    let name = name.filter(|name| {
        let number = name.strip_prefix("MANIFEST-").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    Ok(name.map(|name| index.join(name)))
}

/// How a log ends, and whether any record is in it.
fn end_of(log: &mut impl Read) -> io::Result<(End, bool)> {
    let (mut block, mut start, mut has_records) = (Vec::with_capacity(BLOCK), 0, false);
    // The first record that is not what was written, and whether only zeros follow its last whole sector.
    let mut bad: Option<(u64, bool, bool)> = None;
    loop {
        block.clear();
        log.take(BLOCK as u64).read_to_end(&mut block)?;
        let is_last = block.len() < BLOCK;
        has_records |= is_record(&block);
        match bad {
            None => match walk(&block, is_last) {
                Walk::Whole => {}
                Walk::Damaged(at) => return Ok((End::Damaged { at: start + at as u64 }, has_records)),
                Walk::Bad { at, is_cut } => {
                    let zeros = end_is_zeros(&block, at, is_cut);
                    bad = Some((start + at as u64, is_cut && is_last, zeros));
                }
            },
            Some((at, ..)) if holds_record(&block) => return Ok((End::Damaged { at }, true)),
            Some((at, is_cut, zeros)) => {
                bad = Some((at, is_cut, zeros && block.iter().all(|byte| *byte == 0)));
            }
        }
        if is_last {
            break;
        }
        start += BLOCK as u64;
    }
    let end = match bad {
        None => End::Whole,
        Some((at, true, _)) => End::Torn { at, zeros: false },
        Some((at, _, true)) => End::Torn { at, zeros: true },
        Some((at, ..)) => End::Damaged { at },
    };
    Ok((end, has_records))
}

enum Walk {
    Whole,
    /// Something at this place is damaged for certain.
    Damaged(usize),
    /// The record at this place is not whole, or not what its checksum says, and the block has no other after it. `is_cut`:
    /// it would reach beyond the block.
    Bad {
        at: usize,
        is_cut: bool,
    },
}

/// Follows the records of a block.
fn walk(block: &[u8], is_last: bool) -> Walk {
    let mut at = 0;
    while let Some(record) = block.get(at..).filter(|rest| !rest.is_empty()) {
        if record.len() < HEADER {
            // Such a rest of a block is left empty.
            let is_cut = is_last && block.len() < BLOCK;
            return if is_cut { Walk::Bad { at, is_cut } } else { Walk::Whole };
        }
        let length = length_of(record);
        // No record reaches into the next block. A type of zero is of what was never written.
        if (record[6] != 0 && !KINDS.contains(&record[6])) || at + HEADER + length > BLOCK {
            return Walk::Damaged(at);
        }
        if record.len() >= HEADER + length && is_right(record, length) {
            at += HEADER + length;
            continue;
        }
        let is_whole_otherwise =
            fits_any_length(record) || (1..record.len()).any(|skip| is_record(&record[skip..]));
        if is_whole_otherwise {
            return Walk::Damaged(at);
        }
        return Walk::Bad { at, is_cut: record.len() < HEADER + length };
    }
    Walk::Whole
}

/// Whether all that a record lacks are sectors of zeros that reach to the end of the block.
fn end_is_zeros(block: &[u8], at: usize, is_cut: bool) -> bool {
    let zeros_from = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let sector = zeros_from.next_multiple_of(SECTOR);
    let length = block.get(at..).filter(|record| record.len() >= HEADER).map_or(0, length_of);
    let end = if is_cut { block.len() } else { at + HEADER + length };
    zeros_from <= at || sector < end
}

/// Whether any record begins anywhere in a block.
fn holds_record(block: &[u8]) -> bool {
    (0..block.len()).any(|skip| is_record(&block[skip..]))
}

fn is_record(bytes: &[u8]) -> bool {
    if bytes.len() < HEADER || !(1..=4).contains(&bytes[6]) {
        return false;
    }
    let length = length_of(bytes);
    bytes.len() >= HEADER + length && is_right(bytes, length)
}

fn length_of(record: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([record[4], record[5]]))
}

fn is_right(record: &[u8], length: usize) -> bool {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record[6..HEADER]), &record[HEADER..HEADER + length]);
    masked(crc) == crc_of(record)
}

/// Whether the checksum is right for another length than the one that is stated.
fn fits_any_length(record: &[u8]) -> bool {
    let wanted = crc_of(record);
    let mut crc = crc32c::crc32c(&record[6..HEADER]);
    if record[6] == 0 {
        return false;
    }
    let is_empty = masked(crc) == wanted;
    is_empty
        || record[HEADER..].iter().any(|byte| {
            crc = crc32c::crc32c_append(crc, &[*byte]);
            masked(crc) == wanted
        })
}

fn crc_of(record: &[u8]) -> u32 {
    u32::from_le_bytes([record[0], record[1], record[2], record[3]])
}

/// How RocksDB keeps checksums of what may hold checksums itself.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let crc = masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
        let length = u16::try_from(payload.len()).unwrap();
        [&crc.to_le_bytes()[..], &length.to_le_bytes(), &[kind], payload].concat()
    }

    /// A log of records of these lengths, cut at blocks as RocksDB does, and where the last one begins.
    fn log(lengths: &[usize]) -> (Vec<u8>, usize) {
        let (mut log, mut last) = (Vec::new(), 0);
        for (number, length) in lengths.iter().enumerate() {
            let payload: Vec<u8> =
                (0..*length).map(|at| u8::try_from((at * 7 + number * 13) % 255).unwrap() + 1).collect();
            let (mut rest, mut is_first) = (&payload[..], true);
            last = log.len();
            loop {
                let room = BLOCK - log.len() % BLOCK;
                if room < HEADER {
                    log.resize(log.len() + room, 0);
                    continue;
                }
                let (part, after) = rest.split_at(rest.len().min(room - HEADER));
                let kind = match (is_first, after.is_empty()) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                };
                log.extend(record(kind, part));
                (rest, is_first) = (after, false);
                if rest.is_empty() {
                    break;
                }
            }
        }
        (log, last)
    }

    fn end(log: &[u8]) -> End {
        end_of(&mut &log[..]).unwrap().0
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(prop_oneof![0..200_usize, 1_000..5_000_usize, 30_000..70_000_usize], 1..12)
    }

    #[test]
    fn a_log_at_the_borders_of_blocks_is_whole() {
        for length in BLOCK - 3 * HEADER..=BLOCK + HEADER {
            assert_eq!(end(&log(&[length, 5, 0]).0), End::Whole, "{length}");
        }
        assert_eq!(end(&[]), End::Whole);
    }

    proptest! {
        #[test]
        fn whole_logs_are_whole_and_cut_ones_torn(lengths in lengths(), cut in any::<prop::sample::Index>()) {
            let (mut log, _) = log(&lengths);
            prop_assert_eq!(end(&log), End::Whole);
            log.truncate(cut.index(log.len()));
            let end = end(&log);
            prop_assert!(matches!(end, End::Whole | End::Torn { zeros: false, .. }), "{end:?}");
        }

        #[test]
        fn every_flipped_bit_is_damage(lengths in lengths(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let (mut log, _) = log(&lengths);
            let at = at.index(log.len());
            log[at] ^= 1 << bit;
            let end = end(&log);
            // What fills a block up says nothing.
            prop_assume!(end != End::Whole);
            prop_assert!(matches!(end, End::Damaged { .. }), "{end:?} for byte {at}");
        }

        #[test]
        fn a_zeroed_sector_is_damage_where_anything_follows(
            lengths in lengths(), sector in any::<prop::sample::Index>(),
        ) {
            let (mut log, last) = log(&lengths);
            let sectors = last / SECTOR;
            prop_assume!(sectors > 0);
            let at = sector.index(sectors) * SECTOR;
            log[at..at + SECTOR].fill(0);
            let end = end(&log);
            prop_assert!(matches!(end, End::Damaged { .. } | End::Whole), "{end:?} for byte {at} of {}", log.len());
            prop_assert!(end != End::Whole || log[at..at + SECTOR].iter().all(|byte| *byte == 0));
        }

        #[test]
        fn sectors_of_zeros_in_the_place_of_the_last_record_are_a_torn_end(
            lengths in lengths(), from in any::<prop::sample::Index>(),
        ) {
            let (mut log, last) = log(&lengths);
            let first = (last + 1).next_multiple_of(SECTOR);
            prop_assume!(first < log.len());
            let sectors = (log.len() - first).div_ceil(SECTOR);
            let at = first + from.index(sectors) * SECTOR;
            log[at..].fill(0);
            let end = end(&log);
            // Where it was in several blocks those before are whole.
            prop_assert!(matches!(end, End::Torn { zeros: true, at: torn } if torn >= last as u64), "{end:?}");
        }
    }
}
