#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# Two NVMe disks. The first is an LVM physical volume whose volume is mounted; the second is the only
# member of an md array that is assembled and mounted nowhere. Neither disk appears in mountinfo.
H=sys/devices/pci0000:00
iommu dmar0; drv pci nvme nvme; drv pci pcieport; vfio_stack
pci $H 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP1=$P
pci $H 0000:00:1d.0 060400 8086 a118 1; bind $P pci pcieport; group 4 DMA-FQ $P; RP2=$P
pci $RP1 0000:02:00.0 010802 8086 0a54; D1=$P; bind $P pci nvme; group 11 DMA-FQ $P; reset_by $P flr
nvme $P 0 PHLN9000A1 "Example SSD 1TB"; N1=$C/nvme0n1; disk $N1 259 0
pci $RP2 0000:03:00.0 010802 8086 0a54; D2=$P; bind $P pci nvme; group 12 DMA-FQ $P; reset_by $P flr
nvme $P 1 PHLN9000A2 "Example SSD 1TB"; N2=$C/nvme1n1; disk $N2 259 3; part $N2 nvme1n1p1 259 4 1
V=sys/devices/virtual/block
disk $V/dm-0 253 0; f $V/dm-0/dm/name vg0-srv; f $V/dm-0/dm/uuid LVM-Qk3xYexampleexampleexampleexample00; holds $V/dm-0 $N1
disk $V/md127 9 127; f $V/md127/md/array_state clean; f $V/md127/md/level raid1; holds $V/md127 $N2/nvme1n1p1
raw proc/mdstat 'Personalities : [raid1]\nmd127 : active raid1 nvme1n1p1[0]\n      976630464 blocks super 1.2 [2/1] [U_]\n\nunused devices: <none>\n'
mount_line "30 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw"
mount_line "41 30 253:0 / /srv rw,relatime shared:33 - xfs /dev/mapper/vg0-srv rw,attr2"
