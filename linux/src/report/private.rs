//! The private values of a host, from where it keeps them.

use super::Private;
use crate::inventory::Device;
use crate::path;
use crate::select;
use crate::usage::{Below, Scene};

/// Mount points that every host has; others may say what is on them.
const PUBLIC: [&str; 21] = [
    "/",
    "/boot",
    "/boot/efi",
    "/dev",
    "/efi",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/nix",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Directory of the firmware's numbers of the machine.
const MACHINE: [&str; 6] =
    ["product_serial", "board_serial", "chassis_serial", "chassis_asset_tag", "board_asset_tag", "product_uuid"];

/// Values that a report about `devices` might name.
pub fn known(scene: Scene<'_>, devices: &[&Device]) -> Vec<(String, Private)> {
    let face = scene.face;
    let mut found = Vec::new();
    let mut add = |kind, values: Vec<String>| found.extend(values.into_iter().map(|value| (value, kind)));
    for file in ["/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/etc/hostname"] {
        let name = face.try_text(file).unwrap_or_default();
        let name = name.trim();
        // The kernel writes `(none)` for a domain that is not set.
        if !name.is_empty() && name != "(none)" && name != "localhost" {
            add(Private::Host, vec![name.into(), name.split('.').next().unwrap_or_default().into()]);
        }
    }
    add(Private::User, people(&face.try_text("/etc/passwd").unwrap_or_default()));
    let guests = face.names("/etc/libvirt/qemu").into_iter();
    add(Private::Guest, guests.filter_map(|file| file.strip_suffix(".xml").map(Into::into)).collect());
    for file in MACHINE {
        let value = face.try_text(&format!("/sys/class/dmi/id/{file}")).unwrap_or_default();
        // Firmware that was never filled in says so in words.
        add(Private::Serial, Some(value).filter(|v| v.chars().any(|c| c.is_ascii_digit())).into_iter().collect());
    }
    for device in devices {
        add(Private::Serial, select::serials(face, device));
        add(Private::Serial, select::wwns(face, device));
        let below = Below::of(face, device);
        let files = below.blocks.iter().map(|block| &block.path).chain(below.controllers.iter().map(|c| &c.path));
        for path in files {
            let read = |file: &str| face.try_text(&format!("{path}/{file}")).map(|text| text.trim().to_owned());
            add(Private::Serial, ["serial", "wwid", "device/serial"].into_iter().filter_map(read).collect());
        }
    }
    add(Private::Volume, scene.system.zfs_pools.clone());
    let blocks = face.names("/sys/class/block").into_iter();
    add(Private::Volume, blocks.filter_map(|b| face.try_text(&format!("/sys/class/block/{b}/dm/name"))).collect());
    let points = scene.system.mounts.iter().map(|mount| mount.point.trim_end_matches('/').to_owned());
    let own = |point: &String| !PUBLIC.contains(&point.as_str()) && !within_system(point);
    add(Private::Mount, points.filter(own).collect());
    found.extend(udev(scene));
    found
}

fn within_system(point: &str) -> bool {
    ["/sys", "/proc", "/dev", "/run"].iter().any(|above| path::within(point, above))
}

/// Accounts of people, as login.defs of all distributions numbers them, with the last part of their home.
fn people(passwd: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [login, _, number, _, _, home, ..] = fields[..] else { continue };
        if number.parse().is_ok_and(|number: u32| (1000..=60_000).contains(&number)) {
            found.push(login.into());
            found.push(path::name(home).into());
        }
    }
    found
}

/// udev's database of disks and other devices.
fn udev(scene: Scene<'_>) -> Vec<(String, Private)> {
    let face = scene.face;
    let mut found = Vec::new();
    for record in face.names("/run/udev/data") {
        let text = face.try_text(&format!("/run/udev/data/{record}")).unwrap_or_default();
        for (key, value) in text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('=')) {
            let kind = match key {
                "DM_NAME" | "DM_VG_NAME" | "DM_LV_NAME" | "MD_NAME" | "MD_DEVNAME" => Private::Volume,
                // The short form is the number alone; the long one has the model before it, and is found by its end.
                _ if key.ends_with("SERIAL_SHORT") || key.contains("WWN") => Private::Serial,
                _ if key.contains("UUID") => Private::Uuid,
                "ID_FS_LABEL" | "ID_PART_ENTRY_NAME" => Private::Volume,
                _ => continue,
            };
            found.push((value.to_owned(), kind));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_from_the_systems_accounts() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nqemu:x:107:107::/:/sbin/nologin\nalice:x:1000:1000:A:/home/al:/bin/sh\n\
                      nobody:x:65534:65534::/:/bin/false\nbroken\n";
        assert_eq!(people(passwd), ["alice", "al"]);
    }
}
