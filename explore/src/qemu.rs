//! The lifecycle of a device that others wrote: `edu` on a machine of QEMU.
//!
//! The core and the drivers are the real ones, and each fallible call of theirs is a fault point, as on a simulated board. QEMU's
//! hardware is not ours to look into: states are not compared, so each path is executed to its end, concurrent operations do
//! not preempt it, and whether a device still reaches memory is asked of nobody. What is checked are the promises that the core can see
//! by itself, the data, and that the machine uses in the end what it used in the beginning. Each path begins with a new device, pulled
//! out and put in between two paths, or with a new process of QEMU.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bindery::control::Tree;
use bindery::driver::{Driver, Gone};
use bindery::machine::{Handle, Machine, Policy};
use bindery::pci::FunctionId;
use bindery::promise::Promise;
use bindery_drivers::edu::{Edu, EduError};
use bindery_drivers::pci_host::PciHost;
use bindery_qtest::{Error, Machine as Kind, Options, QemuEnv};
use bindery_sim::interpose::Interpose;
use serde_json::json;

use crate::engine::{Bounded, Bounds, Chooser, Engine, Kind as Choice, Path, Replay, Report, Violation};
use crate::events;
use crate::scene;
use crate::scene::env::InstrumentedEnv;
use crate::scene::hooks::Hooks;
use crate::scene::scheduler::Scheduler;

/// The device, behind the only root port.
const EDU: &str = "0000:01:00.0";
const PORT: FunctionId = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };
/// Bits of an address that it drives: RAM of the machine `virt` begins at 1 GiB.
const DMA_BITS: u32 = 32;
const DMA_MASK: u64 = u32::MAX as u64;
/// Paths after which a process of QEMU is ended: what a long-lived one might have kept does not explain a finding.
const PATHS_OF_A_PROCESS: u32 = 64;

/// Way in which a lifecycle ends, as a coverage point.
const ENDS: [(&str, End); 5] = [
    ("lifecycle: bound, used, unbound", |p| {
        p.note(p.tree.write(&format!("/sys/bus/pci/drivers/{}/unbind", Edu::NAME), EDU));
        Ok(p.holder().is_none())
    }),
    ("lifecycle: the driver is removed", |p| {
        p.machine.unregister(Edu::NAME);
        Ok(p.holder().is_none() && !p.machine.drivers().contains(&Edu::NAME))
    }),
    ("lifecycle: the device is removed", |p| {
        p.machine.remove_device(EDU);
        Ok(p.machine.device(EDU).is_none())
    }),
    ("lifecycle: the supplier is unbound first", |p| {
        let bound = p.machine.unbind(&p.host, PciHost::NAME).is_ok();
        Ok(bound && p.machine.device(EDU).is_none())
    }),
    ("lifecycle: the device is pulled out", |p| {
        p.env.unplug("edu", PORT).map_err(|error| stopped(&error))?;
        p.pulled_out.set(true);
        p.machine.device_vanished(EDU);
        Ok(p.machine.device(EDU).is_none())
    }),
];

/// Ends the lifecycle. True when that had the effect that it has where nothing goes wrong.
type End = fn(&Play<'_>) -> Result<bool, Violation>;

/// Exploration of the lifecycle of `edu` on a machine of QEMU.
///
/// ```no_run
/// use bindery_explore::{Bounded, qemu::QemuLifecycle};
/// use bindery_qtest::Machine;
///
/// let lifecycle = QemuLifecycle::new(Machine::Q35).faults(1);
/// let report = lifecycle.run(&lifecycle.engine())?;
/// assert!(report.passed(), "{report}");
/// # Ok::<_, bindery_qtest::Error>(())
/// ```
pub struct QemuLifecycle {
    machine: Kind,
    bounds: Bounds,
    /// Processes that no path uses, each with the number of paths that it has served.
    idle: Mutex<Vec<(Arc<QemuEnv>, u32)>>,
    /// The first error of QEMU itself.
    error: Mutex<Option<Error>>,
}

impl Bounded for QemuLifecycle {
    fn bounds_mut(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl QemuLifecycle {
    /// That of `machine`.
    pub fn new(machine: Kind) -> Self {
        Self { machine, bounds: Bounds::default(), idle: Mutex::default(), error: Mutex::default() }
    }

    /// Name in reports.
    pub fn name(&self) -> String {
        let machine = match self.machine {
            Kind::Q35 => "q35",
            Kind::Virt => "virt",
        };
        format!("edu on QEMU's {machine}")
    }

    /// The engine for it. Each way in which the lifecycle ends must have had its effect once.
    pub fn engine(&self) -> Engine {
        let bounds = Bounds { preemptions: 0, ..self.bounds.clone() };
        // Page frames are asked for where there is no contiguous memory: a second fault.
        let second = (bounds.faults < 2).then_some("fault frame-alloc");
        let engine = Engine::new(self.name()).bounds(bounds).require(ENDS.map(|(name, _)| name));
        engine.allow_unreached(second).without_hashing()
    }

    /// Explores the paths that `engine` is configured for.
    ///
    /// # Errors
    ///
    /// QEMU cannot be started, or one of its processes has ended or hung.
    pub fn run(&self, engine: &Engine) -> Result<Report, Error> {
        self.prepare()?;
        let report = engine.run(|chooser| self.path(chooser));
        self.finish(report)
    }

    /// Executes one path with every event logged.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn replay(&self, path: &Path) -> Result<Replay, Error> {
        self.prepare()?;
        let replay = self.engine().replay(path, |chooser| self.path(chooser));
        self.finish(replay)
    }

    /// Starts a first process, so that one that cannot be started is no finding.
    fn prepare(&self) -> Result<(), Error> {
        let fresh = self.fresh()?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(fresh);
        Ok(())
    }

    fn finish<T>(&self, done: T) -> Result<T, Error> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(done), Err)
    }

    /// A machine with a new device.
    fn fresh(&self) -> Result<(Arc<QemuEnv>, u32), Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some((env, paths)) = idle {
            return Ok((env, paths));
        }
        let options = Options::new(self.machine)
            .device("pcie-root-port,id=rp,bus=pcie.0,addr=1,chassis=1,slot=1")
            .device(&format!("edu,id=edu,bus=rp,addr=0,dma_mask={DMA_MASK:#x}"));
        Ok((Arc::new(QemuEnv::start(&options)?), 0))
    }

    /// Executes one path on the calling thread with the choices of `chooser`.
    fn path(&self, chooser: &Chooser) -> Result<(), Violation> {
        let (name, end) = ENDS[chooser.choose(Choice::Value, "lifecycle", ENDS.len())];
        chooser.log(|| format!("== {name}"));
        if self.error.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Err(Violation::seen_by("QEMU", "stopped", "a process of QEMU had ended or hung before"));
        }
        let fail = |error: Error| {
            let violation = stopped(&error);
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            violation
        };
        let (env, paths) = self.fresh().map_err(fail)?;
        let outcome = Play::new(&env, chooser, name).and_then(|play| play.all(end));
        if let Some(error) = env.take_error() {
            return Err(fail(error));
        }
        if outcome.is_ok() && paths + 1 < PATHS_OF_A_PROCESS && renew(&env).is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((env, paths + 1));
        }
        outcome
    }
}

impl fmt::Debug for QemuLifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QemuLifecycle({})", self.name())
    }
}

fn stopped(error: &Error) -> Violation {
    Violation::seen_by("QEMU", "stopped", error.to_string())
}

/// Replaces the device by a new one.
fn renew(env: &QemuEnv) -> Result<(), Error> {
    env.unplug("edu", PORT)?;
    plug(env)
}

fn plug(env: &QemuEnv) -> Result<(), Error> {
    env.plug("rp", PORT, json!({ "driver": "edu", "id": "edu", "dma_mask": DMA_MASK }))
}

/// One path.
struct Play<'a> {
    name: &'static str,
    chooser: &'a Chooser,
    env: &'a QemuEnv,
    instrumented: Arc<InstrumentedEnv>,
    hooks: Arc<Hooks>,
    machine: Handle,
    tree: Tree,
    /// Name of the host bridge.
    host: String,
    /// What the machine uses while the device is unbound.
    base: String,
    /// The slot is empty.
    pulled_out: Cell<bool>,
}

impl Drop for Play<'_> {
    fn drop(&mut self) {
        self.hooks.disable_faults(true);
        self.hooks.scheduler.finish();
        self.hooks.end();
        self.instrumented.set(None);
        self.hooks.checked(&[0; Promise::COUNT], &Promise::ALL.map(|p| self.machine.promises().checked(p)));
        self.hooks.coverage.report(self.chooser);
    }
}

impl<'a> Play<'a> {
    /// A machine on which the device was bound once, without faults.
    fn new(env: &'a Arc<QemuEnv>, chooser: &'a Chooser, name: &'static str) -> Result<Self, Violation> {
        let hooks = Arc::new(Hooks::new(chooser.clone(), Scheduler::new(), Vec::new(), Vec::new()));
        hooks.disable_faults(true);
        let (log, over) = (chooser.clone(), Arc::downgrade(&hooks));
        env.on_event(Arc::new(move |event| {
            if log.logs() && over.upgrade().is_some_and(|hooks| !hooks.is_over()) {
                log.log(|| events::line(event));
                log.record("host", event);
            }
        }));
        let instrumented = InstrumentedEnv::on(Arc::clone(env) as _);
        let machine = Machine::with_instrument(instrumented.env(), Policy::default(), Arc::clone(&instrumented) as _);
        instrumented.set(Some(Arc::clone(&hooks)));
        let tree = Tree::new(&machine);
        machine.register(PciHost::default());
        machine.register(Edu { dma_bits: DMA_BITS });
        let described = match env.device_tree() {
            Some(blob) => machine.add_device_tree(blob).map(drop).map_err(|e| e.to_string()),
            None => machine.add_device(env.host_bridge()).map(drop).map_err(|e| e.to_string()),
        };
        described.map_err(|why| Violation::seen_by("QEMU", "its description", why))?;
        machine.settle();
        let host = machine.devices().into_iter().find(|d| d.driver() == Some(PciHost::NAME));
        let host = host.map_or_else(String::new, |host| host.name().to_owned());
        let mut play = Self {
            name,
            chooser,
            env,
            instrumented,
            hooks,
            machine,
            tree,
            host,
            base: String::new(),
            pulled_out: Cell::new(false),
        };
        play.must("bound", play.holder() == Some(Edu::NAME))?;
        let unbound = play.machine.unbind(EDU, Edu::NAME);
        play.must("unbound", unbound.is_ok())?;
        play.base = play.usage();
        Ok(play)
    }

    /// Binds, uses, ends, and recovers.
    fn all(&self, end: End) -> Result<(), Violation> {
        self.hooks.disable_faults(false);
        self.note(self.tree.write("/sys/bus/pci/drivers_probe", EDU));
        self.step("bind")?;
        self.expect("bind", self.holder() == Some(Edu::NAME))?;
        self.use_it(false)?;
        self.step("use")?;
        let was_bound = self.holder() == Some(Edu::NAME);
        let ended = end(self)?;
        self.step("end")?;
        self.expect(self.name, was_bound && ended)?;
        if was_bound && ended {
            self.chooser.cover(self.name);
        }
        self.recover()
    }

    /// Without faults, the device is bound, used and unbound once more, and the machine then uses what it did in the beginning (P4).
    fn recover(&self) -> Result<(), Violation> {
        self.hooks.disable_faults(true);
        let machine = &self.machine;
        machine.register(Edu { dma_bits: DMA_BITS });
        if self.pulled_out.get() {
            plug(self.env).map_err(|error| stopped(&error))?;
        }
        if machine.device(EDU).is_none() {
            // The bus driver finds it again.
            let _ = machine.unbind(&self.host, PciHost::NAME);
            let _ = machine.probe(&self.host);
        }
        machine.settle();
        let _ = machine.probe(EDU);
        self.step("recovered")?;
        self.must("bound again", self.holder() == Some(Edu::NAME))?;
        self.use_it(true)?;
        let unbound = machine.unbind(EDU, Edu::NAME);
        self.must("unbound again", unbound.is_ok())?;
        self.step("unbound again")?;
        let now = self.usage();
        self.chooser.check(Promise::NothingLeft, now == self.base, "other use after recovery", || {
            format!("after tear-down and another lifecycle the machine uses {now}, and used {} before", self.base)
        })
    }

    /// Has the device transfer data there and back; `must` both succeed?
    fn use_it(&self, must: bool) -> Result<(), Violation> {
        let Some(edu) = self.machine.client::<Edu>(EDU) else { return Ok(()) };
        let data = [0x5a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xa5];
        let mut back = [0; 16];
        let well = |done: Result<Result<(), EduError>, Gone>| matches!(done, Ok(Ok(())));
        let wrote = well(edu.call(|port| port.write(40, &data)));
        let read = well(edu.call(|port| port.read(40, &mut back)));
        if must {
            self.must("used again", wrote && read)?;
        }
        self.expect("use", wrote && read)?;
        self.chooser.check(Promise::CoherentAtTransfer, !(wrote && read) || back == data, "wrong data", || {
            "a read that succeeded did not give what was written".into()
        })
    }

    fn holder(&self) -> Option<&'static str> {
        self.machine.device(EDU).and_then(|device| device.driver())
    }

    fn usage(&self) -> String {
        format!("{:?}", self.machine.resource_usage())
    }

    fn note<T, E: fmt::Display>(&self, result: Result<T, E>) {
        if let Err(error) = result {
            self.chooser.log(|| error.to_string());
        }
    }

    /// Ends a step: checks what the core has found out itself.
    fn step(&self, what: &'static str) -> Result<(), Violation> {
        if let Some(panicked) = self.hooks.scheduler.join_all().first() {
            return Err(Violation::panicked(panicked));
        }
        self.chooser.cover(what);
        self.chooser.log(|| format!("-- {what}"));
        scene::check(&self.machine, "")
    }

    /// Checks a result that is certain on a path without faults.
    fn expect(&self, what: &'static str, holds: bool) -> Result<(), Violation> {
        if holds || self.chooser.is_disturbed() { Ok(()) } else { self.must(what, false) }
    }

    /// Checks a result that is certain where nothing goes wrong any more.
    fn must(&self, what: &'static str, holds: bool) -> Result<(), Violation> {
        self.chooser.check(Promise::NothingLeft, holds, what, || {
            format!("{EDU}: {what} did not do what it does when nothing is broken")
        })
    }
}
