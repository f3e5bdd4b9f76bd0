//! Coherence and DMA windows.

use bindery::addr::PhysAddr;
use bindery::device::DmaRange;

use super::blob::{Described, bus, cells, dev, flag};

#[test]
fn coherence_is_inherited_until_somebody_says_otherwise() {
    let inner = bus("inner", vec![flag("dma-noncoherent")], vec![dev("c", vec![])]);
    let outer = bus("outer", vec![flag("dma-coherent")], vec![dev("a", vec![]), inner]);
    let tree = Described::of(vec![outer, dev("b", vec![]), dev("e", vec![flag("dma-coherent")])]);
    let coherent = |name| tree.device(name).dma.coherent;
    assert!(coherent("outer:a") && coherent("e"));
    assert!(!coherent("b") && !coherent("outer:inner:c"));
}

#[test]
fn windows_are_those_of_the_nearest_bus_seen_from_memory() {
    let inner = bus("inner", vec![("dma-ranges", cells(&[0, 0x100, 0x80]))], vec![dev("d", vec![])]);
    let passing = bus("passing", vec![flag("dma-ranges")], vec![inner]);
    let outer =
        bus("outer", vec![("dma-ranges", cells(&[0x100, 0x4000_0100, 0x1000]))], vec![passing, dev("e", vec![])]);
    let tree = Described::of(vec![outer, dev("f", vec![])]);
    let window = |bus, phys, len| DmaRange { bus, phys: PhysAddr(phys), len };
    assert_eq!(tree.device("outer:passing:inner:d").dma.ranges, [window(0, 0x4000_0100, 0x80)]);
    assert_eq!(tree.device("outer:e").dma.ranges, [window(0x100, 0x4000_0100, 0x1000)]);
    assert!(tree.device("f").dma.ranges.is_empty());
}

#[test]
fn a_bus_has_no_use_for_its_own_windows() {
    let tree = Described::of(vec![bus("soc", vec![("dma-ranges", cells(&[0, 0x100, 0x80]))], vec![])]);
    assert!(tree.device("soc").dma.ranges.is_empty());
}

#[test]
fn windows_that_wrap_or_are_too_many_are_left_out() {
    let soc = bus("soc", vec![("dma-ranges", cells(&[0xffff_ffff, 0, 0xffff_ffff, 0, 0, 0]))], vec![dev("d", vec![])]);
    let tree = Described::of(vec![soc]);
    assert_eq!(tree.device("soc:d").dma.ranges.len(), 1, "a window above 4 GiB is odd, but does not wrap");
    assert_eq!(tree.notes(), ["/soc: dma-ranges: a region of no bytes"]);
    let many: Vec<u32> = (0..65).flat_map(|i| [i * 16, i * 16, 16]).collect();
    let tree = Described::of(vec![bus("soc", vec![("dma-ranges", cells(&many))], vec![dev("d", vec![])])]);
    assert_eq!(tree.device("soc:d").dma.ranges.len(), 64);
    assert_eq!(tree.notes(), ["/soc: dma-ranges: more than 64 entries"]);
}
