//! Buffers of rows that serve one blob after the other.
//!
//! Fresh pages cost more than the arithmetic of the codec from about 8 MiB of payload on, so whoever encodes again and
//! again keeps its buffers.

use core::ops::{Deref, DerefMut};
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
    resting: Mutex<Vec<Vec<u8>>>,
    limit: usize,
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
    fn resting(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // Whatever panicked elsewhere, a list of buffers is a list of buffers.
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RowBuffers {
    /// Keeps at most `limit` bytes at rest; buffers in use are not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { shelf: Arc::new(Shelf { resting: Mutex::default(), limit }) }
    }

    /// A buffer of this many bytes, whose contents are those of an earlier blob, or zero.
    ///
    /// One at rest serves if at least four fifths of it are used.
    #[must_use]
    pub fn take(&self, length: usize) -> RowBuffer {
        let mut resting = self.shelf.resting();
        let fits = |bytes: &Vec<u8>| (length..=length + length / 4).contains(&(bytes.len() - ALIGNMENT));
        let fitting = (0..resting.len()).filter(|i| fits(&resting[*i])).min_by_key(|i| resting[*i].len());
        let found = fitting.map(|i| resting.swap_remove(i));
        drop(resting);
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
        let mut resting = home.resting();
        let at_rest: usize = resting.iter().map(Vec::len).sum();
        if at_rest + self.bytes.len() <= home.limit {
            resting.push(core::mem::take(&mut self.bytes));
        }
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
        assert_eq!(buffers.shelf.resting().iter().map(Vec::len).sum::<usize>(), limit);

        let gone = RowBuffers::new(limit).take(1000);
        assert_eq!(gone.len(), 1000, "outlives the shelf");
        drop(RowBuffer::zeroed(1000));
    }
}
