//! Further devices on the board: one behind the same IOMMU, and symmetric ones.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Supplier, SupplierKind};
use bindery::dma::CoherentSlice;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::machine::Machine;
use bindery_explore::engine::{Visit, fingerprint};
use bindery_explore::{Bounded, Kind, Report, boards, device, scenario};

/// A driver that shares memory with its device.
struct Ring;

impl Driver for Ring {
    const NAME: &'static str = "acme_ring";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,ring")];
    type Data<'b> = CoherentSlice<'b, u64>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(dev.dma().coherent_slice(256)?)
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Adds a ring. Refused only when it is there already.
fn add(machine: &Arc<Machine>, name: &str, label: &str, suppliers: Vec<Supplier>) {
    let mut desc = DeviceDesc::new(name);
    desc.compatible = vec!["acme,ring".into()];
    desc.properties = vec![("label".into(), label.into())];
    desc.suppliers = suppliers;
    let _ = machine.add_device(desc);
    machine.register(Ring);
}

#[test]
fn a_device_behind_the_same_iommu_as_a_bound_one_is_explored() {
    let board = boards::salvator_xs().with(|machine| {
        // Behind the same IOMMU, at a stream of its own.
        let disk = machine.device("ee300000.sata").unwrap();
        let mut iommu = disk.desc().suppliers.clone();
        iommu.retain(|supplier| supplier.kind == SupplierKind::Iommu);
        iommu[0].args = vec![7];
        add(machine, "acme-ring", "ring", iommu);
    });
    device("acme-ring").on(board).faults(1).preemptions(1).check();
}

/// Rings that the tests add.
const RINGS: [&str; 4] = ["ring-a", "ring-b", "ring-c", "ring-d"];

/// Report of the disk controller's lifecycle with rings on the board: all symmetric, or each with a property of its own.
fn with_rings(symmetric: bool) -> Report {
    let board = boards::salvator_xs().with(move |machine| {
        for name in RINGS {
            add(machine, name, if symmetric { "ring" } else { name }, Vec::new());
        }
    });
    let lifecycle = device("ee300000.sata").on(board).faults(1).preemptions(0);
    lifecycle.run(&lifecycle.engine()).unwrap()
}

#[test]
fn a_fault_in_one_of_several_identical_devices_is_the_same_state_whichever_it_is() {
    let (symmetric, different) = (with_rings(true), with_rings(false));
    assert!(symmetric.passed() && different.passed(), "{symmetric}\n{different}");
    assert!(symmetric.states < different.states, "{} of {} states", symmetric.states, different.states);
}

/// States in which the rings are bound one after the other in any order.
fn orders(symmetric: &[&str]) -> u64 {
    let board =
        boards::salvator_xs().with(|machine| RINGS.iter().for_each(|name| add(machine, name, "ring", Vec::new())));
    let scenario = scenario("rings in any order", board).faults(0).preemptions(0).symmetric(symmetric);
    let report = scenario.run(&scenario.engine(), |scene| {
        let machine = scene.machine();
        for ring in RINGS {
            machine.unbind(ring, "acme_ring").unwrap();
        }
        let mut left = RINGS.to_vec();
        while !left.is_empty() {
            let next = left.remove(scene.chooser().choose(Kind::Order, "next", left.len()));
            machine.bind(next, "acme_ring").unwrap();
            if scene.chooser().scheduling_point(fingerprint(&(left.len(), scene.digest()))) == Visit::Seen {
                return Ok(());
            }
        }
        Ok(())
    });
    assert!(report.passed(), "{report}");
    report.states
}

#[test]
fn identical_devices_count_once_where_a_scenario_does_not_name_them() {
    // Subsets that are not empty, and sizes.
    assert_eq!(orders(&[]), 15);
    assert_eq!(orders(&RINGS), 4);
    assert_eq!(orders(&RINGS[..3]), 7);
}
