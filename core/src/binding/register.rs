//! Registers whose offset and width are known at compile time.

use core::fmt;
use core::marker::PhantomData;

use crate::env::{IoError, Width};

/// Value that a register holds: an integer, or flags of [`register_flags!`](crate::register_flags).
pub trait RegisterValue: Copy {
    /// Width of an access.
    const WIDTH: Width;
    /// The value from the bits that were read.
    fn from_raw(raw: u64) -> Self;
    /// The bits to write.
    fn into_raw(self) -> u64;
}

macro_rules! integers {
    ($($int:ty: $width:ident),*) => { $(
        impl RegisterValue for $int {
            const WIDTH: Width = Width::$width;
            fn from_raw(raw: u64) -> Self {
                raw as Self
            }
            fn into_raw(self) -> u64 {
                self.into()
            }
        }
    )* };
}

integers!(u8: W8, u16: W16, u32: W32, u64: W64);

/// Makes types of the crate `bitflags` values of registers: `register_flags!(u32: Control, Status)`. Bits without a name are
/// kept.
#[macro_export]
macro_rules! register_flags {
    ($int:ty: $($flags:ty),+ $(,)?) => { $(
        impl $crate::binding::RegisterValue for $flags {
            const WIDTH: $crate::env::Width = <$int as $crate::binding::RegisterValue>::WIDTH;
            fn from_raw(raw: u64) -> Self {
                Self::from_bits_retain(raw as $int)
            }
            fn into_raw(self) -> u64 {
                self.bits().into()
            }
        }
    )+ };
}

/// Register with a value of type `T`, `OFFSET` bytes from the start of its window.
///
/// A [`RegisterWindow`](super::RegisterWindow) takes it, and an access outside the window does not compile:
///
/// ```compile_fail,E0080
/// use bindery::binding::{Mmio, Register, RegisterWindow};
/// const STATUS: Register<u32, 0x40> = Register::new();
/// fn status(regs: &RegisterWindow<Mmio<'_>, 0x40>) -> u32 {
///     regs.read(STATUS).unwrap_or(0)
/// }
/// # let _: fn(&RegisterWindow<Mmio<'_>, 0x40>) -> u32 = status;
/// ```
pub struct Register<T, const OFFSET: u64>(PhantomData<fn() -> T>);

/// Array of `COUNT` registers with values of type `T`, the first one `OFFSET` bytes from the start of its window and each
/// `STRIDE` bytes after the one before.
pub struct RegisterArray<T, const OFFSET: u64, const STRIDE: u64, const COUNT: usize>(PhantomData<fn() -> T>);

impl<T: RegisterValue, const OFFSET: u64> Register<T, OFFSET> {
    /// The register. An offset that is not a multiple of its width does not compile.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(OFFSET.is_multiple_of(T::WIDTH.bytes()), "the register is not aligned to its width") };
        Self(PhantomData)
    }

    /// First offset after the register.
    pub(super) const END: u64 = OFFSET + T::WIDTH.bytes();
}

impl<T: RegisterValue, const OFFSET: u64, const STRIDE: u64, const COUNT: usize>
    RegisterArray<T, OFFSET, STRIDE, COUNT>
{
    /// The registers. Offsets that are not multiples of their width, a stride that is shorter than it, and an empty array do
    /// not compile.
    #[must_use]
    pub const fn new() -> Self {
        const {
            let width = T::WIDTH.bytes();
            assert!(
                OFFSET.is_multiple_of(width) && STRIDE.is_multiple_of(width),
                "a register is not aligned to its width"
            );
            assert!(STRIDE >= width && COUNT > 0, "registers overlap, or there are none");
        };
        Self(PhantomData)
    }

    /// First offset after the last register.
    pub(super) const END: u64 = OFFSET + (COUNT as u64 - 1) * STRIDE + T::WIDTH.bytes();

    /// Offset of the register at `index`.
    pub(super) fn offset(index: usize) -> Result<u64, IoError> {
        let offset = OFFSET.saturating_add(STRIDE.saturating_mul(index as u64));
        if index < COUNT { Ok(offset) } else { Err(IoError::Bad { offset, bytes: T::WIDTH.bytes() as u8 }) }
    }
}

macro_rules! copies {
    ($($name:ident<$(const $n:ident: $t:ty),*>)*) => { $(
        impl<T, $(const $n: $t),*> Clone for $name<T, $($n),*> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T, $(const $n: $t),*> Copy for $name<T, $($n),*> {}

        impl<T: RegisterValue, $(const $n: $t),*> Default for $name<T, $($n),*> {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<T, $(const $n: $t),*> fmt::Debug for $name<T, $($n),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} at {OFFSET:#x}", core::any::type_name::<T>())
            }
        }
    )* };
}

copies! {
    Register<const OFFSET: u64>
    RegisterArray<const OFFSET: u64, const STRIDE: u64, const COUNT: usize>
}
