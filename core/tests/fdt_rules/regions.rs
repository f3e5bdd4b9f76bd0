//! Reserved regions that a device reads or writes (`iommu-addresses`).

use bindery::device::{RegionKind, SupplierKind};

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

/// An entry that cannot be read, and whom it is about, when that can be read.
type Broken = Option<&'static [u32]>;

/// Two devices, in every combination of two entries, of what they list, and of an IOMMU.
#[test]
fn an_entry_that_cannot_be_read_concerns_its_device_or_if_that_is_unknown_all_that_list_the_region() {
    const DEVICES: [u32; 2] = [6, 7];
    let whole = |device: u32| (cells(&[device, 0x1000, 0x1000]), Broken::None);
    let first = [whole(6), whole(7), (cells(&[99, 0x1000, 0x1000]), Some(&DEVICES[..]))];
    let cut = [
        (Vec::new(), Broken::None),
        (cells(&[6, 0x1000]), Some(&DEVICES[..1])),
        (cells(&[7]), Some(&DEVICES[1..])),
        (vec![0, 0], Some(&DEVICES[..])),
    ];
    let mut refused = 0;
    for (begin, broken) in &first {
        for (end, cut) in first.iter().chain(&cut) {
            // What follows a device that is not known cannot be told apart.
            let concerned = broken.or(*cut).unwrap_or_default();
            for others in 0..16_u32 {
                let has = |device: u32, what: u32| others >> (2 * (device - 6) + what) & 1 != 0;
                let device = |phandle: u32| {
                    let mut own = vec![("phandle", cells(&[phandle]))];
                    own.extend(has(phandle, 0).then(|| ("iommus", cells(&[8]))));
                    own.extend(has(phandle, 1).then(|| ("memory-region", cells(&[9]))));
                    dev(&format!("d{phandle}"), own)
                };
                let iommu = dev("iommu", vec![("phandle", cells(&[8])), ("#iommu-cells", cells(&[0]))]);
                let addresses = [begin.clone(), end.clone()].concat();
                let own = vec![
                    ("phandle", cells(&[9])),
                    ("reg", cells(&[0x1000, 0x1000])),
                    ("iommu-addresses", addresses.clone()),
                ];
                let cell = |name| (name, cells(&[1]));
                let props = vec![cell("#address-cells"), cell("#size-cells"), flag("ranges")];
                let memory = node("reserved-memory", props, vec![node("r", own, vec![])]);
                let tree = Described::of(vec![iommu, device(6), device(7), memory]);
                for phandle in DEVICES {
                    let unmet = &tree.device(&format!("d{phandle}")).unmet;
                    let unmet: Vec<_> = unmet.iter().map(|u| (&*u.property, u.kind)).collect();
                    let expected = has(phandle, 0) && has(phandle, 1) && concerned.contains(&phandle);
                    let expected = if expected { &[("memory-region", SupplierKind::Iommu)][..] } else { &[] };
                    assert_eq!(unmet, expected, "P10: {addresses:x?}, {others:#b}, {phandle}: {:?}", tree.notes());
                    refused += unmet.len();
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");
}
