//! The four address spaces as types that do not convert into each other by accident.
//!
//! Mixing them up is a bug class of its own: a driver that unmaps a physical address in the place of an IOVA leaks the
//! mapping; one that writes a physical address into a descriptor makes the device read unrelated memory.

use core::fmt;
use core::ptr::NonNull;

/// Bytes in the smallest page that frames, page tables and IOVA space are counted in.
pub const PAGE_SIZE: u64 = 4096;
/// Binary logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Rounds `len` bytes up to whole pages and returns their number. `len` 0 is 0 pages.
pub const fn pages(len: u64) -> u64 {
    len.div_ceil(PAGE_SIZE)
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[cfg_attr(feature = "serde", serde(transparent))]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` further on, or `None` past the end of the 64-bit space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(a) => Some(Self(a)),
                    None => None,
                }
            }

            /// True when the address is a multiple of `align` (a power of two, in bytes).
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// The start of the page that holds this address.
            #[must_use]
            pub const fn page_start(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// Offset of this address inside its page, 0 to 4095.
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
        }

        impl core::ops::Add<u64> for $name {
            type Output = Self;
            fn add(self, bytes: u64) -> Self {
                Self(self.0 + bytes)
            }
        }

        impl core::ops::Sub for $name {
            type Output = u64;
            fn sub(self, other: Self) -> u64 {
                self.0 - other.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

address! {
    /// An address as the memory controller sees it: RAM and device registers.
    PhysAddr
}
address! {
    /// An address as a device puts it on its bus when it does DMA: an IOVA behind an IOMMU, else a [`BusAddr`].
    DeviceAddr
}
address! {
    /// An address on a device's parent bus, before `ranges` or `dma-ranges` turn it into a [`PhysAddr`].
    BusAddr
}

/// An address that the CPU can load from and store to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuPtr(pub NonNull<u8>);

// INVARIANT: a `CpuPtr` is only an address. Every access through one is made by `dma::memory` or an env, which own the
// memory for as long as they use it.
#[expect(unsafe_code, reason = "an address may cross threads; only the accesses need a proof")]
// SAFETY: the type gives no access by itself; see the invariant above.
unsafe impl Send for CpuPtr {}
#[expect(unsafe_code, reason = "an address may cross threads; only the accesses need a proof")]
// SAFETY: as for `Send`.
unsafe impl Sync for CpuPtr {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_round_up() {
        assert_eq!((pages(0), pages(1), pages(4096), pages(4097)), (0, 1, 1, 2));
    }

    #[test]
    fn page_parts_add_up() {
        let a = PhysAddr(0x1234_5678);
        assert_eq!(a.page_start() + a.page_offset(), a);
        assert!(a.page_start().is_aligned(PAGE_SIZE));
    }
}
