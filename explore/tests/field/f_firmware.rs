//! F08, F09, F19, F20, F33, F42: what a device tree does not mean.

use bindery::addr::PhysAddr;
use bindery::device::{NodeId, Nodes, Resource};
use bindery::driver::Driver;
use bindery::firmware::fdt::{Description, describe};

use super::dma::rig_with;
use super::s05_dma_ranges::Free;

const MEMORY: &[u8] = include_bytes!("trees/f_memory.dtb");
const NODES: &[u8] = include_bytes!("trees/f_nodes.dtb");

fn read(blob: &[u8]) -> (Description, Nodes) {
    let mut nodes = Nodes::new();
    (describe(blob, &mut nodes).unwrap(), nodes)
}

#[test]
fn f08_f09_every_reservation_is_listed_also_those_that_overlap_and_leave_ram() {
    let (d, _) = read(MEMORY);
    let reserved = |at: u64| d.reserved.iter().any(|r| r.base.is_some_and(|b| (b.0..b.0 + r.len).contains(&at)));
    for page in [0x4800_0000, 0x4800_2000, 0x4800_3fff, 0x4801_0000, 0x4801_4000, 0x4801_bfff, 0x480f_f000] {
        assert!(reserved(page), "{page:#x} is not for general use");
    }
    for page in [0x4800_4000, 0x4800_f000, 0x4801_c000, 0x480f_e000] {
        assert!(!reserved(page), "{page:#x} is ordinary RAM");
    }
}

#[test]
fn f19_nothing_is_made_of_disabled_nodes_nor_of_what_lies_below_them() {
    let (d, _) = read(NODES);
    let names: Vec<_> = d.devices.iter().map(|d| &*d.name).collect();
    assert!(!names.iter().any(|n| n.contains("off") || n.contains("below")), "{names:?}");
}

fn node(nodes: &Nodes, path: &str) -> NodeId {
    nodes.find(path).unwrap_or_else(|| panic!("no node {path}"))
}

#[test]
fn f20_a_supplier_that_is_a_node_below_a_device_is_that_device() {
    let (d, nodes) = read(NODES);
    let net = d.devices.iter().find(|d| &*d.name == "3000.net").unwrap();
    let (eeprom, mac) = (node(&nodes, "/eeprom@2000"), node(&nodes, "/eeprom@2000/nvmem-layout/mac-addr@50"));
    let found: Vec<_> = net.suppliers.iter().map(|s| (s.node, s.target, &*s.property)).collect();
    assert_eq!(found, [(eeprom, mac, "nvmem-cells")], "not a node that never becomes a device");
}

/// The registers of a device: first byte and size.
fn registers(d: &Description, name: &str) -> Vec<(PhysAddr, u64)> {
    let device = d.devices.iter().find(|d| d.name.contains(name)).unwrap_or_else(|| panic!("no device {name}"));
    let all = device.resources.iter();
    all.filter_map(|r| if let Resource::Mem { base, len } = r { Some((*base, *len)) } else { None }).collect()
}

fn is_noted(d: &Description, words: [&str; 2]) {
    let notes: Vec<_> = d.notes.iter().map(ToString::to_string).collect();
    assert!(notes.iter().any(|n| words.iter().all(|w| n.contains(w))), "{words:?}: {notes:#?}");
}

#[test]
fn f33_registers_that_no_bus_maps_are_none_and_are_noted() {
    let (d, _) = read(NODES);
    assert_eq!(registers(&d, "inside"), [(PhysAddr(0x2000_0800), 0x100)]);
    for name in ["untranslated", "outside"] {
        assert_eq!(registers(&d, name), [], "{name}");
        is_noted(&d, [name, "reg"]);
    }
}

#[test]
fn f33_registers_that_leave_a_bus_window_are_none_and_are_noted() {
    let (d, _) = read(NODES);
    assert_eq!(registers(&d, "meets"), [(PhysAddr(0x2800_0f80), 0x100)], "both windows lead to one piece");
    for name in ["across", "parts"] {
        assert_eq!(registers(&d, name), [], "{name}");
        is_noted(&d, [name, "reg: "]);
    }
    assert_eq!(registers(&d, "later"), [(PhysAddr(0x2800_0000), 0x80)], "what follows is not renumbered");
    is_noted(&d, ["later", "a part of the region"]);
}

#[test]
fn f42_an_empty_window_onto_memory_is_one_to_one_and_the_next_bus_translates() {
    let (d, _) = read(NODES);
    for name in ["empty-is-one-to-one", "own-bus-is-silent"] {
        let device = d.devices.iter().find(|d| d.name.contains(name)).unwrap();
        let windows: Vec<_> = device.dma.ranges.iter().map(|r| (r.bus, r.phys, r.len)).collect();
        assert_eq!(windows, [(0x8000_0000, PhysAddr(0x4000_0000), 0x1000_0000)], "{name}");
    }
}

#[test]
fn f42_a_bus_without_dma_ranges_amid_others_leaves_its_devices_without_dma() {
    let (d, _) = read(NODES);
    is_noted(&d, ["glue@8000: dma-ranges", "/dma-bus@30000000"]);
    is_noted(&d, ["gap@9000: dma-ranges", "/dma-bus@30000000"]);
    // The device that does no DMA binds, and one that needs some gets an error with the reason.
    let r = rig_with(Default::default(), NODES);
    r.machine.register(Free);
    r.machine.settle();
    let dma_of = |name: &str| {
        let device = d.devices.iter().find(|d| d.name.contains(name)).unwrap();
        let client = r.machine.client::<Free>(&device.name).ok_or_else(|| {
            let e = r.machine.bind(&device.name, Free::NAME).unwrap_err();
            format!("{e}")
        });
        (device.dma.ranges.len(), client.map(|c| c.call(|at| *at).unwrap()))
    };
    for name in ["silent-in-the-middle", "silent-above-windows"] {
        let (windows, result) = dma_of(name);
        let why = result.unwrap_err();
        assert!(windows == 0 && why.contains("no DMA") && why.contains("dma-ranges"), "{name}: {why}");
        let device = d.devices.iter().find(|d| d.name.contains(name)).unwrap();
        assert!(device.dma.unreadable.as_ref().is_some_and(|why| why.contains("absent")), "{:?}", device.dma);
    }
    let (windows, at) = dma_of("silent-up-to-the-root");
    let inside = at.as_ref().is_ok_and(|at| *at < 0x2000_0000);
    assert!(windows == 1 && inside, "the window of its own bus: {at:x?}");
    assert_eq!(r.machine.promises().broken(), []);
}
