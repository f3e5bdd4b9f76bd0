# A disk's driver is loaded, the disk is used, given to VFIO and taken back, and the driver leaves: the recording is clean.
[ ! -e $PCI/$SATA/driver ] || failed "the disk's driver is there already"
cat >/tmp/life.sh <<END
set -e
modprobe ahci; modprobe sd_mod
for i in \$(seq 60); do [ -e /dev/sda ] || sleep 1; done
dd if=/dev/sda of=/dev/null bs=64k count=16
bindctl give $SATA
bindctl take $SATA
for i in \$(seq 60); do [ -e /dev/sda ] || sleep 1; done
[ -e /dev/sda ]
# As long as the disk's partitions are read, the module is in use.
for i in \$(seq 60); do rmmod ahci && break; sleep 1; done
[ ! -e /sys/module/ahci ]
END
expect 0 bindery-audit --record $SATA -o /tmp/disk.trace -- sh /tmp/life.sh
names "done: take" "R1  proved" "R2  proved" "R3  proved" "R4  proved" "R5  proved" "R6  proved" "R8  proved" \
	"verdict: proved"
# The same file is judged in the same way anywhere.
expect 0 bindery-audit /tmp/disk.trace
grep -q "^# sysfs $SATA bus=pci" /tmp/disk.trace || failed "the device is not listed"
case "$(uname -r)" in 6.1.*)
	# Before 6.12: kprobe events took the place of dma:*. Without them this is what stays open.
	grep -q "^# absent: dma" /tmp/disk.trace || failed "the missing events are not told"
	grep -v bindery_ /tmp/disk.trace >/tmp/bare.trace
	expect 3 bindery-audit /tmp/bare.trace
	names "R1  cannot tell" "R2  cannot tell" "R3  cannot tell" "R4  cannot tell" "R5  proved" "R6  proved" "R8  proved"
	;;
esac
# A recording that begins in mid-life proves nothing, and violates nothing.
modprobe ahci
expect 3 bindery-audit --record $SATA -o /tmp/rest.trace -- rmmod ahci
names "the recording began in the middle of its life"
