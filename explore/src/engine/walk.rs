//! The exhaustive walk of one part of the tree.

use super::run::Taken;

/// One answer on the way down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Branch {
    answer: u32,
    /// How many answers are this walk's, from `answer` on; at least `answer + 1`.
    end: u32,
    /// How many answers the question has.
    open: u32,
}

/// A piece of work: all paths that begin with `prefix`, and then with an answer from `from` up to `to`.
///
/// The pieces that one walk ever hands out, and what it keeps, never overlap and leave nothing out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    prefix: Vec<(u32, u32)>,
    /// The range of the last answer, and how many its question has. `None`: the whole tree.
    last: Option<(u32, u32, u32)>,
}

impl Piece {
    /// The whole tree.
    pub(super) const fn whole() -> Self {
        Self { prefix: Vec::new(), last: None }
    }

    /// Which part of all random descents ends in this piece, 0 to 1.
    pub(super) fn mass(&self) -> f64 {
        let above: f64 = self.prefix.iter().map(|&(_, open)| 1.0 / f64::from(open.max(1))).product();
        self.last.map_or(above, |(from, to, open)| above * f64::from(to - from) / f64::from(open.max(1)))
    }

    /// Answers before the first that is this piece's to vary.
    pub(super) fn depth(&self) -> usize {
        self.prefix.len()
    }
}

/// A question was not the same as on the path before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Strayed {
    /// Answers before it.
    pub(super) at: usize,
}

/// A depth-first walk of one piece.
pub(super) struct Walk {
    branches: Vec<Branch>,
    /// Branches that are fixed: the piece's prefix.
    fixed: usize,
}

impl Walk {
    /// Begins at the first path of `piece`.
    pub(super) fn new(piece: Piece) -> Self {
        let fixed = piece.prefix.len();
        let mut branches: Vec<Branch> =
            piece.prefix.into_iter().map(|(answer, open)| Branch { answer, end: answer + 1, open }).collect();
        branches.extend(piece.last.map(|(from, to, open)| Branch { answer: from, end: to, open }));
        Self { branches, fixed }
    }

    /// The answers to give on the next path.
    pub(super) fn prefix(&self) -> Vec<u32> {
        self.branches.iter().map(|b| b.answer).collect()
    }

    /// Takes in what the path was asked. `seen` ends nothing here: forced questions have one answer.
    pub(super) fn learn(&mut self, trail: &[Taken]) -> Result<(), Strayed> {
        for (at, branch) in self.branches.iter().enumerate() {
            if trail.get(at).is_none_or(|t| t.answer != branch.answer || t.open != branch.open) {
                return Err(Strayed { at });
            }
        }
        let known = self.branches.len();
        self.branches.extend(trail[known..].iter().map(|t| Branch { answer: t.answer, end: t.open, open: t.open }));
        Ok(())
    }

    /// Goes to the next path. False: there is none.
    pub(super) fn advance(&mut self) -> bool {
        while self.branches.len() > self.fixed {
            let Some(last) = self.branches.last_mut() else { return false };
            if last.answer + 1 < last.end {
                last.answer += 1;
                return true;
            }
            self.branches.pop();
        }
        false
    }

    /// Gives away the largest piece that is still to be walked, after [`Walk::learn`].
    pub(super) fn donate(&mut self) -> Option<Piece> {
        let at = (self.fixed..self.branches.len()).find(|&i| self.branches[i].answer + 1 < self.branches[i].end)?;
        let branch = &mut self.branches[at];
        let last = (branch.answer + 1, branch.end, branch.open);
        branch.end = branch.answer + 1;
        let prefix = self.branches[..at].iter().map(|b| (b.answer, b.open)).collect();
        Some(Piece { prefix, last: Some(last) })
    }
}
