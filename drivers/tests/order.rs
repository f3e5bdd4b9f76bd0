//! The result of probing depends neither on the order in which devices and drivers arrive (P8) nor on a transient fault
//! (P3, P4).
#![allow(clippy::unwrap_used)]

mod common;

use bindery::device::{DeviceDesc, Nodes};
use bindery::firmware::fdt::describe;
use bindery::machine::Machine;
use bindery_sim::salvator;
use common::Rig;
use common::master::Master;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

const DRIVERS: [fn(&Arc<Machine>) -> bool; 5] = [
    |m| m.register(bindery_drivers::fixed_clock::FixedClock),
    |m| m.register(bindery_drivers::cpg_mssr::CpgMssr),
    |m| m.register(bindery_drivers::sysc::Sysc),
    |m| m.register(bindery_drivers::ipmmu_vmsa::IpmmuVmsa),
    |m| m.register(Master),
];

fn register(rig: &Rig) {
    assert!(DRIVERS.iter().all(|register| register(&rig.machine)));
}

/// The devices of the board's device tree, as descriptions for `rig`'s machine.
fn board_devices(rig: &Rig) -> Vec<DeviceDesc> {
    rig.machine.with_nodes(|nodes| describe(salvator::DEVICE_TREE, nodes)).unwrap().devices
}

/// Result of probing, without numbers that depend on the order.
#[derive(PartialEq, Eq, Debug)]
struct End {
    bound: Vec<(String, &'static str)>,
    waiting: Vec<(String, Vec<String>)>,
    /// Instance, members, owner.
    groups: Vec<(String, Vec<String>, String)>,
    links: Vec<String>,
    irqs: usize,
    services: usize,
    supplies: usize,
    frames: u64,
}

fn end(rig: &Rig) -> End {
    let machine = &rig.machine;
    let devices = machine.devices();
    let bound = devices.iter().filter_map(|d| Some((d.name().to_string(), d.driver()?))).collect();
    let mut links: Vec<String> = devices.iter().flat_map(|d| machine.links(d)).map(|l| format!("{l:?}")).collect();
    links.sort();
    let mut groups: Vec<_> = machine
        .groups()
        .iter()
        .map(|g| g.info())
        .map(|g| {
            let mut members: Vec<String> = g.members.iter().map(ToString::to_string).collect();
            members.sort();
            (g.iommus.join(" + "), members, g.owner.to_string())
        })
        .collect();
    groups.sort();
    let mut waiting: Vec<_> = machine.waiting().into_iter().map(|w| (w.device.to_string(), w.on)).collect();
    waiting.sort();
    let used = machine.resource_usage();
    End {
        bound,
        waiting,
        groups,
        links,
        irqs: used.irqs,
        services: used.services,
        supplies: used.supplies,
        frames: used.frames,
    }
}

/// Reference: everything in the order of the device tree, drivers last.
fn canonical() -> &'static End {
    static END: OnceLock<End> = OnceLock::new();
    END.get_or_init(|| {
        let rig = common::bare();
        rig.add_board();
        register(&rig);
        rig.settle();
        rig.assert_well();
        end(&rig)
    })
}

#[test]
fn every_device_with_all_suppliers_is_bound() {
    let end = canonical();
    for (device, driver) in [
        ("e6150000.clock-controller", "renesas-cpg-mssr"),
        ("e6180000.system-controller", "rcar-sysc"),
        ("e6570000.mmu", "ipmmu-vmsa"),
        ("e67b0000.mmu", "ipmmu-vmsa"),
        ("e6800000.ethernet", "master"),
        ("ee300000.sata", "master"),
    ] {
        assert!(end.bound.contains(&(device.into(), driver)), "{device}: {:?}", end.bound);
    }
    assert_eq!(end.waiting, []);
    assert_eq!(end.bound.iter().filter(|(_, driver)| *driver == "ipmmu-vmsa").count(), 7);
}

/// One arrival: a driver or a device; and whether probing runs before the next one.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Driver(usize),
    Device(usize),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_of_probing_does_not_depend_on_the_order_of_arrival(
        order in Just((0..DRIVERS.len()).map(Arrival::Driver).chain((0..60).map(Arrival::Device)).collect::<Vec<_>>())
            .prop_shuffle(),
        settles in proptest::collection::vec(any::<bool>(), 65),
    ) {
        let rig = common::bare();
        let devices = board_devices(&rig);
        prop_assert!(devices.len() <= 60);
        for (arrival, settle) in order.into_iter().zip(settles) {
            match arrival {
                Arrival::Driver(n) => prop_assert!(DRIVERS[n](&rig.machine)),
                Arrival::Device(n) => {
                    if let Some(desc) = devices.get(n) {
                        rig.machine.add_device(desc.clone()).unwrap();
                    }
                }
            }
            if settle {
                rig.settle();
            }
        }
        rig.settle();
        rig.assert_well();
        prop_assert_eq!(&end(&rig), canonical());
    }

    #[test]
    fn drivers_that_are_unregistered_and_registered_again_are_bound_as_before(
        leaving in proptest::collection::vec(0..DRIVERS.len(), 1..6),
        settles in proptest::collection::vec(any::<bool>(), 6),
    ) {
        let rig = common::bare();
        let empty = rig.resource_usage();
        rig.add_board();
        register(&rig);
        rig.settle();
        let first = end(&rig);
        let names = ["fixed-clock", "renesas-cpg-mssr", "rcar-sysc", "ipmmu-vmsa", "master"];
        for (n, settle) in leaving.into_iter().zip(settles) {
            rig.machine.unregister(names[n]);
            if settle {
                rig.settle();
            }
            DRIVERS[n](&rig.machine);
        }
        rig.settle();
        prop_assert_eq!(end(&rig), first);
        for name in names {
            rig.machine.unregister(name);
        }
        prop_assert_eq!(rig.resource_usage(), empty);
        rig.assert_well();
    }
}

/// Retries after a fault, until nothing more is bound.
fn retry(rig: &Rig) {
    loop {
        let before = end(rig).bound.len();
        for device in rig.machine.devices() {
            // Errors show in the final bindings.
            let _ = rig.machine.probe(device.name());
        }
        rig.settle();
        if end(rig).bound.len() == before {
            return;
        }
    }
}

#[test]
fn a_fault_at_any_step_of_probing_leaves_nothing_and_a_retry_succeeds() {
    let expected = canonical();
    let calls = {
        let rig = common::bare();
        rig.add_board();
        register(&rig);
        rig.board.faults().never();
        rig.settle();
        rig.board.faults().calls()
    };
    assert!(calls > 100, "{calls} steps that can fail");
    for n in 1..=calls {
        let rig = common::bare();
        let empty = rig.resource_usage();
        rig.add_board();
        register(&rig);
        rig.board.faults().fail_nth(n);
        rig.settle();
        assert_eq!(rig.board.faults().injected(), 1, "step {n}");
        rig.board.faults().never();
        retry(&rig);
        assert_eq!(&end(&rig), expected, "step {n}");
        for name in rig.machine.drivers() {
            rig.machine.unregister(name);
        }
        assert_eq!(rig.resource_usage(), empty, "step {n}");
        rig.assert_well();
    }
}

#[test]
fn a_fault_at_any_step_of_unbinding_breaks_no_promise() {
    let calls = {
        let rig = common::bare();
        rig.add_board();
        register(&rig);
        rig.settle();
        rig.board.faults().never();
        rig.machine.unregister("ipmmu-vmsa");
        rig.board.faults().calls()
    };
    assert!(calls > 3, "{calls}");
    for n in 1..=calls {
        let rig = common::bare();
        rig.add_board();
        register(&rig);
        rig.settle();
        let first = end(&rig);
        rig.board.faults().fail_nth(n);
        rig.machine.unregister("ipmmu-vmsa");
        rig.board.faults().never();
        DRIVERS[3](&rig.machine);
        retry(&rig);
        let after = end(&rig);
        assert_eq!((&after.bound, &after.groups), (&first.bound, &first.groups), "step {n}");
        rig.assert_well();
    }
}

#[test]
fn one_parsed_device_tree_serves_many_machines_but_none_that_has_nodes() {
    let mut nodes = Nodes::new();
    let description = describe(salvator::DEVICE_TREE, &mut nodes).unwrap();
    let by_blob = common::full();
    by_blob.settle();
    for _ in 0..2 {
        let rig = common::bare();
        assert!(rig.machine.add_description(&description, &nodes));
        bindery_drivers::register_all(&rig.machine);
        rig.settle();
        assert_eq!(end(&rig), end(&by_blob));
        let devices = rig.machine.devices().len();
        assert!(!rig.machine.add_description(&description, &nodes), "the machine has nodes");
        assert_eq!(rig.machine.devices().len(), devices);
        rig.assert_well();
    }
    let rig = common::bare();
    rig.machine.with_nodes(|own| own.find_or_add("/elsewhere"));
    assert!(!rig.machine.add_description(&description, &nodes), "numbers would not agree");
    assert_eq!(rig.machine.devices().len(), 0);
}
