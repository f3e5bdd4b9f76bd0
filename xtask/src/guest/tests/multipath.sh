# One namespace behind two controllers: whoever uses it uses both.
drivers
head=$(ls -d $PCI/$PATH0/nvme/nvme*/nvme*c*n1 | head -n 1)
[ "$head" ] || failed "the namespace is not multipath"
head=$(basename "$head" | sed 's/c[0-9]*n/n/')
mke2fs /dev/$head >/tmp/out 2>&1 && mount -t ext4 /dev/$head /mnt || failed "no file system"
for path in $PATH0 $PATH1; do
	expect 4 bindctl give $path
	names "$head" "/mnt"
	on $path nvme
done
umount /mnt
# Unused, one path goes and the other keeps the disk.
expect 0 bindctl give $PATH0
on $PATH0 vfio-pci
on $PATH1 nvme
[ -e /dev/$head ] || failed "the namespace went with one of its paths"
expect 0 bindctl take $PATH0
on $PATH0 nvme
