#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# Native NVMe multipath: the mounted block device hangs below the subsystem, not below the PCI device,
# and its number differs from the controller's. Two controllers lead to the same namespace.
H=sys/devices/pci0000:80
iommu dmar0; drv pci nvme nvme; drv pci pcieport; vfio_stack
f sys/module/nvme_core/parameters/multipath Y
S=sys/devices/virtual/nvme-subsystem/nvme-subsys2
f $S/subsysnqn nqn.2014-08.com.example:nvme:dual-port-sn0042; f $S/iopolicy numa
link sys/class/nvme-subsystem/nvme-subsys2 $S
disk $S/nvme2n1 259 20; part $S/nvme2n1 nvme2n1p1 259 21 1; part $S/nvme2n1 nvme2n1p2 259 22 2
for x in 81:4:17 82:5:18; do
	bus=${x%%:*}; n=$(echo $x | cut -d: -f2); g=${x##*:}
	pci $H 0000:80:0${n}.0 060400 8086 2030 1; bind $P pci pcieport; group 1$n DMA-FQ $P; RP=$P
	pci $RP 0000:$bus:00.0 010802 1c5c 2839; bind $P pci nvme; group $g DMA-FQ $P; reset_by $P flr
	nvme $P $n SN0042 "Example dual port"; f $C/cntlid $n
	link $S/nvme$n $C;
	f $C/subsysnqn nqn.2014-08.com.example:nvme:dual-port-sn0042
	b=$C/nvme2c${n}n1; f $b/hidden 1; f $b/size 3907029168; f $b/ana_state optimized; d $b/holders; d $b/slaves
	link $b/subsystem sys/class/block; link $b/device $C; link sys/block/nvme2c${n}n1 $b
	link $S/nvme2n1/multipath/nvme2c${n}n1 $b
done
link $S/nvme2n1/device $S
mount_line "30 1 259:22 / / rw,relatime shared:1 - ext4 /dev/nvme2n1p2 rw"
mount_line "31 30 259:21 / /boot/efi rw,relatime shared:9 - vfat /dev/nvme2n1p1 rw"
