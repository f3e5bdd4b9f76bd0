//! Replay of operations on sysfs that were recorded on stock kernels: the control tree answers as they do, but for the
//! differences that `docs/control-tree.md` lists.

mod facts;
mod guest;

use alloc::sync::Arc;
use core::fmt::Write;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use self::facts::{Answer, KERNELS, Operation};
use crate::control::{ControlError, EntryKind, OpenFlags, Tree};
use crate::env::fake::FakeEnv;
use crate::event::EventKind;

/// A read's data as the recording has it.
fn escaped(data: &[u8]) -> String {
    let mut text = String::new();
    for byte in data {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(*byte as char),
            _ => write!(text, "\\x{byte:02x}").unwrap(),
        }
    }
    // Long data is recorded by its length and its ends.
    if data.len() > 1500 {
        return format!("{{len {}}}{}...{}", data.len(), &text[..60], &text[text.len() - 21..]);
    }
    text
}

fn listing(tree: &Tree, path: &str) -> Result<String, ControlError> {
    let mut names: Vec<String> = Vec::new();
    for entry in tree.list(path)? {
        names.push(match entry.kind {
            EntryKind::Dir => entry.name + "/",
            EntryKind::Link { .. } => entry.name + "@",
            EntryKind::File { readable, writable } => {
                // The modes that the attributes of these kinds have on Linux.
                let mode = match (readable, writable) {
                    (true, true) => 644,
                    (true, false) => 444,
                    (false, _) => 200,
                };
                format!("{}({mode})", entry.name)
            }
        });
    }
    names.sort();
    Ok(names.join(" "))
}

/// Performs an operation. Result and data.
fn perform(tree: &Tree, op: &Operation) -> (String, String) {
    let fail = |call: &str, e: ControlError| (format!("{call}:{}", e.errno), String::new());
    let open = |flags: OpenFlags| tree.open(&op.path, flags);
    let number = |n: usize| core::str::from_utf8(&op.args[n]).unwrap().parse::<usize>().unwrap();
    let flags = match op.verb {
        "wt" => OpenFlags::REDIRECT,
        "wa" => OpenFlags::REDIRECT_APPEND,
        "r" | "rs" | "ro" => OpenFlags::READ,
        _ => OpenFlags::WRITE,
    };
    match op.verb {
        "l" => listing(tree, &op.path).map_or_else(|e| fail("opendir", e), |names| ("ok".into(), names)),
        "k" => tree.read_link(&op.path).map_or_else(|e| fail("readlink", e), |to| ("ok".into(), to)),
        "rmdir" => ("-".into(), String::new()),
        "r" | "rs" | "ro" => {
            let mut file = match open(flags) {
                Ok(file) => file,
                Err(e) => return fail("open", e),
            };
            if op.verb == "ro" {
                return match file.read(number(0), number(1)) {
                    Ok(data) => (format!("pread:{}", data.len()), escaped(&data)),
                    Err(e) => fail("pread", e),
                };
            }
            let (mut data, mut reads) = (Vec::new(), 0);
            let step = if op.verb == "rs" { number(0) } else { 4096 };
            loop {
                match file.read(data.len(), step) {
                    Ok(some) if some.is_empty() => break,
                    Ok(some) => data.extend(some),
                    Err(e) => return fail("read", e),
                }
                reads += 1;
            }
            let result = if op.verb == "rs" { format!("reads:{reads}") } else { "ok".into() };
            (result, escaped(&data))
        }
        _ => {
            let mut file = match open(flags) {
                Ok(file) => file,
                Err(e) => return fail("open", e),
            };
            let mut results = Vec::new();
            let mut write = |call: &str, value: &[u8]| {
                let done = file.write(value);
                results.push(match &done {
                    Ok(count) => format!("{call}:{count}"),
                    Err(e) => format!("{call}:{}", e.errno),
                });
                done.unwrap_or(0)
            };
            match op.verb {
                "w2" => {
                    write("write", &op.args[0]);
                    write("write", &op.args[1]);
                }
                "wo" => {
                    write("pwrite", &op.args[1]);
                }
                "wall" => {
                    let mut rest = &op.args[0][..];
                    while !rest.is_empty() {
                        match write("write", rest) {
                            0 => break,
                            taken => rest = &rest[taken..],
                        }
                    }
                }
                _ => {
                    write("write", &op.args[0]);
                }
            }
            (results.join(" "), String::new())
        }
    }
}

/// State whose changes are recorded: name and value.
fn state(tree: &Tree) -> BTreeMap<&'static str, String> {
    let mut state = BTreeMap::new();
    for (name, device) in [
        ("DEV.driver", "d0000000.dev"),
        ("SUP.driver", "d0010000.sup"),
        ("TOP.driver", "d0020000.top"),
        ("SIB.driver", "d0011000.sib"),
        ("SIB2.driver", "d0012000.sib2"),
        ("NODRV.driver", "d0030000.nodrv"),
    ] {
        let link = tree.read_link(&format!("/sys/bus/platform/devices/{device}/driver"));
        state.insert(name, link.map_or("-".into(), |to| to.rsplit('/').next().unwrap().to_string()));
    }
    let read = |path: &str| {
        let mut file = tree.open(path, OpenFlags::READ).unwrap();
        let data = file.read(0, 4096).unwrap();
        let text = escaped(data.strip_suffix(b"\n").unwrap_or(&data));
        if text.starts_with('{') { text[text.find('}').unwrap() + 1..][..60].to_string() } else { text }
    };
    state.insert("DEV.override", read("/sys/bus/platform/devices/d0000000.dev/driver_override"));
    state.insert("DEV.type", read("/sys/bus/platform/devices/d0000000.dev/iommu_group/type"));
    state.insert("autoprobe", read("/sys/bus/platform/drivers_autoprobe"));
    state
}

/// Order in which the recording names changes.
const ORDER: [&str; 9] = [
    "DEV.driver",
    "SUP.driver",
    "TOP.driver",
    "SIB.driver",
    "SIB2.driver",
    "NODRV.driver",
    "DEV.override",
    "DEV.type",
    "autoprobe",
];

fn uevents(env: &Arc<FakeEnv>) -> String {
    let mut seen = Vec::new();
    for event in env.events.lock().unwrap().drain(..) {
        let device = event.device.as_deref().unwrap_or_default();
        seen.extend(match &event.kind {
            EventKind::Bound { .. } => Some(format!("bind@{device}")),
            EventKind::Unbound { .. } => Some(format!("unbind@{device}")),
            EventKind::Uevent { action, path, env } => {
                let name = path.rsplit('/').next().unwrap();
                Some(format!("{action}@{name},{}", env.join(",")))
            }
            _ => None,
        });
    }
    seen.sort();
    seen.join(" ")
}

/// All operations in order: each with the answer here.
fn replay() -> Vec<(Operation, Answer)> {
    let (env, machine, tree) = guest::boot();
    env.events.lock().unwrap().clear();
    let run = |op: Operation| {
        let before = state(&tree);
        let (result, data) = perform(&tree, &op);
        machine.settle();
        let after = state(&tree);
        let changes = ORDER.iter().filter(|name| before[*name] != after[*name]);
        let changes: Vec<String> = changes.map(|name| format!("{name}: {} > {}", before[name], after[name])).collect();
        let answer = [result, data, changes.join("; "), uevents(&env)];
        (op, answer)
    };
    let done = facts::operations().into_iter().map(run).collect();
    assert_eq!(machine.promises().broken(), []);
    done
}

/// A device as the tree shows it: path, uevent, links, `waiting_for_supplier`; without its driver.
fn shown(tree: &Tree, name: &str) -> Option<Answer> {
    let at = |file: &str| format!("/sys/bus/platform/devices/{name}{file}");
    let path = tree.read_link(&at("")).ok()?;
    let path = path.strip_prefix("../../../devices/platform/").unwrap().into();
    let uevent = tree.read(&at("/uevent")).unwrap();
    let uevent: String = uevent.split_inclusive('\n').filter(|l| !l.starts_with("DRIVER=")).collect();
    assert!(uevent.ends_with(&format!("MODALIAS={}", tree.read(&at("/modalias")).unwrap())));
    let names = tree.list(&at("")).unwrap().into_iter().map(|e| e.name);
    let links: Vec<String> = names.filter(|n| n.starts_with("supplier:") || n.starts_with("consumer:")).collect();
    let waits = tree.read(&at("/waiting_for_supplier")).unwrap_or_else(|e| format!("<{}>", e.errno));
    Some([path, escaped(uevent.as_bytes()), links.join(" "), escaped(waits.as_bytes())])
}

/// An operation or device, the kernels' answers, and the one here.
type Found = (String, Vec<(&'static str, Answer)>, Option<Answer>);

/// Compares what was `found` with the facts, and with the listed differences. Returns the problems.
fn judge(found: &[Found]) -> (BTreeMap<&'static str, [usize; 2]>, Vec<String>) {
    let listed = facts::listed();
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut problems = Vec::new();
    for (id, answers, here) in found {
        for (kernel, answer) in answers {
            let count = counts.entry(kernel).or_default();
            count[0] += 1;
            let same = here.as_ref() == Some(answer);
            count[1] += usize::from(!same);
            match (same, listed.contains(&(id.clone(), *kernel))) {
                (true, true) => problems.push(format!("{id} answers as {kernel} does, but is listed")),
                (false, false) => problems.push(format!("{id} on {kernel}: {answer:?}\n  here: {here:?}")),
                _ => {}
            }
        }
    }
    (counts, problems)
}

#[test]
fn the_tree_answers_as_stock_kernels_do_but_for_the_listed_differences() {
    let (_env, _machine, tree) = guest::boot();
    let known = facts::devices();
    let names: BTreeSet<&str> = known.iter().map(|d| d.name).collect();
    let mut found: Vec<_> = known
        .iter()
        .map(|d| {
            let on = KERNELS.into_iter().filter(|k| d.kernels.split(' ').any(|on| on == *k));
            (format!("device:{}", d.name), on.map(|k| (k, d.facts.clone())).collect(), shown(&tree, d.name))
        })
        .collect();
    let (devices, mut problems) = judge(&found);
    // A third of the devices was left out of the recording; these of the rest exist here.
    let more = tree.list("/sys/bus/platform/devices").unwrap().into_iter().map(|e| e.name);
    let more: Vec<String> = more.filter(|n| !names.contains(&**n)).collect();
    std::eprintln!("devices that the recording leaves out: {more:?}");

    found = replay()
        .into_iter()
        .map(|(op, here)| (op.id.into(), KERNELS.into_iter().zip(op.answers).collect(), Some(here)))
        .collect();
    let (operations, more) = judge(&found);
    problems.extend(more);
    for problem in &problems {
        std::eprintln!("{problem}");
    }
    let counts: BTreeMap<&str, [usize; 4]> =
        KERNELS.into_iter().map(|k| (k, [operations[k][0], operations[k][1], devices[k][0], devices[k][1]])).collect();
    std::eprintln!("{counts:?}");
    assert!(problems.is_empty(), "{} problems", problems.len());
    assert_eq!(facts::counts(), counts, "docs/control-tree.md has the counts");
}
