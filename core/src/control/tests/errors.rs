//! Refusals: error numbers and texts.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::fixture::{DISK, DRIVERS, Fixture, GROUP, Lamp, errno};
use crate::control::{OpenFlags, PAGE};
use crate::device::DeviceDesc;
use crate::driver::{Errno, Missing, ProbeError};

#[test]
fn bind_refuses_with_linuxs_error_numbers() {
    let w = Fixture::waiting();
    let bind = |driver: &str, device: &str| errno(w.tree.write(&format!("{DRIVERS}/{driver}/bind"), device));
    assert_eq!(bind("disk", "99.disk"), Errno::ENODEV, "no such device");
    assert_eq!(bind("disk", "\n"), Errno::ENODEV, "no name");
    assert_eq!(w.tree.write(&format!("{DRIVERS}/disk/bind"), ""), Ok(0), "an empty write does nothing");
    assert_eq!(bind("disk", " 20.disk"), Errno::ENODEV, "a name is not trimmed");
    assert_eq!(bind("disk", "20.disk\n\n"), Errno::ENODEV, "one newline, not two");
    assert_eq!(bind("disk", "30.lamp"), Errno::ENODEV, "no match");
    assert_eq!(bind("guest", "20.disk"), Errno::ENODEV, "no match without driver_override");
    assert_eq!(bind("disk", "20.disk"), Errno::EAGAIN, "deferred");
    w.mirror();
    assert_eq!(bind("disk", "20.disk\n"), Errno::EBUSY, "held");
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    for (answer, number) in [
        (ProbeError::Device("no spin-up"), Errno::EIO),
        (ProbeError::NoDevice, Errno::ENODEV),
        (ProbeError::Dma(crate::dma::DmaError::Quarantined(1)), Errno::ENOMEM),
    ] {
        *w.hooks.answer.lock().unwrap() = Some(answer);
        assert_eq!(bind("disk", "20.disk"), number, "the driver's own error");
    }
    let lamp = w.machine.device("30.lamp").unwrap().node();
    *w.hooks.answer.lock().unwrap() = Some(ProbeError::Defer { on: Missing::Node(lamp) });
    assert_eq!(bind("disk", "20.disk"), Errno::EAGAIN, "the driver deferred");
    *w.hooks.answer.lock().unwrap() = None;
    assert_eq!(w.machine.settle().attempts, 0, "a bind by hand is not queued");
    w.tree.write(&format!("{DRIVERS}/disk/bind"), "20.disk").unwrap();
    w.promises_hold();
}

/// As on Linux (`driver_sysfs_add`): the device is there, and no driver whose directory has a file of its name binds it.
#[test]
fn a_device_named_like_a_file_of_its_drivers_directory_stays_unbound_and_says_why() {
    let w = Fixture::bound();
    w.machine.register(Lamp);
    let before = w.machine.resource_usage();
    for name in ["bind", "unbind", "module"] {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push("acme,disk".into());
        w.machine.add_device(desc).unwrap();
    }
    w.machine.settle();
    let driver = |name: &str| w.machine.device(name).unwrap().driver();
    assert_eq!(driver("module"), Some("disk"), "as for a driver that is built into a kernel before 7.0");
    w.machine.remove_device("module");
    for name in ["bind", "unbind"] {
        assert_eq!(driver(name), None);
        assert!(w.has(&format!("/sys/bus/platform/devices/{name}")), "it is there");
        assert!(!w.has(&format!("/sys/devices/platform/{name}/driver")));
        let listed = w.tree.list(&format!("{DRIVERS}/disk")).unwrap();
        assert_eq!(listed.iter().filter(|e| e.name == name).count(), 1, "the file keeps its name");
        let deferred = w.cat("/sys/kernel/bindery/deferred");
        let line = deferred
            .lines()
            .find(|line| line.starts_with(&format!("{name}\t")) || line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.contains("disk") && line.contains("a file called")), "{deferred}");
        let refused = w.tree.write(&format!("{DRIVERS}/disk/bind"), name).unwrap_err();
        assert!(refused.errno == Errno::EEXIST && refused.why.contains(name), "{refused}");
        assert_eq!(errno(w.tree.write("/sys/bus/platform/drivers_probe", name)), Errno::EINVAL);
        // A driver without these files has no such name in its directory.
        w.echo("lamp", &format!("/sys/bus/platform/devices/{name}/driver_override"));
        w.echo(name, "/sys/bus/platform/drivers_probe");
        assert_eq!(driver(name), Some("lamp"));
        w.machine.remove_device(name);
    }
    for name in ["power", "uevent"] {
        let refused = w.machine.add_device(DeviceDesc::new(name)).unwrap_err().to_string();
        assert!(refused.contains(name), "Linux has it in /sys/devices/platform: {refused}");
    }
    w.machine.unregister("lamp");
    w.machine.settle();
    assert_eq!(w.machine.resource_usage(), before, "nothing is lost");
    w.promises_hold();
}

#[test]
fn unbind_acts_on_devices_of_the_named_driver_only() {
    let w = Fixture::bound();
    let unbind = |driver: &str, device: &str| errno(w.tree.write(&format!("{DRIVERS}/{driver}/unbind"), device));
    assert_eq!(unbind("guest", "20.disk"), Errno::ENODEV);
    assert_eq!(unbind("disk", "30.lamp"), Errno::ENODEV);
    assert_eq!(unbind("disk", "99.disk"), Errno::ENODEV);
    w.tree.write(&format!("{DRIVERS}/disk/unbind"), "20.disk\n").unwrap();
    assert_eq!(unbind("disk", "20.disk"), Errno::ENODEV, "unbound already");
    assert_eq!(w.machine.device("21.disk").unwrap().driver(), Some("disk"), "and nothing else was");
}

#[test]
fn drivers_probe_fails_for_an_unknown_device_and_a_missing_supplier_only() {
    let w = Fixture::waiting();
    let probe = |device: &str| w.tree.write("/sys/bus/platform/drivers_probe", device);
    assert_eq!(errno(probe("99.disk")), Errno::ENODEV);
    assert_eq!(errno(probe("20.disk")), Errno::EINVAL, "a supplier is missing");
    probe("30.lamp\n").expect("nothing matched");
    w.mirror();
    probe("20.disk").expect("bound already");
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    *w.hooks.answer.lock().unwrap() = Some(ProbeError::Device("no spin-up"));
    probe("20.disk").expect("the driver's own error is no error of the write");
    let kinds = w.env.event_kinds("20.disk");
    let said = |k: &crate::event::EventKind| format!("{k}").contains("no spin-up");
    assert!(kinds.iter().any(said), "an event has it: {kinds:?}");
    *w.hooks.answer.lock().unwrap() = Some(ProbeError::NoDevice);
    probe("20.disk").expect("the driver does not support the device");
    *w.hooks.answer.lock().unwrap() = None;
    probe("20.disk").unwrap();
    assert_eq!(w.machine.device("20.disk").unwrap().driver(), Some("disk"));
}

#[test]
fn driver_override_is_shorter_than_a_page() {
    let w = Fixture::bound();
    let path = format!("{DISK}/driver_override");
    let long = |n: usize| "x".repeat(n);
    assert_eq!(errno(w.tree.write(&path, &long(PAGE - 1))), Errno::EINVAL);
    assert_eq!(errno(w.tree.write(&path, &long(1 << 20))), Errno::EINVAL);
    assert_eq!(w.cat(&path), "(null)\n", "a refused write changes nothing");
    w.tree.write(&path, &long(PAGE - 2)).unwrap();
    assert_eq!(w.cat(&path).len(), PAGE - 1);
    for (value, read) in [
        ("guest", "guest\n"),
        ("", "guest\n"),
        ("a\nb", "a\n"),
        ("a\0b\n", "a\n"),
        ("\n", "(null)\n"),
        ("", "(null)\n"),
    ] {
        w.tree.write(&path, value).unwrap();
        assert_eq!(w.cat(&path), read, "{value:?}");
    }
    assert_eq!(w.machine.device("20.disk").unwrap().driver(), Some("disk"), "it unbinds nothing");
}

#[test]
fn group_type_is_refused_for_unknown_types_owned_groups_and_unsupported_domains() {
    let w = Fixture::bound();
    let path = format!("{GROUP}/type");
    let write = |word: &str| w.tree.write(&path, word);
    assert_eq!(errno(write("dma")), Errno::EINVAL);
    assert_eq!(write(""), Ok(0), "an empty write does nothing");
    assert_eq!(errno(write("\n")), Errno::EINVAL);
    assert_eq!(errno(write("blocked")), Errno::EINVAL, "a type that is shown cannot always be written");
    assert_eq!(errno(write("identity")), Errno::EPERM, "owned");
    let refused = write("DMA-FQ").unwrap_err();
    assert_eq!(refused.errno, Errno::EPERM, "P7: not even to lazy");
    assert!(refused.why.contains("20.disk, 21.disk"), "{refused}");
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    assert_eq!(errno(write("identity")), Errno::EPERM, "one member is enough");
    w.echo("21.disk", &format!("{DRIVERS}/disk/unbind"));
    assert_eq!(errno(write("DMA-FQ")), Errno::EINVAL, "this IOMMU has no lazy domains");
    assert_eq!(w.cat(&path), "DMA\n");
    write("identity\n").unwrap();
    assert_eq!(w.cat(&path), "identity\n");
    write("auto").unwrap();
    assert_eq!(w.cat(&path), "DMA\n");
}

#[test]
fn a_synthetic_uevent_needs_a_known_action() {
    let w = Fixture::bound();
    let uuid = "12345678-9abc-def0-1234-56789abcdef0";
    for path in [format!("{DISK}/uevent"), format!("{DRIVERS}/disk/uevent"), "/sys/bus/platform/uevent".into()] {
        for good in ["add", "remove\n", "change", "move", "online", "offline", "bind", "unbind"] {
            w.tree.write(&path, good).unwrap();
        }
        w.tree.write(&path, &format!("add {uuid} A=1 B2=two\n")).unwrap();
        assert_eq!(w.tree.write(&path, ""), Ok(0), "an empty write does nothing");
        let bad = ["\n", "ad", "added", "ADD", "add ", "add 1", "add\n\n", &format!("add {uuid}x")];
        for bad in bad
            .map(String::from)
            .into_iter()
            .chain(["A", "=1", "A=", "A=b=c", "A=-", "", "A=1 "].map(|args| format!("add {uuid} {args}")))
        {
            assert_eq!(errno(w.tree.write(&path, &bad)), Errno::EINVAL, "{bad:?}");
        }
    }
    let events = w.env.event_kinds("20.disk");
    let asked = events.iter().rev().find_map(|k| match k {
        crate::event::EventKind::Uevent { action, path, env } => Some((*action, path.clone(), env.clone())),
        _ => None,
    });
    let env = [format!("SYNTH_UUID={uuid}"), "SYNTH_ARG_A=1".into(), "SYNTH_ARG_B2=two".into()];
    assert_eq!(asked, Some(("add", "/devices/platform/soc/20.disk".into(), env.into())));
}

#[test]
fn paths_that_name_nothing_are_enoent() {
    let w = Fixture::bound();
    let deep = format!("/sys{}", "/devices".repeat(100));
    let long = format!("/sys/{}", "x".repeat(4000));
    for path in [
        "",
        "/",
        "sys",
        "sys/bus",
        "/sysfs",
        "/sys/..",
        "/sys/../proc",
        "/sys/\0",
        "/sys/nothing/../bus",
        "/sys/bus/platform/devices/99.disk",
        "/sys/kernel/iommu_groups/00",
        "/sys/kernel/iommu_groups/-1",
        "/sys/kernel/iommu_groups/4294967296",
        "/sys/class/devlink/platform:20.disk--platform:10.iommu",
        "/sys/class/devlink/--",
        "/proc/self",
        "\u{1f4be}",
        "/sys/devices/platform/20.disk",
        "/sys/devices/platform/soc/soc",
        &deep,
        &long,
    ] {
        assert_eq!(errno(w.tree.read(path)), Errno::ENOENT, "{path:.80}");
        assert_eq!(errno(w.tree.write(path, "x")), Errno::ENOENT, "{path:.80}");
        assert_eq!(errno(w.tree.list(path)), Errno::ENOENT, "{path:.80}");
        assert_eq!(errno(w.tree.read_link(path)), Errno::ENOENT, "{path:.80}");
    }
    assert!(w.tree.read(&long).unwrap_err().path.len() < 300, "the path in an error is truncated");
    for length in [4095, 4096, 1 << 20] {
        let path = format!("/sys/{}", "y".repeat(length - 5));
        let expected = if length < 4096 { Errno::ENOENT } else { Errno::ENAMETOOLONG };
        assert_eq!(errno(w.tree.read(&path)), expected, "{length} bytes");
        assert_eq!(errno(w.tree.write(&path, "x")), expected, "{length} bytes");
        assert_eq!(errno(w.tree.list(&path)), expected, "{length} bytes");
        assert_eq!(errno(w.tree.read_link(&path)), expected, "{length} bytes");
    }
    assert!(w.control_events().iter().all(|(path, _, _)| path.len() < PAGE + 4));
}

#[test]
fn paths_are_resolved_as_linux_does() {
    let w = Fixture::bound();
    let uevent = w.cat(&format!("{DISK}/uevent"));
    for path in [
        "/sys/bus/platform/devices/20.disk/uevent",
        "//sys///bus/platform/./devices/20.disk/uevent",
        "/sys/bus/../bus/platform/devices/20.disk/uevent",
        "/sys/../sys/bus/platform/devices/20.disk/uevent",
        "/sys/bus/platform/devices/20.disk/../20.disk/uevent",
        "/sys/bus/platform/drivers/disk/20.disk/../21.disk/../20.disk/uevent",
        "/sys/bus/platform/devices/20.disk/of_node/../../../../../devices/platform/soc/20.disk/uevent",
    ] {
        assert_eq!(w.cat(path), uevent, "{path}");
    }
    let devices = "/sys/bus/platform/devices";
    assert_eq!(
        w.tree.list(&format!("{devices}/20.disk/..")),
        w.tree.list("/sys/devices/platform/soc"),
        "of its target"
    );
    assert_eq!(errno(w.tree.read(&format!("{devices}/20.disk/driver/../drivers_autoprobe"))), Errno::ENOENT);
    assert_eq!(w.cat(&format!("{devices}/20.disk/driver/../../drivers_autoprobe")), "1\n");
    assert_eq!(w.tree.list(&format!("{devices}/20.disk/")), w.tree.list(DISK));
    assert_eq!(errno(w.tree.read_link(&format!("{devices}/20.disk/"))), Errno::EINVAL, "the slash follows the link");
    for path in ["uevent/", "uevent/x", "uevent/.."] {
        assert_eq!(errno(w.tree.read(&format!("{DISK}/{path}"))), Errno::ENOTDIR, "{path}");
    }
}

#[test]
fn a_shells_redirection_answers_as_open_does() {
    let w = Fixture::bound();
    let refused = |path: &str, flags| w.tree.open(path, flags).unwrap_err().errno;
    for flags in [OpenFlags::REDIRECT, OpenFlags::REDIRECT_APPEND] {
        assert_eq!(refused(&format!("{DISK}/nothing"), flags), Errno::EACCES, "nothing can be created");
        assert_eq!(refused(&format!("{DISK}/nothing/x"), flags), Errno::ENOENT, "there is no such directory");
        assert_eq!(refused(&format!("{DISK}/nothing/"), flags), Errno::EISDIR);
        assert_eq!(refused(&format!("{DISK}/uevent/"), flags), Errno::EISDIR);
        assert_eq!(refused(&format!("{DISK}/uevent/x"), flags), Errno::ENOTDIR);
        assert_eq!(refused(DISK, flags), Errno::EISDIR);
        assert_eq!(refused(&format!("{DISK}/modalias"), flags), Errno::EACCES);
        let mut file = w.tree.open(&format!("{DISK}/driver_override"), flags).unwrap();
        assert_eq!((file.write(b""), file.write(b"one\n"), file.write(b"two\n")), (Ok(0), Ok(4), Ok(4)));
        assert_eq!(file.read(0, 9).unwrap_err().errno, Errno::EACCES);
    }
    assert_eq!(refused(&format!("{DISK}/nothing"), OpenFlags::WRITE), Errno::ENOENT);
    // A file of debugfs can be opened, and refuses the write.
    let mut file = w.tree.open("/sys/kernel/debug/devices_deferred", OpenFlags::REDIRECT).unwrap();
    assert_eq!(file.write(b"x").unwrap_err().errno, Errno::EINVAL);
}

#[test]
fn an_open_file_reads_one_version_and_fails_when_its_device_is_gone() {
    let w = Fixture::bound();
    let both = OpenFlags::READ | OpenFlags::WRITE;
    let mut file = w.tree.open(&format!("{DISK}/driver_override"), both).unwrap();
    assert_eq!(file.write(b"\xff\xfe\n"), Ok(3));
    assert_eq!(file.read(0, 1).unwrap(), b"\xff", "any bytes");
    file.write(b"guest\n").unwrap();
    assert_eq!(file.read(1, 9).unwrap(), b"\xfe\n", "the version of the read at 0");
    assert_eq!((file.read(0, 9).unwrap(), file.read(6, 9).unwrap()), (b"guest\n".to_vec(), Vec::new()));
    assert_eq!(file.write(&[b'9'; PAGE + 1]).unwrap_err().errno, Errno::EINVAL);
    let autoprobe = "/sys/bus/platform/drivers_autoprobe";
    assert_eq!(w.tree.write(autoprobe, &"9".repeat(PAGE + 1)), Ok(PAGE), "a page counts");
    w.machine.remove_device("20.disk");
    assert_eq!(file.read(0, 9).unwrap_err().errno, Errno::ENODEV);
    assert_eq!(file.write(b"x").unwrap_err().errno, Errno::ENODEV);
}

#[test]
fn files_directories_and_links_have_their_own_error_numbers() {
    let w = Fixture::bound();
    assert_eq!(errno(w.tree.read("/sys")), Errno::EISDIR);
    assert_eq!(errno(w.tree.read(&format!("{DISK}/driver"))), Errno::EISDIR);
    assert_eq!(errno(w.tree.write(DISK, "x")), Errno::EISDIR);
    assert_eq!(errno(w.tree.list(&format!("{DISK}/uevent"))), Errno::ENOTDIR);
    assert_eq!(errno(w.tree.read(&format!("{DISK}/uevent/x"))), Errno::ENOTDIR);
    assert_eq!(errno(w.tree.read_link(DISK)), Errno::EINVAL);
    assert_eq!(errno(w.tree.read_link(&format!("{DISK}/uevent"))), Errno::EINVAL);
    assert_eq!(errno(w.tree.read(&format!("{DRIVERS}/disk/bind"))), Errno::EACCES);
    assert_eq!(errno(w.tree.read("/sys/bus/platform/drivers_probe")), Errno::EACCES);
    assert_eq!(errno(w.tree.write(&format!("{DISK}/modalias"), "x")), Errno::EACCES);
    assert_eq!(errno(w.tree.write("/sys/kernel/bindery/promises", "")), Errno::EACCES);
}

#[test]
fn a_refusal_names_a_remedy() {
    let w = Fixture::bound();
    let why = |path: &str, value: &str| format!("{}", w.tree.write(path, value).unwrap_err());
    assert_eq!(
        why(&format!("{DRIVERS}/disk/bind"), "20.disk"),
        format!("{DRIVERS}/disk/bind: 20.disk is held by disk; write 20.disk to drivers/disk/unbind first (EBUSY)")
    );
    assert!(why(&format!("{DRIVERS}/guest/bind"), "20.disk").contains("write guest to the device's driver_override"));
    assert!(why(&format!("{DRIVERS}/guest/unbind"), "20.disk").contains("but by disk"));
    w.echo("none", &format!("{DISK}/driver_override"));
    w.echo("20.disk", &format!("{DRIVERS}/disk/unbind"));
    assert!(why(&format!("{DRIVERS}/disk/bind"), "20.disk").contains("its driver_override allows only none"));
}

#[test]
fn every_write_emits_an_event_with_its_result() {
    let w = Fixture::bound();
    let _ = w.tree.write(&format!("{DRIVERS}/disk/bind"), "20.disk\n");
    let _ = w.tree.write("/sys/nowhere", "1");
    w.tree.write(&format!("{DISK}/driver_override"), "guest").unwrap();
    let events: Vec<_> =
        w.control_events().into_iter().map(|(_, value, result)| format!("{value:?} {result}")).collect();
    assert_eq!(events, ["\"20.disk\\n\" EBUSY", "\"1\" ENOENT", "\"guest\" ok"]);
}

#[test]
fn a_device_whose_name_is_not_a_valid_file_name_is_refused() {
    let w = Fixture::waiting();
    for name in ["", ".", "..", "a/b", "a\nb", "a\0"] {
        assert!(w.machine.add_device(DeviceDesc::new(name)).is_err(), "{name:?}");
    }
}
