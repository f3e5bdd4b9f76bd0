# A group is one thing: a sibling on a driver of the host's is named, and held on request.
drivers
on $PAIR0 e1000
on $PAIR1 e1000
[ "$(group_of $PAIR0)" = "$(group_of $PAIR1)" ] || failed "the pair does not share a group"
expect 5 bindctl give $PAIR0
names "$PAIR1 is in the same group" "hold-siblings"
on $PAIR0 e1000
expect 0 bindctl give $PAIR0 --hold-siblings
on $PAIR0 vfio-pci
on $PAIR1 none
expect 0 vfio-check $PCI/$PAIR0
expect 0 bindctl take $PAIR0
on $PAIR0 e1000
on $PAIR1 e1000
no_override $PAIR0
# Both by one command: one plan.
expect 0 bindctl give $PAIR0 $PAIR1
on $PAIR0 vfio-pci
on $PAIR1 vfio-pci
expect 0 bindctl take $PAIR0 $PAIR1
on $PAIR0 e1000
on $PAIR1 e1000
# A PC's own disk controller shares a group with two devices.
if [ $X86 ]; then
	other=0000:00:1f.3 host=0000:00:1f.2
	on $host ahci
	expect 5 bindctl give $other
	names "$host is in the same group" "hold-siblings"
	on $host ahci
	expect 0 bindctl give $other --hold-siblings
	on $other vfio-pci
	on $host none
	expect 0 bindctl take $other
	on $host ahci
	on $other none
	no_override $other
fi
