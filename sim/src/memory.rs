//! RAM with two views: the CPU's through its cache, and the contents of RAM.
//!
//! A CPU store through a cached window lands in the cache view only; a non-coherent device reads and writes the RAM view
//! only. Only cache maintenance copies between them, so missing maintenance causes stale data every time. Real caches
//! evict lines now and then and so hide such bugs. This one never does, and treats every line as dirty, so that writing a
//! line back over a device's data is noticed, too.

// UNSAFETY: the core reaches RAM through raw pointers (`Memory::window`), as it does on every target; this module owns
// the bytes behind them and vouches for their lifetime. All accesses made here are atomic.
#![expect(unsafe_code, reason = "owns the bytes that the core's memory windows point into")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use bindery::addr::{CpuPtr, PAGE_SIZE, PhysAddr};
use bindery::env::{Barrier, CacheOp, Caching, Memory, RamRange};

/// Bytes in a cache line (Cortex-A57 and A53 of the R-Car H3).
pub const LINE: u64 = 64;
const LINE_WORDS: usize = LINE as usize / 8;

/// Device access to an address without RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("bus error: no RAM at {addr}")]
pub struct BusError {
    /// First byte of the access.
    pub addr: PhysAddr,
}

/// One of the two copies of RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum View {
    Cache,
    Ram,
}

/// The RAM of one board.
///
/// # Invariants
///
/// `block` is one live, zero-initialised allocation of `layout`; it holds two copies of all ranges, the cache view from
/// `start` on and the RAM view `total` bytes after it. `start` is page aligned within the address space. The bytes are
/// only ever reached through atomics here and through raw pointers outside.
pub struct Ram {
    block: NonNull<u8>,
    layout: Layout,
    start: usize,
    total: usize,
    ranges: Vec<(RamRange, usize)>,
}

// SAFETY: the block is owned, never moves, and every access in this module is atomic.
unsafe impl Send for Ram {}
// SAFETY: as for `Send`.
unsafe impl Sync for Ram {}

impl Ram {
    /// Zeroed RAM at `ranges`. The host allocates pages on first access, so a board costs only what it uses.
    ///
    /// # Panics
    ///
    /// When the ranges are not ascending, not page aligned, overlap, or are empty.
    pub fn new(ranges: &[RamRange]) -> Self {
        let mut placed = Vec::with_capacity(ranges.len());
        let mut total = 0_usize;
        let mut end = 0;
        for range in ranges {
            assert!(range.base.is_aligned(PAGE_SIZE) && range.len.is_multiple_of(PAGE_SIZE) && range.len > 0);
            assert!(range.base.0 >= end, "RAM ranges must ascend and not overlap");
            end = range.base.0.checked_add(range.len).expect("RAM ends inside the address space");
            placed.push((*range, total));
            total += usize::try_from(range.len).expect("RAM fits the host");
        }
        // One block for both views, asked for with the allocator's natural alignment: only then does it come from the
        // operating system as untouched zero pages instead of being cleared byte by byte.
        let page = PAGE_SIZE as usize;
        let layout = Layout::from_size_align(2 * total + page, 8).expect("RAM fits the host");
        // SAFETY: the layout's size is not zero: it holds at least a page.
        let Some(block) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let start = block.as_ptr().align_offset(page);
        assert!(start < page, "aligning to a page needs less than a page");
        // INVARIANT: `start + 2 * total <= layout.size()`, because `start < page`.
        Self { block, layout, start, total, ranges: placed }
    }

    /// Offset of `len` bytes at `base` in the block, for `view`; `None` unless all of them are RAM of one range.
    fn locate(&self, base: PhysAddr, len: u64, view: View) -> Option<usize> {
        let last = base.checked_add(len)?;
        let (range, offset) = self.ranges.iter().find(|(r, _)| r.base <= base && last.0 <= r.base.0 + r.len)?;
        let inside = offset + (base - range.base) as usize;
        Some(self.start + inside + if view == View::Ram { self.total } else { 0 })
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        debug_assert!(at < self.layout.size());
        // SAFETY: by the type's invariants `locate` only gives places inside the live block; outside this module the
        // bytes are reached by raw pointers alone, so no plain reference aliases this atomic one.
        unsafe { AtomicU8::from_ptr(self.block.as_ptr().add(at)) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at + 8 <= self.layout.size());
        // SAFETY: as in `byte`; callers give places where eight bytes are left, and `start` is page aligned, so the
        // address is a multiple of 8 whenever `at - start` is.
        unsafe { AtomicU64::from_ptr(self.block.as_ptr().add(at).cast()) }
    }

    /// Bytes from place `at` to where the next word starts.
    fn to_word(&self, at: usize) -> usize {
        (at - self.start).wrapping_neg() % 8
    }

    fn load(&self, at: usize, buf: &mut [u8]) {
        let (head, rest) = buf.split_at_mut(self.to_word(at).min(buf.len()));
        let (words, tail) = rest.as_chunks_mut::<8>();
        let (middle, end) = (at + head.len(), at + head.len() + 8 * words.len());
        for (i, byte) in head.iter_mut().enumerate() {
            *byte = self.byte(at + i).load(Ordering::Relaxed);
        }
        for (i, word) in words.iter_mut().enumerate() {
            *word = self.word(middle + 8 * i).load(Ordering::Relaxed).to_ne_bytes();
        }
        for (i, byte) in tail.iter_mut().enumerate() {
            *byte = self.byte(end + i).load(Ordering::Relaxed);
        }
    }

    fn store(&self, at: usize, buf: &[u8]) {
        let (head, rest) = buf.split_at(self.to_word(at).min(buf.len()));
        let (words, tail) = rest.as_chunks::<8>();
        let (middle, end) = (at + head.len(), at + head.len() + 8 * words.len());
        for (i, byte) in head.iter().enumerate() {
            self.byte(at + i).store(*byte, Ordering::Relaxed);
        }
        for (i, word) in words.iter().enumerate() {
            self.word(middle + 8 * i).store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        for (i, byte) in tail.iter().enumerate() {
            self.byte(end + i).store(*byte, Ordering::Relaxed);
        }
    }

    /// `len` bytes as words; place and length are multiples of 8.
    fn words(&self, at: usize, len: u64) -> &[AtomicU64] {
        debug_assert!(at + len as usize <= self.layout.size());
        // SAFETY: as in `word`, for each of the words; callers give ranges that `locate` has found.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().add(at).cast(), len as usize / 8) }
    }

    /// Copies whole lines from one place to another.
    fn copy(&self, from: usize, to: usize, len: u64) {
        let (from, _) = self.words(from, len).as_chunks::<LINE_WORDS>();
        let (to, _) = self.words(to, len).as_chunks::<LINE_WORDS>();
        for (from, to) in from.iter().zip(to) {
            for (from, to) in from.iter().zip(to) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// Reads as a device. A `coherent` access snoops the CPU's cache; another one reads RAM only.
    ///
    /// # Errors
    ///
    /// When not all of the addresses are RAM.
    pub fn dma_read(&self, addr: PhysAddr, buf: &mut [u8], coherent: bool) -> Result<(), BusError> {
        let view = if coherent { View::Cache } else { View::Ram };
        self.load(self.locate(addr, buf.len() as u64, view).ok_or(BusError { addr })?, buf);
        Ok(())
    }

    /// Writes as a device. A `coherent` access also updates the CPU's cache; another one writes RAM only.
    ///
    /// # Errors
    ///
    /// When not all of the addresses are RAM.
    pub fn dma_write(&self, addr: PhysAddr, buf: &[u8], coherent: bool) -> Result<(), BusError> {
        self.store(self.locate(addr, buf.len() as u64, View::Ram).ok_or(BusError { addr })?, buf);
        if coherent && let Some(at) = self.locate(addr, buf.len() as u64, View::Cache) {
            self.store(at, buf);
        }
        Ok(())
    }

    /// Returns true when cache and RAM agree over `len` bytes at `base`.
    pub fn cache_matches(&self, base: PhysAddr, len: u64) -> bool {
        let (Some(cache), Some(ram)) = (self.locate(base, len, View::Cache), self.locate(base, len, View::Ram)) else {
            return true;
        };
        let byte = |at: usize| self.byte(at).load(Ordering::Relaxed);
        (0..len as usize).all(|i| byte(cache + i) == byte(ram + i))
    }

    /// Reads as the CPU through a window of that kind. For tests and tools.
    ///
    /// # Errors
    ///
    /// When not all of the addresses are RAM.
    pub fn cpu_read(&self, addr: PhysAddr, buf: &mut [u8], caching: Caching) -> Result<(), BusError> {
        self.load(self.locate(addr, buf.len() as u64, view_of(caching)).ok_or(BusError { addr })?, buf);
        Ok(())
    }

    /// Writes as the CPU through a window of that kind. For tests and tools.
    ///
    /// # Errors
    ///
    /// When not all of the addresses are RAM.
    pub fn cpu_write(&self, addr: PhysAddr, buf: &[u8], caching: Caching) -> Result<(), BusError> {
        self.store(self.locate(addr, buf.len() as u64, view_of(caching)).ok_or(BusError { addr })?, buf);
        Ok(())
    }
}

fn view_of(caching: Caching) -> View {
    match caching {
        Caching::Cached => View::Cache,
        Caching::Uncached => View::Ram,
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: `block` was allocated with exactly this layout and is freed once, here.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ranges.iter().map(|(r, _)| r)).finish()
    }
}

// SAFETY: `window` points into `block`, which lives and stays put as long as `self`; `locate` has checked that all `len`
// bytes are inside; `start` is page aligned, so the pointer is aligned as the physical address is, up to a page; no Rust
// reference to the bytes exists except the short-lived atomic ones in this module.
unsafe impl Memory for Ram {
    fn ranges(&self) -> Vec<RamRange> {
        self.ranges.iter().map(|(r, _)| *r).collect()
    }

    fn window(&self, base: PhysAddr, len: u64, caching: Caching) -> Option<CpuPtr> {
        let at = self.locate(base, len, view_of(caching))?;
        // SAFETY: `locate` gives places inside the block.
        Some(CpuPtr(unsafe { self.block.add(at) }))
    }

    fn cache(&self, op: CacheOp, base: PhysAddr, len: u64) {
        let Some(end) = base.checked_add(len).filter(|_| len > 0) else { return };
        let (first, last) = (base.0 & !(LINE - 1), end.0.next_multiple_of(LINE));
        let span = last - first;
        let (Some(cache), Some(ram)) =
            (self.locate(PhysAddr(first), span, View::Cache), self.locate(PhysAddr(first), span, View::Ram))
        else {
            return;
        };
        fence(Ordering::SeqCst);
        match op {
            // Afterwards the two views agree, so dropping the lines changes nothing.
            CacheOp::Clean | CacheOp::CleanInvalidate => self.copy(cache, ram, span),
            CacheOp::Invalidate => {
                if base.0 != first {
                    self.copy(cache, ram, LINE);
                }
                if end.0 != last {
                    let tail = (span - LINE) as usize;
                    self.copy(cache + tail, ram + tail, LINE);
                }
                self.copy(ram, cache, span);
            }
        }
        fence(Ordering::SeqCst);
    }

    fn barrier(&self, _barrier: Barrier) {
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindery::env::RamUse;

    const BASE: PhysAddr = PhysAddr(0x4800_0000);

    fn ram() -> Ram {
        Ram::new(&[
            RamRange { base: BASE, len: 0x4000, use_for: RamUse::Frames },
            RamRange { base: PhysAddr(0x7c00_0000), len: 0x1000, use_for: RamUse::Contiguous },
        ])
    }

    fn cpu(ram: &Ram, at: PhysAddr, caching: Caching) -> [u8; 4] {
        let mut b = [0; 4];
        ram.cpu_read(at, &mut b, caching).unwrap();
        b
    }

    #[test]
    fn a_cached_store_reaches_a_device_only_after_clean() {
        let ram = ram();
        ram.cpu_write(BASE + 100, b"data", Caching::Cached).unwrap();
        let mut seen = [0; 4];
        ram.dma_read(BASE + 100, &mut seen, false).unwrap();
        assert_eq!(seen, [0; 4]);
        ram.dma_read(BASE + 100, &mut seen, true).unwrap();
        assert_eq!(&seen, b"data", "a coherent device snoops");
        assert!(!ram.cache_matches(BASE + 100, 4) && ram.cache_matches(BASE + 104, 4));
        ram.cache(CacheOp::Clean, BASE + 100, 4);
        assert!(ram.cache_matches(BASE + 100, 4));
        ram.dma_read(BASE + 100, &mut seen, false).unwrap();
        assert_eq!(&seen, b"data");
    }

    #[test]
    fn a_device_write_reaches_the_cpu_only_after_invalidate() {
        let ram = ram();
        ram.dma_write(BASE + 0x40, b"data", false).unwrap();
        assert_eq!(cpu(&ram, BASE + 0x40, Caching::Cached), [0; 4]);
        assert_eq!(&cpu(&ram, BASE + 0x40, Caching::Uncached), b"data");
        ram.cache(CacheOp::Invalidate, BASE + 0x40, 64);
        assert_eq!(&cpu(&ram, BASE + 0x40, Caching::Cached), b"data");
        ram.dma_write(BASE + 0x40, b"more", true).unwrap();
        assert_eq!(&cpu(&ram, BASE + 0x40, Caching::Cached), b"more", "a coherent device updates the cache");
    }

    #[test]
    fn invalidating_part_of_a_line_writes_it_back_over_the_devices_data() {
        let ram = ram();
        ram.dma_write(BASE, &[7; 128], false).unwrap();
        ram.cache(CacheOp::Invalidate, BASE + 32, 96);
        assert_eq!(cpu(&ram, BASE + 32, Caching::Cached), [0; 4], "the shared line lost the device's bytes");
        assert_eq!(cpu(&ram, BASE + 64, Caching::Cached), [7; 4], "the whole line kept them");
        ram.dma_write(BASE, &[9; 128], false).unwrap();
        ram.cache(CacheOp::Invalidate, BASE, 100);
        assert_eq!(cpu(&ram, BASE, Caching::Cached), [9; 4]);
        assert_eq!(cpu(&ram, BASE + 64, Caching::Cached), [7; 4]);
    }

    #[test]
    fn an_access_outside_ram_is_a_bus_error_and_has_no_window() {
        let ram = ram();
        for addr in [PhysAddr(0), BASE + 0x3fff, PhysAddr(u64::MAX - 1)] {
            assert_eq!(ram.dma_read(addr, &mut [0; 4], false), Err(BusError { addr }));
            assert_eq!(ram.dma_write(addr, &[0; 4], true), Err(BusError { addr }));
            assert_eq!(ram.window(addr, 4, Caching::Cached), None);
        }
        assert!(ram.window(BASE, 0x4000, Caching::Cached).is_some());
        ram.cache(CacheOp::Clean, PhysAddr(0), 64);
    }

    #[test]
    fn unaligned_accesses_of_any_length_round_trip() {
        let ram = ram();
        let data: Vec<u8> = (0..200).collect();
        for start in 0..17 {
            for len in [0, 1, 7, 8, 9, 15, 16, 63, 200] {
                ram.dma_write(BASE + start, &data[..len], false).unwrap();
                let mut back = vec![0; len];
                ram.dma_read(BASE + start, &mut back, false).unwrap();
                assert_eq!(back, data[..len]);
            }
        }
    }

    #[test]
    fn windows_are_as_aligned_as_the_address_and_show_the_view_they_name() {
        let ram = ram();
        let cached = ram.window(BASE + 0x1000, 0x1000, Caching::Cached).unwrap().0.as_ptr();
        let uncached = ram.window(BASE + 0x1000, 0x1000, Caching::Uncached).unwrap().0.as_ptr();
        assert_eq!((cached as usize % 4096, uncached as usize % 4096), (0, 0));
        // SAFETY: `window` vouches for 4096 bytes at each, and nobody else touches this board's RAM.
        unsafe {
            cached.write(1);
            uncached.write(2);
        }
        assert_eq!(cpu(&ram, BASE + 0x1000, Caching::Cached)[0], 1);
        assert_eq!(cpu(&ram, BASE + 0x1000, Caching::Uncached)[0], 2);
    }
}
