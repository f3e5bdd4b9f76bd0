//! Memory that the CPU owns and may lend to a device.

// UNSAFETY: pages of RAM are handed out as byte slices; everywhere else they are reached by atomics only.
#![expect(unsafe_code, reason = "turns pages that one handle owns alone into slices")]

use alloc::sync::Arc;
use alloc::vec;
use core::fmt;
use core::ops::Range;
use core::slice;

use super::view::ViewCopy;
use super::{DmaError, DmaMemory};
use crate::addr::{PAGE_SIZE, PhysAddr, pages};
use crate::env::{Caching, FaultPoint, Memory};
use crate::machine::Machine;
use crate::mem::{PageRequest, PageRun};
use crate::sync::Mutex;

/// Alignment of parts of a buffer that are mapped on their own, in bytes: no CPU that this runs on has longer cache
/// lines (arm64 `ARCH_DMA_MINALIGN`).
pub const DMA_ALIGN: u64 = 128;

/// Whole pages that the CPU owns, zeroed when they were taken.
///
/// To lend them to a device, give the buffer to [`Dma::map`](super::Dma::map); ending the mapping gives it back. It
/// belongs to no binding and may outlive them all. Dropping it gives the pages to the allocator they came from.
///
/// A buffer that comes back from a lazy domain may still be reached by its device until the IOMMU is flushed. Taking a
/// slice waits for that flush; [`read_bytes`](Self::read_bytes) and [`write_bytes`](Self::write_bytes) do not.
///
/// # Invariants
///
/// `memory` is the only reference to its `DmaMemory` but for pins, which never touch the bytes, and was made with
/// [`Caching::Cached`]. `copy`, once it is there, is replaced through an exclusive borrow only.
pub struct DmaBuffer {
    memory: Arc<DmaMemory>,
    /// The bytes, while the pages themselves cannot be shown to be out of a device's reach.
    copy: Mutex<Option<ViewCopy>>,
}

impl DmaBuffer {
    /// Wraps pages that were just taken. `None` when they are not RAM of this machine.
    pub(super) fn new(run: PageRun, memory: &Arc<dyn Memory>, len: u64) -> Option<Self> {
        // INVARIANT: nobody else has seen the memory yet.
        Some(Self::of(DmaMemory::new(run, memory, Caching::Cached, len)?))
    }

    fn of(memory: Arc<DmaMemory>) -> Self {
        Self { memory, copy: Mutex::new(None) }
    }

    /// Bytes, at least 1.
    pub fn len(&self) -> u64 {
        self.memory.len()
    }

    /// Never true: a buffer has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Name of the allocator that the pages go back to.
    pub fn source(&self) -> &'static str {
        self.memory.source()
    }

    /// Physical address of the first byte.
    pub fn phys(&self) -> PhysAddr {
        self.memory.phys()
    }

    /// The bytes.
    ///
    /// When the IOMMU does not confirm the end of an earlier mapping, they are a copy, taken now: a device that writes to
    /// the pages all the same does not change it.
    pub fn as_slice(&self) -> &[u8] {
        if self.memory.settle(None).is_ok() && self.copy.lock().is_none() {
            // SAFETY: by the invariant nobody else has the memory, so nothing writes to it through the core while `self`
            // is borrowed. No device reaches it: nothing pins it.
            return unsafe { slice_of(&self.memory, 0..self.len()) };
        }
        let bytes = self.copy.lock().get_or_insert_with(|| self.bytes()).as_ptr();
        // SAFETY: the copy is not ended while `self` is borrowed (invariant), and nobody writes to it.
        unsafe { &*bytes }
    }

    /// The bytes, to change. As [`as_slice`](Self::as_slice) when the IOMMU does not confirm.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.memory.settle(None).is_ok() {
            self.put_back();
            let range = 0..self.len();
            // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
            return unsafe { mut_slice_of(&self.memory, range) };
        }
        let bytes = self.copy.lock().get_or_insert_with(|| self.bytes()).as_ptr();
        // SAFETY: the copy is not ended while `self` is borrowed, exclusively, which keeps everybody else away.
        unsafe { &mut *bytes }
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Panics
    ///
    /// When the range is not inside the buffer.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        if let Some(copy) = &*self.copy.lock() {
            let (first, len) = (offset as usize, to.len());
            // SAFETY: who has them exclusively has borrowed `self` exclusively.
            to.copy_from_slice(&unsafe { copy.bytes() }[first..first + len]);
        } else {
            self.memory.read_bytes(offset, to);
        }
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// When the range is not inside the buffer.
    pub fn write_bytes(&mut self, offset: u64, from: &[u8]) {
        self.put_back();
        self.memory.write_bytes(offset, from);
    }

    pub(super) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    fn bytes(&self) -> ViewCopy {
        let mut bytes = vec![0; self.len() as usize].into_boxed_slice();
        self.memory.read_bytes(0, &mut bytes);
        ViewCopy::new(bytes)
    }

    /// Ends the copy, if there is one: its bytes go to the pages.
    fn put_back(&mut self) {
        if let Some(copy) = self.copy.lock().take() {
            // SAFETY: `self` is borrowed exclusively here.
            self.memory.write_bytes(0, unsafe { copy.bytes() });
        }
    }

    /// Gives up the CPU's ownership.
    pub(super) fn lend(mut self) -> Lent {
        self.put_back();
        Lent { memory: self.memory }
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuffer({} bytes at {} from {})", self.len(), self.phys(), self.source())
    }
}

/// A buffer that a mapping owns. The CPU has no slices of it, but for the views of a bounced mapping that is borrowed
/// exclusively.
///
/// # Invariants
///
/// `memory` is the only reference to its `DmaMemory` but for pins, which never touch the bytes.
pub(super) struct Lent {
    memory: Arc<DmaMemory>,
}

impl Lent {
    pub(super) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    /// The CPU owns it again.
    pub(super) fn into_buffer(self) -> DmaBuffer {
        DmaBuffer::of(self.memory)
    }

    /// # Safety
    ///
    /// For as long as the slice lives the caller has the mapping exclusively, and makes no other slice or copy of the
    /// range.
    pub(super) unsafe fn slice(&self, range: Range<u64>) -> &[u8] {
        // SAFETY: the caller's promise, passed on.
        unsafe { slice_of(&self.memory, range) }
    }

    /// # Safety
    ///
    /// As for [`slice`](Self::slice).
    #[expect(clippy::mut_from_ref, reason = "the bytes are reached by a raw pointer; the caller vouches for them")]
    pub(super) unsafe fn slice_mut(&self, range: Range<u64>) -> &mut [u8] {
        // SAFETY: the caller's promise, passed on.
        unsafe { mut_slice_of(&self.memory, range) }
    }
}

/// First byte and number of bytes of `range`.
fn bytes_of(memory: &DmaMemory, range: &Range<u64>) -> (*mut u8, usize) {
    assert!(range.start <= range.end && range.end <= memory.len(), "{range:?} of {} bytes", memory.len());
    let words = memory.window().words();
    // `AtomicU64` allows writes behind a shared reference, so the pointer may be written through.
    let first = words.as_ptr().cast_mut().cast::<u8>().wrapping_add(range.start as usize);
    (first, (range.end - range.start) as usize)
}

/// # Safety
///
/// Nothing writes to the range while the slice lives.
unsafe fn slice_of(memory: &DmaMemory, range: Range<u64>) -> &[u8] {
    let (first, len) = bytes_of(memory, &range);
    // SAFETY: `bytes_of` has checked that the bytes lie in the window, which is valid while `memory` is borrowed; the
    // caller keeps writers away; bytes need no alignment and RAM is always initialised.
    unsafe { slice::from_raw_parts(first, len) }
}

/// # Safety
///
/// Nothing else reads or writes the range while the slice lives.
#[expect(clippy::mut_from_ref, reason = "the bytes are reached by a raw pointer; the caller vouches for them")]
unsafe fn mut_slice_of(memory: &DmaMemory, range: Range<u64>) -> &mut [u8] {
    let (first, len) = bytes_of(memory, &range);
    // SAFETY: as in `slice_of`, and the caller keeps everybody else away.
    unsafe { slice::from_raw_parts_mut(first, len) }
}

impl Machine {
    /// Takes a buffer of `len` bytes (at least 1) that belongs to no device yet, zeroed, starting on a page.
    ///
    /// A buffer made by [`Dma::buffer`](super::Dma::buffer) lies where that device reaches it without a bounce buffer.
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
