//! Every path through the life of a device, on the real core and the real drivers.

mod arrivals;
mod asker;
mod bystander;
mod guest;
mod lives;
mod mend;
mod mistakes;
mod play;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use bindery::binding::HoldingKind;
use bindery::device::{Device, DeviceDesc, NodeId};
use bindery::env::Site;
use bindery::firmware::fdt::FdtError;

use crate::boards::BoardSpec;
use crate::engine::{Bounds, Cheap, Chooser, Engine, Kind, Path, Replay, Report, Violation};
use crate::events;
use crate::scene::world::World;
use crate::scene::{Arrival, Scene, landmarks};
use lives::{Alone, LIVES};
use play::Play;

/// Most worlds that wait to be used again.
const WORLDS: usize = 64;

/// Names the device whose life is to be explored.
pub fn device(name: &str) -> Unplaced {
    Unplaced(name.to_owned())
}

/// A device without a board.
#[derive(Clone, Debug)]
pub struct Unplaced(String);

impl Unplaced {
    /// Puts the device on a board.
    pub fn on(self, board: BoardSpec) -> Life {
        Life { device: self.0, board, bounds: Bounds::default(), spared: Vec::new(), worlds: Worlds::default() }
    }
}

/// Why a device's life cannot be explored.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The device tree is no good.
    #[error("the board's device tree: {0}")]
    DeviceTree(#[from] FdtError),
    /// The board has no such device.
    #[error("the board has no device {name:?}; those that a driver binds are: {}", known.join(", "))]
    NoDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No driver binds the device even when nothing goes wrong.
    #[error("{name} is not bound by any driver although nothing went wrong{why}")]
    NotBound {
        /// The device.
        name: String,
        /// What it waits for, if it does.
        why: String,
    },
}

/// What the script has to know of the device.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) device: String,
    pub(crate) driver: &'static str,
    /// The IOMMU in front of it, and that one's driver.
    pub(crate) iommu: Option<(String, &'static str)>,
    /// Every device that it is linked to as a consumer while nothing goes wrong, with that one's driver: named by firmware
    /// or found by the driver itself.
    pub(crate) suppliers: Vec<(String, &'static str)>,
    /// The device whose driver has added it, and that driver.
    pub(crate) parent: Option<(String, &'static str)>,
    /// The IOMMU in front of the bystander: the same, or another that is there while the device is unbound.
    pub(crate) beside: Option<NodeId>,
    /// To add it again after a removal.
    pub(crate) desc: DeviceDesc,
}

/// A world as every path begins, and who may come into it.
type Ready = (World, Vec<Arrival>);

/// What the paths of one exploration share.
#[derive(Default)]
struct Worlds {
    /// Worlds that wait to be used again, with translation and without.
    ready: [Mutex<Vec<Ready>>; 2],
    names: Mutex<Option<Names>>,
}

/// The life of one device on one board: bound, used, and taken back in every way there is, with whatever may go wrong.
///
/// ```
/// use bindery_explore::{boards, device};
///
/// device("ee300000.sata").on(boards::salvator_xs()).faults(1).interrupts(0).check();
/// ```
pub struct Life {
    device: String,
    board: BoardSpec,
    bounds: Bounds,
    /// Places that need not be reached.
    spared: Vec<String>,
    worlds: Worlds,
}

impl Life {
    /// What is explored, for reports.
    pub fn name(&self) -> String {
        format!("{} on {}", self.device, self.board.name())
    }

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

    /// Does not ask for `place` to be reached, by its name in the report. An error that only some drivers answer is such a
    /// place: `error EIO`.
    #[must_use]
    pub fn without(mut self, place: &str) -> Self {
        self.spared.push(place.to_owned());
        self
    }

    /// Explores.
    ///
    /// # Panics
    ///
    /// With the whole report, when a promise breaks or a place that has to be reached is not; and when the device cannot
    /// be explored.
    #[track_caller]
    pub fn check(self) {
        match self.run(&self.engine()) {
            Ok(report) if report.passed() => {}
            Ok(report) => panic!("{report}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// The engine that [`check`](Self::check) uses: within the bounds, and with all that has to be reached.
    pub fn engine(&self) -> Engine {
        let engine = Engine::new(self.name()).bounds(self.bounds.clone()).spare(self.spared.iter().cloned());
        if self.bounds.faults == 0 || self.bounds.interrupts == 0 {
            return engine;
        }
        // A life that the device cannot have is not asked for. What keeps the device from being explored is for `run` to say.
        let known = self.prepare().is_ok().then(|| self.names());
        let impossible: Vec<_> =
            LIVES.iter().filter(|life| known.as_ref().is_some_and(|n| !(life.possible)(n))).collect();
        let asked = |place: &String| !self.spared.contains(place) && impossible.iter().all(|life| life.name != place);
        engine.must_hit(Self::places().filter(asked))
    }

    /// The places that a whole exploration must reach, as reports name them: fault sites, lives, and what the core's own
    /// tables list.
    pub fn places() -> impl Iterator<Item = String> {
        let sites = Site::ALL.iter().map(|site| format!("fault {}", site.name()));
        let lives = LIVES.iter().map(|life| life.name.to_owned());
        sites.chain(landmarks::names().map(str::to_owned)).chain(lives)
    }

    /// Walks every path, or as many as `engine` is told to.
    pub fn run(&self, engine: &Engine) -> Result<Report, LifeError> {
        self.prepare()?;
        let report = engine.run(|chooser| self.path(chooser));
        for pool in &self.worlds.ready {
            pool.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(report)
    }

    /// Walks one path with every event told.
    pub fn replay(&self, engine: &Engine, path: &Path) -> Result<Replay, LifeError> {
        self.prepare()?;
        Ok(engine.replay(path, |chooser| self.path(chooser)))
    }

    /// Paths spread over all lives: each life as it goes by itself, and with one answer other than the ordinary one at every
    /// `every`-th question.
    pub fn samples(&self, engine: &Engine, every: usize) -> Result<Vec<Path>, LifeError> {
        let mut paths = Vec::new();
        for life in 0..LIVES.len() {
            let base = Path::new(vec![life as u32]);
            let steps = self.replay(engine, &base)?.steps;
            paths.push(base);
            // Each life begins at another question, so that together they meet more of them.
            for at in (1 + life % every.max(1)..steps.len()).step_by(every.max(1)) {
                if steps[at].kind != Kind::Value {
                    let ordinary = steps[..at].iter().map(|step| step.answer);
                    paths.push(Path::new(ordinary.chain([1]).collect()));
                }
            }
        }
        Ok(paths)
    }

    /// Walks one path on the calling thread, with `chooser` for all answers. For engines of another kind.
    pub fn path(&self, chooser: &Chooser) -> Result<(), Violation> {
        let life = &LIVES[chooser.choose(crate::engine::Kind::Value, "life", LIVES.len())];
        let names = self.names();
        if !(life.possible)(&names) {
            chooser.tell(|| format!("== {}: not possible for {}", life.name, names.device));
            return Ok(());
        }
        chooser.mark(life.name);
        chooser.tell(|| format!("== {}", life.name));
        let alone = match life.alone {
            Alone::Never => false,
            Alone::BesideUntranslated => names.beside.is_none(),
            Alone::Always => true,
        };
        let (world, arrivals) = if life.fresh {
            (self.world(&names, life.untranslated)?, Vec::new())
        } else {
            self.take(&names, chooser, life.untranslated, alone || chooser.tells())?
        };
        let ordered = if life.fresh { world.ordered(&names.device) } else { Vec::new() };
        let scene = Scene::new(world, chooser, arrivals.clone(), ordered);
        events::keep(&scene);
        let play = Play { names: &names, board: &self.board, scene: &scene, life: life.name };
        let outcome = (life.play)(&play);
        let world = scene.end();
        outcome?;
        if let Some(world) = world.filter(|_| !alone) {
            let mut pool = self.pool(life.untranslated);
            if pool.len() < WORLDS {
                pool.push((world, arrivals));
            }
        }
        Ok(())
    }

    fn names(&self) -> Names {
        let names = self.worlds.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        names.expect("`prepare` has run")
    }

    fn pool(&self, untranslated: bool) -> std::sync::MutexGuard<'_, Vec<Ready>> {
        self.worlds.ready[usize::from(untranslated)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out what the script has to know. Nothing goes wrong here.
    fn prepare(&self) -> Result<(), LifeError> {
        if self.worlds.names.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let world = World::new(&self.board, false)?;
        world.start();
        let Some(device) = world.machine.device(&self.device) else {
            let bound = world.machine.devices().into_iter().filter(|d| d.driver().is_some());
            return Err(LifeError::NoDevice {
                name: self.device.clone(),
                known: bound.map(|d| d.name().to_owned()).collect(),
            });
        };
        let Some(driver) = device.driver() else {
            let waits = world.machine.waiting().into_iter().find(|w| *w.device == *self.device);
            let why = waits.map_or_else(String::new, |w| format!(": it waits for {}", w.on.join(", ")));
            return Err(LifeError::NotBound { name: self.device.clone(), why });
        };
        let translated_by = device.desc().suppliers.iter().find(|s| s.translates()).map(|s| s.node);
        let iommu = world.machine.devices().into_iter().find(|d| Some(d.node()) == translated_by);
        let iommu = iommu.and_then(|d| Some((d.name().to_owned(), d.driver()?)));
        let beside = match translated_by {
            Some(node) => Some(node),
            None => self.another_iommu(&world, driver)?,
        };
        let links = world.machine.links(&device);
        let named = links.iter().filter_map(|l| world.machine.device(&l.supplier));
        let suppliers = named.filter_map(|d| Some((d.name().to_owned(), d.driver()?))).collect();
        let adds = |d: &Device| {
            world
                .machine
                .holdings(d)
                .iter()
                .any(|(_, kind, what, _)| *kind == HoldingKind::Child.name() && *what == self.device)
        };
        let parent = world.machine.devices().into_iter().find(|d| adds(d));
        let parent = parent.and_then(|d| Some((d.name().to_owned(), d.driver()?)));
        let desc = device.desc().clone();
        let names = Names { device: self.device.clone(), driver, iommu, suppliers, parent, beside, desc };
        *self.worlds.names.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
        Ok(())
    }

    /// An IOMMU of `known` that translates for the bystander while the device is unbound.
    fn another_iommu(&self, known: &World, driver: &'static str) -> Result<Option<NodeId>, FdtError> {
        let devices = known.machine.devices();
        let named = devices.iter().flat_map(|d| &d.desc().suppliers).filter(|s| s.translates());
        let named: Vec<_> = named.map(|s| s.node).collect();
        let drivers: Vec<_> = devices.iter().filter(|d| named.contains(&d.node())).filter_map(|d| d.driver()).collect();
        for candidate in devices.iter().filter(|d| d.driver().is_some_and(|name| drivers.contains(&name))) {
            let world = World::new(&self.board, false)?;
            world.machine.register(bystander::Bystander);
            let added = bystander::add(&world.machine, Some(candidate.node()));
            world.start();
            let unbound = world.machine.unbind(&self.device, driver);
            if added.is_ok() && unbound.is_ok() && bystander::binds(&world.machine) {
                return Ok(Some(candidate.node()));
            }
        }
        Ok(None)
    }

    /// A world in which nothing was probed yet.
    fn world(&self, names: &Names, untranslated: bool) -> Result<World, Violation> {
        let mut world = World::new(&self.board, untranslated)
            .map_err(|e| Violation::seen_by("scenario", "device tree", e.to_string()))?;
        world.machine.register(bystander::Bystander);
        world.machine.register(bystander::Phantom);
        let added = bystander::add(&world.machine, names.beside.filter(|_| !untranslated));
        let added = added.and_then(|()| world.machine.add_device(bystander::describe_phantom()));
        added.map_err(|e| Violation::seen_by("scenario", "bystander", e.to_string()))?;
        let supplies = |device: &str| names.suppliers.iter().any(|(supplier, _)| supplier == device);
        world.fold(|device| device.name() != names.device && !supplies(device.name()));
        Ok(world)
    }

    /// A world in which everything is bound but the device: one that another path has left as it was, or a new one.
    fn take(&self, names: &Names, chooser: &Chooser, untranslated: bool, alone: bool) -> Result<Ready, Violation> {
        let ready = if alone { None } else { self.pool(untranslated).pop() };
        if let Some((world, arrivals)) = ready {
            // As long after the last life as after the first start: hardware counts, too.
            world.start_over();
            return Ok((world, arrivals));
        }
        let mut world = self.world(names, untranslated)?;
        let kept = events::Kept::of(&world.board, &names.device, chooser);
        world.start();
        let _ = world.machine.unbind(&names.device, names.driver);
        // The device's first life, which no path tells of: it is worth telling when it breaks a promise.
        world.look().inspect_err(|_| kept.tell())?;
        world.start_over();
        world.begins_here(names.driver);
        let arrivals = if untranslated { Vec::new() } else { arrivals::of(&world, names) };
        Ok((world, arrivals))
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Life({} on {})", self.device, self.board.name())
    }
}

/// A number for where a script is.
pub(crate) fn place(life: &str, step: &str, digest: u64) -> u64 {
    let mut state = Cheap::default();
    (life, step, digest).hash(&mut state);
    state.finish()
}
