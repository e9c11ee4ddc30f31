//! Large values: appended to segment files and found by the places that the index keeps.
//!
//! A segment is nothing but values, one after the other. It is synced before the index says where they are, and never
//! changed after that; a process that starts begins a new one, so what a crash left torn at an end is never looked at.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};
use fail::fail_point;

use super::wide;

/// Bytes after which another segment is begun.
const SEGMENT_BYTES: u64 = 256 << 20;
pub(super) const EXTENSION: &str = "seg";

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

/// Why values were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing is known of what is on disk from now on.
    Sync(io::Error),
    /// The values are not there, and nothing else is touched.
    Write(io::Error),
    /// No segment could be begun, and nothing was written.
    Refused(io::Error),
}

/// The segment files of a store.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    files: RwLock<BTreeMap<u64, Arc<Segment>>>,
    end: Mutex<End>,
}

/// Where the next value goes.
#[derive(Debug)]
struct End {
    /// Number of the next segment.
    next: u64,
    active: Option<(u64, Arc<Segment>)>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Bytes that are written or about to be.
    bytes: AtomicU64,
    syncs: Mutex<Syncs>,
    synced: Condvar,
}

/// Syncs of a file are numbered; one that begins after a write covers it.
#[derive(Debug, Default)]
struct Syncs {
    begun: u64,
    done: u64,
    running: bool,
    /// A sync failed: a later one may say that all is well without what the kernel has dropped.
    failed: bool,
}

impl Segment {
    fn new(file: File, bytes: u64) -> Arc<Self> {
        Arc::new(Self { file, bytes: bytes.into(), syncs: Mutex::default(), synced: Condvar::new() })
    }

    fn syncs(&self) -> MutexGuard<'_, Syncs> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that was written before is synced. Those who wait at once share one sync.
    fn sync(&self) -> io::Result<()> {
        let mut syncs = self.syncs();
        let needed = syncs.begun + 1;
        while syncs.done < needed {
            if syncs.failed {
                return Err(io::Error::other("an earlier sync of the segment failed"));
            }
            if syncs.running {
                syncs = self.synced.wait(syncs).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            syncs.running = true;
            syncs.begun += 1;
            let number = syncs.begun;
            drop(syncs);
            let outcome = self.file.sync_data();
            syncs = self.syncs();
            syncs.running = false;
            match &outcome {
                Ok(()) => syncs.done = number,
                Err(_) => syncs.failed = true,
            }
            self.synced.notify_all();
            outcome?;
        }
        Ok(())
    }
}

impl Segments {
    /// Opens the segments in a folder, which is made when it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(number) = number_of(&path) {
                let file = File::open(&path)?;
                let bytes = file.metadata()?.len();
                files.insert(number, Segment::new(file, bytes));
            }
        }
        let next = files.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        let end = Mutex::new(End { next, active: None });
        Ok(Self { folder: folder.into(), files: RwLock::new(files), end })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:016x}.{EXTENSION}"))
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Appends values, synced, and says where they are.
    pub(super) fn append(&self, values: &[Bytes]) -> Result<Vec<Place>, WriteError> {
        let total = values.iter().map(|value| wide(value.len())).sum();
        let (number, segment, mut offset) = self.reserve(total)?;
        let mut places = Vec::with_capacity(values.len());
        for value in values {
            segment.file.write_all_at(value, offset).map_err(WriteError::Write)?;
            let bytes = u32::try_from(value.len())
                .map_err(|_| WriteError::Write(io::Error::other("a value of 4 GiB or more")))?;
            places.push(Place { segment: number, offset, bytes });
            offset += u64::from(bytes);
        }
        fail_point!("values-written");
        segment.sync().map_err(WriteError::Sync)?;
        fail_point!("values-synced");
        Ok(places)
    }

    /// Room at the end for as many bytes. What fails later leaves it unused.
    fn reserve(&self, bytes: u64) -> Result<(u64, Arc<Segment>, u64), WriteError> {
        let mut end = self.end();
        let has_room =
            |segment: &Segment| segment.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= SEGMENT_BYTES;
        let (number, segment) = match &end.active {
            Some((number, segment)) if has_room(segment) => (*number, Arc::clone(segment)),
            _ => {
                let number = end.next;
                let path = self.path(number);
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
                let file = file.map_err(WriteError::Refused)?;
                end.next += 1;
                fail_point!("segment-made");
                // A file is there after a power cut once its folder is synced.
                sync_folder(&self.folder).map_err(WriteError::Sync)?;
                let segment = Segment::new(file, 0);
                self.files
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, Arc::clone(&segment));
                end.active = Some((number, Arc::clone(&segment)));
                (number, segment)
            }
        };
        let offset = segment.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok((number, segment, offset))
    }

    /// The value at a place; nothing where its segment is gone.
    pub(super) fn read(&self, place: Place) -> Option<io::Result<Bytes>> {
        let segment = self.segment(place.segment)?;
        let mut value = BytesMut::zeroed(usize::try_from(place.bytes).unwrap_or(usize::MAX));
        Some(segment.file.read_exact_at(&mut value, place.offset).map(|()| value.freeze()))
    }

    /// Ends the segment that is being written. Gives the number below which nothing is written any more.
    pub(super) fn roll(&self) -> u64 {
        let mut end = self.end();
        end.active = None;
        end.next
    }

    /// Numbers and sizes of the segments below a number.
    pub(super) fn sizes(&self, below: u64) -> BTreeMap<u64, u64> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files
            .range(..below)
            .map(|(number, segment)| (*number, segment.bytes.load(Ordering::Relaxed)))
            .collect()
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.sizes(u64::MAX).values().sum()
    }

    /// Lets go of segments whose files are no longer in the folder, and says which.
    pub(super) fn forget_lost(&self) -> Vec<u64> {
        let is_lost = |number: u64, segment: &Segment| {
            let (Ok(open), found) = (segment.file.metadata(), std::fs::metadata(self.path(number))) else {
                return false;
            };
            match found {
                Ok(found) => (found.dev(), found.ino()) != (open.dev(), open.ino()),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            }
        };
        let mut end = self.end();
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let lost: Vec<u64> =
            files.iter().filter(|(number, it)| is_lost(**number, it)).map(|(number, _)| *number).collect();
        lost.iter().for_each(|number| drop(files.remove(number)));
        if end.active.as_ref().is_some_and(|(number, _)| lost.contains(number)) {
            end.active = None;
        }
        lost
    }

    /// Removes segments in which nothing is any more.
    pub(super) fn remove(&self, numbers: &[u64]) -> io::Result<()> {
        for number in numbers {
            self.files.write().unwrap_or_else(PoisonError::into_inner).remove(number);
            match std::fs::remove_file(self.path(*number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fail_point!("segment-gone");
        }
        sync_folder(&self.folder)
    }
}

fn number_of(path: &Path) -> Option<u64> {
    if path.extension()? != EXTENSION {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
