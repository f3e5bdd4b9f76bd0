//! F32. Device to device: a DMA controller that reaches the disk controller's registers, which nobody drives, a driver drives,
//! or a guest has.

use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::binding::Bound;
use bindery::control::Tree;
use bindery::device::SupplierKind;
use bindery::dma::{Direction, DmaMemory, MappedResource};
use bindery::driver::*;
use bindery::iommu::{OwnerId, Prot};
use bindery::machine::BindError;
use bindery_drivers::vfio::Vfio;
use bindery_sim::salvator::SATA_BASE;

const DMAC: &str = "dmac";

struct Dmac;
impl Driver for Dmac {
    const NAME: &'static str = DMAC;
    const MATCHES: &'static [Match] = &[Match::compatible("acme,dmac")];
    type Data<'b> = MappedResource<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<MappedResource<'b>, ProbeError> {
        Ok(dev.dma().map_resource(SATA_BASE, 4, Direction::Bidirectional)?)
    }
    fn quiesce(_: &MappedResource<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// The board with everything bound, and the DMA controller, which no IOMMU translates, without its driver.
fn with_dmac() -> Rig {
    let r = rig();
    r.machine.add_device(dev(DMAC, "acme,dmac")).unwrap();
    r.machine.settle();
    r
}

#[test]
fn registers_of_a_guest_are_refused_by_name_and_reached_when_they_come_back() {
    let r = with_dmac();
    r.give(SATA);
    r.machine.register(Dmac);
    r.machine.settle();
    assert_eq!(r.driver(DMAC), None);
    let e = r.machine.bind(DMAC, DMAC).unwrap_err();
    assert!(matches!(e, BindError::Probe { .. }), "{e}");
    assert!(e.to_string().contains("ee300000.sata (vfio-platform)"), "{e}");
    assert_eq!(e.errno(), Errno::EBUSY);
    let waits = r.machine.waiting().into_iter().find(|w| &*w.device == DMAC).unwrap();
    assert!(waits.on.join(" ").contains("vfio-platform"), "{waits:?}");
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    r.machine.settle();
    assert_eq!(r.driver(DMAC), Some(DMAC), "it was short of them, and is tried again");
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_guest_gets_what_a_device_reaches_when_it_does_not_any_more() {
    let r = with_dmac();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.machine.register(Dmac);
    r.machine.settle();
    assert_eq!((r.driver(DMAC), r.driver(SATA)), (Some(DMAC), None), "mapped while nobody drives it");
    let device = r.machine.device(SATA).unwrap();
    device.set_driver_override(Some("vfio-platform"));
    let e = r.machine.bind(SATA, "vfio-platform").unwrap_err().to_string();
    assert!(e.contains("held by dmac (DMA), peer"), "{e}");
    assert!(r.events().iter().any(|e| e.starts_with(SATA) && e.contains("held by dmac (DMA)")));
    let claims = Tree::new(&r.machine).read("/sys/kernel/bindery/claims").unwrap();
    assert!(claims.contains("registers 0xee300000 + 0x1000\tpeer\tdmac (DMA)"), "{claims}");
    r.machine.unbind(DMAC, DMAC).unwrap();
    r.machine.bind(SATA, "vfio-platform").unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_driver_that_comes_later_is_a_supplier_whatever_ends_it() {
    type End = fn(&Rig);
    let ends: [(&str, End); 3] = [
        ("unbind", |r| r.machine.unbind(SATA, "sata_rcar").unwrap()),
        ("removal", |r| assert!(r.machine.remove_device(SATA))),
        ("its clock goes", |r| r.machine.unbind(CPG, "renesas-cpg-mssr").unwrap()),
    ];
    for (what, end) in ends {
        let r = with_dmac();
        r.machine.unbind(SATA, "sata_rcar").unwrap();
        r.machine.register(Dmac);
        r.machine.settle();
        r.machine.bind(SATA, "sata_rcar").unwrap();
        assert_eq!((r.driver(DMAC), r.driver(SATA)), (Some(DMAC), Some("sata_rcar")), "{what}");
        r.events();
        end(&r);
        let events = r.events();
        let at = |device: &str| events.iter().position(|e| e.starts_with(device) && e.contains(": unbound from"));
        let order = (at(DMAC), at(SATA));
        assert!(order.0.is_some() && order.0 < order.1, "{what}: P6: {order:?} in {events:#?}");
        assert_eq!(r.machine.promises().broken(), [], "{what}");
    }
}

/// The DMA controller behind the disk's IOMMU, and where it has the disk controller's registers.
fn with_translated_dmac() -> (Rig, u64) {
    let r = rig();
    r.machine.settle();
    r.machine.register(Dmac);
    let mut d = dev(DMAC, "acme,dmac");
    d.suppliers.push(need(r.node(HC), SupplierKind::Iommu, "iommus", &[5]));
    r.machine.add_device(d).unwrap();
    r.machine.settle();
    let at = r.machine.client::<Dmac>(DMAC).unwrap().call(|mapped| mapped.device_addr().0).unwrap();
    assert_eq!((r.reach(5, at, true), r.reach(SATA_UTLB, at, true)), (Some(SATA_BASE), Some(SATA_BASE)));
    (r, at)
}

#[test]
fn f32_mapped_registers_are_out_of_reach_before_they_are_a_guests() {
    type End = fn(&Rig);
    let ends: [(&str, End); 3] = [
        ("unbind", |r| r.machine.unbind(SATA, "sata_rcar").unwrap()),
        ("driver removed", |r| assert!(r.machine.unregister("sata_rcar"))),
        ("vanished", |r| assert!(r.machine.device_vanished(SATA))),
    ];
    for (what, end) in ends {
        let (r, at) = with_translated_dmac();
        end(&r);
        assert_eq!(r.driver(DMAC), None, "{what}: who reaches them goes with their owner");
        assert_eq!([5, SATA_UTLB].map(|utlb| r.reach(utlb, at, true)), [None; 2], "{what}");
        if r.machine.device(SATA).is_some() {
            r.give(SATA);
            let session = r.open(SATA).unwrap();
            assert_eq!([5, SATA_UTLB].map(|utlb| r.reach(utlb, at, true)), [None; 2], "{what}: the guest's");
            // The group is the guest's, and so are the registers: the DMA controller gets neither.
            let e = r.machine.bind(DMAC, DMAC).unwrap_err();
            assert_eq!(e.errno(), Errno::EBUSY, "{what}: {e}");
            drop(session);
        }
        assert_eq!(r.machine.promises().broken(), [], "{what}");
    }
}

#[test]
fn f32_a_guests_devices_reach_each_others_memory_and_never_each_others_registers() {
    let r = rig();
    r.machine.settle();
    r.add_master("acme-nic", 5, 929, |_| ());
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.machine.unbind("acme-nic", "acme_master").unwrap();
    r.give(SATA);
    r.give("acme-nic");
    let guest = OwnerId::new("guest");
    let open = |name: &str| Vfio::open_as(&r.machine.client::<Vfio>(name).unwrap(), &guest).unwrap();
    let (disk, nic) = (open(SATA), open("acme-nic"));
    let ram = DmaMemory::allocate(r.machine.memory(), 0x4000).unwrap();
    let rw = Prot::READ | Prot::WRITE;
    // At the very addresses of the registers there is what the guest maps there, RAM, and nothing else.
    nic.map(DeviceAddr(SATA_BASE.0), &ram, 0, 0x1000, rw).unwrap();
    disk.map(DeviceAddr(SATA_BASE.0 + 0x1000), &ram, 0x1000, 0x1000, rw).unwrap();
    for (offset, len) in [(0x4000, 0x1000), (SATA_BASE.0 - ram.phys().0, 0x1000), (0_u64.wrapping_sub(0x1000), 0x1000)]
    {
        assert!(nic.map(DeviceAddr(0x10_0000), &ram, offset, len, rw).is_err(), "{offset:#x}: not the memory's");
    }
    let seen = |utlb| [0, 0x1000, 0x2000].map(|page| r.reach(utlb, SATA_BASE.0 + page, true));
    let (first, second) = (ram.phys(), bindery::addr::PhysAddr(ram.phys().0 + 0x1000));
    assert_eq!([5, SATA_UTLB].map(seen), [[Some(first), Some(second), None]; 2]);
    // The owner of the registers goes, while the other device is the guest's still.
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    assert!(disk.is_revoked());
    assert_eq!([5, SATA_UTLB].map(seen), [[Some(first), None, None], [None; 3]]);
    drop((disk, nic));
    r.machine.unbind("acme-nic", "vfio-platform").unwrap();
    r.machine.device(SATA).unwrap().set_driver_override(None);
    r.machine.bind(SATA, "sata_rcar").unwrap();
    assert_eq!(seen(5), [None; 3]);
    assert_eq!(r.machine.promises().broken(), []);
}
