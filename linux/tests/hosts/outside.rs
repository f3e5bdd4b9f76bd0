//! Users whose traces are not below the device: drivers with nodes that sysfs does not list, file systems on several disks,
//! interfaces that others have taken over.

use crate::common::{Host, gives};

const DISK: &str = "0000:02:00.0";
const CARD: &str = "0000:04:00.0";

/// Two display adapters on NVIDIA's driver, whose nodes `/dev/nvidiaN` are in no directory of sysfs.
fn two_gpus(lines: &str) -> Host {
    Host::made_by(&format!(
        "iommu dmar0; drv pci nvidia nvidia 3; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:01.0 060400 8086 1901 1; bind $P pci pcieport; group 1 DMA-FQ $P; RP=$P
         for n in 0 1; do
           pci $RP 0000:0$((n+7)):00.0 030200 10de 20b5; bind $P pci nvidia; group 1$n DMA-FQ $P; reset_by $P flr
           node dev/nvidia$n c 195 $n
         done
         node dev/nvidiactl c 195 255
         {lines}"
    ))
}

const MINORS: &str = "for n in 0 1; do
    raw proc/driver/nvidia/gpus/0000:0$((n+7)):00.0/information \"Model: \\t\\t NVIDIA A100\\nDevice Minor: \\t $n\\n\"; done";

#[test]
fn a_daemon_that_has_a_node_of_nvidias_driver_open_is_named_for_its_device_only() {
    let host = two_gpus(&format!("{MINORS}; proc 900 nvidia-persiste; fd 900 4 /dev/nvidiactl; fd 900 5 /dev/nvidia0"));
    host.give("0000:07:00.0").refused(4, &["/dev/nvidia0 is held by nvidia-persiste (900)"]);
    gives(&host.give("0000:08:00.0"), "0000:08:00.0");
}

#[test]
fn a_node_of_nvidias_driver_that_names_no_device_is_not_told_idle() {
    let host = two_gpus("proc 900 dcgm-exporter; fd 900 5 /dev/nvidia1");
    for device in ["0000:07:00.0", "0000:08:00.0"] {
        host.give(device).refused(4, &["dcgm-exporter (900)", "/dev/nvidia1"]);
    }
}

#[test]
fn a_node_that_is_open_by_another_path_counts() {
    let lines = "node run/nvidia/driver/dev/nvidia1 c 195 1; proc 37526 nvidia-persiste
        fd 37526 6 /run/nvidia/driver/dev/nvidia1";
    let host = two_gpus(&format!("{MINORS}; {lines}"));
    host.give("0000:08:00.0").refused(4, &["nvidia-persiste (37526)"]);
    gives(&host.give("0000:07:00.0"), "0000:07:00.0");
}

#[test]
fn every_member_of_a_bcachefs_is_in_use() {
    let lines =
        "disk $V/sdb 8 16; mount_line '40 30 0:50 / /pool rw - bcachefs /dev/sdb:/dev/nvme0n1 rw,metadata_replicas=2'";
    Host::with_disk(lines).give(DISK).refused(4, &["nvme0n1 is mounted on /pool (bcachefs)", "umount /pool"]);
}

#[test]
fn a_disk_that_holds_the_log_of_a_file_system_elsewhere_is_in_use() {
    let lines = "part $N nvme0n1p1 259 1 1; part $N nvme0n1p2 259 2 2
        mount_line '40 30 8:17 / /data rw - xfs /dev/sdb1 rw,attr2,logdev=/dev/nvme0n1p1,noquota'";
    let said = Host::with_disk(lines).give(DISK);
    said.refused(4, &["nvme0n1p1", "log device", "/data (xfs)", "umount /data"]);
    said.does_not_name("nvme0n1p2 ");
}

#[test]
fn a_storage_daemon_that_has_a_volume_open_is_named() {
    let lines = "disk $V/dm-0 253 0; f $V/dm-0/dm/name ceph--1-osd--block; f $V/dm-0/dm/uuid LVM-c; holds $V/dm-0 $N
        proc 77 ceph-osd; fd 77 21 /dev/dm-0";
    Host::with_disk(lines).give(DISK).refused(4, &["nvme0n1, dm-0 (ceph--1-osd--block)", "ceph-osd (77)"]);
}

#[test]
fn the_root_disk_behind_a_raid_controllers_own_domain_is_found() {
    let host = Host::made_by(
        "iommu dmar0; drv pci nvme nvme; drv pci vmd vmd; drv pci pcieport; vfio_stack; proc 1 systemd
         pci sys/devices/pci0000:00 0000:00:0e.0 010400 8086 9a0b; VMD=$P; bind $P pci vmd; reset_by $P flr
         pci $VMD/pci10000:e0 10000:e0:06.0 060400 8086 9a09 1; B=$P; bind $P pci pcieport
         pci $B 10000:e1:00.0 010802 144d a80a; D=$P; bind $P pci nvme; reset_by $P flr
         nvme $P 0 S1 'Example SSD'; disk $C/nvme0n1 259 0; part $C/nvme0n1 nvme0n1p2 259 2 2
         group 8 DMA-FQ $VMD $B $D
         mount_line '30 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw'",
    );
    host.give("0000:00:0e.0").refused(4, &["nvme0n1p2 is mounted on / (ext4): it is the root file system"]);
    host.give("10000:e1:00.0").refused(4, &["root file system", "0000:00:0e.0 is in the same group (8)"]);
}

#[test]
fn a_port_of_a_virtual_switch_is_in_use_without_an_address() {
    let lines = "f $X/ovs-system/flags 0x1002; link sys/class/net/ovs-system $X/ovs-system
        link $P/net/eth9/master $X/ovs-system; link $P/net/eth9/upper_ovs-system $X/ovs-system";
    Host::with_card("up", lines).give(CARD).refused(4, &["eth9", "ovs-system", "ovs-vsctl del-port eth9"]);
}

#[test]
fn a_function_behind_a_paravirtual_interface_carries_its_traffic() {
    let lines = "f $X/eth0/flags 0x1003; link sys/class/net/eth0 $X/eth0
        link $P/net/eth9/master $X/eth0; link $P/net/eth9/upper_eth0 $X/eth0; default_route eth0";
    Host::with_card("up", lines).give(CARD).refused(4, &["eth9", "default route goes over eth0"]);
}

#[test]
fn a_line_to_a_provider_goes_over_the_interface_below_it() {
    let lines = "f proc/net/pppoe 'Id       Address              Device
1A2B0000 02:00:00:00:00:99    eth9'
        f $X/ppp0/flags 0x10d1; link sys/class/net/ppp0 $X/ppp0; default_route ppp0";
    Host::with_card("up", lines).give(CARD).refused(4, &["eth9 carries a PPPoE session"]);
    let other = "f proc/net/pppoe 'Id       Address              Device
1A2B0000 02:00:00:00:00:99    eth8'";
    gives(&Host::with_card("down", other).give(CARD), CARD);
}

#[test]
fn a_socket_that_is_bound_to_an_interface_without_an_address_is_told() {
    let lines = "f $P/net/eth9/ifindex 7
        f proc/net/packet 'sk               RefCnt Type Proto  Iface R Rmem   User   Inode
0000000000000000 3      3    888e   7     1 0      0      4711
0000000000000000 3      3    0003   12    1 0      0      4712'";
    let said = Host::with_card("up", lines).give(CARD);
    gives(&said, CARD);
    said.names(&["eth9 is up, without an address", "1 packet socket is bound to it"]);
}
