# What give and take cost beside the kernel's own writes: the same writes by a shell, with the state in memory.
drivers
# Nanoseconds since the start: busybox's date has none.
now() { sed -n 's/^now at \([0-9]*\) nsecs/\1/p;3q' /proc/timer_list; }
# Each bind of the card takes seconds in an emulator: more rounds would not end in time.
times=5
modprobe vfio-pci
by_shell() {
	echo vfio-pci >$PCI/$CARD/driver_override
	echo $CARD >/sys/bus/pci/drivers/e1000e/unbind
	echo $CARD >/sys/bus/pci/drivers/vfio-pci/bind
}
back_by_shell() {
	echo >$PCI/$CARD/driver_override
	echo $CARD >/sys/bus/pci/drivers/vfio-pci/unbind
	echo $CARD >/sys/bus/pci/drivers/e1000e/bind
}
# sum FORTH BACK: microseconds that FORTH and BACK take, each.
sum() {
	_forth=0; _back=0; _i=0
	while [ $_i -lt $times ]; do
		_a=$(now); $1 >/tmp/out 2>&1 || failed "$1"; _b=$(now); $2 >/tmp/out 2>&1 || failed "$2"; _c=$(now)
		_forth=$((_forth + (_b - _a) / 1000)); _back=$((_back + (_c - _b) / 1000)); _i=$((_i + 1))
	done
	_forth=$((_forth / times)); _back=$((_back / times))
}
nothing() { :; }
start() { bindctl --version; }
sum nothing nothing; clock=$_forth
sum start nothing; echo "GUEST: figure bindctl --version: $((_forth - clock)) us"
sum by_shell back_by_shell; forth=$((_forth - clock)); back=$((_back - clock))
sum "bindctl give $CARD" "bindctl take $CARD"; _forth=$((_forth - clock)); _back=$((_back - clock))
echo "GUEST: figure give: $_forth us, by a shell $forth us, ratio $((_forth * 100 / forth)) %"
echo "GUEST: figure take: $_back us, by a shell $back us, ratio $((_back * 100 / back)) %"
