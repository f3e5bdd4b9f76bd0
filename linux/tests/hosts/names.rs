//! Names of devices on the command line.

use crate::common::{Host, gives};

#[test]
fn a_disk_is_found_by_serial_path_and_name() {
    let host = Host::with_disk("f $N/wwid eui.0011223344556677; f sys/bus/pci/slots/4/address 0000:02:00");
    for word in [
        "serial=PHLN9000A1",
        "serial=phln9000a1",
        "wwn=0x0011223344556677",
        "slot=4",
        "8086:0a54",
        "02:00.0",
        "pci/0000:02:00.0",
        "/sys/bus/pci/devices/0000:02:00.0",
        "/sys/class/nvme/nvme0",
        "/sys/block/nvme0n1",
    ] {
        gives(&host.give(word), "0000:02:00.0");
    }
}

#[test]
fn a_card_is_found_by_its_hardware_address() {
    gives(&Host::with_card("down", "").give("mac=02:00:00:04:00:00"), "0000:04:00.0");
}

#[test]
fn twins_are_listed_with_what_tells_them_apart() {
    let host = Host::reported("01-lvm-and-md-not-mounted");
    let said = host.give("8086:0a54");
    assert_eq!(said.exit, 2);
    for name in ["0000:02:00.0", "0000:03:00.0", "PHLN9000A1", "PHLN9000A2", "ambiguous"] {
        assert!(said.text.contains(name), "{}", said.text);
    }
}

#[test]
fn list_and_show_name_users_group_and_reset() {
    let host = Host::reported("13-usb-controller-with-everything");
    host.bindctl("list").names(&["0000:04:00.3", "0000:04:00.4", "xhci_hcd", "sdb1 is mounted on /boot"]);
    host.bindctl("list").does_not_name("0000:00:08.1");
    host.bindctl("list --all").names(&["0000:00:08.1"]);
    let said = host.bindctl("show 04:00.3");
    assert_eq!(said.exit, 0);
    said.names(&["also resets", "sdb1 is mounted on /boot", "enx020000000402"]);
    assert_eq!(said.json["can_be_given"], false);
}

#[test]
fn show_names_who_else_manages_the_device() {
    let lines = "f etc/driverctl.d/0000:04:00.0 vfio-pci; f proc/cmdline 'ro vfio-pci.ids=14e4:1657'
        f etc/libvirt/qemu/web.xml \"<hostdev mode='subsystem' managed='yes'><source><address domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></source></hostdev>\"";
    let said = Host::with_card("down", lines).bindctl("show 04:00.0");
    said.names(&["driverctl", "vfio-pci.ids names 14e4:1657", "libvirt domain web"]);
}

#[test]
fn a_device_without_its_driver_is_found_by_its_own_numbers_and_its_way() {
    // Two cards without a driver: one has vital product data, the other the capability of PCI Express.
    let host = Host::made_by(
        "iommu dmar0; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; RP=$P
         pci $RP 0000:04:00.0 020000 14e4 1657; group 25 DMA-FQ $P; reset_by $P flr
         raw $P/vpd '\\202\\004\\000Card\\220\\020\\000PN\\004AB-1SN\\006X08150\\170'
         pci sys/devices/pci0000:00 0000:00:02.0 020000 14e4 1657; group 26 DMA-FQ $P; reset_by $P flr
         printf '\\003\\000\\001\\000\\167\\146\\125\\104\\063\\042\\021\\000' >>$R/$P/config
         head -c 3828 /dev/zero >>$R/$P/config",
    );
    assert_eq!(host.give("path=0000:00/1c.0/00.0").json["devices"][0]["device"], "0000:04:00.0");
    assert_eq!(host.give("serial=X08150").json["devices"][0]["device"], "0000:04:00.0");
    assert_eq!(host.give("serial=00-11-22-33-44-55-66-77").json["devices"][0]["device"], "0000:00:02.0");
    let twins = host.give("14e4:1657");
    assert_eq!(twins.exit, 2);
    for name in ["X08150", "00-11-22-33-44-55-66-77"] {
        assert!(twins.text.contains(name), "{}", twins.text);
    }
    host.bindctl("show 0000:04:00.0").names(&["0000:00/1c.0/00.0", "X08150", "AB-1", "Card"]);
}

#[test]
fn show_names_what_the_configuration_of_modprobe_gives_away() {
    let lines = "f etc/modprobe.d/vfio.conf 'options vfio-pci ids=10de:1b80,14e4:1657 disable_vga=1'
        f usr/lib/modprobe.d/vfio.conf 'options vfio-pci ids=1234:5678'";
    let said = Host::with_card("down", lines).bindctl("show 04:00.0");
    said.names(&["/etc/modprobe.d/vfio.conf names 14e4:1657"]);
}
