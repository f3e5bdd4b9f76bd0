//! The recorded facts, and the differences that `docs/control-tree.md` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;

/// The kernels that were recorded.
pub(super) const KERNELS: [&str; 3] = ["6.1", "6.12", "7.2"];

/// What an operation answers: result, data, changes and uevents, each as recorded.
pub(super) type Answer = [String; 4];

/// An operation on a file.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) verb: &'static str,
    pub(super) path: String,
    pub(super) args: [Vec<u8>; 2],
    /// The answers of the kernels, in their order.
    pub(super) answers: [Answer; 3],
}

/// A device as the kernels show it.
pub(super) struct Shown {
    pub(super) name: &'static str,
    /// Path, uevent, links, `waiting_for_supplier`.
    pub(super) facts: Answer,
    pub(super) kernels: &'static str,
}

/// Text with C's escapes, and `{A*4096}` for a repeated one.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = text.as_bytes();
    while let Some((first, rest)) = at.split_first() {
        let (byte, used) = match (first, rest) {
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [b'0', ..]) => (0, 1),
            (b'\\', [b'x', hex @ ..]) => (u8::from_str_radix(core::str::from_utf8(&hex[..2]).unwrap(), 16).unwrap(), 3),
            (b'{', [c, b'*', number @ ..]) => {
                let end = number.iter().position(|b| *b == b'}').unwrap();
                let times: usize = core::str::from_utf8(&number[..end]).unwrap().parse().unwrap();
                out.extend(core::iter::repeat_n(*c, times - 1));
                (*c, end + 3)
            }
            _ => (*first, 0),
        };
        out.push(byte);
        at = &rest[used..];
    }
    out
}

fn answer(fields: &[&str]) -> Answer {
    let field = |n: usize| fields.get(n).copied().filter(|f| *f != "-").unwrap_or_default().into();
    [field(0), field(1), field(2), field(3)]
}

/// All operations, in order: each leaves its state to the next.
pub(super) fn operations() -> Vec<Operation> {
    let mut found: Vec<Operation> = Vec::new();
    for line in include_str!("operations.tsv").lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        if let Some(kernel) = line.strip_prefix('@').and(fields[0].get(1..)) {
            let at = KERNELS.iter().position(|k| *k == kernel).unwrap();
            let last = found.last_mut().filter(|o| o.id == fields[1]).unwrap();
            last.answers[at] = answer(&fields[2..]);
            continue;
        }
        let path = fields[2]
            .replace("$DEVS", "/sys/bus/platform/devices/")
            .replace("$DEV", "/sys/devices/platform/soc/d0000000.dev")
            .replace("$DRV", "/sys/bus/platform/drivers/");
        let given = answer(&fields[5..]);
        found.push(Operation {
            id: fields[0],
            verb: fields[1],
            path: String::from_utf8(bytes(&path)).unwrap(),
            args: [bytes(fields[3]), bytes(fields[4])],
            answers: [given.clone(), given.clone(), given],
        });
    }
    found
}

/// All devices.
pub(super) fn devices() -> Vec<Shown> {
    let lines = include_str!("devices.tsv").lines().filter(|l| !l.starts_with('#'));
    let device = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        Shown { name: fields[0], facts: answer(&fields[1..5]), kernels: fields[5] }
    };
    lines.map(device).collect()
}

/// The page that lists differences and counts.
fn page() -> &'static str {
    include_str!("../../../../../docs/control-tree.md")
}

/// Rows of the page's tables that begin with a cell of this kind.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    page().lines().filter(|l| l.starts_with("| ")).map(|l| l.split('|').map(str::trim).collect())
}

/// The listed differences: operation or device, and kernel.
pub(super) fn listed() -> BTreeSet<(String, &'static str)> {
    let mut all = BTreeSet::new();
    for row in rows().filter(|row| row.len() == 5 && row[1].starts_with('`')) {
        let kernels: Vec<&str> = match row[2] {
            "all" => KERNELS.to_vec(),
            some => some.split(' ').collect(),
        };
        for id in row[1].split(' ') {
            for kernel in &kernels {
                let kernel = KERNELS.iter().find(|k| *k == kernel).unwrap();
                let id: String = id.trim_matches('`').into();
                assert!(all.insert((id.clone(), *kernel)), "{id} is listed twice");
            }
        }
    }
    all
}

/// The page's counts: by kernel, the operations and devices that were compared, and those that differ.
pub(super) fn counts() -> BTreeMap<&'static str, [usize; 4]> {
    let number = |cell: &str| cell.parse::<usize>().ok();
    let row = |row: Vec<&'static str>| {
        let kernel = *KERNELS.iter().find(|k| row.get(1) == Some(k))?;
        let cells: Vec<usize> = row[2..].iter().filter_map(|cell| number(cell)).collect();
        Some((kernel, cells.try_into().ok()?))
    };
    rows().filter_map(row).collect()
}
