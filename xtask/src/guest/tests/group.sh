# The board's own disk controller shares a group with two devices: the group is one thing.
OTHER=0000:00:1f.3 HOST=0000:00:1f.2
on $HOST ahci
expect 5 bindctl give $OTHER
names "$HOST is in the same group" "hold-siblings"
on $HOST ahci
expect 0 bindctl give $OTHER --hold-siblings
on $OTHER vfio-pci
on $HOST none
expect 0 bindctl take $OTHER
on $HOST ahci
on $OTHER none
no_override $OTHER
