//! Recordings by other people's hands: options of ftrace, other tools, mails, older and newer events.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

/// A life that leaks 2048 bytes: lines with `$in` and `$out` as the heads of the two tasks' lines, and `$call` between a function
/// and its caller.
macro_rules! leak {
    ($source:literal, $header:literal, $in:literal, $out:literal, $call:literal, $late:literal) => {
        Shape {
            source: $source,
            text: concat!(
                $header,
                $in,
                "0",
                $late,
                "really_probe",
                $call,
                "__driver_probe_device\n",
                $in,
                "1",
                $late,
                "devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n",
                $in,
                "2",
                $late,
                "map: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x000000003d471000 size=4096\n",
                $in,
                "3",
                $late,
                "dma_map_page: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\n",
                $out,
                "4",
                $late,
                "device_release_driver_internal",
                $call,
                "unbind_store\n",
                $out,
                "5",
                $late,
                "device_unbind_cleanup",
                $call,
                "device_release_driver_internal\n",
                $out,
                "6",
                $late,
                "devres_release_all",
                $call,
                "device_unbind_cleanup\n",
                $out,
                "7",
                $late,
                "devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n",
                $out,
                "8",
                $late,
                "device_links_driver_cleanup",
                $call,
                "device_release_driver_internal\n",
            ),
            want: Violated(&["R4"]),
            says: &["0xfffe0000", "2048 bytes"],
            hides: &["R1   violated", "R6   violated"],
        }
    };
}

pub(crate) const SHAPES: &[Shape] = &[
    leak!(
        "ftrace without irq-info",
        "# tracer: function\n#\n#           TASK-PID     CPU#     TIMESTAMP  FUNCTION\n#              | |         |         |         |\n",
        "          insmod-157     [000]    20.10000",
        "              sh-201     [001]    31.10000",
        " <-",
        ": "
    ),
    leak!(
        "ftrace with its latency format",
        "# tracer: function\n#\n# function latency trace v1.1.5 on 6.12.0\n# --------------------------------------------------------------------\n# latency: 0 us, #9/9, CPU#1 | (M:preempt VP:0, KP:0, SP:0 HP:0 #P:2)\n#    -----------------\n#    | task: -0 (uid:0 nice:0 policy:0 rt_prio:0)\n#    -----------------\n#\n#                    _------=> CPU#            \n#                   / _-----=> irqs-off/BH-disabled\n#                  | / _----=> need-resched    \n#                  || / _---=> hardirq/softirq \n#                  ||| / _--=> preempt-depth   \n#                  |||| / _-=> migrate-disable \n#                  ||||| /     delay           \n#  cmd     pid     |||||| time  |   caller     \n#     \\   /        ||||||  \\    |    /       \n",
        "  insmod-157       0..... 2010000",
        "      sh-201       1..... 3110000",
        " <-",
        "us+: "
    ),
    leak!(
        "ftrace with offsets of symbols",
        "# tracer: function\n#\n",
        "          insmod-157     [000] .....    20.10000",
        "              sh-201     [001] .....    31.10000",
        "+0x4/0x410 <-",
        ": "
    ),
    leak!(
        "trace-cmd report of old, nanoseconds, arrows of its own",
        "version = 6\ncpus=2\n",
        "          insmod-157   [000]    20.10000000",
        "              sh-201   [001]    31.10000000",
        " <-- ",
        ":  "
    ),
    leak!(
        "trace-cmd report with the name of the buffer and relative times",
        "version = 7\ncpus=2\n",
        "          insmod-157   [000] .....     0.10000",
        "              sh-201   [001] .....    11.10000",
        " <-- ",
        ": "
    ),
    leak!(
        "a task's name with brackets, a comma and a dash",
        "# tracer: function\n#\n",
        " (udev-worker)-1-157     [000] .....    20.10000",
        " [x] a, b-201     [127] d.Zff    31.10000",
        " <-",
        ": "
    ),
    leak!(
        "thread groups, and a clock of a boot that is days old",
        "# tracer: function\n#\n",
        "          insmod-157     (    157) [000] ..... 864020.10000",
        "              sh-201     (-------) [001] ..... 864031.10000",
        " <-",
        ": "
    ),
    leak!(
        "an instance of another name, read from trace_pipe with a prompt before it",
        "root@target:/sys/kernel/tracing/instances/x# cat trace_pipe\n",
        "          insmod-157     [000] .....    20.10000",
        "              sh-201     [001] .....    31.10000",
        " <-",
        ": "
    ),
    leak!(
        "a mail, quoted twice",
        "On Tuesday somebody wrote:\n",
        "> >           insmod-157     [000] .....    20.10000",
        "> >               sh-201     [001] .....    31.10000",
        " <-",
        ": "
    ),
    Shape {
        source: "ath12k-devel 2025: a recording of 6.12 in a mail that wraps it, a fault 6 ms after the free",
        text: "#1 the driver allocates/maps it at a very early stage:\n   \
               (udev-worker)-532     [010] .....     4.878076: map: IOMMU: iova=0x00000000fe980000 -\n\
               0x00000000fea00000 paddr=0x000000010ec80000 size=524288\n   \
               (udev-worker)-532     [010] .....     4.878079: dma_alloc: 0000:c2:00.0\n\
               dma_addr=fe980000 size=524288 virt_addr=000000006cadbcb1 flags=GFP_KERNEL attrs=\n\
               \n\
               #2 here it is unmapped/freed\n   \
               kworker/u64:0-12      [011] .....   327.747763: dma_free: 0000:c2:00.0\n\
               dma_addr=fe980000 size=524288 virt_addr=000000006cadbcb1 attrs=\n   \
               kworker/u64:0-12      [011] .....   327.747766: unmap: IOMMU: iova=0x00000000fe980000 -\n\
               0x00000000fea00000 size=524288 unmapped_size=524288\n\
               \n\
               #3 then the page fault\n\
               irq/26-AMD-Vi-154     [006] .....   327.753942: io_page_fault: IOMMU:exwifi_pci\n\
               0000:c2:00.0 iova=0x00000000fe980000 flags=0x0001\n\
               \n\
               #4 here the driver is recovering\n\
               [  327.849022] exbus exbus0: Requested to power ON\n",
        want: Violated(&["R10"]),
        says: &["0000:c2:00.0", "0xfe980000", "6 ms before"],
        hides: &["R1   violated", "R4"],
    },
    Shape {
        source: "iommu 2021: faults as events, the driver's name in brackets",
        text: "   irq/24-AMD-Vi-48    [002] ....   978.554289: io_page_fault: IOMMU:[exnet] 0000:05:00.0 iova=0x0000000091482640 flags=0x0000\n   \
               irq/24-AMD-Vi-48    [002] ....   978.554294: io_page_fault: IOMMU:[exnet] 0000:05:00.0 iova=0x0000000091482650 flags=0x0000\n",
        want: CannotTell,
        says: &["0000:05:00.0", "a fault at 0x91482640", "0x91482650"],
        hides: &["violated"],
    },
    Shape {
        source: "linux-iio: devices without a name among the managed resources",
        text: "     sh-124     [000] d..1.   439.921733: devres_log: 40000000.timer:counter ADD f0ecfb01 devm_action_release (8 bytes)\n     \
               sh-124     [000] d..1.   439.921741: devres_log: (null) ADD 44be06af devm_kzalloc_release (64 bytes)\n     \
               sh-124     [000] d..1.   439.921750: devres_log: (null) ADD 16ad25f5 devm_kzalloc_release (8 bytes)\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "stm32 2023: managed resources grow with each low power cycle",
        text: "... devres_log: 49000000.usb-otg ADD 82a13bba devm_action_release (8 bytes)\n\
               ... devres_log: 49000000.usb-otg ADD 49889daf devm_action_release (8 bytes)\n\
               ...\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "the function graph tracer, with events as comments",
        text: "# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n# |     |   |                     |   |   |   |\n \
               0)               |  device_release_driver_internal() {\n \
               0)               |    devres_release_all() {\n \
               0)               |      /* devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes) */\n \
               0)   1.204 us    |    }\n \
               0)   9.301 us    |  }\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "lists of 7.x, cut at 128 entries, unmapped by physical addresses",
        text: "       insmod-157     [000] .....    20.100000: really_probe <-__driver_probe_device\n       \
               insmod-157     [000] d..1.    20.100001: devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n       \
               insmod-157     [000] .....    20.100010: dma_map_sg: 0000:05:00.0 dir=TO_DEVICE nents=2/130 ents=2/130 [TRUNCATED] dma_addrs={0xfffe0000,0xfffd0000} sizes={0x1000,0x1000} phys_addrs={0x3d471000,0x3d472000} attrs=\n           \
               sh-201     [001] .....    31.000000: device_release_driver_internal <-unbind_store\n           \
               sh-201     [001] .....    31.000100: dma_unmap_sg: 0000:05:00.0 dir=TO_DEVICE phys_addrs={0x3d471000,0x3d472000} attrs=\n           \
               sh-201     [001] .....    31.000450: device_unbind_cleanup <-device_release_driver_internal\n           \
               sh-201     [001] .....    31.000451: devres_release_all <-device_unbind_cleanup\n           \
               sh-201     [001] d..1.    31.000460: devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n           \
               sh-201     [001] .....    31.000502: device_links_driver_cleanup <-device_release_driver_internal\n",
        want: CannotTell,
        says: &["0000:05:00.0"],
        hides: &["violated"],
    },
    Shape {
        source: "non-contiguous memory that is freed smaller than it was allocated, and pages that stay",
        text: "       insmod-157     [000] .....    20.100000: really_probe <-__driver_probe_device\n       \
               insmod-157     [000] d..1.    20.100001: devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n       \
               insmod-157     [000] .....    20.100010: dma_alloc_pages: 0000:05:00.0 dir=BIDIRECTIONAL dma_addr=fffe0000 size=8192 virt_addr=00000000deadb001 flags=GFP_KERNEL attrs=\n       \
               insmod-157     [000] .....    20.100020: dma_alloc_pages: 0000:05:00.0 dir=BIDIRECTIONAL dma_addr=fffc0000 size=4096 virt_addr=00000000deadb007 flags=GFP_KERNEL attrs=\n           \
               sh-201     [001] .....    31.000000: device_release_driver_internal <-unbind_store\n           \
               sh-201     [001] .....    31.000100: dma_free_pages: 0000:05:00.0 dir=BIDIRECTIONAL dma_addr=fffe0000 size=4096 virt_addr=00000000deadb001 attrs=\n           \
               sh-201     [001] .....    31.000450: device_unbind_cleanup <-device_release_driver_internal\n           \
               sh-201     [001] .....    31.000451: devres_release_all <-device_unbind_cleanup\n           \
               sh-201     [001] d..1.    31.000460: devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n           \
               sh-201     [001] .....    31.000502: device_links_driver_cleanup <-device_release_driver_internal\n",
        want: Violated(&["R3", "R4"]),
        says: &["8192", "0xfffc0000"],
        hides: &[],
    },
    Shape {
        source: "two devices of one script on two CPUs, of which the second leaks",
        text: "       insmod-157     [000] .....    20.100000: really_probe <-__driver_probe_device\n       \
               insmod-157     [000] d..1.    20.100001: devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n       \
               insmod-158     [001] .....    20.100001: really_probe <-__driver_probe_device\n       \
               insmod-158     [001] d..1.    20.100002: devres_log: 0000:06:00.0 ADD 00000000a1b2c3e4 devm_kzalloc_release (312 bytes)\n       \
               insmod-157     [000] .....    20.100003: dma_alloc: 0000:05:00.0 dma_addr=ffff0000 size=4096 virt_addr=00000000deadb001 flags=GFP_KERNEL attrs=\n       \
               insmod-158     [001] .....    20.100003: dma_alloc: 0000:06:00.0 dma_addr=ffff0000 size=8192 virt_addr=00000000deadb002 flags=GFP_KERNEL attrs=\n           \
               sh-201     [001] .....    31.000000: device_release_driver_internal <-unbind_store\n           \
               sh-202     [000] .....    31.000001: device_release_driver_internal <-unbind_store\n           \
               sh-201     [001] .....    31.000100: dma_free: 0000:05:00.0 dma_addr=ffff0000 size=4096 virt_addr=00000000deadb001 attrs=\n           \
               sh-201     [001] .....    31.000450: device_unbind_cleanup <-device_release_driver_internal\n           \
               sh-202     [000] .....    31.000450: device_unbind_cleanup <-device_release_driver_internal\n           \
               sh-202     [000] d..1.    31.000460: devres_log: 0000:06:00.0 REL 00000000a1b2c3e4 devm_kzalloc_release (312 bytes)\n           \
               sh-201     [001] d..1.    31.000460: devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n           \
               sh-201     [001] .....    31.000502: device_links_driver_cleanup <-device_release_driver_internal\n           \
               sh-202     [000] .....    31.000503: device_links_driver_cleanup <-device_release_driver_internal\n",
        want: Violated(&["R4"]),
        says: &["8192 bytes"],
        hides: &["R1   violated", "R3   violated"],
    },
];
