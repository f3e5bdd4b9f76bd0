//! The guest's view of the device's registers.

#![forbid(unsafe_code)]

use bindery::env::{Io, IoError, Width};
use bindery_drivers::vfio::VfioError;

use super::Slot;

/// A part of one region of the session.
pub(super) struct RegionWindow {
    pub(super) slot: Slot,
    pub(super) region: usize,
    /// Offset of the window in the region, in bytes.
    pub(super) start: u64,
    /// Its size in bytes.
    pub(super) len: u64,
}

impl RegionWindow {
    fn at(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let inside = offset.checked_add(width.bytes()).is_some_and(|end| end <= self.len);
        if inside { Ok(self.start + offset) } else { Err(IoError::Bad { offset, bytes: width as u8 }) }
    }
}

/// The register error that the guest's driver gets for an error of the session.
fn io_error(error: &VfioError) -> IoError {
    match error {
        VfioError::Io(e) => *e,
        _ => IoError::Gone,
    }
}

impl Io for RegionWindow {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let at = self.at(offset, width)?;
        let session = self.slot.lock().clone().ok_or(IoError::Gone)?;
        session.read(self.region, at, width).map_err(|e| io_error(&e))
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let at = self.at(offset, width)?;
        let session = self.slot.lock().clone().ok_or(IoError::Gone)?;
        session.write(self.region, at, width, value).map_err(|e| io_error(&e))
    }
}
