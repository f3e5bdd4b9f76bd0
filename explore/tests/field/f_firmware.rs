//! F08, F09, F19, F20, F33, F42: what a device tree does not mean.

use bindery::addr::PhysAddr;
use bindery::device::{NodeId, Nodes, Resource};
use bindery::firmware::fdt::{Description, describe};

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

#[test]
fn f33_registers_that_no_bus_maps_are_none_and_are_noted() {
    let (d, _) = read(NODES);
    let registers = |name: &str| -> Vec<PhysAddr> {
        let device = d.devices.iter().find(|d| d.name.contains(name)).unwrap_or_else(|| panic!("no device {name}"));
        device
            .resources
            .iter()
            .filter_map(|r| if let Resource::Mem { base, .. } = r { Some(*base) } else { None })
            .collect()
    };
    assert_eq!(registers("inside"), [PhysAddr(0x2000_0800)]);
    let notes: Vec<_> = d.notes.iter().map(ToString::to_string).collect();
    for name in ["untranslated", "outside"] {
        assert_eq!(registers(name), [], "{name}");
        assert!(notes.iter().any(|n| n.contains(name) && n.contains("reg")), "{name}: {notes:?}");
    }
}

#[test]
fn f42_an_empty_window_onto_memory_is_one_to_one_and_the_next_bus_translates() {
    let (d, _) = read(NODES);
    let device = d.devices.iter().find(|d| d.name.contains("empty-is-one-to-one")).unwrap();
    let windows: Vec<_> = device.dma.ranges.iter().map(|r| (r.bus, r.phys, r.len)).collect();
    assert_eq!(windows, [(0x8000_0000, PhysAddr(0x4000_0000), 0x1000_0000)]);
}
