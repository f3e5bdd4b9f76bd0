//! Loads and stores to RAM by physical address, through the windows of a [`Memory`].
//!
//! Every access is a relaxed atomic: whole 8-byte words where the range covers them, bytes at its edges. A device (or a
//! device model on another thread) that accesses the same RAM concurrently sees old or new values, without a data race.
//! Ordering is up to the caller: [`Memory::barrier`]. So is ownership: access only pages that you own.
//!
//! Words and bytes of the same RAM are atomics of mixed size, which Miri's weak-memory emulation does not model: run it
//! with `-Zmiri-disable-weak-memory-emulation`.

// UNSAFETY: turns the raw windows of `Memory` into references to atomics.
#![expect(unsafe_code, reason = "the one place that dereferences windows of RAM")]

use alloc::sync::Arc;
use core::fmt;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{CpuPtr, PhysAddr};
use crate::mem::{Caching, Memory};

/// The range is not RAM of this machine, or its first byte is not aligned for the access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{len} bytes at {base} are not RAM, or not aligned")]
pub struct NotRam {
    /// First byte requested.
    pub base: PhysAddr,
    /// Bytes requested.
    pub len: u64,
}

/// Window onto RAM as 8-byte words, which keeps the memory behind it alive.
///
/// # Invariants
///
/// `ptr` is what `memory` returned for `words * 8` bytes at `base`, and is 8-byte aligned.
pub struct RamWindow {
    memory: Arc<dyn Memory>,
    ptr: CpuPtr,
    base: PhysAddr,
    words: usize,
}

impl RamWindow {
    /// Opens a window of `len` bytes at `base`; both must be multiples of 8.
    ///
    /// # Errors
    ///
    /// [`NotRam`] when part of the range is no RAM of this machine, or `base` or `len` is not a multiple of 8.
    pub fn new(memory: &Arc<dyn Memory>, base: PhysAddr, len: u64, caching: Caching) -> Result<Self, NotRam> {
        let error = NotRam { base, len };
        let words = usize::try_from(len / 8).map_err(|_| error)?;
        let ptr = window(&**memory, base, len, caching)?;
        if !base.is_aligned(8) || !len.is_multiple_of(8) {
            return Err(error);
        }
        // INVARIANT: `window` returned `ptr` for this range, aligned as `base` is, and `base` was checked.
        Ok(Self { memory: Arc::clone(memory), ptr, base, words })
    }

    /// The words of the window, in address order.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: by the invariant and the contract of `Memory::window` the pointer is valid and aligned for that many
        // words while `self.memory` lives, which outlives the returned borrow; atomics may be shared, and no plain
        // reference aliases them.
        unsafe { slice::from_raw_parts(self.ptr.0.cast::<AtomicU64>().as_ptr(), self.words) }
    }

    /// Loads the value at byte `offset` in one access. `None` unless it has 1, 2, 4 or 8 bytes and lies at a multiple of
    /// its size inside the window.
    pub(crate) fn load<T: FromBytes + IntoBytes>(&self, offset: u64) -> Option<T> {
        let unit = self.unit(offset, size_of::<T>())?;
        let mut value = T::new_zeroed();
        let to = value.as_mut_bytes();
        match unit {
            Access::W8(a) => to.copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes()),
            Access::W16(a) => to.copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes()),
            Access::W32(a) => to.copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes()),
            Access::W64(a) => to.copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes()),
        }
        Some(value)
    }

    /// Stores `value` at byte `offset` in one access. `None`, and nothing is stored, under the conditions of
    /// [`load`](Self::load).
    pub(crate) fn store<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) -> Option<()> {
        let bytes = value.as_bytes();
        match self.unit(offset, bytes.len())? {
            Access::W8(a) => a.store(u8::from_ne_bytes(bytes.try_into().ok()?), Ordering::Relaxed),
            Access::W16(a) => a.store(u16::from_ne_bytes(bytes.try_into().ok()?), Ordering::Relaxed),
            Access::W32(a) => a.store(u32::from_ne_bytes(bytes.try_into().ok()?), Ordering::Relaxed),
            Access::W64(a) => a.store(u64::from_ne_bytes(bytes.try_into().ok()?), Ordering::Relaxed),
        }
        Some(())
    }

    fn unit(&self, offset: u64, size: usize) -> Option<Access<'_>> {
        let size64 = size as u64;
        let inside = offset.checked_add(size64)? <= self.words as u64 * 8;
        if !inside || !matches!(size, 1 | 2 | 4 | 8) || !offset.is_multiple_of(size64) {
            return None;
        }
        // SAFETY: by the invariant the window is valid for `words * 8` bytes while `self.memory` lives, which outlives the
        // returned borrow; the bytes lie inside it, and are aligned to their size, because the window is aligned to 8.
        // Atomics may be shared, and no plain reference aliases them.
        Some(unsafe {
            let at = self.ptr.0.add(offset as usize);
            match size {
                1 => Access::W8(at.cast::<AtomicU8>().as_ref()),
                2 => Access::W16(at.cast::<AtomicU16>().as_ref()),
                4 => Access::W32(at.cast::<AtomicU32>().as_ref()),
                _ => Access::W64(at.cast::<AtomicU64>().as_ref()),
            }
        })
    }

    /// Physical address of the first word.
    pub fn base(&self) -> PhysAddr {
        self.base
    }

    /// The memory that the window is of.
    pub fn memory(&self) -> &Arc<dyn Memory> {
        &self.memory
    }
}

impl fmt::Debug for RamWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RamWindow({} words at {})", self.words, self.base)
    }
}

/// Stores zero to `len` bytes at `base`.
///
/// # Errors
///
/// [`NotRam`] when part of the range is no RAM of this machine; nothing was stored.
pub fn fill_zero(memory: &dyn Memory, base: PhysAddr, len: u64, caching: Caching) -> Result<(), NotRam> {
    each_unit(memory, base, len, caching, |_, unit| match unit {
        Unit::Byte(byte) => byte.store(0, Ordering::Relaxed),
        Unit::Word(word) => word.store(0, Ordering::Relaxed),
    })
}

/// Stores zero to `len` bytes of pages that an allocator is about to give to a new owner: nobody else has them, and no device
/// reaches them (P2), so this need not be atomic, and is as fast as the CPU can be.
///
/// # Errors
///
/// [`NotRam`] when part of the range is no RAM of this machine; nothing was stored.
pub(super) fn zero_unowned(memory: &dyn Memory, base: PhysAddr, len: u64) -> Result<(), NotRam> {
    let first = window(memory, base, len, Caching::Cached)?;
    // SAFETY: by the contract of `Memory::window` the pointer is valid for `len` bytes, and no reference outside aliases them;
    // the allocator that calls this owns the pages alone.
    unsafe { first.0.as_ptr().write_bytes(0, len as usize) };
    Ok(())
}

/// Fills `to` with a copy of RAM from `base` on.
///
/// # Errors
///
/// [`NotRam`] when part of the range is no RAM of this machine; `to` is unchanged.
pub fn read_bytes(memory: &dyn Memory, base: PhysAddr, to: &mut [u8], caching: Caching) -> Result<(), NotRam> {
    each_unit(memory, base, to.len() as u64, caching, |at, unit| match unit {
        Unit::Byte(byte) => to[at] = byte.load(Ordering::Relaxed),
        Unit::Word(word) => to[at..at + 8].copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()),
    })
}

/// Copies all of `from` to RAM from `base` on.
///
/// # Errors
///
/// [`NotRam`] when part of the range is no RAM of this machine; nothing was stored.
pub fn write_bytes(memory: &dyn Memory, base: PhysAddr, from: &[u8], caching: Caching) -> Result<(), NotRam> {
    each_unit(memory, base, from.len() as u64, caching, |at, unit| match unit {
        Unit::Byte(byte) => byte.store(from[at], Ordering::Relaxed),
        Unit::Word(word) => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&from[at..at + 8]);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    })
}

macro_rules! typed {
    ($load:ident, $store:ident, $value:ty, $atomic:ty, $bytes:literal) => {
        #[doc = concat!("Loads the ", $bytes, "-byte value at `addr`, a multiple of ", $bytes, ", in CPU byte order.")]
        ///
        /// # Errors
        ///
        /// [`NotRam`] when `addr` is no RAM of this machine, or not aligned.
        pub fn $load(memory: &dyn Memory, addr: PhysAddr, caching: Caching) -> Result<$value, NotRam> {
            let ptr = aligned(memory, addr, $bytes, caching)?;
            // SAFETY: valid for these bytes while `memory` is borrowed, and aligned; see `aligned`.
            Ok(unsafe { ptr.0.cast::<$atomic>().as_ref() }.load(Ordering::Relaxed))
        }

        #[doc = concat!("Stores the ", $bytes, "-byte value at `addr`, a multiple of ", $bytes, ", in CPU byte order.")]
        ///
        /// # Errors
        ///
        /// [`NotRam`] when `addr` is no RAM of this machine, or not aligned.
        pub fn $store(memory: &dyn Memory, addr: PhysAddr, value: $value, caching: Caching) -> Result<(), NotRam> {
            let ptr = aligned(memory, addr, $bytes, caching)?;
            // SAFETY: valid for these bytes while `memory` is borrowed, and aligned; see `aligned`.
            unsafe { ptr.0.cast::<$atomic>().as_ref() }.store(value, Ordering::Relaxed);
            Ok(())
        }
    };
}

typed!(load_u32, store_u32, u32, AtomicU32, 4);
typed!(load_u64, store_u64, u64, AtomicU64, 8);

/// Opens a window; the error has the range.
fn window(memory: &dyn Memory, base: PhysAddr, len: u64, caching: Caching) -> Result<CpuPtr, NotRam> {
    memory.window(base, len, caching).ok_or(NotRam { base, len })
}

/// A window of `len` bytes (4 or 8) at a multiple of `len`, so that the pointer is aligned to `len` as well.
fn aligned(memory: &dyn Memory, addr: PhysAddr, len: u64, caching: Caching) -> Result<CpuPtr, NotRam> {
    if !addr.is_aligned(len) {
        return Err(NotRam { base: addr, len });
    }
    window(memory, addr, len, caching)
}

/// Value of RAM that is accessed at once.
enum Access<'a> {
    W8(&'a AtomicU8),
    W16(&'a AtomicU16),
    W32(&'a AtomicU32),
    W64(&'a AtomicU64),
}

enum Unit<'a> {
    Byte(&'a AtomicU8),
    Word(&'a AtomicU64),
}

/// Calls `f` with each byte or word of the range and its offset, in address order.
#[inline]
fn each_unit(
    memory: &dyn Memory,
    base: PhysAddr,
    len: u64,
    caching: Caching,
    mut f: impl FnMut(usize, Unit<'_>),
) -> Result<(), NotRam> {
    if len == 0 {
        return Ok(());
    }
    let count = usize::try_from(len).map_err(|_| NotRam { base, len })?;
    let ptr = window(memory, base, len, caching)?.0;
    let head = count.min((base.0.wrapping_neg() & 7) as usize);
    let words = (count - head) / 8;
    let tail = head + words * 8;
    // SAFETY: `head + words * 8 + (count - tail) == count`, so all three parts lie in the window, which is valid while
    // `memory` is borrowed. `base + head` is a multiple of 8 or there are no words and the pointer is not used, and
    // windows are aligned as their physical address is. Atomics may be shared.
    let (first, middle, last) = unsafe {
        (
            slice::from_raw_parts(ptr.cast::<AtomicU8>().as_ptr(), head),
            if words == 0 { &[] } else { slice::from_raw_parts(ptr.add(head).cast::<AtomicU64>().as_ptr(), words) },
            slice::from_raw_parts(ptr.add(tail).cast::<AtomicU8>().as_ptr(), count - tail),
        )
    };
    first.iter().enumerate().for_each(|(n, byte)| f(n, Unit::Byte(byte)));
    // In lines, for fewer steps: the compiler does not unroll atomic accesses.
    let (lines, rest) = middle.as_chunks::<32>();
    for (line, words) in lines.iter().enumerate() {
        words.iter().enumerate().for_each(|(n, word)| f(head + (line * 32 + n) * 8, Unit::Word(word)));
    }
    let before = words - rest.len();
    rest.iter().enumerate().for_each(|(n, word)| f(head + (before + n) * 8, Unit::Word(word)));
    last.iter().enumerate().for_each(|(n, byte)| f(tail + n, Unit::Byte(byte)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::RamUse;
    use crate::mem::fake::FakeMemory;

    const BASE: PhysAddr = PhysAddr(0x4000_0000);

    #[test]
    fn unaligned_ranges_are_copied_exactly() {
        let memory = FakeMemory::new(&[(BASE.0, 0x1000, RamUse::Frames)]);
        let data: std::vec::Vec<u8> = (1..=37).collect();
        for offset in 0..9 {
            fill_zero(&*memory, BASE, 0x1000, Caching::Cached).unwrap();
            write_bytes(&*memory, BASE + 64 + offset, &data, Caching::Cached).unwrap();
            let mut all = [0; 128];
            read_bytes(&*memory, BASE + 40, &mut all, Caching::Uncached).unwrap();
            let at = 24 + offset as usize;
            assert_eq!(all[at..at + 37], data[..]);
            assert!(all[..at].iter().chain(&all[at + 37..]).all(|&b| b == 0));
            fill_zero(&*memory, BASE + 64 + offset + 1, 35, Caching::Cached).unwrap();
            read_bytes(&*memory, BASE + 40, &mut all, Caching::Cached).unwrap();
            assert_eq!((all[at], all[at + 36]), (1, 37));
            assert!(all[at + 1..at + 36].iter().all(|&b| b == 0));
        }
    }

    #[test]
    fn values_in_a_window_are_accessed_at_once_or_not_at_all() {
        let memory = FakeMemory::new(&[(BASE.0, 0x1000, RamUse::Frames)]).dynamic();
        let window = RamWindow::new(&memory, BASE, 64, Caching::Cached).unwrap();
        assert_eq!(window.store(8, &0x1122_3344_5566_7788_u64), Some(()));
        assert_eq!(window.load::<u8>(9), Some(0x77));
        assert_eq!(window.load::<u16>(10), Some(0x5566));
        assert_eq!(window.load::<u32>(12), Some(0x1122_3344));
        assert_eq!(window.store(12, &[1_u8, 2, 3, 4]), Some(()), "any value of that size");
        assert_eq!(window.load::<u64>(8), Some(0x0403_0201_5566_7788));
        assert_eq!(window.load::<u16>(11), None, "it is not aligned");
        assert_eq!(window.load::<[u8; 3]>(0), None, "there is no such access");
        assert_eq!(
            (window.load::<u32>(60).is_some(), window.load::<u32>(64), window.load::<u64>(u64::MAX - 7)),
            (true, None, None)
        );
        assert_eq!(window.store(64, &1_u8), None);
    }

    #[test]
    fn addresses_that_are_not_ram_are_refused_and_named() {
        let memory = FakeMemory::new(&[(BASE.0, 0x1000, RamUse::Frames)]);
        let past = PhysAddr(BASE.0 + 0xffc);
        assert_eq!(fill_zero(&*memory, past, 8, Caching::Cached), Err(NotRam { base: past, len: 8 }));
        assert_eq!(load_u64(&*memory, past, Caching::Cached), Err(NotRam { base: past, len: 8 }));
        assert!(RamWindow::new(&memory.clone().dynamic(), past, 8, Caching::Cached).is_err());
        assert_eq!(load_u32(&*memory, past, Caching::Cached), Ok(0xa5a5_a5a5));
        assert!(store_u32(&*memory, PhysAddr(BASE.0 + 2), 1, Caching::Cached).is_err());
        assert_eq!(fill_zero(&*memory, PhysAddr(0), 0, Caching::Cached), Ok(()));
        assert!(fill_zero(&*memory, PhysAddr(u64::MAX), u64::MAX, Caching::Cached).is_err());
    }
}
