//! Links that drivers make at run time: by using a supplier's service, or by deferring until it is bound.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::graph::Link;
use super::{Graph, LinkState};
use crate::description::NodeId;

/// Refusal of a driver's link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotLinked {
    /// The supplier is not bound.
    Absent,
    /// The supplier uses the consumer, through these devices: the consumer first, the supplier last.
    Cycle(Vec<NodeId>),
}

impl Graph {
    /// Links `consumer`, for its driver `driver`, to `supplier` until the binding ends.
    pub(crate) fn use_supplier(
        &mut self,
        consumer: NodeId,
        supplier: NodeId,
        driver: &'static str,
    ) -> Result<(), NotLinked> {
        if consumer == supplier {
            return Err(NotLinked::Cycle(Vec::from([consumer])));
        }
        if !self.is_available(supplier) {
            return Err(NotLinked::Absent);
        }
        if let Some(path) = self.path(consumer, supplier, Link::is_busy) {
            return Err(NotLinked::Cycle(path));
        }
        self.link(consumer, supplier, &Arc::from("driver"), Some(driver));
        let state = if self.node_mut(consumer).bound { LinkState::Active } else { LinkState::ConsumerProbe };
        if let Some(id) = self.find(consumer, supplier).filter(|id| !self.links[*id].is_busy()) {
            self.links[id].state = state;
        }
        Ok(())
    }

    /// Checks that `consumer` may wait for `supplier`, which is not bound: not when that would close a cycle.
    pub(crate) fn may_use_later(&self, consumer: NodeId, supplier: NodeId) -> Result<(), NotLinked> {
        let counts = |link: &Link| link.state != LinkState::NotTracked;
        self.path(consumer, supplier, counts).map_or(Ok(()), |path| Err(NotLinked::Cycle(path)))
    }

    /// Path along links that count from `from` to its direct or indirect consumer `to`, both included. A device that is
    /// being probed has no active consumers, so the walk along busy links ends at once.
    fn path(&self, from: NodeId, to: NodeId, counts: impl Fn(&Link) -> bool) -> Option<Vec<NodeId>> {
        let mut came = Vec::from([(from, 0)]);
        let mut seen = alloc::collections::BTreeSet::from([from]);
        let mut at = 0;
        while at < came.len() {
            for next in self.consumers(came[at].0).filter(|l| counts(l)).map(|l| l.consumer) {
                if !seen.insert(next) {
                    continue;
                }
                came.push((next, at));
                if next == to {
                    let mut path = Vec::from([to]);
                    let mut step = at;
                    while step != 0 {
                        path.push(came[step].0);
                        step = came[step].1;
                    }
                    path.push(from);
                    path.reverse();
                    return Some(path);
                }
            }
            at += 1;
        }
        None
    }

    /// Records that the driver `driver` deferred until `supplier` is bound. False when it is bound already, or is the
    /// consumer itself. Revokes a policy by which the consumer did not wait for it.
    pub(crate) fn request_supplier(&mut self, consumer: NodeId, supplier: NodeId, driver: &'static str) -> bool {
        if consumer == supplier || self.is_available(supplier) {
            return false;
        }
        self.link(consumer, supplier, &Arc::from("driver"), Some(driver));
        if let Some(id) = self.find(consumer, supplier).filter(|id| self.links[*id].waived) {
            (self.links[id].state, self.links[id].waived) = (LinkState::Dormant, false);
            self.node_mut(consumer).missing += 1;
        }
        true
    }

    /// Drops links that were requested by other drivers than `drivers`, one of which is about to probe `consumer`.
    pub(crate) fn retain_requests_of(&mut self, consumer: NodeId, drivers: impl Fn(&str) -> bool) {
        let Some(node) = self.node(consumer) else { return };
        let stale = |id: &usize| {
            let link = &self.links[*id];
            link.requested_by.is_some_and(|driver| !drivers(driver)) && !link.is_busy()
        };
        let stale: Vec<_> = node.suppliers.iter().copied().filter(stale).collect();
        for id in stale {
            let missing = matches!(self.links[id].state, LinkState::Dormant | LinkState::SupplierUnbind);
            let node = self.node_mut(consumer);
            node.suppliers.retain(|l| *l != id);
            node.missing -= u32::from(missing);
            self.unlink(id);
            self.forget_idle(consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Supplier, SupplierKind};

    const A: NodeId = NodeId(0);
    const B: NodeId = NodeId(1);
    const C: NodeId = NodeId(2);

    fn bound(g: &mut Graph, node: NodeId) {
        assert!(g.probe_begins(node));
        g.consumer_bound(node);
        g.supplier_arrives(node);
    }

    fn states(g: &Graph, consumer: NodeId) -> Vec<(NodeId, LinkState)> {
        g.list(consumer).map(|(s, _, state)| (s, state)).collect()
    }

    #[test]
    fn using_a_service_makes_a_link_until_the_binding_ends() {
        for early in [true, false] {
            let mut g = Graph::default();
            bound(&mut g, B);
            assert!(g.probe_begins(A));
            if early {
                g.use_supplier(A, B, "a").unwrap();
                assert_eq!(states(&g, A), [(B, LinkState::ConsumerProbe)]);
            }
            g.consumer_bound(A);
            g.use_supplier(A, B, "a").unwrap();
            assert_eq!(states(&g, A), [(B, LinkState::Active)], "P6");
            assert_eq!(g.busy_consumers(B), [A]);
            g.consumer_unbound(A);
            assert_eq!(states(&g, A), []);
        }
    }

    #[test]
    fn a_consumer_waits_for_a_supplier_that_was_unbound() {
        let mut g = Graph::default();
        bound(&mut g, B);
        bound(&mut g, A);
        g.use_supplier(A, B, "a").unwrap();
        assert!(g.supplier_leaves(B));
        g.consumer_unbound(A);
        g.supplier_gone(B);
        assert_eq!((g.missing(A), states(&g, A)), (Vec::from([B]), Vec::from([(B, LinkState::Dormant)])));
        assert!(g.supplier_arrives(B)[0].ready);
    }

    #[test]
    fn a_supplier_that_is_unbound_or_unbinding_cannot_be_used() {
        let mut g = Graph::default();
        assert_eq!(g.use_supplier(A, B, "a"), Err(NotLinked::Absent));
        bound(&mut g, B);
        g.supplier_leaves(B);
        assert_eq!(g.use_supplier(A, B, "a"), Err(NotLinked::Absent));
        assert_eq!(states(&g, A), []);
    }

    #[test]
    fn a_cycle_at_run_time_is_refused_with_its_members() {
        let mut g = Graph::default();
        bound(&mut g, A);
        bound(&mut g, B);
        bound(&mut g, C);
        g.use_supplier(B, A, "b").unwrap();
        g.use_supplier(C, B, "c").unwrap();
        assert_eq!(g.use_supplier(A, C, "a"), Err(NotLinked::Cycle(Vec::from([A, B, C]))));
        assert_eq!(g.use_supplier(A, A, "a"), Err(NotLinked::Cycle(Vec::from([A]))));
        assert_eq!(states(&g, A), []);
        assert!(!g.request_supplier(A, A, "a"), "a device does not wait for itself");
    }

    #[test]
    fn a_waived_supplier_that_is_used_after_all_is_tracked_for_that_binding() {
        let mut g = Graph::default();
        let x = Supplier { node: B, target: B, kind: SupplierKind::Other, property: "x".into(), args: Vec::new() };
        g.add(A, &[x]);
        assert!(g.ignore(A, B));
        bound(&mut g, B);
        bound(&mut g, A);
        g.use_supplier(A, B, "a").unwrap();
        assert_eq!(g.busy_consumers(B), [A], "P6");
        g.supplier_leaves(B);
        g.consumer_unbound(A);
        assert_eq!((states(&g, A), g.missing_count(A)), (Vec::from([(B, LinkState::NotTracked)]), 0));
        assert!(g.request_supplier(A, B, "a"), "a deferral revokes the policy");
        assert_eq!(g.missing(A), [B]);
    }

    #[test]
    fn one_drivers_requests_do_not_defer_another_driver() {
        let mut g = Graph::default();
        g.add(A, &[]);
        assert!(g.request_supplier(A, B, "a"));
        g.retain_requests_of(A, |driver| driver == "a");
        assert_eq!(g.missing(A), [B]);
        g.retain_requests_of(A, |driver| driver == "other");
        assert_eq!((g.missing_count(A), states(&g, A)), (0, Vec::new()));
        assert!(g.supplier_arrives(B).is_empty());
    }
}
