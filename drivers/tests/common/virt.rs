//! The board `virt`, with the host bridge's driver.
#![allow(dead_code)]

use std::sync::Arc;

use bindery::device::{DeviceDesc, Nodes, Supplier, SupplierKind};
use bindery::env::Env;
use bindery::firmware::fdt;
use bindery::iommu::Grouping;
use bindery::machine::{Handle, Machine, Policy};
use bindery_drivers::edu::Edu;
use bindery_drivers::pci_host::PciHost;
use bindery_sim::mmu::{Mmu, MmuDriver};
use bindery_sim::virt::{self, Virt};

use super::Rig;

/// Requester IDs of the first `edu`, of its sibling, of the bridge to their bus, which stands in for them, and of the `edu` on the host
/// bridge's bus.
const REQUESTERS: [(u32, u32); 4] = [(0x208, 0), (0x210, 1), (0x200, 5), (0x10, 7)];

/// With the device tree.
pub fn rig(virt: Virt) -> Rig {
    let board = virt.build();
    board.keep_events(1 << 16);
    let machine = board.machine(Policy::default());
    machine.register(PciHost::default());
    machine.add_device_tree(virt::DEVICE_TREE).unwrap();
    machine.settle();
    Rig { board, machine }
}

/// With the first `edu` as stream 0 of an IOMMU, and the drivers that `register` adds.
pub fn translated(virt: Virt, register: impl FnOnce(&Handle)) -> (Rig, Arc<Mmu>) {
    translated_on(virt, |board| board, register)
}

/// As [`translated`], on the env that `env` makes of the board.
pub fn translated_on(
    virt: Virt,
    env: impl FnOnce(Arc<dyn Env>) -> Arc<dyn Env>,
    register: impl FnOnce(&Handle),
) -> (Rig, Arc<Mmu>) {
    let mmu = Mmu::new("mmu", Grouping::PerStream);
    let board = virt.behind(&mmu).build();
    board.keep_events(1 << 16);
    let env = env(Arc::clone(&board) as _);
    let machine = Machine::with_instrument(env, Policy::default(), Arc::clone(&board) as _);
    machine.register(MmuDriver([("mmu".to_owned(), Arc::clone(&mmu))].into()));
    let mut desc = DeviceDesc::new("mmu");
    desc.compatible.push("test,mmu".into());
    let node = machine.add_device(desc).unwrap().node();
    let tree = fdt::describe(virt::DEVICE_TREE, &mut Nodes::new()).unwrap();
    let mut host = tree.devices.into_iter().find(|d| d.interrupt_map.is_some()).unwrap();
    (host.node, host.parent) = (None, None);
    let entry = |(requester, stream)| {
        let (kind, property) = (SupplierKind::Iommu, "iommu-map".into());
        Supplier { node, target: node, kind, property, args: vec![requester, stream, 1] }
    };
    host.suppliers = REQUESTERS.map(entry).into();
    machine.register(PciHost::default());
    register(&machine);
    machine.add_device(host).unwrap();
    machine.settle();
    (Rig { board, machine }, mmu)
}

/// Has the driver of the `edu` called `name` transfer bytes there and back.
#[track_caller]
pub fn transfers(rig: &Rig, name: &str) {
    let mut back = [0; 5];
    let client = rig.machine.client::<Edu>(name).unwrap();
    client.call(|port| port.write(7, b"bytes")).unwrap().unwrap();
    client.call(|port| port.read(7, &mut back)).unwrap().unwrap();
    assert_eq!(&back, b"bytes");
    rig.assert_well();
}
