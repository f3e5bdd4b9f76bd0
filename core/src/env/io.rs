//! Access to device registers.

/// Bytes that one register access moves.
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

/// Why a register access did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IoError {
    /// The device was removed, or its registers were taken away from this user.
    #[error("the device's registers are gone")]
    Gone,
    /// The access does not lie inside the window, or not on a multiple of its width.
    #[error("bad register access: offset {offset:#x}, {bytes} bytes")]
    Bad {
        /// Offset asked for, in bytes from the start of the window.
        offset: u64,
        /// Width asked for, in bytes.
        bytes: u8,
    },
}

/// A window onto the registers of one device.
///
/// Accesses happen in program order and exactly once; each carries the device's endianness as the CPU sees it (little).
/// The window stays mapped while any `Arc<dyn Io>` to it lives, so a late access can fail but never touch other memory.
pub trait Io: Send + Sync {
    /// Size of the window in bytes.
    fn size(&self) -> u64;

    /// Reads the register at `offset` bytes. The value is zero-extended.
    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError>;

    /// Writes the low `width` of `value` to the register at `offset` bytes.
    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError>;
}
