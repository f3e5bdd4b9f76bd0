# A holder that does not let go: the command ends in time, nothing else hangs, and recover ends well once the holder is gone.
drivers
expect 0 bindctl give $SATA
vfio-check $PCI/$SATA --hold >/tmp/holder 2>&1 &
holder=$!
holding
expect 4 bindctl take $SATA
names "vfio-check ($holder)"
expect 7 bindctl take $SATA --force-in-use $SATA --timeout 3
# With the place where the kernel waits.
names "process .* waits for the kernel" "unbind_store" "bindctl recover"
prompt 0 bindctl list
names "$SATA"
prompt 0 bindctl list --json
prompt any bindctl show $SATA
# Later kernels answer for driver_override; who waits is seen by its descriptor.
names "$SATA" "under way"
prompt any bindctl report $SATA
names "unbind_store"
# However many attributes and commands ask, one reader waits beside the process that waits for the unbind.
helpers=$(ps -o args | grep -c "[b]indery-linux-helper")
[ "$helpers" -le 2 ] || failed "$helpers helpers wait after four commands"
prompt 1 bindctl status
names "unfinished"
# What is under way is left alone.
prompt any bindctl take $SATA
[ $_got != 0 ] || failed "a second take went through"
prompt 7 bindctl recover
names "still under way"
prompt any bindctl give $SATA
# Other devices can be given. Whether the holder holds them, too, 6.1 does not say.
prompt 0 bindctl give $TWIN
prompt any bindctl take $TWIN
end $holder
for _i in $(seq 60); do
	bindctl recover >/tmp/out 2>&1 && break
	sleep 1
done
cat /tmp/out
names "take of .*$SATA: undone"
on $SATA vfio-pci
expect 0 bindctl status
expect 0 bindctl take $SATA
on $SATA ahci
no_override $SATA
appears /dev/sda
[ "$(driver $TWIN)" = nvme ] || expect 0 bindctl take $TWIN
on $TWIN nvme
comes_back $TWIN
