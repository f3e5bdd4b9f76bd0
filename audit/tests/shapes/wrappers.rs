//! Logs inside what tools make of them: JSON, exports, records of test labs and build servers, raw mails.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

/// A driver that leaves, and the fault that follows, each between what a tool puts around it.
macro_rules! late {
    ($source:literal, $head:literal, $first:literal, $between:literal, $second:literal, $tail:literal) => {
        Shape {
            source: $source,
            text: concat!(
                $head,
                $first,
                "e1000e 0000:00:1f.6 enp0s31f6: removed PHC",
                $between,
                $second,
                "DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set",
                $tail,
                "\n"
            ),
            want: Violated(&["R9"]),
            says: &["0000:00:1f.6", "0xfd3a4000", "still writes"],
            hides: &["R10"],
        }
    };
    ($source:literal, $first:literal, $second:literal) => { late!($source, "", $first, "\n", $second, "") };
}

pub(crate) const SHAPES: &[Shape] = &[
    late!(
        "journalctl -o json",
        "",
        "{\"__CURSOR\":\"s=1;i=2\",\"__REALTIME_TIMESTAMP\":\"1793712127123456\",\"_TRANSPORT\":\"kernel\",\"PRIORITY\":\"6\",\"SYSLOG_IDENTIFIER\":\"kernel\",\"_HOSTNAME\":\"hv07\",\"MESSAGE\":\"",
        "\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"812598965\"}\n",
        "{\"MESSAGE\":\"",
        "\",\"_TRANSPORT\":\"kernel\",\"_HOSTNAME\":\"hv07\",\"__REALTIME_TIMESTAMP\":\"1793712127131000\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"812607696\"}"
    ),
    late!(
        "journalctl -o json-pretty",
        "{\n",
        "\t\"_TRANSPORT\" : \"kernel\",\n\t\"__REALTIME_TIMESTAMP\" : \"1793712127123456\",\n\t\"MESSAGE\" : \"",
        "\",\n\t\"_HOSTNAME\" : \"hv07\"\n}\n{\n",
        "\t\"MESSAGE\" : \"",
        "\",\n\t\"_TRANSPORT\" : \"kernel\",\n\t\"_HOSTNAME\" : \"hv07\"\n}"
    ),
    late!(
        "journalctl -o export",
        "__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1793712127123456\n_TRANSPORT=kernel\n_HOSTNAME=hv07\n",
        "MESSAGE=",
        "\n\n__REALTIME_TIMESTAMP=1793712127131000\n_TRANSPORT=kernel\n",
        "MESSAGE=",
        "\n_HOSTNAME=hv07\n"
    ),
    late!(
        "journalctl -o verbose",
        "Tue 2026-11-03 14:22:07.123456 CET [s=00aa;i=2;b=11;m=3;t=4;x=5]\n    _TRANSPORT=kernel\n    PRIORITY=6\n",
        "    MESSAGE=",
        "\n    _HOSTNAME=hv07\nTue 2026-11-03 14:22:07.131000 CET [s=00aa;i=3;b=11;m=3;t=4;x=5]\n    _TRANSPORT=kernel\n",
        "    MESSAGE=",
        "\n    _HOSTNAME=hv07"
    ),
    late!(
        "dmesg --json",
        "{\n   \"dmesg\": [\n      {\n",
        "         \"pri\": 6,\n         \"time\":   812.598965,\n         \"msg\": \"",
        "\"\n      },{\n",
        "         \"pri\": 3,\n         \"time\":   812.607696,\n         \"msg\": \"",
        "\"\n      }\n   ]\n}"
    ),
    late!(
        "LAVA's output.yaml",
        "- {\"dt\": \"2026-11-03T14:22:07.001000\", \"lvl\": \"info\", \"msg\": \"start: 3 lava-test-shell\"}\n",
        "- {\"dt\": \"2026-11-03T14:22:07.123456\", \"lvl\": \"target\", \"msg\": \"[  812.598965] ",
        "\"}\n",
        "- {\"dt\": \"2026-11-03T14:22:07.131000\", \"lvl\": \"target\", \"msg\": \"[  812.607696] ",
        "\"}"
    ),
    late!(
        "a build server's time with seven digits",
        "2026-11-03T14:22:07.1234567Z [  812.598965] ",
        "2026-11-03T14:22:07.1310000Z [  812.607696] "
    ),
    late!(
        "a build server's time and stream",
        "2026-11-03T14:22:07.123456Z 01O [  812.598965] ",
        "2026-11-03T14:22:07.131000Z 01O [  812.607696] "
    ),
    late!(
        "a build server's time in brackets",
        "[2026-11-03T14:22:07.123Z] [  812.598965] ",
        "[2026-11-03T14:22:07.131Z] [  812.607696] "
    ),
    late!(
        "a container's log with nanoseconds",
        "2026-11-03T14:22:07.123456789Z [  812.598965] ",
        "2026-11-03T14:22:07.131000001Z [  812.607696] "
    ),
    late!(
        "RishiGupta12/SerialPundit#35: a syslog date, and then printk's time",
        "Nov  3 14:22:07 [  812.598965] ",
        "Nov  3 14:22:07 [  812.607696] "
    ),
    late!(
        "netconsole into a syslog: the sender's address",
        "Nov  3 14:22:07 10.0.0.5 [  812.598965] ",
        "Nov  3 14:22:07 10.0.0.5 [  812.607696] "
    ),
    late!("pstore", "Oops#1 Part3\n", "<6>[  812.598965] ", "\n", "<3>[  812.607696] ", ""),
    late!("dmesg -H in colours", "\x1b[32m[Nov 3 14:22] \x1b[0m\x1b[33m", "\x1b[32m[  +0.008731] \x1b[0m\x1b[31m"),
    late!("dmesg -T -d", "[Tue Nov  3 14:22:07 2026 <    0.000012>] ", "[Tue Nov  3 14:22:07 2026 <    0.008731>] "),
    late!(
        "dmesg -x --time-format iso",
        "kern  :info  : 2026-11-03T14:22:07,598965+01:00 ",
        "kern  :err   : 2026-11-03T14:22:07,607696+01:00 "
    ),
    late!(
        "journalctl -o short-delta",
        "[  812.598965 <    0.000012 >] hv07 kernel: ",
        "[  812.607696 <    0.008731 >] hv07 kernel: "
    ),
    late!("crash's log -T", "[Tue Nov  3 14:22:07 CET 2026] ", "[Tue Nov  3 14:22:07 CET 2026] "),
    late!("rhardik, Microsemi/switchtec-kernel#110: PREEMPT_RT's CPU", "[  812.598965] 002: ", "[  812.607696] 000: "),
    late!("a page's escapes", "&lt;6&gt;[  812.598965] ", "&lt;3&gt;[  812.607696] "),
    late!("a file of Windows", "\u{feff}", "[  812.598965] ", "\r\n", "[  812.607696] ", "\r"),
    late!("zeros before a line, where the machine restarted", "\0\0\0[  812.598965] ", "\0[  812.607696] "),
    late!(
        "an extended netconsole that splits a message",
        "6,1234,812598965,-;",
        "e1000e 0000:00:1f.6 enp0s31f6: link is down\n6,1235,812598970,-;",
        "\n",
        "3,1236,812607696,-,ncfrag=0/126;DMAR: DRHD: handling fault\n3,1236,812607696,-,ncfrag=26/126; status reg 2\n3,1237,812607699,-;",
        ""
    ),
    late!(
        "rockchip-linux/kernel#266: dropped messages before the line",
        "** 333 printk messages dropped ** [  812.598965] ",
        "** 12 printk messages dropped ** [  812.607696] "
    ),
    Shape {
        source: "a raw mail, quoted-printable",
        text: "From: somebody@example.org\n\
               Subject: faults after rmmod\n\
               Content-Type: text/plain; charset=3Dutf-8\n\
               Content-Transfer-Encoding: quoted-printable\n\
               \n\
               [  812.598965] e1000e 0000:00:1f.6 enp0s31f6: removed PHC=20\n\
               [  812.607696] e1000e 0000:00:1f.6: AMD-Vi: Event logged [IO_PAGE_FAULT doma=\n\
               in=3D0x0012 address=3D0xfd3a4000 flags=3D0x0030]\n",
        want: Violated(&["R9"]),
        says: &["0000:00:1f.6", "0xfd3a4000", "still writes"],
        hides: &["R10"],
    },
    Shape {
        source: "journalctl -o json, a message as bytes, and another program's",
        text: "{\"_TRANSPORT\":\"syslog\",\"SYSLOG_IDENTIFIER\":\"sudo\",\"MESSAGE\":\"e1000e 0000:00:1f.6 enp0s31f6: removed PHC\"}\n\
               {\"_TRANSPORT\":\"kernel\",\"MESSAGE\":[101,120,32,48]}\n\
               {\"_TRANSPORT\":\"kernel\",\"MESSAGE\":\"DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\"}\n",
        want: CannotTell,
        says: &["0000:00:1f.6", "0xfd3a4000"],
        hides: &["violated"],
    },
    Shape {
        source: "an extended netconsole that splits the fault itself",
        text: "6,1234,812598965,-;e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               3,1237,812607699,-,ncfrag=0/117;DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fau\n\
               3,1237,812607699,-,ncfrag=57/117;lt addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n",
        want: Violated(&["R9"]),
        says: &["0000:00:1f.6", "0xfd3a4000", "1 fault"],
        hides: &["R10"],
    },
    late!(
        "a container's log as JSON",
        "",
        "{\"log\":\"[  812.598965] ",
        "\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-03T14:22:07.123456789Z\"}\n",
        "{\"log\":\"[  812.607696] ",
        "\\r\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-03T14:22:07.131Z\"}"
    ),
    Shape {
        source: "journalctl -m -o json: two machines, of which one leaves and the other faults",
        text: "{\"_TRANSPORT\":\"kernel\",\"_HOSTNAME\":\"hv07\",\"MESSAGE\":\"e1000e 0000:00:1f.6 enp0s31f6: removed PHC\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"812598965\"}\n\
               {\"_TRANSPORT\":\"kernel\",\"_HOSTNAME\":\"hv08\",\"MESSAGE\":\"DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"812607696\"}\n",
        want: CannotTell,
        says: &["0000:00:1f.6 on hv08"],
        hides: &["violated"],
    },
    Shape {
        source: "journalctl -o json, cut in the middle of a record",
        text: "{\"_TRANSPORT\":\"kernel\",\"MESSAGE\":\"e1000e 0000:00:1f.6 enp0s31f6: removed PHC\"}\n\
               {\"_TRANSPORT\":\"kernel\",\"MESSAGE\":\"DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd",
        want: CannotTell,
        says: &["0000:00:1f.6"],
        hides: &["violated"],
    },
    Shape {
        source: "an oops in LAVA's output.yaml",
        text: "- {\"dt\": \"2026-11-03T14:22:07.1\", \"lvl\": \"input\", \"msg\": \"echo 0000:05:00.0 > unbind\"}\n\
               - {\"dt\": \"2026-11-03T14:22:07.2\", \"lvl\": \"target\", \"msg\": \"[   31.100000] Unable to handle kernel paging request at virtual address dead000000000108\"}\n\
               - {\"dt\": \"2026-11-03T14:22:07.2\", \"lvl\": \"target\", \"msg\": \"[   31.100020] CPU: 1 UID: 0 PID: 201 Comm: sh Not tainted 6.12.0 #1\"}\n\
               - {\"dt\": \"2026-11-03T14:22:07.3\", \"lvl\": \"target\", \"msg\": \"[   31.100040] Call trace:\"}\n\
               - {\"dt\": \"2026-11-03T14:22:07.3\", \"lvl\": \"target\", \"msg\": \"[   31.100050]  exnet_remove+0x18/0x60 [exnet] (P)\"}\n\
               - {\"dt\": \"2026-11-03T14:22:07.3\", \"lvl\": \"target\", \"msg\": \"[   31.100060]  pci_device_remove+0x44/0xc0\"}\n\
               - {\"dt\": \"2026-11-03T14:22:07.3\", \"lvl\": \"target\", \"msg\": \"[   31.100070]  device_release_driver_internal+0x1cc/0x228\"}\n",
        want: Violated(&["R19"]),
        says: &["exnet_remove", "sh, 201"],
        hides: &[],
    },
    Shape {
        source: "a recording on LAVA's serial console",
        text: "- {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"          insmod-157     [000] .....    20.100000: really_probe <-__driver_probe_device\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"          insmod-157     [000] d..1.    20.100001: devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"          insmod-157     [000] .....    20.100002: map: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x000000003d471000 size=4096\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"          insmod-157     [000] .....    20.100003: dma_map_page: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"              sh-201     [001] .....    31.000000: device_release_driver_internal <-unbind_store\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"              sh-201     [001] .....    31.000451: devres_release_all <-device_unbind_cleanup\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"              sh-201     [001] d..1.    31.000460: devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\"}\n\
               - {\"dt\": \"t\", \"lvl\": \"target\", \"msg\": \"              sh-201     [001] .....    31.000502: device_links_driver_cleanup <-device_release_driver_internal\"}\n",
        want: Violated(&["R4"]),
        says: &["0xfffe0000"],
        hides: &[],
    },
    Shape {
        source: "a mail in base64",
        text: "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nWyAgODEyLjU5ODk2NV0gZTEwMDBlIDAwMDA6MDA6MWYuNiBlbnAwczMxZjY6IHJlbW92ZWQgUEhD\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "the kernel's own source, and a patch of it",
        text: "drivers/iommu/ipmmu-vmsa.c:531:\t\t\t    \"Unhandled fault: status 0x%08x iova 0x%lx\\n\",\n\
               drivers/iommu/intel/dmar.c:1912:\t\tpr_err(\"[%s NO_PASID] Request device [%02x:%02x.%d] fault addr 0x%llx [fault reason 0x%02x] %s\\n\",\n\
               +\t\terr_printk(dev, entry, \"device driver has pending DMA allocations while released from device \"\n\
               +\t\t\t\t\"[count=%d]\\n\"\n\
               -\tdev_err(smmu->dev, \"CMD_SYNC timeout\\n\");\n\
               +\tWARN(1, \"DMA-API: device driver maps memory from stack\");\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
];
