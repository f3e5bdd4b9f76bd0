//! Symmetry reduction: states that differ by a permutation of identical devices count once.

use bindery::addr::PhysAddr;
use bindery::device::{Device, DeviceDesc, NodeId, Resource};
use bindery::machine::Machine;

use crate::engine::fingerprint;

/// One of several that are symmetric.
struct Member {
    node: NodeId,
    /// Base addresses of its registers.
    windows: Vec<PhysAddr>,
    /// Index of its set of symmetric devices.
    class: usize,
}

/// Sets of symmetric devices of a machine.
#[derive(Default)]
pub(crate) struct Symmetry(Vec<Member>);

impl Symmetry {
    /// Finds devices for which firmware says the same but for names, addresses and cells of references, and which no
    /// other device needs: whatever has one of them has the others, too. `may_be` picks those that the script does not
    /// tell apart by name.
    pub(crate) fn of(machine: &Machine, may_be: impl Fn(&Device) -> bool) -> Self {
        let all = machine.devices();
        let needed: Vec<_> = all.iter().flat_map(|d| machine.links(d)).map(|link| link.supplier).collect();
        let stands_alone = |d: &Device| {
            !needed.iter().any(|name| **name == *d.name()) && !all.iter().any(|c| c.desc().parent == Some(d.node()))
        };
        let mut classes: Vec<(DeviceDesc, Vec<Member>)> = Vec::new();
        for device in all.iter().filter(|d| !d.desc().compatible.is_empty() && may_be(d) && stands_alone(d)) {
            let kind = nameless(device.desc());
            let place = classes.iter().position(|(known, _)| *known == kind).unwrap_or(classes.len());
            if place == classes.len() {
                classes.push((kind, Vec::new()));
            }
            classes[place].1.push(Member { node: device.node(), windows: windows(device.desc()), class: place });
        }
        Self(
            classes.into_iter().map(|(_, symmetry)| symmetry).filter(|symmetry| symmetry.len() > 1).flatten().collect(),
        )
    }

    /// Number of devices that are symmetric to another one.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The index of the device at `node`, if it is one of them.
    pub(crate) fn index_of(&self, node: NodeId) -> Option<usize> {
        self.0.iter().position(|member| member.node == node)
    }

    /// The index of the one whose registers are at `window`.
    pub(crate) fn index_at(&self, window: PhysAddr) -> Option<usize> {
        self.0.iter().position(|member| member.windows.contains(&window))
    }

    /// Number for all of their `states`, by index, independent of the order of symmetric devices.
    pub(crate) fn canonical(&self, states: &[u64]) -> u64 {
        let mut all: Vec<_> = self.0.iter().map(|member| member.class).zip(states).collect();
        all.sort_unstable();
        fingerprint(&all)
    }
}

fn windows(desc: &DeviceDesc) -> Vec<PhysAddr> {
    let base = |r: &Resource| if let Resource::Mem { base, .. } = r { Some(*base) } else { None };
    desc.resources.iter().filter_map(base).collect()
}

/// Reduces a description to all but names, addresses, and the cells of references.
fn nameless(desc: &DeviceDesc) -> DeviceDesc {
    let mut desc = desc.clone();
    desc.name = "".into();
    desc.node = None;
    for resource in &mut desc.resources {
        match resource {
            Resource::Mem { base, .. } => *base = PhysAddr(0),
            Resource::Irq { line, .. } => line.0 = 0,
            Resource::IrqBehind { specifier, .. } => specifier.fill(0),
        }
    }
    let references: Vec<_> = desc.suppliers.iter().map(|s| s.property.clone()).collect();
    for supplier in &mut desc.suppliers {
        supplier.args.fill(0);
    }
    desc.properties.iter_mut().filter(|(name, _)| references.contains(name)).for_each(|(_, value)| value.fill(0));
    desc
}
