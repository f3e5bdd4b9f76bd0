#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# One xHCI function carries the boot stick, the network adapter of the default route, and the keyboard.
# It can only be reset through its whole bus. A second, empty controller of the same type stands beside it.
H=sys/devices/pci0000:00
iommu ivhd0; drv pci xhci_hcd xhci_pci; drv pci pcieport; drv usb cdc_ncm cdc_ncm; drv usb usb-storage usb_storage; drv usb usbhid usbhid; vfio_stack
pci $H 0000:00:08.1 060400 1022 1635 1; bind $P pci pcieport; group 5 DMA-FQ $P; RP=$P
pci $RP 0000:04:00.3 0c0330 1022 1639; X=$P; bind $P pci xhci_hcd; group 21 DMA-FQ $P; reset_by $P bus
pci $RP 0000:04:00.4 0c0330 1022 1639; bind $P pci xhci_hcd; group 22 DMA-FQ $P; reset_by $P bus; d $P/usb3; f $P/usb3/idVendor 1d6b
U=$X/usb1; f $U/idVendor 1d6b; f $U/dev 189:0
I=$U/1-2/1-2:1.0; f $U/1-2/idVendor 0bda; f $U/1-2/dev 189:1; d $I; bind $I usb cdc_ncm; net $I enx020000000402 02:00:00:00:04:02 up
I=$U/1-3/1-3:1.0; f $U/1-3/idVendor 0781; f $U/1-3/dev 189:2; d $I; bind $I usb usb-storage
B=$I/host6/target6:0:0/6:0:0:0/block/sdb; disk $B 8 16; part $B sdb1 8 17 1
I=$U/1-4/1-4:1.0; f $U/1-4/idVendor 046d; f $U/1-4/dev 189:3; d $I; bind $I usb usbhid
f $I/0003:046D:C31C.0001/input/input5/name "Example Keyboard"; f $I/0003:046D:C31C.0001/input/input5/event5/dev 13:69; node dev/input/event5 c 13 69
proc 1 systemd; proc 801 systemd-logind; fd 801 22 /dev/input/event5
default_route enx020000000402
mount_line "30 1 0:30 / / rw,relatime shared:1 - overlay overlay rw"
mount_line "36 30 8:17 / /boot rw,relatime shared:9 - vfat /dev/sdb1 rw"
