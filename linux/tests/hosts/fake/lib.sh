# Builders for a fake host: DIR/sys, DIR/proc, DIR/dev (POSIX sh; sourced by each mk.sh).
# Links below sys/ are relative and shortest, as kernfs writes them. Links below proc/ are the
# literal text that the kernel shows (absolute, "anon_inode:...", "... (deleted)").

root() {
	[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: $0 DIR" >&2; exit 2; }
	R=$1
	mkdir -p "$R/sys/bus/pci/devices" "$R/sys/bus/pci/drivers" "$R/sys/class" "$R/sys/block" \
		"$R/sys/devices" "$R/sys/module" "$R/proc/self" "$R/proc/net" "$R/dev" || exit 1
	raw sys/bus/pci/drivers_probe ''
	raw sys/bus/pci/drivers_autoprobe '1\n'
	raw sys/bus/pci/rescan ''
	f proc/swaps "Filename				Type		Size		Used		Priority"
	raw proc/cmdline 'BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro quiet\n'
	route_head
	mkdir -p "$R/sys/kernel"
	raw proc/self/mountinfo ''
	mount_line "22 1 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw"
	mount_line "23 1 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw"
	mount_line "24 1 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,mode=755"
}

up_to() { [ -d "$R/${1%/*}" ] || mkdir -p "$R/${1%/*}"; }
d()   { mkdir -p "$R/$1"; }
f()   { up_to "$1"; printf '%s\n' "$2" >"$R/$1"; }
raw() { up_to "$1"; printf "$2" >"$R/$1"; }
add() { up_to "$1"; printf '%s\n' "$2" >>"$R/$1"; }
text() { up_to "$1"; ln -sfn "$2" "$R/$1"; }       # procfs link

# link LINK TARGET: both relative to the root; the text climbs to the common parent only.
link() {
	_l=$1; _t=$2
	up_to "$_l"
	_base=${_l%/*}; _up=
	while :; do
		case "${_t%/*}/" in "$_base"/*) break ;; esac
		_up=../$_up; _base=${_base%/*}
	done
	ln -sfn "$_up${_t#"$_base"/}" "$R/$_l"
}

# node PATH c|b MAJOR MINOR: a real node where mknod is allowed, else a file with that text.
node() {
	up_to "$1"; rm -f "$R/$1"
	mknod "$R/$1" "$2" "$3" "$4" 2>/dev/null || printf '%s %s:%s\n' "$2" "$3" "$4" >"$R/$1"
}

mount_line() { printf '%s\n' "$1" >>"$R/proc/self/mountinfo"; }
swap_line()  { printf '%s\n' "$1" >>"$R/proc/swaps"; }
route_head() { f proc/net/route "Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT"; }
default_route() { add proc/net/route "$1	00000000	0102A8C0	0003	0	0	100	00000000	0	0	0"; }

# drv BUS NAME [MODULE]
drv() {
	_d=sys/bus/$1/drivers/$2
	raw "$_d/bind" ''; raw "$_d/unbind" ''; raw "$_d/uevent" ''
	[ "$1" = pci ] && { raw "$_d/new_id" ''; raw "$_d/remove_id" ''; }
	if [ -n "$3" ]; then
		d "sys/module/$3/drivers"
		f "sys/module/$3/refcnt" "${4:-0}"
		link "$_d/module" "sys/module/$3"
		link "sys/module/$3/drivers/$1:$2" "$_d"
	fi
}

bind() { # bind DEVPATH BUS DRIVER
	link "$1/driver" "sys/bus/$2/drivers/$3"
	link "sys/bus/$2/drivers/$3/${1##*/}" "$1"
}

le16() { printf '\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)); }

# pci PARENT BDF CLASS VENDOR DEVICE [HEADER_TYPE]: prints nothing, sets P to the device's path.
pci() {
	P=$1/$2
	d "$P/power"
	f "$P/class" "0x$3"; f "$P/vendor" "0x$4"; f "$P/device" "0x$5"
	f "$P/subsystem_vendor" "0x$4"; f "$P/subsystem_device" 0x0001; f "$P/revision" 0x01
	f "$P/enable" 1; f "$P/numa_node" 0; f "$P/irq" 16; f "$P/msi_bus" 1
	f "$P/driver_override" '(null)'
	f "$P/d3cold_allowed" 1; f "$P/power_state" D0
	f "$P/power/control" on; f "$P/power/runtime_status" active
	raw "$P/remove" ''; raw "$P/rescan" ''
	_v=$4 _d5=$5
	f "$P/modalias" "pci:v0000$(up "$_v")d0000$(up "$_d5")sv0000$(up "$_v")sd00000001bc$(up "${3%????}")sc$(up "$(echo "$3" | cut -c3-4)")i$(echo "$3" | cut -c5-6)"
	raw "$P/uevent" "PCI_CLASS=$(up "$3")\nPCI_ID=$(up "$_v"):$(up "$_d5")\nPCI_SLOT_NAME=$2\n"
	printf "$(le16 0x$_v)$(le16 0x$_d5)\\006\\004\\020\\000\\001$(printf '\\%03o\\%03o\\%03o' 0x$(echo "$3" | cut -c5-6) 0x$(echo "$3" | cut -c3-4) 0x$(echo "$3" | cut -c1-2))\\000\\000\\$(printf %03o "${6:-0}")\\000" >"$R/$P/config"
	head -c 240 /dev/zero >>"$R/$P/config"
	f "$P/resource" "0x00000000f0000000 0x00000000f0003fff 0x0000000000140204"
	link "$P/subsystem" sys/bus/pci
	link "sys/bus/pci/devices/$2" "$P"
}
up() { printf %s "$1" | tr a-f A-F; }

dead() { # the device answers all ones
	dd if=/dev/zero bs=256 count=1 2>/dev/null | LC_ALL=C tr '\000' '\377' >"$R/$1/config"
}

reset_by() { f "$1/reset_method" "$2"; raw "$1/reset" ''; }

# group N TYPE DEVPATH...
group() {
	_n=$1; _g=sys/kernel/iommu_groups/$1; d "$_g/devices"; f "$_g/type" "$2"; shift 2
	f "$_g/reserved_regions" "0x00000000fee00000 0x00000000feefffff msi"
	for _p; do
		link "$_p/iommu_group" "$_g"
		link "$_g/devices/${_p##*/}" "$_p"
	done
}

iommu() { # iommu dmar0|ivhd0|... : something translates on this host
	d "sys/devices/virtual/iommu/$1"; link "sys/class/iommu/$1" "sys/devices/virtual/iommu/$1"
}

vfio_stack() { # modules and the vfio-pci driver, loaded
	drv pci vfio-pci vfio_pci "${1:-0}"
	for _m in vfio vfio_pci_core vfio_iommu_type1 iommufd; do f "sys/module/$_m/refcnt" 1; done
	f sys/module/vfio_pci/parameters/disable_idle_d3 N
	f sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts N
	node dev/vfio/vfio c 10 196; node dev/iommu c 10 125
}

# vfio_node GROUP MINOR DEVPATH [MINOR_IN_DEV]: the class entry and the node (which may disagree)
vfio_node() {
	f "sys/devices/virtual/vfio/$1/dev" "510:$2"
	link "sys/class/vfio/$1" "sys/devices/virtual/vfio/$1"
	node "dev/vfio/$1" c 510 "${4:-$2}"
	f "$3/vfio-dev/vfio$2/dev" "511:$2"
	node "dev/vfio/devices/vfio$2" c 511 "$2"
}

# net DEVPATH IFNAME MAC OPERSTATE [FLAGS]
net() {
	_p=$1/net/$2
	f "$_p/address" "$3"; f "$_p/operstate" "$4"; f "$_p/ifindex" 2; f "$_p/type" 1
	case $4 in up) f "$_p/carrier" 1; f "$_p/flags" "${5:-0x1003}" ;; *) f "$_p/flags" "${5:-0x1002}" ;; esac
	link "$_p/device" "$1"; link "$_p/subsystem" sys/class/net
	link "sys/class/net/$2" "$_p"
}

# nvme DEVPATH N SERIAL MODEL: controller with its char node
nvme() {
	_c=$1/nvme/nvme$2
	f "$_c/serial" "$3"; f "$_c/model" "$4"; f "$_c/state" live; f "$_c/cntlid" 1
	f "$_c/dev" "240:$2"; node "dev/nvme$2" c 240 "$2"
	f "$_c/address" "${1##*/}"
	link "$_c/device" "$1"; link "$_c/subsystem" sys/class/nvme; link "sys/class/nvme/nvme$2" "$_c"
	C=$_c
}

# disk PATH MAJOR MINOR [nodev] ; part DISK NAME MAJOR MINOR NUMBER
disk() {
	f "$1/dev" "$2:$3"; f "$1/size" 3907029168; f "$1/ro" 0; d "$1/holders"; d "$1/slaves"
	f "$1/hidden" 0; f "$1/removable" 0
	link "$1/subsystem" sys/class/block
	link "sys/block/${1##*/}" "$1"; link "sys/class/block/${1##*/}" "$1"
	link "sys/dev/block/$2:$3" "$1"
	node "dev/${1##*/}" b "$2" "$3"
}
part() {
	_q=$1/$2
	f "$_q/dev" "$3:$4"; f "$_q/partition" "$5"; f "$_q/size" 1048576; d "$_q/holders"
	link "$_q/subsystem" sys/class/block
	link "sys/class/block/$2" "$_q"; link "sys/dev/block/$3:$4" "$_q"
	node "dev/$2" b "$3" "$4"
}
# holds HOLDER_DISK MEMBER (both paths): dm or md over a disk or partition
holds() {
	link "$2/holders/${1##*/}" "$1"
	link "$1/slaves/${2##*/}" "$2"
}

# proc PID COMM [STATE]
proc() {
	f "proc/$1/comm" "$2"; raw "proc/$1/cmdline" "$2\\000"
	f "proc/$1/stat" "$1 ($2) ${3:-S} 1 $1 $1 0 -1 4194560 0 0 0 0 1 1 0 0 20 0 1 0 1000 0 0"
	raw "proc/$1/status" "Name:\t$2\nState:\t${3:-S}\nPid:\t$1\nPPid:\t1\n"
	d "proc/$1/fd"
	text "proc/$1/ns/net" "net:[${4:-4026531840}]"
}
fd() { text "proc/$1/fd/$2" "$3"; raw "proc/$1/fdinfo/$2" "pos:\t0\nflags:\t0100002\nmnt_id:\t15\nino:\t9\n"; }
