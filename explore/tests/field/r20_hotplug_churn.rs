//! Devices come and go for a long time, each under a new name (as USB and PCI hot-plug make them).

use super::dma;
use super::kernel::*;
use bindery::addr::DeviceAddr;
use bindery::device::SupplierKind;
use bindery::dma::DmaMemory;
use bindery::iommu::Prot;
use bindery::machine::Machine;

/// Nodes that are in use, and those that are known, which includes the last ones that went out of use.
fn nodes(machine: &Machine) -> (usize, usize) {
    machine.with_nodes(|n| (n.len(), n.iter().count()))
}

/// Nodes out of use that stay known for a while.
const REMEMBERED: usize = 1024;

#[test]
fn devices_that_come_and_go_under_new_names_leave_nothing_bound_waiting_or_held() {
    let rig = rig();
    rig.board.keep_events(0);
    rig.machine.settle();
    let (devices, before) = (rig.machine.devices().len(), rig.machine.resource_usage());
    let (used, known) = nodes(&rig.machine);
    for n in 0..20_000 {
        let (parent, child) = (format!("hub-{n}"), format!("hot-{n}"));
        let node = rig.machine.add_device(dev(&parent, "t,hub")).unwrap().node();
        let mut below = dev(&child, "t,hot");
        below.parent = Some(node);
        rig.machine.add_device(below).unwrap();
        rig.machine.settle();
        assert!(rig.machine.remove_device(&parent));
        assert!(rig.machine.device(&child).is_none(), "its children go with it");
    }
    assert_eq!((rig.machine.devices().len(), rig.machine.resource_usage()), (devices, before));
    assert_eq!(nodes(&rig.machine), (used, known + REMEMBERED), "names of long ago are forgotten");
    assert_eq!(rig.machine.promises().broken(), []);
}

/// Waits for a supplier that never comes, and for one that firmware describes and that has no driver.
#[test]
fn those_that_have_waited_leave_nothing() {
    let rig = rig();
    rig.board.keep_events(0);
    rig.machine.register(dma::Master);
    rig.machine.settle();
    let before = (nodes(&rig.machine), rig.machine.waiting());
    for n in 0..5_000 {
        let absent = rig.machine.with_nodes(|nodes| nodes.find_or_add(&format!("/absent-{n}")));
        let mut waits = dev(&format!("hot-{n}"), "acme,master");
        waits.suppliers.push(need(absent, SupplierKind::Other, "phys", &[]));
        rig.machine.add_device(waits).unwrap();
        rig.machine.settle();
        assert!(rig.machine.waiting().iter().any(|w| w.on[0] == format!("/absent-{n}: no such device")));
        assert!(rig.machine.remove_device(&format!("hot-{n}")));
    }
    let ((used, known), waiting) = before;
    assert_eq!((nodes(&rig.machine), rig.machine.waiting()), ((used, known + REMEMBERED), waiting));
    assert_eq!(rig.machine.promises().broken(), []);
}

/// A function of a network card is made for each guest that starts, and taken away when it ends.
#[test]
fn devices_of_guests_come_and_go() {
    let r = dma::rig();
    r.board.keep_events(0);
    r.machine.settle();
    // Of the same group.
    r.machine.unbind(dma::SATA, "sata_rcar").unwrap();
    let ram = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    let (before, groups) = (r.machine.resource_usage(), r.machine.groups().len());
    let (used, known) = nodes(&r.machine);
    for n in 0..1_500 {
        let name = format!("vf-{n}");
        r.add_master(&name, 5, 929, |_| ());
        r.machine.settle();
        r.give(&name);
        let session = r.open(&name).unwrap();
        session.map(DeviceAddr(0x10_0000), &ram, 0, 4096, Prot::READ.union(Prot::WRITE)).unwrap();
        match n % 3 {
            0 => drop(session),
            // The guest still has it when it goes.
            1 => assert!(r.machine.device_vanished(&name)),
            _ => assert!(r.machine.remove_device(&name)),
        }
        r.machine.remove_device(&name);
        assert!(r.machine.device(&name).is_none());
    }
    assert_eq!((r.machine.resource_usage(), r.machine.groups().len()), (before, groups));
    assert_eq!(nodes(&r.machine), (used, known + REMEMBERED));
    assert!(r.machine.fault_counts().is_empty() && r.machine.pinned_supplies().is_empty());
    assert_eq!(r.machine.promises().broken(), []);
}
