//! The index against a linear search over all drivers and devices.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter;

use proptest::prelude::*;

use super::{Few, MatchIndex};
use crate::binding::{AnyBinding, BindingState};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::driver::{AnyDriver, ClassBits, DmaOwner, Match};

/// Driver with a name and names that it matches, which no device is ever bound to.
struct Named(&'static str, &'static [Match]);

impl AnyDriver for Named {
    fn name(&self) -> &'static str {
        self.0
    }
    fn matches(&self) -> &'static [Match] {
        self.1
    }
    fn dma(&self) -> DmaOwner {
        DmaOwner::Kernel
    }
    fn suppresses_bind_attrs(&self) -> bool {
        false
    }
    fn place(&self) -> *const () {
        core::ptr::from_ref(self).cast()
    }
    fn binding(&self, _: BindingState) -> Arc<dyn AnyBinding> {
        unreachable!("these tests bind nothing")
    }
}

const DRIVERS: [Named; 5] = [
    Named("e", &[Match::compatible("x"), Match::compatible("y"), Match::compatible("x")]),
    Named("d", &[Match::compatible("y"), Match::pci(0x8086, 0x10d3)]),
    Named("c", &[Match::pci_class(0x01_0601, ClassBits::Base), Match::compatible("")]),
    Named("b", &[]),
    Named("a", &[Match::pci(0x8086, 0x10d3), Match::compatible("z"), Match::compatible("x")]),
];

const NAMES: [&str; 7] = ["x", "y", "z", "", "pci8086,10d3", "pciclass,01", "nobody's"];

/// What is searched line by line.
#[derive(Default)]
struct Oracle {
    drivers: Vec<Arc<dyn AnyDriver>>,
    devices: Vec<Arc<Device>>,
}

impl Oracle {
    fn drivers_of(&self, device: &Device) -> Vec<&'static str> {
        let mut found = Vec::new();
        for name in &device.desc().compatible {
            let mut here: Vec<_> = self
                .drivers
                .iter()
                .filter(|d| d.matches().iter().any(|m| m.name().is_some_and(|own| *own == **name)))
                .map(|d| d.name())
                .collect();
            here.sort_unstable();
            found.extend(here);
        }
        let mut seen = Vec::new();
        found.retain(|name| {
            !seen.contains(name) && {
                seen.push(*name);
                true
            }
        });
        found
    }

    fn listing(&self, driver: &Arc<dyn AnyDriver>) -> Vec<NodeId> {
        let listing = |name: String| {
            let lists = move |d: &&Arc<Device>| {
                iter::repeat_n(d.node(), d.desc().compatible.iter().filter(|c| ***c == *name).count())
            };
            self.devices.iter().flat_map(move |d| lists(&d)).collect::<Vec<_>>()
        };
        driver.matches().iter().filter_map(Match::name).flat_map(|name| listing(name.into())).collect()
    }

    /// Names that a driver or a device has.
    fn names(&self) -> usize {
        NAMES
            .iter()
            .filter(|name| {
                self.drivers.iter().any(|d| d.matches().iter().any(|m| m.name().is_some_and(|own| own == **name)))
                    || self.devices.iter().any(|d| d.desc().compatible.iter().any(|c| **c == ***name))
            })
            .count()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Driver(usize),
    Unregister(usize),
    Device(Vec<usize>),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..DRIVERS.len()).prop_map(Op::Driver),
        (0..DRIVERS.len()).prop_map(Op::Unregister),
        proptest::collection::vec(0..NAMES.len(), 0..5).prop_map(Op::Device),
        any::<usize>().prop_map(Op::Remove),
    ]
}

fn check(index: &MatchIndex, oracle: &Oracle, others: &[Arc<Device>]) {
    for device in oracle.devices.iter().chain(others) {
        let mut found = Vec::new();
        index.drivers_of(device, |d| found.push(d.name()));
        assert_eq!(found, oracle.drivers_of(device), "{:?}", device.desc().compatible);
    }
    assert_eq!(index.numbers.len(), oracle.names(), "a name that nobody has is forgotten, and no other");
    assert!(index.entries.len() <= NAMES.len(), "{} entries for {} names", index.entries.len(), NAMES.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn it_finds_what_a_linear_search_finds(ops in proptest::collection::vec(op(), 0..40)) {
        let all = DRIVERS.map(|d| Arc::new(d) as Arc<dyn AnyDriver>);
        let (mut index, mut oracle) = (MatchIndex::default(), Oracle::default());
        // Devices that were removed, and one of another machine: their numbers say nothing here.
        let mut others = Vec::new();
        let mut foreign = MatchIndex::default();
        for (n, op) in ops.into_iter().enumerate() {
            let node = NodeId(n as u32);
            match op {
                Op::Driver(d) if !oracle.drivers.iter().any(|known| Arc::ptr_eq(known, &all[d])) => {
                    prop_assert_eq!(index.add_driver(&all[d]), oracle.listing(&all[d]));
                    oracle.drivers.push(Arc::clone(&all[d]));
                }
                Op::Unregister(d) => {
                    if oracle.drivers.iter().any(|known| Arc::ptr_eq(known, &all[d])) {
                        index.remove_driver(&all[d]);
                        oracle.drivers.retain(|known| !Arc::ptr_eq(known, &all[d]));
                    }
                }
                Op::Device(names) => {
                    let mut desc = DeviceDesc::new("d");
                    desc.compatible = names.iter().map(|n| NAMES[*n].into()).collect();
                    let mut same = desc.clone();
                    let numbers = index.add_device(node, &mut desc);
                    oracle.devices.push(Device::numbered(node, desc, numbers, None));
                    let numbers = foreign.add_device(node, &mut same);
                    others.push(Device::numbered(node, same, numbers, None));
                }
                Op::Remove(which) if !oracle.devices.is_empty() => {
                    let device = oracle.devices.remove(which % oracle.devices.len());
                    index.remove_device(&device);
                    others.push(device);
                }
                Op::Driver(_) | Op::Remove(_) => {}
            }
            check(&index, &oracle, &others);
        }
        for device in oracle.devices.drain(..) {
            index.remove_device(&device);
        }
        for driver in &oracle.drivers {
            index.remove_driver(driver);
        }
        prop_assert_eq!((index.len(), index.entries.len()), (0, 0), "nothing is left");
    }
}

#[test]
fn numbers_are_given_back_while_others_are_in_use() {
    let mut index = MatchIndex::default();
    let mut stays = DeviceDesc::new("stays");
    stays.compatible.push("stays".into());
    index.add_device(NodeId(0), &mut stays);
    for n in 1..if cfg!(miri) { 30 } else { 3000 } {
        let mut desc = DeviceDesc::new("d");
        desc.compatible = Vec::from([alloc::format!("a{n}").into(), alloc::format!("b{n}").into()]);
        let numbers = index.add_device(NodeId(n), &mut desc);
        let device = Device::numbered(NodeId(n), desc, numbers, None);
        index.remove_device(&device);
    }
    assert_eq!((index.len(), index.entries.len()), (1, 3));
}

#[test]
fn devices_of_one_kind_share_the_text_of_its_name() {
    let mut index = MatchIndex::default();
    let texts = [0, 1].map(|n| {
        let mut desc = DeviceDesc::new("d");
        desc.compatible.push("same".into());
        index.add_device(NodeId(n), &mut desc);
        desc.compatible.remove(0)
    });
    assert!(Arc::ptr_eq(&texts[0], &texts[1]));
}

#[test]
fn few_are_in_order() {
    for n in 0..4 {
        let mut few = Few::new();
        (0..n).for_each(|n| few.push(n));
        assert_eq!((few.is_empty(), few.iter().copied().collect::<Vec<_>>()), (n == 0, (0..n).collect()));
        assert_eq!(few.into_iter().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
    }
}
