//! The host's allocator, which knows how many bytes are live.

// UNSAFETY: an allocator is an unsafe interface; this one passes every call on.
#![expect(unsafe_code, reason = "implements `GlobalAlloc`")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

struct Counting(AtomicU64);

#[global_allocator]
static HEAP: Counting = Counting(AtomicU64::new(0));

/// Bytes of the heap that are in use.
pub(crate) fn bytes() -> u64 {
    HEAP.0.load(Relaxed)
}

// SAFETY: the system's allocator, called with the arguments of each call. What is not overridden is made of these.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's obligation, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}
