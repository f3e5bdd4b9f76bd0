# Virtual functions go before the physical one, and come back as they were.
drivers
VF0=0000:01:00.1 VF1=0000:01:00.2
echo 0 >$PCI/$PF/sriov_drivers_autoprobe
echo 2 >$PCI/$PF/sriov_numvfs || failed "no virtual functions"
on $VF0 none
# With a device tree, 6.1 does not isolate what is behind the port: the functions share its group.
together=; [ "$(group_of $VF0)" = "$(group_of $PF)" ] && together=1
if [ $together ]; then
	expect 5 bindctl give $VF0
	names "$PF is in the same group"
	on $PF nvme
else
	expect 0 bindctl give $VF0
	on $VF0 vfio-pci
	# A guest holds one: the physical function does not go.
	vfio-check $PCI/$VF0 --hold >/tmp/holder 2>&1 &
	holder=$!
	holding
	expect 4 bindctl give $PF
	names "$VF0" "vfio-check ($holder)"
	on $PF nvme
	on $VF0 vfio-pci
	end $holder
fi
expect 0 bindctl plan $PF --to vfio
names "$VF0" "$VF1" "vanish"
expect 0 bindctl give $PF
on $PF vfio-pci
[ ! -e $PCI/$VF0 ] || failed "the functions are still there"
expect 0 bindctl take $PF
on $PF nvme
no_override $PF
[ "$(cat $PCI/$PF/sriov_numvfs)" = 2 ] || failed "sriov_numvfs is not restored"
[ "$(cat $PCI/$PF/sriov_drivers_autoprobe)" = 0 ] || failed "sriov_drivers_autoprobe is not restored"
if [ $together ]; then
	on $VF0 none
else
	on $VF0 vfio-pci
	[ "$(cat $PCI/$VF0/driver_override)" = vfio-pci ] || failed "the function's override is not restored"
	on $VF1 none
	no_override $VF1
	expect 0 bindctl take $VF0
	on $VF0 none
	no_override $VF0
fi
# Both named in one command is a conflict.
expect 3 bindctl give $PF $VF0
names "name only one"
echo 0 >$PCI/$PF/sriov_numvfs
echo 1 >$PCI/$PF/sriov_drivers_autoprobe
