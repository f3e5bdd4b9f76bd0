//! Cycles among devices that wait for each other.

use alloc::vec;
use alloc::vec::Vec;

use super::{Graph, LinkState};
use crate::device::NodeId;

impl Graph {
    /// Every group of devices that wait for each other in a circle, each in ascending order. Tarjan's strongly
    /// connected components over the links that are missing, without recursion: firmware decides the depth.
    pub(crate) fn cycles(&self) -> Vec<Vec<NodeId>> {
        const NEW: u32 = u32::MAX;
        let n = self.nodes.len();
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
                let suppliers = &self.nodes[v].suppliers;
                if let Some(link) = suppliers.get(edge).map(|l| &self.links[*l]) {
                    work.push((v, edge + 1));
                    let w = link.supplier.0 as usize;
                    if matches!(link.state, LinkState::Dormant | LinkState::SupplierUnbind) {
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
                        group.push(NodeId(w as u32));
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
    use crate::device::{Supplier, SupplierKind};

    fn graph(edges: &[(u32, u32)]) -> Graph {
        let mut g = Graph::default();
        for (c, s) in edges {
            let need = Supplier {
                node: NodeId(*s),
                target: NodeId(*s),
                kind: SupplierKind::Other,
                property: "x".into(),
                args: vec![],
            };
            g.add(NodeId(*c), &[need]);
        }
        g
    }

    #[test]
    fn a_cycle_is_found_by_its_members_and_a_chain_into_it_is_not_part_of_it() {
        let g = graph(&[(0, 1), (1, 2), (2, 3), (3, 1), (4, 5)]);
        assert_eq!(g.cycles(), [vec![NodeId(1), NodeId(2), NodeId(3)]]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_is_no_cycle_and_no_stack_overflow() {
        let n = if cfg!(miri) { 500 } else { 100_000 };
        let edges: Vec<_> = (0..n).map(|i| (i, i + 1)).collect();
        assert!(graph(&edges).cycles().is_empty());
    }
}
