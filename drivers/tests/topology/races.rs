//! Races of joining and leaving: after each round the core's records are checked against the models. On the host's
//! threads each race is repeated many times; under `cfg(shuttle)` (`cargo xtask shuttle`) the schedules are chosen by
//! shuttle, with each lock of the core as a scheduling point, from a fixed seed.

use std::collections::BTreeSet;
use std::sync::Arc;
#[cfg(not(shuttle))]
use std::sync::Barrier;
#[cfg(not(shuttle))]
use std::thread;

use bindery::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use bindery::iommu::Grouping;
use bindery::machine::{Handle, Policy};
use bindery_sim::salvator::Salvator;
#[cfg(shuttle)]
use shuttle::thread;

use bindery_sim::mmu::{Mmu, MmuDriver, Reachable};

/// Number of races on one machine.
const ROUNDS: usize = if cfg!(shuttle) { 8 } else { 300 };

#[cfg(not(shuttle))]
pub(crate) fn in_many_orders(scenario: fn()) {
    scenario();
}

/// Runs `scenario` under random scheduling, and under PCT with two preemptions in each race on average.
#[cfg(shuttle)]
pub(crate) fn in_many_orders(scenario: fn()) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    const SEED: u64 = 0x6b1d_2026;
    let set = std::env::var("BINDERY_SHUTTLE_ITERATIONS").ok();
    let iterations: usize = set.map_or(100, |n| n.parse().expect("BINDERY_SHUTTLE_ITERATIONS is a number"));
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 512 << 10;
        config.silence_warnings = true;
        config
    };
    let random = RandomScheduler::new_from_seed(SEED, iterations.div_ceil(2));
    shuttle::Runner::new(random, config()).run(scenario);
    let pct = PctScheduler::new_from_seed(SEED, 1 + 2 * ROUNDS, iterations / 2);
    shuttle::Runner::new(pct, config()).run(scenario);
}

/// Runs all of `acts` concurrently.
pub(crate) fn at_once<R: Sync>(rig: &R, acts: &[&(dyn Fn(&R) + Sync)]) {
    #[cfg(not(shuttle))]
    let begin = Barrier::new(acts.len());
    thread::scope(|scope| {
        for act in acts {
            scope.spawn(|| {
                #[cfg(not(shuttle))]
                begin.wait();
                act(rig);
            });
        }
    });
}

struct Rig {
    machine: Handle,
    mmu: Arc<Mmu>,
    node: NodeId,
}

fn rig(grouping: Grouping) -> Rig {
    let machine = Salvator::new().build().machine(Policy::default());
    let mmu = Mmu::new("mmu0", grouping);
    machine.register(MmuDriver([("mmu0".to_owned(), Arc::clone(&mmu))].into()));
    let mut desc = DeviceDesc::new("mmu0");
    desc.compatible.push("test,mmu".into());
    let node = machine.add_device(desc).unwrap().node();
    machine.settle();
    Rig { machine, mmu, node }
}

impl Rig {
    fn add(&self, name: &str, stream: u32) -> bool {
        let mut desc = DeviceDesc::new(name);
        let (node, kind) = (self.node, SupplierKind::Iommu);
        desc.suppliers.push(Supplier { node, target: node, kind, property: "iommus".into(), args: vec![stream] });
        self.machine.add_device(desc).is_ok()
    }

    fn at_once(&self, acts: &[&(dyn Fn(&Self) + Sync)]) {
        at_once(self, acts);
    }

    /// Checks that every present device is a member of one group and blocked, if the IOMMU is present, and that no
    /// group has other members.
    fn check(&self, streams: &[(&str, u32)]) {
        let groups = self.machine.groups();
        let listed: Vec<_> = groups.iter().flat_map(|g| g.info().members).collect();
        let there: BTreeSet<_> = streams.iter().filter(|(n, _)| self.machine.device(n).is_some()).copied().collect();
        let mmu_is_present = self.machine.device("mmu0").is_some_and(|d| d.driver().is_some());
        if mmu_is_present {
            for (name, stream) in &there {
                let info = self.machine.device_info(&self.machine.device(name).unwrap());
                assert!(groups.iter().any(|g| Some(g.id()) == info.group), "{name} is in no group: {groups:?}");
                assert_eq!(self.mmu.reachable(*stream), Reachable::Pages(BTreeSet::new()), "{name} is not blocked");
            }
        }
        let names: BTreeSet<_> = there.iter().map(|(n, _)| *n).collect();
        assert_eq!(listed.len(), if mmu_is_present { names.len() } else { 0 }, "{listed:?} of {names:?}");
        assert!(listed.iter().all(|n| names.contains(&**n)), "{listed:?} of {names:?}");
        assert!(groups.iter().all(|g| !g.info().members.is_empty()), "an empty group is left");
    }
}

#[test]
fn a_device_joins_a_group_while_its_last_member_leaves() {
    in_many_orders(|| {
        let r = rig(Grouping::PerInstance);
        assert!(r.add("a", 1));
        for round in 0..ROUNDS {
            let (added, removed) = if round % 2 == 0 { ("b", "a") } else { ("a", "b") };
            r.at_once(&[&|r| assert!(r.add(added, 1)), &|r| assert!(r.machine.remove_device(removed))]);
            r.check(&[("a", 1), ("b", 1)]);
        }
    });
}

#[test]
fn a_device_is_added_while_its_iommu_is_unbound() {
    in_many_orders(|| {
        let r = rig(Grouping::PerStream);
        for _ in 0..ROUNDS {
            r.at_once(&[&|r| assert!(r.add("a", 1)), &|r| r.machine.unbind("mmu0", "mmu").unwrap(), &|r| {
                assert!(r.add("b", 1));
            }]);
            r.check(&[("a", 1), ("b", 1)]);
            r.machine.bind("mmu0", "mmu").unwrap();
            r.check(&[("a", 1), ("b", 1)]);
            assert!(r.machine.remove_device("a") && r.machine.remove_device("b"));
            r.check(&[]);
        }
    });
}

#[test]
fn a_device_is_removed_while_it_is_added() {
    in_many_orders(|| {
        let r = rig(Grouping::PerStream);
        for _ in 0..ROUNDS {
            r.at_once(&[&|r| assert!(r.add("a", 1)), &|r| {
                while !r.machine.remove_device("a") {
                    thread::yield_now();
                }
            }]);
            assert!(r.machine.device("a").is_none());
            r.check(&[("a", 1)]);
        }
    });
}

#[test]
fn two_removals_race_with_a_device_of_the_same_name() {
    in_many_orders(|| {
        let r = rig(Grouping::PerInstance);
        assert!(r.add("a", 1));
        for _ in 0..ROUNDS {
            r.at_once(&[
                &|r| {
                    let _ = r.machine.remove_device("a");
                },
                &|r| {
                    let _ = r.machine.device_vanished("a");
                },
                &|r| {
                    let _ = r.add("a", 1);
                },
            ]);
            r.check(&[("a", 1)]);
            if r.machine.device("a").is_none() {
                assert!(r.add("a", 1));
            }
            r.check(&[("a", 1)]);
        }
    });
}
