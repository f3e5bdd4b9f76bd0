//! Register windows.

use std::sync::Arc;

use bindery::env::{Io, IoError, Width};

use super::Inner;

/// Register window of one device, made by [`map_io`](bindery::env::Env::map_io). It keeps the board alive, and becomes
/// invalid for good when its device is removed.
pub(super) struct Window {
    pub(super) inner: Arc<Inner>,
    pub(super) region: usize,
    pub(super) generation: u64,
    /// Offset of the window in its region.
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Window {
    /// Checks bounds and alignment of an access; returns its offset in the region.
    fn locate(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let bytes = width.bytes();
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.len);
        // A width is a power of two.
        if !inside || offset & (bytes - 1) != 0 {
            return Err(IoError::Bad { offset, bytes: bytes as u8 });
        }
        Ok(self.start + offset)
    }
}

impl Io for Window {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let at = self.locate(offset, width)?;
        let mut state = self.inner.state.lock();
        state.begin_access(self.region, self.generation)?;
        Ok(state.read(self.region, at, width))
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let at = self.locate(offset, width)?;
        let mut state = self.inner.state.lock();
        state.begin_access(self.region, self.generation)?;
        state.write(self.region, at, width, value & u64::MAX >> (64 - 8 * width.bytes()));
        Ok(())
    }
}
