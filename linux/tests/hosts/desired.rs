//! The desired state of a host.

use crate::common::{Host, Said};

fn apply(host: &Host, text: &str) -> Said {
    let etc = host.path().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("bindctl.toml"), text).unwrap();
    host.bindctl("apply")
}

fn entry(select: &str, more: &str) -> String {
    format!("version = 1\n\n[[device]]\nselect = \"{select}\"\n{more}\n")
}

#[test]
fn an_entry_becomes_a_plan_and_status_reports_the_drift() {
    let host = Host::with_disk("");
    let said =
        apply(&host, &entry("serial=PHLN9000A1", "expect = \"8086:0a54\"\nserial = \"PHLN9000A1\"\ndriver = \"vfio\""));
    assert_eq!(said.exit, 0, "{}", said.text);
    assert_eq!(said.json["plans"][0]["steps"][0]["do"], "driver_override");
    let status = host.bindctl("status");
    assert_eq!(status.exit, 1, "{}", status.text);
    status.names(&["0000:02:00.0", "vfio", "nvme"]);
    let there = apply(&host, &entry("0000:02:00.0", "expect = \"8086:0a54\"\ndriver = \"host\""));
    assert_eq!(there.json["plans"][0]["outcome"], "nothing to do", "{}", there.text);
    assert_eq!(host.bindctl("status").exit, 0);
}

#[test]
fn a_device_that_was_exchanged_is_noticed_and_not_obeyed() {
    let host = Host::with_disk("");
    let ids = apply(&host, &entry("0000:02:00.0", "expect = \"10de:1234\"\ndriver = \"vfio\""));
    assert_eq!(ids.exit, 3, "{}", ids.text);
    assert!(ids.text.contains("bindctl.toml:5: 0000:02:00.0 is 8086:0a54, not 10de:1234"), "{}", ids.text);
    let serial = "expect = \"8086:0a54\"\nserial = \"OTHER\"\ndriver = \"vfio\"";
    let said = apply(&host, &entry("0000:02:00.0", serial));
    assert_eq!(said.exit, 3);
    assert!(said.text.contains("bindctl.toml:6:") && said.text.contains("PHLN9000A1"), "{}", said.text);
}

#[test]
fn mistakes_in_the_file_change_nothing_and_name_the_line() {
    let host = Host::reported("12-pf-with-live-vfs");
    let listed =
        |select: &str, ids: &str| format!("[[device]]\nselect = \"{select}\"\nexpect = \"{ids}\"\ndriver = \"vfio\"\n");
    let pair = [listed("17:00.0", "15b3:101d"), listed("17:00.4", "15b3:101e")].concat();
    // That the bridge above them stays is no reason for the function to stay.
    let bridge = listed("16:02.0", "8086:347a").replace("vfio", "host");
    let twice = [listed("17:00.4", "15b3:101e"), listed("0000:17:00.4", "15b3:101e")].concat();
    for (text, line) in [
        (format!("version = 1\n{twice}"), ":7: 0000:17:00.4 is listed twice"),
        (format!("version = 1\n{pair}"), ":7: 0000:17:00.4 vanishes"),
        (format!("version = 1\n{bridge}{pair}"), ":11: 0000:17:00.4 vanishes when 0000:17:00.0 leaves"),
        ("version = 1\nspeed = 9\n".into(), ":2: unknown field"),
        ("version = 1\n[[device]]\nselect = \"17:00.4\"\ndriver = \"vfio\"\n".into(), ":3: 0000:17:00.4 needs expect"),
        (format!("version = 1\n{}", listed("99:00.0", "15b3:101e")), ":3: 99:00.0: no such device"),
        ("version = 7\n".into(), ":1: version 7"),
    ] {
        let said = apply(&host, &text);
        assert_eq!(said.exit, 2, "{}", said.text);
        assert!(said.text.contains(line), "{line}: {}", said.text);
    }
    assert_eq!(Host::with_disk("").bindctl("apply").exit, 2, "no file");
}

/// Two functions of a card in one IOMMU group, both on drivers of the host's.
fn pair() -> Host {
    Host::with_card(
        "down",
        "pci $RP 0000:04:00.1 040300 14e4 1658; drv pci snd_hda_intel; bind $P pci snd_hda_intel
         link $P/iommu_group sys/kernel/iommu_groups/25; link sys/kernel/iommu_groups/25/devices/0000:04:00.1 $P",
    )
}

fn both(first: &str, second: &str) -> String {
    let listed = |function: &str, ids: &str, more: &str| {
        format!("[[device]]\nselect = \"0000:04:00.{function}\"\nexpect = \"14e4:{ids}\"\n{more}\n")
    };
    format!("version = 1\n{}{}", listed("0", "1657", first), listed("1", "1658", second))
}

#[test]
fn entries_of_one_group_are_one_plan() {
    let said = apply(&pair(), &both("driver = \"vfio\"\nowner = \"1000\"", "driver = \"vfio\"\nowner = \"1000\""));
    assert_eq!(said.exit, 0, "{}", said.text);
    let plans = said.json["plans"].as_array().unwrap();
    assert_eq!(plans.len(), 1, "{}", said.text);
    assert_eq!(plans[0]["devices"].as_array().unwrap().len(), 2);
    let moves = |device: &str| plans[0]["steps"].as_array().unwrap().iter().filter(|s| s["device"] == device).count();
    assert!(moves("0000:04:00.0") >= 5 && moves("0000:04:00.1") >= 5, "{}", said.text);
}

#[test]
fn entries_of_one_group_that_contradict_each_other_name_both_lines() {
    for (first, second, told) in [
        ("driver = \"vfio\"", "driver = \"host\"", ":9: 0000:04:00.1 is to go to host, and 0000:04:00.0"),
        ("driver = \"tg3\"", "driver = \"vfio\"", ":5: 0000:04:00.0 is to go to tg3, and 0000:04:00.1"),
        ("driver = \"vfio\"\nowner = \"1000\"", "driver = \"vfio\"", ":8: 0000:04:00.1 shares its IOMMU group"),
    ] {
        let said = apply(&pair(), &both(first, second));
        assert_eq!(said.exit, 2, "{}", said.text);
        assert!(said.text.contains(told), "{told}: {}", said.text);
    }
    let alone = apply(&pair(), &both("driver = \"vfio\"", "driver = \"none\""));
    assert_ne!(alone.exit, 2, "{}", alone.text);
}

#[test]
fn a_file_in_another_encoding_is_told_with_its_line() {
    let host = Host::with_disk("");
    let etc = host.path().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("bindctl.toml"), b"version = 1\n# caf\xe9\n").unwrap();
    let said = host.bindctl("apply");
    assert_eq!(said.exit, 2);
    assert!(said.text.contains("bindctl.toml:2: not UTF-8"), "{}", said.text);
}

#[test]
fn one_entry_that_is_refused_keeps_the_others_from_being_begun() {
    let host = Host::reported("01-lvm-and-md-not-mounted");
    host.run("rm -r $R/sys/devices/virtual/block/md127 $R/sys/devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme1/nvme1n1/nvme1n1p1/holders/md127");
    let listed =
        |select: &str| format!("[[device]]\nselect = \"{select}\"\nexpect = \"8086:0a54\"\ndriver = \"vfio\"\n");
    let said = apply(&host, &format!("version = 1\n{}{}", listed("03:00.0"), listed("02:00.0")));
    assert_eq!(said.exit, 4, "{}", said.text);
    said.names(&["/srv"]);
}

#[test]
fn completions_and_manual_name_every_verb() {
    let host = Host::with_disk("");
    for line in ["completions bash", "completions zsh", "completions fish", "man"] {
        let said = host.bindctl(line);
        assert_eq!(said.exit, 0);
        for verb in
            ["list", "show", "plan", "give", "take", "apply", "status", "recover", "watch", "report", "initramfs"]
        {
            assert!(said.text.to_lowercase().contains(verb), "{line}: {verb}");
        }
    }
}

#[test]
fn an_initramfs_gets_what_can_be_done_early() {
    let host = Host::with_disk("");
    std::fs::create_dir_all(host.path().join("etc")).unwrap();
    let file = host.path().join("etc/bindctl.toml");
    let text = "[[device]]\nselect = \"0000:02:00.0\"\nexpect = \"8086:0a54\"\ndriver = \"vfio\"\nowner = \"qemu\"\n";
    let gone = "[[device]]\nselect = \"0000:09:00.0\"\nexpect = \"8086:0a54\"\ndriver = \"vfio\"\n";
    std::fs::write(&file, format!("version = 1\n{text}{gone}")).unwrap();
    let said = host.bindctl("initramfs modules --kernel 6.12");
    assert_eq!((said.exit, said.text.as_str()), (0, "vfio-pci\n"));
    let said = host.bindctl("initramfs state");
    assert!(said.text.contains("select = \"0000:09:00.0\"") && !said.text.contains("qemu"), "{}", said.text);

    // A device that is not there yet does not keep the others from being given, and nothing is given to a user.
    let said = host.bindctl("apply --early");
    assert_eq!(said.exit, 0, "{}", said.text);
    assert!(said.text.contains("left for later") && said.text.contains("0000:09:00.0"), "{}", said.text);
    assert_eq!(said.json["plans"].as_array().map(Vec::len), Some(1));
    assert!(!said.text.contains("give the nodes"), "{}", said.text);
    assert_eq!(host.bindctl("apply").exit, 2, "the running system takes all or nothing");
}

#[test]
fn early_a_device_that_cannot_be_told_from_its_twin_is_left_alone() {
    let lines =
        "[[device]]\nselect = \"0000:02:00.0\"\nexpect = \"8086:0a54\"\nserial = \"PHLN9000A1\"\ndriver = \"vfio\"\n";
    let host = Host::with_disk("rm -r $R/$P/nvme $R/$P/driver");
    std::fs::create_dir_all(host.path().join("etc")).unwrap();
    std::fs::write(host.path().join("etc/bindctl.toml"), format!("version = 1\n{lines}")).unwrap();
    let said = host.bindctl("apply --early");
    assert_eq!(said.json["plans"].as_array().map(Vec::len), Some(0), "{}", said.text);
    assert!(said.text.contains("bindctl.toml:3: the serial number of 0000:02:00.0 cannot be read"), "{}", said.text);
}

#[test]
fn an_image_is_made_where_no_host_is_mounted() {
    let host = Host::made_by("rm -r $R/sys $R/proc");
    std::fs::create_dir_all(host.path().join("etc")).unwrap();
    let text = "version = 1\n[[device]]\nselect = \"0000:02:00.0\"\nexpect = \"8086:0a54\"\ndriver = \"vfio\"\n";
    std::fs::write(host.path().join("etc/bindctl.toml"), text).unwrap();
    assert_eq!(host.bindctl("initramfs modules --kernel 6.12").text, "vfio-pci\n");
    assert_eq!(host.bindctl("initramfs state").exit, 0);
    assert_eq!(host.bindctl("apply").exit, 2, "all else needs a host");
}
