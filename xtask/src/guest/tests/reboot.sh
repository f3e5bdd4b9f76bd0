# The command is killed and the machine stops without a warning; the state is on a disk. Each stage is a boot of its own.
drivers
appears /dev/vda
mkdir -p /state
mount -t ext4 /dev/vda /state || failed "the disk for the state"
stage=$(cat /state/stage 2>/dev/null || echo 0)
state="--state /state/bindctl"
# next STAGE: what the following boot is to do.
next() { echo $1 >/state/stage; sync; }
crash() { finish again; }
void() {
	expect 0 bindctl $state recover
	names "$1" "void: the machine was rebooted" "$SATA is now on ahci"
	expect 0 bindctl $state status
	names "nothing is given"
}
on $SATA ahci
no_override $SATA
echo "# stage $stage"
case $stage in
0)
	next 1
	killed_at 2 bindctl $state give $SATA || failed "not killed"
	crash ;;
1)
	expect 1 bindctl $state status
	names "unfinished: give of .*$SATA"
	expect 3 bindctl $state give $SATA
	names "bindctl recover"
	void "give of .*$SATA"
	next 2
	killed_at 4 bindctl $state give $SATA || failed "not killed"
	crash ;;
2)
	void "give of .*$SATA"
	expect 0 bindctl $state give $SATA
	next 3
	killed_at 2 bindctl $state take $SATA || failed "not killed"
	crash ;;
3)
	expect 0 bindctl $state recover
	names "take of .*$SATA: void" "record of .*$SATA: void"
	expect 0 bindctl $state status
	# Given, and then the machine reboots without a crash of the command.
	expect 0 bindctl $state give $SATA
	next 4
	crash ;;
4)
	expect 1 bindctl $state status
	names "the machine was rebooted"
	expect 0 bindctl $state recover
	names "record of .*$SATA: void"
	expect 0 bindctl $state give $SATA
	expect 0 bindctl $state take $SATA
	on $SATA ahci ;;
esac
umount /state
