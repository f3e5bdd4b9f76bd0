//! Whole machines whose threads run in an order that shuttle chooses: each lock and each atomic is a place to switch.
//!
//! Run with `cargo xtask shuttle`. Every scenario is run under random scheduling and under PCT (Burckhardt et al.,
//! ASPLOS 2010), from a fixed seed; `BINDERY_SHUTTLE_ITERATIONS` says how often. A failure prints the schedule, which
//! `shuttle::replay` takes. It ends well when no promise was broken, no model was used wrongly, everything that the
//! threads left behind comes to rest as it was before them, and no thread waits for ever.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bindery::binding::Phase;
use bindery::iommu::{GroupInfo, Owner};
use bindery::machine::{BindError, Policy, UnbindError};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::salvator::Salvator;
use common::master::Master;
use common::world::World;
use common::{CPG, IPMMU_HC, IPMMU_MM, SATA};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

const SEED: u64 = 0x6b1d_2026;
/// Iterations of each scenario unless `BINDERY_SHUTTLE_ITERATIONS` says otherwise.
const ITERATIONS: usize = 300;
/// Preemptions that PCT places in a run: most bugs need fewer.
const DEPTH: usize = 3;
/// A run of so many steps will not end: threads wait for each other and are not blocked.
const STEPS: usize = 2_000_000;
const SECTORS: u16 = 64;

/// What one thread does. What is refused is refused: the others are in the way.
type Act = fn(&World);

/// Runs `scenario` in many orders.
fn explore(scenario: fn()) {
    let set = std::env::var("BINDERY_SHUTTLE_ITERATIONS").ok();
    let iterations = set.map_or(ITERATIONS, |n| n.parse().expect("BINDERY_SHUTTLE_ITERATIONS is a number"));
    let half = iterations.div_ceil(2);
    run(RandomScheduler::new_from_seed(SEED, half), scenario);
    run(PctScheduler::new_from_seed(SEED, DEPTH, half), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

/// A settled board as small as the drivers can do with.
fn world() -> World {
    World::new(Salvator::new().cpus(2).frames(1 << 20).contiguous(1 << 20), SECTORS, Policy::default(), &[])
}

fn race(world: &World, acts: &[Act]) {
    thread::scope(|scope| {
        for act in acts {
            scope.spawn(move || act(world));
        }
    });
}

fn unbind_the_disk(w: &World) {
    let _ = w.rig.machine.unbind(SATA, "sata_rcar");
}

fn settle(w: &World) {
    w.rig.machine.settle();
}

fn read_the_disk(w: &World) {
    for lba in 0..2 {
        w.read_the_disk(lba);
    }
}

/// A bound device has its driver and suppliers that are bound (P6), whatever happened before.
fn assert_bound_devices_have_suppliers(w: &World) {
    let machine = &w.rig.machine;
    for device in machine.devices().iter().filter(|d| d.phase() == Phase::Bound) {
        for link in machine.links(device) {
            let supplier = machine.device(&link.supplier).unwrap();
            let there = supplier.phase() == Phase::Bound || link.supplier.contains("interrupt-controller");
            assert!(there, "P6: {} is bound without {}", device.name(), link.supplier);
        }
    }
}

#[test]
fn an_unbind_races_a_probe_and_a_removal() {
    explore(|| {
        let w = world();
        race(
            &w,
            &[
                unbind_the_disk,
                |w| {
                    let _ = w.rig.machine.probe(SATA);
                    settle(w);
                },
                |w| {
                    w.rig.machine.remove_device(SATA);
                },
            ],
        );
        assert!(w.rig.machine.device(SATA).is_none());
        w.ends_well();
    });
}

#[test]
fn a_device_that_vanishes_races_an_unbind_and_comes_back() {
    explore(|| {
        let w = world();
        race(
            &w,
            &[
                unbind_the_disk,
                |w| {
                    w.rig.board.unplug(SATA).unwrap();
                    w.rig.machine.device_vanished(SATA);
                    w.rig.board.plug(SATA).unwrap();
                    let desc = w.descs.iter().find(|d| &*d.name == SATA).unwrap();
                    let _ = w.rig.machine.add_device(desc.clone());
                },
                settle,
            ],
        );
        w.ends_well();
    });
}

#[test]
fn of_two_unbinds_one_is_told_that_it_ended_the_binding() {
    explore(|| {
        let w = world();
        let unbind = |w: &World| w.rig.machine.unbind(SATA, "sata_rcar");
        let (first, second) = thread::scope(|scope| {
            let other = scope.spawn(|| unbind(&w));
            let mine = unbind(&w);
            (mine, other.join().unwrap())
        });
        let refused = [&first, &second].into_iter().filter(|r| matches!(r, Err(UnbindError::NotHeld { .. }))).count();
        assert_eq!(refused, 1, "{first:?} {second:?}");
        assert_eq!(w.rig.driver(SATA), None);
        w.ends_well();
    });
}

#[test]
fn suppliers_leave_while_their_consumer_is_bound() {
    explore(|| {
        let w = world();
        w.rig.machine.unbind(SATA, "sata_rcar").unwrap();
        race(
            &w,
            &[
                |w| match w.rig.machine.bind(SATA, "sata_rcar") {
                    Ok(()) | Err(BindError::Deferred { .. }) => {}
                    Err(e) => panic!("{e}"),
                },
                |w| {
                    w.rig.machine.unbind(IPMMU_HC, "ipmmu-vmsa").unwrap();
                },
                |w| {
                    w.rig.machine.unbind(CPG, "renesas-cpg-mssr").unwrap();
                },
            ],
        );
        assert_bound_devices_have_suppliers(&w);
        assert_eq!(w.rig.driver(SATA), None, "P6");
        w.rig.machine.bind(CPG, "renesas-cpg-mssr").unwrap();
        settle(&w);
        w.rig.machine.bind(IPMMU_HC, "ipmmu-vmsa").unwrap();
        settle(&w);
        assert_eq!(w.rig.driver(SATA), Some("sata_rcar"), "P8: its suppliers' arrival wakes it");
        w.ends_well();
    });
}

#[test]
fn a_driver_that_leaves_and_comes_back_races_the_probes_of_its_devices() {
    explore(|| {
        let w = world();
        race(
            &w,
            &[
                |w| {
                    w.rig.machine.unregister("ipmmu-vmsa");
                    w.rig.machine.register(bindery_drivers::ipmmu_vmsa::IpmmuVmsa);
                    settle(w);
                },
                |w| {
                    let _ = w.rig.machine.unbind(IPMMU_MM, "ipmmu-vmsa");
                    let _ = w.rig.machine.bind(IPMMU_MM, "ipmmu-vmsa");
                    settle(w);
                },
                settle,
            ],
        );
        assert_bound_devices_have_suppliers(&w);
        w.ends_well();
    });
}

#[test]
fn of_a_hand_over_and_a_kernel_driver_one_gets_the_group() {
    explore(|| {
        let w = world();
        let machine = &w.rig.machine;
        machine.unbind(SATA, "sata_rcar").unwrap();
        machine.device(SATA).unwrap().set_driver_override(Some("vfio-platform"));
        machine.set_autoprobe(false);
        machine.register(Master);
        w.rig.add_master("other.master", IPMMU_HC, &[5]);
        race(
            &w,
            &[
                |w| {
                    let _ = w.rig.machine.bind(SATA, "vfio-platform");
                },
                |w| {
                    let _ = w.rig.machine.bind("other.master", "master");
                },
                |w| {
                    let _ = w.rig.machine.unbind("other.master", "master");
                },
            ],
        );
        let holders = (w.rig.driver(SATA), w.rig.driver("other.master"));
        let has_disk = |g: &GroupInfo| g.members.iter().any(|m| &**m == SATA);
        let owner = machine.groups().iter().map(|g| g.info()).find(has_disk).unwrap().owner;
        let expected = match holders {
            (Some(_), None) => Owner::PassThrough(1),
            (None, Some(_)) => Owner::Kernel(1),
            (None, None) => Owner::None,
            (Some(_), Some(_)) => panic!("P7: {holders:?}"),
        };
        assert_eq!(owner, expected, "P7");
        machine.remove_device("other.master");
        machine.unregister("master");
        machine.set_autoprobe(true);
        w.ends_well();
    });
}

#[test]
fn a_session_races_the_hosts_wish_to_have_its_device_back() {
    explore(|| {
        let w = world();
        let machine = &w.rig.machine;
        machine.unbind(SATA, "sata_rcar").unwrap();
        machine.unregister("vfio-platform");
        machine.register(Vfio { release_timeout: Duration::from_millis(2) });
        machine.device(SATA).unwrap().set_driver_override(Some("vfio-platform"));
        machine.bind(SATA, "vfio-platform").unwrap();
        race(
            &w,
            &[
                |w| {
                    let Some(client) = w.rig.machine.client::<Vfio>(SATA) else { return };
                    let Ok(session) = Vfio::open(&client) else { return };
                    let _ = session.reset();
                },
                |w| {
                    w.rig.machine.device(SATA).unwrap().set_driver_override(None);
                    w.rig.machine.unbind(SATA, "vfio-platform").unwrap();
                    let _ = w.rig.machine.probe(SATA);
                },
                read_the_disk,
            ],
        );
        assert_eq!(w.rig.driver(SATA), Some("sata_rcar"));
        machine.unregister("vfio-platform");
        w.ends_well();
    });
}

#[test]
fn reads_of_the_disk_race_an_unbind_and_a_bind() {
    explore(|| {
        let w = world();
        race(
            &w,
            &[
                read_the_disk,
                |w| {
                    w.rig.machine.unbind(SATA, "sata_rcar").unwrap();
                    w.rig.machine.bind(SATA, "sata_rcar").unwrap();
                },
                |w| {
                    let Some(client) = w.rig.machine.client::<SataRcar>(SATA) else { return };
                    let _ = client.call(|port| port.write(SECTORS.into(), &[1; 512]));
                    w.read_the_disk(3);
                },
            ],
        );
        w.ends_well();
    });
}

#[test]
fn the_control_tree_is_read_and_written_during_an_unbind() {
    explore(|| {
        let w = world();
        race(
            &w,
            &[
                |w| {
                    for path in ["/sys/bus/platform/devices/ee300000.sata", "/sys/bus/platform/drivers/sata_rcar"] {
                        let _ = w.tree.list(path);
                    }
                    let _ = w.tree.read("/sys/kernel/debug/devices_deferred");
                    let _ = w.tree.read("/sys/kernel/iommu_groups/0/type");
                    drop(w.rig.machine.footprint());
                },
                |w| {
                    let _ = w.tree.write("/sys/bus/platform/drivers/sata_rcar/unbind", SATA);
                    let _ = w.tree.write("/sys/kernel/iommu_groups/0/type", "DMA-FQ");
                    let _ = w.tree.write("/sys/bus/platform/drivers/sata_rcar/bind", SATA);
                    let _ = w.tree.write("/sys/bus/platform/drivers/sata_rcar/unbind", SATA);
                },
                |w| {
                    let _ = w.tree.write("/sys/bus/platform/drivers_probe", SATA);
                },
            ],
        );
        w.ends_well();
    });
}
