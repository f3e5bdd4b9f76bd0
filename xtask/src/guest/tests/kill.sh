# The command is killed at each step of give and of take; recover ends well each time.
# at STEP COMMAND...: kills the command when it tells that step.
at() {
	_step=$1; shift
	rm -f /tmp/fifo; mkfifo /tmp/fifo
	"$@" >/tmp/fifo 2>&1 &
	_pid=$!
	while read -r _word _number _rest; do
		case "$_word $_number" in "step $_step/"*) kill -9 $_pid; break ;; esac
	done </tmp/fifo
	wait $_pid 2>/dev/null
}
settled() {
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
for step in 1 2 3 4 5 6; do
	echo "## give, killed at step $step"
	at $step bindctl give $SATA
	settled
done
for step in 1 2 3; do
	echo "## take, killed at step $step"
	expect 0 bindctl give $SATA
	at $step bindctl take $SATA
	settled
done
