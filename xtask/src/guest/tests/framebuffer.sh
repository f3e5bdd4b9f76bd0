# The display that the firmware set up and the console draws on.
if [ $X86 ]; then
	display=0000:00:01.0
	grep -q . /proc/fb || failed "no framebuffer"
	cat /proc/fb
	expect 4 bindctl give $display
	names "framebuffer"
	on $display none
fi
