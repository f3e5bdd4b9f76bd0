//! Borrowed looks at buffers that the device has most of the time.

// UNSAFETY: the bytes of a lent buffer are handed out as slices while a view has them for the CPU.
#![expect(unsafe_code, reason = "a view is the one place where a lent buffer is a slice")]

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::mapping::{Mapping, Piece};

/// Having a `CpuView` tells you: the bytes are the CPU's, and they hold what the device wrote before. Dropping it gives
/// them to the device again.
///
/// The mapping cannot be used meanwhile:
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
        // SAFETY: by the invariant nobody writes to the bytes through the core while `self` is borrowed; the driver has
        // stated that the device does not.
        Some(unsafe { piece.lent()?.slice(piece.range.clone()) })
    }

    fn part_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let piece: &Piece = self.mapping.pieces.as_slice().get(index)?;
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
