# Memory that is kept past the unbind and freed later. On arm64 6.1 the unbind has reset the DMA ops by then, and the direct
# path crashes on memory that the IOMMU's back-end allocated.
# A crash leaves locks behind that the way down would wait for; the console needs a moment to print.
finish() { echo "GUEST: $*"; sleep 3; echo b >/proc/sysrq-trigger; sleep 60; }
cat >/tmp/life.sh <<END
insmod /bin/planted.ko bug=late
echo $STRANGE >/sys/bus/pci/drivers/planted/unbind
echo 1 >/sys/module/planted/parameters/free
END
expect 1 bindery-audit --record $STRANGE -o /tmp/late.trace -- sh /tmp/life.sh
names "R4  violated" "was still live at the end of the unbind"
case "$(uname -m) $(uname -r)" in "aarch64 6.1."*)
	names "R5  violated" "freed by the direct path" "R19 violated"
	;;
esac
