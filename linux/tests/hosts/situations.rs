//! Hosts as people describe them when a hand-over has gone wrong, each with the outcome that they wanted.

use crate::common::{Host, gives};

const DISK: &str = "0000:02:00.0";
const CARD: &str = "0000:04:00.0";

/// A function of a display adapter and its sound function, in one group.
fn display(lines: &str) -> Host {
    Host::made_by(&format!(
        "iommu dmar0; drv pci amdgpu amdgpu; drv pci snd_hda_intel snd_hda_intel; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:01.0 060400 8086 1901 1; bind $P pci pcieport; RP=$P
         pci $RP 0000:01:00.0 030000 1002 73bf; G=$P; bind $P pci amdgpu; reset_by $P bus
         f $G/drm/card1/dev 226:1; link $G/drm/card1/subsystem sys/class/drm; node dev/dri/card1 c 226 1
         f $G/drm/renderD129/dev 226:129; node dev/dri/renderD129 c 226 129
         pci $RP 0000:01:00.1 040300 1002 ab28; A=$P; bind $P pci snd_hda_intel; reset_by $P bus
         f $A/sound/card1/controlC1/dev 116:7; node dev/snd/controlC1 c 116 7
         group 1 DMA-FQ $RP $G $A
         {lines}"
    ))
}

#[test]
fn a_display_whose_sound_function_stays_is_told_of_it() {
    let host = display("");
    host.give("0000:01:00.0").refused(5, &["0000:01:00.1", "snd_hda_intel", "--hold-siblings"]);
    // Both go as one: both leave before the first gets VFIO's driver.
    let said = host.give("0000:01:00.0 0000:01:00.1");
    let steps: Vec<String> = said.json["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{} {}", s["device"].as_str().unwrap(), s["do"].as_str().unwrap()))
        .collect();
    let at = |what: &str| steps.iter().position(|step| step == what).unwrap_or_else(|| panic!("{what}: {steps:?}"));
    assert!(at("0000:01:00.1 unbind") < at("0000:01:00.0 bind"), "{steps:?}");
    assert!(at("0000:01:00.0 driver_override") < at("0000:01:00.0 unbind"), "{steps:?}");
}

#[test]
fn a_display_and_its_sound_are_named_with_everybody_who_has_them_open() {
    let host = display(
        "proc 900 Xorg; fd 900 12 /dev/dri/card1; proc 1200 ffmpeg; fd 1200 5 /dev/dri/renderD129
         proc 1300 pipewire; fd 1300 40 /dev/snd/controlC1",
    );
    let names = ["Xorg (900)", "ffmpeg (1200)", "pipewire (1300)", "/dev/dri/card1", "/dev/snd/controlC1"];
    host.give("0000:01:00.0 0000:01:00.1").refused(4, &names);
}

#[test]
fn a_forced_device_does_not_force_its_sibling() {
    let host = display("proc 1300 pipewire; fd 1300 40 /dev/snd/controlC1; proc 900 Xorg; fd 900 12 /dev/dri/card1");
    host.give("0000:01:00.0 0000:01:00.1 --force-in-use 0000:01:00.0").refused(4, &["pipewire (1300)"]);
}

#[test]
fn a_guests_bridge_on_a_bond_keeps_both_its_ports() {
    let lines = "f $X/bond0/flags 0x1003; f $X/bond0/bonding/slaves 'eth9 eth8'; link sys/class/net/bond0 $X/bond0
        link $P/net/eth9/master $X/bond0; d $P/net/eth9/bonding_slave
        d $X/vmbr0/bridge; f $X/vmbr0/flags 0x1003; link sys/class/net/vmbr0 $X/vmbr0
        link $X/bond0/master $X/vmbr0; link $X/bond0/brport/bridge $X/vmbr0; default_route vmbr0";
    let said = Host::with_card("up", lines).give(CARD);
    said.refused(4, &["eth9 is in the bond bond0", "bond0 is in the bridge vmbr0", "default route goes over vmbr0"]);
}

#[test]
fn a_disk_under_bcache_is_in_use() {
    let lines = "disk $V/bcache0 252 0; holds $V/bcache0 $N; mount_line '40 30 252:0 / /srv rw - xfs /dev/bcache0 rw'";
    Host::with_disk(lines).give(DISK).refused(4, &["nvme0n1, bcache0 is mounted on /srv"]);
}

#[test]
fn a_container_of_firmware_raid_is_in_use_without_a_mount() {
    let lines = "disk $V/md127 9 127; f $V/md127/md/level ''; f $V/md127/md/array_state inactive; holds $V/md127 $N
        f proc/mdstat 'md127 : inactive nvme0n1[0](S)'";
    Host::with_disk(lines).give(DISK).refused(4, &["md127", "mdadm --stop /dev/md127"]);
}

#[test]
fn zfs_on_an_encrypted_disk_is_found() {
    let lines = "disk $V/dm-0 253 0; f $V/dm-0/dm/name crypt0; f $V/dm-0/dm/uuid CRYPT-LUKS2-z; holds $V/dm-0 $N
        raw run/udev/data/b253:0 'E:ID_FS_TYPE=zfs_member\\nE:ID_FS_LABEL=tank\\n'
        d proc/spl/kstat/zfs/tank; mount_line '40 30 0:60 / /tank rw - zfs tank rw'";
    Host::with_disk(lines).give(DISK).refused(4, &["dm-0 (crypt0)", "imported ZFS pool tank", "zpool export tank"]);
}

#[test]
fn a_host_bus_adapter_keeps_a_disk_that_is_reached_through_two() {
    let host = Host::made_by(
        "iommu dmar0; drv pci mpt3sas mpt3sas; drv pci pcieport; vfio_stack; proc 1 systemd; V=sys/devices/virtual/block
         pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
         for n in 2 5; do
           pci $RP 0000:0$n:00.0 010700 1000 00af; bind $P pci mpt3sas; group 1$n DMA-FQ $P; reset_by $P flr
           S=$P/host$n/port-$n:0/end_device-$n:0/target$n:0:0/$n:0:0:0/block/sd$n; disk $S 8 $((n*16)); eval S$n=$S
         done
         disk $V/dm-0 253 0; f $V/dm-0/dm/name mpatha; f $V/dm-0/dm/uuid mpath-3600508b; holds $V/dm-0 $S2; holds $V/dm-0 $S5
         mount_line '40 30 253:0 / /vmfs rw - xfs /dev/mapper/mpatha rw'",
    );
    for device in ["0000:02:00.0", "0000:05:00.0"] {
        host.give(device).refused(4, &["dm-0 (mpatha) is mounted on /vmfs"]);
    }
}

#[test]
fn a_monitor_that_has_the_generic_scsi_node_open_is_named() {
    let lines = "f $P/host1/target1:0:0/1:0:0:0/scsi_generic/sg1/dev 21:1; node dev/sg1 c 21 1
        proc 640 smartd; fd 640 4 /dev/sg1";
    Host::with_disk(lines).give(DISK).refused(4, &["/dev/sg1 is held by smartd (640)"]);
}

#[test]
fn a_controller_whose_own_node_is_open_is_in_use() {
    let lines = "proc 640 nvme-cli; fd 640 4 /dev/nvme0";
    Host::with_disk(lines).give(DISK).refused(4, &["/dev/nvme0 is held by nvme-cli (640)"]);
}

#[test]
fn all_reasons_are_named_and_not_the_first_one_only() {
    let lines = "part $N nvme0n1p1 259 1 1; part $N nvme0n1p2 259 2 2; part $N nvme0n1p3 259 3 3
        mount_line '40 30 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw'
        swap_line '/dev/nvme0n1p2 partition 8388604 0 -2'
        disk $V/dm-0 253 0; f $V/dm-0/dm/name vg-data; f $V/dm-0/dm/uuid LVM-x; holds $V/dm-0 $N/nvme0n1p3
        proc 77 dd; fd 77 3 /dev/nvme0n1";
    let said = Host::with_disk(lines).give(DISK);
    said.refused(4, &["/boot/efi", "swapoff /dev/nvme0n1p2", "dm-0 (vg-data)", "dd (77)"]);
    assert_eq!(said.json["obstacles"].as_array().unwrap().len(), 4, "{}", said.text);
}

#[test]
fn a_data_partition_that_nobody_has_mounted_is_warned_about() {
    let lines = "part $N nvme0n1p1 259 1 1; raw run/udev/data/b259:1 'E:ID_FS_TYPE=ntfs\\nE:ID_FS_LABEL=Windows\\n'";
    let said = Host::with_disk(lines).give(DISK);
    gives(&said, DISK);
    said.names(&["ntfs", "Windows"]);
}

#[test]
fn a_relaxable_reserved_region_does_not_block() {
    let lines =
        "add sys/kernel/iommu_groups/11/reserved_regions '0x00000000000c0000 0x00000000000dffff direct-relaxable'";
    let said = Host::with_disk(lines).give(DISK);
    gives(&said, DISK);
    said.names(&["0xc0000-0xdffff"]);
}

#[test]
fn a_device_on_a_placeholder_driver_goes_like_any_other() {
    let host = Host::made_by(
        "iommu dmar0; drv pci pci-stub; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
         pci $RP 0000:04:00.0 020000 14e4 1657; bind $P pci pci-stub; group 25 DMA-FQ $P; reset_by $P flr",
    );
    gives(&host.give(CARD), CARD);
}

#[test]
fn a_device_that_vfio_took_at_boot_by_its_id_is_there_already_and_comes_back_by_matching() {
    let host = Host::made_by(
        "iommu dmar0; drv pci tg3 tg3; drv pci pcieport; vfio_stack; proc 1 systemd
         f sys/module/vfio_pci/parameters/ids '14e4:1657'
         pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
         pci $RP 0000:04:00.0 020000 14e4 1657; bind $P pci vfio-pci; group 25 DMA-FQ $P; vfio_node 25 4 $P",
    );
    assert_eq!(host.give(CARD).exit, 0);
    let said = host.bindctl(&format!("plan --to host {CARD}"));
    said.planned(&["0000:04:00.0 unbind", "0000:04:00.0 drivers_probe"]);
    host.bindctl(&format!("show {CARD}")).names(&["vfio-pci.ids"]);
}

#[test]
fn domains_with_five_digits_and_addresses_that_two_domains_have() {
    let host = Host::made_by(
        "iommu dmar0; drv pci nvme nvme; drv pci vmd vmd; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:e1:00.0 010802 144d a80a; bind $P pci nvme; group 8 DMA-FQ $P; reset_by $P flr
         pci sys/devices/pci10000:e0 10000:e1:00.0 010802 144d a80a; bind $P pci nvme; group 9 DMA-FQ $P; reset_by $P flr",
    );
    host.give("e1:00.0").names_in_text(&["0000:e1:00.0", "10000:e1:00.0"], 2);
    gives(&host.give("10000:e1:00.0"), "10000:e1:00.0");
    gives(&host.give("0000:e1:00.0"), "0000:e1:00.0");
}

#[test]
fn a_platform_device_needs_the_driver_that_many_kernels_lack() {
    let lines = "iommu arm-smmu-v3.0; drv platform sata_rcar sata_rcar; proc 1 systemd
        raw sys/bus/platform/drivers_probe ''
        P=sys/devices/platform/soc/ee300000.sata; f $P/driver_override '(null)'; f $P/modalias 'of:Nsata'
        d $P/of_node; link $P/subsystem sys/bus/platform; link sys/bus/platform/devices/ee300000.sata $P
        bind $P platform sata_rcar; group 2 DMA $P";
    let host = Host::made_by(lines);
    host.give("platform/ee300000.sata").refused(5, &["vfio-platform"]);
    host.run("drv platform vfio-platform vfio_platform");
    gives(&host.give("ee300000.sata"), "platform/ee300000.sata");
}

#[test]
fn a_device_of_a_virtual_bus_goes_to_a_driver_by_name() {
    let host = Host::made_by(
        "drv vmbus hv_netvsc hv_netvsc; drv vmbus uio_hv_generic uio_hv_generic; raw sys/bus/vmbus/drivers_probe ''
         proc 1 systemd
         P=sys/devices/LNXSYSTM:00/VMBUS:01/f8b3781b-1e82; f $P/driver_override '(null)'; f $P/class_id '{f8615163}'
         link $P/subsystem sys/bus/vmbus; link sys/bus/vmbus/devices/f8b3781b-1e82 $P; bind $P vmbus hv_netvsc
         net $P eth1 00:15:5d:00:00:01 down",
    );
    let said = host.bindctl("plan --to uio_hv_generic vmbus/f8b3781b-1e82");
    assert_eq!(said.exit, 0, "{}", said.text);
    said.names(&["eth1 vanishes"]);
    host.give("vmbus/f8b3781b-1e82").refused(5, &["no VFIO driver for the bus vmbus"]);
}

#[test]
fn a_function_that_a_guest_holds_refuses_its_physical_function_even_when_that_one_is_idle() {
    let host = Host::reported("12-pf-with-live-vfs");
    host.run("route_head");
    let said = host.give("0000:17:00.0");
    said.refused(4, &["0000:17:00.2", "qemu-system-x86 (5120)"]);
    said.does_not_name("0000:17:00.3 is held");
}

#[test]
fn a_card_whose_macvlan_feeds_a_container_is_in_use() {
    let lines = "f $X/mv0/flags 0x1003; f $X/mv0/ifindex 9; f $X/mv0/iflink 2; link sys/class/net/mv0 $X/mv0
        link $P/net/eth9/upper_mv0 $X/mv0; link $X/mv0/lower_eth9 $P/net/eth9";
    Host::with_card("up", lines).give(CARD).refused(4, &["mv0"]);
}

#[test]
fn an_infiniband_port_without_an_interface_is_not_taken_for_another_namespaces() {
    let host = Host::made_by(
        "iommu dmar0; drv pci mlx5_core mlx5_core; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
         pci $RP 0000:04:00.0 020700 15b3 1017; bind $P pci mlx5_core; group 25 DMA-FQ $P; reset_by $P flr
         f $P/infiniband/mlx5_0/node_type '1: CA'; f $P/infiniband_verbs/uverbs0/dev 231:192; node dev/infiniband/uverbs0 c 231 192",
    );
    gives(&host.give(CARD), CARD);
    host.run("proc 500 opensm; fd 500 7 /dev/infiniband/uverbs0");
    host.give(CARD).refused(4, &["opensm (500)"]);
}

#[test]
fn a_watchdog_or_console_on_a_management_controller_is_in_use() {
    let lines =
        "f $P/watchdog/watchdog0/dev 10:130; node dev/watchdog0 c 10 130; proc 44 watchdogd; fd 44 3 /dev/watchdog0";
    Host::with_card("down", lines).give(CARD).refused(4, &["watchdogd (44)"]);
}

#[test]
fn a_disk_that_feeds_an_iscsi_target_by_a_file_is_in_use() {
    let lines = "mount_line '40 30 259:0 / /luns rw - xfs /dev/nvme0n1 rw'
        f sys/kernel/config/target/core/fileio_0/disk01/udev_path /luns/disk01.img";
    Host::with_disk(lines).give(DISK).refused(4, &["mounted on /luns"]);
}

#[test]
fn a_device_mapper_over_a_namespace_in_a_container_is_found_by_its_number() {
    let lines = "part $N nvme0n1p1 259 1 1; proc 88 containerd-shim
        text proc/88/ns/mnt 'mnt:[4026532999]'
        add proc/88/mountinfo '70 60 259:1 / /var/lib/data rw - ext4 /dev/block-of-the-container rw'";
    Host::with_disk(lines).give(DISK).refused(4, &["/var/lib/data", "containerd-shim (88)"]);
}

#[test]
fn a_driver_that_brings_a_second_group_member_back_is_seen_through_its_link() {
    // A display's USB function is a consumer of the display by a device link.
    let lines = "D=sys/devices/virtual/devlink/pci:a--pci:b; f $D/status active
        link $P/consumer:pci:0000:04:00.2 $D";
    Host::with_card("down", lines).give(CARD).refused(4, &["pci/0000:04:00.2", "device link"]);
}
