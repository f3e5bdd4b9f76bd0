//! A board with a machine on it, made once and used for many paths as long as each leaves it as it was.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use bindery::control::Tree;
use bindery::device::{Device, NodeId};
use bindery::env::Env;
use bindery::firmware::fdt::FdtError;
use bindery::machine::{Handle, Machine};
use bindery_sim::board::Board;

use super::env::Watched;
use crate::boards::BoardSpec;
use crate::engine::Cheap;

/// How often, and how long, hardware is given time to finish what is under way.
const RESTS: u32 = 8;
const REST: Duration = Duration::from_millis(1);

/// The hardware, the machine on it, and its control tree.
pub(crate) struct World {
    pub(crate) machine: Handle,
    pub(crate) tree: Tree,
    pub(crate) env: Arc<Watched>,
    pub(crate) board: Arc<Board>,
    /// The state in which every path begins, once there is one.
    pub(crate) base: u64,
    /// The same in words.
    print: Vec<String>,
}

impl World {
    /// A board with devices and drivers; nothing is probed yet.
    pub(crate) fn new(spec: &BoardSpec, untranslated: bool) -> Result<Self, FdtError> {
        let board = spec.board();
        let env = Watched::new(Arc::clone(&board));
        let machine = Machine::new(Arc::clone(&env) as _, BoardSpec::policy(untranslated));
        spec.populate(&machine)?;
        let tree = Tree::new(&machine);
        Ok(Self { machine, tree, env, board, base: 0, print: Vec::new() })
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

    /// Lets time pass until the hardware has nothing under way.
    pub(crate) fn come_to_rest(&self) {
        for _ in 0..RESTS {
            self.env.wait(self.env.now() + REST);
        }
    }

    /// From here every path begins.
    pub(crate) fn begins_here(&mut self) {
        self.base = self.digest();
        self.print = self.lines();
    }

    /// What is not as it was in the beginning, for people.
    pub(crate) fn difference(&self) -> String {
        let now = self.lines();
        let gone = self.print.iter().filter(|line| !now.contains(line)).map(|line| format!("was: {line}"));
        let new = now.iter().filter(|line| !self.print.contains(line)).map(|line| format!("is: {line}"));
        let lines: Vec<_> = gone.chain(new).collect();
        if lines.is_empty() { "a queue".into() } else { lines.join("; ") }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for device in self.machine.devices() {
            let links = self.machine.links(&device);
            let links: Vec<_> = links.iter().map(|l| format!("{} {}", l.supplier, l.state)).collect();
            let holder = device.driver().unwrap_or("nobody");
            let forced = device.driver_override().map_or_else(String::new, |d| format!(", only {d} may bind it"));
            lines.push(format!(
                "{} {}, held by {holder}{forced} [{}]",
                device.name(),
                device.phase(),
                links.join(", ")
            ));
        }
        let f = self.machine.footprint();
        lines.push(format!("{} page frames, {} contiguous pages", f.frames, f.contiguous));
        lines.push(format!("{} interrupt lines, {} services, {} supplies", f.irqs, f.services, f.supplies));
        lines.push(format!("{} mappings, {} bytes bounced, quarantine: {}", f.mappings, f.bounce, f.quarantine));
        lines.extend(f.bindings);
        lines.extend(self.board.parts().into_iter().map(|(part, state)| format!("hardware, {part}: {state:x}")));
        lines
    }

    /// A number for the state of machine and hardware.
    pub(crate) fn digest(&self) -> u64 {
        let mut state = Cheap::default();
        self.machine.hash_state(&mut state);
        self.board.hash_state(&mut state);
        state.finish()
    }

    /// How often the machine has checked each promise.
    pub(crate) fn checks(&self) -> [u64; 12] {
        let promises = self.machine.promises();
        bindery::promise::Promise::ALL.map(|p| promises.checked(p))
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
