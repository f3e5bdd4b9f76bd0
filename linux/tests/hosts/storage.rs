//! Users of disks.

use crate::common::{Host, gives};

const DEVICE: &str = "0000:02:00.0";

#[test]
fn a_disk_without_a_user_can_go() {
    gives(&Host::with_disk("").give(DEVICE), DEVICE);
}

#[test]
fn swap_refuses_by_each_name_of_its_device() {
    let direct = "part $N nvme0n1p2 259 2 2; swap_line '/dev/nvme0n1p2 partition 8388604 0 -2'";
    Host::with_disk(direct).give(DEVICE).refused(4, &["nvme0n1p2 is swap space", "swapoff /dev/nvme0n1p2"]);
    let gone = "part $N nvme0n1p2 259 2 2; swap_line '/dev/nvme0n1p2\\040(deleted) partition 8388604 0 -2'";
    Host::with_disk(gone).give(DEVICE).refused(4, &["nvme0n1p2 is swap space"]);
    let mapped = "disk $V/dm-3 253 3; f $V/dm-3/dm/name cryptswap; f $V/dm-3/dm/uuid CRYPT-PLAIN-cryptswap
                  holds $V/dm-3 $N; swap_line '/dev/mapper/cryptswap partition 8388604 0 -2'";
    Host::with_disk(mapped).give(DEVICE).refused(4, &["nvme0n1, dm-3 (cryptswap) is swap space"]);
}

#[test]
fn a_swap_file_refuses_beside_its_mount() {
    let lines = "mount_line '40 30 259:0 / /data rw - ext4 /dev/nvme0n1 rw'; swap_line '/data/swapfile file 1000 0 -2'";
    Host::with_disk(lines).give(DEVICE).refused(4, &["mounted on /data", "holds the swap file /data/swapfile"]);
}

#[test]
fn a_stack_is_walked_to_its_end() {
    let lines = "part $N nvme0n1p1 259 1 1
        disk $V/md5 9 5; f $V/md5/md/level raid1; f $V/md5/md/array_state active; holds $V/md5 $N/nvme0n1p1
        part $V/md5 md5p1 259 9 1
        disk $V/dm-0 253 0; f $V/dm-0/dm/name luks; f $V/dm-0/dm/uuid CRYPT-LUKS2-x; holds $V/dm-0 $V/md5/md5p1
        disk $V/dm-1 253 1; f $V/dm-1/dm/name vg-home; f $V/dm-1/dm/uuid LVM-x; holds $V/dm-1 $V/dm-0
        disk $V/dm-2 253 2; f $V/dm-2/dm/name vg-spare; f $V/dm-2/dm/uuid LVM-y; holds $V/dm-2 $V/dm-0
        mount_line '40 30 253:1 / /home rw - xfs /dev/mapper/vg-home rw'";
    let said = Host::with_disk(lines).give(DEVICE);
    said.refused(4, &["dm-1 (vg-home) is mounted on /home", "dm-2 (vg-spare)", "mounted nowhere", "lvchange -an"]);
    assert_eq!(said.json["obstacles"].as_array().unwrap().len(), 2, "{}", said.text);
}

#[test]
fn holders_that_go_in_a_circle_end() {
    let lines = "disk $V/dm-0 253 0; f $V/dm-0/dm/name a; disk $V/dm-1 253 1; f $V/dm-1/dm/name b
                 holds $V/dm-0 $N; holds $V/dm-1 $V/dm-0; holds $V/dm-0 $V/dm-1";
    Host::with_disk(lines).give(DEVICE).refused(4, &["dm-0 (a)"]);
}

#[test]
fn every_member_of_a_btrfs_is_in_use() {
    let lines = "mkdir -p $R/sys/fs/btrfs/u-1/devices; link sys/fs/btrfs/u-1/devices/nvme0n1 $N
        disk sys/devices/x/sdz 65 144; link sys/fs/btrfs/u-1/devices/sdz sys/devices/x/sdz
        mount_line '40 30 0:50 / /pool rw - btrfs /dev/sdz rw'";
    Host::with_disk(lines).give(DEVICE).refused(4, &["a member of btrfs u-1 together with sdz", "mounted on /pool"]);
    let unseen = "mkdir -p $R/sys/fs/btrfs/u-1/devices; link sys/fs/btrfs/u-1/devices/nvme0n1 $N";
    Host::with_disk(unseen).give(DEVICE).refused(4, &["btrfs u-1", "in use"]);
}

#[test]
fn an_imported_zfs_pool_is_in_use_and_another_one_is_data() {
    let member = "raw run/udev/data/b259:0 'E:ID_FS_TYPE=zfs_member\\nE:ID_FS_LABEL=tank\\nE:ID_FS_USAGE=raid\\n'";
    let imported =
        format!("{member}; d proc/spl/kstat/zfs/tank; mount_line '40 30 0:51 / /tank rw - zfs tank/data rw'");
    Host::with_disk(&imported).give(DEVICE).refused(4, &["imported ZFS pool tank", "/tank", "zpool export tank"]);
    let idle = Host::with_disk(member).give(DEVICE);
    gives(&idle, DEVICE);
    idle.names(&["zfs_member", "without a user"]);
}

#[test]
fn a_mount_in_a_container_is_found() {
    let lines = "proc 77 pod; text proc/77/ns/mnt 'mnt:[4026532999]'
        raw proc/77/mountinfo '1 0 259:0 / /vol rw - ext4 /dev/nvme0n1 rw\\n'";
    Host::with_disk(lines)
        .give(DEVICE)
        .refused(4, &["mounted on /vol", "mount namespace of pod (77)", "nsenter -t 77"]);
}

#[test]
fn a_disk_that_a_process_has_open_is_in_use() {
    let lines = "proc 90 qemu; fd 90 9 /dev/nvme0n1; proc 91 smartd; fd 91 3 /dev/nvme0";
    Host::with_disk(lines)
        .give(DEVICE)
        .refused(4, &["qemu (90) has /dev/nvme0n1", "/dev/nvme0 is held by smartd (91)"]);
}

#[test]
fn users_in_the_kernel_are_found() {
    let target =
        "T=sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/1; f $T/enable 1; f $T/device_path /dev/nvme0n1";
    Host::with_disk(target).give(DEVICE).refused(4, &["the NVMe target nqn.x"]);
    let off = target.replace("enable 1", "enable 0");
    gives(&Host::with_disk(&off).give(DEVICE), DEVICE);
    let looped = "disk $V/loop0 7 0; f $V/loop0/loop/backing_file /dev/nvme0n1
        mount_line '40 30 7:0 / /iso rw - ext4 /dev/loop0 rw'";
    Host::with_disk(looped).give(DEVICE).refused(4, &["used by /dev/loop0", "loop0 is mounted on /iso"]);
}

#[test]
fn an_idle_path_of_a_multipath_disk_is_warned_about() {
    let host = Host::reported("03-nvme-multipath-head");
    host.run("raw proc/self/mountinfo ''");
    let said = host.give("0000:81:00.0");
    gives(&said, "0000:81:00.0");
    said.names(&["nvme2n1", "also reached through 0000:82:00.0"]);
}

#[test]
fn a_root_file_system_says_that_it_is_one() {
    let lines = "raw proc/self/mountinfo ''; mount_line '30 1 259:0 / / rw - ext4 /dev/root rw'";
    Host::with_disk(lines).give(DEVICE).refused(4, &["it is the root file system"]);
}

#[test]
fn a_disk_that_compressed_memory_is_written_to_is_in_use() {
    let lines = "part $N nvme0n1p3 259 3 3; disk $V/zram0 251 0; f $V/zram0/backing_dev /dev/nvme0n1p3";
    Host::with_disk(lines).give(DEVICE).refused(4, &["nvme0n1p3 is used by /dev/zram0"]);
}
