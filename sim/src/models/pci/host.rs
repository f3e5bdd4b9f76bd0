//! The host bridge: which function an access reaches, by bus number or by address.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use bindery::env::{Instant, Width};

use super::config::Resets;
use super::{Config, Link, Severity};
use crate::models::attached::Attached;

/// Numbers of buses, and of functions on a bus.
const BUS_SHIFT: u32 = 20;
const FUNCTION_SHIFT: u32 = 12;

/// Shortest reset of a bus, and the time after it before which nothing behind it may be accessed (PCI Express 5.0, 6.6.1).
const SHORTEST_RESET: Duration = Duration::from_millis(1);
const AFTER_RESET: Duration = Duration::from_millis(100);

/// Reset of the bus behind a bridge.
#[derive(Default)]
pub(crate) struct BusReset {
    begun: Option<Instant>,
    ended: Option<Instant>,
    /// Nothing behind it answers after a reset.
    stuck: bool,
    dead: bool,
    /// Its link has failed.
    failed: bool,
}

/// A function and its place.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// The bridge whose secondary bus it is on; `None` for the host bridge's own bus.
    pub(crate) parent: Option<usize>,
    /// Device number. Each is one function.
    pub(crate) device: u8,
    pub(crate) config: Config,
    /// Number of the model behind its registers.
    pub(crate) attached: Option<usize>,
    /// Line of the interrupt controller that its own pin reaches, of a port.
    pub(crate) line: Option<u32>,
    pub(crate) present: bool,
    /// What has become of the bus behind it.
    pub(crate) bus: BusReset,
}

impl Function {
    /// Line of the interrupt controller that its pin INTA reaches, through the bridges above it, among the four of the host bridge.
    /// Each bridge turns pins by the number of the device.
    pub(crate) fn line(functions: &[Self], mut at: usize, lines: [u32; 4]) -> u32 {
        let mut pin = 0;
        loop {
            pin += usize::from(functions[at].device);
            match functions[at].parent {
                Some(parent) => at = parent,
                None => return lines[pin % 4],
            }
        }
    }
}

/// A host bridge: its functions, parents before those behind them.
pub(crate) struct Host {
    functions: Vec<Function>,
}

/// Consequence of a write to configuration space.
pub(crate) struct Written {
    /// Models that were reset.
    pub(crate) reset: Vec<usize>,
    /// What software must not do, and the function.
    pub(crate) misuse: Option<(&'static str, String)>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.functions.iter().map(|f| f.name)).finish()
    }
}

impl Host {
    pub(crate) fn new(functions: Vec<Function>) -> Self {
        Self { functions }
    }

    /// The function whose configuration space is at `offset` of the ECAM window, and the offset in it.
    fn find(&self, offset: u64) -> Option<(usize, usize)> {
        let (bus, place) = ((offset >> BUS_SHIFT) as u8, (offset >> FUNCTION_SHIFT & 0xff) as u8);
        let mut parent = None;
        let mut at_bus = 0;
        // A bridge leads to higher numbers only, so this ends.
        while at_bus != bus {
            let leads = |f: &Function| {
                f.config.buses().is_some_and(|(first, last)| first > at_bus && (first..=last).contains(&bus))
            };
            let bridge = self.functions.iter().position(|f| f.parent == parent && f.present && leads(f))?;
            parent = Some(bridge);
            at_bus = self.functions[bridge].config.buses()?.0;
        }
        let here = |f: &Function| f.parent == parent && f.present && f.device << 3 == place;
        let found = self.functions.iter().position(here)?;
        Some((found, (offset & 0xfff) as usize))
    }

    /// Reads configuration space; with what software must not do, and the function.
    pub(crate) fn read_config(&self, offset: u64, width: Width, now: Instant) -> (u64, Option<(&'static str, String)>) {
        let ones = u64::MAX >> (64 - 8 * width.bytes());
        let Some((at, inside)) = self.find(offset) else { return (ones, None) };
        let misuse = self.too_early(at, now);
        if misuse.is_some() || !self.is_reachable(at) {
            return (ones, misuse);
        }
        (self.functions[at].config.read(inside, width.bytes() as usize), None)
    }

    pub(crate) fn write_config(&mut self, offset: u64, width: Width, value: u64, now: Instant) -> Written {
        let nothing = Written { reset: Vec::new(), misuse: None };
        let Some((at, inside)) = self.find(offset) else { return nothing };
        let misuse = self.too_early(at, now);
        if misuse.is_some() || !self.is_reachable(at) {
            return Written { misuse, ..nothing };
        }
        let was_off = self.functions[at].config.is_slot_off();
        let was_contained = self.functions[at].config.is_contained();
        let was_in_reset = self.functions[at].config.resets_bus();
        let reset = match self.functions[at].config.write(inside, width.bytes() as usize, value) {
            Resets::Nothing => Vec::new(),
            Resets::Behind => {
                self.functions[at].bus.begun = Some(now);
                self.reset_below(at)
            }
            Resets::Itself => self.functions[at].attached.into_iter().collect(),
        };
        let mut written = Written { reset, ..nothing };
        if was_contained && !self.functions[at].config.is_contained() {
            self.functions[at].bus.ended = Some(now);
        }
        if self.functions[at].config.is_slot_off() && !was_off {
            written.reset = self.reset_below(at);
        }
        if was_in_reset && !self.functions[at].config.resets_bus() {
            let (name, bus) = (self.functions[at].name, &mut self.functions[at].bus);
            (bus.ended, bus.dead) = (Some(now), bus.stuck);
            if bus.begun.is_some_and(|begun| now < begun + SHORTEST_RESET) {
                written.misuse = Some((name, "the reset of its bus was shorter than 1 ms".to_owned()));
            }
        }
        written
    }

    /// Misuse when the function at `at` is accessed too early after a reset of a bus that it is on.
    fn too_early(&self, at: usize, now: Instant) -> Option<(&'static str, String)> {
        let early = |bridge: &Function| bridge.bus.ended.is_some_and(|ended| now < ended + AFTER_RESET);
        let bridge = self.above(at).find(|bridge| early(bridge))?;
        let name = self.functions[at].name;
        Some((name, format!("accessed less than 100 ms after the reset of the bus behind {}", bridge.name)))
    }

    /// The function called `name` detects an error. It tells the ports above it, whose links are then taken down by those that contain it.
    /// Returns the models that are reset by that; `None` for a function without error reporting.
    pub(crate) fn detect(&mut self, name: &str, severity: Severity, source: Option<u16>) -> Option<Vec<usize>> {
        let at = self.functions.iter().position(|f| f.name == name && f.present)?;
        let own = self.requester_id(at);
        let told = self.functions[at].config.detect(severity)?;
        if !told || !self.is_reachable(at) {
            return Some(Vec::new());
        }
        let mut port = Some(at);
        while let Some(now) = port {
            if now != at && !self.functions[now].config.passes_errors() {
                break;
            }
            // A port tells of its own errors above itself; a root port, to itself.
            if (now != at || self.functions[now].parent.is_none())
                && self.functions[now].config.receive(severity, source.unwrap_or(own))
            {
                return Some(self.reset_below(now));
            }
            port = self.functions[now].parent;
        }
        Some(Vec::new())
    }

    fn requester_id(&self, at: usize) -> u16 {
        let bus = self.functions[at].parent.and_then(|parent| self.functions[parent].config.buses());
        u16::from(bus.map_or(0, |(secondary, _)| secondary)) << 8 | u16::from(self.functions[at].device) << 3
    }

    /// Has the link below the port called `name` fail, or come up again. Returns the models that are reset by that.
    pub(crate) fn set_link_failed(&mut self, name: &str, failed: bool) -> Option<Vec<usize>> {
        let at = self.functions.iter().position(|f| f.name == name)?;
        if self.functions[at].bus.failed == failed {
            return Some(Vec::new());
        }
        self.functions[at].bus.failed = failed;
        Some(self.reset_below(at))
    }

    /// Lines of ports, and whether they are raised.
    pub(crate) fn port_lines(&self) -> impl Iterator<Item = (u32, bool)> {
        self.functions.iter().filter_map(|f| Some((f.line?, f.present && f.config.signals())))
    }

    /// Presses the attention button of the slot of the port called `name`. False when it has none.
    pub(crate) fn press(&mut self, name: &str) -> bool {
        self.functions.iter_mut().find(|f| f.name == name).is_some_and(|port| port.config.press())
    }

    /// Has what is behind the bridge called `name` never answer after a reset of its bus, or answer.
    pub(crate) fn set_stuck(&mut self, name: &str, stuck: bool) {
        for bridge in self.functions.iter_mut().filter(|f| f.name == name) {
            bridge.bus.stuck = stuck;
            bridge.bus.dead &= stuck;
        }
    }

    /// Resets what is behind a bridge. Returns the models.
    fn reset_below(&mut self, bridge: usize) -> Vec<usize> {
        let below: Vec<usize> = (0..self.functions.len()).filter(|at| self.is_below(*at, bridge)).collect();
        for at in &below {
            self.functions[*at].config.reset();
        }
        below.into_iter().filter_map(|at| self.functions[at].attached).collect()
    }

    fn above(&self, at: usize) -> impl Iterator<Item = &Function> {
        std::iter::successors(self.functions[at].parent, |at| self.functions[*at].parent).map(|at| &self.functions[at])
    }

    fn is_below(&self, at: usize, bridge: usize) -> bool {
        std::iter::successors(self.functions[at].parent, |at| self.functions[*at].parent).any(|at| at == bridge)
    }

    fn is_reachable(&self, at: usize) -> bool {
        let passes = |bridge: &Function| {
            let config = &bridge.config;
            let down = bridge.bus.dead || bridge.bus.failed || config.is_contained();
            bridge.present && !down && !config.resets_bus() && !config.is_slot_off()
        };
        self.functions[at].present && self.above(at).all(passes)
    }

    /// The model that answers the address `addr` of memory, and the offset in its registers.
    pub(crate) fn decode(&self, addr: u64) -> Option<(usize, &'static str, u64)> {
        self.functions.iter().enumerate().find_map(|(at, f)| {
            let offset = f.config.decodes(addr)?;
            let passed = self.is_reachable(at) && self.above(at).all(|bridge| bridge.config.passes(addr));
            Some((f.attached.filter(|_| passed)?, f.name, offset))
        })
    }

    /// Connects the models to their buses as configuration space says, and shows their pins in it.
    pub(crate) fn connect(&mut self, attached: &mut [Attached]) {
        for at in 0..self.functions.len() {
            let present = self.functions.iter().any(|f| f.parent == Some(at) && f.present);
            let port = &self.functions[at];
            let down = port.bus.dead || port.bus.failed || port.config.is_contained();
            let up = present && !down && !port.config.resets_bus() && !port.config.is_slot_off();
            self.functions[at].config.show_slot(present, up);
            let masters = self.is_reachable(at) && self.above(at).all(|bridge| bridge.config.is_master());
            let link = self.functions[at].config.link(masters);
            let Some(model) = self.functions[at].attached.and_then(|model| attached.get_mut(model)) else { continue };
            model.link = if self.is_reachable(at) { link } else { Link::OFF };
            self.functions[at].config.show_pin(model.asserts());
        }
    }

    /// Removes or inserts the function called `name`, with all that is behind it. Returns the models that are reset by it; `None`
    /// when there is no such function.
    pub(crate) fn set_present(&mut self, name: &str, present: bool) -> Option<Vec<usize>> {
        let at = self.functions.iter().position(|f| f.name == name)?;
        if self.functions[at].present == present {
            return Some(Vec::new());
        }
        self.functions[at].present = present;
        self.functions[at].config.reset();
        let mut models = self.reset_below(at);
        models.extend(self.functions[at].attached);
        Some(models)
    }

    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        for function in &self.functions {
            (function.present, function.bus.dead, function.bus.failed).hash(state);
            function.config.hash_state(state);
        }
    }
}
