//! Every path through the lifecycle of a device, on the real core and the real drivers.

mod consumer;
mod guest;
mod invalid_requests;
mod operations;
mod peer;
mod play;
mod recovery;
mod variants;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use bindery::binding::ResourceKind;
use bindery::device::{BusKind, Device, DeviceDesc, NodeId, Resource};
use bindery::driver::Errno;
use bindery::env::{Env as _, Width};
use bindery::firmware::fdt::FdtError;
use bindery::instrument::FaultPoint;
use bindery::machine::Machine;

use crate::boards::BoardSpec;
use crate::engine::{Bounded, Bounds, Chooser, Engine, FastHasher, Kind, Path, Replay, Report, Violation};
use crate::events;
use crate::scene::fixture::Fixture;
use crate::scene::{Operation, Scene, coverage};
use play::Play;
use variants::{NewFixture, VARIANTS};

/// Most fixtures that are kept for reuse.
const FIXTURES: usize = 64;

/// Selects the device whose lifecycle is to be explored, by its name, or by that of the driver of which it is the only device.
pub fn device(name: &str) -> Unplaced {
    Unplaced(name.to_owned())
}

/// A device without a board.
#[derive(Clone, Debug)]
pub struct Unplaced(String);

impl Unplaced {
    /// Puts the device on a board.
    pub fn on(self, board: BoardSpec) -> Lifecycle {
        Lifecycle {
            device: self.0,
            board,
            bounds: Bounds::default(),
            allowed_unreached: Vec::new(),
            user: None,
            fixtures: Fixtures::default(),
        }
    }
}

/// Reason for which a device's lifecycle cannot be explored.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// The device tree cannot be read.
    #[error("the board's device tree: {0}")]
    DeviceTree(#[from] FdtError),
    /// The board has no such device.
    #[error("the board has no device {name:?}; those that a driver binds are: {}",
        if known.is_empty() { "none".into() } else { known.join(", ") })]
    NoDevice {
        /// The name that was asked for.
        name: String,
        /// Names of the devices that there are.
        known: Vec<String>,
    },
    /// No driver binds the device on a path without faults.
    #[error("{name} is not bound by any driver although nothing went wrong{why}")]
    NotBound {
        /// The device.
        name: String,
        /// Description of its missing suppliers, if it waits for some.
        why: String,
    },
}

/// Facts about the device that the script needs.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) device: String,
    /// Its name on the board, by which it is pulled out.
    pub(crate) part: String,
    pub(crate) driver: &'static str,
    /// The IOMMU in front of it, and that one's driver.
    pub(crate) iommu: Option<(String, &'static str)>,
    /// Every supplier that it is linked to on a path without faults, with its driver: named by firmware or found by the
    /// driver itself.
    pub(crate) suppliers: Vec<(String, &'static str)>,
    /// The device whose driver has added it, and that driver.
    pub(crate) parent: Option<(String, &'static str)>,
    /// The IOMMU in front of the group peer: the same, or another that is bound while the device is unbound.
    pub(crate) peer_iommu: Option<NodeId>,
    /// Description with which it is added again after a removal.
    pub(crate) desc: DeviceDesc,
    /// Another member of its IOMMU group is in use.
    shares_group: bool,
    /// Kinds of the resources that it holds while it is bound.
    held: Vec<ResourceKind>,
    /// Kinds of the resources that any device holds, the group peer included.
    on_board: Vec<ResourceKind>,
    /// It has registers, and accesses to them fail when it is pulled out.
    registers_fail: bool,
    /// The state in which everything was probed but the device, with translation and without.
    idle: [Idle; 2],
}

impl Names {
    /// The bus whose files bind and unbind the device: `platform` for one that is on none.
    pub(crate) fn bus(&self) -> BusKind {
        if self.desc.bus == BusKind::Early { BusKind::Platform } else { self.desc.bus }
    }
}

/// Numbers for the state in which everything was probed but the device, of all and of the machine alone. It may differ from the
/// initial state of a path where others wait for the device.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Idle {
    pub(crate) all: u64,
    pub(crate) machine: u64,
}

/// Kinds of resources that not every driver uses: they count as coverage points where the device's driver does.
const OPTIONAL: [ResourceKind; 4] =
    [ResourceKind::Bus, ResourceKind::BusMaster, ResourceKind::DmaArena, ResourceKind::Vectors];

/// The coverage points of resources of a kind: those that nobody reaches where nobody holds one.
fn points_of(kind: ResourceKind) -> impl Iterator<Item = String> {
    let faults: &[FaultPoint] = match kind {
        ResourceKind::Vectors => &[FaultPoint::VectorAlloc],
        ResourceKind::Power => &[FaultPoint::PowerOn],
        ResourceKind::Clock => &[FaultPoint::ClockEnable],
        ResourceKind::Reset => &[FaultPoint::ResetDeassert],
        ResourceKind::Group => &[
            FaultPoint::GroupClaim,
            FaultPoint::DomainAlloc,
            FaultPoint::DomainAttach,
            FaultPoint::IovaAlloc,
            FaultPoint::TableAlloc,
            FaultPoint::Invalidate,
        ],
        _ => &[],
    };
    let faults = faults.iter().map(|point| format!("fault {}", point.name()));
    // The type of a group cannot be changed by everybody.
    let refused = (kind == ResourceKind::Group).then(|| format!("error {}", Errno::EPERM));
    faults.chain(refused).chain([format!("released {}", kind.name())])
}

/// A fixture in the initial state of every path, and the operations that may run concurrently on it.
type Ready = (Fixture, Vec<Operation>);

/// State that the paths of one exploration share.
#[derive(Default)]
struct Fixtures {
    /// Fixtures for reuse, with translation and without.
    ready: [Mutex<Vec<Ready>>; 2],
    names: Mutex<Option<Arc<Names>>>,
}

/// The lifecycle of one device on one board: bound, used, and ended in every way, with injected faults and
/// concurrent operations.
///
/// ```
/// use bindery_explore::{Bounded, boards, device};
///
/// device("ee300000.sata").on(boards::salvator_xs()).faults(1).preemptions(0).check();
/// ```
pub struct Lifecycle {
    device: String,
    board: BoardSpec,
    bounds: Bounds,
    /// Coverage points that need not be reached.
    allowed_unreached: Vec<String>,
    user: Option<Box<play::User>>,
    fixtures: Fixtures,
}

impl Bounded for Lifecycle {
    fn bounds_mut(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl Lifecycle {
    /// Name of the exploration, for reports.
    pub fn name(&self) -> String {
        format!("{} on {}", self.device, self.board.name())
    }

    /// Allows a coverage point to stay unreached, by its name in the report. An error that only some drivers return is one:
    /// `error EIO`.
    #[must_use]
    pub fn allow_unreached(mut self, point: &str) -> Self {
        self.allowed_unreached.push(point.to_owned());
        self
    }

    /// Has `user` use the device on each path, whenever its driver has it: by the driver's own interface, which it gets from
    /// the machine ([`Machine::client`]). The lifecycle of a disk controller and of `edu` has such a user of its own.
    ///
    /// An error is a finding where nothing went wrong on the path before; elsewhere it is a line of the trace. It has to be
    /// served once.
    #[must_use]
    pub fn used_by(mut self, user: impl Fn(&Arc<Machine>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.user = Some(Box::new(user));
        self
    }

    /// Explores.
    ///
    /// # Panics
    ///
    /// With the whole report, when a promise breaks or a required coverage point is not reached; and when the device cannot
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
        let engine = Engine::new(self.name())
            .bounds(self.bounds.clone())
            .allow_unreached(self.allowed_unreached.iter().cloned())
            .require(self.user.iter().map(|_| play::USED));
        if self.bounds.faults == 0 || self.bounds.preemptions == 0 {
            return engine;
        }
        // A lifecycle that the device cannot have is not required. Errors of `prepare` are reported by `run`.
        let known = self.prepare().is_ok().then(|| self.names());
        let impossible: Vec<_> = VARIANTS
            .iter()
            .filter(|variant| known.as_ref().is_some_and(|n| !((variant.possible)(n) && (variant.has_effect)(n))))
            .collect();
        let held = known.as_ref().map_or(&[][..], |names| &names.held);
        let on_board = known.as_ref().map_or(&[][..], |names| &names.on_board);
        // Nobody takes an IOMMU away but from the device behind it.
        let is_behind = known.as_ref().is_some_and(|names| names.iommu.is_some());
        let is_used = |kind: &ResourceKind| match kind {
            ResourceKind::Iommu => is_behind || held.contains(kind),
            kind if OPTIONAL.contains(kind) => held.contains(kind),
            kind => on_board.contains(kind),
        };
        let unused = ResourceKind::ALL.iter().filter(|kind| known.is_some() && !is_used(kind));
        let mut unused: Vec<_> = unused.flat_map(|kind| points_of(*kind)).collect();
        if known.as_ref().is_some_and(|names| !names.registers_fail) {
            unused.push(format!("error {}", Errno::EIO));
        }
        let required = |point: &String| {
            !self.allowed_unreached.contains(point)
                && !unused.contains(point)
                && impossible.iter().all(|variant| variant.name != point)
        };
        engine.require(Self::coverage_points().filter(required))
    }

    /// The coverage points that a whole exploration must reach, as reports name them: fault points, lifecycles, and what the
    /// core's own tables list.
    pub fn coverage_points() -> impl Iterator<Item = String> {
        let points = FaultPoint::ALL.iter().map(|point| format!("fault {}", point.name()));
        let variants = VARIANTS.iter().map(|variant| variant.name.to_owned());
        points.chain(coverage::names().map(str::to_owned)).chain(variants)
    }

    /// Explores the paths that `engine` is configured for.
    pub fn run(&self, engine: &Engine) -> Result<Report, LifecycleError> {
        self.prepare()?;
        let report = engine.run(|chooser| self.path(chooser));
        for pool in &self.fixtures.ready {
            pool.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(report)
    }

    /// Executes one path with every event logged.
    pub fn replay(&self, engine: &Engine, path: &Path) -> Result<Replay, LifecycleError> {
        self.prepare()?;
        Ok(engine.replay(path, |chooser| self.path(chooser)))
    }

    /// Paths spread over all lifecycles: each one with default choices only, and with one non-default choice at every
    /// `every`-th choice point.
    pub fn samples(&self, engine: &Engine, every: usize) -> Result<Vec<Path>, LifecycleError> {
        let mut paths = Vec::new();
        for variant in 0..VARIANTS.len() {
            let base = Path::new(vec![variant as u32]);
            let steps = self.replay(engine, &base)?.steps;
            paths.push(base);
            // Each lifecycle starts at another choice point, so that together they cover more of them.
            for at in (1 + variant % every.max(1)..steps.len()).step_by(every.max(1)) {
                if steps[at].kind != Kind::Value {
                    let ordinary = steps[..at].iter().map(|step| step.choice);
                    paths.push(Path::new(ordinary.chain([1]).collect()));
                }
            }
        }
        Ok(paths)
    }

    /// Executes one path on the calling thread with the choices of `chooser`. For engines of another kind.
    pub fn path(&self, chooser: &Chooser) -> Result<(), Violation> {
        let variant = &VARIANTS[chooser.choose(crate::engine::Kind::Value, "lifecycle", VARIANTS.len())];
        let names = self.names();
        if !(variant.possible)(&names) {
            chooser.log(|| format!("== {}: not possible for {}", variant.name, names.device));
            return Ok(());
        }
        chooser.log(|| format!("== {}", variant.name));
        let new_fixture = match variant.new_fixture {
            NewFixture::Never => false,
            NewFixture::WithUntranslatedPeer => names.peer_iommu.is_none(),
            NewFixture::Always => true,
        };
        let (fixture, operations) = if variant.fresh {
            (self.fixture(&names, variant.untranslated)?, Vec::new())
        } else {
            self.take(&names, chooser, variant.untranslated, new_fixture || chooser.logs())?
        };
        let ordered = if variant.fresh { fixture.ordered(&names.device) } else { Vec::new() };
        let scene = Scene::new(fixture, chooser, operations.clone(), ordered);
        events::record(&scene);
        let (scene_of, user) = (&scene, self.user.as_deref());
        let idle = names.idle[usize::from(variant.untranslated)];
        let play = Play { names: &names, board: &self.board, scene: scene_of, variant: variant.name, user, idle };
        let outcome = (variant.play)(&play);
        let fixture = scene.end();
        outcome?;
        if let Some(fixture) = fixture.filter(|_| !new_fixture) {
            let mut pool = self.pool(variant.untranslated);
            if pool.len() < FIXTURES {
                pool.push((fixture, operations));
            }
        }
        Ok(())
    }

    fn names(&self) -> Arc<Names> {
        let names = self.fixtures.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        names.expect("`prepare` has run")
    }

    fn pool(&self, untranslated: bool) -> std::sync::MutexGuard<'_, Vec<Ready>> {
        self.fixtures.ready[usize::from(untranslated)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out the facts that the script needs, without faults.
    fn prepare(&self) -> Result<(), LifecycleError> {
        if self.fixtures.names.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let fixture = Fixture::new(&self.board, false)?;
        fixture.start();
        let named = fixture.machine.device(&self.device).or_else(|| only_device_of(&fixture, &self.device));
        let Some(device) = named else {
            let bound = fixture.machine.devices().into_iter().filter(|d| d.driver().is_some());
            return Err(LifecycleError::NoDevice {
                name: self.device.clone(),
                known: bound.map(|d| d.name().to_owned()).collect(),
            });
        };
        let Some(driver) = device.driver() else {
            let waits = fixture.machine.waiting().into_iter().find(|w| &*w.device == device.name());
            let why = waits.map_or_else(String::new, |w| format!(": it waits for {}", w.on.join(", ")));
            return Err(LifecycleError::NotBound { name: self.device.clone(), why });
        };
        let translated_by = device.desc().suppliers.iter().find(|s| s.translates()).map(|s| s.node);
        let iommu = fixture.machine.devices().into_iter().find(|d| Some(d.node()) == translated_by);
        let iommu = iommu.and_then(|d| Some((d.name().to_owned(), d.driver()?)));
        let peer_iommu = match translated_by {
            Some(node) => Some(node),
            None => self.another_iommu(&fixture, device.name(), driver)?,
        };
        let links = fixture.machine.links(&device);
        let named = links.iter().filter_map(|l| fixture.machine.device(&l.supplier));
        let suppliers = named.filter_map(|d| Some((d.name().to_owned(), d.driver()?))).collect();
        let adds = |d: &Device| {
            fixture
                .machine
                .resources(d)
                .iter()
                .any(|(_, kind, what, _)| *kind == ResourceKind::Child.name() && what == device.name())
        };
        let parent = fixture.machine.devices().into_iter().find(|d| adds(d));
        let parent = parent.and_then(|d| Some((d.name().to_owned(), d.driver()?)));
        let desc = device.desc().clone();
        let resources = fixture.machine.resources(&device);
        let kinds = ResourceKind::ALL.iter().copied();
        let held = kinds.filter(|kind| resources.iter().any(|(_, name, ..)| *name == kind.name())).collect();
        let in_use = |name: &str| fixture.machine.device(name).is_some_and(|member| member.driver().is_some());
        let number = fixture.machine.device_info(&device).group;
        let group = fixture.machine.groups().into_iter().find(|group| Some(group.id()) == number);
        let members = group.map(|group| group.info().members).unwrap_or_default();
        let shares_group = members.iter().any(|member| **member != *device.name() && in_use(member));
        let (device, part) = (device.name().to_owned(), self.board.part(device.name()));
        let mut idle = [Idle::default(); 2];
        let (on_board, registers_fail) = (Vec::new(), false);
        let mut names = Names {
            device,
            part,
            driver,
            iommu,
            suppliers,
            parent,
            peer_iommu,
            desc,
            shares_group,
            held,
            on_board,
            registers_fail,
            idle,
        };
        (names.on_board, names.registers_fail) = self.reachable(&names)?;
        for (untranslated, idle) in [false, true].into_iter().zip(&mut idle) {
            *idle = self.idle(&names, untranslated)?;
        }
        names.idle = idle;
        *self.fixtures.names.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(names));
        Ok(())
    }

    /// An IOMMU of `known` that translates for the peer while the device is unbound.
    fn another_iommu(&self, known: &Fixture, device: &str, driver: &'static str) -> Result<Option<NodeId>, FdtError> {
        let devices = known.machine.devices();
        let named = devices.iter().flat_map(|d| &d.desc().suppliers).filter(|s| s.translates());
        let named: Vec<_> = named.map(|s| s.node).collect();
        let drivers: Vec<_> = devices.iter().filter(|d| named.contains(&d.node())).filter_map(|d| d.driver()).collect();
        for candidate in devices.iter().filter(|d| d.driver().is_some_and(|name| drivers.contains(&name))) {
            let fixture = Fixture::new(&self.board, false)?;
            fixture.machine.register(peer::Peer::new(&self.board, &fixture.machine));
            let added = peer::add(&self.board, &fixture.machine, Some(candidate.node()));
            fixture.start();
            let unbound = fixture.machine.unbind(device, driver);
            if added.is_ok() && unbound.is_ok() && peer::binds(&fixture.machine) {
                return Ok(Some(candidate.node()));
            }
        }
        Ok(None)
    }

    /// Finds out what paths without faults acquire on the board, and whether the device's registers can fail.
    fn reachable(&self, names: &Names) -> Result<(Vec<ResourceKind>, bool), FdtError> {
        let mut found = Vec::new();
        let mut fails = false;
        for untranslated in [false, true] {
            let fixture = Fixture::new(&self.board, untranslated)?;
            let Ok(fixture) = self.furnish(fixture, names, untranslated) else { continue };
            fixture.start();
            let machine = &fixture.machine;
            let mut look = || {
                let held = machine.devices().into_iter().flat_map(|device| machine.resources(&device));
                found.extend(held.map(|(_, kind, ..)| kind));
            };
            look();
            let _ = machine.unbind(&names.device, names.driver);
            peer::binds(machine);
            look();
            fails |= names.held.contains(&ResourceKind::Mmio) && registers_fail(&fixture, names);
        }
        let kinds = ResourceKind::ALL.iter().copied().filter(|kind| found.contains(&kind.name())).collect();
        Ok((kinds, fails))
    }

    /// The state in which everything was probed but the device.
    fn idle(&self, names: &Names, untranslated: bool) -> Result<Idle, FdtError> {
        let fixture = Fixture::new(&self.board, untranslated)?;
        let Ok(fixture) = self.furnish(fixture, names, untranslated) else { return Ok(Idle::default()) };
        fixture.start();
        let _ = fixture.machine.unbind(&names.device, names.driver);
        recovery::probe_others(&fixture.machine, &names.device, || {});
        fixture.reset();
        Ok(Idle { all: fixture.held(), machine: fixture.held_by_machine() })
    }

    /// A fixture in which nothing was probed yet.
    fn fixture(&self, names: &Names, untranslated: bool) -> Result<Fixture, Violation> {
        let fixture = Fixture::new(&self.board, untranslated)
            .map_err(|e| Violation::seen_by("scenario", "device tree", e.to_string()))?;
        self.furnish(fixture, names, untranslated)
    }

    /// Adds the peer and the phantom.
    fn furnish(&self, mut fixture: Fixture, names: &Names, untranslated: bool) -> Result<Fixture, Violation> {
        fixture.machine.register(peer::Peer::new(&self.board, &fixture.machine));
        fixture.machine.register(peer::Phantom);
        let added = peer::add(&self.board, &fixture.machine, names.peer_iommu.filter(|_| !untranslated));
        let added = added.and_then(|()| fixture.machine.add_device(peer::describe_phantom()));
        added.map_err(|e| Violation::seen_by("scenario", "peer", e.to_string()))?;
        let supplies = |device: &str| names.suppliers.iter().any(|(supplier, _)| supplier == device);
        fixture.reduce_by_symmetry(|device| device.name() != names.device && !supplies(device.name()));
        Ok(fixture)
    }

    /// A fixture in which everything is bound but the device: one that another path has left in that state, or a new one.
    fn take(&self, names: &Names, chooser: &Chooser, untranslated: bool, new: bool) -> Result<Ready, Violation> {
        let ready = if new { None } else { self.pool(untranslated).pop() };
        if let Some((fixture, operations)) = ready {
            // The hardware is in the same state as after the first start.
            fixture.reset();
            return Ok((fixture, operations));
        }
        let mut fixture = self.fixture(names, untranslated)?;
        let kept = events::EarlyEvents::of(&fixture.board, &names.device, chooser);
        fixture.start();
        let _ = fixture.machine.unbind(&names.device, names.driver);
        // The first lifecycle of the device is on no path: its events are logged when it breaks a promise.
        fixture.check().inspect_err(|_| kept.log())?;
        fixture.reset();
        fixture.set_baseline(names.driver);
        let operations = if untranslated { Vec::new() } else { operations::of(&fixture, names) };
        Ok((fixture, operations))
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lifecycle({} on {})", self.device, self.board.name())
    }
}

/// Pulls the device out, and returns true when accesses to its registers fail then.
fn registers_fail(fixture: &Fixture, names: &Names) -> bool {
    let windows = names.desc.resources.iter().filter_map(|resource| match resource {
        Resource::Mem { base, len } => fixture.board.map_io(*base, *len).ok(),
        _ => None,
    });
    let windows: Vec<_> = windows.collect();
    let _ = fixture.board.unplug(&names.part);
    windows.iter().any(|window| window.read(0, Width::W32).is_err())
}

/// The device that the driver called `driver` has, if it has one alone.
fn only_device_of(fixture: &Fixture, driver: &str) -> Option<Arc<Device>> {
    let mut all = fixture.machine.devices().into_iter().filter(|d| d.driver() == Some(driver));
    all.next().filter(|_| all.next().is_none())
}

/// Number of the state between two steps of a variant.
pub(crate) fn state_of(variant: &str, step: &str, digest: u64) -> u64 {
    let mut state = FastHasher::default();
    (variant, step, digest).hash(&mut state);
    state.finish()
}
