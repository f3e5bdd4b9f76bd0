#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# A bind mount of /dev/vfio kept an old node: the name is right, the number belongs to another time.
H=sys/devices/pci0000:90
iommu dmar2; drv pci iavf iavf; drv pci pcieport; vfio_stack
pci $H 0000:90:02.0 060400 8086 2030 1; bind $P pci pcieport; group 140 DMA-FQ $P; RP=$P
pci $RP 0000:91:03.2 020000 8086 154c; bind $P pci vfio-pci; group 141 DMA-FQ $P; reset_by $P flr; f $P/driver_override vfio-pci
vfio_node 141 7 $P 2
pci $RP 0000:91:03.3 020000 8086 154c; bind $P pci vfio-pci; group 142 DMA-FQ $P; reset_by $P flr; f $P/driver_override vfio-pci
vfio_node 142 2 $P
proc 1 systemd; proc 6001 vpp_main; fd 6001 20 /dev/vfio/vfio; fd 6001 21 /dev/vfio/142; fd 6001 22 'anon_inode:[vfio-device]'
raw proc/6001/fdinfo/22 "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t1079\nvfio-device-syspath: /sys/devices/pci0000:90/0000:90:02.0/0000:91:03.3\n"
