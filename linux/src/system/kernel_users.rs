//! Users of block devices that live in the kernel.

use super::System;
use crate::face::Face;

/// A mounted btrfs file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Btrfs {
    /// Its UUID.
    pub uuid: String,
    /// Kernel names of the member block devices.
    pub members: Vec<String>,
}

/// A block device or file that the kernel uses on behalf of something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The path that it was given.
    pub path: String,
    /// Its user, for a message: `loop0`, `the NVMe target nqn.x`.
    pub user: String,
    /// A command that ends the use.
    pub remedy: String,
}

pub(super) fn read(face: &dyn Face, system: &mut System) {
    for uuid in face.names("/sys/fs/btrfs") {
        let members = face.names(&format!("/sys/fs/btrfs/{uuid}/devices"));
        if !members.is_empty() {
            system.btrfs.push(Btrfs { uuid, members });
        }
    }
    system.zfs_pools = face
        .list("/proc/spl/kstat/zfs")
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| entry.dir.then_some(entry.name))
        .collect();
    loops(face, system);
    zram(face, system);
    nvme_target(face, system);
    scsi_target(face, system);
}

fn loops(face: &dyn Face, system: &mut System) {
    for name in face.names("/sys/block").iter().filter(|name| name.starts_with("loop")) {
        let Some(path) = face.try_text(&format!("/sys/block/{name}/loop/backing_file")) else { continue };
        system.exports.push(Export {
            path: path.trim_end_matches(" (deleted)").into(),
            user: format!("/dev/{name}"),
            remedy: format!("losetup -d /dev/{name}"),
        });
    }
}

/// Compressed memory that is written back to a disk.
fn zram(face: &dyn Face, system: &mut System) {
    for name in face.names("/sys/block").iter().filter(|name| name.starts_with("zram")) {
        let path = face.try_text(&format!("/sys/block/{name}/backing_dev")).unwrap_or_default();
        if path.starts_with('/') {
            system.exports.push(Export {
                path,
                user: format!("/dev/{name}, which writes back to it"),
                remedy: format!("swapoff /dev/{name}; echo 1 > /sys/block/{name}/reset"),
            });
        }
    }
}

fn nvme_target(face: &dyn Face, system: &mut System) {
    const ROOT: &str = "/sys/kernel/config/nvmet/subsystems";
    for subsystem in face.names(ROOT) {
        // A whole controller that is passed through, by its own node.
        let base = format!("{ROOT}/{subsystem}/passthru");
        if face.try_text(&format!("{base}/enable")).as_deref() == Some("1")
            && let Some(path) = face.try_text(&format!("{base}/device_path"))
        {
            system.exports.push(Export {
                path,
                user: format!("the NVMe target {subsystem}, as a whole"),
                remedy: format!("echo 0 > {base}/enable"),
            });
        }
        for namespace in face.names(&format!("{ROOT}/{subsystem}/namespaces")) {
            let base = format!("{ROOT}/{subsystem}/namespaces/{namespace}");
            if face.try_text(&format!("{base}/enable")).as_deref() != Some("1") {
                continue;
            }
            let Some(path) = face.try_text(&format!("{base}/device_path")) else { continue };
            system.exports.push(Export {
                path,
                user: format!("the NVMe target {subsystem}, namespace {namespace}"),
                remedy: format!("echo 0 > {base}/enable"),
            });
        }
    }
}

fn scsi_target(face: &dyn Face, system: &mut System) {
    const ROOT: &str = "/sys/kernel/config/target/core";
    for backend in face.names(ROOT).iter().filter(|name| name.starts_with("iblock_") || name.starts_with("pscsi_")) {
        for store in face.names(&format!("{ROOT}/{backend}")) {
            let Some(path) = face.try_text(&format!("{ROOT}/{backend}/{store}/udev_path")) else { continue };
            if !path.trim().is_empty() {
                system.exports.push(Export {
                    path: path.trim().into(),
                    user: format!("the SCSI target's backstore {store}"),
                    remedy: format!("targetcli: delete the backstore {store}"),
                });
            }
        }
    }
}
