# An NVMe disk: refused while it is swap space or open, then given by its serial number and taken back.
drivers
disk=$(disk_of $NVME)
mkswap /dev/$disk >/dev/null && swapon /dev/$disk || failed "no swap"
expect 4 bindctl give $NVME
names "$disk is swap space" "swapoff /dev/$disk"
on $NVME nvme
swapoff /dev/$disk
sleep 1000 9</dev/$disk &
holder=$!
expect 4 bindctl give $NVME
names "sleep ($holder)"
end $holder
echo pattern >/dev/$disk
expect 0 bindctl give serial=NVME0
on $NVME vfio-pci
expect 0 vfio-check $PCI/$NVME
names "mapped" "reset" "unmapped"
expect 0 bindctl take $NVME
on $NVME nvme
no_override $NVME
comes_back $NVME
disk=$(disk_of $NVME)
[ "$(head -n 1 /dev/$disk)" = pattern ] || failed "the pattern is gone"
dd if=/dev/zero of=/dev/$disk bs=64k count=1 2>/dev/null
