# A state directory that cannot be written, and a user who may not write: nothing is changed on the device.
drivers
untouched() { on $SATA ahci; no_override $SATA; [ -e /dev/sda ] || failed "sda is gone"; }
mkdir -p /tmp/state
mount -t tmpfs -o size=64k tmpfs /tmp/state
mount -o remount,ro /tmp/state
expect 2 bindctl --state /tmp/state give $SATA
names "/tmp/state" "Read-only"
untouched
mount -o remount,rw /tmp/state
dd if=/dev/zero of=/tmp/state/full bs=4k 2>/dev/null
expect 2 bindctl --state /tmp/state give $SATA
names "/tmp/state" "No space"
untouched
umount /tmp/state
echo "nobody:x:65534:65534::/:/bin/sh" >>/etc/passwd
expect 10 su nobody -c "bindctl give $SATA"
names "root"
untouched
expect 0 su nobody -c "bindctl list --json"
names "$SATA" "run as root"
# What it may not read is said, and the rest is shown.
expect 0 su nobody -c "bindctl show $SATA"
names "$SATA" "ahci"
expect 0 su nobody -c "bindctl status"
