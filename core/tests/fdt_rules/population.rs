//! Creation and naming of platform devices.

use bindery::device::Nodes;

use super::blob::{Described, blob, bus, cells, describe, dev, flag, node, text};

#[test]
fn devices_are_children_of_the_root_or_of_a_bus() {
    let client = dev("chip@10", vec![("reg", cells(&[0x10]))]);
    let i2c = node(
        "i2c@1000",
        vec![
            ("compatible", text(&["test,i2c"])),
            ("reg", cells(&[0x1000, 0x100])),
            ("#address-cells", cells(&[1])),
            ("#size-cells", cells(&[0])),
        ],
        vec![client],
    );
    let plain = node("container", vec![], vec![dev("inside", vec![])]);
    let tree = Described::of(vec![bus("soc", vec![flag("ranges")], vec![i2c]), plain, dev("board", vec![])]);
    assert_eq!(tree.names(), ["soc", "1000.i2c", "board"]);
    let others: Vec<_> = tree.all.others.iter().map(|o| &*tree.nodes.get(o.node).path).collect();
    assert_eq!(others, ["/soc/i2c@1000/chip@10", "/container/inside"]);
    assert_eq!(tree.all.others[0].parent, tree.nodes.find("/soc/i2c@1000"));
    assert_eq!(tree.all.others[1].parent, None);
}

#[test]
fn every_bus_type_is_populated() {
    for kind in ["simple-bus", "simple-mfd", "isa", "arm,amba-bus"] {
        let parent = node("up", vec![("compatible", text(&["test,first", kind]))], vec![dev("below", vec![])]);
        assert_eq!(Described::of(vec![parent]).names(), ["up", "up:below"], "{kind}");
    }
    let cell = node("up", vec![("compatible", text(&["arm,primecell", "simple-bus"]))], vec![dev("below", vec![])]);
    assert_eq!(Described::of(vec![cell]).names(), ["up"]);
}

#[test]
fn a_disabled_node_disables_its_descendants() {
    let off = bus("off", vec![("status", text(&["disabled"]))], vec![dev("below", vec![])]);
    let reserved = dev("reserved", vec![("status", text(&["reserved"]))]);
    let okay = dev("fine", vec![("status", text(&["okay"]))]);
    let ok = dev("fine-too", vec![("status", text(&["ok"]))]);
    let tree = Described::of(vec![off, reserved, okay, ok]);
    assert_eq!(tree.names(), ["fine", "fine-too"]);
    assert!(tree.all.others.is_empty());
    let below = tree.nodes.find("/off/below").unwrap();
    assert!(!tree.nodes.get(below).enabled);
}

#[test]
fn opp_tables_are_not_devices_and_children_of_firmware_are() {
    let table = node("opp", vec![("compatible", text(&["operating-points-v2"]))], vec![]);
    let firmware = node("firmware", vec![], vec![dev("scmi", vec![])]);
    let tree = Described::of(vec![table, firmware]);
    assert_eq!(tree.names(), ["firmware:scmi"]);
    assert_eq!(tree.all.others.len(), 1);
}

#[test]
fn names_use_the_first_cpu_address() {
    let child = dev("port@40", vec![("reg", cells(&[0x40, 0x10]))]);
    let mapped = bus("soc@8000", vec![("ranges", cells(&[0, 0x8000, 0x1000]))], vec![child, dev("led", vec![])]);
    let bit = dev("led@8", vec![("reg", cells(&[8, 4])), ("mask", cells(&[0x40]))]);
    let tree = Described::of(vec![mapped, bit]);
    assert_eq!(tree.names(), ["soc@8000", "8040.port", "soc@8000:led", "8.6.led"]);
}

#[test]
fn a_child_without_an_address_is_named_after_the_nearest_ancestor_with_one() {
    let mfd = node(
        "syscon@9000",
        vec![("compatible", text(&["syscon", "simple-mfd"])), ("reg", cells(&[0x9000, 0x100]))],
        vec![dev("reboot", vec![])],
    );
    assert_eq!(Described::of(vec![mfd]).names(), ["9000.syscon", "9000.syscon:reboot"]);
}

#[test]
fn devices_of_equal_names_get_numbers() {
    let tree =
        Described::of(vec![dev("a@0", vec![("reg", cells(&[8, 4]))]), dev("a@1", vec![("reg", cells(&[8, 4]))])]);
    assert_eq!(tree.names(), ["8.a", "8.a#1"]);
    assert_eq!(tree.notes(), ["/a@1: reg: another device is called 8.a, too"]);
}

#[test]
fn labels_and_aliases_are_read() {
    let symbols = node("__symbols__", vec![("uart", text(&["/serial"])), ("gone", text(&["/nowhere"]))], vec![]);
    let aliases = node("aliases", vec![("serial0", text(&["/serial"])), ("bad", text(&["serial"]))], vec![]);
    let tree = Described::of(vec![dev("serial", vec![]), symbols, aliases]);
    let serial = tree.nodes.find("/serial").unwrap();
    assert_eq!(tree.nodes.name(serial), "uart (/serial)");
    assert_eq!(tree.all.aliases, [("serial0".into(), serial)]);
    assert_eq!(tree.notes(), ["/__symbols__: gone: not the path of a node", "/aliases: bad: not the path of a node"]);
}

#[test]
fn properties_of_at_most_256_bytes_are_copied() {
    let small =
        dev("a", vec![("x,small", vec![7; 256]), ("x,big", vec![7; 257]), flag("x,flag"), ("phandle", cells(&[9]))]);
    let tree = Described::of(vec![small]);
    let device = tree.device("a");
    assert_eq!(device.property("x,small").map(<[u8]>::len), Some(256));
    assert_eq!(device.property("x,flag"), Some(&[][..]));
    assert_eq!((device.property("x,big"), device.property("phandle")), (None, None));
}

#[test]
fn model_and_memory_are_read() {
    let bank =
        node("memory@80", vec![("device_type", text(&["memory"])), ("reg", cells(&[0x80, 0x10, 0xa0, 0x20]))], vec![]);
    let pool = vec![("compatible", text(&["shared-dma-pool"])), flag("reusable"), flag("linux,cma-default")];
    let anywhere = [pool.clone(), vec![("size", cells(&[0x1000])), ("alloc-ranges", cells(&[0x80, 0x10]))]].concat();
    let fixed = vec![flag("no-map"), ("reg", cells(&[0x90, 4]))];
    let reserved = node(
        "reserved-memory",
        vec![flag("ranges")],
        vec![node("cma", anywhere, vec![]), node("fw@90", fixed, vec![])],
    );
    let tree = describe(&blob(vec![("model", text(&["A board"]))], vec![bank, reserved]));
    assert_eq!(tree.all.model.as_deref(), Some("A board"));
    assert_eq!(tree.all.memory.iter().map(|(b, l)| (b.0, *l)).collect::<Vec<_>>(), [(0x80, 0x10), (0xa0, 0x20)]);
    let [cma, fw] = &tree.all.reserved[..] else { panic!("{:?}", tree.all.reserved) };
    assert!(cma.base.is_none() && cma.len == 0x1000 && cma.cma && cma.cma_default && cma.within.len() == 1);
    assert!(fw.base.is_some_and(|b| b.0 == 0x90) && fw.len == 4 && fw.no_map && !fw.cma);
}

/// What the last reading says, as if it were the only one.
#[test]
fn aliases_are_those_of_the_tree_that_was_read_last() {
    let tree = |of: &[(&'static str, &'static str)]| {
        let props = of.iter().map(|(alias, path)| (*alias, text(&[path]))).collect();
        blob(vec![], vec![dev("a", vec![]), dev("b", vec![]), node("aliases", props, vec![])])
    };
    let trees = [
        tree(&[("serial0", "/a")]),
        tree(&[("serial0", "/b")]),
        tree(&[("serial0", "/a"), ("serial1", "/a")]),
        tree(&[]),
    ];
    let read = |nodes: &mut Nodes, blob: &[u8]| {
        bindery::firmware::fdt::describe(blob, nodes).unwrap();
        ["/a", "/b"].map(|path| nodes.get(nodes.find(path).unwrap()).aliases.clone())
    };
    for (first, then) in trees.iter().flat_map(|first| trees.iter().map(move |then| (first, then))) {
        let mut nodes = Nodes::new();
        read(&mut nodes, first);
        assert_eq!(read(&mut nodes, then), read(&mut Nodes::new(), then));
    }
}
