//! Checks of one tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bindery::device::{NodeId, Nodes, Resource};
use bindery::firmware::fdt::{self, Description};

use super::compare::{self, Compared};
use super::machine::{drawn, driverless};
use super::walk;
use crate::outcome::{Outcome, Trouble};

/// Longest time that describing a tree may take, far above what the largest needs.
const LIMIT: Duration = Duration::from_secs(1);

/// Sums over all trees.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) devices: usize,
    pub(super) others: usize,
    pub(super) suppliers: usize,
    pub(super) notes: usize,
    pub(super) compared: Compared,
    /// The slowest description, and of which tree.
    pub(super) longest: (Duration, PathBuf),
    /// One line for each check of a tree that failed.
    pub(super) failures: Vec<String>,
}

/// A check of one described tree: an error says what does not hold.
type Check = fn(&Path, &Description, &Nodes) -> Result<(), String>;

/// The checks that every tree goes through, in order.
const CHECKS: [Check; 3] = [sound, driverless, drawn];

/// Describes one tree and checks the description.
pub(super) fn tree(path: &Path, show_notes: bool, totals: &mut Totals) -> Outcome {
    let blob = fs::read(path).map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))?;
    let start = Instant::now();
    let described = catch_unwind(|| {
        let mut nodes = Nodes::new();
        fdt::describe(&blob, &mut nodes).map(|d| (d, nodes))
    });
    let took = start.elapsed();
    let failures = &mut totals.failures;
    let mut fail = |what: &str| failures.push(format!("{}: {what}", path.display()));
    let (description, nodes) = match described {
        Ok(Ok(described)) => described,
        Ok(Err(e)) => {
            fail(&e.to_string());
            return Ok(());
        }
        Err(_) => {
            fail("panicked");
            return Ok(());
        }
    };
    if took > LIMIT {
        fail(&format!("took {took:?}"));
    }
    let text = walk::source(path)?;
    let read = accounted(&text, &description, &nodes);
    if let Err(what) = read.and_then(|()| compare::same(&text, &description, &nodes, &mut totals.compared)) {
        fail(&what);
    }
    for check in CHECKS {
        if let Err(what) = check(path, &description, &nodes) {
            fail(&what);
        }
    }
    if took > totals.longest.0 {
        totals.longest = (took, path.file_name().map(PathBuf::from).unwrap_or_default());
    }
    totals.devices += description.devices.len();
    totals.others += description.others.len();
    totals.suppliers += description.devices.iter().map(|d| d.suppliers.len()).sum::<usize>();
    totals.notes += description.notes.len() + description.notes_left_out;
    if show_notes {
        for note in &description.notes {
            println!("{}: {note}", path.display());
        }
    }
    Ok(())
}

/// The nodes are those that the independent reader finds, each in its place.
fn accounted(text: &str, description: &Description, nodes: &Nodes) -> Result<(), String> {
    let expected = walk::sort(text).map_err(|line| format!("dtc wrote {line:?}"))?;
    let devices = description.devices.iter().filter_map(|d| d.node);
    same_nodes("devices", &expected.devices, devices, nodes)?;
    same_nodes("other nodes", &expected.others, description.others.iter().map(|o| o.node), nodes)
}

fn same_nodes(
    what: &str,
    expected: &BTreeMap<String, usize>,
    found: impl Iterator<Item = NodeId>,
    nodes: &Nodes,
) -> Result<(), String> {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for node in found {
        // A number behind a path tells siblings of one name apart; the other reader does not.
        let path = nodes.get(node).path.split('#').next().unwrap_or_default().to_owned();
        *counted.entry(path).or_default() += 1;
    }
    let odd = expected.iter().find(|(p, n)| counted.get(*p) != Some(n));
    let odd = odd.or_else(|| counted.iter().find(|(p, n)| expected.get(*p) != Some(n)));
    match odd {
        None => Ok(()),
        Some((path, _)) => Err(format!(
            "{what}: {} expected, {} found, first difference at {path}",
            expected.values().sum::<usize>(),
            counted.values().sum::<usize>(),
        )),
    }
}

/// Checks that hold for any tree: names are unique, parents come first, suppliers are enabled and not the device itself.
fn sound(_: &Path, description: &Description, nodes: &Nodes) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for device in &description.devices {
        let wrong = |what: &str| Err(format!("{}: {what}", device.name));
        if !names.insert(&device.name) {
            return wrong("a second device of that name");
        }
        if device.parent.is_some_and(|p| !seen.contains(&p)) {
            return wrong("comes before its parent");
        }
        seen.extend(device.node);
        for supplier in &device.suppliers {
            if Some(supplier.node) == device.node || !nodes.get(supplier.node).enabled {
                return wrong("is its own supplier, or has one that is disabled");
            }
        }
        for resource in &device.resources {
            if let Resource::Mem { base, len } = resource
                && (*len == 0 || base.checked_add(len - 1).is_none())
            {
                return wrong("has registers that wrap around");
            }
        }
    }
    Ok(())
}
