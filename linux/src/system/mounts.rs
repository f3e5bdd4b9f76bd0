//! Mounted file systems and swap.

use std::collections::BTreeSet;

use super::System;
use crate::face::Face;

/// A line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number of the file system, which for btrfs, ZFS and overlay is not a block device's.
    pub number: (u32, u32),
    /// Mount point.
    pub point: String,
    /// The type: `ext4`.
    pub kind: String,
    /// Source: a path, or a name of the file system's own.
    pub source: String,
    /// Options of the file system.
    pub options: String,
    /// The process in whose mount namespace it was seen, when that is not the reader's.
    pub process: Option<u32>,
}

/// A line of `/proc/swaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// A block device or a file.
    pub path: String,
    /// True for a block device.
    pub partition: bool,
}

pub(super) fn read(face: &dyn Face, system: &mut System) {
    let mut seen = BTreeSet::new();
    let mut add = |system: &mut System, text: &str, process: Option<u32>| {
        for mount in text.lines().filter_map(|line| mount(line, process)) {
            if seen.insert((mount.number, mount.point.clone(), mount.source.clone())) {
                system.mounts.push(mount);
            }
        }
    };
    let own = face.try_text("/proc/self/mountinfo").unwrap_or_default();
    add(system, &own, None);
    let own_namespace = face.link("/proc/self/ns/mnt").ok();
    let mut namespaces: BTreeSet<String> = own_namespace.into_iter().collect();
    for pid in system.processes.iter().map(|p| p.pid).collect::<Vec<_>>() {
        // Processes of one namespace show the same list: it is read once for each.
        let namespace = face.link(&format!("/proc/{pid}/ns/mnt")).unwrap_or_else(|_| format!("unknown, of {pid}"));
        if namespaces.insert(namespace)
            && let Some(text) = face.try_text(&format!("/proc/{pid}/mountinfo"))
        {
            add(system, &text, Some(pid));
        }
    }
    system.swaps = swaps(&face.try_text("/proc/swaps").unwrap_or_default());
}

fn mount(line: &str, process: Option<u32>) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let (major, minor) = before.next()?.split_once(':')?;
    let point = before.nth(1)?;
    let mut after = after.split(' ');
    Some(Mount {
        number: (major.parse().ok()?, minor.parse().ok()?),
        point: unescape(point),
        kind: after.next()?.into(),
        source: unescape(after.next().unwrap_or_default()),
        options: after.next().unwrap_or_default().into(),
        process,
    })
}

fn swaps(text: &str) -> Vec<Swap> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let path = unescape(words.next()?);
            let kind = words.next()?;
            // After its device is gone, the kernel shows `/dev/sda2\040(deleted)`.
            Some(Swap { path: path.trim_end_matches(" (deleted)").into(), partition: kind == "partition" })
        })
        .collect()
}

/// Octal escapes as the kernel writes them for blanks, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(value) if byte == b'\\' => {
                bytes.push(value);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_and_without_optional_fields() {
        let line = "41 30 253:0 / /srv\\040a rw,relatime shared:33 master:1 - xfs /dev/mapper/vg0-srv rw,attr2";
        let found = mount(line, None).unwrap();
        assert_eq!((found.number, found.point.as_str()), ((253, 0), "/srv a"));
        assert_eq!((found.kind.as_str(), found.source.as_str()), ("xfs", "/dev/mapper/vg0-srv"));
        assert_eq!(mount("22 1 0:21 / /sys rw - sysfs sysfs rw", None).unwrap().kind, "sysfs");
        assert_eq!(mount("22 1 0:21 / /sys", None), None);
    }

    #[test]
    fn a_swap_whose_device_is_gone_keeps_its_name() {
        let text =
            "Filename Type Size Used Priority\n/dev/sda2\\040(deleted) partition 1 0 -2\n/swap\\040f file 1 0 -3\n";
        let found = swaps(text);
        assert_eq!((found[0].path.as_str(), found[0].partition), ("/dev/sda2", true));
        assert_eq!((found[1].path.as_str(), found[1].partition), ("/swap f", false));
    }
}
