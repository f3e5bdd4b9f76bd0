//! Descriptions of the simulated boards from their device trees.

use bindery::addr::PhysAddr;
use bindery::device::{DeviceDesc, Nodes, Resource, SupplierKind};
use bindery::env::{IrqLine, Trigger};
use bindery::firmware::fdt::{self, Description};

const BOARD: &[u8] = include_bytes!("../../sim/boards/salvator-xs.dtb");
const GUEST: &[u8] = include_bytes!("../../sim/boards/guest-sata.dtb");

fn describe(blob: &[u8]) -> (Description, Nodes) {
    let mut nodes = Nodes::new();
    let description = fdt::describe(blob, &mut nodes).expect("the board's tree is valid");
    (description, nodes)
}

fn device<'d>(description: &'d Description, name: &str) -> &'d DeviceDesc {
    description.devices.iter().find(|d| &*d.name == name).unwrap_or_else(|| panic!("no device {name}"))
}

/// Suppliers as `kind label(args)`.
fn suppliers(device: &DeviceDesc, nodes: &Nodes) -> Vec<String> {
    let show = |node| nodes.get(node).label.clone().unwrap_or_else(|| nodes.get(node).path.clone());
    device.suppliers.iter().map(|s| format!("{:?} {} {} {:?}", s.kind, s.property, show(s.node), s.args)).collect()
}

fn level(line: u32) -> Resource {
    Resource::Irq { line: IrqLine(line), trigger: Trigger::LevelHigh }
}

#[test]
fn the_board_has_no_notes() {
    let (board, _) = describe(BOARD);
    assert_eq!(board.notes, []);
    assert_eq!(board.model.as_deref(), Some("Renesas Salvator-X 2nd version board based on r8a77951"));
    assert_eq!(board.compatible, ["renesas,salvator-xs".into(), "renesas,r8a7795".into()]);
    assert_eq!(describe(GUEST).0.notes, []);
}

#[test]
fn sata_is_described_with_its_resources_and_suppliers() {
    let (board, nodes) = describe(BOARD);
    let sata = device(&board, "ee300000.sata");
    assert_eq!(sata.compatible, ["renesas,sata-r8a7795".into(), "renesas,rcar-gen3-sata".into()]);
    assert_eq!(sata.resources, [Resource::Mem { base: PhysAddr(0xee300000), len: 0x20_0000 }, level(32 + 105)]);
    assert_eq!(
        suppliers(sata, &nodes),
        [
            "Interrupt interrupts gic [0, 105, 4]",
            "Clock clocks cpg [1, 815]",
            "Power power-domains sysc [32]",
            "Reset resets cpg [815]",
            "Iommu iommus ipmmu_hc [2]",
        ]
    );
    assert!(!sata.dma.coherent && sata.dma.ranges.is_empty());
    assert_eq!(sata.parent, nodes.find("/soc"));
    assert_eq!(nodes.name(sata.node.unwrap()), "sata (/soc/sata@ee300000)");
}

#[test]
fn a_leaf_ipmmu_depends_on_its_main_instance() {
    let (board, nodes) = describe(BOARD);
    let leaf = device(&board, "e6570000.mmu");
    assert_eq!(suppliers(leaf, &nodes), ["Other renesas,ipmmu-main ipmmu_mm [2]", "Power power-domains sysc [32]"]);
    assert!(leaf.property("renesas,ipmmu-main").is_some());
    let main = device(&board, "e67b0000.mmu");
    assert_eq!(
        main.resources,
        [Resource::Mem { base: PhysAddr(0xe67b0000), len: 0x1000 }, level(32 + 196), level(32 + 197)]
    );
}

#[test]
fn a_pin_group_belongs_to_the_pin_controller() {
    let (board, nodes) = describe(BOARD);
    let serial = device(&board, "e6e88000.serial");
    let pins = serial.suppliers.iter().find(|s| &*s.property == "pinctrl-0").unwrap();
    assert_eq!(&*nodes.get(pins.node).path, "/soc/pinctrl@e6060000");
    assert_eq!(&*nodes.get(pins.target).path, "/soc/pinctrl@e6060000/scif2");
    let mmc = device(&board, "ee140000.mmc");
    let supplies: Vec<_> = suppliers(mmc, &nodes).into_iter().filter(|s| s.contains("-supply")).collect();
    assert_eq!(supplies, ["Regulator vmmc-supply reg_3p3v []", "Regulator vqmmc-supply reg_1p8v []"]);
}

#[test]
fn platform_devices_and_other_nodes_are_separate_lists() {
    let (board, nodes) = describe(BOARD);
    let names: Vec<_> = board.devices.iter().map(|d| &*d.name).collect();
    for name in ["soc", "psci", "timer", "extal", "e60b0000.i2c", "e6800000.ethernet", "f1010000.interrupt-controller"]
    {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert!(!names.iter().any(|n| n.contains("watchdog")), "a disabled node became a device");
    let others: Vec<_> =
        board.others.iter().map(|o| (&*nodes.get(o.node).path, o.parent.map_or("", |p| &*nodes.get(p).path))).collect();
    assert_eq!(
        others,
        [
            ("/reserved-memory/linux,cma@7c000000", ""),
            ("/cpus/cpu@0", ""),
            ("/cpus/cpu@1", ""),
            ("/soc/i2c@e60b0000/pmic@30", "/soc/i2c@e60b0000"),
            ("/soc/i2c@e60b0000/eeprom@50", "/soc/i2c@e60b0000"),
            ("/soc/i2c@e6510000/codec@10", "/soc/i2c@e6510000"),
        ]
    );
    let watchdog = nodes.find("/soc/watchdog@e6020000").unwrap();
    assert!(!nodes.get(watchdog).enabled);
}

#[test]
fn memory_and_the_cma_region_are_described() {
    let (board, _) = describe(BOARD);
    assert_eq!(board.memory, [(PhysAddr(0x4800_0000), 0x3800_0000)]);
    let [cma] = &board.reserved[..] else { panic!("{:?}", board.reserved) };
    assert_eq!((cma.base, cma.len), (Some(PhysAddr(0x7c00_0000)), 0x100_0000));
    assert!(cma.cma && cma.cma_default && cma.reusable && !cma.no_map);
}

#[test]
fn aliases_name_nodes() {
    let (board, nodes) = describe(BOARD);
    let alias = |name: &str| board.aliases.iter().find(|(n, _)| &**n == name).map(|(_, id)| &*nodes.get(*id).path);
    assert_eq!(alias("serial0"), Some("/soc/serial@e6e88000"));
    assert_eq!(alias("mmc0"), Some("/soc/mmc@ee140000"));
    assert_eq!(alias("serial1"), None);
}

#[test]
fn the_guest_has_the_controller_without_the_hosts_suppliers() {
    let (guest, nodes) = describe(GUEST);
    let sata = device(&guest, "ee300000.sata");
    assert_eq!(sata.resources, [Resource::Mem { base: PhysAddr(0xee300000), len: 0x20_0000 }, level(32 + 105)]);
    assert_eq!(sata.suppliers.iter().map(|s| s.kind).collect::<Vec<_>>(), [SupplierKind::Interrupt]);
    assert_eq!(guest.memory, [(PhysAddr(0x4000_0000), 16 << 20)]);
    assert_eq!(nodes.name(sata.node.unwrap()), "sata (/soc/sata@ee300000)");
}
