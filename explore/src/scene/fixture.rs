//! A board with a machine on it, made once and used for many paths as long as each leaves it as it was.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bindery::control::Tree;
use bindery::device::{Device, NodeId};
use bindery::firmware::fdt::FdtError;
use bindery::machine::{Handle, Machine, Policy};
use bindery::promise::Promise;
use bindery::sync::Waiter;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;

use super::env::InstrumentedEnv;
use super::symmetry::Symmetry;
use crate::boards::BoardSpec;
use crate::engine::FastHasher;

/// Time for hardware to finish what is under way, where no board says another, and the most events in that time.
const REST: Duration = Duration::from_millis(8);
const EVENTS: u32 = 10_000;

/// The hardware, the machine on it, and its control tree.
pub(crate) struct Fixture {
    pub(crate) machine: Handle,
    pub(crate) tree: Tree,
    pub(crate) env: Arc<InstrumentedEnv>,
    pub(crate) board: Arc<Board>,
    rest: Duration,
    /// The state in which every path begins, once there is one, see [`held`](Self::held).
    base: u64,
    /// The same in words.
    print: Vec<String>,
    /// The explored device's driver, and the devices that it holds.
    order: (&'static str, Vec<NodeId>),
    /// Devices that are symmetric.
    symmetry: Symmetry,
}

impl Fixture {
    /// A board with devices and drivers; nothing is probed yet.
    pub(crate) fn new(spec: &BoardSpec, untranslated: bool) -> Result<Self, FdtError> {
        let mut fixture = Self::on(spec.board(), BoardSpec::policy(untranslated));
        fixture.rest = spec.rest();
        spec.populate(&fixture.machine)?;
        Ok(fixture)
    }

    /// A machine on `board`, without devices and drivers.
    pub(crate) fn on(board: Arc<Board>, policy: Policy) -> Self {
        let env = InstrumentedEnv::on_board(&board);
        let machine = Machine::with_instrument(env.env(), policy, Arc::clone(&env) as _);
        let tree = Tree::new(&machine);
        Self {
            machine,
            tree,
            env,
            board,
            rest: REST,
            base: 0,
            print: Vec::new(),
            order: ("", Vec::new()),
            symmetry: Symmetry::default(),
        }
    }

    /// Binds every device that can be bound. A device that stays deferred although its suppliers are bound is probed once more:
    /// the variant that probes in any order detects missing retries.
    pub(crate) fn start(&self) {
        self.machine.settle();
        for _ in 0..3 {
            if self.machine.waiting().is_empty() {
                break;
            }
            for device in self.machine.devices().iter().filter(|d| d.driver().is_none()) {
                let _ = self.machine.probe(device.name());
            }
            self.machine.settle();
        }
    }

    /// Prepares a path: waits for the hardware, and drops its caches, on which no path may depend.
    pub(crate) fn reset(&self) {
        self.drain_hardware();
        self.board.evict_translations();
    }

    /// Waits until the hardware is idle.
    pub(crate) fn drain_hardware(&self) {
        let until = self.env.now() + self.rest;
        // Each wait ends with the first that happens.
        for _ in 0..EVENTS {
            if self.env.now() >= until {
                break;
            }
            Interpose::wait(&*self.env, &Waiter::of_this_thread().token(), until);
        }
    }

    /// Takes the state as the one in which every path starts, some of which remove `driver`.
    pub(crate) fn set_baseline(&mut self, driver: &'static str) {
        self.base = self.held();
        self.print = self.lines();
        self.order = (driver, self.machine.held_by(driver).iter().map(|d| d.node()).collect());
    }

    /// Returns true when a path that starts now is the same as on a new fixture: the state is the initial one, and the driver's devices
    /// would be unbound in the same order, which is that of their bindings and no part of the state.
    pub(crate) fn matches_start(&self) -> bool {
        let (driver, order) = &self.order;
        self.is_at_baseline() && self.machine.held_by(driver).iter().map(|d| d.node()).eq(order.iter().copied())
    }

    /// Returns true when the fixture is in the state in which every path begins.
    pub(crate) fn is_at_baseline(&self) -> bool {
        self.held() == self.base
    }

    /// Describes the differences from the initial state.
    pub(crate) fn difference(&self) -> String {
        let now = self.lines();
        let gone = self.print.iter().filter(|line| !now.contains(line)).map(|line| format!("was: {line}"));
        let new = now.iter().filter(|line| !self.print.contains(line)).map(|line| format!("is: {line}"));
        let lines: Vec<_> = gone.chain(new).collect();
        lines.join("; ")
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.machine.hash_devices::<FastHasher>(|device, state| {
            lines.push(format!("{}, state {state:x}", self.describe(device)));
        });
        let f = self.machine.resource_usage();
        lines.push(format!("{} page frames, {} contiguous pages", f.frames, f.contiguous));
        lines.push(format!("{} interrupt lines, {} services, {} supplies", f.irqs, f.services, f.supplies));
        lines.push(format!("{} mappings, {} bytes bounced, quarantine: {}", f.mappings, f.bounce, f.quarantine));
        self.board.hash_windows::<FastHasher>(|_, name, state| lines.push(format!("hardware, {name}: {state:x}")));
        for group in self.machine.groups().iter().map(|group| group.info()) {
            let domain = group
                .domain
                .map_or_else(|| "no domain".into(), |(_, kind, used)| format!("a {kind} domain with {used} pages"));
            lines.push(format!("group of {} ({}), {:?}, {domain}", group.members.len(), group.kind, group.owner));
        }
        let (mut board, mut machine) = (FastHasher::default(), FastHasher::default());
        self.board.hash_state(&mut board);
        self.machine.hash_state(&mut machine);
        lines.push(format!("hardware, timers and interrupt lines: {:x}", board.finish()));
        lines.push(format!("drivers, IOMMUs and all that is in use: {:x}", machine.finish()));
        lines
    }

    /// A device's phase, links and ledger.
    fn describe(&self, device: &Device) -> String {
        let links = self.machine.links(device);
        let links: Vec<_> = links.iter().map(|l| format!("{} {}", l.supplier, l.state)).collect();
        let resources: Vec<_> = self.machine.resources(device).into_iter().map(|(_, kind, ..)| kind).collect();
        let holder = device.driver().unwrap_or("no driver");
        let forced = device.driver_override().map_or_else(String::new, |d| format!(", only {d} may bind it"));
        let (name, phase) = (device.name(), device.phase());
        let waits = if self.machine.waiting().iter().any(|w| &*w.device == name) { ", waits" } else { "" };
        format!("{name} {phase}, held by {holder}{forced}{waits} [{}] with {}", links.join(", "), resources.join(", "))
    }

    /// A number for the state of machine and hardware.
    pub(crate) fn digest(&self) -> u64 {
        let mut state = self.state();
        self.board.hash_details(&mut state);
        state.finish()
    }

    /// Number for the resources that are held, without addresses of memory and contents of caches.
    pub(crate) fn held(&self) -> u64 {
        self.state().finish()
    }

    /// Number for what the machine holds.
    pub(crate) fn held_by_machine(&self) -> u64 {
        let mut state = FastHasher::default();
        self.machine.hash_state(&mut state);
        self.machine.hash_devices::<FastHasher>(|device, number| (device.node(), number).hash(&mut state));
        state.finish()
    }

    fn state(&self) -> FastHasher {
        let mut state = FastHasher::default();
        self.machine.hash_state(&mut state);
        self.board.hash_state(&mut state);
        let mut symmetric = vec![FastHasher::default(); self.symmetry.len()];
        self.machine.hash_devices::<FastHasher>(|device, number| match self.symmetry.index_of(device.node()) {
            Some(member) => symmetric[member].write_u64(number),
            None => (device.node(), number).hash(&mut state),
        });
        self.board.hash_windows::<FastHasher>(|base, _, number| match self.symmetry.index_at(base) {
            Some(member) => symmetric[member].write_u64(number),
            None => number.hash(&mut state),
        });
        if !symmetric.is_empty() {
            let numbers: Vec<u64> = symmetric.iter().map(FastHasher::finish).collect();
            self.symmetry.canonical(&numbers).hash(&mut state);
        }
        state
    }

    /// Symmetry reduction: devices that `may_be` selects are not distinguished where only names, addresses and cells of
    /// references differ.
    pub(crate) fn reduce_by_symmetry(&mut self, may_be: impl Fn(&Device) -> bool) {
        self.symmetry = Symmetry::of(&self.machine, may_be);
    }

    /// Number of times that the machine has checked each promise.
    pub(crate) fn checks(&self) -> [u64; Promise::COUNT] {
        let promises = self.machine.promises();
        Promise::ALL.map(|p| promises.checked(p))
    }

    /// `device` and everything that it needs, directly or not, as far as a driver may bind it: the order of all others
    /// decides nothing for it.
    pub(crate) fn ordered(&self, device: &str) -> Vec<NodeId> {
        let mut found: Vec<Arc<Device>> = self.machine.device(device).into_iter().collect();
        let mut at = 0;
        while let Some(device) = found.get(at).cloned() {
            let suppliers = self.machine.links(&device).into_iter().filter_map(|l| self.machine.device(&l.supplier));
            for supplier in suppliers {
                if !found.iter().any(|d| d.node() == supplier.node())
                    && self.machine.candidates(&supplier).next().is_some()
                {
                    found.push(supplier);
                }
            }
            at += 1;
        }
        found.iter().map(|d| d.node()).collect()
    }
}
