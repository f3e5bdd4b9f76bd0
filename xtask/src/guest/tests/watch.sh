# Changes as the kernel announces them, and a report with the kernel's own log.
drivers
bindctl watch --json >/tmp/watch.json &
watcher=$!
bindctl watch $NVME | head -n 1 >/tmp/first &
closed=$!
for _i in $(seq 60); do grep -q watching /tmp/watch.json && break; sleep 1; done
expect 0 bindctl give $NVME
expect 0 bindctl report $NVME
names "vfio-pci" "replaced" "kernel log" "pci function" "given by plan"
grep -q NVME0 /tmp/out && failed "the serial number stands in the report"
expect 0 bindctl take $NVME
comes_back $NVME
disk=$(disk_of $NVME)
for _i in $(seq 60); do grep '"name":"'$disk'"' /tmp/watch.json | grep -q '"action":"add"' && break; sleep 1; done
sleep 2
kill $watcher
cp /tmp/watch.json /tmp/out
cat /tmp/out
names '"event":"watching"' '"action":"unbind"' '"driver":"vfio-pci"' '"driver":"nvme"' "\"name\":\"$disk\"" '"class":"vfio"'
# A reader that has left ends it, although nothing more happens.
for _i in $(seq 60); do kill -0 $closed 2>/dev/null || break; sleep 1; done
ps | grep -v grep | grep -q "bindctl watch" && failed "a watch without a reader still runs"
grep -q watching /tmp/first || failed "the first line is missing"
