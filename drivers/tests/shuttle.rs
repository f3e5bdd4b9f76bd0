//! Whole machines under shuttle, which chooses the schedule: each lock and each atomic is a scheduling point.
//!
//! Run with `cargo xtask shuttle`. Every scenario is run under random scheduling and under PCT (Burckhardt et al.,
//! ASPLOS 2010), from a fixed seed; `BINDERY_SHUTTLE_ITERATIONS` sets the number of iterations. A failure prints the
//! schedule, for `shuttle::replay`. A scenario passes when no promise was broken, no model was misused, the machine
//! recovers its initial state, and no thread waits for ever.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bindery::binding::Phase;
use bindery::device::Device;
use bindery::env::Env;
use bindery::iommu::{GroupInfo, Owner};
use bindery::machine::{BindError, Machine, Policy, UnbindError};
use bindery_drivers::ipmmu_vmsa::IpmmuVmsa;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::{RELEASE_TIMEOUT, Vfio};
use bindery_sim::salvator::Salvator;
use common::fixture::Fixture;
use common::master::Master;
use common::{CPG, IPMMU_HC, IPMMU_MM, SATA};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, thread};
use std::sync::Arc;

const SEED: u64 = 0x6b1d_2026;
/// Default number of iterations of each scenario.
const ITERATIONS: usize = 100;
/// Races in one iteration: setting up a board takes longer than a race.
const ROUNDS: usize = 16;
/// Bug depth of PCT, which is one more than the preemptions that it places: two in each race, on average.
const DEPTH: usize = 1 + 2 * ROUNDS;
/// Limit of steps: a longer run is a livelock.
const STEPS: usize = 4_000_000;
const SECTORS: u16 = 64;
/// A second bus master in the disk controller's group.
const OTHER: &str = "other.master";

/// Action of one thread. Errors are ignored: concurrent actions may cause them.
type Act = fn(&Fixture);

/// Runs `round`, which starts from a settled machine, in many orders.
fn explore(round: fn(&Fixture)) {
    let scenario = move || {
        let salvator = Salvator::new().cpus(2).frames(1 << 20).contiguous(1 << 20);
        let w = Fixture::new(salvator, SECTORS, Policy::default(), &[]);
        for _ in 0..ROUNDS {
            round(&w);
            w.restore();
            // The race may have ended with an explicit unbind, after which nothing probes the device automatically.
            let _ = machine(&w).probe(SATA);
            assert_eq!(w.rig.driver(SATA), Some("sata_rcar"), "P8: {:?}", w.rig.machine.waiting());
            assert_eq!(w.rig.machine.promises().broken(), []);
        }
        w.assert_recovered();
    };
    let set = std::env::var("BINDERY_SHUTTLE_ITERATIONS").ok();
    let iterations = set.map_or(ITERATIONS, |n| n.parse().expect("BINDERY_SHUTTLE_ITERATIONS is a number"));
    run(RandomScheduler::new_from_seed(SEED, iterations.div_ceil(2)), scenario);
    run(PctScheduler::new_from_seed(SEED, DEPTH, iterations / 2), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Copy + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

fn race(fixture: &Fixture, acts: &[Act]) {
    thread::scope(|scope| {
        for act in acts {
            scope.spawn(move || act(fixture));
        }
    });
}

fn machine(w: &Fixture) -> &Arc<Machine> {
    &w.rig.machine
}

fn disk(w: &Fixture) -> Arc<Device> {
    machine(w).device(SATA).unwrap()
}

fn unbind_the_disk(w: &Fixture) {
    let _ = machine(w).unbind(SATA, "sata_rcar");
}

fn settle(w: &Fixture) {
    machine(w).settle();
}

fn read_the_disk(w: &Fixture) {
    for lba in 0..2 {
        w.read_the_disk(lba);
    }
}

/// Checks that the suppliers of each bound device are bound (P6).
fn assert_bound_devices_have_suppliers(w: &Fixture) {
    let machine = machine(w);
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
    explore(|w| {
        let probe = |w: &Fixture| {
            let _ = machine(w).probe(SATA);
            settle(w);
        };
        let remove = |w: &Fixture| {
            machine(w).remove_device(SATA);
        };
        race(w, &[unbind_the_disk, probe, remove]);
        assert!(machine(w).device(SATA).is_none());
    });
}

#[test]
fn a_vanishing_device_races_an_unbind_and_is_added_again() {
    explore(|w| {
        let vanish_and_come_back = |w: &Fixture| {
            w.rig.board.unplug(SATA).unwrap();
            machine(w).device_vanished(SATA);
            w.rig.board.plug(SATA).unwrap();
            let desc = w.descs.iter().find(|d| &*d.name == SATA).unwrap();
            machine(w).add_device(desc.clone()).unwrap();
        };
        race(w, &[unbind_the_disk, vanish_and_come_back, settle]);
        assert!(!disk(w).is_gone());
    });
}

#[test]
fn of_two_concurrent_unbinds_exactly_one_succeeds() {
    explore(|w| {
        let unbind = || machine(w).unbind(SATA, "sata_rcar");
        let (first, second) = thread::scope(|scope| {
            let other = scope.spawn(unbind);
            let mine = unbind();
            (mine, other.join().unwrap())
        });
        let refused = [&first, &second].into_iter().filter(|r| matches!(r, Err(UnbindError::NotHeld { .. }))).count();
        assert_eq!(refused, 1, "{first:?} {second:?}");
        assert_eq!(w.rig.driver(SATA), None);
        machine(w).bind(SATA, "sata_rcar").unwrap();
    });
}

#[test]
fn an_unbind_ends_only_the_binding_of_the_named_driver() {
    explore(|w| {
        let give_away = |w: &Fixture| {
            disk(w).set_driver_override(Some("vfio-platform"));
            unbind_the_disk(w);
            machine(w).bind(SATA, "vfio-platform").unwrap();
        };
        race(w, &[unbind_the_disk, give_away, unbind_the_disk]);
        assert_eq!(w.rig.driver(SATA), Some("vfio-platform"), "the binding that came between stays");
        disk(w).set_driver_override(None);
        machine(w).unbind(SATA, "vfio-platform").unwrap();
        machine(w).bind(SATA, "sata_rcar").unwrap();
    });
}

#[test]
fn suppliers_are_unbound_while_their_consumer_is_bound() {
    explore(|w| {
        let machine = machine(w);
        machine.unbind(SATA, "sata_rcar").unwrap();
        let bind = |w: &Fixture| {
            let bound = self::machine(w).bind(SATA, "sata_rcar");
            assert!(matches!(bound, Ok(()) | Err(BindError::Deferred { .. })), "{bound:?}");
        };
        let translation_leaves = |w: &Fixture| self::machine(w).unbind(IPMMU_HC, "ipmmu-vmsa").unwrap();
        let clocks_leave = |w: &Fixture| self::machine(w).unbind(CPG, "renesas-cpg-mssr").unwrap();
        race(w, &[bind, translation_leaves, clocks_leave]);
        assert_bound_devices_have_suppliers(w);
        assert_eq!(w.rig.driver(SATA), None, "P6");
        machine.bind(CPG, "renesas-cpg-mssr").unwrap();
        machine.bind(IPMMU_HC, "ipmmu-vmsa").unwrap();
        settle(w);
        assert_eq!(w.rig.driver(SATA), Some("sata_rcar"), "P8: the arrival of its last supplier wakes it");
    });
}

#[test]
fn nothing_is_bound_to_an_unregistered_driver() {
    explore(|w| {
        machine(w).unbind(SATA, "sata_rcar").unwrap();
        let driver_leaves = |w: &Fixture| {
            machine(w).unregister("sata_rcar");
        };
        let probe = |w: &Fixture| {
            let _ = machine(w).probe(SATA);
        };
        let translation_restarts = |w: &Fixture| {
            let _ = machine(w).unbind(IPMMU_MM, "ipmmu-vmsa");
            let _ = machine(w).bind(IPMMU_MM, "ipmmu-vmsa");
            settle(w);
        };
        race(w, &[driver_leaves, probe, translation_restarts]);
        assert_eq!(w.rig.driver(SATA), None);
        assert_bound_devices_have_suppliers(w);
    });
}

#[test]
fn driver_registration_races_the_probes_of_its_devices() {
    explore(|w| {
        let driver_comes_back = |w: &Fixture| {
            machine(w).unregister("ipmmu-vmsa");
            machine(w).register(IpmmuVmsa);
            settle(w);
        };
        let by_hand = |w: &Fixture| {
            let _ = machine(w).unbind(IPMMU_MM, "ipmmu-vmsa");
            let _ = machine(w).bind(IPMMU_MM, "ipmmu-vmsa");
            settle(w);
        };
        race(w, &[driver_comes_back, by_hand, settle]);
        assert_bound_devices_have_suppliers(w);
    });
}

#[test]
fn of_a_pass_through_owner_and_a_kernel_driver_one_gets_the_group() {
    explore(|w| {
        let machine = machine(w);
        machine.unbind(SATA, "sata_rcar").unwrap();
        disk(w).set_driver_override(Some("vfio-platform"));
        machine.set_autoprobe(false);
        machine.register(Master);
        w.rig.add_master(OTHER, IPMMU_HC, &[5]);
        let hand_over = |w: &Fixture| drop(self::machine(w).bind(SATA, "vfio-platform"));
        let bind = |w: &Fixture| drop(self::machine(w).bind(OTHER, "master"));
        let unbind = |w: &Fixture| drop(self::machine(w).unbind(OTHER, "master"));
        race(w, &[hand_over, bind, unbind]);

        let has_disk = |g: &GroupInfo| g.members.iter().any(|m| &**m == SATA);
        let owner = machine.groups().iter().map(|g| g.info()).find(has_disk).unwrap().owner;
        let expected = match (w.rig.driver(SATA), w.rig.driver(OTHER)) {
            (Some(_), None) => Owner::PassThrough(1),
            (None, Some(_)) => Owner::Kernel(1),
            (None, None) => Owner::None,
            both => panic!("P7: {both:?}"),
        };
        assert_eq!(owner, expected, "P7");

        machine.remove_device(OTHER);
        machine.unregister("master");
        let _ = machine.unbind(SATA, "vfio-platform");
        disk(w).set_driver_override(None);
        machine.set_autoprobe(true);
        machine.bind(SATA, "sata_rcar").unwrap();
    });
}

#[test]
fn a_session_races_the_hosts_unbind() {
    explore(|w| {
        let machine = machine(w);
        machine.unbind(SATA, "sata_rcar").unwrap();
        machine.unregister("vfio-platform");
        machine.register(Vfio { release_timeout: RELEASE_TIMEOUT.min(Duration::from_millis(2)) });
        disk(w).set_driver_override(Some("vfio-platform"));
        machine.bind(SATA, "vfio-platform").unwrap();
        let user = |w: &Fixture| {
            let Some(client) = self::machine(w).client::<Vfio>(SATA) else { return };
            let Ok(session) = Vfio::open(&client) else { return };
            let _ = session.reset();
        };
        let host = |w: &Fixture| {
            disk(w).set_driver_override(None);
            self::machine(w).unbind(SATA, "vfio-platform").unwrap();
            self::machine(w).bind(SATA, "sata_rcar").unwrap();
        };
        race(w, &[user, host, read_the_disk]);
        assert_eq!(w.rig.driver(SATA), Some("sata_rcar"));
        machine.unregister("vfio-platform");
    });
}

#[test]
fn reads_of_the_disk_race_an_unbind_and_a_bind() {
    explore(|w| {
        let rebind = |w: &Fixture| {
            machine(w).unbind(SATA, "sata_rcar").unwrap();
            machine(w).bind(SATA, "sata_rcar").unwrap();
        };
        let read_and_fail = |w: &Fixture| {
            let Some(client) = machine(w).client::<SataRcar>(SATA) else { return };
            let beyond = client.call(|port| port.write(SECTORS.into(), &[1; 512]));
            assert!(!matches!(beyond, Ok(Ok(()))), "there is no such sector");
            w.read_the_disk(3);
        };
        race(w, &[read_the_disk, rebind, read_and_fail]);
    });
}

/// The interrupt of a read may be delivered by the other thread's wait, at any moment of the reader's own.
#[test]
fn no_reader_sleeps_through_an_interrupt_that_another_thread_delivers() {
    explore(|w| {
        let start = w.rig.board.now();
        let let_time_pass = |w: &Fixture| {
            for _ in 0..64 {
                w.rig.board.advance(w.rig.board.now() + Duration::from_micros(20));
            }
        };
        race(w, &[read_the_disk, let_time_pass]);
        let took = w.rig.board.now().since(start);
        assert!(took < Duration::from_millis(20), "{took:?}: the driver's time-out is 50 ms");
    });
}

#[test]
fn the_control_tree_is_read_and_written_during_an_unbind() {
    explore(|w| {
        let look = |w: &Fixture| {
            for path in ["/sys/bus/platform/devices/ee300000.sata", "/sys/bus/platform/drivers/sata_rcar"] {
                let _ = w.tree.list(path);
            }
            for path in ["/sys/kernel/debug/devices_deferred", "/sys/kernel/iommu_groups/2/type"] {
                let _ = w.tree.read(path);
            }
            drop(machine(w).resource_usage());
        };
        let change = |w: &Fixture| {
            let _ = w.tree.write("/sys/bus/platform/drivers/sata_rcar/unbind", SATA);
            let _ = w.tree.write("/sys/kernel/iommu_groups/2/type", "DMA-FQ");
            let _ = w.tree.write("/sys/bus/platform/drivers/sata_rcar/bind", SATA);
        };
        let probe = |w: &Fixture| {
            let _ = w.tree.write("/sys/bus/platform/drivers_probe", SATA);
        };
        race(w, &[look, change, probe]);
    });
}
