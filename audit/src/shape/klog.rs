//! Prefixes of kernel log lines: dmesg in its forms, journal, syslog, kmsg records and serial consoles.

use super::dates::{dated, iso, kmsg, logcat, ram_dump, rfc_5424, syslog_time, unix_time};
use super::lead::{lead, without_process};
use super::stamp::{Clock, Stamp, seconds};
use crate::find::cut;

/// A line of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// Time, where the prefix has one.
    pub stamp: Option<Stamp>,
    /// Offset of the message.
    pub body: usize,
    /// False for a line that another program than the kernel wrote.
    pub kernel: bool,
    /// Range of the machine's name, if the prefix has one.
    pub host: Option<(usize, usize)>,
}

/// Reads the prefix of a log line; none where there is no prefix that marks one.
pub fn parse_log(text: &str) -> Option<LogLine> {
    prefixed(text).or_else(|| {
        let at = lead(text)?;
        let line = prefixed(&text[at..])?;
        Some(LogLine { body: line.body + at, host: line.host.map(|(from, to)| (from + at, to + at)), ..line })
    })
}

fn prefixed(text: &str) -> Option<LogLine> {
    // Quoted code is indented as a whole.
    let mut rest = if text.starts_with(' ') { text.trim_start() } else { text };
    if rest.len() < text.len() && !rest.starts_with(['[', '<', '0']) {
        return None;
    }
    let mut stamp = None;
    let mut kernel = true;
    let mut marked = false;
    let mut host = None;
    // The day's name before a date that a daemon prints.
    if let Some((day, after)) = rest.split_once(' ')
        && ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&day)
        && syslog_time(after).is_some()
    {
        rest = after;
    }
    // A line may carry several: a capture's own clock, a syslog head, a level, and printk's time.
    for _ in 0..6 {
        let after = if let Some(after) = level(rest) {
            after
        } else if let Some((found, after)) = bracket(rest) {
            // Printk's own time is finer and nearer to the event than a clock put before it.
            stamp = found.or(stamp);
            after
        } else if let Some((found, named, after)) = rest.strip_prefix("1 ").filter(|_| marked).and_then(rfc_5424) {
            (stamp, host) = (Some(found), Some(named));
            after
        } else if let Some((found, after)) = kmsg(rest)
            .or_else(|| iso(rest))
            .or_else(|| ram_dump(rest))
            .or_else(|| logcat(rest))
            .or_else(|| unix_time(rest))
        {
            stamp = Some(found);
            after
        } else if let Some((found, after)) = syslog_time(rest) {
            // `Tue Nov  3 14:22:07 2026` has the year behind it.
            let year = after.get(..5).filter(|year| year.ends_with(' ') && year[..4].parse::<u16>().is_ok());
            let after = year.map_or(after, |year| &after[year.len()..]);
            let (of_kernel, named, after) = bare_time(after).or_else(|| ident(after))?;
            stamp = Some(found);
            kernel = of_kernel;
            host = named;
            after
        } else if let Some((named, after)) = host_and_kernel(rest).filter(|(_, after)| marked || after.starts_with('['))
        {
            host = named.or(host);
            after
        } else {
            break;
        };
        marked = true;
        rest = after;
        if !kernel {
            break;
        }
    }
    if marked
        && let Some((of_kernel, named, after)) = stamp.filter(|s| s.clock != Clock::Printk).and_then(|_| ident(rest))
    {
        kernel = of_kernel;
        host = named.or(host);
        rest = after;
        if kernel && let Some((found, after)) = bracket(rest) {
            stamp = found.or(stamp);
            rest = after;
        }
    }
    let place = |name: &str| {
        let at = name.as_ptr() as usize - text.as_ptr() as usize;
        (at, at + name.len())
    };
    marked.then(|| LogLine { stamp, body: text.len() - rest.len(), kernel, host: host.map(place) })
}

/// The text behind `<4>` or `kern  :warn  : `.
fn level(text: &str) -> Option<&str> {
    if let Some(inner) = text.strip_prefix('<') {
        let (number, after) = inner.split_once('>')?;
        return (number.len() <= 3 && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| after.strip_prefix(' ').unwrap_or(after));
    }
    let (facility, after) = text.split_once(':')?;
    let known = ["kern", "user", "daemon", "syslog", "auth", "lpr", "news", "mail"];
    if facility.len() > 12 || !known.contains(&facility.trim()) {
        return None;
    }
    let (level, after) = after.split_once(':')?;
    let levels = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    levels.contains(&level.trim()).then(|| after.strip_prefix(' ').unwrap_or(after))
}

/// The time in `[   12.345678]`, `[Tue Feb 10 07:12:41 2026]`, `[Feb10 07:12]`, `[  +0.000012]`, and what follows, without
/// the caller's id.
fn bracket(text: &str) -> Option<(Option<Stamp>, &str)> {
    let inner = text.strip_prefix('[')?;
    let close = inner.find(']').filter(|close| *close <= 48)?;
    let (inside, mut after) = (inner[..close].trim(), &inner[close + 1..]);
    let first = inside.split_whitespace().next()?;
    // Callers without times.
    if caller(inside) {
        return Some((None, after.strip_prefix(' ').unwrap_or(after)));
    }
    let stamp = if let Some(ns) = seconds(first.strip_suffix('s').unwrap_or(first)) {
        Some(Stamp { clock: Clock::Printk, ns })
    } else if inside.strip_prefix('+').is_some_and(|rest| seconds(rest.trim()).is_some()) {
        None
    } else {
        dated(inside)?
    };
    let blank = after.trim_start();
    if let Some(id) = blank.strip_prefix('[')
        && let Some((id, behind)) = id.split_once(']')
        && caller(id.trim_start())
    {
        after = behind;
    }
    let after = without_process(after);
    Some((stamp, after.strip_prefix(' ').unwrap_or(after)))
}

/// True for the id of a caller: `T4410`, `C2`, `T12@C3`.
fn caller(id: &str) -> bool {
    let id = id.strip_prefix(['T', 'C']).unwrap_or("");
    id.starts_with(|c: char| c.is_ascii_digit())
        && id.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'@' | b'C' | b'T'))
}

/// True for `kern.info` and `INFO`.
fn is_level(word: &str) -> bool {
    let level = match word.split_once('.') {
        Some((facility, level)) if facility.starts_with(|c: char| c.is_ascii_lowercase()) => level,
        None if word.bytes().all(|byte| byte.is_ascii_uppercase()) => word,
        _ => return false,
    };
    ["emerg", "alert", "crit", "err", "error", "warn", "warning", "notice", "info", "debug"]
        .iter()
        .any(|known| level.eq_ignore_ascii_case(known))
}

/// The parts of `[HOST] IDENT[PID]: MESSAGE`: true for the kernel's own, the host, and the message.
fn ident(text: &str) -> Option<(bool, Option<&str>, &str)> {
    let (head, after) = cut(text, ": ").or_else(|| text.strip_suffix(':').map(|head| (head, "")))?;
    // Some daemons print facility and level, or the level alone, before the program.
    let mut words = head.split_whitespace().filter(|word| !is_level(word));
    let (first, second) = (words.next()?, words.next());
    if words.next().is_some() || head.len() > 200 {
        return None;
    }
    let name = second.unwrap_or(first);
    let kernel = name == "kernel" || name.strip_prefix("kernel[").is_some_and(|rest| rest.ends_with(']'));
    // Without a host a driver's name and its device look the same: only the kernel's own name, or a process, decides.
    let program = name.ends_with(']') && name.contains('[');
    (kernel || program).then(|| (kernel, second.map(|_| first), after.strip_prefix(' ').unwrap_or(after)))
}

/// The host and the rest of `[HOST] [ TIME]`: lines of the console or of a netconsole that another program dated.
fn bare_time(text: &str) -> Option<(bool, Option<&str>, &str)> {
    let is_time = |text: &str| bracket(text).is_some_and(|(stamp, _)| stamp.is_some());
    if text.starts_with('[') {
        return is_time(text).then_some((true, None, text));
    }
    let (host, rest) = text.split_once(" [")?;
    (!host.contains([' ', ':']) && is_time(&text[host.len() + 1..]) && !rest.is_empty()).then_some((
        true,
        Some(host),
        &text[host.len() + 1..],
    ))
}

/// The host and what follows `[HOST] kernel: ` after a time in brackets, as the journal's short-monotonic form has it.
fn host_and_kernel(text: &str) -> Option<(Option<&str>, &str)> {
    let (head, after) = cut(text, ": ")?;
    let mut words = head.split(' ');
    let (first, second) = (words.next()?, words.next());
    let kernel = second.map_or(first == "kernel", |second| second == "kernel") && words.next().is_none();
    kernel.then_some((second.map(|_| first).filter(|host| !is_level(host)), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn message(text: &str) -> (&str, bool, Option<Clock>) {
        let line = parse_log(text).unwrap_or_else(|| panic!("no log line: {text}"));
        (&text[line.body..], line.kernel, line.stamp.map(|stamp| stamp.clock))
    }

    #[test]
    fn every_prefix_is_taken_off() {
        let printk = Some(Clock::Printk);
        let coarse = Some(Clock::WallSeconds);
        for (text, clock) in [
            ("[  812.401877] e1000e 0000:00:1f.6: x", printk),
            ("[  812.401877][  T123] e1000e 0000:00:1f.6: x", printk),
            ("[  812.401877] [    C0] e1000e 0000:00:1f.6: x", printk),
            ("[  812.401877 <    0.000010>] e1000e 0000:00:1f.6: x", printk),
            ("[  +0.000012] e1000e 0000:00:1f.6: x", None),
            ("[Nov 3 14:22] e1000e 0000:00:1f.6: x", None),
            ("[Nov03 14:22] e1000e 0000:00:1f.6: x", None),
            ("<4>[ 1582.784369] e1000e 0000:00:1f.6: x", printk),
            ("<6>e1000e 0000:00:1f.6: x", None),
            ("kern  :warn  : [  812.401877] e1000e 0000:00:1f.6: x", printk),
            ("[Tue Feb 10 07:12:41 2026] e1000e 0000:00:1f.6: x", coarse),
            ("Nov 03 14:22:07 hv07 kernel: e1000e 0000:00:1f.6: x", coarse),
            ("Nov  3 14:22:07 kernel: e1000e 0000:00:1f.6: x", coarse),
            ("Nov  3 14:22:07.123456 hv07 kernel: e1000e 0000:00:1f.6: x", Some(Clock::Wall)),
            ("Nov  3 14:22:07 hv07 kernel: [  812.401877] e1000e 0000:00:1f.6: x", printk),
            ("2026-11-03T14:22:07+0100 hv07 kernel: e1000e 0000:00:1f.6: x", coarse),
            ("2026-11-03T14:22:07.123456+01:00 hv07 kernel: [  1.401877] e1000e 0000:00:1f.6: x", printk),
            ("2026-11-03T14:22:07,123456+01:00 e1000e 0000:00:1f.6: x", Some(Clock::Wall)),
            ("2026-11-03 14:22:07.123 [    1.401877] e1000e 0000:00:1f.6: x", printk),
            ("kernel: [  812.401877] e1000e 0000:00:1f.6: x", printk),
            ("[  812.401877] hv07 kernel: e1000e 0000:00:1f.6: x", printk),
            ("    [  812.401877] e1000e 0000:00:1f.6: x", printk),
            ("0x000000000177AAFA |    863.168579:   e1000e 0000:00:1f.6: x", printk),
            ("6,1234,5678901234,-;e1000e 0000:00:1f.6: x", printk),
            ("6,1234,5678901234,-,caller=T1;e1000e 0000:00:1f.6: x", printk),
        ] {
            assert_eq!(message(text), ("e1000e 0000:00:1f.6: x", true, clock), "{text}");
        }
    }

    #[test]
    fn the_machine_is_told_where_a_prefix_names_it() {
        let host = |text: &str| parse_log(text).unwrap().host.map(|(from, to)| text[from..to].to_owned());
        for text in [
            "Nov 03 14:22:07 hv07 kernel: x",
            "2026-11-03T14:22:07+0100 hv07 kernel: x",
            "[  812.401877] hv07 kernel: x",
            "Nov 03 14:22:06 hv07 sudo[20114]: x",
        ] {
            assert_eq!(host(text).as_deref(), Some("hv07"), "{text}");
        }
        for text in ["Nov  3 14:22:07 kernel: x", "[  812.401877] e1000e 0000:00:1f.6: x", "kernel: [  812.401877] x"] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn lines_of_other_programs_are_not_the_kernels() {
        assert!(!message("Nov 03 14:22:06 hv07 sudo[20114]:     root : TTY=pts/2").1);
        assert!(!message("2026-11-03T14:22:07+0100 hv07 systemd-networkd[702]: enp0s31f6: Lost carrier").1);
    }

    #[test]
    fn other_text_has_no_prefix() {
        for text in [
            "Does your remove() stop the ring first?",
            "regards",
            "",
            "[not a time] x",
            "sata_rcar ee300000.sata: x",
            "<abc>x",
        ] {
            assert_eq!(parse_log(text), None, "{text}");
        }
    }

    #[test]
    fn indentation_of_a_message_is_kept() {
        assert_eq!(message("[    5.166171]  debug_dma_map_page+0x68/0x170").0, " debug_dma_map_page+0x68/0x170");
    }
}
