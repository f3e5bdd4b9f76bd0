# A disk controller goes to VFIO and comes back with its disk and what is on it.
echo pattern >/dev/sda
expect 0 bindctl give $SATA --owner 1000
on $SATA vfio-pci
[ ! -e /dev/sda ] || failed "sda is still there"
group=$(basename "$(readlink /sys/bus/pci/devices/$SATA/iommu_group)")
[ "$(stat -c %u:%a "/dev/vfio/$group")" = 1000:660 ] || failed "the node's owner is not set"
expect 0 bindctl status
expect 0 bindctl give $SATA
names "nothing to do"
# Somebody holds the group's node.
sleep 1000 9<>"/dev/vfio/$group" &
holder=$!
expect 4 bindctl take $SATA
names "sleep ($holder)" "/dev/vfio/$group"
on $SATA vfio-pci
kill $holder; wait $holder 2>/dev/null
expect 0 bindctl take $SATA
on $SATA ahci
no_override $SATA
appears /dev/sda
[ "$(head -n 1 /dev/sda)" = pattern ] || failed "the pattern is gone"
expect 0 bindctl status
names "nothing is given"
