//! Deterministic splitting of the tree into subtrees.

use std::collections::VecDeque;

use super::execution::ChoicePoint;
use super::walk::{Diverged, Subtree, Walk};

/// A split tree: the subtrees that are not explored yet, or the choice point at which the scenario was nondeterministic.
pub(super) struct Split {
    pub(super) subtrees: Vec<Subtree>,
    pub(super) diverged: Option<Diverged>,
}

/// Splits the tree into at least `target` subtrees, unless it has fewer paths, in at most `most` executions.
///
/// `execute` executes one path; it is called in the same order with the same choices for every shard, so that the position of
/// a path and of a subtree identifies it. The subtrees and the paths executed here make up the tree.
pub(super) fn split(target: usize, most: usize, mut execute: impl FnMut(Vec<u32>) -> Vec<ChoicePoint>) -> Split {
    let mut subtrees = VecDeque::from([Subtree::whole()]);
    for _ in 0..most {
        if subtrees.len() >= target {
            break;
        }
        let Some(subtree) = subtrees.pop_front() else { break };
        let mut descent = Walk::new(subtree);
        let trail = execute(descent.prefix());
        if let Err(diverged) = descent.learn(&trail) {
            return Split { subtrees: Vec::new(), diverged: Some(diverged) };
        }
        while let Some(child) = descent.split_off() {
            subtrees.push_back(child);
        }
    }
    let mut subtrees = Vec::from(subtrees);
    // Large subtrees first, so that the last to be explored are small; the order is the same everywhere.
    subtrees.sort_by_key(Subtree::depth);
    Split { subtrees, diverged: None }
}
