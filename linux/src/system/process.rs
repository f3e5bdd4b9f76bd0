//! Processes, what they have open, and the network namespaces they live in.

use std::collections::BTreeMap;

use super::System;
use crate::face::{Face, Node};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name, at most 15 bytes.
    pub comm: String,
    /// Its state as one letter: `D` waits in the kernel and cannot be killed, `Z` has ended and is not reaped.
    pub state: char,
}

/// An open descriptor of interest: a device, or one that VFIO made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The process.
    pub pid: u32,
    /// The descriptor.
    pub fd: u32,
    /// The link's text: a path, or `anon_inode:[vfio-device]`.
    pub text: String,
    /// The device number.
    pub node: Option<Node>,
    /// For a descriptor of a VFIO device, the device's path in sysfs, where the kernel says it (6.16 and later).
    pub syspath: Option<String>,
}

/// A network namespace other than the reader's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetNamespace {
    /// A process that lives in it.
    pub pid: u32,
    /// Its interfaces, `lo` left out.
    pub interfaces: Vec<String>,
    /// The interfaces with a default route.
    pub default_routes: Vec<String>,
}

/// Files in sysfs whose writes bind, unbind or remove devices.
const WRITES: [&str; 6] = ["/unbind", "/bind", "/driver_override", "/sriov_numvfs", "/remove", "/reset"];

pub(super) fn read(face: &dyn Face, system: &mut System) {
    let mut pids: Vec<u32> = face.names("/proc").iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        let Some(comm) = face.try_text(&format!("/proc/{pid}/comm")) else { continue };
        let state = state(&face.try_text(&format!("/proc/{pid}/stat")).unwrap_or_default());
        system.processes.push(Process { pid, comm, state });
        match face.list(&format!("/proc/{pid}/fd")) {
            Ok(entries) => {
                let fds = entries.iter().filter_map(|entry| entry.name.parse().ok());
                system.open.extend(fds.filter_map(|fd| open(face, pid, fd)));
            }
            // A process that has ended meanwhile holds nothing.
            Err(error) => system.blind |= !error.is_absent(),
        }
    }
    system.namespaces = namespaces(face, &system.processes);
}

fn open(face: &dyn Face, pid: u32, fd: u32) -> Option<Open> {
    let text = face.link(&format!("/proc/{pid}/fd/{fd}")).ok()?;
    // Containers have their nodes in other places, too: `/run/nvidia/driver/dev/nvidia0`.
    let name = text.find("/dev/").map_or("", |at| &text[at..]);
    if text.starts_with('/') && !matches!(name, "" | "/dev/null" | "/dev/zero" | "/dev/urandom") {
        let node = face.open_node(pid, fd, text.trim_end_matches(" (deleted)"));
        return Some(Open { pid, fd, text, node, syspath: None });
    }
    // A write to one of these may be under way, and may wait for the device's holder.
    if text.starts_with("/sys/") && WRITES.iter().any(|file| text.ends_with(file)) {
        return Some(Open { pid, fd, text, node: None, syspath: None });
    }
    if text.starts_with("anon_inode:") && text.contains("vfio-device") {
        let info = face.try_text(&format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let syspath = info.lines().find_map(|line| line.strip_prefix("vfio-device-syspath:"));
        return Some(Open { pid, fd, text, node: None, syspath: syspath.map(|path| path.trim().into()) });
    }
    None
}

/// The third field of `stat`; the second one, the name in brackets, may hold anything.
fn state(stat: &str) -> char {
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    after.chars().next().unwrap_or('?')
}

fn namespaces(face: &dyn Face, processes: &[Process]) -> Vec<NetNamespace> {
    let of = |who: &str| face.link(&format!("/proc/{who}/ns/net")).ok();
    let own = of("self").or_else(|| of("1"));
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for process in processes {
        if let Some(namespace) = of(&process.pid.to_string())
            && own.as_ref() != Some(&namespace)
        {
            found.entry(namespace).or_insert(process.pid);
        }
    }
    found
        .into_values()
        .map(|pid| {
            let interfaces = face.try_text(&format!("/proc/{pid}/net/dev")).unwrap_or_default();
            let interfaces = interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
            let routes = face.try_text(&format!("/proc/{pid}/net/route")).unwrap_or_default();
            let routes = super::network::routes(&routes).into_iter().filter(|r| r.default);
            NetNamespace {
                pid,
                interfaces: interfaces.filter(|name| *name != "lo").map(Into::into).collect(),
                default_routes: routes.map(|route| route.interface).collect(),
            }
        })
        .collect()
}
