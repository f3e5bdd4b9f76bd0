//! DMA translation and the IOMMU group of the disk controller.

use super::memory::{CMA_PAGE, FIRST_IOVA, Memory};
use super::procedure::Arch;

/// The DMA back-end that a call on the device would use now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Ops {
    /// Physical addresses, memory from CMA.
    Direct,
    /// The IOMMU layer's.
    Iommu,
    /// arm32's, without IOMMU.
    ArmDirect,
    /// arm32's, with one.
    ArmIommu,
}

impl Ops {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "the direct ops",
            Self::Iommu => "the IOMMU ops",
            Self::ArmDirect => "arm32's plain ops",
            Self::ArmIommu => "arm32's IOMMU ops",
        }
    }

    pub(super) const fn translates(self) -> bool {
        matches!(self, Self::Iommu | Self::ArmIommu)
    }
}

/// The domain that the group's devices are attached to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Domain {
    /// The default domain, which lives as long as the group.
    Default,
    /// A domain that was chosen through the group's `type`, untranslated.
    Identity,
    /// No DMA at all, for a guest that is being set up.
    Blocking,
    /// arm32's mapping.
    Mapping,
}

/// Translation of the disk controller, as the kernel sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
        Self {
            ops: plain(arch),
            ops_set_by: "",
            joined: false,
            own: false,
            domain: Domain::Default,
            mapped: Vec::new(),
            users: 0,
            claimed: false,
        }
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

    pub(super) fn unmap(&mut self, iova: u64) {
        self.mapped.retain(|&mapped| mapped != iova);
    }
}

/// The back-end of a device that has no IOMMU.
pub(super) const fn plain(arch: Arch) -> Ops {
    match arch {
        Arch::Arm64 => Ops::Direct,
        Arch::Arm32 | Arch::Arm32Shared => Ops::ArmDirect,
    }
}
