//! Contents of the files, and consistency of the tree.

use std::format;
use std::string::String;
use std::sync::atomic::Ordering;
use std::vec::Vec;

use super::fixture::{DISK, DRIVERS, Fixture, GROUP, errno};
use crate::control::EntryKind;
use crate::device::{DeviceDesc, NodeId};
use crate::driver::Errno;
use crate::iommu::IommuError;
use crate::promise::Promise;

#[test]
fn files_of_a_bound_device_have_linuxs_contents() {
    let w = Fixture::bound();
    for (path, contents) in [
        (format!("{DISK}/modalias"), "of:NdiskT(null)Cacme,disk\n"),
        (
            format!("{DISK}/uevent"),
            "DRIVER=disk\nOF_NAME=disk\nOF_FULLNAME=/soc/disk@20\nOF_COMPATIBLE_0=acme,disk\nOF_COMPATIBLE_N=1\n\
             MODALIAS=of:NdiskT(null)Cacme,disk\n",
        ),
        (format!("{DISK}/driver_override"), "(null)\n"),
        (format!("{DISK}/iommu_group/type"), "DMA\n"),
        (format!("{DISK}/supplier:platform:10.iommu/status"), "active\n"),
        (format!("{DISK}/supplier:platform:10.iommu/auto_remove_on"), "never\n"),
        (format!("{DISK}/supplier:platform:10.iommu/runtime_pm"), "1\n"),
        (format!("{DISK}/supplier:platform:10.iommu/sync_state_only"), "0\n"),
        (format!("{GROUP}/reserved_regions"), "0x0000000008000000 0x00000000080fffff reserved\n"),
        ("/sys/bus/platform/drivers_autoprobe".into(), "1\n"),
        ("/sys/kernel/debug/devices_deferred".into(), ""),
        (
            "/sys/kernel/bindery/claims".into(),
            "stream 2 of 10.iommu\tshared, kernel DMA\t20.disk (disk)\n\
             stream 3 of 10.iommu\tshared, kernel DMA\t21.disk (disk)\n\
             IOMMU group 0\tshared, kernel DMA\t20.disk (disk)\n\
             IOMMU group 0\tshared, kernel DMA\t21.disk (disk)\n\
             service IOMMU translation of 10.iommu\texclusive\t10.iommu (mirror)\n",
        ),
        ("/sys/kernel/bindery/interrupts".into(), ""),
        ("/sys/kernel/bindery/quarantine".into(), ""),
        ("/sys/devices/platform/soc/30.lamp/waiting_for_supplier".into(), "0\n"),
        (format!("{DISK}/power/control"), "auto\n"),
        (format!("{DISK}/of_node/name"), "disk\0"),
    ] {
        assert_eq!(w.cat(&path), contents, "{path}");
    }
    let ledger = w.cat("/sys/kernel/bindery/ledger/20.disk");
    let kinds: Vec<_> = ledger.lines().map(|l| l.split('\t').nth(1).unwrap()).collect();
    assert_eq!(
        kinds,
        ["links", "group", "translation", "control", "action", "dma coherent", "action", "data"],
        "{ledger}"
    );
    let promises = w.cat("/sys/kernel/bindery/promises");
    assert!(
        promises.starts_with("P1	matching back-end on free\tchecked ") && promises.lines().count() == Promise::COUNT,
        "{promises}"
    );
    assert!(
        w.cat("/sys/kernel/bindery/resource_usage").contains("group 0\tkernel drivers (2)\tdomain the only context")
    );
}

#[test]
fn a_deferred_device_is_listed_with_its_missing_suppliers() {
    let w = Fixture::waiting();
    let deferred = "20.disk\tplatform: supplier 10.iommu not ready\n21.disk\tplatform: supplier 10.iommu not ready\n";
    assert_eq!(w.cat("/sys/kernel/debug/devices_deferred"), deferred);
    let reasons = "20.disk\t/soc/iommu@10: no driver\n21.disk\t/soc/iommu@10: no driver\n";
    assert_eq!(w.cat("/sys/kernel/bindery/deferred"), reasons);
    assert_eq!(w.cat(&format!("{DISK}/waiting_for_supplier")), "0\n", "the supplier has a device");
    assert_eq!(w.cat(&format!("{DISK}/supplier:platform:10.iommu/status")), "dormant\n");
}

#[test]
fn a_device_that_could_not_join_a_group_is_listed_with_the_reason_until_it_joins() {
    let w = Fixture::waiting();
    let list = || w.cat("/sys/kernel/bindery/not_joined");
    let group = |disk: &str| w.has(&format!("/sys/bus/platform/devices/{disk}/iommu_group"));
    assert_eq!(list(), "", "there is no IOMMU yet: that is no failure");
    w.dead.store(true, Ordering::Relaxed);
    w.mirror();
    let dead = |disk: &str| format!("{disk}\tthe IOMMU does not answer\n");
    assert_eq!(list(), dead("20.disk") + &dead("21.disk"));
    let info = w.machine.device_info(&w.machine.device("20.disk").unwrap());
    assert_eq!((info.not_joined, info.group), (Some(IommuError::Dead), None));
    assert!(!group("20.disk") && info.driver.is_none(), "P10: nor is it bound");

    w.dead.store(false, Ordering::Relaxed);
    w.echo("20.disk", "/sys/bus/platform/drivers_probe");
    assert!(group("20.disk") && w.machine.device("20.disk").unwrap().driver() == Some("disk"));
    assert_eq!(list(), dead("21.disk"), "nobody has tried this one again");

    w.echo("10.iommu", &format!("{DRIVERS}/mirror/unbind"));
    assert_eq!(list(), "", "P4: the IOMMU that refused it is gone");
    w.promises_hold();
}

#[test]
fn symbolic_links_have_linuxs_targets() {
    let w = Fixture::bound();
    for (link, target) in [
        (format!("{DISK}/driver"), "../../../../bus/platform/drivers/disk"),
        (format!("{DISK}/subsystem"), "../../../../bus/platform"),
        (format!("{DISK}/iommu_group"), "../../../../kernel/iommu_groups/0"),
        (format!("{DISK}/iommu"), "../10.iommu/iommu/10.iommu"),
        (format!("{DISK}/supplier:platform:10.iommu"), "../../../virtual/devlink/platform:10.iommu--platform:20.disk"),
        ("/sys/bus/platform/devices/20.disk".into(), "../../../devices/platform/soc/20.disk"),
        (format!("{DRIVERS}/disk/21.disk"), "../../../../devices/platform/soc/21.disk"),
        (format!("{GROUP}/devices/20.disk"), "../../../../devices/platform/soc/20.disk"),
        ("/sys/class/iommu/10.iommu".into(), "../../devices/platform/soc/10.iommu/iommu/10.iommu"),
        ("/sys/class/iommu/10.iommu/devices/21.disk".into(), "../../../../21.disk"),
    ] {
        assert_eq!(w.tree.read_link(&link).unwrap(), target, "{link}");
    }
}

/// Absolute target of a relative link in `dir`.
fn join(dir: &str, target: &str) -> String {
    let mut at: Vec<_> = dir.split('/').collect();
    for part in target.split('/') {
        if part == ".." {
            at.pop();
        } else {
            at.push(part);
        }
    }
    at.join("/")
}

#[test]
fn every_listed_entry_can_be_used_and_every_link_resolves() {
    for w in [Fixture::waiting(), Fixture::bound()] {
        let entries: Vec<_> = w.tree.walk().collect();
        assert!(entries.len() > 60, "{}", entries.len());
        for (path, entry) in entries.into_iter().step_by(if cfg!(miri) { 10 } else { 1 }) {
            match entry.kind {
                EntryKind::Dir => assert!(w.tree.list(&path).is_ok(), "{path}"),
                // Readable as on Linux, where the device must use autosuspend, too.
                EntryKind::File { .. } if entry.name == "autosuspend_delay_ms" => {
                    assert_eq!(errno(w.tree.read(&path)), Errno::EIO, "{path}");
                }
                EntryKind::File { readable, .. } => assert_eq!(w.tree.read(&path).is_ok(), readable, "{path}"),
                EntryKind::Link { target } => {
                    assert_eq!(w.tree.read_link(&path).as_deref(), Ok(&*target));
                    let end = join(path.rsplit_once('/').unwrap().0, &target);
                    assert_eq!(w.tree.list(&path).unwrap(), w.tree.list(&end).unwrap(), "{path} -> {end}");
                }
            }
        }
    }
}

#[test]
fn devices_in_a_parent_cycle_are_listed_at_the_top() {
    let w = Fixture::waiting();
    for (name, node, parent) in [("a", 100, 101), ("b", 101, 100), ("self", 102, 102)] {
        let mut desc = DeviceDesc::new(name);
        (desc.node, desc.parent) = (Some(NodeId(node)), Some(NodeId(parent)));
        w.machine.with_nodes(|n| {
            while n.len() <= 102 {
                n.find_or_add(&format!("/filler/{}", n.len()));
            }
        });
        w.machine.add_device(desc).unwrap();
    }
    for name in ["a", "b", "self"] {
        assert!(w.has(&format!("/sys/devices/platform/{name}")));
        assert_eq!(
            w.tree.read_link(&format!("/sys/bus/platform/devices/{name}")).unwrap(),
            format!("../../../devices/platform/{name}")
        );
    }
    assert!(w.tree.walk().count() < 1000);
}
