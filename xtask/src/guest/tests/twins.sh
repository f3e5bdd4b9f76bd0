# Devices of the same kind: an ambiguous name is refused with all that it fits, and only the named one moves.
drivers
expect 2 bindctl give 1b36:0010
names $NVME $TWIN NVME0 NVME1
on $NVME nvme
on $TWIN nvme
expect 0 bindctl give serial=NVME1
on $TWIN vfio-pci
on $NVME nvme
on $PATH0 nvme
expect 0 vfio-check $PCI/$TWIN
expect 0 bindctl take $TWIN
on $TWIN nvme
on $NVME nvme
comes_back $TWIN
