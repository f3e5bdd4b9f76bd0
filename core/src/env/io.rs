//! Access to device registers.

use super::MappedRegisters;

/// Width of a register access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Width {
    /// One byte.
    W8 = 1,
    /// Two bytes.
    W16 = 2,
    /// Four bytes.
    W32 = 4,
    /// Eight bytes.
    W64 = 8,
}

impl Width {
    /// The width in bytes: 1, 2, 4 or 8.
    pub const fn bytes(self) -> u64 {
        self as u64
    }
}

/// Error of a register access. The access did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IoError {
    /// The device was removed, or this user's access was revoked.
    #[error("the device's registers are gone")]
    Gone,
    /// The access is outside the window, or not aligned to its width.
    #[error("bad register access: offset {offset:#x}, {bytes} bytes")]
    Bad {
        /// Requested offset, in bytes from the start of the window.
        offset: u64,
        /// Requested width, in bytes.
        bytes: u8,
    },
}

impl IoError {
    /// Error of an access that the window does not have.
    pub(super) const fn bad(offset: u64, width: Width) -> Self {
        Self::Bad { offset, bytes: width as u8 }
    }
}

/// Register window of a device.
///
/// Accesses happen in program order and exactly once; each carries the device's endianness as the CPU sees it (little).
/// The window stays mapped while any `Arc<dyn Io>` to it lives, so an access after unbind can fail but never reaches other
/// memory.
pub trait Io: Send + Sync {
    /// Size of the window in bytes.
    fn size(&self) -> u64;

    /// Reads the register at `offset` bytes. The value is zero-extended.
    ///
    /// # Errors
    ///
    /// [`IoError::Gone`] for a removed device, [`IoError::Bad`] outside the window or misaligned.
    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError>;

    /// Writes the low `width` of `value` to the register at `offset` bytes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError>;

    /// The registers, where the CPU reaches them itself: a driver's accesses then go there without a call of the two functions
    /// above, which do the same. The default is `None`, for windows whose accesses somebody has to see.
    fn mapped(&self) -> Option<&MappedRegisters> {
        None
    }
}
