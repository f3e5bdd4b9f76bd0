//! The depth-first walk of one subtree.

use super::execution::ChoicePoint;

/// One choice on the current path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Branch {
    choice: u32,
    /// End of the choices of this walk, which begin at `choice`; at least `choice + 1`.
    end: u32,
    /// Number of choices of the choice point.
    alternatives: u32,
}

/// A subtree of work: all paths that begin with `prefix`, and then with a choice from `from` up to `to`.
///
/// The subtrees that a walk splits off and the rest that it keeps are a partition of its subtree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Subtree {
    prefix: Vec<(u32, u32)>,
    /// The range of the last choice, and the number of choices of its choice point. `None`: the whole tree.
    last: Option<(u32, u32, u32)>,
}

impl Subtree {
    /// The whole tree.
    pub(super) const fn whole() -> Self {
        Self { prefix: Vec::new(), last: None }
    }

    /// Probability that a random descent ends in this subtree, 0 to 1.
    pub(super) fn mass(&self) -> f64 {
        let above: f64 = self.prefix.iter().map(|&(_, open)| 1.0 / f64::from(open.max(1))).product();
        self.last.map_or(above, |(from, to, open)| above * f64::from(to - from) / f64::from(open.max(1)))
    }

    /// Choices before the first that this subtree varies.
    pub(super) fn depth(&self) -> usize {
        self.prefix.len()
    }
}

/// A choice point differs from the one that the path before met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Diverged {
    /// Choices before it.
    pub(super) at: usize,
}

/// A depth-first walk of one subtree.
pub(super) struct Walk {
    branches: Vec<Branch>,
    /// Branches that are fixed: the subtree's prefix.
    fixed: usize,
}

impl Walk {
    /// Begins at the first path of `subtree`.
    pub(super) fn new(subtree: Subtree) -> Self {
        let fixed = subtree.prefix.len();
        let mut branches: Vec<Branch> = subtree
            .prefix
            .into_iter()
            .map(|(choice, alternatives)| Branch { choice, end: choice + 1, alternatives })
            .collect();
        branches.extend(subtree.last.map(|(from, to, alternatives)| Branch { choice: from, end: to, alternatives }));
        Self { branches, fixed }
    }

    /// The choices to give on the next path.
    pub(super) fn prefix(&self) -> Vec<u32> {
        self.branches.iter().map(|b| b.choice).collect()
    }

    /// Adds the choice points that the path met. A revisited state ends nothing here: forced choice points have one choice.
    pub(super) fn learn(&mut self, trail: &[ChoicePoint]) -> Result<(), Diverged> {
        for (at, branch) in self.branches.iter().enumerate() {
            if trail.get(at).is_none_or(|t| t.choice != branch.choice || t.alternatives != branch.alternatives) {
                return Err(Diverged { at });
            }
        }
        let known = self.branches.len();
        self.branches.extend(trail[known..].iter().map(|t| Branch {
            choice: t.choice,
            end: t.alternatives,
            alternatives: t.alternatives,
        }));
        Ok(())
    }

    /// Goes to the next path. False: there is none.
    pub(super) fn advance(&mut self) -> bool {
        while self.branches.len() > self.fixed {
            let Some(last) = self.branches.last_mut() else { return false };
            if last.choice + 1 < last.end {
                last.choice += 1;
                return true;
            }
            self.branches.pop();
        }
        false
    }

    /// Splits off the largest subtree that is not explored yet, after [`Walk::learn`].
    pub(super) fn split_off(&mut self) -> Option<Subtree> {
        let at = (self.fixed..self.branches.len()).find(|&i| self.branches[i].choice + 1 < self.branches[i].end)?;
        let branch = &mut self.branches[at];
        let last = (branch.choice + 1, branch.end, branch.alternatives);
        branch.end = branch.choice + 1;
        let prefix = self.branches[..at].iter().map(|b| (b.choice, b.alternatives)).collect();
        Some(Subtree { prefix, last: Some(last) })
    }
}
