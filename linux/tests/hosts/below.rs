//! What people have open below a device, by the driver's own kind of node.

use crate::common::{Host, gives};

const DISK: &str = "0000:02:00.0";
const CARD: &str = "0000:04:00.0";

#[test]
fn a_passthrough_node_of_a_namespace_is_a_use_of_the_disk() {
    let lines = "f $C/ng0n1/dev 237:0; link $C/ng0n1/subsystem sys/class/nvme-generic; node dev/ng0n1 c 237 0";
    let busy = Host::with_disk(&format!("{lines}; proc 812 fio; fd 812 5 /dev/ng0n1"));
    busy.give(DISK).refused(4, &["/dev/ng0n1 is held by fio (812)"]);
    gives(&Host::with_disk(lines).give(DISK), DISK);
}

#[test]
fn a_tape_drive_that_a_backup_has_open_without_rewind_is_in_use() {
    let lines = "T=$P/host7/target7:0:0/7:0:0:0/scsi_tape; for t in st0:0 nst0:128; do
          f $T/${t%:*}/dev 9:${t#*:}; link $T/${t%:*}/subsystem sys/class/scsi_tape; node dev/${t%:*} c 9 ${t#*:}; done
        proc 940 bareos-sd; fd 940 7 /dev/nst0";
    Host::with_card("down", lines).give(CARD).refused(4, &["/dev/nst0 is held by bareos-sd (940)"]);
}

#[test]
fn a_camera_on_a_controller_is_named_with_the_program_that_films() {
    let lines = "V=$P/usb1/1-5/1-5:1.0/video4linux/video0; f $V/dev 81:0; link $V/subsystem sys/class/video4linux
        node dev/video0 c 81 0; proc 3100 zoom; fd 3100 55 /dev/video0";
    Host::with_card("down", lines).give(CARD).refused(4, &["/dev/video0 is held by zoom (3100)"]);
}

#[test]
fn nodes_in_folders_are_named_as_they_stand_in_dev() {
    // In sysfs a name with a slash has an exclamation mark for it.
    let lines = "D=$P/dvb/dvb0.frontend0; f $D/dev 212:0; link $D/subsystem sys/class/dvb
        raw $D/uevent 'MAJOR=212\nMINOR=0\nDEVNAME=dvb/adapter0/frontend0\n'; node dev/dvb/adapter0/frontend0 c 212 0
        W=$P/dsa0/dsa\\!wq0.0; f $W/dev 239:0; link $W/subsystem sys/bus/dsa; node dev/dsa/wq0.0 c 239 0
        proc 61 tvheadend; fd 61 8 /dev/dvb/adapter0/frontend0; proc 62 dsa_perf; fd 62 3 /dev/dsa/wq0.0";
    let said = Host::with_card("down", lines).give(CARD);
    said.refused(
        4,
        &["/dev/dvb/adapter0/frontend0 is held by tvheadend (61)", "/dev/dsa/wq0.0 is held by dsa_perf (62)"],
    );
}

#[test]
fn a_disk_whose_name_has_a_slash_is_found_in_mounts_and_swap() {
    let disk = "B=$P/cciss0/c0d0/block/cciss\\!c0d0; f $B/dev 104:0; d $B/holders; link $B/subsystem sys/class/block
        link sys/block/cciss\\!c0d0 $B; link sys/class/block/cciss\\!c0d0 $B; node dev/cciss/c0d0 b 104 0";
    let mounted = format!("{disk}; mount_line '40 30 0:50 / /pool rw - btrfs /dev/cciss/c0d0 rw'");
    Host::with_card("down", &mounted).give(CARD).refused(4, &["is mounted on /pool", "cciss"]);
    let swap = format!("{disk}; rm $R/dev/cciss/c0d0; swap_line '/dev/cciss/c0d0 partition 1 0 -2'");
    Host::with_card("down", &swap).give(CARD).refused(4, &["swap", "/dev/cciss/c0d0"]);
}

#[test]
fn a_login_on_a_serial_card_is_a_use() {
    let lines = "T=$P/tty/ttyS4; f $T/dev 4:68; link $T/subsystem sys/class/tty; node dev/ttyS4 c 4 68
        proc 655 agetty; fd 655 0 /dev/ttyS4";
    Host::with_card("down", lines).give(CARD).refused(4, &["/dev/ttyS4 is held by agetty (655)"]);
}

#[test]
fn verbs_of_a_card_that_a_job_has_open_are_a_use_beside_its_idle_interface() {
    let lines = "U=$P/infiniband_verbs/uverbs0; f $U/dev 231:192; link $U/subsystem sys/class/infiniband_verbs
        node dev/infiniband/uverbs0 c 231 192; raw $U/uevent 'DEVNAME=infiniband/uverbs0\n'
        proc 9000 dpdk-testpmd; fd 9000 12 /dev/infiniband/uverbs0";
    Host::with_card("down", lines).give(CARD).refused(4, &["/dev/infiniband/uverbs0 is held by dpdk-testpmd (9000)"]);
}

#[test]
fn a_tap_on_a_card_that_a_guest_has_open_is_a_use() {
    let lines = "T=$X/macvtap0; f $T/flags 0x1003; raw $T/uevent 'DEVTYPE=macvtap\nINTERFACE=macvtap0\n'; link sys/class/net/macvtap0 $T
        link $T/lower_eth9 $P/net/eth9; link $P/net/eth9/upper_macvtap0 $T";
    let said = Host::with_card("up", lines).give(CARD);
    said.refused(4, &["eth9", "macvtap0", "ip link delete macvtap0"]);
}

#[test]
fn what_ends_the_use_fits_the_kind_of_interface_above() {
    for (kind, name, remedy) in [
        ("ipvlan", "ipvl0", "ip link delete ipvl0"),
        ("vxlan", "vxlan100", "ip link delete vxlan100"),
        ("dsa", "lan1", "unbind the switch that has the port lan1"),
        ("vrf", "blue", "ip link set eth9 nomaster"),
    ] {
        let master = if kind == "vrf" { "link $P/net/eth9/master $T" } else { ":" };
        let lines = format!(
            "T=$X/{name}; f $T/flags 0x1003; raw $T/uevent 'DEVTYPE={kind}\nINTERFACE={name}\n'; link sys/class/net/{name} $T
             link $T/lower_eth9 $P/net/eth9; link $P/net/eth9/upper_{name} $T; {master}"
        );
        Host::with_card("up", &lines).give(CARD).refused(4, &["eth9", name, remedy]);
    }
}

#[test]
fn a_subfunction_of_a_card_that_carries_the_host_is_found_below_it() {
    let lines = "S=$P/mlx5_core.sf.4; d $S; net $S p0sf88 02:00:00:00:88:01 up; default_route p0sf88";
    Host::with_card("down", lines).give(CARD).refused(4, &["default route goes over p0sf88"]);
}

#[test]
fn a_file_system_in_user_space_counts_by_the_name_of_its_disk() {
    let lines = "part $N nvme0n1p3 259 3 3; mount_line '44 30 0:61 / /win rw - fuseblk /dev/nvme0n1p3 rw,user_id=0'";
    Host::with_disk(lines).give(DISK).refused(4, &["nvme0n1p3 is mounted on /win (fuseblk)"]);
}

#[test]
fn a_root_that_the_kernel_mounted_itself_is_found_by_its_number() {
    let lines = "part $N nvme0n1p2 259 2 2; mount_line '30 1 259:2 / / rw - ext4 /dev/root rw'";
    let said = Host::with_disk(lines).give(DISK);
    said.refused(4, &["nvme0n1p2 is mounted on / (ext4): it is the root file system"]);
}

#[test]
fn a_root_on_an_encrypted_stick_is_found_through_its_controller() {
    let lines = "B=$P/usb1/1-3/1-3:1.0/host6/target6:0:0/6:0:0:0/block/sdb; disk $B 8 16; part $B sdb2 8 18 2
        V=sys/devices/virtual/block; disk $V/dm-0 253 0; f $V/dm-0/dm/name luks-root; f $V/dm-0/dm/uuid CRYPT-LUKS2-0-luks-root
        holds $V/dm-0 $B/sdb2; disk $V/dm-1 253 1; f $V/dm-1/dm/name vg-swap; f $V/dm-1/dm/uuid LVM-x; holds $V/dm-1 $V/dm-0
        mount_line '30 1 253:0 / / rw - ext4 /dev/mapper/luks-root rw'; swap_line '/dev/dm-1 partition 1 0 -2'";
    let said = Host::with_card("down", lines).give(CARD);
    said.refused(4, &["sdb2, dm-0 (luks-root) is mounted on /", "root file system", "dm-1 (vg-swap)", "swap"]);
}

#[test]
fn all_disks_of_a_controller_are_named_and_not_the_first_one_only() {
    let lines = "for n in 0:a 1:b 2:c; do B=$P/ata${n%:*}/host${n%:*}/target${n%:*}:0:0/${n%:*}:0:0:0/block/sd${n#*:}
          disk $B 8 $((${n%:*} * 16)); eval B${n%:*}=$B; done
        V=sys/devices/virtual/block; disk $V/md0 9 0; f $V/md0/md/level raid5; holds $V/md0 $B1
        mount_line '40 30 8:0 / /a rw - xfs /dev/sda rw'; proc 33 smartd; fd 33 3 /dev/sdc";
    let said = Host::with_card("down", lines).give(CARD);
    said.refused(4, &["sda is mounted on /a", "sdb, md0", "smartd (33)"]);
}

#[test]
fn a_mount_whose_source_has_a_blank_is_found() {
    let lines = "disk $V/dm-3 253 3; f $V/dm-3/dm/name 'my disk'; f $V/dm-3/dm/uuid LVM-b; holds $V/dm-3 $N
        mount_line '40 30 253:3 / /mnt/my\\040data rw - ext4 /dev/mapper/my\\040disk rw'";
    Host::with_disk(lines).give(DISK).refused(4, &["dm-3", "/mnt/my data"]);
}

#[test]
fn a_controller_that_is_served_as_a_whole_is_in_use() {
    let lines =
        "S=sys/kernel/config/nvmet/subsystems/nqn.fast; f $S/passthru/enable 1; f $S/passthru/device_path /dev/nvme0";
    let said = Host::with_disk(lines).give(DISK);
    said.refused(4, &["nvme0 is used by the NVMe target nqn.fast", "passthru/enable"]);
    let off = lines.replace("enable 1", "enable 0");
    gives(&Host::with_disk(&off).give(DISK), DISK);
}

#[test]
fn a_modem_that_is_managed_is_in_use() {
    let lines = "M=$P/usb2/2-1/2-1:1.0/usbmisc/cdc-wdm0; f $M/dev 180:176; link $M/subsystem sys/class/usbmisc
        node dev/cdc-wdm0 c 180 176; proc 610 ModemManager; fd 610 14 /dev/cdc-wdm0";
    Host::with_card("down", lines).give(CARD).refused(4, &["/dev/cdc-wdm0 is held by ModemManager (610)"]);
}

#[test]
fn an_array_that_is_assembled_but_not_started_holds_its_member() {
    let lines = "part $N nvme0n1p2 259 2 2; V=sys/devices/virtual/block; disk $V/md126 9 126; f $V/md126/md/level raid1
        f $V/md126/md/array_state inactive; holds $V/md126 $N/nvme0n1p2
        raw proc/mdstat 'Personalities :\nmd126 : inactive nvme0n1p2[1](S)\n'";
    Host::with_disk(lines).give(DISK).refused(4, &["nvme0n1p2, md126 (inactive)", "mdadm --stop"]);
}
