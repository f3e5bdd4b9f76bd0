//! One run on the real core: a world, an engine that is asked at every fallible call and every wait, others who may come
//! in between, and the oracles.

mod env;
pub(crate) mod landmarks;
mod oracle;
mod stage;
mod twins;
mod watch;
pub(crate) mod world;

pub(crate) use oracle::check;
pub use watch::Arrival;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bindery::control::Tree;
use bindery::device::NodeId;
use bindery::machine::Machine;
use bindery::promise::Promise;
use bindery_sim::board::Board;

use crate::engine::{Chooser, Violation};
use crate::events;
use env::Watched;
use stage::Stage;
use watch::Watch;
use world::World;

/// What a scenario is played on: a machine on a board, both real, and the engine that decides what goes wrong.
///
/// Every fallible call of the core asks the engine whether it fails; between any two of them, somebody else may come in.
/// Call [`step`](Self::step) where nothing is under way: it checks the promises.
pub struct Scene {
    curtain: Curtain,
    pub(crate) world: World,
    pub(crate) watch: Arc<Watch>,
    before: [u64; Promise::COUNT],
}

impl Scene {
    /// Sets the stage: `arrivals` may come in, and the order in which `ordered` are probed is asked for.
    pub(crate) fn new(world: World, chooser: &Chooser, arrivals: Vec<Arrival>, ordered: Vec<NodeId>) -> Self {
        let watch = Arc::new(Watch::new(chooser.clone(), Stage::new(), arrivals, ordered));
        if chooser.tells() {
            let (chooser, over) = (chooser.clone(), Arc::downgrade(&watch));
            world.board.on_event(Box::new(move |event| {
                if over.upgrade().is_none_or(|watch| watch.is_over()) {
                    return;
                }
                chooser.tell(|| events::line(event));
            }));
        }
        let before = world.checks();
        world.env.set(Some(Arc::clone(&watch)));
        let curtain = Curtain { watch: Arc::clone(&watch), env: Arc::clone(&world.env) };
        Self { curtain, world, watch, before }
    }

    /// The machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.world.machine
    }

    /// The hardware.
    pub fn board(&self) -> &Board {
        &self.world.board
    }

    /// The machine's control tree.
    pub fn tree(&self) -> &Tree {
        &self.world.tree
    }

    /// The engine, to ask it about more.
    pub fn chooser(&self) -> &Chooser {
        &self.watch.chooser
    }

    /// Whether somebody has come in.
    pub fn was_visited(&self) -> bool {
        self.watch.visited.load(Ordering::Relaxed)
    }

    /// The end of a step called `what`: whoever came in comes to an end, and the promises are checked.
    pub fn step(&self, what: &'static str) -> Result<(), Violation> {
        self.watch.point();
        if let Some(fallen) = self.watch.stage.clear().first() {
            return Err(Violation::panicked(fallen));
        }
        self.watch.chooser.mark(what);
        self.watch.chooser.tell(|| format!("-- {what}"));
        self.look(what)
    }

    /// A number for the state of machine and hardware at this moment.
    pub fn digest(&self) -> u64 {
        self.world.digest()
    }

    /// From here on nothing fails and nobody comes in (or again, with `false`).
    pub fn calm(&self, calm: bool) {
        self.watch.calm(calm);
    }

    /// Takes the scene apart. The world comes back when it is as it was in the beginning.
    pub(crate) fn end(self) -> Option<World> {
        let Self { curtain, world, watch, before } = self;
        drop(curtain);
        watch.checked(&before, &world.checks());
        watch.landmarks.report(&watch.chooser);
        let same = !watch.chooser.tells() && world.begins_again();
        same.then_some(world)
    }
}

/// Falls when a run is over, however it ended: nobody is left on the stage, and nobody is asked any more.
struct Curtain {
    watch: Arc<Watch>,
    env: Arc<Watched>,
}

impl Drop for Curtain {
    fn drop(&mut self) {
        self.watch.calm(true);
        self.watch.stage.leave();
        self.watch.end();
        self.env.set(None);
    }
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scene({:?})", self.machine())
    }
}
