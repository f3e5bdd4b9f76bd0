//! Resolution of interrupts: from a device's specifier, through parents and maps, to a controller.
//!
//! Facts are those of the Devicetree Specification 2.4 and of Linux's `drivers/of/irq.c`.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::log::Log;
use super::note::NoteKind;
use super::supplier::{Cells, MAX_ARGS, References};
use super::tree::{Idx, Tree};
use super::{FdtError, id};
use crate::description::{InterruptMap, IrqLine, NodeId, Resource, Trigger};

/// Limit of parents and maps that one interrupt passes.
const MAX_HOPS: usize = 64;

/// Arm's generic interrupt controllers with specifiers of kind, number, flags
/// (Linux: `drivers/irqchip/irq-gic.c`, `irq-gic-v3.c`).
const GICS: [&str; 12] = [
    "arm,gic-400",
    "arm,gic-v3",
    "arm,cortex-a15-gic",
    "arm,cortex-a9-gic",
    "arm,cortex-a7-gic",
    "arm,eb11mp-gic",
    "arm,tc11mp-gic",
    "arm,arm11mp-gic",
    "arm,arm1176jzf-devchip-gic",
    "arm,pl390",
    "qcom,msm-8660-qgic",
    "qcom,msm-qgic2",
];

/// Controllers with an `interrupt-map` in a format of their own (`of_irq_imap_abusers`).
const OWN_MAPS: [&str; 7] = [
    "CBEA,platform-spider-pic",
    "sti,platform-spider-pic",
    "realtek,rtl-intc",
    "fsl,ls1021a-extirq",
    "fsl,ls1043a-extirq",
    "fsl,ls1088a-extirq",
    "renesas,rza1-irqc",
];

fn reads_own_map(tree: &Tree<'_>, node: Idx) -> bool {
    tree.strings(node, "compatible").any(|s| s.is_ok_and(|s| OWN_MAPS.contains(&s)))
}

/// Flags of a specifier for edge triggers, rising or falling.
const EDGE: u32 = 0b11;

/// Interrupt of a device, resolved to its controller.
pub(super) struct Interrupt {
    pub(super) controller: Idx,
    /// The specifier as the controller reads it.
    pub(super) args: Vec<u32>,
    /// The property that it is from.
    pub(super) property: &'static str,
}

/// The interrupts of `node` in firmware order, up to the first one that cannot be resolved, as on Linux.
pub(super) fn interrupts(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<Vec<Interrupt>, FdtError> {
    let mut found = Vec::new();
    if let Some(value) = tree.prop(node, "interrupts-extended") {
        let property = "interrupts-extended";
        for reference in References::new(tree, value, Cells::Named("#interrupt-cells")) {
            log.spend(node, property, 1)?;
            let followed = match reference {
                Ok((parent, args)) => follow(tree, log, (node, property), parent, args)?,
                Err(e) => Err(e.note(log)),
            };
            match followed {
                Ok((controller, args)) => {
                    log.add_reference(node, property)?;
                    found.push(Interrupt { controller, args, property });
                }
                Err(e) => {
                    log.note(node, property, e);
                    break;
                }
            }
        }
    } else if let Some(value) = tree.prop(node, "interrupts") {
        let property = "interrupts";
        let parent = match parent(tree, log, (node, property), node)? {
            Ok(parent) => parent,
            Err(e) => {
                log.note(node, property, e);
                return Ok(found);
            }
        };
        let cells = tree.u32(parent, "#interrupt-cells").unwrap_or(0);
        if cells == 0 || cells > MAX_ARGS {
            let path = Arc::clone(log.path(parent));
            let none = NoteKind::NoCells(path, "#interrupt-cells");
            log.note(node, property, if cells == 0 { none } else { NoteKind::BadCellCount(cells) });
            return Ok(found);
        }
        let mut specifiers = value.chunks_exact(cells as usize * 4);
        for specifier in specifiers.by_ref() {
            match follow(tree, log, (node, property), parent, words(specifier).collect())? {
                Ok((controller, args)) => {
                    log.add_reference(node, property)?;
                    found.push(Interrupt { controller, args, property });
                }
                Err(e) => {
                    log.note(node, property, e);
                    return Ok(found);
                }
            }
        }
        if !specifiers.remainder().is_empty() {
            log.note(node, property, NoteKind::Truncated);
        }
    }
    Ok(found)
}

/// The machine's root interrupt controllers: GICs without an interrupt parent.
pub(super) fn gics(tree: &Tree<'_>, log: &mut Log) -> Result<BTreeSet<Idx>, FdtError> {
    let is_gic = |node| tree.strings(node, "compatible").any(|s| s.is_ok_and(|s| GICS.contains(&s)));
    let mut found = BTreeSet::new();
    for node in tree.all().filter(|n| tree.has(*n, "interrupt-controller") && is_gic(*n)) {
        let to = match tree.prop(node, "interrupts-extended") {
            Some(value) => References::new(tree, value, Cells::Named("#interrupt-cells")).next().and_then(Result::ok),
            None if tree.has(node, "interrupts") => {
                parent(tree, log, (node, "interrupts"), node)?.ok().map(|parent| (parent, Vec::new()))
            }
            None => None,
        };
        if to.is_none_or(|(controller, _)| controller == node) {
            found.insert(node);
        }
    }
    Ok(found)
}

/// The interrupts of a device, up to the first that is invalid for its controller.
pub(super) fn lines(
    log: &mut Log,
    gics: &BTreeSet<Idx>,
    ids: &[NodeId],
    node: Idx,
    interrupts: &[Interrupt],
) -> Vec<Resource> {
    let mut found = Vec::new();
    for interrupt in interrupts {
        let Some(resource) = resource(gics, ids, interrupt.controller, interrupt.args.clone()) else {
            log.note(node, interrupt.property, NoteKind::BadInterrupt);
            break;
        };
        found.push(resource);
    }
    found
}

/// The interrupt that a controller knows by `args`; `None` when it has no such one.
fn resource(gics: &BTreeSet<Idx>, ids: &[NodeId], controller: Idx, args: Vec<u32>) -> Option<Resource> {
    if gics.contains(&controller) {
        return gic_line(&args);
    }
    Some(Resource::IrqBehind { controller: id(ids, controller), specifier: args })
}

/// Interrupts of the devices behind `node` by its `interrupt-map`, up to the first entry that cannot be parsed; entries that lead
/// nowhere are left out. `None` for a node without a map, a controller (whose map is about requests that it gets), and a map that cannot be used, which a note
/// says.
pub(super) fn behind(
    tree: &Tree<'_>,
    log: &mut Log,
    gics: &BTreeSet<Idx>,
    ids: &[NodeId],
    node: Idx,
) -> Result<Option<InterruptMap>, FdtError> {
    let property = "interrupt-map";
    let Some(map) = tree.prop(node, property).filter(|_| !tree.has(node, "interrupt-controller")) else {
        return Ok(None);
    };
    let Some(cells) = tree.u32(node, "#interrupt-cells") else {
        let path = Arc::clone(log.path(node));
        log.note(node, property, NoteKind::NoCells(path, "#interrupt-cells"));
        return Ok(None);
    };
    let address_cells = tree.child_cells(node).0;
    let width = match bytes(&[address_cells, cells]) {
        Ok(width) => width,
        Err(note) => {
            log.note_once(node, property, note);
            return Ok(None);
        }
    };
    let mask = match tree.prop(node, "interrupt-map-mask") {
        None => core::iter::repeat_n(u32::MAX, width / 4).collect(),
        Some(mask) if mask.len() == width => words(mask).collect(),
        Some(mask) => {
            log.note(node, "interrupt-map-mask", NoteKind::MaskLength(mask.len(), width));
            return Ok(None);
        }
    };
    let mut found = InterruptMap::new(mask);
    for entry in MapEntries::new(tree, map, address_cells, cells) {
        log.spend(node, property, 1)?;
        let entry = match entry {
            Ok(entry) => entry,
            Err(note) => {
                log.note_once(node, property, note);
                break;
            }
        };
        if !tree.enabled(entry.parent) {
            continue;
        }
        let (unit, args) = (words(entry.unit).collect(), words(entry.args).collect());
        let leads_to = match follow_from(tree, log, (node, property), entry.parent, unit, args)? {
            Ok((controller, args)) => resource(gics, ids, controller, args).ok_or(NoteKind::BadInterrupt),
            Err(note) => Err(note),
        };
        match leads_to {
            Ok(interrupt) => {
                log.add_reference(node, property)?;
                found.push(words(entry.key).collect(), interrupt);
            }
            Err(note) => log.note_once(node, property, note),
        }
    }
    Ok(Some(found))
}

/// Controllers in the `interrupt-map` of `node`, each once.
pub(super) fn map_targets(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<Vec<Idx>, FdtError> {
    let mut found = BTreeSet::new();
    let mut order = Vec::new();
    let Some(map) = tree.prop(node, "interrupt-map") else { return Ok(order) };
    let Some(cells) = tree.u32(node, "#interrupt-cells") else { return Ok(order) };
    for entry in MapEntries::new(tree, map, tree.child_cells(node).0, cells) {
        log.spend(node, "interrupt-map", 1)?;
        match entry {
            Ok(entry) => {
                if found.insert(entry.parent) {
                    order.push(entry.parent);
                }
            }
            Err(e) => {
                log.note_once(node, "interrupt-map", e);
                break;
            }
        }
    }
    Ok(order)
}

/// Parses a GIC specifier: type 0 = SPI (line 32 and up), 1 = PPI (16 to 31), 2 and 3 = the extended SPI (4096 and up)
/// and PPI (1056 and up) of GIC version 3; flag bits 0 and 1 = edge, 2 and 3 = level.
fn gic_line(args: &[u32]) -> Option<Resource> {
    let [kind, number, flags, ..] = *args else { return None };
    let line = match (kind, number) {
        (0, 0..=987) => 32 + number,
        (1, 0..=15) => 16 + number,
        (2, 0..=1023) => 4096 + number,
        (3, 0..=63) => 1056 + number,
        _ => return None,
    };
    let edge = flags & EDGE != 0;
    let trigger = if edge { Trigger::EdgeRising } else { Trigger::LevelHigh };
    Some(Resource::Irq { line: IrqLine(line), trigger })
}

/// The interrupt parent of `node`: by `interrupt-parent` of it or of the nearest ancestor that has one, else the
/// nearest ancestor with `#interrupt-cells`.
fn parent(tree: &Tree<'_>, log: &mut Log, who: (Idx, &str), node: Idx) -> Result<Result<Idx, NoteKind>, FdtError> {
    let mut at = node;
    for _ in 0..2 * MAX_HOPS {
        log.spend(who.0, who.1, 1)?;
        at = match tree.u32(at, "interrupt-parent") {
            Some(phandle) => match tree.phandle(phandle) {
                Some(parent) => parent,
                None => return Ok(Err(NoteKind::Dangling(phandle))),
            },
            None => match tree.parent(at) {
                Some(parent) => parent,
                None => return Ok(Err(NoteKind::NoController)),
            },
        };
        if tree.has(at, "#interrupt-cells") {
            return Ok(Ok(at));
        }
    }
    Ok(Err(NoteKind::InterruptCycle))
}

/// Resolves the specifier of a device at `nexus` to a controller.
fn follow(
    tree: &Tree<'_>,
    log: &mut Log,
    who: (Idx, &str),
    nexus: Idx,
    args: Vec<u32>,
) -> Result<Result<(Idx, Vec<u32>), NoteKind>, FdtError> {
    let unit = words(tree.prop(who.0, "reg").unwrap_or_default()).take(MAX_ARGS as usize).collect();
    follow_from(tree, log, who, nexus, unit, args)
}

/// Resolves a unit address and a specifier at `nexus` to a controller.
fn follow_from(
    tree: &Tree<'_>,
    log: &mut Log,
    who: (Idx, &str),
    mut nexus: Idx,
    mut unit: Vec<u32>,
    mut args: Vec<u32>,
) -> Result<Result<(Idx, Vec<u32>), NoteKind>, FdtError> {
    for _ in 0..MAX_HOPS {
        log.spend(who.0, who.1, 1)?;
        // A map takes precedence over the controller that has it (linux-6.12 `drivers/of/irq.c`, `of_irq_parse_raw`).
        let controller = tree.has(nexus, "interrupt-controller");
        let map = tree.prop(nexus, "interrupt-map").filter(|_| !controller || !reads_own_map(tree, nexus));
        if controller && map.is_none() {
            return Ok(Ok((nexus, args)));
        }
        let Some(map) = map else {
            nexus = match parent(tree, log, who, nexus)? {
                Ok(parent) => parent,
                Err(e) => return Ok(Err(e)),
            };
            continue;
        };
        let cells = tree.u32(nexus, "#interrupt-cells").unwrap_or(0);
        if args.len() != cells as usize {
            return Ok(Err(NoteKind::BadInterrupt));
        }
        let address_cells = tree.child_cells(nexus).0;
        let mut mask = words(tree.prop(nexus, "interrupt-map-mask").unwrap_or_default());
        let width = (address_cells as usize).min(MAX_ARGS as usize) + args.len();
        let masks: Vec<u32> = (0..width).map(|_| mask.next().unwrap_or(u32::MAX)).collect();
        let mut wanted = unit.clone();
        wanted.resize(width - args.len(), 0);
        wanted.extend_from_slice(&args);

        let mut found = None;
        for entry in MapEntries::new(tree, map, address_cells, cells) {
            log.spend(who.0, who.1, 1)?;
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => return Ok(Err(e)),
            };
            let mut pairs = words(entry.key).zip(&wanted).zip(&masks);
            if tree.enabled(entry.parent) && pairs.all(|((key, want), mask)| (key ^ want) & mask == 0) {
                found = Some(entry);
                break;
            }
        }
        let Some(entry) = found else {
            let path = Arc::clone(log.path(nexus));
            if controller {
                log.note(who.0, who.1, NoteKind::NotMappedOn(path));
                return Ok(Ok((nexus, args)));
            }
            return Ok(Err(NoteKind::NotMapped(path)));
        };
        if entry.parent == nexus && controller {
            return Ok(Ok((nexus, words(entry.args).collect())));
        }
        nexus = entry.parent;
        unit = words(entry.unit).collect();
        args = words(entry.args).collect();
    }
    Ok(Err(NoteKind::InterruptCycle))
}

/// One entry of an `interrupt-map`.
struct MapEntry<'a> {
    /// Unit address and specifier that it matches.
    key: &'a [u8],
    parent: Idx,
    /// Unit address and specifier at the parent.
    unit: &'a [u8],
    args: &'a [u8],
}

/// Iterator over the entries of an `interrupt-map`, up to the first that cannot be parsed.
struct MapEntries<'t, 'a> {
    tree: &'t Tree<'a>,
    rest: &'a [u8],
    key: Result<usize, NoteKind>,
}

impl<'t, 'a> MapEntries<'t, 'a> {
    fn new(tree: &'t Tree<'a>, map: &'a [u8], address_cells: u32, cells: u32) -> Self {
        Self { tree, rest: map, key: bytes(&[address_cells, cells]) }
    }

    fn read(&mut self) -> Result<MapEntry<'a>, NoteKind> {
        let key = self.key.clone()?;
        let (key, rest) = self.rest.split_at_checked(key).ok_or(NoteKind::Truncated)?;
        let (phandle, rest) = rest.split_first_chunk::<4>().ok_or(NoteKind::Truncated)?;
        let phandle = u32::from_be_bytes(*phandle);
        let parent = self.tree.phandle(phandle).ok_or(NoteKind::Dangling(phandle))?;
        let cells = self.tree.u32(parent, "#interrupt-cells").ok_or(NoteKind::NoController)?;
        let address_cells = self.tree.u32(parent, "#address-cells").unwrap_or(0);
        let unit = bytes(&[address_cells])?;
        let both = bytes(&[address_cells, cells])?;
        let (value, rest) = rest.split_at_checked(both).ok_or(NoteKind::Truncated)?;
        self.rest = rest;
        Ok(MapEntry { key, parent, unit: &value[..unit], args: &value[unit..] })
    }
}

impl<'a> Iterator for MapEntries<'_, 'a> {
    type Item = Result<MapEntry<'a>, NoteKind>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

/// Number of bytes in these cells; each count is checked against the limit.
fn bytes(cells: &[u32]) -> Result<usize, NoteKind> {
    match cells.iter().find(|n| **n > MAX_ARGS) {
        Some(count) => Err(NoteKind::BadCellCount(*count)),
        None => Ok(cells.iter().map(|n| *n as usize * 4).sum()),
    }
}

/// The cells of a value.
fn words(value: &[u8]) -> impl Iterator<Item = u32> {
    value.as_chunks::<4>().0.iter().map(|c| u32::from_be_bytes(*c))
}
