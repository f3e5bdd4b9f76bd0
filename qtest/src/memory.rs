//! RAM of a machine: a file that QEMU and this process have both mapped.

// UNSAFETY: the core reaches RAM through raw pointers (`Memory::window`), as on every target. This module owns the mapping behind
// them.
#![expect(unsafe_code, reason = "maps the memory that the core's windows point into")]

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use bindery::addr::{CpuPtr, PhysAddr};
use bindery::env::{Barrier, CacheOp, Caching, Memory, RamRange};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// RAM of one machine. QEMU's devices access the same bytes, so caches need no maintenance.
///
/// # Invariants
///
/// `start` is a live mapping of `len` bytes, which all ranges are inside of, counted from `base`. The bytes are reached through
/// atomics here and through raw pointers outside.
pub(crate) struct SharedRam {
    start: NonNull<u8>,
    base: PhysAddr,
    len: usize,
    ranges: Vec<RamRange>,
}

// SAFETY: the mapping is owned, never moves, and every access in this module is atomic.
unsafe impl Send for SharedRam {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedRam {}

impl SharedRam {
    /// Maps the first `len` bytes of `file`, RAM at `base`. The core gets `ranges`, which lie inside.
    pub(crate) fn map(file: &File, base: PhysAddr, len: usize, ranges: Vec<RamRange>) -> io::Result<Self> {
        // Past its end a mapping has no pages.
        if file.metadata()?.len() < len as u64 {
            return Err(io::Error::other("QEMU has made it shorter than the machine's RAM"));
        }
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses; no other memory changes.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, base, len, ranges })
    }

    fn offset(&self, at: PhysAddr, len: u64) -> Option<usize> {
        let first = at.0.checked_sub(self.base.0)?;
        let end = first.checked_add(len)?;
        (end <= self.len as u64).then_some(first as usize)
    }

    /// Copies bytes out. Returns false when not all of them are RAM.
    pub(crate) fn read(&self, at: PhysAddr, bytes: &mut [u8]) -> bool {
        let Some(offset) = self.offset(at, bytes.len() as u64) else { return false };
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(offset + i).load(Ordering::Relaxed);
        }
        true
    }

    /// Copies bytes in. Returns false when not all of them are RAM.
    pub(crate) fn write(&self, at: PhysAddr, bytes: &[u8]) -> bool {
        let Some(offset) = self.offset(at, bytes.len() as u64) else { return false };
        for (i, byte) in bytes.iter().enumerate() {
            self.byte(offset + i).store(*byte, Ordering::Relaxed);
        }
        true
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < self.len);
        // SAFETY: callers give offsets that `offset` has found, which are inside the live mapping.
        unsafe { AtomicU8::from_ptr(self.start.as_ptr().add(offset)) }
    }

    /// Takes the word at `at`, a multiple of four, and leaves 0. 0 where no RAM is.
    pub(crate) fn take_word(&self, at: PhysAddr) -> u32 {
        let Some(offset) = self.offset(at, 4).filter(|offset| offset % 4 == 0) else { return 0 };
        // SAFETY: by the type's invariants the four bytes are inside the live mapping, which begins at a page.
        let word = unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) };
        // Looked at before it is written: a swap would make the cache line this CPU's own each time.
        if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::AcqRel) }
    }
}

impl Drop for SharedRam {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's, and those who have windows into it keep the object alive.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: `window` points into the mapping, which lives and stays in place as long as `self`; `offset` and the check of the ranges
// keep all `len` bytes inside; the mapping begins at a page, as `base` does, so a pointer is aligned as its physical address is, up to
// a page; no Rust reference to the bytes exists but the short-lived atomic ones above.
unsafe impl Memory for SharedRam {
    fn ranges(&self) -> Vec<RamRange> {
        self.ranges.clone()
    }

    fn window(&self, base: PhysAddr, len: u64, _: Caching) -> Option<CpuPtr> {
        let end = base.checked_add(len)?;
        self.ranges.iter().find(|r| r.base <= base && end.0 <= r.base.0 + r.len)?;
        let offset = self.offset(base, len)?;
        // SAFETY: `offset` is inside the mapping.
        Some(CpuPtr(unsafe { self.start.add(offset) }))
    }

    fn cache(&self, _: CacheOp, _: PhysAddr, _: u64) {
        fence(Ordering::SeqCst);
    }

    fn barrier(&self, _: Barrier) {
        fence(Ordering::SeqCst);
    }
}
