# The command is killed at each step of give and of take; recover ends well each time.
drivers
settled() {
	# A write that the killed command had begun is finished by its helper, which keeps the device locked until then.
	for _i in $(seq 60); do
		bindctl recover >/tmp/out 2>&1
		[ $? = 7 ] || break
		grep -q "wait until it ends" /tmp/out || break
		sleep 1
	done
	expect 0 bindctl recover
	[ -z "$(ls /var/lib/bindctl/journal)" ] || failed "a journal is left"
	if [ "$(driver $SATA)" = vfio-pci ]; then
		expect 0 bindctl status
		names "$SATA  wanted vfio-pci, is vfio-pci"
		expect 0 bindctl take $SATA
	fi
	on $SATA ahci
	no_override $SATA
	expect 0 bindctl status
	names "nothing is given"
}
step=1
while killed_at $step bindctl give $SATA; do
	echo "# give was killed at step $step"
	settled
	step=$((step + 1))
done
[ $step -gt 5 ] || failed "give has only $((step - 1)) steps"
settled
step=1
expect 0 bindctl give $SATA
while killed_at $step bindctl take $SATA; do
	echo "# take was killed at step $step"
	settled
	expect 0 bindctl give $SATA
	step=$((step + 1))
done
[ $step -gt 3 ] || failed "take has only $((step - 1)) steps"
settled
appears /dev/sda
