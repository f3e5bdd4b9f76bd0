//! Streaming DMA buffers: owned by the CPU, or by the device while they are mapped.

// UNSAFETY: pages of RAM are exposed as byte slices; everywhere else they are accessed by atomics only.
#![expect(unsafe_code, reason = "turns pages that one handle owns exclusively into slices")]

use alloc::sync::Arc;
use alloc::vec;
use core::fmt;
use core::ops::Range;
use core::slice;

use super::view::ViewCopy;
use super::{DmaError, DmaMemory};
use crate::addr::{PAGE_SIZE, PhysAddr, pages};
use crate::env::{Caching, Memory};
use crate::instrument::FaultPoint;
use crate::mem::access::RamWindow;
use crate::mem::{PageRequest, PageRun};
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::system::System;

/// Alignment of parts of a buffer that are mapped on their own, in bytes: no supported CPU has longer cache lines
/// (arm64 `ARCH_DMA_MINALIGN`).
pub const DMA_ALIGN: u64 = 128;

/// Streaming DMA buffer of whole pages, zeroed at allocation and owned by the CPU.
///
/// [`Dma::map`](super::Dma::map) transfers ownership to a device; unmapping returns the buffer. It belongs to no
/// binding and may outlive all of them. Dropping it frees the pages to the allocator that they came from.
///
/// After an unmap in a lazy domain the device may still reach the buffer until the IOMMU is flushed. Borrowing a slice
/// waits for that flush; [`read_bytes`](Self::read_bytes) and [`write_bytes`](Self::write_bytes) do not.
///
/// ```
/// use bindery::dma::Direction;
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let mut buffer = dev.dma().buffer(512)?;
/// buffer.as_mut_slice().fill(0x55);
/// let mapped = dev.dma().map(buffer, Direction::ToDevice)?;
/// // ... the device reads it at mapped.device_addr() ...
/// let buffer = mapped.unmap()?;
/// assert_eq!(buffer.as_slice()[0], 0x55);
/// # Ok(())
/// # });
/// ```
///
/// # Invariants
///
/// `memory` is the only reference to its `DmaMemory` except for pins, which never access the bytes, and for a mapping that has
/// [borrowed](super::Scope) the buffer exclusively. It was made with [`Caching::Cached`]. Once set, its copy is replaced through an exclusive borrow of the buffer only.
pub struct DmaBuffer {
    memory: Arc<DmaMemory>,
}

/// Copy of the bytes of a buffer, used while a device may still reach the pages. It lies with the memory, so that the buffer, which
/// changes hands at each map and unmap, is one pointer.
#[derive(Default)]
pub(super) struct BufferCopy {
    /// True when there is a copy, to be read without the lock.
    exists: AtomicBool,
    copy: SpinLock<Option<ViewCopy>>,
}

impl BufferCopy {
    /// True when there is a copy. Acquired: whoever sees it finds it.
    #[inline]
    fn exists(&self) -> bool {
        self.exists.load(Ordering::Acquire)
    }

    /// Pointer to the bytes of the copy, which `make` makes if there is none.
    fn get_or_make(&self, make: impl FnOnce() -> ViewCopy) -> *mut [u8] {
        let mut copy = self.copy.lock();
        let bytes = copy.get_or_insert_with(make).as_ptr();
        self.exists.store(true, Ordering::Release);
        bytes
    }

    /// Takes the copy out.
    fn take(&self) -> Option<ViewCopy> {
        let mut copy = self.copy.lock();
        self.exists.store(false, Ordering::Release);
        copy.take()
    }
}

impl DmaBuffer {
    /// Wraps pages that were just allocated. `None` when they are not RAM of this machine.
    pub(super) fn new(run: PageRun, memory: &Arc<dyn Memory>, len: u64) -> Option<Self> {
        // INVARIANT: the memory was just made, and no other reference to it exists.
        Some(Self::of(DmaMemory::new(run, memory, Caching::Cached, len)?))
    }

    /// Wraps pages that their owner has lent, and the window of all of them.
    pub(super) fn adopted(run: PageRun, window: RamWindow) -> Self {
        let len = run.len();
        // INVARIANT: the memory is made here.
        Self::of(DmaMemory::with_window(run, window, Caching::Cached, len))
    }

    fn of(memory: Arc<DmaMemory>) -> Self {
        Self { memory }
    }

    /// Size in bytes, at least 1.
    #[inline]
    pub fn len(&self) -> u64 {
        self.memory.len()
    }

    /// Never true: a buffer has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Name of the allocator that the pages are freed to.
    pub fn source(&self) -> &'static str {
        self.memory.source()
    }

    /// Physical address of the first byte.
    pub fn phys(&self) -> PhysAddr {
        self.memory.phys()
    }

    /// The contents.
    ///
    /// If the IOMMU does not confirm that an earlier mapping is gone, this is a copy made now, which a device that
    /// still writes to the pages does not change.
    pub fn as_slice(&self) -> &[u8] {
        if self.memory.confirm_unmapped(None).is_ok() && !self.memory.copy().exists() {
            self.memory.see_all();
            // SAFETY: by the invariant this is the only reference, so nothing writes to the memory through the core
            // while `self` is borrowed. No device reaches it: it is not pinned.
            return unsafe { slice_of(&self.memory, 0..self.len()) };
        }
        let bytes = self.memory.copy().get_or_make(|| self.bytes());
        // SAFETY: the copy is not dropped while `self` is borrowed (invariant), and nobody writes to it.
        unsafe { &*bytes }
    }

    /// The contents, for writing. A copy as in [`as_slice`](Self::as_slice) when the IOMMU does not confirm; its
    /// changes are written to the pages later.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.memory.confirm_unmapped(None).is_ok() {
            self.memory.see_all();
            self.write_back();
            let range = 0..self.len();
            // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
            return unsafe { mut_slice_of(&self.memory, range) };
        }
        let bytes = self.memory.copy().get_or_make(|| self.bytes());
        // SAFETY: the copy is not dropped while `self` is borrowed, and it is borrowed exclusively.
        unsafe { &mut *bytes }
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the buffer.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        if let Some(copy) = &*self.memory.copy().copy.lock() {
            let (first, len) = (offset as usize, to.len());
            // SAFETY: an exclusive slice of the copy borrows `self` exclusively.
            to.copy_from_slice(&unsafe { copy.bytes() }[first..first + len]);
        } else {
            self.memory.see_all();
            self.memory.read_bytes(offset, to);
        }
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the buffer.
    pub fn write_bytes(&mut self, offset: u64, from: &[u8]) {
        self.memory.see_all();
        self.write_back();
        self.memory.write_bytes(offset, from);
    }

    #[inline]
    pub(super) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    fn bytes(&self) -> ViewCopy {
        let mut bytes = vec![0; self.len() as usize].into_boxed_slice();
        self.memory.see_all();
        self.memory.read_bytes(0, &mut bytes);
        ViewCopy::new(bytes)
    }

    /// Writes the copy, if there is one, to the pages and drops it.
    #[inline]
    pub(super) fn write_back(&mut self) {
        if self.memory.copy().exists() {
            self.write_copy_back();
        }
    }

    #[cold]
    fn write_copy_back(&mut self) {
        if let Some(copy) = self.memory.copy().take() {
            // SAFETY: the copy was taken out, and `self` is borrowed exclusively here.
            self.memory.write_bytes(0, unsafe { copy.bytes() });
        }
    }

    /// Transfers ownership to the device.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does")]
    #[inline(always)]
    pub(super) fn into_device_owned(mut self) -> DeviceOwned {
        self.write_back();
        DeviceOwned { memory: self.memory }
    }

    /// Lends the memory to a mapping that borrows the buffer exclusively for as long as its handle can be used.
    pub(super) fn lend(&mut self) -> DeviceOwned {
        self.write_back();
        // INVARIANT: the other reference, `self`, is borrowed.
        DeviceOwned { memory: Arc::clone(&self.memory) }
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuffer({} bytes at {} from {})", self.len(), self.phys(), self.source())
    }
}

/// A buffer that a mapping owns. The CPU has no slices of it, except for views of a bounced mapping that is borrowed
/// exclusively.
///
/// # Invariants
///
/// `memory` is the only reference to its `DmaMemory` except for pins, which never access the bytes, and for a buffer that is borrowed
/// exclusively while this can be used.
pub(super) struct DeviceOwned {
    memory: Arc<DmaMemory>,
}

impl DeviceOwned {
    pub(super) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    /// Returns ownership to the CPU.
    #[inline]
    pub(super) fn into_buffer(self) -> DmaBuffer {
        DmaBuffer::of(self.memory)
    }

    /// # Safety
    ///
    /// While the slice exists the caller borrows the mapping exclusively and makes no other slice or copy of the range.
    pub(super) unsafe fn slice(&self, range: Range<u64>) -> &[u8] {
        // SAFETY: the caller's obligation, passed on.
        unsafe { slice_of(&self.memory, range) }
    }

    /// # Safety
    ///
    /// As for [`slice`](Self::slice).
    #[expect(
        clippy::mut_from_ref,
        reason = "the bytes are accessed through a raw pointer; the caller guarantees exclusive access"
    )]
    pub(super) unsafe fn slice_mut(&self, range: Range<u64>) -> &mut [u8] {
        // SAFETY: the caller's obligation, passed on.
        unsafe { mut_slice_of(&self.memory, range) }
    }
}

/// Pointer to the first byte, and the number of bytes, of `range`.
fn bytes_of(memory: &DmaMemory, range: &Range<u64>) -> (*mut u8, usize) {
    assert!(range.start <= range.end && range.end <= memory.len(), "{range:?} of {} bytes", memory.len());
    let words = memory.window().words();
    // `AtomicU64` has interior mutability, so writing through this pointer is allowed.
    let first = words.as_ptr().cast_mut().cast::<u8>().wrapping_add(range.start as usize);
    (first, (range.end - range.start) as usize)
}

/// # Safety
///
/// Nothing writes to the range while the slice exists.
unsafe fn slice_of(memory: &DmaMemory, range: Range<u64>) -> &[u8] {
    let (first, len) = bytes_of(memory, &range);
    // SAFETY: `bytes_of` has checked that the bytes lie in the window, which is valid while `memory` is borrowed; the
    // caller excludes writers; bytes need no alignment and RAM is always initialised.
    unsafe { slice::from_raw_parts(first, len) }
}

/// # Safety
///
/// Nothing else reads or writes the range while the slice exists.
#[expect(
    clippy::mut_from_ref,
    reason = "the bytes are accessed through a raw pointer; the caller guarantees exclusive access"
)]
unsafe fn mut_slice_of(memory: &DmaMemory, range: Range<u64>) -> &mut [u8] {
    let (first, len) = bytes_of(memory, &range);
    // SAFETY: as in `slice_of`, and the caller excludes every other access.
    unsafe { slice::from_raw_parts_mut(first, len) }
}

impl System {
    /// Allocates a buffer of `len` bytes (at least 1) that belongs to no device yet, zeroed, starting on a page.
    ///
    /// A buffer from [`Dma::buffer`](super::Dma::buffer) lies where that device can address it without a bounce buffer.
    ///
    /// # Errors
    ///
    /// [`DmaError::BadSize`] for 0 bytes or more than 2^32 pages, [`DmaError::Memory`] when there are no pages.
    pub fn dma_buffer(&self, len: u64) -> Result<DmaBuffer, DmaError> {
        let count = pages(len);
        if count == 0 || count > u64::from(u32::MAX) {
            return Err(DmaError::BadSize(len));
        }
        if self.should_fail(None, FaultPoint::FrameAlloc) {
            return Err(DmaError::Injected(FaultPoint::FrameAlloc));
        }
        let request = PageRequest { pages: count, align: PAGE_SIZE, limit: PhysAddr(u64::MAX) };
        let run = PageRun::alloc(self.memory().frames(), &request)?;
        DmaBuffer::new(run, self.memory().memory(), len).ok_or(DmaError::BadSize(len))
    }
}
