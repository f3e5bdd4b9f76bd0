//! Devices, drivers and links of a machine, behind one lock that is held for a few steps at a time.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::matching::{Few, MatchIndex};
use super::refusals::Refusal;
use crate::device::{Device, NodeId, Nodes, Supplier};
use crate::driver::AnyDriver;
use crate::instrument::Instrument;
use crate::lifecycle::Phase;
use crate::link::Graph;
use crate::sync::atomic::Ordering;

pub(super) struct Registry {
    pub(super) nodes: Nodes,
    /// Number of references to each node from descriptions of present devices.
    pub(super) named: BTreeMap<NodeId, u32>,
    /// Nodes that are in use only because supplies of theirs are pinned.
    pub(super) kept: BTreeSet<NodeId>,
    /// Devices by node; a node has at most one.
    pub(super) by_node: BTreeMap<NodeId, Arc<Device>>,
    pub(super) devices: BTreeMap<Arc<str>, NodeId>,
    /// Removed devices that have not been reset since their last pass-through user.
    pub(super) left_by_user: BTreeSet<Arc<str>>,
    pub(super) drivers: BTreeMap<&'static str, Arc<dyn AnyDriver>>,
    pub(super) matching: MatchIndex,
    /// Devices below each device, in order of arrival.
    pub(super) children: BTreeMap<NodeId, Vec<NodeId>>,
    pub(super) graph: Graph,
    /// Devices to probe, none twice, each with the number that it was queued with: oldest first.
    pub(super) queue: VecDeque<(u64, NodeId)>,
    /// Numbers of the devices in the queue.
    pub(super) queued: BTreeMap<NodeId, u64>,
    next_queued: u64,
    /// Devices that were taken off the queue and are being probed, once for each thread that does so.
    pub(super) probing: Vec<NodeId>,
    /// Devices whose last attempt found a supplier missing.
    pub(super) waiting: BTreeSet<NodeId>,
    /// Devices whose last bind was refused.
    pub(super) refusals: BTreeMap<NodeId, Refusal>,
    /// Count of refusals and probe starts.
    pub(super) ticks: u64,
    /// Bindings in the order in which they were made.
    pub(super) bound: BTreeMap<u64, NodeId>,
    pub(super) next_bound: u64,
    /// True when new devices, new drivers and arriving suppliers lead to probes.
    pub(super) autoprobe: bool,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            nodes: Nodes::new(),
            named: BTreeMap::new(),
            kept: BTreeSet::new(),
            by_node: BTreeMap::new(),
            devices: BTreeMap::new(),
            left_by_user: BTreeSet::new(),
            drivers: BTreeMap::new(),
            matching: MatchIndex::default(),
            children: BTreeMap::new(),
            graph: Graph::default(),
            queue: VecDeque::new(),
            queued: BTreeMap::new(),
            next_queued: 0,
            probing: Vec::new(),
            waiting: BTreeSet::new(),
            refusals: BTreeMap::new(),
            ticks: 0,
            bound: BTreeMap::new(),
            next_bound: 1,
            autoprobe: true,
        }
    }
}

impl Registry {
    /// Devices that `driver` holds: bound ones, newest first, then those that are being bound.
    pub(super) fn held_by(&self, driver: &str) -> Vec<Arc<Device>> {
        let mut held: Vec<_> = self.by_node.values().filter(|d| d.driver() == Some(driver)).cloned().collect();
        held.sort_by_cached_key(|d| {
            // Relaxed: written and read under the registry lock.
            let number = d.bound_seq.load(Ordering::Relaxed);
            (self.bound.get(&number) != Some(&d.node()), Reverse(number))
        });
        held
    }

    pub(super) fn device(&self, node: NodeId) -> Option<&Arc<Device>> {
        self.by_node.get(&node)
    }

    pub(super) fn device_named(&self, name: &str) -> Option<&Arc<Device>> {
        self.device(*self.devices.get(name)?)
    }

    /// Lets the consumers that firmware gives a supplier at `node` wait for the device that is being added there, beside the
    /// device `above` it, which stood for it so far.
    pub(super) fn link_to_subnode(&mut self, node: NodeId, above: Option<NodeId>) {
        let Some(above) = above.filter(|above| *above != node) else { return };
        for consumer in self.graph.consumers_of(above) {
            let Some(device) = self.device(consumer).filter(|d| d.phase() == Phase::Unbound) else { continue };
            let named = device.desc().suppliers.iter().filter(|s| s.is_subnode_of(above) && s.target == node);
            let own: Vec<Supplier> = named.map(|s| Supplier { node, ..s.clone() }).collect();
            self.graph.add(consumer, &own);
        }
    }

    /// Appends `node` to the queue unless it is queued already.
    pub(super) fn enqueue(&mut self, node: NodeId) {
        if self.autoprobe && !self.is_queued(node) {
            self.queue.push_back((self.next_queued, node));
            self.queued.insert(node, self.next_queued);
            self.next_queued += 1;
        }
    }

    /// Takes `node` off the queue, if it is there: its device leaves.
    pub(super) fn unqueue(&mut self, node: NodeId) {
        let number = self.queued.remove(&node);
        if let Some(at) = number.and_then(|n| self.queue.binary_search_by_key(&n, |(number, _)| *number).ok()) {
            self.queue.remove(at);
        }
    }

    /// True when `node` is in the queue.
    pub(super) fn is_queued(&self, node: NodeId) -> bool {
        self.queued.contains_key(&node)
    }

    /// A device that waits although nothing is missing, and is neither queued nor being probed: a lost wake-up.
    pub(super) fn forgotten(&self) -> Option<NodeId> {
        let pending = |n: &NodeId| self.queued.contains_key(n) || self.probing.contains(n);
        let leaves = |n: &NodeId| self.device(*n).is_none_or(|d| d.is_removed());
        let ready = |n: &&NodeId| self.graph.missing_count(**n) == 0 && !pending(n) && !leaves(n);
        self.waiting.iter().find(ready).copied().filter(|_| self.autoprobe)
    }

    /// Takes the oldest node off the queue, or the one that `instrument` chooses. [`probe_done`](Self::probe_done) must
    /// follow.
    pub(super) fn dequeue(&mut self, instrument: &impl Instrument) -> Option<NodeId> {
        let mut nodes = self.queue.iter().map(|(_, node)| *node);
        let at = if nodes.len() > 1 { instrument.choose_next(&mut nodes) } else { 0 };
        let (_, node) = self.queue.remove(at)?;
        self.queued.remove(&node);
        self.probing.push(node);
        Some(node)
    }

    /// Ends the probe of `node`, whose result is in the registry by now.
    pub(super) fn probe_done(&mut self, node: NodeId) {
        if let Some(at) = self.probing.iter().position(|n| *n == node) {
            self.probing.swap_remove(at);
        }
    }

    /// Drivers that may bind `device`, best first: `driver_override` alone if set, else by the device's `compatible`
    /// order, then by name, so that the order of registration does not matter (P8).
    /// What `take` makes of each.
    pub(super) fn candidates<'r, T>(&'r self, device: &Device, take: impl Fn(&'r Arc<dyn AnyDriver>) -> T) -> Few<T> {
        let mut found = Few::new();
        match device.driver_override() {
            None => self.matching.drivers_of(device, |driver| found.push(take(driver))),
            Some(name) => self.drivers.get(&*name).into_iter().for_each(|driver| found.push(take(driver))),
        }
        found
    }

    /// True when some driver may bind `device`.
    pub(super) fn has_candidates(&self, device: &Device) -> bool {
        !self.candidates(device, |_| ()).is_empty()
    }
}
