//! Situations from public reports, by the reports' subjects.

use crate::common::{Host, gives};

#[test]
fn r01_lvm_and_md_not_mounted() {
    let host = Host::reported("01-lvm-and-md-not-mounted");
    host.give("0000:02:00.0").refused(4, &["nvme0n1", "dm-0 (vg0-srv)", "/srv"]);
    host.give("0000:03:00.0").refused(4, &["nvme1n1p1", "md127 (active raid1)", "mounted nowhere"]);
    let forced = host.give("0000:03:00.0 --force-in-use 0000:03:00.0");
    gives(&forced, "0000:03:00.0");
    forced.names(&["md127 (active raid1)", "overridden"]);
}

#[test]
fn r03_nvme_multipath_head() {
    let host = Host::reported("03-nvme-multipath-head");
    for (device, other) in [("0000:81:00.0", "0000:82:00.0"), ("0000:82:00.0", "0000:81:00.0")] {
        host.give(device).refused(4, &["nvme2n1p2 is mounted on /", "nvme2n1p1 is mounted on /boot/efi", other]);
    }
}

#[test]
fn r05_vf_in_other_netns() {
    let host = Host::reported("05-vf-in-other-netns");
    host.give("0000:3b:01.0").refused(
        4,
        &["iavf is bound", "net/ is empty", "another network namespace", "process 4242 (router)", "an interface net1"],
    );
    gives(&host.give("0000:3b:01.1"), "0000:3b:01.1");
    host.give("0000:3b:00.0").refused(4, &["default route goes over ens3f0", "0000:3b:01.0", "0000:3b:01.1"]);
}

#[test]
fn r08_stale_vfio_node() {
    let host = Host::reported("08-stale-vfio-node");
    host.give("0000:91:03.2").refused(
        3,
        &[
            "already on vfio-pci",
            "/dev/vfio/141 is 510:2, the kernel says 510:7",
            "510:2 is group 142",
            "vpp_main, 6001",
        ],
    );
    let take = host.bindctl("plan --to host 0000:91:03.3");
    take.refused(4, &["vpp_main (6001)", "/dev/vfio/142", "/sys/devices/pci0000:90/0000:90:02.0/0000:91:03.3"]);
}

#[test]
fn r09_firmware_reserved_memory() {
    let host = Host::reported("09-firmware-reserved-memory");
    host.give("0000:04:00.1").refused(5, &["reserved region 0xbddde000-0xbdddefff, type direct", "group 26"]);
    let relaxable = host.give("0000:00:1d.0");
    gives(&relaxable, "0000:00:1d.0");
    relaxable.names(&["direct-relaxable"]);
    host.give("0000:04:00.0").refused(4, &["default route goes over eno1", "type direct"]);
}

#[test]
fn r11_no_iommu_in_a_vm() {
    let host = Host::reported("11-no-iommu-in-a-vm");
    host.give("0000:00:04.0").refused(5, &["no IOMMU on this machine", "class/iommu", "virtual IOMMU", "--noiommu"]);
    let without = host.give("0000:00:04.0 --noiommu");
    gives(&without, "0000:00:04.0");
    without.names(&["/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"]);
    assert_eq!(without.json["preconditions"][0]["met"], false);
    assert_eq!(without.json["preconditions"][0]["actual"], "N");
    assert_eq!(without.undo().last().unwrap(), "0000:00:04.0 bind to virtio-pci");
    host.give("0000:00:03.0").refused(4, &["default route goes over ens3", "no IOMMU on this machine"]);
}

#[test]
fn r12_pf_with_live_vfs() {
    let host = Host::reported("12-pf-with-live-vfs");
    host.give("0000:17:00.0")
        .refused(4, &["0000:17:00.2 is held by qemu-system-x86 (5120)", "default route goes over ens1f0np0"]);
    gives(&host.give("0000:17:00.4"), "0000:17:00.4");
    let driverless = host.give("0000:17:00.5");
    driverless.planned(&[
        "0000:17:00.5 driver_override",
        "0000:17:00.5 bind",
        "0000:17:00.5 verify-driver",
        "0000:17:00.5 verify-node",
    ]);
    assert_eq!(driverless.undo().last().unwrap(), "0000:17:00.5 driver_override cleared");

    std::fs::remove_dir_all(host.path().join("proc/5120")).unwrap();
    host.run("route_head");
    // With a function in a guest's hands, the physical one is not to be had, however idle it is itself.
    host.run("proc 5120 qemu-system-x86; fd 5120 31 /dev/vfio/82");
    let list = host.bindctl("list");
    let row = list.text.lines().find(|line| line.contains("0000:17:00.0")).unwrap();
    assert!(row.contains("no: 0000:17:00.2 is held by qemu-system-x86 (5120)"), "{row}");
    std::fs::remove_dir_all(host.path().join("proc/5120")).unwrap();
    let whole = host.give("0000:17:00.0 --force-in-use 0000:17:00.0");
    whole.planned(&[
        "0000:17:00.2 unbind",
        "0000:17:00.3 unbind",
        "0000:17:00.4 unbind",
        "0000:17:00.0 sriov_numvfs",
        "0000:17:00.0 driver_override",
        "0000:17:00.0 unbind",
        "0000:17:00.0 bind",
        "0000:17:00.0 verify-driver",
        "0000:17:00.0 verify-node",
    ]);
    assert_eq!(
        whole.undo(),
        [
            "0000:17:00.0 unbind from vfio-pci",
            "0000:17:00.0 driver_override cleared",
            "0000:17:00.0 bind to mlx5_core",
            "0000:17:00.0 sriov_numvfs 0 to 4",
            "0000:17:00.4 bind to mlx5_core",
            "0000:17:00.3 driver_override vfio-pci",
            "0000:17:00.3 bind to vfio-pci",
            "0000:17:00.2 driver_override vfio-pci",
            "0000:17:00.2 bind to vfio-pci",
        ]
    );
}

#[test]
fn r13_usb_controller_with_everything() {
    let host = Host::reported("13-usb-controller-with-everything");
    host.give("0000:04:00.3").refused(
        4,
        &[
            "sdb1 is mounted on /boot",
            "default route goes over enx020000000402",
            "/dev/input/event5 is held by systemd-logind (801)",
        ],
    );
    let empty = host.give("0000:04:00.4");
    gives(&empty, "0000:04:00.4");
    empty.names(&["only reset method of 0000:04:00.4 is \"bus\"", "also resets 0000:04:00.3"]);
}

#[test]
fn r17_data_on_it_but_nobody_uses_it() {
    let host = Host::reported("17-data-on-it-but-nobody-uses-it");
    let said = host.give("0000:5e:00.0");
    gives(&said, "0000:5e:00.0");
    let warnings = said.json["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    said.names(&["nvme0n1 carries an ext4 file system (6b1d0000-", "flr, bus"]);
    assert_eq!(said.json["devices"][0]["group_size"], 1);
    assert_eq!(
        said.undo(),
        ["0000:5e:00.0 unbind from vfio-pci", "0000:5e:00.0 driver_override cleared", "0000:5e:00.0 bind to nvme"]
    );
    said.names(&["nvme0", "nvme0n1", "PHAX0001", "disk/by-id/nvme-Example_P5510_PHAX0001"]);
}
