//! Prefixes of kernel log lines: dmesg in its forms, journal, syslog, kmsg records and serial consoles.

use super::stamp::{Clock, Stamp, seconds};

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
    // A line may carry several: a capture's own clock, a syslog head, a level, and printk's time.
    for _ in 0..6 {
        let after = if let Some(after) = level(rest) {
            after
        } else if let Some((found, after)) = bracket(rest) {
            // Printk's own time is finer and nearer to the event than a clock put before it.
            stamp = found.or(stamp);
            after
        } else if let Some((host_of, after)) = rest.strip_prefix("1 ").filter(|_| marked).and_then(rfc_5424) {
            (stamp, host) = host_of;
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
    let after = without_process(after);
    Some((stamp, after.strip_prefix(' ').unwrap_or(after)))
}

/// `text` without the CPU and the process that kernels of some vendors print behind the time: `[pid:10974,cpu1,bash]`,
/// `(2)[4410:sh]`, ` [2:  sh: 4410]`, ` I[2:  sh: 4410]`.
fn without_process(text: &str) -> &str {
    let blank = text.trim_start();
    let open = match blank.strip_prefix('(') {
        Some(rest) => {
            rest.split_once(')').filter(|(cpu, _)| cpu.parse::<u32>().is_ok()).map_or(blank, |(_, rest)| rest)
        }
        None => {
            blank.strip_prefix(|c: char| c.is_ascii_uppercase()).filter(|rest| rest.starts_with('[')).unwrap_or(blank)
        }
    };
    let Some((inside, after)) = open.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return text };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = inside.split(':').map(str::trim);
    let known = match (parts.next(), parts.next_back()) {
        (Some("pid"), Some(_)) => inside.contains(",cpu"),
        (Some(cpu), Some(pid)) if open.len() == blank.len() || blank.as_bytes()[0] != b'(' => {
            is_number(cpu) && is_number(pid) && inside.matches(':').count() >= 2
        }
        (Some(pid), Some(_)) => is_number(pid),
        _ => false,
    };
    if known && inside.len() <= 40 { after } else { text }
}

/// The place where a log line begins behind what tools, lists and mails put before it: `- `, `12. `, `1204:`, `dmesg.0:88:`,
/// a time of day, or who is quoted.
fn lead(text: &str) -> Option<usize> {
    let open = text.find(['[', '<']).filter(|at| (1..=80).contains(at));
    // A time of day in brackets is itself such a lead.
    let open = match open
        .or(Some(0))
        .filter(|at| is_day_time(text[*at..].strip_prefix('[').unwrap_or("").split(']').next().unwrap_or("")))
    {
        Some(at) => text[at + 1..].find(['[', '<']).map(|next| next + at + 1).filter(|next| *next <= 80)?,
        None => open.or_else(|| named_file(text))?,
    };
    let rest = &text[open..];
    let sure = match rest.as_bytes()[0] {
        b'[' => rest[1..].split(']').next().is_some_and(|inside| {
            let first = inside.trim().split(' ').next().unwrap_or("");
            seconds(first).is_some() || dated(inside.trim()).is_some_and(|stamp| stamp.is_some())
        }),
        b'<' => rest[1..].split_once('>').is_some_and(|(level, rest)| {
            level.len() <= 2 && level.parse::<u8>().is_ok() && rest.trim_start().starts_with('[')
        }),
        _ => true,
    };
    (sure && is_lead(&text[..open])).then_some(open)
}

/// The place behind the file's name of `kern.log:Nov  3 14:22:07 host kernel: ...`.
fn named_file(text: &str) -> Option<usize> {
    let (file, rest) = text.split_once(':')?;
    (is_file(file) && syslog_time(rest).or_else(|| iso(rest)).is_some()).then_some(file.len() + 1)
}

fn is_file(name: &str) -> bool {
    name.len() >= 3
        && name.contains(['.', '/'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+~".contains(&byte))
}

fn is_lead(head: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    let head = head.trim_matches(['[', ']', ' ']);
    if head.is_empty() || ["-", "*", "+", "|", "\""].contains(&head) || is_day_time(head) {
        return true;
    }
    if is_number(head.trim_end_matches(['.', ')', ':', '-'])) {
        return true;
    }
    // `FILE:`, `FILE:12:` and `FILE-12-`.
    if let Some(head) = head.strip_suffix([':', '-']) {
        let (file, line) = head.rsplit_once([':', '-']).unwrap_or((head, ""));
        return is_file(head) || is_file(file) && is_number(line) || is_number(head);
    }
    // Who is quoted: `bob> >`.
    let quoted = head.trim_end_matches(['>', ' ']);
    quoted.len() < head.len() && quoted.len() <= 20 && quoted.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// True for `14:22:07` with or without a fraction.
fn is_day_time(text: &str) -> bool {
    let mut parts = text.trim().split(':');
    let two = |part: Option<&str>| part.is_some_and(|p| p.len() == 2 && p.bytes().all(|byte| byte.is_ascii_digit()));
    let last = |part: Option<&str>| {
        part.is_some_and(|p| {
            let (whole, fraction) = p.split_once(['.', ',']).unwrap_or((p, "0"));
            two(Some(whole)) && fraction.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    two(parts.next())
        && two(parts.next())
        && last(parts.next())
        && parts.next().is_none_or(|rest| rest.len() <= 6 && rest.parse::<u32>().is_ok())
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
        [date, time] if date.len() == 10 && date.as_bytes()[4] == b'-' => Some(Some(iso(&format!("{date} {time}"))?.0)),
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

/// The time of `MM-DD HH:MM:SS.mmm     0     0 LEVEL `, as Android's tools print the kernel's own buffer.
fn logcat(text: &str) -> Option<(Stamp, &str)> {
    let bytes = text.as_bytes();
    if bytes.len() < 24 || bytes[2] != b'-' || bytes[5] != b' ' || !text.is_ascii() {
        return None;
    }
    let (time, rest) = text[6..].split_once(' ')?;
    let mut words = rest.split_whitespace();
    let (pid, tid, level) = (words.next()?, words.next()?, words.next()?);
    let kernel = pid == "0" && tid == "0" && level.len() == 1 && "VDIWEF".contains(level);
    let (month, day) = (text[..2].parse::<u32>().ok().filter(|m| (1..=12).contains(m))?, text[3..5].parse().ok()?);
    let stamp = wall(0, month, day, time)?;
    let at = rest.find(&format!(" {level} ")).map(|at| at + 3)?;
    kernel.then(|| (stamp, rest[at..].strip_prefix(": ").unwrap_or(&rest[at..])))
}

/// The time of `1793712127.123456 HOST kernel: `, seconds since 1970.
fn unix_time(text: &str) -> Option<(Stamp, &str)> {
    let (time, after) = text.split_once(' ')?;
    let (whole, fraction) = time.split_once('.')?;
    let stamp = Stamp { clock: Clock::Wall, ns: seconds(time)? };
    (whole.len() == 10 && fraction.len() == 6 && ident(after)?.0).then_some((stamp, after))
}

/// The time, the host and the message of `2026-11-03T14:22:07Z HOST kernel PID MSGID DATA MESSAGE`, behind level and version.
fn rfc_5424(text: &str) -> Option<((Option<Stamp>, Option<&str>), &str)> {
    let (time, _) = text.split_once(' ')?;
    let (stamp, rest) = iso(text)?;
    let mut fields = rest.splitn(5, ' ');
    let (host, program) = (fields.next()?, fields.next()?);
    let (_, _, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let message = match rest.strip_prefix('[') {
        Some(data) => data.split_once("] ")?.1,
        None => rest.strip_prefix("- ")?,
    };
    (program == "kernel" && time.contains('T')).then_some(((Some(stamp), Some(host)), message))
}

/// The time of `2026-11-03T14:22:07[.123456][+01:00] `, with the day's name before it and the zone behind it in some forms.
fn iso(text: &str) -> Option<(Stamp, &str)> {
    let day = text.get(..4).is_some_and(|day| ["Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun "].contains(&day));
    let text = if day { &text[4..] } else { text };
    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || !matches!(bytes[10], b'T' | b' ') || !text.is_ascii()
    {
        return None;
    }
    let (time, after) = text[11..].split_once(' ').unwrap_or((&text[11..], ""));
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month: usize = text[5..7].parse().ok()?;
    let month = month_of(names.get(month.checked_sub(1)?)?)?;
    let zone = after.split_once(' ').filter(|(zone, _)| {
        day && (2..=5).contains(&zone.len())
            && zone.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'+' | b'-' | b'0'..=b'9'))
    });
    let after = zone.map_or(after, |(_, after)| after);
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

/// The parts of `[HOST] IDENT[PID]: MESSAGE`: true for the kernel's own, the host, and the message.
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
