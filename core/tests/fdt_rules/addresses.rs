//! Translation of `reg` through `ranges`.

use bindery::addr::PhysAddr;
use bindery::device::Resource;

use super::blob::{Described, blob, bus, cells, describe, dev, flag};

fn mem(base: u64, len: u64) -> Resource {
    Resource::Mem { base: PhysAddr(base), len }
}

#[test]
fn addresses_are_translated_by_every_parent_bus() {
    let device = dev("d@10", vec![("reg", cells(&[0x10, 8, 0x20, 8]))]);
    let inner = bus("inner", vec![("ranges", cells(&[0, 0x100, 0x40]))], vec![device]);
    // 64-bit addresses and sizes at the root, one cell below.
    let outer = bus(
        "outer",
        vec![
            ("#address-cells", cells(&[1])),
            ("#size-cells", cells(&[1])),
            ("ranges", cells(&[0x100, 0x8, 0x4000_0000, 0x1000])),
        ],
        vec![inner],
    );
    let root = vec![("#address-cells", cells(&[2])), ("#size-cells", cells(&[2]))];
    let mut tree = dtoolkit::model::DeviceTree::new();
    tree.root = super::blob::node("", root, vec![outer]);
    let tree = describe(&tree.to_dtb());
    assert_eq!(tree.device("840000010.d").resources, [mem(0x8_4000_0010, 8), mem(0x8_4000_0020, 8)]);
}

#[test]
fn empty_ranges_are_an_identity_mapping() {
    let tree =
        Described::of(vec![bus("soc", vec![flag("ranges")], vec![dev("d@10", vec![("reg", cells(&[0x10, 8]))])])]);
    assert_eq!(tree.device("10.d").resources, [mem(0x10, 8)]);
}

#[test]
fn registers_behind_a_bus_without_ranges_are_not_mapped() {
    let tree = Described::of(vec![bus("soc", vec![], vec![dev("d@10", vec![("reg", cells(&[0x10, 8]))])])]);
    assert!(tree.device("soc:d@10").resources.is_empty());
    assert_eq!(tree.notes(), ["/soc/d@10: reg: /soc does not map the address to the CPU's"]);
}

#[test]
fn an_address_outside_the_ranges_is_not_mapped() {
    let soc =
        bus("soc", vec![("ranges", cells(&[0, 0x100, 0x10]))], vec![dev("d@10", vec![("reg", cells(&[0x10, 8]))])]);
    assert!(Described::of(vec![soc]).device("soc:d@10").resources.is_empty());
}

#[test]
fn addresses_without_sizes_are_not_registers() {
    let soc = bus("soc", vec![("#size-cells", cells(&[0]))], vec![dev("d@1", vec![("reg", cells(&[1]))])]);
    let tree = Described::of(vec![soc]);
    assert!(tree.device("soc:d@1").resources.is_empty() && tree.all.notes.is_empty());
}

#[test]
fn a_bus_with_three_address_cells_compares_the_first_as_flags() {
    let device = |flags| dev("d@8", vec![("reg", cells(&[flags, 0, 0x18, 8]))]);
    let soc = |flags| {
        let props = vec![("#address-cells", cells(&[3])), ("ranges", cells(&[1, 0, 0x10, 0x5000, 0x100]))];
        bus("soc", props, vec![device(flags)])
    };
    assert_eq!(Described::of(vec![soc(1)]).device("5008.d").resources, [mem(0x5008, 8)]);
    assert!(Described::of(vec![soc(2)]).device("soc:d@8").resources.is_empty());
}

#[test]
fn cells_are_inherited_and_default_to_one() {
    let mut tree = dtoolkit::model::DeviceTree::new();
    tree.root = super::blob::node("", vec![], vec![dev("d@10", vec![("reg", cells(&[0x10, 8]))])]);
    assert_eq!(describe(&tree.to_dtb()).device("10.d").resources, [mem(0x10, 8)]);
}

#[test]
fn a_region_that_wraps_ends_the_list() {
    let wide = vec![("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), flag("ranges")];
    let reg = cells(&[0, 0x10, 0, 8, u32::MAX, u32::MAX, 0, 2, 0, 0x20, 0, 8]);
    let tree = describe(&blob(vec![], vec![bus("soc", wide, vec![dev("d@10", vec![("reg", reg)])])]));
    assert_eq!(tree.device("10.d").resources, [mem(0x10, 8)]);
    assert_eq!(tree.notes(), ["/soc/d@10: reg: the range wraps around or does not fit 64 bits"]);
}

#[test]
fn unsupported_cell_counts_are_reported() {
    let soc =
        bus("soc", vec![("#address-cells", cells(&[0x4000_0000]))], vec![dev("d@0", vec![("reg", cells(&[0, 8]))])]);
    let tree = Described::of(vec![soc]);
    assert_eq!(tree.notes(), ["/soc/d@0: reg: a cell count of 1073741824 is not supported"]);
}

#[test]
fn a_truncated_value_is_reported() {
    let tree =
        Described::of(vec![dev("d@0", vec![("reg", cells(&[0, 8, 16]))]), dev("e@0", vec![("reg", cells(&[0, 0]))])]);
    assert_eq!(tree.device("0.d").resources, [mem(0, 8)]);
    assert_eq!(tree.notes(), ["/d@0: reg: the value ends within an entry", "/e@0: reg: an empty region"]);
}

#[test]
fn a_region_across_several_windows_is_accepted_only_when_they_adjoin_on_both_sides() {
    let described = |ranges: &[u32], reg: &[u32]| {
        let device = dev("d@0", vec![("reg", cells(reg))]);
        Described::of(vec![bus("soc", vec![("ranges", cells(ranges))], vec![device])])
    };
    let refused = "/soc/d@0: reg: /soc maps only a part of the region, or not contiguously";
    // The last byte of a window, and one more.
    let one = [0, 0x5000, 0x100];
    assert_eq!(described(&one, &[0xf0, 0x10]).device("50f0.d").resources, [mem(0x50f0, 0x10)]);
    for reg in [[0xf0, 0x11], [0, u32::MAX], [0xff, 2]] {
        let tree = described(&one, &reg);
        assert_eq!((tree.all.devices[1].resources.len(), tree.notes()), (0, vec![refused.into()]), "{reg:x?}");
    }
    // Neighbours that lead to neighbours, in any order; of those that overlap the first one counts.
    for ranges in [
        [0x100, 0x5100, 0x80, 0, 0x5000, 0x100],
        [0, 0x5000, 0x100, 0x100, 0x5100, 0x80],
        [0x80, 0x5080, 0x100, 0, 0x5000, 0x100],
    ] {
        assert_eq!(described(&ranges, &[0x80, 0x100]).device("5080.d").resources, [mem(0x5080, 0x100)], "{ranges:x?}");
        assert_eq!(described(&ranges, &[0x80, 0x101]).notes(), [refused]);
    }
    // Neighbours that lead elsewhere, overlapping or not; and a gap.
    for ranges in [
        [0, 0x5000, 0x100, 0x100, 0x6000, 0x80],
        [0, 0x5000, 0x100, 0x80, 0x6000, 0x100],
        [0, 0x5000, 0x100, 0x101, 0x5101, 0x80],
    ] {
        assert_eq!(described(&ranges, &[0x80, 0x90]).notes(), [refused], "{ranges:x?}");
    }
    // Earlier entries stay, later ones are dropped, so that no index changes.
    let tree = described(&one, &[0, 8, 0xf8, 16, 0x10, 8]);
    assert_eq!((tree.device("5000.d").resources.clone(), tree.notes()), (vec![mem(0x5000, 8)], vec![refused.into()]));
}

#[test]
fn every_parent_bus_must_map_the_whole_region() {
    let device = dev("d@0", vec![("reg", cells(&[0x10, 0x20]))]);
    let inner = bus("inner", vec![("ranges", cells(&[0, 0x100, 0x40]))], vec![device]);
    let outer = bus("outer", vec![("ranges", cells(&[0x100, 0x5000, 0x28]))], vec![inner]);
    let tree = Described::of(vec![outer]);
    assert_eq!(tree.notes(), ["/outer/inner/d@0: reg: /outer maps only a part of the region, or not contiguously"]);
    assert!(tree.device("5010.d").resources.is_empty());
}
