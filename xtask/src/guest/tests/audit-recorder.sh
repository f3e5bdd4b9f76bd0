# Whatever ends a recording, tracefs is as it was before.
settled() {
	mount | grep -q tracefs && failed "tracefs is left mounted"
	mount -t tracefs tracefs /mnt || failed "tracefs cannot be mounted"
	[ -z "$(ls /mnt/instances)" ] || failed "left: $(ls /mnt/instances)"
	grep bindery /mnt/kprobe_events >/tmp/out && failed "kprobe events are left"
	umount /mnt
}
# vanishes COMMAND...: the command fails within a minute.
vanishes() { for _i in $(seq 60); do "$@" >/dev/null 2>&1 || return; sleep 1; done; failed "$* goes on"; }
# pids PATTERN: processes with it in their command line. A bracket keeps the search from finding itself.
pids() { for _p in /proc/[0-9]*; do grep -q -- "$1" $_p/cmdline 2>/dev/null && echo ${_p#/proc/}; done; }
keeper() { pids '--keepe[r]' | grep .; }
# recording: the recorder has begun, and its command runs.
recording() {
	for _i in $(seq 60); do
		grep -q 1 /sys/kernel/tracing/instances/*/tracing_on 2>/dev/null && command_runs && return
		sleep 1
	done
	failed "the recorder does not begin"
}
command_runs() { pids '^slee[p]' | grep -q .; }
end_command() { kill -9 $(pids '^slee[p]'); }

expect 3 bindery-audit --record $STRANGE -o /tmp/1.trace -- true
names "nothing to judge"
settled
expect 3 bindery-audit --record $STRANGE -o /tmp/1.trace -- false
names "exit status: 1"
settled
echo "# what cannot be done is refused before anything is changed"
expect 2 bindery-audit --record $STRANGE -o /tmp/1.trace -- /no/such/program
names "cannot run /no/such/program"
expect 2 bindery-audit --record $STRANGE -o /proc/1.trace -- true
names "cannot write /proc/1.trace"
expect 2 bindery-audit --record ../$STRANGE -- true
settled
echo "# a disk that is full"
mkdir -p /tmp/small; mount -t tmpfs -o size=8k tmpfs /tmp/small
expect 2 bindery-audit --record $STRANGE -o /tmp/small/1.trace -- modprobe nvme
names "No space left"
[ -z "$(ls /tmp/small)" ] || failed "a part is left"
umount /tmp/small
rmmod nvme
settled
echo "# SIGKILL"
bindery-audit --record $STRANGE -o /tmp/2.trace -- sleep 7777 >/tmp/2.out 2>&1 &
pid=$!
recording
[ -n "$(ls /sys/kernel/tracing/instances)" ] || failed "there is no instance"
kill -9 $pid
vanishes keeper
settled
end_command
[ ! -e /tmp/2.trace ] || failed "half a recording"
echo "# SIGKILL of both: the next recorder cleans up"
bindery-audit --record $STRANGE -o /tmp/2.trace -- sleep 7777 >/tmp/2.out 2>&1 &
pid=$!
recording
kill -9 $(keeper) $pid
# Gone, and not only told to go: else the next one finds the instance in use.
wait $pid
vanishes keeper
end_command
expect 3 bindery-audit --record $STRANGE -o /tmp/3.trace -- true
names "left behind"
[ -z "$(ls /sys/kernel/tracing/instances)" ] || failed "left: $(ls /sys/kernel/tracing/instances)"
grep bindery /sys/kernel/tracing/kprobe_events >/tmp/out && failed "kprobe events are left"
umount /sys/kernel/tracing
echo "# two at once, and SIGTERM"
bindery-audit --record $STRANGE -o /tmp/4.trace -- sleep 7777 >/tmp/4.out 2>&1 &
pid=$!
recording
expect 3 bindery-audit --record $STRANGE -o /tmp/5.trace -- true
[ "$(ls /sys/kernel/tracing/instances | wc -l)" = 1 ] || failed "the other's instance is gone"
kill $pid
wait $pid
[ $? = 3 ] || { cp /tmp/4.out /tmp/out; failed "SIGTERM does not end in a report"; }
[ -e /tmp/4.trace ] || failed "nothing was saved"
settled
echo "# somebody else's tracing, and debugfs"
mount -t debugfs debugfs /sys/kernel/debug
cd /sys/kernel/debug/tracing || failed "no tracing in debugfs"
echo 1 >events/dev/devres_log/enable; echo 0 >options/hash-ptr; echo 0 >options/overwrite
cd /
expect 3 bindery-audit --record $STRANGE -o /tmp/6.trace -- true
cd /sys/kernel/debug/tracing
[ "$(cat events/dev/devres_log/enable options/hash-ptr options/overwrite current_tracer)" = "1
0
0
nop" ] || failed "somebody else's tracing was changed"
[ -z "$(ls instances)" ] || failed "left: $(ls instances)"
echo 0 >events/dev/devres_log/enable; echo 1 >options/hash-ptr; echo 1 >options/overwrite
cd /
umount /sys/kernel/debug/tracing; umount /sys/kernel/debug
echo "# not root"
cp /bin/bindery-audit /tmp/bindery-audit; chmod 1777 /tmp
echo "u:x:1000:1000::/tmp:/bin/sh" >/etc/passwd
expect 2 su -s /bin/sh u -c "/tmp/bindery-audit --record $STRANGE -o /tmp/7.trace -- true"
names "needs root"
grep -q "cannot put back" /tmp/out && failed "it put back what it could not change"
settled
