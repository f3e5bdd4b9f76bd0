//! Holders of devices on VFIO.

use crate::common::Host;

const DEVICE: &str = "0000:04:00.0";

fn given(lines: &str) -> Host {
    Host::made_by(&format!(
        "iommu dmar0; drv pci tg3 tg3; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
         pci $RP 0000:04:00.0 020000 14e4 1657; bind $P pci vfio-pci; f $P/driver_override vfio-pci
         group 25 DMA-FQ $P; vfio_node 25 4 $P; {lines}"
    ))
}

fn take(host: &Host) -> crate::common::Said {
    host.bindctl(&format!("plan --to host {DEVICE}"))
}

#[test]
fn a_device_that_nobody_holds_goes_back() {
    let said = take(&given(""));
    said.planned(&["0000:04:00.0 driver_override", "0000:04:00.0 unbind", "0000:04:00.0 drivers_probe"]);
}

#[test]
fn a_holder_of_the_device_node_is_found() {
    take(&given("proc 70 vmm; fd 70 9 /dev/vfio/devices/vfio4")).refused(4, &["vmm (70)", "/dev/vfio/devices/vfio4"]);
}

#[test]
fn a_holder_by_fdinfo_alone_is_found() {
    let lines = "proc 70 vmm; fd 70 9 'anon_inode:[vfio-device]'
        raw proc/70/fdinfo/9 \"pos:\\t0\\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:1c.0/0000:04:00.0\\n\"";
    take(&given(lines)).refused(4, &["vmm (70)", "fdinfo"]);
}

#[test]
fn a_descriptor_that_names_no_device_is_not_told_idle() {
    let lines = "proc 70 vmm; fd 70 9 'anon_inode:[vfio-device]'";
    take(&given(lines)).refused(4, &["vmm (70) holds a VFIO device", "does not say which"]);
}

#[test]
fn a_descriptor_of_another_device_is_no_holder() {
    let lines = "pci $RP 0000:05:00.0 020000 14e4 1657; bind $P pci vfio-pci; group 26 DMA-FQ $P; vfio_node 26 5 $P
        proc 70 vmm; fd 70 8 /dev/vfio/26; fd 70 9 'anon_inode:[vfio-device]'";
    assert_eq!(take(&given(lines)).exit, 0);
}

#[test]
fn a_sibling_that_a_guest_holds_keeps_host_drivers_out() {
    let lines =
        "pci $RP 0000:04:00.1 020000 14e4 1657; bind $P pci vfio-pci; link $P/iommu_group sys/kernel/iommu_groups/25
        link sys/kernel/iommu_groups/25/devices/0000:04:00.1 $P; f $P/vfio-dev/vfio5/dev 511:5
        node dev/vfio/devices/vfio5 c 511 5; proc 70 vmm; fd 70 9 /dev/vfio/devices/vfio5";
    take(&given(lines)).refused(5, &["0000:04:00.1 of the same group (25) is held by vmm (70)"]);
}

#[test]
fn a_stale_device_node_is_told() {
    let said = given("node dev/vfio/devices/vfio4 c 511 99").give(DEVICE);
    said.refused(3, &["/dev/vfio/devices/vfio4 is 511:99, the kernel says 511:4"]);
}

#[test]
fn a_given_device_is_nothing_to_do() {
    let said = given("").give(DEVICE);
    assert_eq!((said.exit, said.json["outcome"].as_str()), (0, Some("nothing to do")));
}

#[test]
fn holders_that_show_no_descriptor_are_not_told_idle() {
    let used = "f sys/module/vfio_pci/refcnt 1";
    let mapped = "proc 70 vmm; raw proc/70/maps '7f00-7f01 rw-s 0 00:0e 1 anon_inode:[vfio-device]\\n'";
    take(&given(&format!("{used}; {mapped}"))).refused(4, &["vmm (70) has memory of a VFIO device mapped"]);
    take(&given(&format!("{used}; proc 71 vhost-70"))).refused(4, &["vhost-70 (71) still works for process 70"]);
    take(&given(&format!("{used}; proc 70 qemu Z"))).refused(4, &["qemu (70) has ended and is not gone"]);
    assert_eq!(take(&given(&format!("{used}; proc 70 qemu S"))).exit, 0);
}

#[test]
fn an_unbind_that_is_under_way_is_told_and_not_joined() {
    let lines = "proc 88 tee D; fd 88 3 /sys/bus/pci/drivers/vfio-pci/unbind";
    take(&given(lines)).refused(4, &["unbind of a device of this driver is under way", "tee (88)", "state D"]);
    let other = "proc 88 tee D; fd 88 3 /sys/bus/pci/drivers/nvme/unbind";
    assert_eq!(take(&given(other)).exit, 0);
    // The link to the driver is gone already while the kernel waits for the device's holder.
    let gone = format!("{}; rm $R/$P/driver", lines.replace("tee D", "tee S"));
    take(&given(&gone))
        .refused(4, &["unbind of a device of this bus, which may be this one, is under way", "tee (88)"]);
}

#[test]
fn nodes_that_were_somebodys_are_given_back() {
    let host = Host::with_card(
        "down",
        "rm -r $R/$P/driver $R/$P/net $R/sys/class/net/eth9; bind $P pci vfio-pci; vfio_node 25 7 $P",
    );
    let said = host.bindctl("give 0000:04:00.0 --dry-run --owner 4711");
    assert_eq!(said.exit, 0, "{}", said.text);
    let undo = said.undo();
    assert!(undo.iter().any(|u| u.contains("give the nodes in /dev/vfio to user")), "{undo:?}");
    assert!(undo.iter().all(|u| !u.contains("4711")), "to whom they belonged: {undo:?}");
}

#[test]
fn a_device_that_may_sleep_may_do_so_after_a_rollback() {
    let said = Host::with_disk("f $P/power/control auto").give("0000:02:00.0");
    let undo = said.undo();
    let at = |what: &str| undo.iter().position(|u| u.contains(what));
    assert!(at("power/control auto").is_some() && at("power/control auto") < at("bind to nvme"), "{undo:?}");
}
