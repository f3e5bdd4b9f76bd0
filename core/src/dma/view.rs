//! The CPU's looks at buffers that the device has most of the time.
//!
//! The translation stands while the CPU looks, and nothing but the driver's word keeps the device from writing meanwhile.
//! So what is lent as a slice is never what the device reaches: it is a copy, taken when the view begins and, if it was
//! changed, written back when it ends. A bounced buffer is lent itself: the device only reaches its slot.

// UNSAFETY: the bytes of a view outlive the lock under which they were found.
#![expect(unsafe_code, reason = "a view is the one place where a lent buffer is a slice")]

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::mapping::{Mapping, Piece};

/// The bytes of one piece as the CPU has them.
///
/// # Invariants
///
/// `bytes` and `len` are a boxed slice that this owns.
pub(super) struct ViewCopy {
    bytes: NonNull<u8>,
    len: usize,
    changed: bool,
}

// SAFETY: it owns plain bytes.
unsafe impl Send for ViewCopy {}

impl ViewCopy {
    pub(super) fn new(bytes: Box<[u8]>) -> Self {
        let len = bytes.len();
        // INVARIANT: the box is given up here, and taken back by `drop` only.
        let bytes = NonNull::from(Box::leak(bytes)).cast();
        Self { bytes, len, changed: false }
    }

    /// The bytes, for whoever sees to it that the copy lives, and that nobody else has them.
    pub(super) fn as_ptr(&self) -> *mut [u8] {
        core::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr(), self.len)
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// Nobody has them exclusively while `self` is borrowed.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: valid by the invariant; the rest is the caller's.
        unsafe { &*self.as_ptr() }
    }
}

impl Drop for ViewCopy {
    fn drop(&mut self) {
        // SAFETY: by the invariant this is the box that `new` was given, and it is dropped once.
        drop(unsafe { Box::from_raw(self.as_ptr()) });
    }
}

impl Piece {
    /// Takes the copy that the CPU will look at, if the device reaches the memory itself.
    pub(super) fn copy_out(&self) {
        let Some(lent) = self.lent() else { return };
        if self.bounce.lock().is_none() {
            let mut bytes = vec![0; self.len() as usize].into_boxed_slice();
            lent.memory().read_bytes(self.range.start, &mut bytes);
            *self.copy.lock() = Some(ViewCopy::new(bytes));
        }
    }

    /// Ends the copy; what was changed in it goes to the memory.
    pub(super) fn copy_in(&self) {
        let (copy, lent) = (self.copy.lock().take(), self.lent());
        if let (Some(copy), Some(lent)) = (copy.filter(|c| c.changed), lent) {
            // SAFETY: the copy was taken out of the piece, and the view that had it exclusively is over: the mapping's
            // handle was free to be used again.
            lent.memory().write_bytes(self.range.start, unsafe { copy.bytes() });
        }
    }
}

/// Having a `CpuView` tells you: the bytes are the CPU's, and they hold what the device had written when the view began.
/// Dropping it gives them to the device again, with what was changed.
///
/// A device that writes nevertheless changes nothing of what is seen here; what it writes is lost if the view was
/// changed. The mapping cannot be used meanwhile:
///
/// ```compile_fail,E0502
/// # use bindery::dma::Mapped;
/// fn both(lent: &mut Mapped<'_>, start: impl Fn(u64)) {
///     let view = lent.sync_for_cpu();
///     start(lent.device_addr().0); // the CPU has it
///     drop(view);
/// }
/// ```
///
/// # Invariants
///
/// The mapping is borrowed exclusively, through its only handle, for `'v`. So while a view exists the mapping is not
/// ended, not synced, and has no other view.
pub struct CpuView<'v> {
    mapping: &'v Mapping,
}

impl<'v> CpuView<'v> {
    /// `mapping` comes from its handle, borrowed exclusively for `'v`.
    pub(super) fn new(mapping: &'v Mapping) -> Self {
        mapping.give_to_cpu();
        // INVARIANT: the callers, `Mapped::sync_for_cpu` and `MappedSg::sync_for_cpu`, take `&'v mut self`.
        Self { mapping }
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        let piece: &Piece = self.mapping.pieces.as_slice().get(index)?;
        if let Some(copy) = &*piece.copy.lock() {
            // SAFETY: the copy owns these bytes, and by the invariant nobody ends it or writes to it while `self` is
            // borrowed.
            return Some(unsafe { &*copy.as_ptr() });
        }
        // SAFETY: there is no copy because the device reaches a bounce slot, not these bytes; by the invariant nobody
        // writes to them through the core while `self` is borrowed.
        Some(unsafe { piece.lent()?.slice(piece.range.clone()) })
    }

    fn part_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let piece: &Piece = self.mapping.pieces.as_slice().get(index)?;
        if let Some(copy) = &mut *piece.copy.lock() {
            copy.changed = true;
            // SAFETY: as in `part`; `self` is borrowed exclusively, so there is no other slice of any part.
            return Some(unsafe { &mut *copy.as_ptr() });
        }
        // SAFETY: as in `part`; `self` is borrowed exclusively, so there is no other slice of any part.
        Some(unsafe { piece.lent()?.slice_mut(piece.range.clone()) })
    }
}
impl Deref for CpuView<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.part(0).unwrap_or_default()
    }
}

impl DerefMut for CpuView<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.part_mut(0).unwrap_or_default()
    }
}

impl Drop for CpuView<'_> {
    fn drop(&mut self) {
        self.mapping.give_to_device();
    }
}

impl fmt::Debug for CpuView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuView({} bytes)", self.mapping.len())
    }
}

/// As [`CpuView`], of a list of buffers.
pub struct CpuViewSg<'v>(CpuView<'v>);

impl<'v> CpuViewSg<'v> {
    /// As [`CpuView::new`].
    pub(super) fn new(mapping: &'v Mapping) -> Self {
        Self(CpuView::new(mapping))
    }

    /// Number of buffers.
    pub fn len(&self) -> usize {
        self.0.mapping.pieces.as_slice().len()
    }

    /// Never true: a list has at least one buffer.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The bytes of buffer `index`, if there is such a buffer.
    pub fn buffer(&self, index: usize) -> Option<&[u8]> {
        self.0.part(index)
    }

    /// The bytes of buffer `index`, to change.
    pub fn buffer_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.0.part_mut(index)
    }
}

impl fmt::Debug for CpuViewSg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuViewSg({} buffers)", self.len())
    }
}
