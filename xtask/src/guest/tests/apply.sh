# The desired state is applied before the drivers are loaded, as a hook of an initramfs does it: they never bind.
[ -z "$loaded" ] || failed "the drivers are loaded already"
desire() {
	cat >/etc/bindctl.toml <<EOT
version = 1
[[device]]
select = "$NVME"
expect = "1b36:0010"
driver = "$1"
[[device]]
select = "$SATA"
expect = "8086:2922"
driver = "$1"
EOT
}
desire vfio
expect 0 bindctl apply
on $NVME vfio-pci
on $SATA vfio-pci
modprobe nvme
modprobe ahci
comes_back $TWIN
on $NVME vfio-pci
on $SATA vfio-pci
dmesg | grep -E "nvme.*$NVME|ahci $SATA" && failed "the real driver was there"
expect 0 bindctl status
expect 0 bindctl apply
names "nothing"
# Back by another desired state.
desire host
expect 1 bindctl status
expect 0 bindctl apply
on $NVME nvme
on $SATA ahci
no_override $NVME
no_override $SATA
expect 0 bindctl status
# An address that has another device now is noticed.
sed -i s/1b36:0010/8086:0a54/ /etc/bindctl.toml
expect 3 bindctl apply
names "8086:0a54"
rm /etc/bindctl.toml
