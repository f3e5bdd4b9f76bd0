//! Views: CPU access to buffers while they are mapped.
//!
//! The translation exists during a view, and only the driver's statement keeps the device from writing. So a view never
//! exposes the memory that the device reaches: it exposes a copy, made when the view begins and, if it was modified,
//! written back when it ends. A bounced buffer needs no copy: the device reaches only its slot.

// UNSAFETY: the slices of a view outlive the guard of the lock that protects the copy.
#![expect(unsafe_code, reason = "a view is the one place where a mapped buffer is a slice")]

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::mapping::Mapping;
use super::piece::Piece;

/// Copy of the bytes of one piece, for the CPU.
///
/// # Invariants
///
/// `bytes` and `len` are those of a boxed slice that this owns.
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
        // INVARIANT: the box is leaked here, and taken back by `drop` only.
        let bytes = NonNull::from(Box::leak(bytes)).cast();
        Self { bytes, len, changed: false }
    }

    /// Pointer to the bytes, for a caller that guarantees that the copy is alive and that the access is exclusive.
    pub(super) fn as_ptr(&self) -> *mut [u8] {
        core::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr(), self.len)
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// No exclusive slice of the bytes exists while `self` is borrowed.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: valid by the invariant; not aliased, by the caller's obligation.
        unsafe { &*self.as_ptr() }
    }
}

impl Drop for ViewCopy {
    fn drop(&mut self) {
        // SAFETY: by the invariant this is the box that was passed to `new`, and it is dropped once.
        drop(unsafe { Box::from_raw(self.as_ptr()) });
    }
}

impl Piece {
    /// Makes the copy for the CPU, if the device reaches the memory itself.
    pub(super) fn copy_out(&self) {
        let Some(buffer) = self.buffer() else { return };
        if self.bounce.lock().is_none() {
            let mut bytes = vec![0; self.len() as usize].into_boxed_slice();
            buffer.memory().read_bytes(self.range.start, &mut bytes);
            *self.copy.lock() = Some(ViewCopy::new(bytes));
        }
    }

    /// Drops the copy, and writes it to the memory if it was modified.
    pub(super) fn copy_in(&self) {
        let (copy, buffer) = (self.copy.lock().take(), self.buffer());
        if let (Some(copy), Some(buffer)) = (copy.filter(|c| c.changed), buffer) {
            // SAFETY: the copy was taken out of the piece, and the view that borrowed it has ended, since the mapping's
            // handle could be used again.
            buffer.memory().write_bytes(self.range.start, unsafe { copy.bytes() });
        }
    }
}

/// CPU view of a mapped buffer. Holding one proves that the CPU owns the bytes, and that they hold what the device had
/// written when the view began. Dropping it transfers them to the device again, with the modifications.
///
/// If the device writes nevertheless, the view does not change, and the writes are lost if the view was modified. The
/// mapping cannot be used during the view:
///
/// ```compile_fail,E0502
/// # use bindery::dma::Mapped;
/// fn both(buffer: &mut Mapped<'_>, start: impl Fn(u64)) {
///     let view = buffer.sync_for_cpu();
/// start(buffer.device_addr().0); // the CPU owns it
///     drop(view);
/// }
/// ```
///
/// # Invariants
///
/// The mapping is borrowed exclusively, through its only handle, for `'v`. So while a view exists the mapping is not
/// unmapped, not synced, and has no other view.
pub struct CpuView<'v> {
    mapping: &'v Mapping,
}

impl<'v> CpuView<'v> {
    /// Begins a view. `mapping` comes from its handle, borrowed exclusively for `'v`.
    pub(super) fn new(mapping: &'v Mapping) -> Self {
        mapping.sync_for_cpu();
        // INVARIANT: the callers, `Mapped::sync_for_cpu` and `MappedSg::sync_for_cpu`, take `&'v mut self`.
        Self { mapping }
    }

    fn piece_bytes(&self, index: usize) -> Option<&[u8]> {
        let piece: &Piece = self.mapping.pieces.as_slice().get(index)?;
        if let Some(copy) = &*piece.copy.lock() {
            // SAFETY: the copy owns these bytes, and by the invariant it is neither dropped nor written while `self` is
            // borrowed.
            return Some(unsafe { &*copy.as_ptr() });
        }
        // SAFETY: there is no copy because the device reaches a bounce slot, not these bytes; by the invariant nothing
        // writes to them through the core while `self` is borrowed.
        Some(unsafe { piece.buffer()?.slice(piece.range.clone()) })
    }

    fn piece_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let piece: &Piece = self.mapping.pieces.as_slice().get(index)?;
        if let Some(copy) = &mut *piece.copy.lock() {
            copy.changed = true;
            // SAFETY: as in `piece_bytes`; `self` is borrowed exclusively, so there is no other slice of any piece.
            return Some(unsafe { &mut *copy.as_ptr() });
        }
        // SAFETY: as in `piece_bytes`; `self` is borrowed exclusively, so there is no other slice of any piece.
        Some(unsafe { piece.buffer()?.slice_mut(piece.range.clone()) })
    }
}
impl Deref for CpuView<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.piece_bytes(0).unwrap_or_default()
    }
}

impl DerefMut for CpuView<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.piece_mut(0).unwrap_or_default()
    }
}

impl Drop for CpuView<'_> {
    fn drop(&mut self) {
        self.mapping.sync_for_device();
    }
}

impl fmt::Debug for CpuView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuView({} bytes)", self.mapping.len())
    }
}

/// CPU view of a mapped list of buffers; as [`CpuView`].
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

    /// The bytes of buffer `index`; `None` past the end of the list.
    pub fn buffer(&self, index: usize) -> Option<&[u8]> {
        self.0.piece_bytes(index)
    }

    /// The bytes of buffer `index`, for writing; `None` past the end of the list.
    pub fn buffer_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.0.piece_mut(index)
    }
}

impl fmt::Debug for CpuViewSg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuViewSg({} buffers)", self.len())
    }
}
