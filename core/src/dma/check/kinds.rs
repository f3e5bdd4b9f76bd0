//! What the checker looks for, by name.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $note:literal;)*) => {
        /// Something that the checker looks for. The first 23 are those of Linux's DMA-API debugging
        /// (`kernel/dma/debug.c`), the others are gaps in it.
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

            /// How it can, or cannot, happen through this crate's own DMA face.
            pub const fn note(self) -> &'static str {
                match self { $(Self::$name => $note,)* }
            }
        }
    };
}

checks! {
    /// An unmap or free of the address that means "error".
    UnmapOfError = "unmap-of-error", "cannot be written: there is no such address, errors are a `Result`";
    /// An unmap or free of what is not mapped.
    UnmapOfUnmapped = "unmap-of-unmapped", "cannot be written: only the handle of a mapping ends it, and it is used up";
    /// With another size than it was mapped with.
    SizeDiffers = "size-differs", "cannot be written: the mapping knows its size";
    /// With another kind of call than it was mapped with.
    KindDiffers = "kind-differs", "cannot be written: each kind of mapping has a handle of its own";
    /// With another CPU address than it was allocated with.
    MemoryDiffers = "memory-differs", "cannot be written: the mapping owns its memory";
    /// A list, with another number of entries than was given to the map call.
    CountDiffers = "count-differs", "cannot be written: the mapping owns its list";
    /// With another direction than it was mapped with.
    DirectionDiffers = "direction-differs", "cannot be written: the mapping knows its direction";
    /// A mapping whose result was never compared with "error".
    ErrorUnchecked = "error-unchecked", "cannot be written: there is no handle without a success";
    /// Memory of a thread's stack.
    StackMemory = "stack-memory", "cannot be written: only buffers made of whole pages can be mapped";
    /// Code or constants of the program.
    ProgramImage = "program-image", "cannot be written: only buffers made of whole pages can be mapped";
    /// An address that is not RAM.
    InvalidMemory = "invalid-memory", "cannot be written: a buffer is RAM of its machine, and others are refused";
    /// Memory that is contiguous for the CPU only.
    VirtualMemory = "virtual-memory", "cannot be written: a buffer is one run of pages";
    /// A sync of what is not mapped.
    SyncOfUnmapped = "sync-of-unmapped", "cannot be written: a sync borrows the mapping";
    /// A sync that reaches past the mapping.
    SyncOutside = "sync-outside", "cannot be written: a view is the range that was mapped";
    /// A sync with another direction than the mapping's.
    SyncDirectionDiffers = "sync-direction-differs", "cannot be written: the mapping knows its direction";
    /// A sync that gets the CPU what the device wrote, of memory that it cannot write.
    SyncOfReadOnly = "sync-of-read-only", "cannot be written: the mapping knows its direction";
    /// A sync that gives the device what the CPU wrote, of memory that it cannot read.
    SyncOfWriteOnly = "sync-of-write-only", "cannot be written: the mapping knows its direction";
    /// A sync of a list, with another number of entries than was given to the map call.
    SyncCountDiffers = "sync-count-differs", "cannot be written: the mapping owns its list";
    /// Two mappings of one cache line, the device writing to one of them.
    LinesOverlap = "lines-overlap", "cannot be written: a mapped buffer is owned, and made of whole pages";
    /// More than seven mappings of one cache line. Told once.
    TooManyOverlaps = "too-many-overlaps", "cannot be written: a mapped buffer is owned, and made of whole pages";
    /// A segment of a list longer than the device takes.
    SegmentTooLong = "segment-too-long", "a fault of the core: segments are cut to the device's limits";
    /// A segment of a list across the device's boundary.
    SegmentCrossesBoundary = "segment-crosses-boundary", "a fault of the core: segments are cut to the device's limits";
    /// Mappings that are left when the driver has been unbound.
    LeftAtUnbind = "left-at-unbind", "a fault of the core: the ledger ends every mapping (P4)";
    /// Given back to another back-end than it came from.
    BackendDiffers = "backend-differs", "a fault of the core: the mapping carries its back-end (P1)";
    /// Mappings that are left when a probe has failed.
    LeftAfterFailedProbe = "left-after-failed-probe", "a fault of the core: the ledger ends every mapping (P3)";
    /// An access of the device to what was unmapped.
    UseAfterUnmap = "use-after-unmap", "a fault of driver or device; seen when the IOMMU refuses the access";
    /// Memory taken back while a descriptor that the hardware owns points to it.
    FreeWhileOwned = "free-while-owned", "a fault of the driver, which alone knows its descriptors";
    /// With other attributes than it was mapped with.
    AttrsDiffer = "attrs-differ", "cannot be written: the mapping knows its attributes";
    /// A mapping above the device's mask: the mask was narrowed under it, or the map call did not look.
    OutsideMask = "outside-mask", "possible: a driver may narrow its mask while it has mappings";
    /// A pool item that is not out, or is another pool's.
    PoolItemForeign = "pool-item-foreign", "cannot be written: an item goes back to its pool by being dropped";
    /// A pool that is destroyed while items are out.
    PoolBusy = "pool-busy", "cannot be written: the binding owns the pages, and items keep the pool";
    /// Device addresses used again before the translation they had was flushed.
    ReusedBeforeFlush = "reused-before-flush", "a fault of the core: addresses wait for the confirmation (P2)";
    /// Mappings of a device whose translation goes away.
    TranslationGone = "translation-gone", "a fault of the core: the translation goes after every mapping";
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One misuse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misuse {
    /// What was looked for.
    pub check: Check,
    /// The device it is about.
    pub device: Arc<str>,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.device, self.check, self.detail)
    }
}
