#!/bin/sh
. "$(dirname "$0")/lib.sh"; root "$@"
# A virtual function whose interface was moved into a container's network namespace: on the host the
# directory net/ is there and empty, and no route, bond or flag of the host shows that it is in use.
H=sys/devices/pci0000:3a
iommu dmar1; drv pci iavf iavf 4; drv pci ice ice 1; drv pci pcieport; vfio_stack
pci $H 0000:3a:00.0 060400 8086 2030 1; bind $P pci pcieport; group 40 DMA-FQ $P; RP=$P
pci $RP 0000:3b:00.0 020000 8086 1593; PF=$P; bind $P pci ice; group 41 DMA-FQ $P; net $P ens3f0 02:00:00:3b:00:00 up; reset_by $P flr
f $PF/sriov_totalvfs 8; f $PF/sriov_numvfs 2; f $PF/sriov_drivers_autoprobe 1; f $PF/sriov_offset 8
pci $RP 0000:3b:01.0 020000 8086 1889; bind $P pci iavf; group 42 DMA-FQ $P; d $P/net; reset_by $P flr; link $P/physfn $PF; link $PF/virtfn0 $P
pci $RP 0000:3b:01.1 020000 8086 1889; bind $P pci iavf; group 43 DMA-FQ $P; net $P ens3f0v1 02:00:00:3b:01:01 down; reset_by $P flr; link $P/physfn $PF; link $PF/virtfn1 $P
proc 1 systemd; proc 4242 router S 4026532801
raw proc/4242/net/dev 'Inter-|   Receive                                                |  Transmit\n face |bytes    packets\n    lo:       0       0\n  net1: 8123411   90211\n'
raw proc/4242/net/route 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\nnet1\t00000000\t010A0A0A\t0003\t0\t0\t0\t00000000\n'
raw proc/net/dev 'Inter-|   Receive\n    lo:  0 0\nens3f0: 1 1\nens3f0v1: 0 0\n'
default_route ens3f0
