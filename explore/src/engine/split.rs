//! Cutting the tree into subtrees, the same ones everywhere.

use std::collections::VecDeque;

use super::execution::ChoicePoint;
use super::walk::{Diverged, Subtree, Walk};

/// What became of the tree: subtrees to be walked, and the number of paths that were walked while cutting.
pub(super) struct Split {
    pub(super) subtrees: Vec<Subtree>,
    pub(super) diverged: Option<Diverged>,
}

/// Cuts the tree into at least `target` subtrees, unless it has fewer paths, in at most `most` runs.
///
/// `walk` runs one path; it is called in the same order with the same choices whoever calls, so that the position of a
/// path and of a subtree names it for every shard. The subtrees and the paths walked here make up the tree.
pub(super) fn split(target: usize, most: usize, mut walk: impl FnMut(Vec<u32>) -> Vec<ChoicePoint>) -> Split {
    let mut subtrees = VecDeque::from([Subtree::whole()]);
    for _ in 0..most {
        if subtrees.len() >= target {
            break;
        }
        let Some(subtree) = subtrees.pop_front() else { break };
        let mut descent = Walk::new(subtree);
        let trail = walk(descent.prefix());
        if let Err(diverged) = descent.learn(&trail) {
            return Split { subtrees: Vec::new(), diverged: Some(diverged) };
        }
        while let Some(child) = descent.split_off() {
            subtrees.push_back(child);
        }
    }
    let mut subtrees = Vec::from(subtrees);
    // Large subtrees first, so that the last to be walked are small; the order is the same everywhere.
    subtrees.sort_by_key(Subtree::depth);
    Split { subtrees, diverged: None }
}
