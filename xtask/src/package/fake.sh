#!/bin/sh
# usage: fake.sh DIR [moved]: a fake host with one network card on its own driver, or where the desired state wants it.
set -e
. "$(dirname "$0")/../../../linux/tests/hosts/fake/lib.sh"
if [ "$2" = moved ]; then
	R=$1 P=sys/devices/pci0000:00/0000:00:04.0
	rm -r "$R/$P/net" "$R/sys/class/net/eth9" "$R/sys/bus/pci/drivers/tg3/0000:00:04.0"
	f "$P/driver_override" vfio-pci
	bind "$P" pci vfio-pci
	vfio_node 25 7 "$P"
	exit
fi
root "$1"
iommu dmar0
drv pci tg3 tg3
vfio_stack
proc 1 systemd
pci sys/devices/pci0000:00 0000:00:04.0 020000 14e4 1657
bind "$P" pci tg3
group 25 DMA-FQ "$P"
reset_by "$P" flr
net "$P" eth9 02:00:00:04:00:00 down
cat >"$R/wanted.toml" <<END
version = 1

[[device]]
select = "0000:00:04.0"
expect = "14e4:1657"
driver = "vfio"
END
mkdir "$R/etc"
