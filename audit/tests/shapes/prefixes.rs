//! Prefixes that tools, consoles and web pages put before a line.

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

pub(crate) const SHAPES: &[Shape] = &[
    late!("raspberrypi/linux#4159, a list", "- [00812.598965] ", "\n- [00812.607696] "),
    late!("a numbered list of a web page", "  12. [  812.598965] ", "  13. [  812.607696] "),
    late!("grep -n", "1204:[  812.598965] ", "1207:[  812.607696] "),
    late!("grep over several files", "dmesg.0:[  812.598965] ", "dmesg.0:[  812.607696] "),
    late!("grep -rn over several files", "logs/dmesg-2.txt:88:[  812.598965] ", "logs/dmesg-2.txt:90:[  812.607696] "),
    late!("grep -n -A1, with its other mark", "1204:[  812.598965] ", "1205-[  812.607696] "),
    late!("nl and cat -n", "   204\t[  812.598965] ", "   207\t[  812.607696] "),
    late!(
        "a terminal program's own clock in brackets",
        "[2026-11-03 14:22:07.123] [  812.598965] ",
        "[2026-11-03 14:22:07.131] [  812.607696] "
    ),
    late!("a terminal program's time of day", "[14:22:07.123] [  812.598965] ", "[14:22:07.131] [  812.607696] "),
    late!("a time of day without brackets", "14:22:07.123  [  812.598965] ", "14:22:07.131  [  812.607696] "),
    late!(
        "journalctl -o short-full",
        "Tue 2026-11-03 14:22:07 CET hv07 kernel: ",
        "Tue 2026-11-03 14:22:07 CET hv07 kernel: "
    ),
    late!("journalctl -o short-unix", "1793712127.123456 hv07 kernel: ", "1793712127.131000 hv07 kernel: "),
    late!(
        "syslog of RFC 5424",
        "<6>1 2026-11-03T14:22:07.123456+01:00 hv07 kernel - - - ",
        "<3>1 2026-11-03T14:22:07.131000+01:00 hv07 kernel - - - "
    ),
    late!("MediaTek's CPU and process", "[  812.598965] (2)[4410:sh]", "[  812.607696] (2)[0:swapper/2]"),
    late!(
        "Samsung's CPU and process",
        "[  812.598965]  [2:             sh: 4410] ",
        "[  812.607696]  [2:      swapper/2:    0] "
    ),
    late!(
        "Samsung's process with a level",
        "<6>[  812.598965] I[2:             sh: 4410] ",
        "<3>[  812.607696] E[2:      swapper/2:    0] "
    ),
    late!("a board farm's level and time", "kern  :info  : [  812.598965] ", "kern  :err   : [  812.607696] "),
    late!("two quotes deep, with a name", "bob> > [  812.598965] ", "bob> > [  812.607696] "),
    Shape {
        source: "a console that prints the file's name only",
        text: "kern.log:Nov  3 14:22:07 hv07 kernel: [  812.598965] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               kern.log:Nov  3 14:22:09 hv07 sudo[20114]: e1000e 0000:00:1f.6: DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.6] fault addr 0xfd3a4000\n",
        want: CannotTell,
        says: &["0000:00:1f.6"],
        hides: &["violated"],
    },
    Shape {
        source: "prose that only looks like a prefix",
        text: "- [2] e1000e 0000:00:1f.6 enp0s31f6: removed PHC is what I saw, then\n\
               12. nothing more\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "android logcat -b kernel",
        text: "11-03 14:22:07.123     0     0 I exufs 1d84000.ufshc: driver unbound\n\
               11-03 14:22:07.131     0     0 E arm-smmu 15000000.apps-smmu: Unhandled context fault: fsr=0x402, iova=0x7d6f1000, fsynr=0x2, cbfrsynra=0xe0, cb=2\n",
        want: CannotTell,
        says: &["15000000.apps-smmu", "stream 0xe0", "0x7d6f1000"],
        hides: &["violated"],
    },
];
