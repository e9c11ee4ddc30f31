//! Exact use of the heap: a global allocator that counts bytes while it is asked to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

static COUNTING: AtomicBool = AtomicBool::new(false);
/// Bytes allocated and not freed since counting began; below zero when older ones were freed.
static LIVE: AtomicIsize = AtomicIsize::new(0);
/// The most that there ever were.
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(grown: usize, freed: usize) {
    if COUNTING.load(Relaxed) {
        // No layout is larger than isize::MAX.
        let change = grown.cast_signed() - freed.cast_signed();
        PEAK.fetch_max(LIVE.fetch_add(change, Relaxed) + change, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory but three atomics.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Does the work and gives its result with the most bytes that were allocated at any moment of it, by any thread.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    let result = work();
    COUNTING.store(false, Relaxed);
    (result, usize::try_from(PEAK.load(Relaxed)).unwrap_or(0))
}
