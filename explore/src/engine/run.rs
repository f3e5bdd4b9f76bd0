//! One run of the scenario: what it is told to answer, what it was asked, what it saw.

use std::collections::HashMap;
use std::sync::Arc;

use bindery::event::Event;
use bindery::promise::Promise;

use super::bounds::{Bounds, Kind};
use super::path::Path;
use super::replay::Happened;
use super::sample::Draw;
use super::violation::Violation;
use super::visited::{Purse, Visited};

/// One question and its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    pub(super) answer: u32,
    /// How many answers were open: 1 when the bounds forced 0.
    pub(super) open: u32,
    pub(super) kind: Kind,
    pub(super) what: &'static str,
}

/// How a run answers.
pub(super) enum Plan {
    /// These answers, then 0.
    Follow(Vec<u32>),
    /// As drawn.
    Draw(Draw),
}

/// What a run may do, besides answering.
pub(super) struct Settings {
    pub(super) bounds: Bounds,
    /// The table of walked states, and the number of answers up to which this run repeats an earlier one.
    pub(super) visited: Option<Arc<Visited>>,
    pub(super) repeats: usize,
    /// Whether a state that was walked already ends the branching of this run.
    pub(super) prunes: bool,
    /// Whether the story is kept.
    pub(super) tells: bool,
    /// Whether answers that the bounds forbid are given when the plan says so (a replay under other bounds).
    pub(super) obeys: bool,
}

/// Violations kept of one run.
const KEPT: usize = 16;
/// Lines of a story kept of one run.
const LINES: usize = 10_000;

/// The inside of a chooser.
pub(super) struct Run {
    settings: Settings,
    plan: Plan,
    pub(super) trail: Vec<Taken>,
    spent: [u32; 2],
    deviations: u32,
    /// A walked state was met: no more branching.
    pub(super) seen: bool,
    /// The depth bound was met.
    pub(super) cut: bool,
    /// The scenario is over; a handle that outlived it gets 0.
    closed: bool,
    pub(super) questions: u64,
    pub(super) marks: HashMap<&'static str, u64>,
    pub(super) checks: [u64; Promise::COUNT],
    pub(super) violations: Vec<(Violation, usize)>,
    pub(super) story: Vec<String>,
    pub(super) events: Vec<Happened>,
    /// The plan gave an answer that the question does not have.
    pub(super) astray: Option<usize>,
}

impl Run {
    pub(super) fn new(plan: Plan, settings: Settings) -> Self {
        Self {
            settings,
            plan,
            trail: Vec::new(),
            spent: [0; 2],
            deviations: 0,
            seen: false,
            cut: false,
            closed: false,
            questions: 0,
            marks: HashMap::new(),
            checks: [0; Promise::COUNT],
            violations: Vec::new(),
            story: Vec::new(),
            events: Vec::new(),
            astray: None,
        }
    }

    fn ration(&self, kind: Kind) -> Option<(usize, u32)> {
        match kind {
            Kind::Fault => Some((0, self.settings.bounds.faults)),
            Kind::Interrupt => Some((1, self.settings.bounds.interrupts)),
            Kind::Order | Kind::Value => None,
        }
    }

    fn depth(&self) -> u32 {
        self.settings.bounds.depth.unwrap_or(Bounds::LONGEST).min(Bounds::LONGEST)
    }

    /// Whether the bounds leave only the answer 0.
    fn forced(&mut self, kind: Kind) -> bool {
        if self.trail.len() >= self.depth() as usize {
            self.cut = true;
            return true;
        }
        self.seen
            || self.ration(kind).is_some_and(|(lane, most)| self.spent[lane] >= most)
            || self.settings.bounds.deviations.is_some_and(|most| self.deviations >= most)
    }

    /// Answers one question with `n` possible answers; `ids` name who is in line, for questions of order.
    pub(super) fn choose(&mut self, kind: Kind, what: &'static str, n: u32, ids: Option<&[u64]>) -> u32 {
        if n <= 1 || self.closed {
            return 0;
        }
        if self.trail.len() >= Bounds::LONGEST as usize {
            self.cut = true;
            return 0;
        }
        self.questions += 1;
        let position = self.trail.len();
        let forced = self.forced(kind);
        let mut open = if forced { 1 } else { n };
        let answer = match &mut self.plan {
            Plan::Follow(answers) => {
                let answer = answers.get(position).copied().unwrap_or(0);
                if answer >= n || (forced && answer != 0 && self.settings.obeys) {
                    self.astray.get_or_insert(position);
                    0
                } else {
                    open = open.max(answer + 1);
                    answer
                }
            }
            Plan::Draw(_) if forced => 0,
            Plan::Draw(draw) => draw.answer(kind, n, ids),
        };
        self.trail.push(Taken { answer, open, kind, what });
        if answer != 0 {
            self.deviations += 1;
            if let Some((lane, _)) = self.ration(kind) {
                self.spent[lane] += 1;
            }
            if self.settings.tells {
                self.tell(format!("[{kind}] {what}: answer {answer} of 0 to {}", n - 1));
            }
        }
        answer
    }

    /// Notes a state. True: this run goes on branching.
    pub(super) fn state(&mut self, state: u64) -> bool {
        if self.closed || self.seen || self.trail.len() < self.settings.repeats {
            return !self.seen;
        }
        let Some(visited) = &self.settings.visited else { return true };
        let bounds = &self.settings.bounds;
        let depth = bounds.depth.map_or(u32::MAX, |d| d.saturating_sub(self.trail.len() as u32));
        let purse = Purse::new([
            bounds.faults - self.spent[0].min(bounds.faults),
            bounds.interrupts - self.spent[1].min(bounds.interrupts),
            bounds.deviations.map_or(u32::MAX, |d| d - self.deviations.min(d)),
            depth,
        ]);
        let new = visited.enter(state, purse);
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
            if self.settings.tells {
                self.tell(violation.line());
            }
            self.violations.push((violation, self.trail.len()));
        }
    }

    pub(super) fn tells(&self) -> bool {
        self.settings.tells && !self.closed
    }

    pub(super) fn tell(&mut self, line: String) {
        if self.tells() && self.story.len() < LINES {
            self.story.push(line);
        }
    }

    /// Keeps the event that the newest line of the story tells of.
    pub(super) fn keep(&mut self, machine: &'static str, event: &Event) {
        let Some(line) = self.story.len().checked_sub(1).filter(|_| self.tells()) else { return };
        // No new line since the last event: there was no room for it, and there is none for the event.
        if self.events.last().is_none_or(|last| last.line < line) {
            self.events.push(Happened { line, machine, event: event.clone() });
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The path up to the last answer before `end`.
    pub(super) fn path(&self, end: usize) -> Path {
        Path::new(self.trail[..end.min(self.trail.len())].iter().map(|t| t.answer).collect())
    }
}
