#!/bin/busybox sh
# Runs as the guest's first process. A test says what it expects; the first thing that differs ends it.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

finish() { echo "GUEST: $*"; poweroff -f; sleep 60; }
passed() { finish passed; }
failed() { echo "--- last output"; cat /tmp/out; dmesg | tail -20; finish "failed: $*"; }

# expect CODE COMMAND...: the command ends with this code. Its output is in /tmp/out.
expect() {
	_code=$1; shift
	echo "# $*"
	"$@" >/tmp/out 2>&1
	_got=$?
	cat /tmp/out
	[ $_got = "$_code" ] || failed "$*: exit code $_got, not $_code"
}
names() { for _n; do grep -q -- "$_n" /tmp/out || failed "$_n is not named"; done; }
driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" || echo none)"; }
on() { [ "$(driver "$1")" = "$2" ] || failed "$1 is on $(driver "$1"), not on $2"; }
no_override() {
	case "$(cat "/sys/bus/pci/devices/$1/driver_override")" in "(null)" | "") ;; *) failed "override of $1 is left" ;; esac
}
# appears PATH: within ten seconds.
appears() { for _i in 1 2 3 4 5 6 7 8 9 10; do [ -e "$1" ] && return; sleep 1; done; failed "$1 does not appear"; }

for module in ahci sd_mod nvme e1000e vfio_iommu_type1; do modprobe $module || failed "modprobe $module"; done
SATA=0000:00:03.0 NVME=0000:00:04.0 CARD=0000:00:05.0
appears /dev/sda
appears /dev/nvme0n1
appears /sys/class/net/eth0
