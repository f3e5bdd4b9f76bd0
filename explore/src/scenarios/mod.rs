//! Small systems that are not the main job's, each explored to a bound: two devices on a line, two streams, two IOMMUs, two
//! reset lines, shared supplies, providers that leave and return, children, guests.
//!
//! A scenario is a topology made from a seed, and a list of steps. A path takes up to a number of them in any order, each
//! with what may fail in it and with one concurrent operation, and then a tear-down and a recovery. Each step has an
//! effect that is checked, and after each the hardware is compared with what its users hold.

mod effect;
mod lent;
mod list;
mod oracle;
mod ring;
mod setup;
mod step;
mod stream;
mod streams;
mod topology;
mod walk;

use std::collections::BTreeSet;
use std::fmt;

use crate::engine::{Bounded, Bounds, Chooser, Engine, Path, Replay, Report, Violation};
use list::{Spec, all};
use topology::{Numbers, Topology};

/// Names of all scenarios.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|spec| spec.name)
}

/// The scenario called `name`, made from seed 1. A number of at most 32 bits behind a colon is another seed: `two-streams:7`.
pub fn named(name: &str) -> Option<NamedScenario> {
    let (name, seed) = name.split_once(':').map_or(Some((name, 1)), |(name, seed)| Some((name, seed.parse().ok()?)))?;
    all().find(|spec| spec.name == name).map(|spec| NamedScenario::new(spec, seed))
}

/// Stands in the name of a report before the number of steps.
const STEPS: &str = ", steps: ";

/// A small system, and the steps that are explored on it.
#[derive(Clone)]
pub struct NamedScenario {
    spec: &'static Spec,
    seed: u32,
    topology: Topology,
    rounds: u32,
    bounds: Bounds,
}

impl Bounded for NamedScenario {
    fn bounds_mut(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl NamedScenario {
    fn new(spec: &'static Spec, seed: u32) -> Self {
        let bounds = Bounds { faults: spec.faults, preemptions: spec.preemptions, ..Bounds::default() };
        Self { spec, seed, topology: (spec.topology)(&mut Numbers::new(seed.into())), rounds: spec.rounds, bounds }
    }

    /// The same scenario made from another seed: other numbers, and another order in which the devices arrive.
    #[must_use]
    pub fn seed(self, seed: u32) -> Self {
        Self { bounds: self.bounds, rounds: self.rounds, ..Self::new(self.spec, seed) }
    }

    /// Sets the number of steps of a path, besides those with which every path begins.
    #[must_use]
    pub fn steps(self, steps: u32) -> Self {
        Self { rounds: steps, ..self }
    }

    /// Name in reports: as [`named`] takes it, and the number of steps where that is another than usual.
    pub fn name(&self) -> String {
        let name = self.spec.name;
        let name = if self.seed == 1 { name.to_owned() } else { format!("{name}:{}", self.seed) };
        if self.rounds == self.spec.rounds { name } else { format!("{name}{STEPS}{}", self.rounds) }
    }

    /// The scenario that a report of this name is about.
    pub fn of_report(name: &str) -> Option<Self> {
        match name.split_once(STEPS) {
            Some((name, steps)) => Some(named(name)?.steps(steps.parse().ok()?)),
            None => named(name),
        }
    }

    /// The options of `bindery explore` that select it.
    pub fn options(&self) -> String {
        match self.name().split_once(STEPS) {
            Some((name, steps)) => format!("--scenario {name} --steps {steps}"),
            None => format!("--scenario {}", self.name()),
        }
    }

    /// Description in one line.
    pub fn title(&self) -> &'static str {
        self.spec.title
    }

    /// Number of steps of a path.
    pub fn bound(&self) -> u32 {
        self.rounds
    }

    /// The engine for it. Each step and each concurrent operation must have had its effect once.
    pub fn engine(&self) -> Engine {
        let engine = Engine::new(self.name()).bounds(self.bounds.clone());
        if self.rounds < self.spec.rounds {
            return engine;
        }
        let steps = self.spec.steps.iter().chain(self.spec.begin).map(|step| step.name());
        let concurrent = self.spec.concurrent.iter().map(|step| step.concurrent_name());
        let concurrent = concurrent.filter(|_| self.bounds.preemptions > 0);
        let required: BTreeSet<&str> = steps.chain(concurrent).collect();
        engine.require(required)
    }

    /// Explores the paths that `engine` is configured for.
    pub fn run(&self, engine: &Engine) -> Report {
        engine.run(|chooser| self.path(chooser))
    }

    /// Executes one path with every event logged.
    pub fn replay(&self, engine: &Engine, path: &Path) -> Replay {
        engine.replay(path, |chooser| self.path(chooser))
    }

    fn path(&self, chooser: &Chooser) -> Result<(), Violation> {
        walk::path(self, chooser)
    }
}

impl fmt::Debug for NamedScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedScenario({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_report_gives_the_scenario() {
        let scenario = named("two-streams:7").unwrap().steps(2);
        assert_eq!(scenario.name(), "two-streams:7, steps: 2");
        assert_eq!(NamedScenario::of_report(&scenario.name()).unwrap().name(), scenario.name());
        assert_eq!(NamedScenario::of_report("two-streams").unwrap().bound(), named("two-streams").unwrap().bound());
        for unknown in ["two-stream", "two-streams:", "two-streams:4294967296", "two-streams, steps: x"] {
            assert!(NamedScenario::of_report(unknown).is_none(), "{unknown}");
        }
    }
}
