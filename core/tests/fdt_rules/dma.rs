//! Coherence and DMA windows.

use bindery::addr::PhysAddr;
use bindery::device::DmaRange;

use super::blob::{Described, bus, cells, dev, flag};

#[test]
fn coherence_is_inherited_from_the_nearest_bus_that_states_it() {
    let inner = bus("inner", vec![flag("dma-noncoherent")], vec![dev("c", vec![])]);
    let outer = bus("outer", vec![flag("dma-coherent")], vec![dev("a", vec![]), inner]);
    let tree = Described::of(vec![outer, dev("b", vec![]), dev("e", vec![flag("dma-coherent")])]);
    let coherent = |name| tree.device(name).dma.coherent;
    assert!(coherent("outer:a") && coherent("e"));
    assert!(!coherent("b") && !coherent("outer:inner:c"));
}

#[test]
fn windows_of_the_nearest_bus_are_translated_to_physical_addresses() {
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
fn a_bus_does_not_use_its_own_windows() {
    let tree = Described::of(vec![bus("soc", vec![("dma-ranges", cells(&[0, 0x100, 0x80]))], vec![])]);
    assert!(tree.device("soc").dma.ranges.is_empty());
}

#[test]
fn windows_that_are_empty_or_too_many_are_dropped() {
    let soc = bus("soc", vec![("dma-ranges", cells(&[0xffff_ffff, 0, 0xffff_ffff, 0, 0, 0]))], vec![dev("d", vec![])]);
    let tree = Described::of(vec![soc]);
    assert_eq!(tree.device("soc:d").dma.ranges.len(), 1, "a window above 4 GiB is odd, but does not wrap");
    assert_eq!(tree.notes(), ["/soc: dma-ranges: an empty region"]);
    let many: Vec<u32> = (0..65).flat_map(|i| [i * 16, i * 16, 16]).collect();
    let tree = Described::of(vec![bus("soc", vec![("dma-ranges", cells(&many))], vec![dev("d", vec![])])]);
    assert_eq!(tree.device("soc:d").dma.ranges.len(), 64);
    assert_eq!(tree.notes(), ["/soc: dma-ranges: more than 64 entries"]);
}

#[test]
fn a_window_is_reduced_to_the_part_that_parent_buses_map() {
    let seen = |inner: &[u32], outer: &[u32]| {
        let inner = bus("inner", vec![("dma-ranges", cells(inner))], vec![dev("d", vec![])]);
        let tree = Described::of(vec![bus("outer", vec![("dma-ranges", cells(outer))], vec![inner])]);
        let dma = tree.device("outer:inner:d").dma.clone();
        (dma.ranges.iter().map(|w| (w.bus, w.phys.0, w.len)).collect::<Vec<_>>(), dma.unreadable, tree.notes())
    };
    let part = |inner: &[u32], outer: &[u32], windows: &[(u64, u64, u64)]| {
        assert_eq!(seen(inner, outer), (windows.to_vec(), None, Vec::new()), "{inner:x?} {outer:x?}");
    };
    // It ends outside, begins outside, does both; and it lies in two that lead to different places.
    part(&[0, 0x100, 0x80], &[0x100, 0x4000, 0x40], &[(0, 0x4000, 0x40)]);
    part(&[0, 0x100, 0x80], &[0x140, 0x4000, 0x100], &[(0x40, 0x4000, 0x40)]);
    part(&[0, 0x100, 0x80], &[0x120, 0x4000, 0x20], &[(0x20, 0x4000, 0x20)]);
    part(&[0, 0x100, 0x80], &[0x100, 0x4000, 0x40, 0x140, 0x8000, 0x100], &[(0, 0x4000, 0x40), (0x40, 0x8000, 0x40)]);
    // Nothing of it, and an outer value of which no entry can be trusted.
    for outer in [&[0x180, 0x4000, 0x40][..], &[0x100, 0x4000, 0x80, 0x180]] {
        let (windows, unreadable, notes) = seen(&[0, 0x100, 0x80], outer);
        assert!(windows.is_empty() && unreadable.is_some(), "{outer:x?}");
        let lost = "/outer/inner: dma-ranges: /outer does not map the address to the CPU's";
        assert_eq!(notes.last().map(String::as_str), Some(lost), "{outer:x?}");
    }
}

#[test]
fn a_bus_without_dma_ranges_below_one_with_windows_disables_dma_with_a_note() {
    const WINDOW: &[u32] = &[0x100, 0x4000, 0x1000];
    // What each bus has, from the outermost to the device's own: windows, an empty value, or none.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Has {
        Windows,
        Empty,
        Nothing,
    }
    use Has::{Empty, Nothing, Windows};
    let seen = |buses: &[Has]| {
        let mut below = dev("d", vec![]);
        for (depth, has) in buses.iter().enumerate().rev() {
            // Each one leads to what the next one has.
            let value = if depth == 0 { WINDOW } else { &[0x100, 0x200, 0x800] };
            let props = match has {
                Windows => vec![("dma-ranges", cells(value))],
                Empty => vec![flag("dma-ranges")],
                Nothing => vec![],
            };
            below = bus(["a", "b", "c", "e"][depth], props, vec![below]);
        }
        let tree = Described::of(vec![below]);
        let dma = tree.all.devices.last().map(|d| d.dma.clone()).unwrap_or_default();
        (dma.ranges.first().map(|w| w.phys.0), dma.unreadable.is_some(), tree.notes())
    };
    for (buses, first) in [
        (&[Windows, Nothing][..], Some(0x4000)), // the device's own bus
        (&[Windows, Empty, Nothing], Some(0x4000)),
        (&[Nothing, Windows], Some(0x200)), // one to one from there to the root
        (&[Nothing, Nothing, Windows, Nothing], Some(0x200)),
        (&[Nothing, Empty, Nothing], None), // nobody has windows
        (&[Nothing, Nothing, Nothing], None),
    ] {
        assert_eq!(seen(buses), (first, false, Vec::new()), "{buses:?}");
    }
    for (buses, gap, beyond) in [
        (&[Windows, Nothing, Nothing][..], "/a/b", "/a"),
        (&[Windows, Nothing, Empty], "/a/b", "/a"),
        (&[Windows, Nothing, Windows], "/a/b", "/a"),
        (&[Windows, Empty, Nothing, Empty], "/a/b/c", "/a"),
        (&[Windows, Windows, Nothing, Windows], "/a/b/c", "/a/b"),
        (&[Nothing, Windows, Nothing, Windows], "/a/b/c", "/a/b"),
    ] {
        let note =
            format!("{gap}: dma-ranges: absent below {beyond}, which has dma-ranges: the bus's translation is unknown");
        assert_eq!(seen(buses), (None, true, vec![note]), "{buses:?}");
    }
}

#[test]
fn below_identity_windows_a_gap_is_noted_once_and_changes_nothing() {
    // As in the trees of the i.MX8M: the outermost bus only says which part of memory is there.
    let silent = |children| bus("silent", vec![], vec![bus("own", vec![], children)]);
    let flat = vec![("dma-ranges", cells(&[0x4000, 0x4000, 0x1000]))];
    let tree = Described::of(vec![bus("soc", flat.clone(), vec![silent(vec![dev("d", vec![]), dev("e", vec![])])])]);
    for device in ["soc:silent:own:d", "soc:silent:own:e"] {
        assert_eq!(tree.device(device).dma, bindery::device::DmaDesc::default());
    }
    let note = "/soc/silent: dma-ranges: absent below /soc, which has dma-ranges: the bus's translation is unknown";
    assert_eq!(tree.notes(), [note]);
    // Windows inside the gap lead on to the part that is there.
    let inner = bus("inner", vec![("dma-ranges", cells(&[0, 0x4800, 0x1000]))], vec![dev("d", vec![])]);
    let tree = Described::of(vec![bus("soc", flat, vec![bus("silent", vec![], vec![inner])])]);
    let dma = &tree.device("soc:silent:inner:d").dma;
    assert_eq!(dma.ranges, [DmaRange { bus: 0, phys: PhysAddr(0x4800), len: 0x800 }]);
    assert_eq!((&dma.unreadable, tree.notes()), (&None, vec![note.into()]));
}
