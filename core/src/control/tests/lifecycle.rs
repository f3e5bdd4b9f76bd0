//! Files that appear and disappear in a device's lifecycle, and concurrent access to them.

use alloc::sync::Arc;
use core::time::Duration;
use std::format;
use std::string::String;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::vec::Vec;

use super::fixture::{DISK, DRIVERS, Fixture, GROUP, Lamp, errno};
use crate::control::Tree;
use crate::device::DeviceDesc;
use crate::driver::{Errno, ProbeError};
use crate::machine::ResourceUsage;

/// The disk's files that exist, in one line.
fn visible_files(tree: &Tree) -> String {
    let here = |path: &str| tree.list(path).is_ok();
    let mut seen = Vec::new();
    for (name, path) in [
        ("driver", format!("{DISK}/driver")),
        ("listed", format!("{DRIVERS}/disk/20.disk")),
        ("group", format!("{DISK}/iommu_group")),
    ] {
        if here(&path) {
            seen.push(name);
        }
    }
    if tree.read(&format!("{DISK}/waiting_for_supplier")).is_ok() {
        seen.push("waiting_for_supplier");
    }
    if tree.read("/sys/kernel/bindery/ledger/20.disk").is_ok() {
        seen.push("ledger");
    }
    let status = tree.read(&format!("{DISK}/supplier:platform:10.iommu/status")).unwrap_or_default();
    format!("{}; link {}", seen.join(" "), status.trim_end())
}

#[test]
fn files_appear_and_disappear_with_the_binding() {
    let w = Fixture::waiting();
    let log = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let (tree, log) = (w.tree.clone(), Arc::clone(&log));
        move || log.lock().unwrap().push(format!("{what}: {}", visible_files(&tree)))
    };
    note("waiting")();
    w.tree.write("/sys/bus/platform/drivers_autoprobe", "0").unwrap();
    w.mirror();
    note("no supplier yet")();
    w.tree.write(&format!("{DRIVERS}/mirror/bind"), "10.iommu").unwrap();
    note("supplier there")();
    w.hooks.in_probe(note("in probe"));
    w.hooks.in_release(note("in release"));
    w.tree.write(&format!("{DRIVERS}/disk/bind"), "20.disk").unwrap();
    note("bound")();
    w.tree.write(&format!("{DRIVERS}/disk/unbind"), "20.disk").unwrap();
    note("unbound")();
    *w.hooks.answer.lock().unwrap() = Some(ProbeError::Device("no spin-up"));
    w.tree.write(&format!("{DRIVERS}/disk/bind"), "20.disk").unwrap_err();
    note("failed")();
    assert_eq!(
        *log.lock().unwrap(),
        [
            "waiting: waiting_for_supplier; link dormant",
            "no supplier yet: waiting_for_supplier; link dormant",
            "supplier there: group waiting_for_supplier; link available",
            "in probe: driver listed group waiting_for_supplier ledger; link consumer probing",
            "bound: driver listed group ledger; link active",
            "in release: driver listed group ledger; link active",
            "in release: driver listed group ledger; link active",
            "unbound: group; link available",
            "in probe: driver listed group ledger; link consumer probing",
            "in release: driver listed group ledger; link consumer probing",
            "in release: driver listed group ledger; link consumer probing",
            "failed: group; link available",
        ]
    );
    w.promises_hold();
}

#[test]
fn files_of_removed_devices_and_drivers_disappear() {
    let w = Fixture::bound();
    assert!(w.has(DISK) && w.has("/sys/bus/platform/devices/20.disk") && w.has(&format!("{GROUP}/devices/20.disk")));
    w.machine.remove_device("20.disk");
    assert!(!w.has(DISK) && !w.has("/sys/bus/platform/devices/20.disk"));
    assert!(!w.has(&format!("{GROUP}/devices/20.disk")), "P4");
    assert!(!w.has("/sys/class/devlink/platform:10.iommu--platform:20.disk"));
    assert!(!w.has("/sys/devices/platform/soc/10.iommu/consumer:platform:20.disk"));
    w.machine.unregister("disk");
    assert!(!w.has(&format!("{DRIVERS}/disk")));
    w.machine.unregister("mirror");
    assert!(!w.has(GROUP) && !w.has("/sys/class/iommu/10.iommu"));
    assert!(!w.has("/sys/devices/platform/soc/21.disk/iommu_group"));
    w.promises_hold();
}

#[test]
fn bind_and_unbind_leave_the_tree_unchanged() {
    let w = Fixture::bound();
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    let picture = || -> (Vec<_>, ResourceUsage) {
        let counted = "/sys/kernel/bindery/promises";
        let read = |p: String| (p.clone(), w.tree.read(&p).unwrap_or_default());
        (w.tree.walk().filter(|(p, _)| p != counted).map(|(p, _)| read(p)).collect(), w.machine.resource_usage())
    };
    let before = picture();
    for _ in 0..3 {
        w.echo("20.disk", &format!("{DRIVERS}/disk/bind"));
        w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    }
    assert_eq!(picture(), before, "P4");
}

#[test]
fn the_vfio_recipe_works_for_whole_groups_only() {
    let w = Fixture::bound();
    for disk in ["20.disk", "21.disk"] {
        w.echo("guest", &format!("/sys/bus/platform/devices/{disk}/driver_override"));
    }
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    let refused = w.tree.write(&format!("{DRIVERS}/guest/bind"), "20.disk").unwrap_err();
    assert_eq!(refused.errno, Errno::EBUSY, "P7: its sibling is the kernel's");
    assert!(refused.why.contains("kernel drivers (1)"), "{refused}");
    assert_eq!(errno(w.tree.write("/sys/bus/platform/drivers_probe", "20.disk")), Errno::EINVAL);
    w.echo("21.disk", &format!("{DRIVERS}/disk/unbind"));
    w.echo("20.disk", "/sys/bus/platform/drivers_probe");
    assert_eq!(w.tree.read_link(&format!("{DISK}/driver")).unwrap().rsplit('/').next(), Some("guest"));
    w.echo("", "/sys/bus/platform/devices/21.disk/driver_override");
    assert_eq!(errno(w.tree.write(&format!("{DRIVERS}/disk/bind"), "21.disk")), Errno::EBUSY, "P7");
    assert_eq!(errno(w.tree.write(&format!("{GROUP}/type"), "identity")), Errno::EPERM);
    w.echo("20.disk", &format!("{DRIVERS}/guest/unbind"));
    w.echo("", &format!("{DISK}/driver_override"));
    w.echo("20.disk", "/sys/bus/platform/drivers_probe");
    w.echo("21.disk", "/sys/bus/platform/drivers_probe");
    assert!(w.has(&format!("{DRIVERS}/disk/20.disk")) && w.has(&format!("{DRIVERS}/disk/21.disk")));
    w.promises_hold();
}

#[test]
fn the_type_of_a_group_cannot_change_before_the_last_managed_resource_is_released() {
    let w = Fixture::bound();
    w.echo("21.disk", &format!("{DRIVERS}/disk/unbind"));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (tree, copy) = (w.tree.clone(), Arc::clone(&answers));
    w.hooks.in_release(move || {
        let here = errno(tree.write(&format!("{GROUP}/type"), "identity"));
        let elsewhere = tree.clone();
        let there = thread::spawn(move || errno(elsewhere.write(&format!("{GROUP}/type"), "identity")));
        copy.lock().unwrap().push((here, there.join().unwrap(), tree.read(&format!("{GROUP}/type")).unwrap()));
    });
    let refused = (Errno::EPERM, Errno::EPERM, String::from("DMA\n"));
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    let twice = [refused.clone(), refused];
    assert_eq!(answers.lock().unwrap().split_off(0), twice, "P7: on unbind");
    *w.hooks.answer.lock().unwrap() = Some(ProbeError::Device("no spin-up"));
    w.tree.write(&format!("{DRIVERS}/disk/bind"), "20.disk").unwrap_err();
    assert_eq!(*answers.lock().unwrap(), twice, "P7: on a failed probe");
    w.echo("identity", &format!("{GROUP}/type"));
    w.promises_hold();
}

#[test]
fn a_guest_cannot_claim_the_group_before_the_last_managed_resource_is_released() {
    let w = Fixture::bound();
    w.echo("guest", "/sys/bus/platform/devices/21.disk/driver_override");
    w.echo("21.disk", &format!("{DRIVERS}/disk/unbind"));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (tree, copy) = (w.tree.clone(), Arc::clone(&answers));
    w.hooks.in_release(move || {
        let elsewhere = tree.clone();
        let claim = thread::spawn(move || elsewhere.write(&format!("{DRIVERS}/guest/bind"), "21.disk"));
        copy.lock().unwrap().push(claim.join().unwrap().unwrap_err());
    });
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    {
        let answers = answers.lock().unwrap();
        assert_eq!(answers.iter().map(|e| e.errno).collect::<Vec<_>>(), [Errno::EBUSY; 2], "P7");
        assert!(answers[0].why.contains("owned by kernel drivers"), "{}", answers[0]);
    }
    w.echo("21.disk", &format!("{DRIVERS}/guest/bind"));
    w.promises_hold();
}

#[test]
fn reads_do_not_wait_for_a_probe() {
    let w = Fixture::bound();
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    let (inside, entered) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let ends = Mutex::new((inside, wait));
    w.hooks.in_probe(move || {
        let ends = ends.lock().unwrap();
        ends.0.send(()).unwrap();
        ends.1.recv().unwrap();
    });
    let tree = w.tree.clone();
    let probe = thread::spawn(move || tree.write(&format!("{DRIVERS}/disk/bind"), "20.disk"));
    entered.recv().unwrap();
    // The probe blocks until this thread continues it: a read that waited for it would deadlock.
    let (tree, (done, all)) = (w.tree.clone(), mpsc::channel());
    thread::spawn(move || {
        let read = tree.walk().filter(|(path, _)| tree.read(path).is_ok()).count();
        done.send((read, visible_files(&tree))).unwrap();
    });
    let (read, seen) = all.recv_timeout(Duration::from_mins(1)).expect("no read waits for a probe");
    assert!(read > 30, "{read}");
    assert_eq!(seen, "driver listed group ledger; link consumer probing");
    go_on.send(()).unwrap();
    probe.join().unwrap().unwrap();
}

#[test]
fn nothing_is_probed_automatically_without_autoprobe() {
    let w = Fixture::waiting();
    let autoprobe = "/sys/bus/platform/drivers_autoprobe";
    for (value, read) in [
        ("0", "0\n"),
        ("no", "1\n"),
        ("0\n", "0\n"),
        ("1", "1\n"),
        ("", "1\n"),
        ("0", "0\n"),
        ("", "0\n"),
        ("1", "1\n"),
        ("00", "0\n"),
    ] {
        w.tree.write(autoprobe, value).unwrap();
        assert_eq!(w.cat(autoprobe), read, "{value:?}");
    }
    let mut late = DeviceDesc::new("40.disk");
    late.compatible.push("acme,disk".into());
    w.machine.add_device(late).unwrap();
    w.mirror();
    w.echo("10.iommu", "/sys/bus/platform/drivers_probe");
    let bound = |name: &str| w.machine.device(name).unwrap().driver().is_some();
    assert_eq!(["10.iommu", "20.disk", "40.disk"].map(bound), [true, false, false], "by hand only");
    w.echo("1", autoprobe);
    assert_eq!(["20.disk", "21.disk"].map(bound), [true, true], "P8: waiting consumers are probed");
    assert!(!bound("40.disk"), "a device that was added meanwhile is not probed, as on Linux");
    w.echo("40.disk", "/sys/bus/platform/drivers_probe");
    assert!(bound("40.disk"));
    w.promises_hold();
}

#[test]
fn reads_and_writes_race_binds_and_removals() {
    let w = Fixture::bound();
    w.hooks.clear();
    let rounds = if cfg!(miri) { 10 } else { 300 };
    thread::scope(|s| {
        for (disk, driver) in [("20.disk", "disk"), ("21.disk", "disk"), ("20.disk", "guest")] {
            let tree = &w.tree;
            s.spawn(move || {
                for n in 0..rounds {
                    let only = if (n / 8) % 2 == 0 { "" } else { driver };
                    let _ = tree.write(&format!("/sys/bus/platform/devices/{disk}/driver_override"), only);
                    let _ = tree.write(&format!("{DRIVERS}/{driver}/bind"), disk);
                    let _ = tree.write(&format!("{GROUP}/type"), if n % 2 == 0 { "identity" } else { "DMA" });
                    let _ = tree.write(&format!("{DRIVERS}/{driver}/unbind"), disk);
                }
            });
        }
        s.spawn(|| {
            for _ in 0..rounds / 10 {
                let _ = w.tree.write(&format!("{DRIVERS}/mirror/unbind"), "10.iommu");
                let _ = w.tree.write("/sys/bus/platform/drivers_probe", "10.iommu");
                w.machine.settle();
                w.machine.remove_device("30.lamp");
                let mut lamp = DeviceDesc::new("30.lamp");
                lamp.parent = w.machine.device("soc").map(|d| d.node());
                // Where threads have no identity, the removal is queued until no thread is inside driver code.
                while w.machine.add_device(lamp.clone()).is_err() {
                    w.machine.run_queued();
                    thread::yield_now();
                }
            }
        });
        s.spawn(|| {
            for _ in 0..rounds / 10 {
                for (path, _) in w.tree.walk() {
                    let _ = w.tree.read(&path);
                }
            }
        });
    });
    w.promises_hold();
    w.echo("10.iommu", "/sys/bus/platform/drivers_probe");
    for disk in ["20.disk", "21.disk"] {
        w.echo("", &format!("/sys/bus/platform/devices/{disk}/driver_override"));
        // An arrival may have bound it again after its last unbind.
        let _ = w.tree.write(&format!("{DRIVERS}/guest/unbind"), disk);
    }
    for disk in ["20.disk", "21.disk"] {
        w.echo(disk, "/sys/bus/platform/drivers_probe");
        assert!(w.has(&format!("{DRIVERS}/disk/{disk}")), "P4: the next bind is like the first");
    }
    w.promises_hold();
}

#[test]
fn a_driver_with_suppress_bind_attrs_has_no_bind_and_unbind_files() {
    let w = Fixture::bound();
    let (dir, lamp) = (format!("{DRIVERS}/lamp"), "30.lamp");
    let holder = || w.machine.device(lamp).unwrap().driver();
    w.machine.register(Lamp);
    w.machine.settle();
    assert_eq!(holder(), Some("lamp"), "it is probed by itself");
    let names: Vec<_> = w.tree.list(&dir).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, [lamp, "uevent"]);
    for file in ["bind", "unbind"] {
        assert_eq!(errno(w.tree.read(&format!("{dir}/{file}"))), Errno::ENOENT, "{file}");
        assert_eq!(errno(w.tree.write(&format!("{dir}/{file}"), lamp)), Errno::ENOENT, "{file}");
        assert_eq!(
            errno(w.tree.write(&format!("/sys/bus/platform/devices/{lamp}/driver/{file}"), lamp)),
            Errno::ENOENT
        );
    }
    assert_eq!(holder(), Some("lamp"));
    let refused = w.tree.write(&format!("{DRIVERS}/disk/unbind"), lamp).unwrap_err();
    assert!(refused.errno == Errno::ENODEV && !refused.why.contains("drivers/lamp/unbind"), "{refused}");
    w.echo("disk", &format!("/sys/bus/platform/devices/{lamp}/driver_override"));
    let refused = w.tree.write(&format!("{DRIVERS}/disk/bind"), lamp).unwrap_err();
    assert!(refused.errno == Errno::EBUSY && !refused.why.contains("drivers/lamp/unbind"), "{refused}");
    w.echo("", &format!("/sys/bus/platform/devices/{lamp}/driver_override"));

    w.machine.unbind(lamp, "lamp").unwrap();
    assert_eq!(holder(), None, "code inside the kernel may unbind it");
    w.echo(lamp, "/sys/bus/platform/drivers_probe");
    assert_eq!(holder(), Some("lamp"));
    w.machine.unregister("lamp");
    assert!(holder().is_none() && !w.has(&dir));
    w.machine.register(Lamp);
    w.machine.settle();
    assert_eq!(holder(), Some("lamp"));
    w.machine.remove_device(lamp);
    assert!(w.machine.device(lamp).is_none() && !w.has(&format!("{dir}/{lamp}")));
    w.promises_hold();
}
