//! A window onto the registers of one device.

use std::sync::Arc;

use bindery::env::{Io, IoError, Width};

use super::Inner;

/// What [`map_io`](bindery::env::Env::map_io) gives out. It keeps the board alive, and is dead for good once its device
/// was pulled out.
pub(super) struct Window {
    pub(super) inner: Arc<Inner>,
    pub(super) region: usize,
    pub(super) generation: u64,
    /// Where the window starts in its region.
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Window {
    /// Offset in the region of an access that lies in the window and is aligned.
    fn place(&self, offset: u64, width: Width) -> Result<u64, IoError> {
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
        let place = self.place(offset, width)?;
        let mut state = self.inner.state.lock();
        state.access_begins(self.region, self.generation)?;
        if width != Width::W32 {
            state.bad_width(self.region, offset, width.bytes());
            return Ok(u64::MAX >> (64 - 8 * width.bytes()));
        }
        Ok(u64::from(state.read(self.region, place as u32)))
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let place = self.place(offset, width)?;
        let mut state = self.inner.state.lock();
        state.access_begins(self.region, self.generation)?;
        if width == Width::W32 {
            state.write(self.region, place as u32, value as u32);
        } else {
            state.bad_width(self.region, offset, width.bytes());
        }
        Ok(())
    }
}
