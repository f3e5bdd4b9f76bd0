//! Who joins while another one leaves: each race on the host's threads, many times over, and after each round the books of
//! the core against the models.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread;

use bindery::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use bindery::env::Env;
use bindery::iommu::Grouping;
use bindery::machine::{Handle, Machine, Policy};
use bindery_sim::salvator::Salvator;

use crate::drivers::MmuDriver;
use crate::mmu::{Mmu, Reach};

const ROUNDS: usize = 300;

struct Rig {
    machine: Handle,
    mmu: Arc<Mmu>,
    node: NodeId,
}

fn rig(grouping: Grouping) -> Rig {
    let machine = Machine::new(Salvator::new().build() as Arc<dyn Env>, Policy::default());
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

    /// Runs all of `acts` at once.
    fn at_once(&self, acts: &[&(dyn Fn(&Self) + Sync)]) {
        let begin = Barrier::new(acts.len());
        thread::scope(|scope| {
            for act in acts {
                scope.spawn(|| {
                    begin.wait();
                    act(self);
                });
            }
        });
    }

    /// Every device that is there is in one group, which lists it, blocked if the IOMMU is there; no group lists another.
    fn check(&self, streams: &[(&str, u32)]) {
        let groups = self.machine.groups();
        let listed: Vec<_> = groups.iter().flat_map(|g| g.info().members).collect();
        let there: BTreeSet<_> = streams.iter().filter(|(n, _)| self.machine.device(n).is_some()).copied().collect();
        let mmu_is_there = self.machine.device("mmu0").is_some_and(|d| d.driver().is_some());
        if mmu_is_there {
            for (name, stream) in &there {
                let info = self.machine.device_info(&self.machine.device(name).unwrap());
                assert!(groups.iter().any(|g| Some(g.id()) == info.group), "{name} is in no group: {groups:?}");
                assert_eq!(self.mmu.reach(*stream), Reach::Pages(BTreeSet::new()), "{name} is not blocked");
            }
        }
        let names: BTreeSet<_> = there.iter().map(|(n, _)| *n).collect();
        assert_eq!(listed.len(), if mmu_is_there { names.len() } else { 0 }, "{listed:?} of {names:?}");
        assert!(listed.iter().all(|n| names.contains(&**n)), "{listed:?} of {names:?}");
        assert!(groups.iter().all(|g| !g.info().members.is_empty()), "an empty group is left");
    }
}

#[test]
fn one_joins_a_group_while_its_last_member_leaves() {
    let r = rig(Grouping::PerInstance);
    assert!(r.add("a", 1));
    for round in 0..ROUNDS {
        let (comes, goes) = if round % 2 == 0 { ("b", "a") } else { ("a", "b") };
        r.at_once(&[&|r| assert!(r.add(comes, 1)), &|r| assert!(r.machine.remove_device(goes))]);
        r.check(&[("a", 1), ("b", 1)]);
    }
}

#[test]
fn a_device_comes_while_its_iommu_goes() {
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
}

#[test]
fn two_removals_race_with_a_device_of_the_same_name() {
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
}
