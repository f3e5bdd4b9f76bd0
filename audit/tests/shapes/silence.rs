//! Logs that say that something is missing from them.

use super::Shape;
use super::Want::{CannotTell, Violated};

/// Lines of the patch that this project grew from, around a line that says that others are missing.
macro_rules! between {
    ($source:literal, $lost:literal) => {
        Shape {
            source: $source,
            text: concat!(
                "[    3.331000] sata_rcar ee300000.sata: dma_alloc_attrs:274: allocated using __iommu_alloc_attrs()\n",
                "[    3.331010] sata_rcar ee300000.sata: dmam_alloc_attrs:98: size 2048 vaddr ffffff8012345000 dma_handle 0x0x00000000fffff000 attrs 0x0\n",
                $lost,
                "[    9.331020] sata_rcar ee300000.sata: dmam_release:32: size 2048 vaddr ffffff8012345000 dma_handle 0x0x00000000fffff000 attrs 0x0\n",
                "[    9.331030] sata_rcar ee300000.sata: dma_free_attrs:289: size 2048, ops = iommu_dma_ops\n",
                "[    9.331040] sata_rcar ee300000.sata: dma_free_attrs:306: calling __iommu_free_attrs()\n",
            ),
            want: CannotTell,
            says: &["ee300000.sata"],
            hides: &["violated"],
        }
    };
}

pub(crate) const SHAPES: &[Shape] = &[
    between!("the console was too slow", "** 230 printk messages dropped **\n"),
    between!("the journal was too slow", "[    5.000000] systemd-journald[211]: Missed 120 kernel messages\n"),
    between!("printk's own words of old", "[    5.000000] printk: 14 messages suppressed.\n"),
    Shape {
        source: "a syslog that folds what repeats",
        text: "Nov  3 14:22:07 hv07 kernel: e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               Nov  3 14:22:08 hv07 kernel: DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n\
               Nov  3 14:22:09 hv07 kernel: message repeated 4 times: [ DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set]\n",
        want: Violated(&["R9"]),
        says: &["5 faults"],
        hides: &["R10"],
    },
    Shape {
        source: "an older syslog that folds what repeats",
        text: "Nov  3 14:22:07 hv07 kernel: e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               Nov  3 14:22:08 hv07 kernel: DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n\
               Nov  3 14:22:39 hv07 last message repeated 4 times\n",
        want: Violated(&["R9"]),
        says: &["5 faults"],
        hides: &["R10"],
    },
];
