//! One execution of the scenario: its choices, the choice points that it met, the violations that it reported.

use std::collections::HashMap;
use std::sync::Arc;

use bindery::event::Event;
use bindery::promise::Promise;

use super::bounds::{Bounds, Kind};
use super::path::Path;
use super::replay::MachineEvent;
use super::sample::Draw;
use super::violation::Violation;
use super::visited::{Budget, Visited};

/// One choice point, and the choice that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChoicePoint {
    pub(super) choice: u32,
    /// Number of choices that there were: 1 when the bounds forced 0.
    pub(super) alternatives: u32,
    pub(super) kind: Kind,
    pub(super) what: &'static str,
}

/// Source of the choices.
pub(super) enum Plan {
    /// These choices, then 0.
    Follow(Vec<u32>),
    /// Random ones.
    Draw(Draw),
}

/// Settings of an execution, besides its choices.
pub(super) struct Settings {
    pub(super) bounds: Bounds,
    /// The table of explored states, and the number of choices up to which this execution repeats an earlier one.
    pub(super) visited: Option<Arc<Visited>>,
    pub(super) replayed: usize,
    /// Set when a state that was explored already ends the branching of this execution.
    pub(super) prunes: bool,
    /// Set when the trace is kept.
    pub(super) logs: bool,
    /// Set when the bounds apply. Not set in a replay, whose path may be from an exploration with other bounds.
    pub(super) enforces_bounds: bool,
}

/// Violations kept of one execution.
const KEPT: usize = 16;
/// Lines of a trace kept of one execution.
const LINES: usize = 10_000;

/// The inside of a chooser.
pub(super) struct Execution {
    settings: Settings,
    plan: Plan,
    pub(super) trail: Vec<ChoicePoint>,
    spent: [u32; 2],
    non_default: u32,
    /// An explored state was met: no more branching.
    pub(super) seen: bool,
    /// The depth bound was met.
    pub(super) truncated: bool,
    /// The scenario is over; a handle that outlived it gets 0.
    closed: bool,
    pub(super) choice_points: u64,
    pub(super) covered: HashMap<&'static str, u64>,
    pub(super) checks: [u64; Promise::COUNT],
    pub(super) violations: Vec<(Violation, usize)>,
    pub(super) trace: Vec<String>,
    pub(super) events: Vec<MachineEvent>,
    /// The path has a choice that the choice point does not have.
    pub(super) diverged_at: Option<usize>,
}

impl Execution {
    pub(super) fn new(plan: Plan, settings: Settings) -> Self {
        Self {
            settings,
            plan,
            trail: Vec::new(),
            spent: [0; 2],
            non_default: 0,
            seen: false,
            truncated: false,
            closed: false,
            choice_points: 0,
            covered: HashMap::new(),
            checks: [0; Promise::COUNT],
            violations: Vec::new(),
            trace: Vec::new(),
            events: Vec::new(),
            diverged_at: None,
        }
    }

    fn budget(&self, kind: Kind) -> Option<(usize, u32)> {
        match kind {
            Kind::Fault => Some((0, self.settings.bounds.faults)),
            Kind::Preemption => Some((1, self.settings.bounds.preemptions)),
            Kind::Order | Kind::Value => None,
        }
    }

    fn depth(&self) -> u32 {
        self.settings.bounds.depth.unwrap_or(Bounds::LONGEST).min(Bounds::LONGEST)
    }

    /// Returns true when the bounds leave choice 0 only.
    fn forced(&mut self, kind: Kind) -> bool {
        if self.trail.len() >= self.depth() as usize {
            self.truncated = true;
            return true;
        }
        self.seen
            || self.budget(kind).is_some_and(|(lane, most)| self.spent[lane] >= most)
            || self.settings.bounds.non_default.is_some_and(|most| self.non_default >= most)
    }

    /// Makes one choice of `n`; `ids` identify the entries of a queue, for [`Kind::Order`].
    pub(super) fn choose(&mut self, kind: Kind, what: &'static str, n: u32, ids: Option<&[u64]>) -> u32 {
        if n <= 1 || self.closed {
            return 0;
        }
        if self.trail.len() >= Bounds::LONGEST as usize {
            self.truncated = true;
            return 0;
        }
        self.choice_points += 1;
        let position = self.trail.len();
        let forced = self.forced(kind);
        let mut alternatives = if forced { 1 } else { n };
        let choice = match &mut self.plan {
            Plan::Follow(choices) => {
                let choice = choices.get(position).copied().unwrap_or(0);
                if choice >= n || (forced && choice != 0 && self.settings.enforces_bounds) {
                    self.diverged_at.get_or_insert(position);
                    0
                } else {
                    alternatives = alternatives.max(choice + 1);
                    choice
                }
            }
            Plan::Draw(_) if forced => 0,
            Plan::Draw(draw) => draw.choice(kind, n, ids),
        };
        self.trail.push(ChoicePoint { choice, alternatives, kind, what });
        if choice != 0 {
            self.non_default += 1;
            if let Some((lane, _)) = self.budget(kind) {
                self.spent[lane] += 1;
            }
            if self.settings.logs {
                self.log(format!("[{kind}] {what}: choice {choice} of 0 to {}", n - 1));
            }
        }
        choice
    }

    /// Enters a state. True: this execution goes on branching.
    pub(super) fn state(&mut self, state: u64) -> bool {
        if self.closed || self.seen || self.trail.len() < self.settings.replayed {
            return !self.seen;
        }
        let Some(visited) = &self.settings.visited else { return true };
        let bounds = &self.settings.bounds;
        let depth = bounds.depth.map_or(u32::MAX, |d| d.saturating_sub(self.trail.len() as u32));
        let budget = Budget::new([
            bounds.faults - self.spent[0].min(bounds.faults),
            bounds.preemptions - self.spent[1].min(bounds.preemptions),
            bounds.non_default.map_or(u32::MAX, |d| d - self.non_default.min(d)),
            depth,
        ]);
        let new = visited.enter(state, budget);
        self.seen |= !new && self.settings.prunes;
        !self.seen
    }

    pub(super) fn is_disturbed(&self) -> bool {
        self.spent != [0; 2]
    }

    pub(super) fn has_failed(&self) -> bool {
        self.spent[0] > 0
    }

    pub(super) fn check(&mut self, promise: Promise) {
        self.checks[promise as usize] += 1;
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        if !self.closed && self.violations.len() < KEPT {
            if self.settings.logs {
                self.log(violation.line());
            }
            self.violations.push((violation, self.trail.len()));
        }
    }

    pub(super) fn logs(&self) -> bool {
        self.settings.logs && !self.closed
    }

    pub(super) fn log(&mut self, line: String) {
        if self.logs() && self.trace.len() < LINES {
            self.trace.push(line);
        }
    }

    /// Keeps the event that the newest line of the trace describes.
    pub(super) fn record(&mut self, machine: &'static str, event: &Event) {
        let Some(line) = self.trace.len().checked_sub(1).filter(|_| self.logs()) else { return };
        // No new line since the last event: there was no room for it, and there is none for the event.
        if self.events.last().is_none_or(|last| last.line < line) {
            self.events.push(MachineEvent { line, machine, event: event.clone() });
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The path up to the last choice before `end`.
    pub(super) fn path(&self, end: usize) -> Path {
        Path::new(self.trail[..end.min(self.trail.len())].iter().map(|t| t.choice).collect())
    }
}
