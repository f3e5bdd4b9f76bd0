//! Registers that the CPU reaches by plain loads and stores.

// UNSAFETY: whoever maps registers vouches for the pointer; each access is one load or store of a width that fits.
#![expect(unsafe_code, reason = "loads and stores of mapped registers")]

use alloc::sync::Arc;
use core::fmt;
use core::ptr::NonNull;

use super::{Io, IoError, Width};

/// Registers that are mapped into the CPU's address space, as device memory. As a window ([`Io`]) it is all that an env on bare metal, or
/// one that maps a device's region into its process, has to give for them.
///
/// Each access is one load or store of its width, in program order with the other accesses of its CPU to device memory. It does not order RAM:
/// that is [`Memory::barrier`](super::Memory::barrier). A CPU of 32 bits has no access of 8 bytes ([`IoError::Bad`]). Registers of a device that was pulled out read as all ones, as the bus answers.
pub struct MappedRegisters {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: whoever made it has promised that every CPU may access the registers, several at a time.
unsafe impl Send for MappedRegisters {}
// SAFETY: as above.
unsafe impl Sync for MappedRegisters {}

impl MappedRegisters {
    /// `len` bytes of registers from `base` on.
    ///
    /// # Safety
    ///
    /// - `base` is a multiple of 8, and the `len` bytes from there on can be loaded from and stored to, in each width and by any CPU, until
    ///   the value is dropped.
    /// - The bytes are accessed in no other way than by volatile or atomic accesses, or by the device: no reference to them exists that is not
    ///   to an atomic.
    pub const unsafe fn new(base: NonNull<u8>, len: u64) -> Self {
        Self { base, len }
    }

    /// Memory that nothing else uses, and that stays: what is written is read.
    #[cfg(test)]
    pub(crate) fn leaked(len: usize) -> Self {
        let words: &[_] =
            (0..len.div_ceil(8)).map(|_| core::sync::atomic::AtomicU64::new(0)).collect::<alloc::vec::Vec<_>>().leak();
        // SAFETY: the memory stays, and is aligned as its words are.
        unsafe { Self::new(NonNull::from(words).cast(), len as u64) }
    }

    fn pointer(&self) -> Pointer {
        Pointer { base: self.base, len: self.len }
    }
}

impl Io for MappedRegisters {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        // SAFETY: mapped for as long as `self` lives.
        unsafe { self.pointer().read(offset, width) }.ok_or_else(|| IoError::bad(offset, width))
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        // SAFETY: mapped for as long as `self` lives.
        unsafe { self.pointer().write(offset, width, value) }.ok_or_else(|| IoError::bad(offset, width))
    }

    fn mapped(&self) -> Option<&MappedRegisters> {
        Some(self)
    }
}

impl fmt::Debug for MappedRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedRegisters({:#x} bytes at {:p})", self.len, self.base)
    }
}

/// Registers of a device, with the short way to those that are [mapped](Io::mapped).
pub(crate) struct Registers {
    /// Never changed, and never lent to be changed: what it lends for as long as it is borrowed exists for as long as it does.
    io: Arc<dyn Io>,
    /// Of a value that `io` lends.
    direct: Option<Pointer>,
}

impl Registers {
    /// `direct`: accesses may go the short way.
    pub(crate) fn new(io: Arc<dyn Io>, direct: bool) -> Self {
        let direct = if direct { io.mapped().map(MappedRegisters::pointer) } else { None };
        Self { io, direct }
    }

    pub(crate) fn io(&self) -> &dyn Io {
        &*self.io
    }

    /// Reads a register by the short way. `None`: there is none, or the window does not have the register.
    #[inline]
    pub(crate) fn read(&self, offset: u64, width: Width) -> Option<u64> {
        // SAFETY: `io` lends the `MappedRegisters`, for any time for which it is borrowed, so that it cannot drop them before it is
        // dropped or borrowed mutably. Neither happens while `self` has it.
        unsafe { self.direct?.read(offset, width) }
    }

    /// Writes a register by the short way, as [`read`](Self::read).
    #[inline]
    pub(crate) fn write(&self, offset: u64, width: Width, value: u64) -> Option<()> {
        // SAFETY: as for `read`.
        unsafe { self.direct?.write(offset, width, value) }
    }
}

/// Where [`MappedRegisters`] are.
#[derive(Clone, Copy)]
struct Pointer {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: as for `MappedRegisters`; an access needs a promise of its own.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

impl Pointer {
    /// The register, if it is inside, aligned to its width, and the CPU has an access of this width.
    #[inline]
    fn at(self, offset: u64, width: Width) -> Option<NonNull<u8>> {
        // Its number among those of its width: beyond all of them when it is not aligned, for the bits that are lost come back on top.
        let shift = width.bytes().trailing_zeros();
        let fits = offset.rotate_right(shift) < self.len >> shift;
        // The mapped bytes have addresses, so that an offset inside fits into a pointer's.
        // SAFETY: inside of what whoever made the `MappedRegisters` vouched for.
        (fits && width.bytes() <= size_of::<usize>() as u64).then(|| unsafe { self.base.add(offset as usize) })
    }

    /// Reads a register, zero-extended; `None` for one that is not there.
    ///
    /// # Safety
    ///
    /// The [`MappedRegisters`] exist.
    #[inline]
    unsafe fn read(self, offset: u64, width: Width) -> Option<u64> {
        let at = self.at(offset, width)?;
        // SAFETY: mapped (the caller), inside and aligned (`at`).
        Some(unsafe {
            match width {
                Width::W8 => cpu::read8(at.cast()).into(),
                Width::W16 => u16::from_le(cpu::read16(at.cast())).into(),
                Width::W32 => u32::from_le(cpu::read32(at.cast())).into(),
                Width::W64 => u64::from_le(cpu::read64(at.cast())),
            }
        })
    }

    /// Writes the low `width` of `value` to a register; `None` for one that is not there.
    ///
    /// # Safety
    ///
    /// The [`MappedRegisters`] exist.
    #[inline]
    unsafe fn write(self, offset: u64, width: Width, value: u64) -> Option<()> {
        let at = self.at(offset, width)?;
        // SAFETY: as for `read`.
        unsafe {
            match width {
                Width::W8 => cpu::write8(at.cast(), value as u8),
                Width::W16 => cpu::write16(at.cast(), (value as u16).to_le()),
                Width::W32 => cpu::write32(at.cast(), (value as u32).to_le()),
                Width::W64 => cpu::write64(at.cast(), value.to_le()),
            }
        }
        Some(())
    }
}

/// Single accesses. A volatile access is one instruction here.
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
mod cpu {
    macro_rules! accesses {
        ($($read:ident $write:ident $int:ty),*) => { $(
            /// # Safety
            ///
            /// `at` is aligned, and may be loaded from.
            #[inline]
            pub(super) unsafe fn $read(at: core::ptr::NonNull<$int>) -> $int {
                // SAFETY: the caller promises it.
                unsafe { at.read_volatile() }
            }

            /// # Safety
            ///
            /// `at` is aligned, and may be stored to.
            #[inline]
            pub(super) unsafe fn $write(at: core::ptr::NonNull<$int>, value: $int) {
                // SAFETY: the caller promises it.
                unsafe { at.write_volatile(value) }
            }
        )* };
    }

    accesses!(read8 write8 u8, read16 write16 u16, read32 write32 u32, read64 write64 u64);
}

/// Single accesses. Named instructions: where a hypervisor emulates the registers, an access that traps is only told apart when it moves one
/// general register and does not write its address back, and a volatile access may be compiled to one that does (Arm ARM, `ESR_ELx.ISS`
/// of a data abort: `ISV`).
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
mod cpu {
    macro_rules! accesses {
        ($($read:ident $load:literal $write:ident $store:literal $int:ty),*) => { $(
            /// # Safety
            ///
            /// `at` is aligned, and may be loaded from.
            #[inline]
            pub(super) unsafe fn $read(at: core::ptr::NonNull<$int>) -> $int {
                let value;
                // SAFETY: the caller promises that the load is valid; it changes no flags and no stack.
                unsafe {
                    core::arch::asm!($load, value = out(reg) value, at = in(reg) at.as_ptr(), options(nostack, preserves_flags));
                }
                value
            }

            /// # Safety
            ///
            /// `at` is aligned, and may be stored to.
            #[inline]
            pub(super) unsafe fn $write(at: core::ptr::NonNull<$int>, value: $int) {
                // SAFETY: the caller promises that the store is valid; it changes no flags and no stack.
                unsafe {
                    core::arch::asm!($store, value = in(reg) value, at = in(reg) at.as_ptr(), options(nostack, preserves_flags));
                }
            }
        )* };
    }

    #[cfg(target_arch = "aarch64")]
    accesses!(
        read8 "ldrb {value:w}, [{at}]" write8 "strb {value:w}, [{at}]" u8,
        read16 "ldrh {value:w}, [{at}]" write16 "strh {value:w}, [{at}]" u16,
        read32 "ldr {value:w}, [{at}]" write32 "str {value:w}, [{at}]" u32,
        read64 "ldr {value:x}, [{at}]" write64 "str {value:x}, [{at}]" u64
    );
    #[cfg(target_arch = "arm")]
    accesses!(
        read8 "ldrb {value}, [{at}]" write8 "strb {value}, [{at}]" u8,
        read16 "ldrh {value}, [{at}]" write16 "strh {value}, [{at}]" u16,
        read32 "ldr {value}, [{at}]" write32 "str {value}, [{at}]" u32
    );

    /// Never called: no access is wider than a pointer.
    #[cfg(target_arch = "arm")]
    pub(super) unsafe fn read64(_: core::ptr::NonNull<u64>) -> u64 {
        0
    }

    /// Never called: no access is wider than a pointer.
    #[cfg(target_arch = "arm")]
    pub(super) unsafe fn write64(_: core::ptr::NonNull<u64>, _: u64) {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::boxed::Box;
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const WIDTHS: [Width; 4] = [Width::W8, Width::W16, Width::W32, Width::W64];

    /// Memory as registers, of `bytes` bytes.
    fn registers(memory: &[AtomicU64; 3], bytes: u64) -> MappedRegisters {
        let base = NonNull::from(memory).cast();
        // SAFETY: the tests keep the memory, and look at it by atomic accesses only.
        unsafe { MappedRegisters::new(base, bytes) }
    }

    fn bytes_of(memory: &[AtomicU64; 3]) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (to, word) in bytes.chunks_exact_mut(8).zip(memory) {
            to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn an_access_reaches_its_bytes_and_no_others_or_is_refused() {
        let memory = Box::new([const { AtomicU64::new(0x1716_1514_1312_1110) }; 3]);
        for len in 0..=24 {
            let window = registers(&memory, len);
            for width in WIDTHS {
                let bytes = width.bytes();
                for offset in (0..32).chain(u64::MAX - 16..=u64::MAX) {
                    let good = offset % bytes == 0 && u128::from(offset) + u128::from(bytes) <= u128::from(len);
                    let good = good && bytes <= size_of::<usize>() as u64;
                    let before = bytes_of(&memory);
                    let value = 0x8182_8384_8586_8788 ^ offset.wrapping_mul(0x0101_0101_0101_0101);
                    let written = window.write(offset, width, value);
                    let read = window.read(offset, width);
                    if good {
                        let part = &value.to_le_bytes()[..bytes as usize];
                        let mut after = before;
                        after[offset as usize..][..bytes as usize].copy_from_slice(part);
                        assert_eq!((written, bytes_of(&memory)), (Ok(()), after), "{width:?} at {offset} of {len}");
                        let mut word = [0; 8];
                        word[..bytes as usize].copy_from_slice(part);
                        assert_eq!(read, Ok(u64::from_le_bytes(word)), "{width:?} at {offset} of {len}");
                    } else {
                        let bad = IoError::Bad { offset, bytes: bytes as u8 };
                        assert_eq!((written, read, bytes_of(&memory)), (Err(bad), Err(bad), before));
                    }
                }
            }
        }
    }
}
