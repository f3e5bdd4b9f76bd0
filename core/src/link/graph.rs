//! The graph of links, with a count of missing suppliers for each consumer.
//!
//! Each operation on a device costs one step per link of it, so that a chain of n devices takes O(n) probe attempts in
//! any order of registration (P8).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::LinkState;
use super::cycles::strength;
use crate::description::{NodeId, Supplier, SupplierKind};

pub(super) type LinkId = usize;

/// Longest list of changed nodes whose memory is kept.
const MAX_KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) supplier: NodeId,
    pub(super) consumer: NodeId,
    pub(super) property: Arc<str>,
    pub(super) state: LinkState,
    /// The driver that made the link, by deferring or by using a service; `None` for a link from firmware. Such a link
    /// is removed with the consumer's binding.
    pub(super) requested_by: Option<&'static str>,
    /// By policy the consumer does not wait for the supplier: the link is tracked only while the consumer uses it.
    pub(super) waived: bool,
    /// The strongest kind among firmware's references that impose an order; `None` when there is none.
    pub(super) kind: Option<SupplierKind>,
}

impl Link {
    /// The consumer is bound, or probing.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, LinkState::ConsumerProbe | LinkState::Active)
    }
}

#[derive(Default, Debug)]
pub(super) struct Node {
    pub(super) available: bool,
    /// The device is bound, so links that its driver makes are active at once.
    pub(super) bound: bool,
    pub(super) suppliers: Vec<LinkId>,
    pub(super) consumers: Vec<LinkId>,
    /// Supplier links that are neither available nor ignored.
    pub(super) missing: u32,
    /// Value of [`Graph::arrivals`] when it was last bound.
    arrived: u64,
}

/// Consumer that was waiting for a supplier which has just been bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaitingConsumer {
    pub(crate) consumer: NodeId,
    /// No other supplier is missing.
    pub(crate) ready: bool,
}

/// All links of a machine.
#[derive(Default, Debug)]
pub(crate) struct Graph {
    /// Nodes that are available or bound, or have links.
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) links: Vec<Link>,
    free: Vec<LinkId>,
    arrivals: u64,
    /// Nodes that were added, removed or marked since the last [`take_changed`](Self::take_changed).
    changed: Vec<NodeId>,
}

impl Graph {
    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        let changed = &mut self.changed;
        self.nodes.entry(id).or_insert_with(|| {
            changed.push(id);
            Node::default()
        })
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// True when `id` is available or bound, or has links.
    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Number of nodes, links and pending changes, for leak checks.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn size(&self) -> usize {
        self.nodes.len() + self.links.len() - self.free.len() + self.changed.len()
    }

    /// Takes the list of nodes for which [`contains`](Self::contains) may have changed.
    pub(crate) fn take_changed(&mut self) -> Vec<NodeId> {
        core::mem::take(&mut self.changed)
    }

    /// Takes the memory of an empty list back, for the next changes. A large one is not kept.
    pub(crate) fn reuse(&mut self, list: Vec<NodeId>) {
        debug_assert!(list.is_empty(), "changes that nobody looked at");
        if self.changed.is_empty() && list.capacity() <= MAX_KEPT {
            self.changed = list;
        }
    }

    /// Adds `id` to the list of changed nodes.
    pub(crate) fn mark_changed(&mut self, id: NodeId) {
        self.changed.push(id);
    }

    /// Removes a node that is neither available nor bound and has no links.
    pub(super) fn forget_idle(&mut self, id: NodeId) {
        let idle = |n: &Node| !n.available && !n.bound && n.suppliers.is_empty() && n.consumers.is_empty();
        if self.nodes.get(&id).is_some_and(idle) {
            self.nodes.remove(&id);
            self.changed.push(id);
        }
    }

    /// Adds a device with its suppliers. Several references to one supplier are one link. A supplier whose references
    /// impose no order ([`Supplier::imposes_order`]) is not waited for.
    pub(crate) fn add(&mut self, consumer: NodeId, suppliers: &[Supplier]) {
        let (ordering, others): (Vec<_>, Vec<_>) = suppliers.iter().partition(|s| s.imposes_order());
        for s in ordering {
            self.link(consumer, s.node, &s.property, None);
            if let Some(id) = self.find(consumer, s.node) {
                let known = self.links[id].kind.into_iter().chain([s.kind]);
                self.links[id].kind = known.max_by_key(|kind| strength(*kind));
            }
        }
        for s in others {
            if self.find(consumer, s.node).is_none() {
                self.link(consumer, s.node, &s.property, None);
                self.ignore(consumer, s.node);
            }
        }
    }

    /// The link between the two, if there is one.
    pub(super) fn find(&self, consumer: NodeId, supplier: NodeId) -> Option<LinkId> {
        self.node(consumer)?.suppliers.iter().copied().find(|l| self.links[*l].supplier == supplier)
    }

    pub(super) fn link(
        &mut self,
        consumer: NodeId,
        supplier: NodeId,
        property: &Arc<str>,
        requested_by: Option<&'static str>,
    ) {
        if consumer == supplier || self.find(consumer, supplier).is_some() {
            return;
        }
        let available = self.node_mut(supplier).available;
        let state = if available { LinkState::Available } else { LinkState::Dormant };
        let link =
            Link { supplier, consumer, property: Arc::clone(property), state, requested_by, waived: false, kind: None };
        let id = self.free.pop().unwrap_or(self.links.len());
        if id == self.links.len() {
            self.links.push(link);
        } else {
            self.links[id] = link;
        }
        self.node_mut(supplier).consumers.push(id);
        let node = self.node_mut(consumer);
        node.suppliers.push(id);
        node.missing += u32::from(!available);
    }

    /// Removes a device's links to its suppliers. Links to its consumers stay: they wait for it to be bound again.
    pub(crate) fn remove(&mut self, consumer: NodeId) {
        let Some(node) = self.nodes.get_mut(&consumer) else { return };
        (node.missing, node.bound) = (0, false);
        for id in core::mem::take(&mut node.suppliers) {
            self.unlink(id);
        }
        self.forget_idle(consumer);
    }

    pub(super) fn unlink(&mut self, id: LinkId) {
        let supplier = self.links[id].supplier;
        if let Some(node) = self.nodes.get_mut(&supplier) {
            node.consumers.retain(|l| *l != id);
        }
        self.forget_idle(supplier);
        self.free.push(id);
    }

    pub(crate) fn is_available(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|n| n.available)
    }

    /// Number of times that a supplier was bound, in the whole graph.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// True when `node` was bound after the value `arrivals` of [`arrivals`](Self::arrivals).
    pub(crate) fn arrived_since(&self, node: NodeId, arrivals: u64) -> bool {
        self.node(node).is_some_and(|n| n.arrived > arrivals)
    }

    /// Number of suppliers that `consumer` is waiting for.
    pub(crate) fn missing_count(&self, consumer: NodeId) -> u32 {
        self.node(consumer).map_or(0, |n| n.missing)
    }

    /// Suppliers that `consumer` is waiting for.
    pub(crate) fn missing(&self, consumer: NodeId) -> Vec<NodeId> {
        self.suppliers(consumer)
            .filter(|l| matches!(l.state, LinkState::Dormant | LinkState::SupplierUnbind))
            .map(|l| l.supplier)
            .collect()
    }

    pub(super) fn suppliers(&self, consumer: NodeId) -> impl Iterator<Item = &Link> {
        self.node(consumer).into_iter().flat_map(|n| &n.suppliers).map(|l| &self.links[*l])
    }

    pub(super) fn consumers(&self, supplier: NodeId) -> impl Iterator<Item = &Link> {
        self.node(supplier).into_iter().flat_map(|n| &n.consumers).map(|l| &self.links[*l])
    }

    /// Devices that have a link to `supplier`.
    pub(crate) fn consumers_of(&self, supplier: NodeId) -> Vec<NodeId> {
        self.consumers(supplier).map(|l| l.consumer).collect()
    }

    /// True when `consumer` does not wait for `supplier`, by policy.
    pub(crate) fn is_ignored(&self, consumer: NodeId, supplier: NodeId) -> bool {
        self.suppliers(consumer).any(|l| l.supplier == supplier && l.state == LinkState::NotTracked)
    }

    /// Links to suppliers: supplier, property, state.
    pub(crate) fn list(&self, consumer: NodeId) -> impl Iterator<Item = (NodeId, &Arc<str>, LinkState)> {
        self.suppliers(consumer).map(|l| (l.supplier, &l.property, l.state))
    }

    /// Links of a node, to suppliers and to consumers: supplier, consumer, state, and whether it is removed with the
    /// consumer's binding.
    pub(crate) fn links_of(&self, node: NodeId) -> impl Iterator<Item = (NodeId, NodeId, LinkState, bool)> {
        self.suppliers(node)
            .chain(self.consumers(node))
            .map(|l| (l.supplier, l.consumer, l.state, l.requested_by.is_some()))
    }

    fn set_suppliers(&mut self, consumer: NodeId, to: impl Fn(&Node, &Link) -> Option<LinkState>) {
        let Some(node) = self.nodes.get(&consumer) else { return };
        for id in &node.suppliers {
            let link = &mut self.links[*id];
            if let Some(state) = self.nodes.get(&link.supplier).and_then(|supplier| to(supplier, link)) {
                link.state = state;
            }
        }
    }

    /// Starts the consumer's probe; false, without a change, when a supplier is missing.
    pub(crate) fn probe_begins(&mut self, consumer: NodeId) -> bool {
        if self.missing_count(consumer) != 0 {
            return false;
        }
        self.node_mut(consumer);
        self.set_suppliers(consumer, |_, l| (l.state == LinkState::Available).then_some(LinkState::ConsumerProbe));
        true
    }

    /// Marks the consumer as bound.
    pub(crate) fn consumer_bound(&mut self, consumer: NodeId) {
        self.node_mut(consumer).bound = true;
        self.set_suppliers(consumer, |_, l| (l.state == LinkState::ConsumerProbe).then_some(LinkState::Active));
    }

    /// Marks the consumer as unbound, after everything was released. Links that its driver made are removed, unless the
    /// supplier is unbinding: then the consumer waits for it, as for a supplier from firmware.
    pub(crate) fn consumer_unbound(&mut self, consumer: NodeId) {
        let missed = |g: &Self, l: &Link| l.is_busy() && !l.waived && !g.is_available(l.supplier);
        let newly_missing = self.suppliers(consumer).filter(|l| missed(self, l)).count() as u32;
        // While the link was busy, `supplier_leaves` did not count the supplier as missing.
        self.set_suppliers(consumer, |s, l| {
            l.is_busy().then_some(match s.available {
                _ if l.waived => LinkState::NotTracked,
                true => LinkState::Available,
                false => LinkState::SupplierUnbind,
            })
        });
        let links = &self.links;
        let Some(node) = self.nodes.get_mut(&consumer) else { return };
        node.bound = false;
        node.missing += newly_missing;
        let goes = |l: &Link| l.requested_by.is_some() && l.state == LinkState::Available;
        let (asked, kept) = node.suppliers.iter().partition(|l| goes(&links[**l]));
        node.suppliers = kept;
        let asked: Vec<LinkId> = asked;
        for id in asked {
            self.unlink(id);
        }
        self.forget_idle(consumer);
    }

    /// Marks `supplier` as bound. Returns the consumers that were waiting for it.
    pub(crate) fn supplier_arrives(&mut self, supplier: NodeId) -> Vec<WaitingConsumer> {
        self.arrivals += 1;
        let now = self.arrivals;
        let node = self.node_mut(supplier);
        (node.available, node.arrived) = (true, now);
        let mut waiting = Vec::new();
        for id in node.consumers.clone() {
            let link = &mut self.links[id];
            if !matches!(link.state, LinkState::Dormant | LinkState::SupplierUnbind) {
                continue;
            }
            link.state = LinkState::Available;
            if let Some(node) = self.nodes.get_mut(&link.consumer) {
                node.missing -= 1;
                waiting.push(WaitingConsumer { consumer: link.consumer, ready: node.missing == 0 });
            }
        }
        waiting
    }

    /// Marks `supplier` as unbinding: no new use may start. False when it was not bound.
    pub(crate) fn supplier_leaves(&mut self, supplier: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&supplier) else { return false };
        if !core::mem::replace(&mut node.available, false) {
            return false;
        }
        for id in node.consumers.clone() {
            let link = &mut self.links[id];
            if link.state == LinkState::Available {
                link.state = LinkState::SupplierUnbind;
                if let Some(node) = self.nodes.get_mut(&link.consumer) {
                    node.missing += 1;
                }
            }
        }
        true
    }

    /// Suppliers that `consumer` uses while it is bound or being probed.
    pub(crate) fn busy_suppliers(&self, consumer: NodeId) -> impl Iterator<Item = NodeId> {
        self.suppliers(consumer).filter(|l| l.is_busy()).map(|l| l.supplier)
    }

    /// Bound and probing consumers of `supplier`.
    pub(crate) fn busy_consumers(&self, supplier: NodeId) -> Vec<NodeId> {
        self.consumers(supplier).filter(|l| l.is_busy()).map(|l| l.consumer).collect()
    }

    /// Marks `supplier` as unbound, after everything was released.
    pub(crate) fn supplier_gone(&mut self, supplier: NodeId) {
        let Some(node) = self.nodes.get(&supplier) else { return };
        for id in &node.consumers {
            let link = &mut self.links[*id];
            if link.state == LinkState::SupplierUnbind {
                link.state = LinkState::Dormant;
            }
        }
        self.forget_idle(supplier);
    }

    /// Stops `consumer` from waiting for `supplier`; a link in use is left unchanged. True when it was the last missing
    /// supplier.
    pub(crate) fn ignore(&mut self, consumer: NodeId, supplier: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&consumer) else { return false };
        let links = &mut self.links;
        let Some(id) = node.suppliers.iter().find(|l| links[**l].supplier == supplier) else { return false };
        let was_missing = match links[*id].state {
            LinkState::Dormant | LinkState::SupplierUnbind => true,
            LinkState::Available => false,
            LinkState::ConsumerProbe | LinkState::Active | LinkState::NotTracked => return false,
        };
        (links[*id].state, links[*id].waived) = (LinkState::NotTracked, true);
        node.missing -= u32::from(was_missing);
        was_missing && node.missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn needs(nodes: &[u32]) -> Vec<Supplier> {
        let one = |n: &u32| Supplier {
            node: NodeId(*n),
            target: NodeId(*n),
            kind: SupplierKind::Other,
            property: "x".into(),
            args: vec![],
        };
        nodes.iter().map(one).collect()
    }

    #[test]
    fn binding_a_supplier_wakes_exactly_its_waiting_consumers() {
        let mut g = Graph::default();
        g.add(NodeId(0), &needs(&[2, 3]));
        g.add(NodeId(1), &needs(&[3]));
        assert_eq!(g.supplier_arrives(NodeId(2)), [WaitingConsumer { consumer: NodeId(0), ready: false }]);
        assert_eq!(
            g.supplier_arrives(NodeId(3)),
            [
                WaitingConsumer { consumer: NodeId(0), ready: true },
                WaitingConsumer { consumer: NodeId(1), ready: true }
            ]
        );
        assert!(g.supplier_arrives(NodeId(3)).is_empty());
    }

    #[test]
    fn an_unbinding_supplier_is_counted_as_missing_once() {
        let mut g = Graph::default();
        g.add(NodeId(0), &needs(&[1]));
        g.supplier_arrives(NodeId(1));
        assert!(g.probe_begins(NodeId(0)));
        g.consumer_bound(NodeId(0));
        assert!(g.supplier_leaves(NodeId(1)));
        assert_eq!(g.busy_consumers(NodeId(1)), [NodeId(0)]);
        g.consumer_unbound(NodeId(0));
        assert!(g.busy_consumers(NodeId(1)).is_empty());
        g.supplier_gone(NodeId(1));
        assert_eq!((g.missing_count(NodeId(0)), g.missing(NodeId(0))), (1, vec![NodeId(1)]));
        assert_eq!(g.supplier_arrives(NodeId(1)), [WaitingConsumer { consumer: NodeId(0), ready: true }]);
    }

    type Prepare = fn(&mut Graph);

    #[test]
    fn a_supplier_can_be_ignored_in_any_state() {
        let state = |g: &Graph| g.list(NodeId(0)).map(|(_, _, state)| state).collect::<Vec<_>>();
        let absent = |_: &mut Graph| {};
        let there = |g: &mut Graph| assert!(g.supplier_arrives(NodeId(1)).is_empty());
        let leaving = |g: &mut Graph| {
            g.supplier_arrives(NodeId(1));
            g.add(NodeId(0), &needs(&[1]));
            assert!(g.supplier_leaves(NodeId(1)));
        };
        let cases: [(&str, Prepare, bool); 3] =
            [("absent", absent, true), ("there", there, false), ("leaving", leaving, true)];
        for (what, prepare, last) in cases {
            let mut g = Graph::default();
            prepare(&mut g);
            g.add(NodeId(0), &needs(&[1]));
            assert_eq!(g.ignore(NodeId(0), NodeId(1)), last, "{what}");
            assert!(!g.ignore(NodeId(0), NodeId(1)), "{what}: a second time changes nothing");
            assert_eq!((state(&g), g.missing_count(NodeId(0))), (vec![LinkState::NotTracked], 0), "{what}");
            assert!(g.probe_begins(NodeId(0)), "{what}");
            assert!(g.busy_consumers(NodeId(1)).is_empty(), "{what}: the supplier may go");
            g.supplier_gone(NodeId(1));
            g.supplier_arrives(NodeId(1));
            assert_eq!((state(&g), g.missing_count(NodeId(0))), (vec![LinkState::NotTracked], 0), "{what}");
        }
    }

    #[test]
    fn a_supplier_in_use_is_not_ignored() {
        let mut g = Graph::default();
        g.add(NodeId(0), &needs(&[1]));
        g.supplier_arrives(NodeId(1));
        assert!(g.probe_begins(NodeId(0)));
        assert!(!g.ignore(NodeId(0), NodeId(1)));
        g.consumer_bound(NodeId(0));
        assert!(!g.ignore(NodeId(0), NodeId(1)));
        assert_eq!(g.busy_consumers(NodeId(1)), [NodeId(0)], "P6");
    }

    #[test]
    fn several_references_to_one_supplier_are_one_link() {
        let mut g = Graph::default();
        g.add(NodeId(0), &needs(&[1, 1, 1]));
        assert_eq!(g.missing_count(NodeId(0)), 1);
    }
}

#[cfg(all(test, not(loom)))]
mod random_tests;
