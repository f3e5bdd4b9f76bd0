//! F03, F04: devices that run before their IOMMU, and an IOMMU that refuses.

use bindery::driver::Errno;
use bindery::env::Site;
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
    d.suppliers.push(need(r.node(HC), bindery::device::SupplierKind::Iommu, "iommus", &[5]));
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
    for site in [Site::DomainAlloc, Site::DomainAttach, Site::GroupClaim] {
        r.board.faults().fail_sites(&[site]);
        let refused = r.machine.bind(SATA, "sata_rcar").unwrap_err();
        r.board.faults().never();
        assert_eq!((refused.errno(), r.driver(SATA)), (Errno::ENOMEM, None), "{site:?}: {refused}");
        assert_eq!(r.reach(SATA_UTLB, 0x4800_0000, true), None, "{site:?}: not translated, so blocked (P10)");
        r.machine.bind(SATA, "sata_rcar").unwrap();
        r.machine.unbind(SATA, "sata_rcar").unwrap();
    }
    assert_eq!(r.machine.promises().broken(), []);
}
