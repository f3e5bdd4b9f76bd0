//! The checks, by name.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $note:literal;)*) => {
        /// A check of the DMA checker. The first 23 are those of Linux's DMA-API debugging (`kernel/dma/debug.c`), the
        /// others are gaps in it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// Every check, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that reports print.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Explanation of whether and how it can happen through this crate's own DMA API.
            pub const fn note(self) -> &'static str {
                match self { $(Self::$name => $note,)* }
            }
        }
    };
}

checks! {
    /// An unmap or free of the address that means "error".
    UnmapOfError = "unmap-of-error", "impossible: there is no such address, errors are a `Result`";
    /// An unmap or free of an address that is not mapped.
    UnmapOfUnmapped = "unmap-of-unmapped", "impossible: only the handle of a mapping can unmap it, and is consumed";
    /// An unmap with a size other than the mapped one.
    SizeDiffers = "size-differs", "impossible: the mapping knows its size";
    /// An unmap by the wrong kind of call.
    KindDiffers = "kind-differs", "impossible: each kind of mapping has a handle of its own";
    /// A free with a CPU address other than the allocated one.
    MemoryDiffers = "memory-differs", "impossible: the mapping owns its memory";
    /// An unmap of a list with a number of entries other than that of the map call.
    CountDiffers = "count-differs", "impossible: the mapping owns its list";
    /// An unmap with a direction other than the mapped one.
    DirectionDiffers = "direction-differs", "impossible: the mapping knows its direction";
    /// A mapping whose result was never checked for an error.
    ErrorUnchecked = "error-unchecked", "impossible: a failed call returns no handle";
    /// A mapping of a thread's stack.
    StackMemory = "stack-memory", "impossible: only buffers made of whole pages can be mapped";
    /// A mapping of code or constants of the program.
    ProgramImage = "program-image", "impossible: only buffers made of whole pages can be mapped";
    /// A mapping of an address that is not RAM.
    InvalidMemory = "invalid-memory", "impossible: a buffer is RAM of its machine, and others are refused";
    /// A mapping of memory that is contiguous in virtual addresses only.
    VirtualMemory = "virtual-memory", "impossible: a buffer is one run of pages";
    /// A sync of an address that is not mapped.
    SyncOfUnmapped = "sync-of-unmapped", "impossible: a sync borrows the mapping";
    /// A sync that reaches past the mapping.
    SyncOutside = "sync-outside", "impossible: a view is the range that was mapped";
    /// A sync with a direction other than that of the mapping.
    SyncDirectionDiffers = "sync-direction-differs", "impossible: the mapping knows its direction";
    /// A sync for the CPU of memory that the device cannot write.
    SyncOfReadOnly = "sync-of-read-only", "impossible: the mapping knows its direction";
    /// A sync for the device of memory that it cannot read.
    SyncOfWriteOnly = "sync-of-write-only", "impossible: the mapping knows its direction";
    /// A sync of a list with a number of entries other than that of the map call.
    SyncCountDiffers = "sync-count-differs", "impossible: the mapping owns its list";
    /// Two mappings of one cache line, the device writing to one of them.
    LinesOverlap = "lines-overlap", "impossible: a mapped buffer is owned, and made of whole pages";
    /// More than seven mappings of one cache line. Reported once.
    TooManyOverlaps = "too-many-overlaps", "impossible: a mapped buffer is owned, and made of whole pages";
    /// A segment of a list longer than the device's limit.
    SegmentTooLong = "segment-too-long", "a bug of the core: segments are split to the device's limits";
    /// A segment of a list across the device's boundary.
    SegmentCrossesBoundary = "segment-crosses-boundary", "a bug of the core: segments are split to the device's limits";
    /// Mappings left after the driver was unbound.
    LeftAtUnbind = "left-at-unbind", "a bug of the core: the ledger ends every mapping (P4)";
    /// A free to a back-end other than the allocating one.
    BackendDiffers = "backend-differs", "a bug of the core: the mapping carries its back-end (P1)";
    /// Mappings left after a failed probe.
    LeftAfterFailedProbe = "left-after-failed-probe", "a bug of the core: the ledger ends every mapping (P3)";
    /// An access by the device to an address that was unmapped.
    UseAfterUnmap = "use-after-unmap", "a bug of the driver or the device; detected when the IOMMU refuses the access";
    /// An unmap of memory to which a descriptor that the hardware owns points.
    FreeWhileOwned = "free-while-owned", "a bug of the driver, which alone knows its descriptors";
    /// An unmap with attributes other than those of the mapping.
    AttrsDiffer = "attrs-differ", "impossible: the mapping knows its attributes";
    /// A mapping above the device's DMA mask: the mask was narrowed later, or the map call did not check it.
    OutsideMask = "outside-mask", "possible: a driver may narrow its mask while it has mappings";
    /// A free of a pool item that is not in use, or belongs to another pool.
    PoolItemForeign = "pool-item-foreign", "impossible: an item goes back to its pool by being dropped";
    /// A pool that is destroyed while items are in use.
    PoolBusy = "pool-busy", "impossible: the binding owns the pages, and items keep the pool";
    /// Device addresses that are reused before their old translation was flushed.
    ReusedBeforeFlush = "reused-before-flush", "a bug of the core: addresses wait for the confirmation (P2)";
    /// Mappings left when the device's translation is torn down.
    TranslationGone = "translation-gone", "a bug of the core: the translation is torn down after every mapping";
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One misuse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misuse {
    /// The check that found it.
    pub check: Check,
    /// The device concerned.
    pub device: Arc<str>,
    /// Details: addresses, sizes and expectations.
    pub detail: String,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.device, self.check, self.detail)
    }
}
