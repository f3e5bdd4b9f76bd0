//! One path again, with everything told.

use bindery::event::Event;
use bindery_sim::ftrace::{Ftrace, HEADER};

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

/// An event of a machine on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happened {
    /// The line of the story that tells of it, counted from 0.
    pub line: usize,
    /// Which machine: `"host"` or `"guest"`.
    pub machine: &'static str,
    /// What happened there, and when on the board's clock.
    pub event: Event,
}

/// What happened on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Every question that was asked.
    pub steps: Vec<Step>,
    /// What the scenario told, and the answers other than 0 where they were given.
    pub story: Vec<String>,
    /// The events of the machines, in the order of the story. A model has none.
    pub events: Vec<Happened>,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Answers of the path before the first that its question does not have: the path belongs to another scenario.
    pub astray: Option<usize>,
}

impl Replay {
    /// The host's events as the text of Linux's ftrace, for `bindery audit`. Guests have devices of the same names: theirs
    /// are left out.
    pub fn ftrace(&self) -> String {
        let mut writer = Ftrace::default();
        let host = self.events.iter().filter(|happened| happened.machine == "host");
        let mut text: String =
            std::iter::once(HEADER.to_owned()).chain(host.map(|happened| writer.lines(&happened.event))).collect();
        text.push_str(&writer.finish());
        text
    }
}
