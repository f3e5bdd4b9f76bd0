#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# An old file system on the disk, mounted nowhere, held by nobody: the operator is right, it can go.
H=sys/devices/pci0000:5d
iommu dmar2; drv pci nvme nvme; drv pci pcieport; vfio_stack
pci $H 0000:5d:02.0 060400 8086 2032 1; bind $P pci pcieport; group 44 DMA-FQ $P; RP=$P
pci $RP 0000:5e:00.0 010802 8086 0b60; bind $P pci nvme; group 45 DMA-FQ $P; reset_by $P "flr bus"
nvme $P 0 PHAX0001 "Example P5510"; N=$C/nvme0n1; disk $N 259 0
raw run/udev/data/b259:0 'S:disk/by-id/nvme-Example_P5510_PHAX0001\nE:ID_FS_TYPE=ext4\nE:ID_FS_UUID=6b1d0000-0000-4000-8000-000000000001\nE:ID_FS_USAGE=filesystem\n'
mount_line "30 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw"
proc 1 systemd; proc 640 smartd; fd 640 3 /var/lib/smartmontools/state
