#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# The firmware wants a fixed 1:1 mapping for the NIC (RMRR): visible before anything is touched.
# The USB controller has one too, of the kind that the kernel releases.
H=sys/devices/pci0000:00
iommu dmar0; drv pci tg3 tg3; drv pci uhci_hcd uhci_hcd; drv pci pcieport; vfio_stack
pci $H 0000:00:1c.4 060400 8086 1d18 1; bind $P pci pcieport; group 14 DMA-FQ $P; RP=$P
pci $RP 0000:04:00.0 020000 14e4 1657; bind $P pci tg3; group 25 DMA-FQ $P; net $P eno1 02:00:00:04:00:00 up; reset_by $P bus; P0=$P
pci $RP 0000:04:00.1 020000 14e4 1657; bind $P pci tg3; group 26 DMA-FQ $P; net $P eno2 02:00:00:04:00:01 down; reset_by $P bus
raw sys/kernel/iommu_groups/25/reserved_regions '0x00000000000e8000 0x00000000000e8fff direct\n0x00000000bddde000 0x00000000bdddefff direct\n0x00000000fee00000 0x00000000feefffff msi\n'
cp "$R/sys/kernel/iommu_groups/25/reserved_regions" "$R/sys/kernel/iommu_groups/26/reserved_regions"
pci $H 0000:00:1d.0 0c0300 8086 1d26; bind $P pci uhci_hcd; group 13 DMA-FQ $P; reset_by $P af_flr
raw sys/kernel/iommu_groups/13/reserved_regions '0x00000000bdf83000 0x00000000bdf84fff direct-relaxable\n0x00000000fee00000 0x00000000feefffff msi\n'
default_route eno1
mount_line "30 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw"
