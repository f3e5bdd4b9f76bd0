//! F03, F04: devices that run before their IOMMU, and an IOMMU that refuses.

use bindery::addr::DeviceAddr;
use bindery::device::{RegionKind, ReservedRegion, Supplier, SupplierKind};
use bindery::driver::Errno;
use bindery::instrument::FaultPoint;
use bindery::machine::Policy;
use bindery_sim::salvator::{self, Salvator};

use super::dma::*;

#[test]
fn f03_dma_that_somebody_else_left_running_is_blocked_when_the_iommu_binds() {
    let r = rig_on(Salvator::new().disk(disk()), Policy::default(), salvator::DEVICE_TREE, |_| ());
    // A master for which there is no driver: nobody stops it.
    r.machine.add_device(dev("orphan", "acme,nobody-drives-it")).unwrap();
    let ram = 0x4800_0000;
    r.machine.settle();
    let mut d = dev("left-running", "acme,nobody-drives-it");
    d.suppliers.push(need(r.node(HC), SupplierKind::Iommu, "iommus", &[5]));
    r.machine.add_device(d).unwrap();
    assert_eq!(r.reach(5, ram, true), None, "blocked as soon as it is known");
    // Its IOMMU goes and comes back.
    r.machine.unbind(HC, "ipmmu-vmsa").unwrap();
    r.machine.bind(HC, "ipmmu-vmsa").unwrap();
    r.machine.settle();
    assert_eq!((r.reach(5, ram, true), r.driver(SATA)), (None, Some("sata_rcar")));
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f04_a_device_that_its_iommu_does_not_take_is_not_bound_and_is_once_it_does() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    for point in [FaultPoint::DomainAlloc, FaultPoint::DomainAttach, FaultPoint::GroupClaim] {
        r.board.faults().fail_points(&[point]);
        let refused = r.machine.bind(SATA, "sata_rcar").unwrap_err();
        r.board.faults().never();
        assert_eq!((refused.errno(), r.driver(SATA)), (Errno::ENOMEM, None), "{point:?}: {refused}");
        assert_eq!(r.reach(SATA_UTLB, 0x4800_0000, true), None, "{point:?}: not translated, so blocked (P10)");
        r.machine.bind(SATA, "sata_rcar").unwrap();
        r.machine.unbind(SATA, "sata_rcar").unwrap();
    }
    assert_eq!(r.machine.promises().broken(), []);
}

/// A device comes whose streams are of two groups that kernel drivers use: they cannot become one address space under them.
#[test]
fn a_device_between_two_groups_in_use_is_blocked_and_bound_when_one_is_idle() {
    let r = rig();
    r.machine.settle();
    let ds1 = need(r.node(DS1), SupplierKind::Iommu, "iommus", &[40]);
    r.add_master("one", 9, 929, |_| ());
    r.add_master("two", 9, 930, |d| d.suppliers[0] = ds1.clone());
    r.machine.settle();
    assert_eq!((r.driver("one"), r.driver("two")), (Some("acme_master"), Some("acme_master")));
    assert_ne!(r.group_of("one"), r.group_of("two"));
    let at = r.master("one", |m| m.share(4096)).unwrap();
    r.add_master("between", 10, 931, |d| d.suppliers.push(Supplier { args: vec![41], ..ds1.clone() }));
    r.events();
    r.machine.settle();
    assert_eq!((r.driver("between"), r.reach(10, at.0, true)), (None, None), "P7, P10: blocked, bound by nobody");
    let events = r.events();
    let reason = "cannot be merged while they are in use";
    assert!(events.iter().any(|l| l.starts_with("between: ") && l.contains(reason)), "{events:?}");
    let waits = r.machine.waiting().into_iter().find(|w| &*w.device == "between").map(|w| w.on.join(", "));
    assert!(waits.as_ref().is_some_and(|w| w.contains(reason)), "{waits:?}");
    // One of both groups falls idle.
    r.machine.unbind("two", "acme_master").unwrap();
    r.machine.settle();
    assert_eq!((r.driver("one"), r.driver("between")), (Some("acme_master"), Some("acme_master")));
    assert_eq!(r.group_of("one"), r.group_of("two"), "what it joins is one group");
    assert!(r.reach(10, at.0, true).is_some(), "one group is one address space");
    // When it goes, they fall apart once nothing of the group is bound.
    r.machine.remove_device("between");
    r.machine.unbind("one", "acme_master").unwrap();
    assert_eq!(r.group_of("one"), r.group_of("two"), "the disk controller's driver uses the address space");
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    assert_ne!(r.group_of("one"), r.group_of("two"));
    assert_eq!(r.machine.promises().broken(), []);
}

/// A device comes whose streams are of a group in use and of an idle one, to which a neighbour belongs whose region is at addresses in use.
/// Nothing keeps them apart once the neighbour has left.
#[test]
fn a_device_that_waited_for_its_neighbour_is_bound_when_that_has_left() {
    let r = rig();
    r.machine.settle();
    let ds1 = need(r.node(DS1), SupplierKind::Iommu, "iommus", &[40]);
    r.add_master("one", 9, 929, |_| ());
    r.machine.settle();
    let at = r.master("one", |m| m.share(4096)).unwrap();
    r.add_master("neighbour", 9, 930, |d| {
        d.suppliers[0] = ds1.clone();
        d.compatible = vec!["acme,nobody-drives-it".into()];
        let (first, last) = (at, DeviceAddr(at.0 + 0xfff));
        d.dma.reserved.push(ReservedRegion { first, last, kind: RegionKind::Direct });
    });
    r.add_master("between", 10, 931, |d| d.suppliers.push(Supplier { args: vec![41], ..ds1.clone() }));
    r.machine.settle();
    assert_eq!((r.driver("one"), r.driver("between")), (Some("acme_master"), None), "the address is in use");
    r.machine.remove_device("neighbour");
    r.machine.settle();
    assert_eq!((r.driver("between"), r.group_of("between")), (Some("acme_master"), r.group_of("one")));
    assert_eq!(r.machine.promises().broken(), []);
}
