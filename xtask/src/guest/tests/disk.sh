# A disk controller goes to VFIO, to a user of it, and comes back with its disk and what is on it.
drivers
echo pattern >/dev/sda
expect 0 bindctl give $SATA --owner 1000
on $SATA vfio-pci
[ ! -e /dev/sda ] || failed "sda is still there"
group=$(group_of $SATA)
[ "$(stat -c %u:%a "/dev/vfio/$group")" = 1000:660 ] || failed "the node's owner is not set"
expect 0 bindctl status
expect 0 bindctl give $SATA
names "nothing to do"
expect 0 vfio-check $PCI/$SATA
names "opened by its group" "mapped" "reset" "unmapped"
# Somebody holds the group's node.
sleep 1000 9<>"/dev/vfio/$group" &
holder=$!
expect 4 bindctl take $SATA
names "sleep ($holder)" "/dev/vfio/$group"
on $SATA vfio-pci
end $holder
expect 0 bindctl take $SATA
on $SATA ahci
no_override $SATA
appears /dev/sda
[ "$(head -n 1 /dev/sda)" = pattern ] || failed "the pattern is gone"
expect 0 bindctl status
names "nothing is given"
# A mounted disk.
mke2fs /dev/sda >/tmp/out 2>&1 && mount -t ext4 /dev/sda /mnt || failed "no file system"
expect 4 bindctl give $SATA
names "sda is mounted on /mnt" "umount /mnt"
on $SATA ahci
umount /mnt
dd if=/dev/zero of=/dev/sda bs=64k count=1 2>/dev/null
