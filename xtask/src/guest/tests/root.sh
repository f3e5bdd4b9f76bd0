# The disk that / is on. This moves there, so it is the last test of its boot.
drivers
disk=$(disk_of $NVME)
mke2fs /dev/$disk >/tmp/out 2>&1 && mount -t ext4 /dev/$disk /mnt || failed "no file system"
for folder in sys proc dev run var etc tmp; do mkdir -p /mnt/$folder; done
cp -a /bin /lib /mnt
sed '/^# --- set-up/,$d' /init >/mnt/after
cat >>/mnt/after <<EOT
expect 4 bindctl give $NVME
names "$disk is mounted on /"
on $NVME nvme
expect 4 bindctl plan $NVME --to none
prompt 0 bindctl list
passed root
finish all
EOT
chmod 755 /mnt/after
for folder in sys proc dev; do mount --move /$folder /mnt/$folder; done
exec switch_root /mnt /after
