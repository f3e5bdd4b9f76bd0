//! Reserved regions that a device reads or writes (`iommu-addresses`).

use bindery::device::RegionKind;

use super::blob::{Described, bus, cells, dev, flag, node};

#[test]
fn a_direct_region_lies_in_a_window_whole_or_is_unmet() {
    for first in (0..0x8000).step_by(0x800) {
        for len in [0x800, 0x1000, 0x2800, 0x4000, 0x4800, 0x8000] {
            let own = vec![("iommus", cells(&[8])), ("memory-region", cells(&[9])), ("phandle", cells(&[7]))];
            let soc = bus("soc", vec![("dma-ranges", cells(&[0x1000, 0x1000, 0x4000]))], vec![dev("d", own)]);
            let iommu = dev("iommu", vec![("phandle", cells(&[8])), ("#iommu-cells", cells(&[0]))]);
            let range = cells(&[first, len]);
            let addresses = [cells(&[7]), range.clone()].concat();
            let region =
                node("r", vec![("phandle", cells(&[9])), ("reg", range), ("iommu-addresses", addresses)], vec![]);
            let cell = |name| (name, cells(&[1]));
            let props = vec![cell("#address-cells"), cell("#size-cells"), flag("ranges")];
            let tree = Described::of(vec![iommu, soc, node("reserved-memory", props, vec![region])]);
            let d = tree.device("soc:d");
            let kinds: Vec<_> = d.dma.reserved.iter().map(|r| r.kind).collect();
            let inside = first >= 0x1000 && first + len <= 0x5000;
            let expected = if inside { &[RegionKind::Direct][..] } else { &[] };
            assert_eq!(kinds, expected, "{first:#x} + {len:#x}: {:?}", tree.notes());
            let unmet: Vec<_> = d.unmet.iter().map(|u| &*u.property).collect();
            assert_eq!(unmet, if inside { &[][..] } else { &["memory-region"] }, "{first:#x} + {len:#x}");
        }
    }
}
