//! Devices that come, bind, unbind and go in any order, beside plain sets of who is there and who needs whom.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::*;

const NODES: u32 = 8;

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % n
    }
}

#[derive(Default)]
struct Plain {
    bound: BTreeSet<u32>,
    /// Consumer and supplier, and whether the consumer's driver has asked for it, who waits as long as it is not bound.
    needs: BTreeSet<(u32, u32)>,
    asked: BTreeSet<(u32, u32)>,
    /// How many suppliers had been bound when each one was.
    arrived: [u64; NODES as usize],
    arrivals: u64,
    /// Nodes that were there when somebody last looked at the changes.
    seen: BTreeSet<u32>,
}

impl Plain {
    fn links(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.needs.union(&self.asked).copied()
    }

    fn missing(&self, consumer: u32) -> Vec<u32> {
        let own = self.links().filter(|(c, s)| *c == consumer && !self.bound.contains(s));
        own.map(|(_, supplier)| supplier).collect()
    }

    fn is_there(&self, node: u32) -> bool {
        self.bound.contains(&node) || self.links().any(|(c, s)| c == node || s == node)
    }

    fn there(&self) -> BTreeSet<u32> {
        (0..NODES).filter(|node| self.is_there(*node)).collect()
    }
}

fn bind(graph: &mut Graph, plain: &mut Plain, node: u32) {
    let id = NodeId(node);
    assert_eq!(graph.probe_begins(id), plain.missing(node).is_empty());
    if !plain.missing(node).is_empty() {
        return;
    }
    graph.consumer_bound(id);
    let waiting: BTreeSet<(u32, bool)> = plain
        .links()
        .filter(|(_, supplier)| *supplier == node)
        .map(|(consumer, _)| (consumer, plain.missing(consumer) == [node]))
        .collect();
    let told = graph.supplier_arrives(id).into_iter().map(|w| (w.consumer.0, w.ready)).collect();
    assert_eq!(waiting, told, "those that wait for {node}");
    plain.bound.insert(node);
    plain.arrivals += 1;
    plain.arrived[node as usize] = plain.arrivals;
}

fn unbind(graph: &mut Graph, plain: &mut Plain, node: u32) {
    if !plain.bound.contains(&node) {
        assert!(!graph.supplier_leaves(NodeId(node)));
        return;
    }
    let busy: BTreeSet<u32> = graph.busy_consumers(NodeId(node)).into_iter().map(|n| n.0).collect();
    let using = plain.links().filter(|(c, s)| *s == node && plain.bound.contains(c)).map(|(c, _)| c);
    assert_eq!(busy, using.collect(), "consumers of {node}");
    for consumer in busy {
        unbind(graph, plain, consumer);
    }
    assert!(graph.supplier_leaves(NodeId(node)));
    graph.consumer_unbound(NodeId(node));
    graph.supplier_gone(NodeId(node));
    plain.bound.remove(&node);
    // What it had asked for is there, so it does not wait for it any more.
    let bound = plain.bound.clone();
    plain.asked.retain(|(consumer, supplier)| *consumer != node || !bound.contains(supplier));
}

fn check(graph: &Graph, plain: &Plain) {
    let there = plain.there();
    for node in 0..NODES {
        let id = NodeId(node);
        assert_eq!(graph.contains(id), there.contains(&node), "{node}");
        assert_eq!(graph.is_available(id), plain.bound.contains(&node));
        if !plain.bound.contains(&node) {
            let missing: BTreeSet<u32> = graph.missing(id).into_iter().map(|n| n.0).collect();
            assert_eq!(missing, plain.missing(node).into_iter().collect(), "{node}");
            assert_eq!(graph.missing_count(id) as usize, missing.len());
        }
        let consumers: BTreeSet<u32> = graph.consumers_of(id).into_iter().map(|n| n.0).collect();
        assert_eq!(consumers, plain.links().filter(|(_, s)| *s == node).map(|(c, _)| c).collect());
        if there.contains(&node) && plain.arrived[node as usize] > 0 {
            let at = plain.arrived[node as usize];
            let since = [at - 1, at].map(|then| graph.arrived_since(id, then));
            // A node that was forgotten in between has never been bound.
            assert!(matches!(since, [true | false, false]), "{node}");
            assert!(since[0] || !plain.bound.contains(&node), "{node}");
        }
    }
    assert_eq!(graph.arrivals(), plain.arrivals);
}

#[test]
fn the_graph_knows_who_is_there_and_who_waits_for_whom_as_plain_sets_do() {
    for seed in 0..if cfg!(miri) { 2 } else { 40 } {
        let (mut graph, mut plain, mut random) = (Graph::default(), Plain::default(), Random(seed));
        for _ in 0..120 {
            let (node, other) = (random.below(NODES), random.below(NODES));
            match random.below(8) {
                // Suppliers come from above, so that nobody waits for itself. Firmware's list is there before a driver asks.
                0 | 1 if node < other && !plain.bound.contains(&node) && !plain.asked.contains(&(node, other)) => {
                    let supplier = Supplier {
                        node: NodeId(other),
                        target: NodeId(other),
                        kind: SupplierKind::Other,
                        property: "x".into(),
                        args: Vec::new(),
                    };
                    graph.add(NodeId(node), &[supplier]);
                    plain.needs.insert((node, other));
                }
                2 if node < other && !plain.bound.contains(&node) => {
                    let waits = !plain.bound.contains(&other);
                    assert_eq!(graph.request_supplier(NodeId(node), NodeId(other), "driver"), waits);
                    if waits && !plain.needs.contains(&(node, other)) {
                        plain.asked.insert((node, other));
                    }
                }
                3 if !plain.bound.contains(&node) => {
                    let stays = random.below(2) == 0;
                    graph.retain_requests_of(NodeId(node), |_| stays);
                    plain.asked.retain(|(consumer, _)| *consumer != node || stays);
                }
                4 => unbind(&mut graph, &mut plain, node),
                5 if !plain.bound.contains(&node) => {
                    graph.remove(NodeId(node));
                    plain.needs.retain(|(consumer, _)| *consumer != node);
                    plain.asked.retain(|(consumer, _)| *consumer != node);
                }
                6 | 7 if !plain.bound.contains(&node) => bind(&mut graph, &mut plain, node),
                _ => {}
            }
            plain.needs.iter().for_each(|link| _ = plain.asked.remove(link));
            check(&graph, &plain);
            if random.below(4) == 0 {
                let mut changed = graph.take_changed();
                let told: BTreeSet<u32> = changed.iter().map(|n| n.0).collect();
                let differs = plain.there().symmetric_difference(&plain.seen).copied().collect::<BTreeSet<_>>();
                assert!(told.is_superset(&differs), "{told:?} of {differs:?}");
                let links = plain.links().count();
                assert_eq!(graph.size(), plain.there().len() + links, "nodes and links");
                changed.clear();
                let room = changed.capacity();
                graph.reuse(changed);
                assert_eq!(graph.changed.capacity(), room, "the memory is used again");
                graph.mark_changed(NodeId(node));
                assert_eq!(
                    (graph.size(), graph.take_changed()),
                    (plain.there().len() + links + 1, Vec::from([NodeId(node)]))
                );
                plain.seen = plain.there();
            }
        }
    }
    let (mut graph, long) = (Graph::default(), Vec::with_capacity(MAX_KEPT + 1));
    graph.reuse(long);
    assert_eq!(graph.changed.capacity(), 0, "a long list is not kept");
}
