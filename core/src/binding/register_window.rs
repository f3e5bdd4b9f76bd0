//! Parts of register windows whose size is known at compile time.

use core::fmt;

use super::register::{Register, RegisterArray, RegisterValue};
use super::{Mmio, MmioHandle, ResourceError};
use crate::env::{IoError, Width};

/// Handle of registers in which [`RegisterWindow`]s are opened: [`Mmio`] or [`MmioHandle`].
pub trait RegisterAccess: sealed::Access + Clone {}

impl RegisterAccess for Mmio<'_> {}
impl RegisterAccess for MmioHandle {}

pub(super) mod sealed {
    use crate::env::{IoError, Width};

    pub trait Access {
        fn len(&self) -> u64;
        fn read(&self, offset: u64, width: Width) -> Result<u64, IoError>;
        fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError>;
    }
}

/// `SIZE` bytes of a device's registers: all of those that a driver uses, or a block that occurs several times (a port, a
/// doorbell).
///
/// Whether the device has them is checked once, when the window is opened ([`Mmio::window`]). Afterwards an access names a
/// [`Register`], whose offset and width are compared with `SIZE` at compile time; it fails only when the registers are gone.
///
/// ```no_run
/// use bindery::binding::{Bound, Mmio, Register, RegisterArray, RegisterWindow, ResourceError};
/// use bindery::env::IoError;
///
/// bitflags::bitflags! {
///     #[derive(Clone, Copy)]
///     struct HostControl: u32 {
///         const INTERRUPTS = 1 << 1;
///     }
/// }
/// bindery::register_flags!(u32: HostControl);
///
/// const CAP: Register<u32, 0x00> = Register::new();
/// const GHC: Register<HostControl, 0x04> = Register::new();
/// /// In the block of a port.
/// const COMMANDS_ISSUED: Register<u32, 0x38> = Register::new();
///
/// struct Hba<'b> {
///     global: RegisterWindow<Mmio<'b>, 0x2c>,
///     ports: Vec<RegisterWindow<Mmio<'b>, 0x80>>,
/// }
///
/// fn open<'b>(dev: Bound<'b>) -> Result<Hba<'b>, Box<dyn std::error::Error>> {
///     let regs = dev.mmio(5)?;
///     let global = regs.window::<0x2c>(0)?;
///     let ports = 1 + u64::from(global.read(CAP)? & 0x1f);
///     let ports = (0..ports).map(|n| regs.window(0x100 + 0x80 * n)).collect::<Result<_, _>>()?;
///     Ok(Hba { global, ports })
/// }
///
/// fn issue(hba: &Hba<'_>, port: usize, slot: u32) -> Result<(), IoError> {
///     hba.global.write(GHC, hba.global.read(GHC)? | HostControl::INTERRUPTS)?;
///     hba.ports[port].write(COMMANDS_ISSUED, 1 << slot)
/// }
/// ```
#[derive(Clone)]
pub struct RegisterWindow<A, const SIZE: u64> {
    access: A,
    /// Of the window, in the registers of `access`.
    offset: u64,
}

impl<A: RegisterAccess, const SIZE: u64> RegisterWindow<A, SIZE> {
    /// Alignment of a window: that of the widest register that fits.
    const ALIGN: u64 = if SIZE >= 8 { 8 } else { 1 << SIZE.ilog2() };

    fn open(access: &A, offset: u64) -> Result<Self, ResourceError> {
        const { assert!(SIZE > 0, "a window has at least one byte") };
        let len = access.len();
        let inside = offset.checked_add(SIZE).is_some_and(|end| end <= len);
        if !inside || !offset.is_multiple_of(Self::ALIGN) {
            return Err(ResourceError::OutsideWindow { offset, bytes: SIZE, len });
        }
        Ok(Self { access: access.clone(), offset })
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// [`IoError::Gone`] once the registers are gone.
    #[inline]
    pub fn read<T: RegisterValue, const OFFSET: u64>(&self, _: Register<T, OFFSET>) -> Result<T, IoError> {
        const { assert!(Register::<T, OFFSET>::END <= SIZE, "the register is outside the window") };
        self.read_raw::<T>(OFFSET)
    }

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// [`IoError::Gone`] once the registers are gone.
    #[inline]
    pub fn write<T: RegisterValue, const OFFSET: u64>(&self, _: Register<T, OFFSET>, value: T) -> Result<(), IoError> {
        const { assert!(Register::<T, OFFSET>::END <= SIZE, "the register is outside the window") };
        self.write_raw(OFFSET, value)
    }

    /// Reads register `index` of an array.
    ///
    /// # Errors
    ///
    /// [`IoError::Gone`] once the registers are gone, [`IoError::Bad`] for an index beyond the array.
    pub fn read_at<T: RegisterValue, const OFFSET: u64, const STRIDE: u64, const COUNT: usize>(
        &self,
        _: RegisterArray<T, OFFSET, STRIDE, COUNT>,
        index: usize,
    ) -> Result<T, IoError> {
        const { assert!(RegisterArray::<T, OFFSET, STRIDE, COUNT>::END <= SIZE, "the array is not inside the window") };
        self.read_raw::<T>(RegisterArray::<T, OFFSET, STRIDE, COUNT>::offset(index)?)
    }

    /// Writes register `index` of an array.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn write_at<T: RegisterValue, const OFFSET: u64, const STRIDE: u64, const COUNT: usize>(
        &self,
        _: RegisterArray<T, OFFSET, STRIDE, COUNT>,
        index: usize,
        value: T,
    ) -> Result<(), IoError> {
        const { assert!(RegisterArray::<T, OFFSET, STRIDE, COUNT>::END <= SIZE, "the array is not inside the window") };
        self.write_raw(RegisterArray::<T, OFFSET, STRIDE, COUNT>::offset(index)?, value)
    }

    #[inline]
    fn read_raw<T: RegisterValue>(&self, offset: u64) -> Result<T, IoError> {
        self.access.read(self.offset + offset, T::WIDTH).map(T::from_raw)
    }

    #[inline]
    fn write_raw<T: RegisterValue>(&self, offset: u64, value: T) -> Result<(), IoError> {
        self.access.write(self.offset + offset, T::WIDTH, value.into_raw())
    }
}

impl<const SIZE: u64> RegisterWindow<Mmio<'_>, SIZE> {
    /// The same window, for code that may outlive the binding; its accesses then fail.
    pub fn handle(&self) -> RegisterWindow<MmioHandle, SIZE> {
        RegisterWindow { access: self.access.handle(), offset: self.offset }
    }
}

impl Mmio<'_> {
    /// Opens a window of `SIZE` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`ResourceError::OutsideWindow`] when the registers end before it, or when `offset` is not a multiple of 8 (of the
    /// widest register that fits, for a `SIZE` below 8).
    pub fn window<const SIZE: u64>(&self, offset: u64) -> Result<RegisterWindow<Self, SIZE>, ResourceError> {
        RegisterWindow::open(self, offset)
    }
}

impl MmioHandle {
    /// Opens a window of `SIZE` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`Mmio::window`].
    pub fn window<const SIZE: u64>(&self, offset: u64) -> Result<RegisterWindow<Self, SIZE>, ResourceError> {
        RegisterWindow::open(self, offset)
    }
}

impl sealed::Access for Mmio<'_> {
    fn len(&self) -> u64 {
        self.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.read_width(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        self.write_width(offset, width, value)
    }
}

impl sealed::Access for MmioHandle {
    fn len(&self) -> u64 {
        self.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        Self::read(self, offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        Self::write(self, offset, width, value)
    }
}

impl<A: fmt::Debug, const SIZE: u64> fmt::Debug for RegisterWindow<A, SIZE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SIZE:#x} bytes at {:#x} of {:?}", self.offset, self.access)
    }
}
