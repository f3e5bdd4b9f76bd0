//! A device that waits until its groups can be one, in a machine.

use super::board::desc;
use super::*;
use crate::binding::Bound;
use crate::device::DeviceDesc;
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::machine::{Handle, Policy};

/// Driver of the IOMMUs.
struct MmuDriver;

impl Driver for MmuDriver {
    const NAME: &'static str = "mmu";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,mmu")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let index = IOMMUS.iter().position(|name| *name == dev.name()).unwrap();
        Ok(dev.iommu_provider().provide(Mmu::new(index))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

struct Master;

impl Driver for Master {
    const NAME: &'static str = "master";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,master")];
    type Data<'b> = ();

    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

fn add(machine: &Handle, mut desc: DeviceDesc, compatible: &str) {
    desc.compatible.push(compatible.into());
    machine.add_device(desc).unwrap();
    machine.settle();
}

/// P8: as [`a_device_that_could_not_join_is_told`](super), and it is probed.
#[test]
fn a_device_is_probed_when_what_kept_its_groups_apart_has_left() {
    let machine = FakeEnv::new().machine(Policy::default());
    machine.register(MmuDriver);
    machine.register(Master);
    let nodes = IOMMUS.map(|name| machine.with_nodes(|nodes| nodes.find_or_add(name)));
    for (name, node) in IOMMUS.into_iter().zip(nodes) {
        let mut desc = DeviceDesc::new(name);
        desc.node = Some(node);
        add(&machine, desc, "acme,mmu");
    }
    let driver = |d: usize| machine.device(&board::device_name(d)).unwrap().driver().map(String::from);
    add(&machine, desc(8, |iommu| nodes[iommu]), "acme,master");
    add(&machine, desc(7, |iommu| nodes[iommu]), "acme,nobody-drives-it");
    add(&machine, desc(5, |iommu| nodes[iommu]), "acme,master");
    assert_eq!((driver(8), driver(5)), (Some("master".into()), None));
    let apart = machine.device("5.dev").map(|device| *device.not_joined.lock());
    assert!(matches!(apart, Some(Some(IommuError::Apart { .. }))), "{apart:?}");
    assert!(machine.remove_device("7.dev"));
    machine.settle();
    assert_eq!(driver(5).as_deref(), Some("master"));
    assert_eq!(machine.promises().broken(), []);
}
