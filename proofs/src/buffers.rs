//! Buffers of rows that serve one blob after the other.
//!
//! Fresh pages cost more than the arithmetic of the codec from about 8 MiB of payload on, so whoever encodes again and
//! again keeps its buffers.

use core::ops::{Deref, DerefMut};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Rows begin at a multiple of this: a line of the cache and the widest register.
const ALIGNMENT: usize = 64;

/// Buffers at rest, up to a number of bytes. Clones share them.
#[derive(Clone, Debug)]
pub struct RowBuffers {
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    kept: Mutex<Kept>,
    limit: usize,
}

/// What is held beyond what blobs need.
#[derive(Default, Debug)]
struct Kept {
    /// Buffers at rest, the one that rests longest first.
    resting: VecDeque<Vec<u8>>,
    /// Bytes at rest, and those by which buffers in use are longer than was asked for.
    bytes: usize,
}

/// Bytes for the rows of one blob; they go back where they came from when this is dropped.
#[derive(Debug)]
pub struct RowBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    home: Weak<Shelf>,
}

impl Shelf {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whatever panicked elsewhere, a list of buffers is a list of buffers.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RowBuffers {
    /// Keeps at most `limit` bytes: at rest, and by which buffers in use are longer than was asked for.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { shelf: Arc::new(Shelf { kept: Mutex::default(), limit }) }
    }

    /// A buffer of this many bytes, whose contents are those of an earlier blob, or zero.
    ///
    /// One at rest serves if at least four fifths of it are used.
    #[must_use]
    pub fn take(&self, length: usize) -> RowBuffer {
        let mut kept = self.shelf.kept();
        let fits = |bytes: &Vec<u8>| (length..=length + length / 4).contains(&(bytes.len() - ALIGNMENT));
        let resting = kept.resting.iter().enumerate();
        let fitting = resting.filter(|(_, bytes)| fits(bytes)).min_by_key(|(_, bytes)| bytes.len());
        let found = fitting.map(|(i, _)| i).and_then(|i| kept.resting.remove(i));
        // What is left of it beyond the length and the alignment goes on being counted.
        kept.bytes -= found.as_ref().map_or(0, |_| length + ALIGNMENT);
        drop(kept);
        RowBuffer::within(found, length, Arc::downgrade(&self.shelf))
    }
}

impl RowBuffer {
    /// Zero bytes that no other blob will use.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self::within(None, length, Weak::new())
    }

    fn within(bytes: Option<Vec<u8>>, length: usize, home: Weak<Shelf>) -> Self {
        let bytes = bytes.unwrap_or_else(|| vec![0; length + ALIGNMENT]);
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start, end: start + length, home }
    }
}

impl Drop for RowBuffer {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let bytes = core::mem::take(&mut self.bytes);
        let mut gone = Vec::new();
        let mut kept = home.kept();
        kept.bytes -= bytes.len() - ALIGNMENT - (self.end - self.start);
        if bytes.len() > home.limit {
            return;
        }
        // Lengths that nobody asks for any more make room for this one.
        while kept.bytes + bytes.len() > home.limit
            && let Some(oldest) = kept.resting.pop_front()
        {
            kept.bytes -= oldest.len();
            gone.push(oldest);
        }
        if kept.bytes + bytes.len() <= home.limit {
            kept.bytes += bytes.len();
            kept.resting.push_back(bytes);
        }
        // Pages go back to the system after the lock.
        drop(kept);
    }
}

impl Deref for RowBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl DerefMut for RowBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
}

impl AsRef<[u8]> for RowBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_serve_again() {
        let buffers = RowBuffers::new(10_000);
        let mut first = buffers.take(1000);
        assert_eq!(*first, [0; 1000]);
        assert!(first.as_ptr().align_offset(ALIGNMENT) == 0);
        first.fill(7);
        let place = first.as_ptr();
        drop(first);
        for length in [1001, 799] {
            assert_eq!(*buffers.take(length), vec![0; length], "too short or too long for it");
        }
        for length in [1000, 800] {
            let again = buffers.take(length);
            assert_eq!((again.as_ptr(), &*again), (place, vec![7; length].as_slice()));
        }
        let (one, other) = (buffers.take(1000), buffers.take(1000));
        assert_ne!(one.as_ptr(), other.as_ptr());
    }

    #[test]
    fn the_best_fit_serves() {
        let buffers = RowBuffers::new(10_000);
        let taken = [1300, 1200, 1250].map(|length| buffers.take(length));
        let place = taken[1].as_ptr();
        drop(taken);
        assert_eq!(buffers.take(1100).as_ptr(), place);
    }

    #[test]
    fn no_more_than_the_limit_rests() {
        let limit = 3 * (1000 + ALIGNMENT);
        let buffers = RowBuffers::new(limit);
        let taken: Vec<RowBuffer> = (0..4).map(|_| buffers.take(1000)).collect();
        drop(taken);
        assert_eq!(at_rest(&buffers), [1000; 3]);

        let gone = RowBuffers::new(limit).take(1000);
        assert_eq!(gone.len(), 1000, "outlives the shelf");
        drop(RowBuffer::zeroed(1000));
        drop(buffers.take(limit));
        assert_eq!(at_rest(&buffers), [1000; 3], "too long to rest");
        drop(RowBuffers::new(0).take(1));
    }

    #[test]
    fn the_longest_at_rest_makes_room() {
        let buffers = RowBuffers::new(3 * (1000 + ALIGNMENT));
        let taken: Vec<RowBuffer> = [999, 1000, 998].map(|length| buffers.take(length)).into();
        drop(taken);
        drop(buffers.take(1500));
        assert_eq!(at_rest(&buffers), [998, 1500]);
    }

    #[test]
    fn what_a_buffer_in_use_has_too_much_is_counted() {
        let limit = 4 * (1000 + ALIGNMENT);
        let buffers = RowBuffers::new(limit);
        let fill = || drop((0..4).map(|_| buffers.take(1000)).collect::<Vec<_>>());
        let mut in_use = Vec::new();
        for _ in 0..8 {
            fill();
            in_use.extend((0..4).map(|_| buffers.take(800)));
            let beyond = |buffer: &RowBuffer| buffer.bytes.len() - ALIGNMENT - buffer.len();
            let kept = in_use.iter().map(beyond).sum::<usize>()
                + at_rest(&buffers).iter().map(|length| length + ALIGNMENT).sum::<usize>();
            assert_eq!(buffers.shelf.kept().bytes, kept);
            assert!(kept <= limit, "{kept}");
        }
        drop(in_use);
        let kept = buffers.shelf.kept();
        assert_eq!(kept.bytes, kept.resting.iter().map(Vec::len).sum::<usize>());
        assert!(kept.bytes <= limit);
    }

    fn at_rest(buffers: &RowBuffers) -> Vec<usize> {
        buffers.shelf.kept().resting.iter().map(|bytes| bytes.len() - ALIGNMENT).collect()
    }
}
