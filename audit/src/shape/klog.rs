//! Prefixes of kernel log lines: dmesg in its forms, journal, syslog, kmsg records and serial consoles.

use super::stamp::{Clock, Stamp, seconds};

/// A line of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// Time, where the prefix has one.
    pub stamp: Option<Stamp>,
    /// Where the message begins.
    pub body: usize,
    /// False for a line that another program than the kernel wrote.
    pub kernel: bool,
    /// Where the name of the machine stands, if the prefix has one.
    pub host: Option<(usize, usize)>,
}

/// Reads the prefix of a log line; none where there is no prefix that marks one.
pub fn parse_log(text: &str) -> Option<LogLine> {
    // Quoted code is indented as a whole.
    let mut rest = if text.starts_with(' ') { text.trim_start() } else { text };
    if rest.len() < text.len() && !rest.starts_with(['[', '<', '0']) {
        return None;
    }
    let mut stamp = None;
    let mut kernel = true;
    let mut marked = false;
    let mut host = None;
    // A line may carry several: a capture's own clock, a syslog head, a level, and printk's time.
    for _ in 0..6 {
        let after = if let Some(after) = level(rest) {
            after
        } else if let Some((found, after)) = bracket(rest) {
            // Printk's own time is finer and nearer to the event than a clock put before it.
            stamp = found.or(stamp);
            after
        } else if let Some((found, after)) = kmsg(rest).or_else(|| iso(rest)).or_else(|| ram_dump(rest)) {
            stamp = Some(found);
            after
        } else if let Some((found, after)) = syslog_time(rest) {
            let (of_kernel, named, after) = ident(after)?;
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

/// What follows `<4>` or `kern  :warn  : `.
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
    let close = inner.find(']').filter(|close| *close <= 40)?;
    let (inside, mut after) = (inner[..close].trim(), &inner[close + 1..]);
    let first = inside.split_whitespace().next()?;
    let stamp = if let Some(ns) = seconds(first) {
        Some(Stamp { clock: Clock::Printk, ns })
    } else if inside.strip_prefix('+').is_some_and(|rest| seconds(rest.trim()).is_some()) {
        None
    } else {
        dated(inside)?
    };
    let blank = after.trim_start();
    if let Some(id) = blank.strip_prefix('[')
        && let Some((id, behind)) = id.split_once(']')
        && id.trim_start().strip_prefix(['T', 'C']).is_some_and(is_caller)
    {
        after = behind;
    }
    Some((stamp, after.strip_prefix(' ').unwrap_or(after)))
}

fn is_caller(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'@' | b'C' | b'T'))
}

/// The time of `Tue Feb 10 07:12:41 2026` and `Feb10 07:12`; the inner none is a date without seconds.
#[expect(clippy::option_option, reason = "no date, and a date that is too coarse to be a time")]
fn dated(text: &str) -> Option<Option<Stamp>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [_, month, day, time, year] => Some(Some(wall(year.parse().ok()?, month_of(month)?, day.parse().ok()?, time)?)),
        [date, _] if date.get(..3).and_then(month_of).is_some() => Some(None),
        [month, _, _] if month_of(month).is_some() => Some(None),
        _ => None,
    }
}

fn month_of(name: &str) -> Option<u32> {
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    names.iter().position(|n| *n == name).map(|at| at as u32 + 1)
}

/// A time on a wall clock, from a date and `HH:MM:SS[.FRACTION]`.
fn wall(year: u64, month: u32, day: u64, time: &str) -> Option<Stamp> {
    let time = time.trim_end_matches('Z');
    let time = time.find(['+', '-']).map_or(time, |zone| &time[..zone]);
    let (clock, fraction) = time.split_once(['.', ',']).map_or((time, None), |(clock, f)| (clock, Some(f)));
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok().filter(|n| *n < 61));
    let (hours, minutes, secs) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || year > 2200 || day > 31 || hours > 24 {
        return None;
    }
    // Days of months as in a leap year: only differences are used.
    let before = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335][month as usize - 1];
    let days = year.saturating_sub(1970) * 366 + before + day;
    let whole = ((days * 24 + hours) * 60 + minutes) * 60 + secs;
    let (ns, clock) = match fraction {
        None => (0, Clock::WallSeconds),
        Some(f) => (seconds(&format!("0.{f}"))?, Clock::Wall),
    };
    Some(Stamp { clock, ns: whole * 1_000_000_000 + ns })
}

/// The time of `2026-11-03T14:22:07[.123456][+01:00] `.
fn iso(text: &str) -> Option<(Stamp, &str)> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || !matches!(bytes[10], b'T' | b' ') || !text.is_ascii()
    {
        return None;
    }
    let (time, after) = text[11..].split_once(' ').unwrap_or((&text[11..], ""));
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month: usize = text[5..7].parse().ok()?;
    let month = month_of(names.get(month.checked_sub(1)?)?)?;
    Some((wall(text[..4].parse().ok()?, month, text[8..10].parse().ok()?, time)?, after))
}

/// The time of `Nov 03 14:22:06[.123456] `.
fn syslog_time(text: &str) -> Option<(Stamp, &str)> {
    let month = text.get(..3).and_then(month_of)?;
    let rest = text[3..].trim_start();
    let (day, rest) = rest.split_once(' ')?;
    let (time, after) = rest.trim_start().split_once(' ')?;
    Some((wall(0, month, day.parse().ok()?, time)?, after))
}

/// Whether what follows `[HOST] IDENT[PID]: ` is the kernel's, the host, and the message.
fn ident(text: &str) -> Option<(bool, Option<&str>, &str)> {
    let (head, after) = text.split_once(": ").or_else(|| text.strip_suffix(':').map(|head| (head, "")))?;
    let mut words = head.split_whitespace();
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

/// The host and what follows `[HOST] kernel: ` after a time in brackets, as the journal's short-monotonic form has it.
fn host_and_kernel(text: &str) -> Option<(Option<&str>, &str)> {
    let (head, after) = text.split_once(": ")?;
    let mut words = head.split(' ');
    let (first, second) = (words.next()?, words.next());
    let kernel = second.map_or(first == "kernel", |second| second == "kernel") && words.next().is_none();
    kernel.then_some((second.map(|_| first), after))
}

/// The time of `0xADDRESS |  SECONDS.MICROS: `, as tools show the log in a dump of memory.
fn ram_dump(text: &str) -> Option<(Stamp, &str)> {
    let (address, rest) = text.strip_prefix("0x")?.split_once(" |")?;
    if address.len() > 16 || !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (time, message) = rest.trim_start().split_once(':')?;
    Some((Stamp { clock: Clock::Printk, ns: seconds(time)? }, message.trim_start()))
}

/// A record of /dev/kmsg: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];MESSAGE`.
fn kmsg(text: &str) -> Option<(Stamp, &str)> {
    let (head, message) = text.split_once(';').filter(|(head, _)| head.len() < 80)?;
    let mut fields = head.split(',');
    let (_, _) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u64>().ok()?);
    let micros: u64 = fields.next()?.parse().ok()?;
    fields.next()?;
    Some((Stamp { clock: Clock::Printk, ns: micros.checked_mul(1000)? }, message))
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
