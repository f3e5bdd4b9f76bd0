//! Device to device: a DMA controller that reaches the disk controller's registers, which nobody drives, a driver drives,
//! or a guest has.

use super::dma::*;
use bindery::binding::Bound;
use bindery::control::Tree;
use bindery::dma::{Direction, MappedResource};
use bindery::driver::*;
use bindery::machine::BindError;
use bindery_sim::salvator::SATA_BASE;

const DMAC: &str = "dmac";

struct Dmac;
impl Driver for Dmac {
    const NAME: &'static str = DMAC;
    const MATCHES: &'static [Match] = &[Match::compatible("acme,dmac")];
    type Data<'b> = MappedResource<'b>;
    fn probe<'b>(&self, dev: &'b Bound) -> Result<MappedResource<'b>, ProbeError> {
        Ok(dev.dma().map_resource(SATA_BASE, 4, Direction::Bidirectional)?)
    }
    fn quiesce(_: &MappedResource<'_>) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
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
fn what_a_guest_has_is_refused_by_name_and_reached_when_it_comes_back() {
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
    assert!(r.story().iter().any(|e| e.starts_with(SATA) && e.contains("held by dmac (DMA)")));
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
        r.story();
        end(&r);
        let story = r.story();
        let at = |device: &str| story.iter().position(|e| e.starts_with(device) && e.contains(": unbound from"));
        let order = (at(DMAC), at(SATA));
        assert!(order.0.is_some() && order.0 < order.1, "{what}: P6: {order:?} in {story:#?}");
        assert_eq!(r.machine.promises().broken(), [], "{what}");
    }
}
