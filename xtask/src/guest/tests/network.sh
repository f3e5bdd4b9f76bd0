# A network card: refused while its interface has an address or a default route.
drivers
card=$(card_of $CARD)
ip link set $card up
ip addr add 10.0.0.1/24 dev $card
expect 4 bindctl give $CARD
names "$card is up"
# An address of the host alone has no route that would show it.
ip addr flush dev $card
ip addr add 10.0.0.5/32 dev $card
expect 4 bindctl give $CARD
names "$card is up with address 10.0.0.5"
ip addr flush dev $card
ip addr add 10.0.0.1/24 dev $card
ip route add default via 10.0.0.2
expect 4 bindctl give $CARD
names "default route goes over $card"
on $CARD e1000e
ip addr flush dev $card
ip link set $card down
mac=$(cat /sys/class/net/$card/address)
expect 0 bindctl give "mac=$mac"
on $CARD vfio-pci
expect 0 bindctl take $CARD
on $CARD e1000e
card=$(card_of $CARD)
[ "$(cat /sys/class/net/$card/address)" = "$mac" ] || failed "another card"
# A driver that is not there: nothing is written.
expect 5 bindctl plan $CARD --to vfio_pci
names "did you mean vfio-pci"
on $CARD e1000e
