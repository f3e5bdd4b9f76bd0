//! Logs from other places: languages, vendors' and distributions' daemons, test harnesses, file formats, and drivers' ends in other
//! words.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

/// A driver that leaves, and the fault that follows, each behind the prefix of a tool.
macro_rules! late {
    ($source:literal, $first:literal, $second:literal) => {
        Shape {
            source: $source,
            text: concat!(
                $first,
                "e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n",
                $second,
                "DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n"
            ),
            want: Violated(&["R9"]),
            says: &["0000:00:1f.6", "0xfd3a4000", "still writes"],
            hides: &["R10"],
        }
    };
}

/// A crash in a removal that begins with these lines.
macro_rules! crash {
    ($source:literal, $head:literal, $want:expr) => {
        Shape {
            source: $source,
            text: concat!(
                $head,
                "[  301.118300] Call trace:\n",
                "[  301.118301]  exdrv_stop+0x18/0x38 [exdrv]\n",
                "[  301.118302]  exdrv_remove+0x40/0x60 [exdrv]\n",
                "[  301.118303]  platform_remove+0x30/0x70\n",
                "[  301.118304]  device_release_driver_internal+0x1c0/0x230\n",
                "[  301.118305]  unbind_store+0xa0/0xb0\n",
                "[  301.118306] ---[ end trace 0000000000000000 ]---\n"
            ),
            want: $want,
            says: &[],
            hides: &[],
        }
    };
}

pub(crate) const SHAPES: &[Shape] = &[
    late!("dmesg -T in French", "[mar. nov.  3 14:22:07 2026] ", "[mar. nov.  3 14:22:09 2026] "),
    late!("dmesg -T in German", "[Di Nov  3 14:22:07 2026] ", "[Di Nov  3 14:22:09 2026] "),
    late!("dmesg -T in Chinese", "[二 11月  3 14:22:07 2026] ", "[二 11月  3 14:22:09 2026] "),
    late!("the journal in French", "nov. 03 14:22:07 hv07 kernel: ", "nov. 03 14:22:09 hv07 kernel: "),
    late!("the journal in German", "Okt 03 14:22:07 hv07 kernel: ", "Okt 03 14:22:09 hv07 kernel: "),
    late!("the journal in Chinese", "11月 03 14:22:07 hv07 kernel: ", "11月 03 14:22:09 hv07 kernel: "),
    late!("the journal in Russian", "ноя 03 14:22:07 hv07 kernel: ", "ноя 03 14:22:09 hv07 kernel: "),
    late!(
        "Chrome OS",
        "2026-11-03T14:22:07.123456Z INFO kernel: [  812.598965] ",
        "2026-11-03T14:22:07.131000Z ERR kernel: [  812.607696] "
    ),
    late!(
        "OpenWrt's logread",
        "Tue Nov  3 14:22:07 2026 kern.info kernel: [  812.598965] ",
        "Tue Nov  3 14:22:07 2026 kern.err kernel: [  812.607696] "
    ),
    late!(
        "busybox's syslogd",
        "Nov  3 14:22:07 target kern.info kernel: [  812.598965] ",
        "Nov  3 14:22:07 target kern.err kernel: [  812.607696] "
    ),
    late!("HiSilicon's kernels", "[  812.598965s][pid:4410,cpu2,sh]", "[  812.607696s][pid:0,cpu2,swapper/2]"),
    late!("kselftest's output", "# [  812.598965] ", "# [  812.607696] "),
    late!(
        "avocado's console log",
        "2026-11-03 14:22:07,123 console  L0088 DEBUG| [  812.598965] ",
        "2026-11-03 14:22:07,131 console  L0088 DEBUG| [  812.607696] "
    ),
    late!("docker compose", "target-1  | [  812.598965] ", "target-1  | [  812.607696] "),
    late!("callers without times", "[ T4410] ", "[    C2] "),
    late!(
        "the journal's unit form",
        "Tue 2026-11-03 14:22:07 CET hv07 kernel[0]: ",
        "Tue 2026-11-03 14:22:09 CET hv07 kernel[0]: "
    ),
    late!(
        "systemd's short-iso-precise behind a container's name",
        "hv07 | 2026-11-03T14:22:07.123456+01:00 hv07 kernel: ",
        "hv07 | 2026-11-03T14:22:07.131000+01:00 hv07 kernel: "
    ),
    late!(
        "SONiC",
        "2026 Nov  3 14:22:07.123456 sw01 INFO kernel: [  812.598965] ",
        "2026 Nov  3 14:22:07.131000 sw01 ERR kernel: [  812.607696] "
    ),
    late!("a syslog with the year", "Nov  3 2026 14:22:07 hv07 kernel: ", "Nov  3 2026 14:22:09 hv07 kernel: "),
    late!("a page's own marks before the first line", "<pre>[  812.598965] ", "[  812.607696] "),
    late!("a tracker's mark of code", "{noformat}[  812.598965] ", "[  812.607696] "),
    late!(
        "Xen's console between",
        "(XEN) [2026-11-03 14:22:06] d0: x\n[  812.598965] ",
        "(XEN) HVM d1v0 save\n[  812.607696] "
    ),
    late!(
        "a trace's clock and level of containerd",
        "time=\"2026-11-03T14:22:07.123456Z\" level=info msg=\"[  812.598965] ",
        "time=\"2026-11-03T14:22:07.131000Z\" level=info msg=\"[  812.607696] "
    ),
    late!(
        "a table of comma-separated values",
        "2026-11-03 14:22:07,hv07,kernel,\"[  812.598965] ",
        "2026-11-03 14:22:07,hv07,kernel,\"[  812.607696] "
    ),
    late!("a table of a web page", "| [  812.598965] ", "| [  812.607696] "),
    Shape {
        source: "one JSON object with a whole log",
        text: "{\"kernel\": \"6.8.0-49\", \"dmesg\": \"[  812.598965] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\\n[  812.607696] DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\\n\"}\n",
        want: Violated(&["R9"]),
        says: &["0xfd3a4000", "still writes"],
        hides: &[],
    },
    Shape {
        source: "records of log servers, whose keys are their own",
        text: "{\"labels\": {\"host\": \"hv07\"}, \"line\": \"[  812.598965] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\", \"timestamp\": \"2026-11-03T14:22:07Z\"}\n{\"_index\": \"k\", \"_source\": {\"@timestamp\": \"2026-11-03T14:22:07Z\", \"message\": \"[  812.607696] DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\"}}\n",
        want: Violated(&["R9"]),
        says: &["0xfd3a4000", "still writes"],
        hides: &[],
    },
    Shape {
        source: "a program's record that speaks of the kernel's words",
        text: "{\"level\": \"info\", \"event\": \"e1000e 0000:00:1f.6 enp0s31f6: removed PHC\"}\n[  812.607696] DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n",
        want: CannotTell,
        says: &["0xfd3a4000"],
        hides: &["violated"],
    },
    Shape {
        source: "VT-d of 5.x with a PASID of all ones",
        text: "[  812.598965] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               [  812.607696] DMAR: [DMA Read] Request device [00:1f.6] PASID ffffffff fault addr fd3a4000 [fault reason 06] PTE Read access is not set\n",
        want: Violated(&["R9"]),
        says: &["0xfd3a4000", "still reads"],
        hides: &[],
    },
    Shape {
        source: "dynamic debugging of the driver core: the device leaves the bus",
        text: "[  100.000001] bus: 'pci': remove device 0000:05:00.0\n\
               [  100.400001] DMAR: [DMA Write NO_PASID] Request device [05:00.0] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n",
        want: Violated(&["R9"]),
        says: &["0000:05:00.0", "still writes"],
        hides: &[],
    },
    Shape {
        source: "a program of user space that writes to the log",
        text: "[  812.598965] systemd-udevd[412]: e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               [  812.607696] DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n",
        want: CannotTell,
        says: &["0xfd3a4000"],
        hides: &["violated"],
    },
    Shape {
        source: "a deferred probe's device, and a fault of another with the same number in another domain",
        text: "[  812.598965] e1000e 0001:00:1f.6 enp0s31f6: removed PHC\n\
               [  812.607696] DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n",
        want: CannotTell,
        says: &["0xfd3a4000"],
        hides: &["violated"],
    },
    crash!(
        "arm64: an external abort",
        "[  301.118234] Internal error: synchronous external abort: 0000000096000210 [#1] PREEMPT SMP\n",
        Violated(&["R19"])
    ),
    crash!(
        "arm: an imprecise abort",
        "[  301.118234] Unhandled fault: imprecise external abort (0x1406) at 0x00000000\n",
        Violated(&["R19"])
    ),
    crash!(
        "arm64: SError",
        "[  301.118234] SError Interrupt on CPU3, code 0x00000000bf000002 -- SError\n",
        Violated(&["R19"])
    ),
    crash!(
        "x86 since 6.10",
        "[  301.118234] Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] PREEMPT SMP NOPTI\n",
        Violated(&["R19"])
    ),
    crash!(
        "KFENCE",
        "[  301.118234] BUG: KFENCE: use-after-free read in exdrv_stop+0x18/0x38 [exdrv]\n",
        Violated(&["R19"])
    ),
    crash!(
        "sleeping in the wrong place, after which the kernel goes on",
        "[  301.118234] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:283\n",
        Nothing
    ),
    crash!(
        "scheduling in the wrong place, after which the kernel goes on",
        "[  301.118234] BUG: scheduling while atomic: rmmod/4410/0x00000002\n",
        Nothing
    ),
    crash!("lockdep", "[  301.118234] WARNING: possible circular locking dependency detected\n", Nothing),
    crash!("UBSAN", "[  301.118234] UBSAN: array-index-out-of-bounds in drivers/ata/exdrv.c:120:14\n", Nothing),
    Shape {
        source: "a crash elsewhere, with an old address of a tear-down on its stack",
        text: "[  301.118234] BUG: kernel NULL pointer dereference, address: 0000000000000010\n\
               [  301.118300] Call Trace:\n\
               [  301.118301]  <TASK>\n\
               [  301.118302]  ext4_lookup+0x18/0x38\n\
               [  301.118303]  ? devres_release_all+0x15a/0x1c0\n\
               [  301.118304]  ? device_release_driver_internal+0x1c0/0x230\n\
               [  301.118305]  do_syscall_64+0x3b/0x90\n\
               [  301.118306]  </TASK>\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
];
