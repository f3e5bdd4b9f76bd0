#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# A physical function with four virtual functions: one held by a guest, one on vfio-pci and idle,
# one with the host's driver and down, one without a driver (it has just appeared).
H=sys/devices/pci0000:16
iommu dmar1; drv pci mlx5_core mlx5_core 5; drv pci pcieport; vfio_stack 2
pci $H 0000:16:02.0 060400 8086 347a 1; bind $P pci pcieport; group 80 DMA-FQ $P; RP=$P
pci $RP 0000:17:00.0 020000 15b3 101d; PF=$P; bind $P pci mlx5_core; group 81 DMA-FQ $P; net $P ens1f0np0 02:00:00:17:00:00 up; reset_by $P "flr bus"
f $P/sriov_totalvfs 8; f $P/sriov_numvfs 4; f $P/sriov_drivers_autoprobe 0; f $P/sriov_offset 2; f $P/sriov_stride 1; f $P/sriov_vf_device 101e
i=0
for fn in 2 3 4 5; do
	pci $RP 0000:17:00.$fn 020000 15b3 101e; group 8$fn DMA-FQ $P; reset_by $P flr
	link $P/physfn $PF; link $PF/virtfn$i $P; i=$((i+1))
done
for fn in 2 3; do p=$RP/0000:17:00.$fn; bind $p pci vfio-pci; f $p/driver_override vfio-pci; vfio_node 8$fn $fn $p; done
bind $RP/0000:17:00.4 pci mlx5_core; net $RP/0000:17:00.4 ens1f0v2 02:00:00:17:00:04 down
proc 1 systemd; proc 5120 qemu-system-x86; fd 5120 30 /dev/vfio/vfio; fd 5120 31 /dev/vfio/82; fd 5120 32 'anon_inode:[vfio-device]'
default_route ens1f0np0
