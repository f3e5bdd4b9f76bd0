//! Addresses of registers and of bridges' windows.
//!
//! First every bridge's need is summed up, from the last bus to the first; then addresses are given from the first bus to the
//! last: to those whose address can be kept, then to the others, largest alignment first. When something is left without,
//! all is given anew.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::assign::{Pool, Space};
use super::config::reg;
use super::function::{Function, Header};
use super::problem::{Fault, Problem};
use super::scan::{HostBridge, Topology};
use super::{Bar, BarKind, ConfigSpace, FunctionId, bar};
use crate::env::{IoError, Width};

const SPACES: [Space; 3] = [Space::Io, Space::Memory, Space::Prefetchable];

/// Highest address of 32 bits.
const LOW: u64 = u32::MAX as u64;

/// Bytes of memory for the device of an empty slot, of each kind; Linux reserves as much (`pci=hpmmiosize`, `hpmmioprefsize`).
const RESERVED: u64 = 2 << 20;

/// Unit of a bridge's window.
const fn unit(space: Space) -> u64 {
    match space {
        Space::Io => 1 << 12,
        Space::Memory | Space::Prefetchable => 1 << 20,
    }
}

/// What needs addresses.
#[derive(Clone, Copy)]
enum Owner {
    /// Index of the function, index in its list of BARs.
    Bar(usize, usize),
    /// Index of the bridge.
    Window(usize),
}

/// Need of addresses on a bus.
#[derive(Clone, Copy)]
struct Need {
    owner: Owner,
    space: Space,
    size: u64,
    align: u64,
    /// Highest address that it can have.
    limit: u64,
    /// Address that it has.
    current: Option<u64>,
}

/// Window registers of a bridge.
#[derive(Clone, Copy, Default)]
struct Windows {
    /// First and last address of open windows, by space, as firmware left them.
    current: [Option<(u64, u64)>; 3],
    /// Highest address that each can have; 0 where the bridge has no such window.
    limit: [u64; 3],
}

/// Addresses that were chosen.
#[derive(Default)]
struct Chosen {
    bars: BTreeMap<(usize, usize), u64>,
    windows: BTreeMap<(usize, Space), (u64, u64)>,
    problems: Vec<Problem>,
}

/// Gives addresses to all that needs some.
pub(super) fn assign(host: &HostBridge<'_>, found: &mut Topology) -> Result<(), IoError> {
    let windows = found.bridges.iter().map(|b| read_windows(host.config, b.at)).collect::<Result<Vec<_>, _>>()?;
    let kept = choose(host, found, &windows, Rules { keep: true, reserve: true });
    let chosen = if kept.problems.is_empty() {
        kept
    } else {
        // What is there goes before what may come.
        let kept = choose(host, found, &windows, Rules { keep: true, reserve: false });
        let anew = choose(host, found, &windows, Rules { keep: false, reserve: false });
        if anew.problems.len() < kept.problems.len() { anew } else { kept }
    };
    write(host.config, found, &windows, &chosen)?;
    found.problems.extend(chosen.problems);
    Ok(())
}

/// How addresses are given.
#[derive(Clone, Copy)]
struct Rules {
    /// Those that firmware has given stay.
    keep: bool,
    /// An empty slot gets addresses for a device that may come.
    reserve: bool,
}

fn choose(host: &HostBridge<'_>, found: &Topology, windows: &[Windows], Rules { keep, reserve }: Rules) -> Chosen {
    let mut chosen = Chosen::default();
    // Size and alignment of each bridge's windows. What is behind a bridge comes after it.
    let mut sums: BTreeMap<(usize, Space), (u64, u64)> = BTreeMap::new();
    for (at, bridge) in found.bridges.iter().enumerate().rev() {
        let needs = needs_of(found, windows, &sums, bridge.secondary, Some(at), keep);
        for space in SPACES {
            // One after the other: who takes the lowest free place each time needs no more.
            let (mut size, mut align) = (0_u64, unit(space));
            for need in needs.iter().filter(|need| need.space == space) {
                align = align.max(need.align);
                size = size.checked_next_multiple_of(need.align).unwrap_or(u64::MAX).saturating_add(need.size);
            }
            let has_slot = reserve && found.function(bridge.at).is_some_and(|port| port.slot);
            if has_slot && needs.is_empty() && space != Space::Io && windows[at].limit[space as usize] != 0 {
                size = RESERVED;
            }
            if size > 0 {
                let size = size.checked_next_multiple_of(unit(space)).unwrap_or(u64::MAX);
                sums.insert((at, space), (size, align));
            }
        }
    }
    let range = |space| {
        let windows = host.windows.iter().filter(move |w| w.space == space && w.len > 0);
        windows.map(|w| (w.bus, w.bus.saturating_add(w.len - 1)))
    };
    let pools = SPACES.map(|space| Pool::new(range(space)));
    let needs = needs_of(found, windows, &sums, *host.buses.start(), None, keep);
    give(found, &needs, pools, true, keep, &mut chosen);
    for (at, bridge) in found.bridges.iter().enumerate() {
        let pools = SPACES.map(|space| Pool::new(chosen.windows.get(&(at, space)).copied()));
        let needs = needs_of(found, windows, &sums, bridge.secondary, Some(at), keep);
        give(found, &needs, pools, false, keep, &mut chosen);
    }
    chosen
}

/// The needs on a bus behind the bridge `above`, largest alignment first.
fn needs_of(
    found: &Topology,
    windows: &[Windows],
    sums: &BTreeMap<(usize, Space), (u64, u64)>,
    bus: u8,
    above: Option<usize>,
    keep: bool,
) -> Vec<Need> {
    // Prefetchable memory goes elsewhere where there is no window for it.
    let prefetches = above.is_none_or(|at| windows[at].limit[Space::Prefetchable as usize] != 0);
    let mut needs = Vec::new();
    for (function, bars) in
        found.functions.iter().enumerate().filter(|(_, f)| f.at.bus == bus).map(|(i, f)| (i, &f.bars))
    {
        for (index, Bar { kind, size, address, .. }) in bars.iter().enumerate() {
            let (space, limit) = match kind {
                BarKind::Io => (Space::Io, LOW),
                BarKind::Memory { wide: true, prefetchable: true } if prefetches => (Space::Prefetchable, u64::MAX),
                BarKind::Memory { wide: true, .. } if above.is_none() => (Space::Memory, u64::MAX),
                BarKind::Memory { .. } => (Space::Memory, LOW),
            };
            let owner = Owner::Bar(function, index);
            needs.push(Need { owner, space, size: *size, align: *size, limit, current: *address });
        }
    }
    for at in (0..found.bridges.len()).filter(|at| found.bridges[*at].at.bus == bus) {
        for space in SPACES {
            let Some(&(size, align)) = sums.get(&(at, space)) else { continue };
            // A window that is too small is given anew. One at 0 is what a reset leaves.
            let large_enough = |(first, last): &(u64, u64)| keep && *first != 0 && last - first >= size - 1;
            let window = windows[at].current[space as usize].filter(large_enough);
            let size = window.map_or(size, |(first, last)| last - first + 1);
            let (limit, current) = (windows[at].limit[space as usize], window.map(|(first, _)| first));
            needs.push(Need { owner: Owner::Window(at), space, size, align, limit, current });
        }
    }
    needs.sort_by_key(|need| core::cmp::Reverse(need.align));
    needs
}

/// Gives addresses from `pools`; those of a host bridge may also hold memory of the other kind.
fn give(found: &Topology, needs: &[Need], mut pools: [Pool; 3], host: bool, keep: bool, chosen: &mut Chosen) {
    let others = |space: Space| -> &[Space] {
        match space {
            Space::Prefetchable if host => &[Space::Prefetchable, Space::Memory],
            Space::Prefetchable => &[Space::Prefetchable],
            Space::Memory => &[Space::Memory],
            Space::Io => &[Space::Io],
        }
    };
    let mut left: Vec<&Need> = Vec::new();
    for need in needs {
        let kept = need.current.filter(|first| {
            let end = first.checked_add(need.size - 1);
            keep && end.is_some_and(|end| end <= need.limit)
                && others(need.space).iter().any(|s| pools[*s as usize].claim(*first, need.size))
        });
        match kept {
            Some(first) => chosen.record(need, first),
            None => left.push(need),
        }
    }
    for need in left {
        // What can have more than 32 bits leaves the addresses below to what cannot.
        let floors: &[u64] = if need.limit > LOW { &[LOW + 1, 0] } else { &[0] };
        let first = floors.iter().find_map(|floor| {
            let mut take = |s: &Space| pools[*s as usize].take(need.size, need.align, *floor..=need.limit);
            others(need.space).iter().find_map(&mut take)
        });
        match first {
            Some(first) => chosen.record(need, first),
            None => chosen.problems.push(need.unmet(found)),
        }
    }
}

impl Need {
    fn unmet(&self, found: &Topology) -> Problem {
        let (size, space) = (self.size, self.space);
        match self.owner {
            Owner::Bar(function, index) => {
                let function = &found.functions[function];
                Problem { at: function.at, fault: Fault::NoSpace { index: function.bars[index].index, size, space } }
            }
            Owner::Window(at) => Problem { at: found.bridges[at].at, fault: Fault::NoWindow { size, space } },
        }
    }
}

impl Chosen {
    fn record(&mut self, need: &Need, first: u64) {
        match need.owner {
            Owner::Bar(function, index) => drop(self.bars.insert((function, index), first)),
            Owner::Window(at) => drop(self.windows.insert((at, need.space), (first, first + (need.size - 1)))),
        }
    }
}

/// Reads the windows of a bridge, and which of them it has.
fn read_windows(config: &dyn ConfigSpace, at: FunctionId) -> Result<Windows, IoError> {
    let mut windows = Windows::default();
    let io = config.read(at, reg::IO_WINDOW, Width::W16)?;
    let memory = config.read(at, reg::MEMORY_WINDOW, Width::W32)?;
    let prefetch = config.read(at, reg::PREFETCH_WINDOW, Width::W32)?;
    // A window that a bridge does not have reads as zero and cannot be written.
    let io_is_there = is_writable(config, at, reg::IO_WINDOW, io, Width::W16)?;
    let prefetch_is_there = is_writable(config, at, reg::PREFETCH_WINDOW, prefetch, Width::W32)?;
    // Closed windows have their base above the limit.
    let used = |first: u64, last: u64| (first < last).then_some((first, last));
    if io_is_there {
        let high = if io & 0xf == 1 { config.read(at, reg::IO_WINDOW_HIGH, Width::W32)? } else { 0 };
        let first = u64::from(io & 0xf0) << 8 | u64::from(high & 0xffff) << 16;
        let last = u64::from(io >> 8 & 0xf0) << 8 | 0xfff | u64::from(high >> 16) << 16;
        windows.current[Space::Io as usize] = used(first, last);
        windows.limit[Space::Io as usize] = if io & 0xf == 1 { LOW } else { 0xffff };
    }
    let range = |word: u32| (u64::from(word & 0xfff0) << 16, u64::from(word >> 16 & 0xfff0) << 16 | 0xf_ffff);
    let (first, last) = range(memory);
    windows.current[Space::Memory as usize] = used(first, last);
    windows.limit[Space::Memory as usize] = LOW;
    if prefetch_is_there {
        let (mut first, mut last) = range(prefetch);
        let wide = prefetch & 0xf == 1;
        if wide {
            first |= u64::from(config.read(at, reg::PREFETCH_BASE_HIGH, Width::W32)?) << 32;
            last |= u64::from(config.read(at, reg::PREFETCH_LIMIT_HIGH, Width::W32)?) << 32;
        }
        windows.current[Space::Prefetchable as usize] = used(first, last);
        windows.limit[Space::Prefetchable as usize] = if wide { u64::MAX } else { LOW };
    }
    Ok(windows)
}

/// True when a window register that reads `old` can be written.
fn is_writable(config: &dyn ConfigSpace, at: FunctionId, offset: u16, old: u32, width: Width) -> Result<bool, IoError> {
    if old & 0xfff0 != 0 {
        return Ok(true);
    }
    // Base above limit: the window is closed meanwhile.
    config.write(at, offset, width, 0xf0)?;
    let written = config.read(at, offset, width)?;
    config.write(at, offset, width, old)?;
    Ok(written & 0xf0 != 0)
}

/// Writes what was chosen.
fn write(config: &dyn ConfigSpace, found: &mut Topology, windows: &[Windows], chosen: &Chosen) -> Result<(), IoError> {
    for (at, bridge) in found.bridges.iter_mut().enumerate() {
        for space in SPACES {
            let range = chosen.windows.get(&(at, space)).copied();
            if windows[at].limit[space as usize] != 0 && range != windows[at].current[space as usize] {
                write_window(config, bridge.at, space, range, windows[at].limit[space as usize] == u64::MAX)?;
            }
            bridge.windows.extend(range.map(|(first, last)| (space, first, last)));
        }
    }
    for (number, function) in found.functions.iter_mut().enumerate() {
        let at = function.at;
        let addresses: Vec<_> =
            (0..function.bars.len()).map(|index| chosen.bars.get(&(number, index)).copied()).collect();
        let old: Vec<_> = function.bars.iter().map(|bar| bar.address).collect();
        if addresses != old || addresses.contains(&None) {
            write_bars(config, function, &addresses)?;
        }
        if function.header == Header::Bridge {
            let command = config.read(at, reg::COMMAND, Width::W16)?;
            let spaces = reg::DECODE_IO | reg::DECODE_MEMORY;
            config.write(at, reg::COMMAND, Width::W16, command | spaces)?;
        }
    }
    Ok(())
}

/// Gives the BARs of a function their addresses. It answers at none until its driver enables it.
fn write_bars(config: &dyn ConfigSpace, function: &mut Function, addresses: &[Option<u64>]) -> Result<(), IoError> {
    let at = function.at;
    let command = config.read(at, reg::COMMAND, Width::W16)?;
    config.write(at, reg::COMMAND, Width::W16, command & !(reg::DECODE_IO | reg::DECODE_MEMORY))?;
    for (bar, address) in function.bars.iter_mut().zip(addresses) {
        bar.address = *address;
        let value = address.unwrap_or(0);
        config.write(at, bar::register(bar.index), Width::W32, value as u32)?;
        if matches!(bar.kind, BarKind::Memory { wide: true, .. }) {
            config.write(at, bar::register(bar.index + 1), Width::W32, (value >> 32) as u32)?;
        }
    }
    Ok(())
}

/// Sets a bridge's window; `None` closes it. A wide one has registers for the upper half of its addresses.
fn write_window(
    config: &dyn ConfigSpace,
    at: FunctionId,
    space: Space,
    range: Option<(u64, u64)>,
    wide: bool,
) -> Result<(), IoError> {
    // Closed: the base is above the limit.
    let (first, last) = range.unwrap_or((0xfff0_f000, 0));
    let memory = (first >> 16) as u32 & 0xfff0 | (last as u32 & 0xfff0_0000);
    match space {
        Space::Io => {
            config.write(
                at,
                reg::IO_WINDOW_HIGH,
                Width::W32,
                (first >> 16) as u32 & 0xffff | (last as u32 & 0xffff_0000),
            )?;
            let word = (first >> 8) as u32 & 0xf0 | last as u32 & 0xf000;
            config.write(at, reg::IO_WINDOW, Width::W16, word)
        }
        Space::Memory => config.write(at, reg::MEMORY_WINDOW, Width::W32, memory),
        Space::Prefetchable => {
            if wide {
                // Closed while its halves do not fit together.
                config.write(at, reg::PREFETCH_LIMIT_HIGH, Width::W32, 0)?;
                config.write(at, reg::PREFETCH_WINDOW, Width::W32, 0xfff0)?;
                config.write(at, reg::PREFETCH_BASE_HIGH, Width::W32, (first >> 32) as u32)?;
            }
            config.write(at, reg::PREFETCH_WINDOW, Width::W32, memory)?;
            if wide { config.write(at, reg::PREFETCH_LIMIT_HIGH, Width::W32, (last >> 32) as u32) } else { Ok(()) }
        }
    }
}
