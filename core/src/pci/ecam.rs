//! Configuration space that is mapped into memory (ECAM).

use alloc::sync::Arc;
use core::fmt;

use super::{ConfigSpace, FunctionId};
use crate::env::{Io, IoError, Width};

/// Bytes of a function, and of a bus: 32 devices of 8 functions.
const FUNCTION: u16 = 4096;
const BUS: u64 = 1 << 20;

/// ECAM window of a host bridge: 4 KiB for each function, 1 MiB for each bus.
pub struct Ecam {
    window: Arc<dyn Io>,
    first_bus: u8,
}

impl Ecam {
    /// Configuration space in `window`, whose first function is on `first_bus`.
    pub fn new(window: Arc<dyn Io>, first_bus: u8) -> Self {
        Self { window, first_bus }
    }

    /// The last bus of which the window has a part, if it has any.
    pub fn last_bus(&self) -> Option<u8> {
        let buses = self.window.size() / BUS;
        (buses > 0).then(|| u8::try_from(u64::from(self.first_bus) + buses - 1).unwrap_or(u8::MAX))
    }

    fn offset(&self, at: FunctionId, offset: u16) -> Option<u64> {
        let bus = u64::from(at.bus.checked_sub(self.first_bus)?);
        let place = bus << 20 | u64::from(at.device & 31) << 15 | u64::from(at.function & 7) << 12 | u64::from(offset);
        (place < self.window.size()).then_some(place)
    }
}

impl ConfigSpace for Ecam {
    fn size(&self) -> u16 {
        FUNCTION
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        let Some(place) = self.offset(at, offset) else { return Ok(u32::MAX >> (32 - 8 * width.bytes().min(4))) };
        self.window.read(place, width).map(|value| value as u32)
    }

    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        let Some(place) = self.offset(at, offset) else { return Ok(()) };
        self.window.write(place, width, u64::from(value))
    }
}

impl fmt::Debug for Ecam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ecam(buses from {:#04x}, {:#x} bytes)", self.first_bus, self.window.size())
    }
}
