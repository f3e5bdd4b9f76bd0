//! Dependency cycles, and how they are broken (Linux: `fw_devlink_relax_link`).

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::graph::{Link, Node};
use super::{Graph, LinkState};
use crate::description::{NodeId, SupplierKind};

/// Strength of a dependency on a supplier of this kind: a cycle is broken at its weakest links.
pub(super) const fn strength(kind: SupplierKind) -> u8 {
    match kind {
        SupplierKind::Other => 0,
        SupplierKind::Interrupt => 1,
        SupplierKind::Reset => 2,
        SupplierKind::Clock => 3,
        SupplierKind::Regulator => 4,
        SupplierKind::Power => 5,
        SupplierKind::Iommu => UNBREAKABLE,
    }
}

/// Strength of a link that is never relaxed: a device is not bound without its translation (P10).
const UNBREAKABLE: u8 = 6;

/// Link that a consumer no longer waits for, because it was part of a cycle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RelaxedLink {
    pub(crate) consumer: NodeId,
    pub(crate) supplier: NodeId,
    pub(crate) property: Arc<str>,
    /// All devices of the cycle, ascending.
    pub(crate) members: Vec<NodeId>,
    /// The consumer is missing no other supplier.
    pub(crate) ready: bool,
}

impl Graph {
    /// Relaxes links in cycles whose members can all be probed (`ready`) and are waiting for nothing but each other.
    ///
    /// In each cycle (strongly connected component) the links of the weakest kind are relaxed: those whose supplier
    /// comes after its consumer in firmware order, or all of that kind when there are none. This is repeated until no
    /// cycle can be broken, at most two rounds for each kind. Links to IOMMUs, and those that a driver requested, are
    /// never relaxed.
    pub(crate) fn break_cycles(&mut self, ready: impl Fn(NodeId) -> bool) -> Vec<RelaxedLink> {
        let mut relaxed = Vec::new();
        loop {
            let before = relaxed.len();
            for members in self.cycles() {
                let inside = |n: &NodeId| members.binary_search(n).is_ok();
                if members.iter().all(|n| ready(*n) && self.missing(*n).iter().all(inside)) {
                    for (consumer, supplier, property) in self.weakest(&members) {
                        let ready = self.ignore(consumer, supplier);
                        relaxed.push(RelaxedLink { consumer, supplier, property, members: members.clone(), ready });
                    }
                }
            }
            if relaxed.len() == before {
                return relaxed;
            }
        }
    }

    /// Relaxes the links of `consumer` to the missing suppliers that wait for it, directly or not, when it misses no
    /// others. Returns those suppliers. Links to IOMMUs, and those that a driver requested, are never relaxed.
    pub(crate) fn leave_cycle(&mut self, consumer: NodeId) -> Vec<NodeId> {
        let cycles = self.cycles();
        let Some(members) = cycles.iter().find(|members| members.binary_search(&consumer).is_ok()) else {
            return Vec::new();
        };
        let missing = |l: &&Link| matches!(l.state, LinkState::Dormant | LinkState::SupplierUnbind);
        let may_go = |l: &Link| {
            members.binary_search(&l.supplier).is_ok() && l.kind.is_some_and(|kind| strength(kind) < UNBREAKABLE)
        };
        if !self.suppliers(consumer).filter(missing).all(may_go) {
            return Vec::new();
        }
        let suppliers = self.missing(consumer);
        for supplier in &suppliers {
            self.ignore(consumer, *supplier);
        }
        suppliers
    }

    /// The links among `members` to relax.
    fn weakest(&self, members: &[NodeId]) -> Vec<(NodeId, NodeId, Arc<str>)> {
        let mut weakest = UNBREAKABLE;
        let mut links: Vec<&Link> = Vec::new();
        for link in members.iter().flat_map(|n| self.suppliers(*n)) {
            let missing = matches!(link.state, LinkState::Dormant | LinkState::SupplierUnbind);
            let Some(kind) = link.kind.filter(|_| missing && members.binary_search(&link.supplier).is_ok()) else {
                continue;
            };
            if strength(kind) < weakest {
                weakest = strength(kind);
                links.clear();
            }
            if strength(kind) == weakest && weakest < UNBREAKABLE {
                links.push(link);
            }
        }
        let forward = |l: &&Link| l.supplier > l.consumer;
        if links.iter().any(forward) {
            links.retain(forward);
        }
        links.into_iter().map(|l| (l.consumer, l.supplier, Arc::clone(&l.property))).collect()
    }

    /// All cycles of missing suppliers, each with its members ascending. Tarjan's strongly connected components,
    /// without recursion because firmware determines the depth.
    pub(crate) fn cycles(&self) -> Vec<Vec<NodeId>> {
        const NEW: u32 = u32::MAX;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let nodes: Vec<&Node> = self.nodes.values().collect();
        let n = ids.len();
        let (mut index, mut low, mut on_stack) = (vec![NEW; n], vec![0u32; n], vec![false; n]);
        let (mut stack, mut work, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        for root in 0..n {
            if index[root] != NEW {
                continue;
            }
            work.push((root, 0usize));
            while let Some((v, edge)) = work.pop() {
                if edge == 0 {
                    (index[v], low[v]) = (next, next);
                    next += 1;
                    stack.push(v);
                    on_stack[v] = true;
                }
                let suppliers = &nodes[v].suppliers;
                if let Some(link) = suppliers.get(edge).map(|l| &self.links[*l]) {
                    work.push((v, edge + 1));
                    let missing = matches!(link.state, LinkState::Dormant | LinkState::SupplierUnbind);
                    if let Ok(w) = ids.binary_search(&link.supplier)
                        && missing
                    {
                        if index[w] == NEW {
                            work.push((w, 0));
                        } else if on_stack[w] {
                            low[v] = low[v].min(index[w]);
                        }
                    }
                    continue;
                }
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[v]);
                }
                if low[v] == index[v] {
                    let mut group = Vec::new();
                    while let Some(w) = stack.pop() {
                        on_stack[w] = false;
                        group.push(ids[w]);
                        if w == v {
                            break;
                        }
                    }
                    if group.len() > 1 {
                        group.sort_unstable();
                        found.push(group);
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Supplier;

    fn graph(edges: &[(u32, u32)]) -> Graph {
        of_kinds(&edges.iter().map(|(c, s)| (*c, *s, SupplierKind::Other)).collect::<Vec<_>>())
    }

    fn of_kinds(edges: &[(u32, u32, SupplierKind)]) -> Graph {
        let mut g = Graph::default();
        for (c, s, kind) in edges {
            g.add(NodeId(*c), &[need(*s, *kind, "x")]);
        }
        g
    }

    fn need(node: u32, kind: SupplierKind, property: &str) -> Supplier {
        Supplier { node: NodeId(node), target: NodeId(node), kind, property: property.into(), args: vec![] }
    }

    fn relaxed(g: &mut Graph, ready: impl Fn(NodeId) -> bool) -> Vec<(u32, u32)> {
        g.break_cycles(ready).iter().map(|l| (l.consumer.0, l.supplier.0)).collect()
    }

    #[test]
    fn a_cycle_is_broken_at_its_weakest_link_and_among_equals_at_the_forward_reference() {
        use SupplierKind::{Clock, Interrupt, Iommu, Other, Power};
        let cases = [
            (vec![(0, 1, Clock), (1, 0, Clock)], vec![(0, 1)]),
            (vec![(0, 1, Clock), (1, 0, Other)], vec![(1, 0)]),
            (vec![(0, 1, Interrupt), (1, 2, Power), (2, 0, Clock)], vec![(0, 1)]),
            (vec![(0, 1, Iommu), (1, 0, Iommu)], vec![]),
            (vec![(0, 1, Iommu), (1, 0, Power)], vec![(1, 0)]),
        ];
        for (edges, want) in cases {
            let mut g = of_kinds(&edges);
            assert_eq!(relaxed(&mut g, |_| true), want, "{edges:?}");
            let open = g.cycles().is_empty();
            assert_eq!(open, !want.is_empty(), "{edges:?}");
        }
    }

    #[test]
    fn of_two_cycles_that_share_a_member_the_second_is_broken_once_the_first_is_bound() {
        use SupplierKind::{Clock, Other, Power};
        let mut g = of_kinds(&[(0, 1, Other), (1, 0, Clock), (1, 2, Clock), (2, 1, Power)]);
        assert_eq!(relaxed(&mut g, |_| true), [(0, 1)]);
        g.supplier_arrives(NodeId(0));
        assert_eq!(relaxed(&mut g, |_| true), [(1, 2)]);
        assert!(g.cycles().is_empty());
    }

    #[test]
    fn a_cycle_whose_members_also_wait_for_others_is_not_broken() {
        let mut g = graph(&[(0, 1), (1, 0), (1, 7)]);
        assert_eq!(relaxed(&mut g, |_| true), []);
        g.supplier_arrives(NodeId(7));
        assert_eq!(relaxed(&mut g, |n| n != NodeId(1)), [], "one of them has no driver");
        let links = g.break_cycles(|_| true);
        assert_eq!(links.iter().map(|l| (l.consumer, l.ready)).collect::<Vec<_>>(), [(NodeId(0), true)]);
        assert!(g.supplier_arrives(NodeId(0))[0].ready);
    }

    #[test]
    fn a_device_leaves_a_cycle_that_cannot_be_bound_unless_it_misses_others_or_an_iommu() {
        use SupplierKind::{Iommu, Reset};
        let mut g = of_kinds(&[(0, 1, Reset), (1, 0, Reset)]);
        assert_eq!(relaxed(&mut g, |n| n == NodeId(0)), [], "one has no driver");
        assert_eq!((g.leave_cycle(NodeId(0)), g.missing_count(NodeId(0))), (vec![NodeId(1)], 0));
        assert_eq!(g.missing_count(NodeId(1)), 1, "the other one waits as before");
        for more in [(0, 7, Reset), (0, 2, Iommu)] {
            let mut g = of_kinds(&[(0, 1, Reset), (1, 0, Reset), more, (2, 0, Reset)]);
            assert_eq!((g.leave_cycle(NodeId(0)), g.missing_count(NodeId(0))), (vec![], 2), "{more:?}");
        }
        assert!(of_kinds(&[(0, 1, Reset)]).leave_cycle(NodeId(0)).is_empty());
    }

    #[test]
    fn remote_endpoints_alone_impose_no_order() {
        let mut g = Graph::default();
        g.add(NodeId(0), &[need(1, SupplierKind::Other, "remote-endpoint")]);
        g.add(NodeId(1), &[need(0, SupplierKind::Other, "remote-endpoint"), need(0, SupplierKind::Clock, "clocks")]);
        assert_eq!((g.missing_count(NodeId(0)), g.missing(NodeId(1))), (0, vec![NodeId(0)]));
        assert!(g.cycles().is_empty());
        assert!(g.list(NodeId(0)).all(|(.., state)| state == LinkState::NotTracked));
    }

    #[test]
    fn a_large_cycle_is_broken_in_few_rounds() {
        let n = if cfg!(miri) { 20 } else { 300 };
        let edges: Vec<_> = (0..n).flat_map(|c| (0..n).filter(move |s| *s != c).map(move |s| (c, s))).collect();
        let mut g = graph(&edges);
        assert_eq!(relaxed(&mut g, |_| true).len() as u32, n * (n - 1) / 2);
        assert!(g.cycles().is_empty());
    }

    #[test]
    fn a_chain_that_leads_into_a_cycle_is_not_part_of_it() {
        let g = graph(&[(0, 1), (1, 2), (2, 3), (3, 1), (4, 5)]);
        assert_eq!(g.cycles(), [vec![NodeId(1), NodeId(2), NodeId(3)]]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_is_no_cycle_and_does_not_overflow_the_stack() {
        let n = if cfg!(miri) { 500 } else { 100_000 };
        let edges: Vec<_> = (0..n).map(|i| (i, i + 1)).collect();
        assert!(graph(&edges).cycles().is_empty());
    }
}
