# An NVMe disk: refused while it is swap space or open, then given by its serial number and taken back.
mkswap /dev/nvme0n1 >/dev/null && swapon /dev/nvme0n1 || failed "no swap"
expect 4 bindctl give $NVME
names "nvme0n1 is swap space" "swapoff /dev/nvme0n1"
on $NVME nvme
swapoff /dev/nvme0n1
sleep 1000 9</dev/nvme0n1 &
holder=$!
expect 4 bindctl give $NVME
names "sleep ($holder)"
kill $holder; wait $holder 2>/dev/null
expect 0 bindctl give serial=NVME0
on $NVME vfio-pci
expect 0 bindctl take $NVME
on $NVME nvme
no_override $NVME
appears /dev/nvme0n1
