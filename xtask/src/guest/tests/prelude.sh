#!/bin/busybox sh
# Runs as the guest's first process. A test says what it expects; the first thing that differs ends it.
export PATH=/bin

SATA=0000:00:03.0 NVME=0000:00:04.0 CARD=0000:00:05.0 TWIN=0000:00:08.0 PATH0=0000:00:09.0 PATH1=0000:00:0a.0
PAIR0=0000:00:06.0 PAIR1=0000:00:06.1 PF=0000:01:00.0 STRANGE=0000:00:0c.0
PCI=/sys/bus/pci/devices
X86=; [ "$(busybox uname -m)" = x86_64 ] && X86=1

# Stops at once: powering off waits for devices whose unbind hangs. A second is for what is on its way to the console.
finish() { echo "GUEST: $*"; sleep 1; echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; sleep 60; }
begin() { echo "## $1"; }
passed() { echo "GUEST: passed $1"; }
failed() { echo "--- last output"; cat /tmp/out 2>/dev/null; dmesg | tail -20; finish "failed: $*"; }

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
# Waits end when what they wait for is there. The minute is for guests on a busy host, which may stop for seconds.
# appears PATH: within a minute.
appears() { for _i in $(seq 60); do [ -e "$1" ] && return; sleep 1; done; failed "$1 does not appear"; }


# drivers: loads the drivers of the devices that the tests hand over, and waits for what they make.
drivers() {
	[ -z "$loaded" ] || return
	loaded=1
	for module in ahci sd_mod nvme e1000e e1000; do modprobe $module || failed "modprobe $module"; done
	appears /dev/sda
	comes_back $NVME
	comes_back $TWIN
	appears /sys/class/net/eth0
}
group_of() { basename "$(readlink $PCI/$1/iommu_group)"; }
# end PID: ends a process and waits until it is gone.
end() { kill -9 $1; wait $1 2>/dev/null; rm -f /tmp/holder; }
# holding: vfio-check says in /tmp/holder that it holds its device.
holding() {
	for _i in $(seq 60); do grep -q holding /tmp/holder && return; sleep 1; done
	cp /tmp/holder /tmp/out; failed "the holder does not hold"
}
# prompt CODE COMMAND...: the command ends by itself, with this code or `any`.
prompt() {
	_code=$1; shift
	echo "# $* (must not hang)"
	timeout -s KILL 240 "$@" >/tmp/out 2>&1
	_got=$?
	cat /tmp/out
	[ $_got -lt 124 ] || failed "$* hangs"
	[ $_code = any ] || [ $_got = "$_code" ] || failed "$*: exit code $_got, not $_code"
}
# refused ERROR FILE VALUE: the kernel refuses the write.
refused() {
	(echo "$3" >"$2") 2>/tmp/out && failed "$3 into $2 succeeded"
	names "$1"
}
row() { echo "# row: $*"; }
# killed_at STEP COMMAND...: kills the command when it tells that step; false when it never does.
killed_at() {
	_step=$1; shift
	_hit=1
	rm -f /tmp/fifo; mkfifo /tmp/fifo
	"$@" >/tmp/fifo 2>&1 &
	_pid=$!
	while read -r _word _number _rest; do
		case "$_word $_number" in "step $_step/"*) kill -9 $_pid; _hit=0; break ;; esac
	done </tmp/fifo
	wait $_pid 2>/dev/null
	return $_hit
}
# comes_back ADDRESS: an NVMe controller has its namespace again.
comes_back() {
	for _i in $(seq 60); do
		ls $PCI/$1/nvme/nvme*/nvme*n1 >/dev/null 2>&1 && [ -e /dev/$(disk_of $1) ] && return
		sleep 1
	done
	failed "the namespace of $1 does not come back"
}
# disk_of ADDRESS: the block device of an NVMe controller.
disk_of() { basename "$(ls -d $PCI/$1/nvme/nvme*/nvme*n1 | head -n 1)"; }
card_of() { ls $PCI/$1/net | head -n 1; }

# --- set-up: left out of what runs from another root.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# For what the kernel loads by itself.
echo /bin/modprobe >/proc/sys/kernel/modprobe
modprobe vfio_iommu_type1 || failed "modprobe vfio_iommu_type1"
modprobe virtio_pci
modprobe virtio_blk
modprobe ext4 || failed "modprobe ext4"
