//! Isolation: by which requester IDs accesses of a function arrive at an IOMMU, and which functions reach each other without it.
//!
//! Access control services (ACS) have a port or a device with several functions send requests to the root complex that would otherwise
//! go directly from one function below it to another. Where they are missing, a guest that has one of these functions could reach the
//! registers of the others (PCI Express 5.0, 6.12). The rules:
//!
//! - what is below a root port, or a bridge to a conventional bus, without them is one set with it;
//! - a downstream port without them sends requests to all ports of its switch: what is below the switch is one set;
//! - the functions of a device one of which is without them are one set;
//! - root ports are isolated from each other, as in Linux.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Capability, ConfigSpace, Function, FunctionId, Header, PortKind, Topology};
use crate::env::{IoError, Width};

/// Services: source validation, request redirect, completion redirect, upstream forwarding (PCI Express 5.0, 7.7.8).
const SERVICES: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;

/// Offset of the control register of the function's services; those that it has are in the two bytes before it.
pub(super) fn control(function: &Function, size: u16) -> Option<u16> {
    function.capability(Capability::ACCESS_CONTROL, true).filter(|cap| cap + 8 <= size).map(|cap| cap + 6)
}

/// Requester IDs of functions, and sets of functions that are not isolated from each other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Isolation {
    functions: BTreeMap<FunctionId, Place>,
    /// Requester IDs of each set, lowest first, by the function that stands for it.
    sets: BTreeMap<FunctionId, Vec<u16>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    /// Requester IDs that bridges above put in the place of its own.
    aliases: Vec<u16>,
    /// Bridges above, the nearest one first.
    bridges: Vec<FunctionId>,
    /// Function that stands for its set.
    set: FunctionId,
}

impl Isolation {
    /// Requester IDs with which requests of the function at `at` arrive: its own, and those that bridges put in its place.
    pub fn requesters(&self, at: FunctionId) -> impl Iterator<Item = u16> {
        let aliases = self.functions.get(&at).map_or(&[][..], |place| &place.aliases);
        core::iter::once(at.requester_id()).chain(aliases.iter().copied())
    }

    /// Bridges between the function at `at` and its host bridge, the nearest one first.
    pub fn bridges(&self, at: FunctionId) -> &[FunctionId] {
        self.functions.get(&at).map_or(&[], |place| &place.bridges)
    }

    /// Requester IDs of the functions that are not isolated from that at `at`, lowest first, its own among them.
    pub fn set(&self, at: FunctionId) -> &[u16] {
        self.functions.get(&at).and_then(|place| self.sets.get(&place.set)).map_or(&[], Vec::as_slice)
    }
}

/// Sets of functions, by index; each function points to one of its set, and the lowest one to itself.
struct Sets(Vec<usize>);

impl Sets {
    fn lowest(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            // Halves the path.
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, members: impl Iterator<Item = usize>) {
        let mut first = None;
        for member in members {
            let member = self.lowest(member);
            let other = first.map_or(member, |first| self.lowest(first));
            self.0[other.max(member)] = other.min(member);
            first = Some(member);
        }
    }
}

impl Topology {
    /// Switches on the access control services of all functions that have them, and finds out who is isolated from whom.
    ///
    /// # Errors
    ///
    /// The host bridge does not answer.
    pub fn isolate(&self, config: &dyn ConfigSpace) -> Result<Isolation, IoError> {
        let mut sets = Sets((0..self.functions.len()).collect());
        for function in &self.functions {
            if self.has_control(config, function)? {
                continue;
            }
            sets.join(self.peers(function.at));
            let bridge = match function.port {
                Some(PortKind::Downstream) => self.bridge_to(function.at.bus).map_or(function.at, |switch| switch.at),
                _ => function.at,
            };
            if let Some(bridge) = self.bridges.iter().find(|b| b.at == bridge) {
                let below = self.between(|f| f.bus < bridge.secondary, |f| f.bus <= bridge.subordinate);
                sets.join(below.chain(self.functions.binary_search_by_key(&bridge.at, |f| f.at)));
            }
        }
        let mut isolation = Isolation::default();
        for (at, function) in self.functions.iter().map(|f| f.at).enumerate() {
            let set = self.functions[sets.lowest(at)].at;
            isolation.sets.entry(set).or_default().push(function.requester_id());
            isolation.functions.insert(
                function,
                Place { aliases: self.aliases(function), bridges: self.above(function).map(|b| b.at).collect(), set },
            );
        }
        Ok(isolation)
    }

    /// Indexes of the functions that come after those at the places `before` and are at the places `until`.
    fn between(&self, before: impl Fn(FunctionId) -> bool, until: impl Fn(FunctionId) -> bool) -> Range<usize> {
        self.functions.partition_point(|f| before(f.at))..self.functions.partition_point(|f| until(f.at))
    }

    /// Indexes of the functions of the device of `at`.
    fn peers(&self, at: FunctionId) -> Range<usize> {
        let of = |f: FunctionId| (f.bus, f.device);
        self.between(|f| of(f) < of(at), |f| of(f) <= of(at))
    }

    /// True when `function` sends no request of one function below it, or of its device, to another.
    fn has_control(&self, config: &dyn ConfigSpace, function: &Function) -> Result<bool, IoError> {
        let on = match control(function, config.size()) {
            Some(register) => {
                let offered = config.read(function.at, register - 2, Width::W16)? & SERVICES;
                let old = config.read(function.at, register, Width::W16)?;
                config.write(function.at, register, Width::W16, old | offered)?;
                // What is not offered is not needed: the function cannot do what it would prevent.
                config.read(function.at, register, Width::W16)? & offered == offered
            }
            None => false,
        };
        let alone = || self.peers(function.at).len() == 1;
        Ok(match function.port {
            Some(PortKind::Root | PortKind::Downstream) => on,
            Some(PortKind::Endpoint | PortKind::Upstream) => on || alone(),
            // Conventional buses have no such services.
            Some(PortKind::ToPci | PortKind::FromPci | PortKind::Other) => false,
            None => function.header == Header::Device && alone(),
        })
    }

    /// Requester IDs that bridges put in the place of that of the function at `at`.
    fn aliases(&self, at: FunctionId) -> Vec<u16> {
        let alias = |bridge: &super::Bridge| match self.function(bridge.at)?.port {
            // Requests from a conventional bus have its number, and device 0.
            Some(PortKind::ToPci) => Some(u16::from(bridge.secondary) << 8),
            Some(PortKind::FromPci) | None => Some(bridge.at.requester_id()),
            Some(_) => None,
        };
        self.above(at).filter_map(alias).collect()
    }

    /// The bridges above the function at `at`, the nearest one first.
    fn above(&self, at: FunctionId) -> impl Iterator<Item = &super::Bridge> {
        let up = |at: FunctionId| self.bridge_to(at.bus).filter(|bridge| bridge.at.bus < at.bus);
        core::iter::successors(up(at), move |bridge| up(bridge.at))
    }
}
