//! Scenarios written by hand, on the real core.

use std::fmt;
use std::sync::Arc;

use bindery::machine::Machine;

use crate::boards::BoardSpec;
use crate::engine::{Bounds, Chooser, Engine, Path, Replay, Report, Violation};
use crate::events;
use crate::scene::world::World;
use crate::scene::{Arrival, Scene};

/// Who may come in, for one machine.
type Visitors = Box<dyn Fn(&Arc<Machine>) -> Vec<Arrival> + Send + Sync>;

/// Names a scenario that is to be walked on `board`: any piece of code that takes a machine.
///
/// ```
/// use bindery_explore::{boards, scenario};
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
        visitors: Box::new(|_| Vec::new()),
        alike: Vec::new(),
    }
}

/// A scenario and within which bounds it is walked.
///
/// Each path begins on a new board on which every device is bound except those that the scenario takes off.
pub struct Scenario {
    name: String,
    board: BoardSpec,
    bounds: Bounds,
    visitors: Visitors,
    alike: Vec<String>,
}

impl Scenario {
    /// Most faults on one path.
    #[must_use]
    pub fn faults(mut self, most: u32) -> Self {
        self.bounds.faults = most;
        self
    }

    /// Most times that somebody else comes in, or goes on, on one path.
    #[must_use]
    pub fn interrupts(mut self, most: u32) -> Self {
        self.bounds.interrupts = most;
        self
    }

    /// All bounds.
    #[must_use]
    pub fn bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Who may come in while the scenario runs.
    #[must_use]
    pub fn visited_by(self, visitors: impl Fn(&Arc<Machine>) -> Vec<Arrival> + Send + Sync + 'static) -> Self {
        Self { visitors: Box::new(visitors), ..self }
    }

    /// Says that the scenario does with each of `devices` what it does with any other of them. States that differ only
    /// in which of them is where then count once, where firmware says the same of them but for names, addresses and
    /// cells of references, and nothing else needs them.
    #[must_use]
    pub fn alike(mut self, devices: &[&str]) -> Self {
        self.alike.extend(devices.iter().map(|name| (*name).to_owned()));
        self
    }

    /// The engine that [`check`](Self::check) uses.
    pub fn engine(&self) -> Engine {
        Engine::new(self.name.clone()).bounds(self.bounds.clone())
    }

    /// Walks every path of `play`.
    ///
    /// # Panics
    ///
    /// With the whole report, when a promise breaks on a path.
    #[track_caller]
    pub fn check(&self, play: impl Fn(&Scene) -> Result<(), Violation> + Sync) {
        let report = self.run(&self.engine(), play);
        assert!(report.passed(), "{report}");
    }

    /// Walks every path of `play`, or as many as `engine` is told to.
    pub fn run(&self, engine: &Engine, play: impl Fn(&Scene) -> Result<(), Violation> + Sync) -> Report {
        engine.run(|chooser| self.path(chooser, &play))
    }

    /// Walks one path with every event told.
    pub fn replay(&self, engine: &Engine, path: &Path, play: impl Fn(&Scene) -> Result<(), Violation>) -> Replay {
        engine.replay(path, |chooser| self.path(chooser, &play))
    }

    fn path(&self, chooser: &Chooser, play: &impl Fn(&Scene) -> Result<(), Violation>) -> Result<(), Violation> {
        let mut world =
            World::new(&self.board, false).map_err(|e| Violation::seen_by("scenario", "device tree", e.to_string()))?;
        world.machine.settle();
        world.start_over();
        world.fold(|device| self.alike.iter().any(|name| name == device.name()));
        let visitors = (self.visitors)(&world.machine);
        let scene = Scene::new(world, chooser, visitors, Vec::new());
        events::keep(&scene);
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
