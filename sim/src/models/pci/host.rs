//! The host bridge: which function an access reaches, by bus number or by address.

use std::hash::{Hash, Hasher};

use bindery::env::Width;

use super::config::Resets;
use super::{Config, Link};
use crate::models::attached::Attached;

/// Numbers of buses, and of functions on a bus.
const BUS_SHIFT: u32 = 20;
const FUNCTION_SHIFT: u32 = 12;

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
    pub(crate) present: bool,
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

    pub(crate) fn read_config(&self, offset: u64, width: Width) -> u64 {
        let ones = u64::MAX >> (64 - 8 * width.bytes());
        self.find(offset).map_or(ones, |(at, inside)| self.functions[at].config.read(inside, width.bytes() as usize))
    }

    pub(crate) fn write_config(&mut self, offset: u64, width: Width, value: u64) -> Written {
        let Some((at, inside)) = self.find(offset) else { return Written { reset: Vec::new() } };
        let reset = match self.functions[at].config.write(inside, width.bytes() as usize, value) {
            Resets::Nothing => Vec::new(),
            Resets::Behind => self.reset_below(at),
            Resets::Itself => self.functions[at].attached.into_iter().collect(),
        };
        Written { reset }
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
        self.functions[at].present && self.above(at).all(|f| f.present)
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
            function.present.hash(state);
            function.config.hash_state(state);
        }
    }
}
