//! One path again, with everything told.

use super::bounds::Kind;
use super::violation::Violation;

/// One question and its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What the question was about.
    pub kind: Kind,
    /// Its name.
    pub what: &'static str,
    /// The answer.
    pub answer: u32,
}

/// What happened on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Every question that was asked.
    pub steps: Vec<Step>,
    /// What the scenario told, and the answers other than 0 where they were given.
    pub story: Vec<String>,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Answers of the path before the first that its question does not have: the path belongs to another scenario.
    pub astray: Option<usize>,
}
