//! Scenarios in code, on the real core.

use std::fmt;
use std::sync::Arc;

use bindery::machine::Machine;

use crate::boards::BoardSpec;
use crate::engine::{Bounded, Bounds, Chooser, Engine, Path, Replay, Report, Violation};
use crate::events;
use crate::scene::fixture::Fixture;
use crate::scene::{Operation, Scene};

/// Concurrent operations on one machine.
type Operations = Box<dyn Fn(&Arc<Machine>) -> Vec<Operation> + Send + Sync>;

/// Names a scenario that is to be explored on `board`: any code that takes a machine.
///
/// ```
/// use bindery_explore::{Bounded, boards, scenario};
///
/// scenario("bind and unbind", boards::salvator_xs()).faults(1).check(|scene| {
///     let _ = scene.machine().bind("ee300000.sata", "sata_rcar");
///     scene.step("bound")?;
///     let _ = scene.machine().unbind("ee300000.sata", "sata_rcar");
///     scene.step("unbound")
/// });
/// ```
pub fn scenario(name: &str, board: BoardSpec) -> Scenario {
    Scenario {
        name: name.to_owned(),
        board,
        bounds: Bounds::default(),
        operations: Box::new(|_| Vec::new()),
        symmetric: Vec::new(),
    }
}

/// A scenario, and the bounds within which it is explored.
///
/// Each path begins on a new board on which every device is bound.
pub struct Scenario {
    name: String,
    board: BoardSpec,
    bounds: Bounds,
    operations: Operations,
    symmetric: Vec<String>,
}

impl Bounded for Scenario {
    fn bounds_mut(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl Scenario {
    /// Operations that may run concurrently with the scenario.
    #[must_use]
    pub fn concurrent_with(self, operations: impl Fn(&Arc<Machine>) -> Vec<Operation> + Send + Sync + 'static) -> Self {
        Self { operations: Box::new(operations), ..self }
    }

    /// Symmetry reduction: the scenario treats all of `devices` alike. States that differ by a permutation of them count once,
    /// where firmware describes them identically but for names, addresses and cells of references, and no other device
    /// needs them.
    #[must_use]
    pub fn symmetric(mut self, devices: &[&str]) -> Self {
        self.symmetric.extend(devices.iter().map(|name| (*name).to_owned()));
        self
    }

    /// The engine that [`check`](Self::check) uses.
    pub fn engine(&self) -> Engine {
        Engine::new(self.name.clone()).bounds(self.bounds.clone())
    }

    /// Explores every path of `play`.
    ///
    /// # Panics
    ///
    /// With the whole report, when a promise breaks on a path.
    #[track_caller]
    pub fn check(&self, play: impl Fn(&Scene) -> Result<(), Violation> + Sync) {
        let report = self.run(&self.engine(), play);
        assert!(report.passed(), "{report}");
    }

    /// Explores the paths of `play` that `engine` is configured for.
    pub fn run(&self, engine: &Engine, play: impl Fn(&Scene) -> Result<(), Violation> + Sync) -> Report {
        engine.run(|chooser| self.path(chooser, &play))
    }

    /// Executes one path with every event logged.
    pub fn replay(&self, engine: &Engine, path: &Path, play: impl Fn(&Scene) -> Result<(), Violation>) -> Replay {
        engine.replay(path, |chooser| self.path(chooser, &play))
    }

    fn path(&self, chooser: &Chooser, play: &impl Fn(&Scene) -> Result<(), Violation>) -> Result<(), Violation> {
        let mut fixture = Fixture::new(&self.board, false)
            .map_err(|e| Violation::seen_by("scenario", "device tree", e.to_string()))?;
        fixture.machine.settle();
        fixture.reset();
        fixture.reduce_by_symmetry(|device| self.symmetric.iter().any(|name| name == device.name()));
        let operations = (self.operations)(&fixture.machine);
        let scene = Scene::new(fixture, chooser, operations, Vec::new());
        events::record(&scene);
        let outcome = play(&scene).and_then(|()| scene.step("the end"));
        scene.end();
        outcome
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scenario({})", self.name)
    }
}
