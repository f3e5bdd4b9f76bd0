# Bugs on purpose in a real kernel: each is found by the rule that should, and the driver without one is clean.
# A crash leaves locks behind that the way down would wait for; the console needs a moment to print.
finish() { echo "GUEST: $*"; sleep 3; echo b >/proc/sysrq-trigger; sleep 60; }
cat >/tmp/life.sh <<END
insmod /bin/planted.ko bug=\$1
rmmod planted
END
# planted CODE BUG WORDS...
planted() {
	_want=$1; _bug=$2; shift 2
	expect $_want bindery-audit --record $STRANGE -o /tmp/$_bug.trace -- sh /tmp/life.sh $_bug
	names "$@"
}
planted 0 none "R1  proved" "R2  proved" "R3  proved" "R4  proved" "R5  proved" "R6  proved" "R8  proved" "verdict: proved"
planted 1 leak "R4  violated" "coherent memory of 16384 bytes"
planted 1 size "R3  violated" "8192 bytes instead of 16384"
planted 1 twice "R2  violated" "given back twice"
planted 1 ops "R5  violated" "through the IOMMU back-end" "by the direct path" "376991db4b64" "R19 violated"
