//! Devices of other kinds than the disk controller: suppliers, an IOMMU, one without registers.
#![allow(clippy::unwrap_used)]

use bindery_explore::{Bounded, LifecycleError, boards, device};

/// Every device of the board that a driver binds.
fn all() -> Vec<String> {
    let nobody = device("nobody").on(boards::salvator_xs());
    match nobody.run(&nobody.engine()) {
        Err(LifecycleError::NoDevice { known, .. }) => known,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_device_that_a_driver_binds_survives_a_fault_at_each_step() {
    let all = all();
    assert!(all.len() > 10, "{all:?}");
    for name in all {
        // No IOMMU is bound that could be invalidated while these are unbound, before the one fault of a path.
        let early = ["e6180000.system-controller", "e67b0000.mmu"].contains(&&*name);
        let lifecycle = device(&name).on(boards::salvator_xs()).faults(1).preemptions(0);
        if early { lifecycle.allow_unreached("fault invalidate").check() } else { lifecycle.check() }
    }
}

#[test]
fn the_lifecycle_of_a_clock_is_explored() {
    device("scif").on(boards::salvator_xs()).faults(1).preemptions(1).check();
}

#[test]
fn the_lifecycle_of_an_iommu_is_explored_although_its_driver_has_other_devices() {
    device("e6570000.mmu").on(boards::salvator_xs()).faults(1).preemptions(1).check();
}
