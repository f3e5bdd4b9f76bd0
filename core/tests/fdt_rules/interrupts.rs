//! The interrupt tree.

use bindery::device::Resource;
use bindery::env::{IrqLine, Trigger};

use super::blob::{Described, blob, bus, cells, describe, dev, flag, gic, node, text};

fn lines(tree: &Described, name: &str) -> Vec<(u32, Trigger)> {
    let line = |r: &Resource| match r {
        Resource::Irq { line: IrqLine(n), trigger } => Some((*n, *trigger)),
        Resource::Mem { .. } | Resource::IrqBehind { .. } => None,
    };
    tree.device(name).resources.iter().filter_map(line).collect()
}

#[test]
fn the_parent_is_inherited() {
    let soc = bus(
        "soc",
        vec![("interrupt-parent", cells(&[1]))],
        vec![dev("d", vec![("interrupts", cells(&[0, 5, 4, 1, 9, 1]))])],
    );
    let tree = Described::of(vec![gic(), soc]);
    assert_eq!(lines(&tree, "soc:d"), [(37, Trigger::LevelHigh), (25, Trigger::EdgeRising)]);
    assert_eq!(tree.suppliers("soc:d"), ["interrupts -> /gic [0, 5, 4]", "interrupts -> /gic [1, 9, 1]"]);
}

#[test]
fn interrupts_extended_takes_precedence() {
    let expander = node(
        "gpio",
        vec![
            ("compatible", text(&["test,gpio"])),
            ("phandle", cells(&[2])),
            ("#interrupt-cells", cells(&[2])),
            flag("interrupt-controller"),
        ],
        vec![],
    );
    let both = vec![("interrupts", cells(&[9])), ("interrupts-extended", cells(&[1, 0, 7, 4, 2, 3, 8]))];
    let tree = Described::of(vec![gic(), expander, dev("d", both)]);
    assert_eq!(lines(&tree, "d"), [(39, Trigger::LevelHigh)]);
    assert_eq!(tree.suppliers("d"), ["interrupts-extended -> /gic [0, 7, 4]", "interrupts-extended -> /gpio [3, 8]"]);
}

#[test]
fn an_interrupt_of_another_controller_keeps_its_index() {
    let other = node(
        "pic",
        vec![("phandle", cells(&[2])), ("#interrupt-cells", cells(&[1])), flag("interrupt-controller")],
        vec![],
    );
    let tree = Described::of(vec![gic(), other, dev("d", vec![("interrupts-extended", cells(&[2, 3, 1, 0, 7, 4]))])]);
    let behind = |r: &Resource| matches!(r, Resource::IrqBehind { specifier, .. } if *specifier == [3]);
    let resources = &tree.device("d").resources;
    assert!(behind(&resources[0]), "{resources:?}");
    assert_eq!((resources.len(), lines(&tree, "d")), (2, vec![(39, Trigger::LevelHigh)]));
    assert_eq!(tree.notes(), [""; 0]);
}

#[test]
fn a_gic_with_an_interrupt_parent_is_a_device() {
    let second = node(
        "second",
        vec![
            ("compatible", text(&["arm,gic-400"])),
            ("phandle", cells(&[2])),
            ("#interrupt-cells", cells(&[3])),
            flag("interrupt-controller"),
            ("interrupt-parent", cells(&[1])),
            ("interrupts", cells(&[0, 9, 4])),
        ],
        vec![],
    );
    let d = dev("d", vec![("interrupts-extended", cells(&[2, 0, 7, 4, 1, 0, 7, 4]))]);
    let tree = Described::of(vec![gic(), second, d]);
    let resources = &tree.device("d").resources;
    assert!(matches!(&resources[0], Resource::IrqBehind { specifier, .. } if *specifier == [0, 7, 4]), "{resources:?}");
    assert_eq!(lines(&tree, "d"), [(39, Trigger::LevelHigh)]);
    assert_eq!(lines(&tree, "second"), [(41, Trigger::LevelHigh)]);
}

#[test]
fn an_interrupt_map_is_followed_to_the_controller() {
    let nexus = node(
        "bridge",
        vec![
            ("compatible", text(&["simple-bus"])),
            ("phandle", cells(&[2])),
            ("#interrupt-cells", cells(&[1])),
            ("interrupt-map-mask", cells(&[0xff00, 7])),
            // unit address, line, parent, kind, number, flags
            ("interrupt-map", cells(&[0x100, 1, 1, 0, 50, 4, 0x200, 1, 1, 0, 51, 4])),
            flag("ranges"),
        ],
        vec![
            dev("a@134", vec![("reg", cells(&[0x134, 4])), ("interrupts", cells(&[0x11 & 7]))]),
            dev("b@200", vec![("reg", cells(&[0x200, 4])), ("interrupts", cells(&[1]))]),
            dev("c@300", vec![("reg", cells(&[0x300, 4])), ("interrupts", cells(&[1]))]),
        ],
    );
    let tree = Described::of(vec![gic(), nexus]);
    assert_eq!(lines(&tree, "134.a"), [(82, Trigger::LevelHigh)]);
    assert_eq!(lines(&tree, "200.b"), [(83, Trigger::LevelHigh)]);
    assert!(lines(&tree, "300.c").is_empty());
    assert_eq!(tree.notes(), ["/bridge/c@300: interrupts: the interrupt map of /bridge has no entry for it"]);
    assert_eq!(tree.suppliers("bridge"), ["interrupt-map -> /gic []"]);
    assert_eq!(tree.suppliers("134.a"), ["interrupts -> /gic [0, 50, 4]"]);
}

/// A host bridge with this map and mask.
fn host(map: &[u32], mask: Option<Vec<u8>>) -> dtoolkit::model::DeviceTreeNode {
    let mut props = vec![
        ("compatible", text(&["test,host"])),
        ("#address-cells", cells(&[3])),
        ("#size-cells", cells(&[2])),
        ("#interrupt-cells", cells(&[1])),
        ("interrupt-map", cells(map)),
    ];
    props.extend(mask.map(|mask| ("interrupt-map-mask", mask)));
    node("pcie", props, vec![])
}

/// An entry: unit address, pin, the GIC, kind, number, flags.
fn entry(device: u32, pin: u32, line: u32) -> [u32; 8] {
    [device << 11, 0, 0, pin, 1, 0, line, 4]
}

/// Line of pin `pin` of device `device` behind the host bridge.
fn behind(tree: &Described, device: u32, pin: u32) -> Option<u32> {
    match tree.device("pcie").interrupt_map.as_ref()?.find(&[device << 11, 0, 0, pin])? {
        Resource::Irq { line, trigger: Trigger::LevelHigh } => Some(line.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_interrupt_map_of_a_bridge_is_kept_and_resolved() {
    // As long as that of QEMU's machine `virt` and more: properties of such a length are not copied.
    let map: Vec<u32> = (0..32).flat_map(|d| (1..5).flat_map(move |pin| entry(d, pin, (d + pin) % 8))).collect();
    let tree = Described::of(vec![gic(), host(&map, Some(cells(&[0xf800, 0, 0, 7])))]);
    assert_eq!(tree.notes(), [""; 0]);
    assert_eq!(tree.device("pcie").property("interrupt-map"), None);
    assert_eq!((behind(&tree, 0, 1), behind(&tree, 31, 4), behind(&tree, 31, 5)), (Some(33), Some(35), None));
    // Bits that the mask leaves out do not count, and without a mask all do.
    assert_eq!(behind(&tree, 0x1f + 0x20, 4), Some(35));
    assert_eq!(behind(&Described::of(vec![gic(), host(&map, None)]), 0x3f, 4), None);
    // A map may lead to another one.
    let nexus = vec![
        ("phandle", cells(&[2])),
        ("#address-cells", cells(&[0])),
        ("#interrupt-cells", cells(&[1])),
        ("interrupt-map", cells(&[9, 1, 0, 77, 4])),
    ];
    let tree = Described::of(vec![gic(), node("nexus", nexus, vec![]), host(&[0x800, 0, 0, 2, 2, 9], None)]);
    assert_eq!((behind(&tree, 1, 2), tree.notes()), (Some(109), vec![]));
}

#[test]
fn a_malformed_interrupt_map_of_a_bridge_is_reported_and_what_is_before_it_counts() {
    let good = entry(1, 1, 3);
    let after = entry(3, 1, 5);
    let of = |bad: &[u32]| {
        let map = [&good[..], bad, &after[..]].concat();
        let tree = Described::of(vec![gic(), host(&map, None)]);
        let notes = tree.notes();
        (behind(&tree, 1, 1), behind(&tree, 2, 1), behind(&tree, 3, 1), notes)
    };
    let note = |text: &str| vec![format!("/pcie: interrupt-map: {text}")];
    // An unknown parent: how long its entry is, nobody knows.
    assert_eq!(of(&[0x1000, 0, 0, 1, 77, 0, 4, 4]), (Some(35), None, None, note("no node has phandle 0x4d")));
    // An interrupt that the controller does not have.
    let none = note("the interrupt controller has no such interrupt");
    assert_eq!(of(&[0x1000, 0, 0, 1, 1, 9, 4, 4]), (Some(35), None, Some(37), none));
    // Entries that are cut off.
    for cut in 1..8 {
        let map = [&good[..], &entry(2, 1, 4)[..cut]].concat();
        let tree = Described::of(vec![gic(), host(&map, None)]);
        assert_eq!((behind(&tree, 1, 1), behind(&tree, 2, 1)), (Some(35), None));
        assert_eq!(tree.notes(), note("the value ends within an entry"));
    }
    // A mask of another length than unit address and specifier, also one that ends within a cell.
    for len in [0, 4, 12, 15, 17, 20] {
        let mask = cells(&[0xf800, 0, 0, 7, 0])[..len].to_vec();
        let tree = Described::of(vec![gic(), host(&good, Some(mask))]);
        let text = format!("/pcie: interrupt-map-mask: {len} bytes, where 16 are compared: the map is ignored");
        assert_eq!((behind(&tree, 1, 1), tree.notes()), (None, vec![text]));
    }
    // One whose entries lead to itself.
    let mut own = host(&[0x800, 0, 0, 1, 5, 0x800, 0, 0, 1], None);
    own.add_property(dtoolkit::model::DeviceTreeProperty::new_unchecked("phandle", cells(&[5])));
    let tree = Described::of(vec![gic(), own]);
    assert_eq!((behind(&tree, 1, 1), tree.notes()), (None, note("the interrupt parents form a cycle")));
}

#[test]
fn resolution_ends_at_the_first_controller() {
    let pic = node(
        "pic",
        vec![
            ("compatible", text(&["test,pic"])),
            ("phandle", cells(&[2])),
            ("#interrupt-cells", cells(&[1])),
            flag("interrupt-controller"),
            ("interrupt-parent", cells(&[1])),
            ("interrupts", cells(&[0, 1, 4])),
        ],
        vec![],
    );
    let tree =
        Described::of(vec![gic(), pic, dev("d", vec![("interrupt-parent", cells(&[2])), ("interrupts", cells(&[6]))])]);
    assert!(lines(&tree, "d").is_empty());
    assert_eq!(tree.suppliers("d"), ["interrupts -> /pic [6]"]);
    assert_eq!(lines(&tree, "pic"), [(33, Trigger::LevelHigh)]);
}

#[test]
fn gic_v3_has_extended_ranges_and_all_ranges_are_checked() {
    let interrupts = |args: [u32; 3]| {
        let d = dev("d", vec![("interrupts-extended", [cells(&[1]), cells(&args)].concat())]);
        let tree = Described::of(vec![gic(), d]);
        (lines(&tree, "d"), tree.notes().len())
    };
    assert_eq!(interrupts([0, 987, 4]).0[0].0, 1019);
    assert_eq!(interrupts([2, 3, 1]), (vec![(4099, Trigger::EdgeRising)], 0));
    assert_eq!(interrupts([3, 3, 4]), (vec![(1059, Trigger::LevelHigh)], 0));
    for bad in [[0, 988, 4], [1, 16, 4], [4, 0, 4], [0, u32::MAX, 4]] {
        assert_eq!(interrupts(bad), (vec![], 1), "{bad:?}");
    }
}

#[test]
fn a_cycle_of_interrupt_parents_is_reported() {
    let a = node("a", vec![("phandle", cells(&[2])), ("interrupt-parent", cells(&[3]))], vec![]);
    let b = node("b", vec![("phandle", cells(&[3])), ("interrupt-parent", cells(&[2]))], vec![]);
    let tree =
        Described::of(vec![a, b, dev("d", vec![("interrupt-parent", cells(&[2])), ("interrupts", cells(&[0]))])]);
    assert_eq!(tree.notes(), ["/d: interrupts: the interrupt parents form a cycle"]);
}

#[test]
fn a_cycle_of_interrupt_maps_is_reported() {
    let nexus = |name, own, next| {
        let map = cells(&[5, next, 5]);
        let props = vec![
            ("phandle", cells(&[own])),
            ("#interrupt-cells", cells(&[1])),
            ("#address-cells", cells(&[0])),
            ("interrupt-map", map),
        ];
        node(name, props, vec![])
    };
    let d = dev("d", vec![("interrupts-extended", cells(&[2, 5]))]);
    let tree = Described::of(vec![nexus("a", 2, 3), nexus("b", 3, 2), d]);
    assert_eq!(tree.notes(), ["/d: interrupts-extended: the interrupt parents form a cycle"]);
}

#[test]
fn an_interrupt_that_cannot_be_resolved_is_reported() {
    let tree = Described::of(vec![
        dev("a", vec![("interrupts", cells(&[1]))]),
        dev("b", vec![("interrupt-parent", cells(&[77])), ("interrupts", cells(&[1]))]),
        dev("c", vec![("interrupts-extended", cells(&[1]))]),
        gic(),
        dev("e", vec![("interrupts-extended", cells(&[1, 0]))]),
    ]);
    assert_eq!(
        tree.notes(),
        [
            "/a: interrupts: no interrupt controller is found",
            "/b: interrupts: no node has phandle 0x4d",
            "/c: interrupts-extended: the value ends within an entry",
            "/e: interrupts-extended: the value ends within an entry",
        ]
    );
    let absurd = node("p", vec![("phandle", cells(&[5])), ("#interrupt-cells", cells(&[0x8000_0000]))], vec![]);
    let d = dev("d", vec![("interrupt-parent", cells(&[5])), ("interrupts", cells(&[1]))]);
    let tree = describe(&blob(vec![], vec![absurd, d]));
    assert_eq!(tree.notes(), ["/d: interrupts: a cell count of 2147483648 is not supported"]);
}

/// A controller with phandle 2 that maps its line 3 to the GIC's 40, and its line 5 to its own line 6.
fn mapping_controller(compatible: &str) -> dtoolkit::model::DeviceTreeNode {
    let map = [3, 1, 0, 40, 4, 5, 2, 6].as_slice();
    let props = vec![
        ("compatible", text(&[compatible])),
        ("phandle", cells(&[2])),
        ("#interrupt-cells", cells(&[1])),
        ("#address-cells", cells(&[0])),
        flag("interrupt-controller"),
        ("interrupt-map", cells(map)),
    ];
    node("pic", props, vec![])
}

#[test]
fn a_controllers_own_map_takes_precedence() {
    let d = |line| dev("d", vec![("interrupts-extended", cells(&[2, line]))]);
    let of = |compatible, line| Described::of(vec![gic(), mapping_controller(compatible), d(line)]);
    let tree = of("test,pic", 3);
    assert_eq!((lines(&tree, "d"), tree.notes()), (vec![(72, Trigger::LevelHigh)], vec![]));
    let tree = of("test,pic", 5);
    assert_eq!((tree.suppliers("d"), tree.notes()), (vec!["interrupts-extended -> /pic [6]".into()], vec![]));
    let tree = of("test,pic", 4);
    assert_eq!(tree.suppliers("d"), ["interrupts-extended -> /pic [4]"]);
    assert_eq!(
        tree.notes(),
        ["/d: interrupts-extended: the interrupt map of /pic has no entry for it; /pic serves it itself"]
    );
    let tree = of("fsl,ls1021a-extirq", 3);
    assert_eq!(tree.suppliers("d"), ["interrupts-extended -> /pic [3]"], "its map has a format of its own");
}
