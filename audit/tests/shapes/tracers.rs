//! Recordings under other options of ftrace, and by newer kernels.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

/// A life that leaks 2048 bytes; `$time` before the last digit of each time, `$args` behind a function's name, `$by` between it and its
/// caller, `$end` behind the caller.
macro_rules! leak {
    ($source:literal, $header:literal, $time:literal, $colon:literal, $args:literal, $by:literal, $end:literal) => {
        leak!($source, $header, $time, $colon, $args, $by, $end, Violated(&["R4"]))
    };
    ($source:literal, $header:literal, $time:literal, $colon:literal, $args:literal, $by:literal, $end:literal, $want:expr) => {
        Shape {
            source: $source,
            text: concat!(
                $header,
                "      insmod-157     [000] .....    ",
                $time,
                "0",
                $colon,
                "really_probe",
                $args,
                $by,
                "__driver_probe_device",
                $end,
                "\n",
                "      insmod-157     [000] .....    ",
                $time,
                "1",
                $colon,
                "devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n",
                "      insmod-157     [000] .....    ",
                $time,
                "2",
                $colon,
                "map: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x000000003d471000 size=4096\n",
                "      insmod-157     [000] .....    ",
                $time,
                "3",
                $colon,
                "dma_map_page: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\n",
                "          sh-201     [001] .....    ",
                $time,
                "4",
                $colon,
                "device_release_driver_internal",
                $args,
                $by,
                "unbind_store",
                $end,
                "\n",
                "          sh-201     [001] .....    ",
                $time,
                "5",
                $colon,
                "device_unbind_cleanup",
                $args,
                $by,
                "device_release_driver_internal",
                $end,
                "\n",
                "          sh-201     [001] .....    ",
                $time,
                "6",
                $colon,
                "devres_release_all",
                $args,
                $by,
                "device_unbind_cleanup",
                $end,
                "\n",
                "          sh-201     [001] .....    ",
                $time,
                "7",
                $colon,
                "devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n",
                "          sh-201     [001] .....    ",
                $time,
                "8",
                $colon,
                "device_links_driver_cleanup",
                $args,
                $by,
                "device_release_driver_internal",
                $end,
                "\n",
            ),
            want: $want,
            says: &["0xfffe0000", "2048 bytes"],
            hides: &[],
        }
    };
}

pub(crate) const SHAPES: &[Shape] = &[
    leak!(
        "the option sym-addr",
        "# tracer: function\n#\n",
        "20.10000",
        ": ",
        " <ffffffff81a2c3d0>",
        " <-",
        " <ffffffff81a2d000>"
    ),
    leak!(
        "the option func-args of 6.15",
        "# tracer: function\n#\n",
        "20.10000",
        ": ",
        "(dev=0xffff8881003470c8, drv=0xffffffffc0a01000)",
        " <-",
        ""
    ),
    leak!("the clock tsc, which counts cycles", "# tracer: function\n#\n", "8842210044010", ": ", "", " <-", ""),
    leak!("trace-cmd report --ts-diff", "cpus=2\n", "20.10000", ": (+3)    ", "", " <-", ""),
    leak!(
        "a console's carriage returns between fields, and a clock of nanoseconds",
        "# tracer: function\n#\n",
        "20.10000000",
        ":  ",
        "",
        " <-- ",
        ""
    ),
    Shape {
        source: "the option noprint-parent",
        text: "# tracer: function\n#\n\
      insmod-157     [000] .....    20.100000: really_probe\n\
      insmod-157     [000] .....    20.100001: devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
      insmod-157     [000] .....    20.100002: map: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x000000003d471000 size=4096\n\
      insmod-157     [000] .....    20.100003: dma_map_page: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\n\
          sh-201     [001] .....    20.100004: device_release_driver_internal\n\
          sh-201     [001] .....    20.100005: device_unbind_cleanup\n\
          sh-201     [001] .....    20.100006: devres_release_all\n\
          sh-201     [001] .....    20.100007: devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
          sh-201     [001] .....    20.100008: device_links_driver_cleanup\n",
        want: CannotTell,
        says: &["0xfffe0000", "set_ftrace_filter"],
        hides: &[],
    },
    Shape {
        source: "trace-cmd without the format of an event",
        text: "cpus=2\n\
      insmod-157   [000]    20.100000: function:             really_probe <-- __driver_probe_device\n\
      insmod-157   [000]    20.100001: devres_log:           0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
      insmod-157   [000]    20.100002: map:                  IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x000000003d471000 size=4096\n\
      insmod-157   [000]    20.100003: dma_map_page:         0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\n\
          sh-201   [001]    20.100004: function:             device_release_driver_internal <-- unbind_store\n\
          sh-201   [001]    20.100004: unmap:                IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 size=4096 unmapped_size=4096\n\
          sh-201   [001]    20.100004: dma_unmap_page:       [FAILED TO PARSE] device=0000:05:00.0 addr=4294836224 size=2048 dir=2 attrs=0\n\
          sh-201   [001]    20.100005: function:             device_unbind_cleanup <-- device_release_driver_internal\n\
          sh-201   [001]    20.100006: function:             devres_release_all <-- device_unbind_cleanup\n\
          sh-201   [001]    20.100007: devres_log:           0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
          sh-201   [001]    20.100008: function:             device_links_driver_cleanup <-- device_release_driver_internal\n",
        want: CannotTell,
        says: &["0000:05:00.0"],
        hides: &["violated"],
    },
    Shape {
        source: "trace-cmd that dropped events",
        text: "cpus=2\n\
      insmod-157   [000]    20.100000: function:             really_probe <-- __driver_probe_device\n\
      insmod-157   [000]    20.100001: devres_log:           0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
      insmod-157   [000]    20.100003: dma_map_page:         0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\n\
          sh-201   [001]    20.100004: function:             device_release_driver_internal <-- unbind_store\n\
          sh-201   [001]    20.100005: function:             device_unbind_cleanup <-- device_release_driver_internal\n\
          sh-201   [001]    20.100006: function:             devres_release_all <-- device_unbind_cleanup\n\
          sh-201   [001]    20.100007: devres_log:           0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
          sh-201   [001]    20.100008: function:             device_links_driver_cleanup <-- device_release_driver_internal\n\
CPU:0 [1523 EVENTS DROPPED]\n\
       bash-90    [000]    40.100000: dma_map_page:         0000:07:00.0 dir=FROM_DEVICE dma_addr=aaaa0000 size=2048 phys_addr=3d471000 attrs=\n",
        want: CannotTell,
        says: &["1523"],
        hides: &["violated"],
    },
    Shape {
        source: "the option fields: events by their fields",
        text: "# tracer: nop\n#\n\
      insmod-157     [000] .....    20.100003: dma_map_page: device=0000:05:00.0 phys_addr=0x3d471000 (1028067328) dma_addr=0xfffe0000 (4294836224) size=0x800 (2048) dir=2 attrs=0x0 (0)\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "bpftrace and perf trace, which print calls",
        text: "     0.000 insmod/157 dma:dma_map_page(device: \"0000:05:00.0\", phys_addr: 1028067328, dma_addr: 4294836224, size: 2048, dir: 2)\n\
                0.213 sh/201 dev:devres_log(dev: 0000:05:00.0, op: REL, node: 0xffff888100347000, name: devm_kzalloc_release, size: 312)\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
];
