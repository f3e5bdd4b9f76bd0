# A network card: refused while its interface has an address or a default route.
ip link set eth0 up
ip addr add 10.0.0.1/24 dev eth0
expect 4 bindctl give $CARD
names "eth0 is up"
ip route add default via 10.0.0.2
expect 4 bindctl give $CARD
names "default route goes over eth0"
on $CARD e1000e
ip link set eth0 down
mac=$(cat /sys/class/net/eth0/address)
expect 0 bindctl give "mac=$mac"
on $CARD vfio-pci
expect 0 bindctl take $CARD
on $CARD e1000e
appears /sys/class/net/eth0
[ "$(cat /sys/class/net/eth0/address)" = "$mac" ] || failed "another card"
# A driver that is not there: nothing is written.
expect 5 bindctl plan $CARD --to vfio_pci
names "did you mean vfio-pci"
on $CARD e1000e
