//! Replay of one path, with logging on.

use std::fmt;

use bindery::event::Event;
use bindery_sim::ftrace::{Ftrace, HEADER};

use super::bounds::Kind;
use super::violation::Violation;

/// One choice point, and the choice that was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Kind of the choice point.
    pub kind: Kind,
    /// Name of the choice point.
    pub what: &'static str,
    /// The choice.
    pub choice: u32,
}

/// An event of a machine on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineEvent {
    /// The line of the trace that describes it, counted from 0.
    pub line: usize,
    /// The machine: `"host"` or `"guest"`.
    pub machine: &'static str,
    /// The event, with its time on the board's clock.
    pub event: Event,
}

/// Steps, trace, events and violations of one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Every choice point that was met.
    pub steps: Vec<Step>,
    /// The trace: what the scenario logged, and the non-default choices where they were taken.
    pub trace: Vec<String>,
    /// The events of the machines, in the order of the trace. A model has none.
    pub events: Vec<MachineEvent>,
    /// The violations.
    pub violations: Vec<Violation>,
    /// Choices of the path before the first that its choice point does not have: the path belongs to another scenario.
    pub diverged_at: Option<usize>,
}

/// The trace, line by line, and behind it the number of promises that were broken on the path.
impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        match self.violations.len() {
            0 => f.write_str("no promise was broken on this path"),
            1 => f.write_str("1 promise was broken on this path"),
            broken => write!(f, "{broken} promises were broken on this path"),
        }
    }
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
