//! Walk over the buses behind a host bridge.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::config::reg;
use super::function::{Function, Header};
use super::problem::{Fault, Problem};
use super::{ConfigSpace, FunctionId, Space, Window, plan};
use crate::env::{IoError, Width};

/// Host bridge: configuration space, bus numbers, and the addresses that it passes to its buses.
pub struct HostBridge<'h> {
    /// Configuration space of the functions behind it.
    pub config: &'h dyn ConfigSpace,
    /// Its segment group.
    pub segment: u16,
    /// The bus numbers that it passes on; the first one is its own bus.
    pub buses: RangeInclusive<u8>,
    /// The addresses that it passes on.
    pub windows: &'h [Window],
}

/// What was found behind a host bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// The functions, by place; what is behind a bridge comes after it.
    pub functions: Vec<Function>,
    /// The bridges, in the same order.
    pub bridges: Vec<Bridge>,
    /// What is malformed, by place.
    pub problems: Vec<Problem>,
}

/// Bus numbers and windows of a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// The bridge.
    pub at: FunctionId,
    /// The bus behind it.
    pub secondary: u8,
    /// The highest bus number behind it.
    pub subordinate: u8,
    /// First and last address of each address space that it passes on.
    pub windows: Vec<(Space, u64, u64)>,
}

impl Topology {
    /// The function at `at`.
    pub fn function(&self, at: FunctionId) -> Option<&Function> {
        self.functions.binary_search_by_key(&at, |f| f.at).ok().map(|at| &self.functions[at])
    }

    /// Removes the functions on the buses `numbers`. Returns them, by place.
    pub fn remove(&mut self, numbers: RangeInclusive<u8>) -> Vec<Function> {
        self.bridges.retain(|bridge| !numbers.contains(&bridge.at.bus));
        let (gone, stay) = core::mem::take(&mut self.functions).into_iter().partition(|f| numbers.contains(&f.at.bus));
        self.functions = stay;
        gone
    }

    /// Adds what was found behind one of its ports, whose buses have no function.
    pub fn add(&mut self, found: Self) {
        self.functions.extend(found.functions);
        self.functions.sort_unstable_by_key(|f| f.at);
        self.bridges.extend(found.bridges);
        self.bridges.sort_unstable_by_key(|b| b.at);
    }

    /// The bridge that leads to `bus`; `None` for the host bridge's own bus.
    pub fn bridge_to(&self, bus: u8) -> Option<&Bridge> {
        self.bridges.iter().find(|b| b.secondary == bus)
    }
}

/// Finds the functions behind a host bridge, and gives buses and registers numbers and addresses.
///
/// Numbers and addresses of firmware are kept where they are consistent. Functions do not answer at any address while their
/// registers are read, so none of them may be in use. At the end those without an address for each of their registers are switched
/// off (command register), and the others are as they were.
///
/// # Errors
///
/// The host bridge does not answer.
pub fn enumerate(host: &HostBridge<'_>) -> Result<Topology, IoError> {
    walk(host, true)
}

/// Finds the functions behind a port with a slot, as [`enumerate`] does: `port` has the port's buses and the addresses that it passes on.
///
/// # Errors
///
/// As [`enumerate`].
pub fn enumerate_behind(port: &HostBridge<'_>) -> Result<Topology, IoError> {
    walk(port, false)
}

/// `all` devices on the first bus, or the one at the end of a link.
fn walk(host: &HostBridge<'_>, all: bool) -> Result<Topology, IoError> {
    let mut found = Topology::default();
    let (first, last) = (*host.buses.start(), *host.buses.end());
    let mut levels = vec![Level::new(first, last, None)];
    scan_bus(host, &mut found, &mut levels[0], all)?;
    // Bus numbers only grow on the way down, so there are at most 256 levels.
    while let Some(level) = levels.last_mut() {
        if let Some(next) = level.bridges.pop() {
            if let Some(mut below) = descend(host, &mut found, level, &next)? {
                scan_bus(host, &mut found, &mut below, !next.has_link)?;
                levels.push(below);
            }
            continue;
        }
        let Some(done) = levels.pop() else { break };
        if let (Some(at), Some(above)) = (done.bridge, levels.last_mut()) {
            // The highest number that was given; a bridge whose numbers were kept keeps its own.
            let mut subordinate = if done.kept { done.last } else { done.highest() };
            let is_empty = || !found.functions.iter().any(|f| f.at.bus == done.bus);
            if done.slot && !done.kept && is_empty() && done.last - subordinate >= ENOUGH {
                // For the bus behind a bridge that may come.
                subordinate += 1;
            }
            host.config.write(at, reg::BUS_NUMBERS + 2, Width::W8, u32::from(subordinate))?;
            if let Some(bridge) = found.bridges.iter_mut().find(|b| b.at == at) {
                bridge.subordinate = subordinate;
            }
            above.next = above.next.max(u16::from(subordinate) + 1);
        }
    }
    // Bus numbers grow on the way down: what is behind a bridge comes after it, whichever way the walk took.
    found.functions.sort_unstable_by_key(|f| f.at);
    found.bridges.sort_unstable_by_key(|b| b.at);
    plan::assign(host, &mut found)?;
    found.problems.sort_by_key(|p| p.at);
    Ok(found)
}

/// Bus numbers that must be left for other bridges before an empty slot gets one more than it needs.
const ENOUGH: u8 = 8;

/// A bus that is being walked.
struct Level {
    bus: u8,
    /// The highest number that a bus behind it may have.
    last: u8,
    /// The lowest number that no bus has yet.
    next: u16,
    /// The bridge that leads to it.
    bridge: Option<FunctionId>,
    /// Its bridge has the numbers that firmware gave it.
    kept: bool,
    /// Its bridge is a port with a slot.
    slot: bool,
    /// Bridges on it that are still to be walked; the next one is at the end.
    bridges: Vec<Found>,
}

/// A bridge that was found.
struct Found {
    at: FunctionId,
    /// Its numbers, if they can be kept: secondary, subordinate.
    numbers: Option<(u8, u8)>,
    /// Behind it is a link with one device.
    has_link: bool,
    /// It is a port with a slot.
    slot: bool,
}

impl Level {
    fn new(bus: u8, last: u8, bridge: Option<FunctionId>) -> Self {
        Self { bus, last, next: u16::from(bus) + 1, bridge, kept: false, slot: false, bridges: Vec::new() }
    }

    /// The highest number of a bus that was found on it or behind it.
    fn highest(&self) -> u8 {
        u8::try_from(self.next - 1).unwrap_or(u8::MAX)
    }
}

/// Lists the functions on a bus, and prepares its bridges to be walked: those with good numbers first.
fn scan_bus(host: &HostBridge<'_>, found: &mut Topology, level: &mut Level, all: bool) -> Result<(), IoError> {
    let mut bridges: Vec<Found> = Vec::new();
    for device in 0..if all { 32 } else { 1 } {
        for function in 0..8 {
            let at = FunctionId { segment: host.segment, bus: level.bus, device, function };
            let problems = &mut found.problems;
            let read = Function::read(host.config, at, |fault| problems.push(Problem { at, fault }))?;
            let Some((read, more)) = read else {
                // Without the first function there is no device.
                if function == 0 {
                    break;
                }
                continue;
            };
            if read.header == Header::Bridge {
                let has_link = read.port.is_some_and(super::PortKind::has_link_below);
                let numbers = firmware_numbers(host, found, level, &bridges, at)?;
                bridges.push(Found { at, numbers, has_link, slot: read.slot });
            }
            found.functions.push(read);
            if function == 0 && !more {
                break;
            }
        }
    }
    // Numbers that are not kept must not lead requests astray meanwhile.
    for bridge in bridges.iter().filter(|b| b.numbers.is_none()) {
        write_numbers(host, bridge.at, [level.bus, 0, 0])?;
    }
    let (kept, others): (Vec<_>, Vec<_>) = bridges.into_iter().rev().partition(|b| b.numbers.is_some());
    level.bridges = others;
    level.bridges.extend(kept);
    Ok(())
}

/// The bus numbers of the bridge at `at`, if they can be kept.
fn firmware_numbers(
    host: &HostBridge<'_>,
    found: &mut Topology,
    level: &Level,
    siblings: &[Found],
    at: FunctionId,
) -> Result<Option<(u8, u8)>, IoError> {
    let word = host.config.read(at, reg::BUS_NUMBERS, Width::W32)?;
    let [primary, secondary, subordinate, _] = word.to_le_bytes();
    if (secondary, subordinate) == (0, 0) {
        return Ok(None);
    }
    let taken = |s: &Found| s.numbers.is_some_and(|(first, last)| first <= subordinate && secondary <= last);
    let right = primary == level.bus
        && secondary > level.bus
        && secondary <= subordinate
        && subordinate <= level.last
        && !siblings.iter().any(taken);
    if !right {
        found.problems.push(Problem { at, fault: Fault::BusNumbers { primary, secondary, subordinate } });
    }
    Ok(right.then_some((secondary, subordinate)))
}

/// The bus behind a bridge; `None` when no number is left for it.
fn descend(
    host: &HostBridge<'_>,
    found: &mut Topology,
    level: &mut Level,
    bridge: &Found,
) -> Result<Option<Level>, IoError> {
    let at = bridge.at;
    let free = u8::try_from(level.next).ok().filter(|next| *next <= level.last).map(|next| (next, level.last));
    let Some((secondary, last)) = bridge.numbers.or(free) else {
        found.problems.push(Problem { at, fault: Fault::NoBusNumber { last: level.last } });
        return Ok(None);
    };
    if bridge.numbers.is_none() {
        // Until the number of buses behind it is known, it passes on all that are left.
        write_numbers(host, at, [level.bus, secondary, last])?;
    }
    level.next = level.next.max(u16::from(secondary) + 1);
    found.bridges.push(Bridge { at, secondary, subordinate: last, windows: Vec::new() });
    Ok(Some(Level { kept: bridge.numbers.is_some(), slot: bridge.slot, ..Level::new(secondary, last, Some(at)) }))
}

/// Writes primary, secondary and subordinate bus number, and leaves the latency timer.
fn write_numbers(host: &HostBridge<'_>, at: FunctionId, numbers: [u8; 3]) -> Result<(), IoError> {
    let timer = host.config.read(at, reg::BUS_NUMBERS, Width::W32)? & 0xff00_0000;
    let [primary, secondary, subordinate] = numbers.map(u32::from);
    host.config.write(at, reg::BUS_NUMBERS, Width::W32, timer | subordinate << 16 | secondary << 8 | primary)
}
