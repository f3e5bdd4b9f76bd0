//! Comparison of a description with what the independent reader finds.

use std::collections::BTreeMap;

use bindery::device::{DeviceDesc, Nodes, Resource};
use bindery::firmware::fdt::Description;

use super::facts::{self, Facts};
use super::source::{Id, Source};

/// Numbers of facts that were compared.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) registers: usize,
    pub(super) interrupts: usize,
    pub(super) windows: usize,
    pub(super) suppliers: usize,
}

/// Properties whose references the independent reader does not follow.
const UNREAD: [&str; 3] = ["iommu-map", "interrupt-map", "renesas,ipmmu-main"];

/// Compares every device that has a path of its own.
pub(super) fn same(
    text: &str,
    description: &Description,
    nodes: &Nodes,
    compared: &mut Compared,
) -> Result<(), String> {
    let tree = Source::read(text).map_err(|line| format!("dtc wrote {line:?}"))?;
    let mut ids: BTreeMap<&str, Option<Id>> = BTreeMap::new();
    for (id, node) in tree.nodes.iter().enumerate() {
        ids.entry(&node.path).and_modify(|known| *known = None).or_insert(Some(id));
    }
    let id = |device: &DeviceDesc| device.node.and_then(|n| *ids.get(&*nodes.get(n).path)?);
    let mut owners: Vec<Option<Id>> = vec![None; tree.nodes.len()];
    for device in description.devices.iter().filter_map(id) {
        owners[device] = Some(device);
    }
    for at in 0..owners.len() {
        owners[at] = owners[at].or_else(|| owners[tree.nodes[at].parent?]);
    }
    for device in &description.devices {
        let Some(id) = id(device) else { continue };
        let expected = facts::of(&tree, id, &owners);
        compare(&tree, device, nodes, &expected, compared)
            .map_err(|what| format!("{}: {what}", tree.nodes[id].path))?;
    }
    Ok(())
}

fn compare(
    tree: &Source,
    device: &DeviceDesc,
    nodes: &Nodes,
    expected: &Facts,
    compared: &mut Compared,
) -> Result<(), String> {
    let register = |r: &Resource| match r {
        Resource::Mem { base, len } => Some(format!("{:#x}+{len:#x}", base.0)),
        _ => None,
    };
    let registers: Vec<String> = device.resources.iter().filter_map(register).collect();
    compared.registers += registers.len();
    differ("registers", &expected.registers, &registers)?;

    let interrupts = device.resources.iter().filter(|r| !matches!(r, Resource::Mem { .. }));
    let found: Vec<String> = interrupts
        .map(|r| match r {
            Resource::Irq { line, .. } => format!("line {}", line.0),
            Resource::IrqBehind { controller, specifier } => format!("{} {specifier:?}", nodes.get(*controller).path),
            Resource::Mem { .. } => String::new(),
        })
        .collect();
    compared.interrupts += found.len();
    let behind = expected.interrupts.iter().map(|(at, specifier)| format!("{} {specifier:?}", tree.nodes[*at].path));
    let lines = expected.interrupts.iter().map(|(_, specifier)| gic(specifier).map(|line| format!("line {line}")));
    // Each interrupt of the root controller is a line of it; what is no such line ends the list.
    let expected_ones: Vec<String> = behind
        .zip(lines)
        .enumerate()
        .map_while(|(n, (behind, line))| match found.get(n) {
            Some(found) if found.starts_with("line ") => line,
            None if line.is_none() => None,
            _ => Some(behind),
        })
        .collect();
    differ("interrupts", &expected_ones, &found)?;

    if expected.coherent != device.dma.coherent {
        return Err(format!("coherent: {} expected", expected.coherent));
    }
    if let (Some(windows), None) = (&expected.windows, &device.dma.unreadable) {
        let found = device.dma.ranges.iter().map(|w| format!("{:#x}>{:#x}+{:#x}", w.bus, w.phys.0, w.len));
        let found: Vec<String> = found.collect();
        compared.windows += found.len();
        differ("dma-ranges", windows, &found)?;
    }

    let read = |property: &str| !UNREAD.contains(&property) && !expected.mapped.contains(property);
    let pair = |property: &str, path: &str| read(property).then(|| format!("{property} -> {path}"));
    let suppliers = device.suppliers.iter().filter_map(|s| pair(&s.property, &nodes.get(s.target).path));
    let mut suppliers: Vec<String> = suppliers.collect();
    suppliers.sort();
    suppliers.dedup();
    let mut wanted: Vec<String> = expected.suppliers.iter().filter_map(|(p, path)| pair(p, path)).collect();
    wanted.sort();
    compared.suppliers += suppliers.len();
    differ("suppliers", &wanted, &suppliers)
}

/// The line of a GIC that a specifier names.
fn gic(specifier: &[u32]) -> Option<u32> {
    match specifier {
        [0, n @ 0..=987, _, ..] => Some(32 + n),
        [1, n @ 0..=15, _, ..] => Some(16 + n),
        [2, n @ 0..=1023, _, ..] => Some(4096 + n),
        [3, n @ 0..=63, _, ..] => Some(1056 + n),
        _ => None,
    }
}

fn differ(what: &str, expected: &[String], found: &[String]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let missing: Vec<&String> = expected.iter().filter(|e| !found.contains(e)).collect();
    let more: Vec<&String> = found.iter().filter(|f| !expected.contains(f)).collect();
    Err(format!("{what}: missing {missing:?}, too many {more:?}"))
}
