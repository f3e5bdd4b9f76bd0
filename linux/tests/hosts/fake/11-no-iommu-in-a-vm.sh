#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# A virtual machine without an IOMMU. The PCI driver is virtio-pci; virtio_net sits one level below it.
H=sys/devices/pci0000:00
drv pci virtio-pci virtio_pci; drv virtio virtio_net virtio_net; vfio_stack
f sys/module/vfio/parameters/enable_unsafe_noiommu_mode N
d sys/class/iommu; d sys/kernel/iommu_groups; d sys/bus/virtio/devices
pci $H 0000:00:03.0 020000 1af4 1000; bind $P pci virtio-pci; d $P/virtio0; link sys/bus/virtio/devices/virtio0 $P/virtio0; bind $P/virtio0 virtio virtio_net; net $P/virtio0 ens3 52:54:00:00:00:03 up
pci $H 0000:00:04.0 020000 1af4 1000; bind $P pci virtio-pci; d $P/virtio1; link sys/bus/virtio/devices/virtio1 $P/virtio1; bind $P/virtio1 virtio virtio_net; net $P/virtio1 ens4 52:54:00:00:00:04 down
default_route ens3
mount_line "30 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"
