//! Cutting the tree into pieces, the same ones everywhere.

use std::collections::VecDeque;

use super::run::Taken;
use super::walk::{Piece, Strayed, Walk};

/// What became of the tree: pieces to be walked, and the number of paths that were walked while cutting.
pub(super) struct Split {
    pub(super) pieces: Vec<Piece>,
    pub(super) strayed: Option<Strayed>,
}

/// Cuts the tree into at least `target` pieces, unless it has fewer paths, in at most `most` runs.
///
/// `walk` runs one path; it is called in the same order with the same answers whoever calls, so that the position of a
/// path and of a piece names it for every shard. The pieces and the paths walked here make up the tree.
pub(super) fn split(target: usize, most: usize, mut walk: impl FnMut(Vec<u32>) -> Vec<Taken>) -> Split {
    let mut pieces = VecDeque::from([Piece::whole()]);
    for _ in 0..most {
        if pieces.len() >= target {
            break;
        }
        let Some(piece) = pieces.pop_front() else { break };
        let mut descent = Walk::new(piece);
        let trail = walk(descent.prefix());
        if let Err(strayed) = descent.learn(&trail) {
            return Split { pieces: Vec::new(), strayed: Some(strayed) };
        }
        while let Some(child) = descent.donate() {
            pieces.push_back(child);
        }
    }
    let mut pieces = Vec::from(pieces);
    // Large pieces first, so that the last to be walked are small; the order is the same everywhere.
    pieces.sort_by_key(Piece::depth);
    Split { pieces, strayed: None }
}
