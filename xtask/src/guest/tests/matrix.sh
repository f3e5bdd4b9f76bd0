# What the kernel does, row by row, and what bindctl does about it.
drivers
modprobe vfio-pci

row "an unknown driver as override: all writes succeed, and the device is without a driver"
echo no-such-driver >$PCI/$CARD/driver_override || failed "override"
echo $CARD >/sys/bus/pci/drivers/e1000e/unbind || failed "unbind"
echo $CARD >/sys/bus/pci/drivers_probe || failed "drivers_probe said so"
on $CARD none
expect 5 bindctl plan $CARD --to no-such-driver
names "no driver no-such-driver"
expect 0 bindctl take $CARD
on $CARD e1000e
no_override $CARD

row "unbind through a driver that does not have the device, or of no device: ENODEV"
refused "No such device" /sys/bus/pci/drivers/nvme/unbind $CARD
refused "No such device" /sys/bus/pci/drivers/nvme/unbind 0000:77:00.0
expect 2 bindctl give 0000:77:00.0
names "0000:77:00.0"

row "bind to vfio-pci with neither override nor id: ENODEV; bindctl writes the override first"
echo $CARD >/sys/bus/pci/drivers/e1000e/unbind
refused "No such device" /sys/bus/pci/drivers/vfio-pci/bind $CARD
expect 0 bindctl give $CARD
on $CARD vfio-pci
expect 0 bindctl take $CARD
on $CARD none
echo $CARD >/sys/bus/pci/drivers/e1000e/bind

row "new_id takes both twins, a second write is EEXIST, remove_id releases none; bindctl moves one"
echo $NVME >/sys/bus/pci/drivers/nvme/unbind
echo $TWIN >/sys/bus/pci/drivers/nvme/unbind
echo 1b36 0010 >/sys/bus/pci/drivers/vfio-pci/new_id || failed "new_id"
on $NVME vfio-pci
on $TWIN vfio-pci
refused "File exists" /sys/bus/pci/drivers/vfio-pci/new_id "1b36 0010"
echo 1b36 0010 >/sys/bus/pci/drivers/vfio-pci/remove_id
on $NVME vfio-pci
on $TWIN vfio-pci
for device in $NVME $TWIN; do
	expect 0 bindctl take $device
	on $device nvme
	comes_back $device
done
expect 0 bindctl give $TWIN
on $NVME nvme
expect 0 bindctl take $TWIN
comes_back $TWIN

row "a group with a sibling on a driver of the host's is not viable; unbound is enough"
echo vfio-pci >$PCI/$PAIR0/driver_override
echo $PAIR0 >/sys/bus/pci/drivers/e1000/unbind
echo $PAIR0 >/sys/bus/pci/drivers/vfio-pci/bind 2>/dev/null
if [ "$(driver $PAIR0)" = vfio-pci ]; then
	expect 1 vfio-check $PCI/$PAIR0
	names "not viable"
fi
echo $PAIR1 >/sys/bus/pci/drivers/e1000/unbind
[ "$(driver $PAIR0)" = vfio-pci ] || echo $PAIR0 >/sys/bus/pci/drivers/vfio-pci/bind || failed "bind"
expect 0 vfio-check $PCI/$PAIR0

row "a driver of the host's for a sibling while the group is held: refused, and the sibling has no driver"
vfio-check $PCI/$PAIR0 --hold >/tmp/holder 2>&1 &
holder=$!
holding
expect 5 bindctl take $PAIR1
names "held by vfio-check ($holder)"
echo $PAIR1 >/sys/bus/pci/drivers_probe 2>/tmp/out && [ "$(driver $PAIR1)" != none ] && failed "the sibling was bound"
on $PAIR1 none
end $holder
echo >$PCI/$PAIR0/driver_override
echo $PAIR0 >/sys/bus/pci/drivers/vfio-pci/unbind
for device in $PAIR0 $PAIR1; do
	echo $device >/sys/bus/pci/drivers/e1000/bind
	on $device e1000
done

row "unbind from vfio-pci while a descriptor is open waits for the holder"
expect 0 bindctl give $CARD
vfio-check $PCI/$CARD --hold >/tmp/holder 2>&1 &
holder=$!
holding
(echo $CARD >/sys/bus/pci/drivers/vfio-pci/unbind; echo unbound >/tmp/unbound) &
writer=$!
for _i in $(seq 60); do dmesg | tail -n 20 | grep -q "No device request channel registered" && break; sleep 1; done
sleep 2
[ ! -e /tmp/unbound ] || failed "unbind did not wait"
dmesg | tail -n 20 | grep -q "No device request channel registered" || failed "the kernel did not log the holder"
prompt any bindctl take $CARD
[ $_got != 0 ] || failed "take went through"
end $holder
wait $writer
[ -e /tmp/unbound ] || failed "unbind did not end with the holder"
on $CARD none
expect 0 bindctl take $CARD
on $CARD e1000e
no_override $CARD

row "the group's type is told"
type=$(cat /sys/kernel/iommu_groups/$(group_of $CARD)/type)
echo "group type $type"
case $type in DMA-FQ | DMA) ;; *) failed "group type $type" ;; esac

row "a device that was never probed: a group already on a PC, none with a device tree"
if [ $X86 ]; then
	[ -e $PCI/$STRANGE/iommu_group ] || failed "no group"
else
	[ ! -e $PCI/$STRANGE/iommu_group ] || failed "a group before the first probe"
	expect 0 bindctl show $STRANGE
	names "unknown until probed"
fi
expect 0 bindctl give $STRANGE
on $STRANGE vfio-pci
expect 0 vfio-check $PCI/$STRANGE
expect 0 bindctl take $STRANGE
on $STRANGE none
no_override $STRANGE

row "unbind of a card whose interface is up succeeds; bindctl refuses"
card=$(card_of $CARD)
ip link set $card up
ip addr add 10.0.0.1/24 dev $card
expect 4 bindctl give $CARD
echo $CARD >/sys/bus/pci/drivers/e1000e/unbind || failed "unbind"
[ ! -e /sys/class/net/$card ] || failed "the interface is still there"
echo $CARD >/sys/bus/pci/drivers/e1000e/bind
on $CARD e1000e

row "unbind of a disk that is swap space succeeds, and the entry stays as deleted; bindctl refuses"
disk=$(disk_of $TWIN)
mkswap /dev/$disk >/dev/null && swapon /dev/$disk || failed "no swap"
expect 4 bindctl give $TWIN
names "swap"
echo $TWIN >/sys/bus/pci/drivers/nvme/unbind || failed "unbind"
cat /proc/swaps
grep -q deleted /proc/swaps || failed "swap does not say deleted"
echo $TWIN >/sys/bus/pci/drivers/nvme/bind
# The swap space still has the old name and its number: nothing after this can rely on the disk.
on $TWIN nvme
