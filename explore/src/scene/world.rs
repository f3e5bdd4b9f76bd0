//! A board with a machine on it, made once and used for many paths as long as each leaves it as it was.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bindery::control::Tree;
use bindery::device::{Device, NodeId};
use bindery::env::Env;
use bindery::firmware::fdt::FdtError;
use bindery::machine::{Handle, Machine};
use bindery::promise::Promise;
use bindery_sim::board::Board;

use super::env::Watched;
use super::twins::Twins;
use crate::boards::BoardSpec;
use crate::engine::Cheap;

/// How long hardware is given time to finish what is under way, and how much may happen in that time.
const REST: Duration = Duration::from_millis(8);
const EVENTS: u32 = 10_000;

/// The hardware, the machine on it, and its control tree.
pub(crate) struct World {
    pub(crate) machine: Handle,
    pub(crate) tree: Tree,
    pub(crate) env: Arc<Watched>,
    pub(crate) board: Arc<Board>,
    /// The state in which every path begins, once there is one, see [`held`](Self::held).
    base: u64,
    /// The same in words.
    print: Vec<String>,
    /// The explored device's driver, and the devices that it holds.
    order: (&'static str, Vec<NodeId>),
    /// Devices whose names decide nothing.
    twins: Twins,
}

impl World {
    /// A board with devices and drivers; nothing is probed yet.
    pub(crate) fn new(spec: &BoardSpec, untranslated: bool) -> Result<Self, FdtError> {
        let board = BoardSpec::board();
        let env = Watched::new(Arc::clone(&board));
        let machine = Machine::new(Arc::clone(&env) as _, BoardSpec::policy(untranslated));
        spec.populate(&machine)?;
        let tree = Tree::new(&machine);
        Ok(Self {
            machine,
            tree,
            env,
            board,
            base: 0,
            print: Vec::new(),
            order: ("", Vec::new()),
            twins: Twins::default(),
        })
    }

    /// Binds whatever can be bound. A device that waits although what it waits for is there is probed once more: that
    /// nobody woke it is for the life to show that starts in any order.
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

    /// Comes to rest before a path. What the hardware has cached by then is nothing that a path may depend on, so it
    /// begins without.
    pub(crate) fn start_over(&self) {
        self.come_to_rest();
        self.board.forget_cached();
    }

    /// Lets time pass until the hardware has nothing under way.
    pub(crate) fn come_to_rest(&self) {
        let until = self.env.now() + REST;
        // Each wait ends with the first that happens.
        for _ in 0..EVENTS {
            if self.env.now() >= until {
                break;
            }
            self.env.wait(until);
        }
    }

    /// From here every path begins, some of which remove `driver`.
    pub(crate) fn begins_here(&mut self, driver: &'static str) {
        self.base = self.held();
        self.print = self.lines();
        self.order = (driver, self.machine.held_by(driver).iter().map(|d| d.node()).collect());
    }

    /// Whether a path that begins now goes the way of the first one: all is as before, and the driver's devices would
    /// lose it in the same order, which is that of their bindings and no part of the state.
    pub(crate) fn begins_again(&self) -> bool {
        let (driver, order) = &self.order;
        self.is_as_before() && self.machine.held_by(driver).iter().map(|d| d.node()).eq(order.iter().copied())
    }

    /// Whether the world is as every path begins.
    pub(crate) fn is_as_before(&self) -> bool {
        self.held() == self.base
    }

    /// What is not as it was in the beginning, for people.
    pub(crate) fn difference(&self) -> String {
        let now = self.lines();
        let gone = self.print.iter().filter(|line| !now.contains(line)).map(|line| format!("was: {line}"));
        let new = now.iter().filter(|line| !self.print.contains(line)).map(|line| format!("is: {line}"));
        let lines: Vec<_> = gone.chain(new).collect();
        lines.join("; ")
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.machine.hash_devices::<Cheap>(|device, state| {
            lines.push(format!("{}, state {state:x}", self.describe(device)));
        });
        let f = self.machine.footprint();
        lines.push(format!("{} page frames, {} contiguous pages", f.frames, f.contiguous));
        lines.push(format!("{} interrupt lines, {} services, {} supplies", f.irqs, f.services, f.supplies));
        lines.push(format!("{} mappings, {} bytes bounced, quarantine: {}", f.mappings, f.bounce, f.quarantine));
        self.board.hash_windows::<Cheap>(|_, name, state| lines.push(format!("hardware, {name}: {state:x}")));
        for group in self.machine.groups().iter().map(|group| group.info()) {
            let domain = group
                .domain
                .map_or_else(|| "no domain".into(), |(_, kind, used)| format!("a {kind} domain with {used} pages"));
            lines.push(format!("group of {} ({}), {:?}, {domain}", group.members.len(), group.kind, group.owner));
        }
        let (mut board, mut machine) = (Cheap::default(), Cheap::default());
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
        let holdings: Vec<_> = self.machine.holdings(device).into_iter().map(|(_, kind, ..)| kind).collect();
        let holder = device.driver().unwrap_or("nobody");
        let forced = device.driver_override().map_or_else(String::new, |d| format!(", only {d} may bind it"));
        let (name, phase) = (device.name(), device.phase());
        let waits = if self.machine.waiting().iter().any(|w| &*w.device == name) { ", waits" } else { "" };
        format!("{name} {phase}, held by {holder}{forced}{waits} [{}] with {}", links.join(", "), holdings.join(", "))
    }

    /// A number for the state of machine and hardware.
    pub(crate) fn digest(&self) -> u64 {
        let mut state = self.state();
        self.board.hash_details(&mut state);
        state.finish()
    }

    /// The same without what may be another although all that is held is the same: where memory lies, what is cached.
    fn held(&self) -> u64 {
        self.state().finish()
    }

    fn state(&self) -> Cheap {
        let mut state = Cheap::default();
        self.machine.hash_state(&mut state);
        self.board.hash_state(&mut state);
        let mut twins = vec![Cheap::default(); self.twins.len()];
        self.machine.hash_devices::<Cheap>(|device, number| match self.twins.at(device.node()) {
            Some(twin) => twins[twin].write_u64(number),
            None => (device.node(), number).hash(&mut state),
        });
        self.board.hash_windows::<Cheap>(|base, _, number| match self.twins.behind(base) {
            Some(twin) => twins[twin].write_u64(number),
            None => number.hash(&mut state),
        });
        if !twins.is_empty() {
            let numbers: Vec<u64> = twins.iter().map(Cheap::finish).collect();
            self.twins.fold(&numbers).hash(&mut state);
        }
        state
    }

    /// Devices that `may_be` picks are told apart no more where nothing but names, addresses and cells of references does.
    pub(crate) fn fold(&mut self, may_be: impl Fn(&Device) -> bool) {
        self.twins = Twins::of(&self.machine, may_be);
    }

    /// How often the machine has checked each promise.
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
                if !found.iter().any(|d| d.node() == supplier.node()) && !self.machine.candidates(&supplier).is_empty()
                {
                    found.push(supplier);
                }
            }
            at += 1;
        }
        found.iter().map(|d| d.node()).collect()
    }
}
