//! DMA translation and the IOMMU group of the disk controller.

use super::memory::{CMA_PAGE, FIRST_IOVA, Memory};
use super::procedure::Arch;
use super::texts::texts;

texts! {
    /// The DMA back-end that a call on the device would use now.
    #[derive(Default)]
    Ops:
    /// Physical addresses, memory from CMA.
    #[default]
    Direct = "the direct ops";
    /// The IOMMU layer's.
    Iommu = "the IOMMU ops";
    /// arm32's, without IOMMU.
    ArmDirect = "arm32's plain ops";
    /// arm32's, with one.
    ArmIommu = "arm32's IOMMU ops";
}

impl Ops {
    pub(super) const fn translates(self) -> bool {
        matches!(self, Self::Iommu | Self::ArmIommu)
    }
}

/// The domain that the group's devices are attached to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Domain {
    /// The default domain, which lives as long as the group.
    #[default]
    Default,
    /// A domain that was chosen through the group's `type`, untranslated.
    Identity,
    /// No DMA at all, for a guest that is being set up.
    Blocking,
    /// arm32's mapping.
    Mapping,
}

/// Translation of the disk controller, as the kernel sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Translation {
    pub(super) ops: Ops,
    /// The step that last set `ops`.
    pub(super) ops_set_by: &'static str,
    pub(super) joined: bool,
    /// The domain is set up by the binding, not by the IOMMU driver (arm32's `dma_ops_setup`).
    pub(super) own: bool,
    pub(super) domain: Domain,
    /// Buffers that the device can reach, by IOVA.
    pub(super) mapped: Vec<u64>,
    pub(super) users: u8,
    /// A pass-through owner holds the group.
    pub(super) claimed: bool,
}

impl Translation {
    pub(super) fn new(arch: Arch) -> Self {
        Self { ops: plain(arch), ..Self::default() }
    }

    /// Allocates coherent memory through the present back-end; the DMA address.
    pub(super) fn allocate(&mut self, memory: &mut Memory) -> u64 {
        if self.ops.translates() {
            memory.pages += 1;
            self.mapped.push(FIRST_IOVA);
            FIRST_IOVA
        } else if self.ops == Ops::Direct {
            memory.cma += 1;
            CMA_PAGE
        } else {
            memory.pages += 1;
            CMA_PAGE
        }
    }
}

/// The back-end of a device that has no IOMMU.
pub(super) const fn plain(arch: Arch) -> Ops {
    match arch {
        Arch::Arm64 => Ops::Direct,
        Arch::Arm32 | Arch::Arm32Shared => Ops::ArmDirect,
    }
}
