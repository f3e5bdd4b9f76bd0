//! Times in the forms of logs, with the text behind them.

use super::stamp::{Clock, Stamp, seconds};

/// The time of `Tue Feb 10 07:12:41 2026` and `Feb10 07:12`; the inner none is a date without seconds.
#[expect(clippy::option_option, reason = "no date, and a date that is too coarse to be a time")]
pub(super) fn dated(text: &str) -> Option<Option<Stamp>> {
    // `dmesg -T -d` puts the time since the line before behind it.
    let text = text.split_once('<').filter(|(_, rest)| rest.ends_with('>')).map_or(text, |(date, _)| date);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [time] if time.len() > 18 => Some(Some(iso(time)?.0)),
        [_, month, day, time, zone, year] if zone.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            Some(Some(wall(year.parse().ok()?, month_of(month)?, day.parse().ok()?, time)?))
        }
        [_, month, day, time, year] if is_clock(time) && year.len() == 4 => {
            Some(Some(wall(year.parse().ok()?, month_in_words(month)?, day.parse().ok()?, time)?))
        }
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

/// Beginnings of the months' short names in other languages, as the C library has them.
const MONTHS: [&[&str]; 12] = [
    &["jan", "ene", "gen", "янв", "sty", "led", "oca"],
    &["feb", "fév", "fev", "фев", "lut", "úno", "şub"],
    &["mar", "mär", "mrt", "мар", "bře", "maa"],
    &["apr", "avr", "abr", "апр", "kwi", "dub", "nis"],
    &["may", "mai", "mag", "maj", "mei", "мая", "май", "kvě"],
    &["juin", "jun", "giu", "июн", "cze", "čen", "haz"],
    &["juil", "jul", "lug", "июл", "lip", "čec", "tem"],
    &["aug", "aoû", "ago", "авг", "sie", "srp", "ağu"],
    &["sep", "set", "сен", "wrz", "zář", "eyl"],
    &["oct", "okt", "ott", "out", "окт", "paź", "říj", "eki"],
    &["nov", "ноя", "lis", "kas"],
    &["dec", "dez", "déc", "dic", "дек", "gru", "pro", "ara"],
];

/// The month that `name` is in another language: a short word, or a number with a sign behind it. A word that is not known is taken
/// for one and the same month: what is compared lies within hours.
fn month_in_words(name: &str) -> Option<u32> {
    if let Some(month) = month_of(name) {
        return Some(month);
    }
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        let sign = name[digits..].chars().count() == 1 && !name.is_ascii();
        return name[..digits].parse().ok().filter(|month| sign && (1..=12).contains(month));
    }
    let word = name.strip_suffix('.').unwrap_or(name).to_lowercase();
    if !(2..=6).contains(&word.chars().count()) || !word.chars().all(char::is_alphabetic) {
        return None;
    }
    let known = MONTHS.iter().position(|names| names.iter().any(|begin| word.starts_with(begin)));
    Some(known.map_or(1, |at| at as u32 + 1))
}

/// True for `HH:MM:SS`, with or without a fraction.
fn is_clock(text: &str) -> bool {
    text.len() >= 8
        && text.as_bytes()[2] == b':'
        && text.as_bytes()[5] == b':'
        && text.starts_with(|c: char| c.is_ascii_digit())
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
pub(super) fn logcat(text: &str) -> Option<(Stamp, &str)> {
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
pub(super) fn unix_time(text: &str) -> Option<(Stamp, &str)> {
    let (time, after) = text.split_once(' ')?;
    let (whole, fraction) = time.split_once('.')?;
    let stamp = Stamp { clock: Clock::Wall, ns: seconds(time)? };
    let kernel = after.contains(" kernel: ") || after.starts_with("kernel: ");
    (whole.len() == 10 && fraction.len() == 6 && kernel).then_some((stamp, after))
}

/// The time, the host and the message of `2026-11-03T14:22:07Z HOST kernel PID MSGID DATA MESSAGE`, behind level and version.
pub(super) fn rfc_5424(text: &str) -> Option<(Stamp, &str, &str)> {
    let (stamp, rest) = iso(text).filter(|_| text.as_bytes()[10] == b'T')?;
    let mut fields = rest.splitn(5, ' ');
    let (host, program) = (fields.next()?, fields.next()?);
    let rest = fields.nth(2)?;
    let message = match rest.strip_prefix('[') {
        Some(data) => data.split_once("] ")?.1,
        None => rest.strip_prefix("- ")?,
    };
    (program == "kernel").then_some((stamp, host, message))
}

/// The time of `2026-11-03T14:22:07[.123456][+01:00] `, with the day's name before it and the zone behind it in some forms.
pub(super) fn iso(text: &str) -> Option<(Stamp, &str)> {
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

/// The time of `Nov 03 14:22:06[.123456] `, with the year before it, before the time, or nowhere.
pub(super) fn syslog_time(text: &str) -> Option<(Stamp, &str)> {
    let is_year =
        |word: &str| word.len() == 4 && word.starts_with(['1', '2']) && word.bytes().all(|b| b.is_ascii_digit());
    let text = text.split_once(' ').filter(|(year, _)| is_year(year)).map_or(text, |(_, after)| after);
    // Only what a program's name follows: a sentence may begin with a word, a number and a time.
    let known = text.get(..3).and_then(month_of);
    let (month, rest) = match known {
        Some(month) => (month, &text[3..]),
        None => text
            .split_once(' ')
            .filter(|(name, _)| name.len() <= 16)
            .and_then(|(name, rest)| Some((month_in_words(name)?, rest)))?,
    };
    let (day, rest) = rest.trim_start().split_once(' ').filter(|(day, _)| day.len() <= 2)?;
    let rest = rest.split_once(' ').filter(|(year, _)| is_year(year)).map_or(rest, |(_, after)| after);
    let (time, after) = rest.trim_start().split_once(' ').filter(|(time, _)| known.is_some() || is_clock(time))?;
    Some((wall(0, month, day.parse().ok()?, time)?, after))
}

/// The time of `0xADDRESS |  SECONDS.MICROS: `, as tools show the log in a dump of memory.
pub(super) fn ram_dump(text: &str) -> Option<(Stamp, &str)> {
    let (address, rest) = text.strip_prefix("0x")?.split_once(" |")?;
    if address.len() > 16 || !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (time, message) = rest.trim_start().split_once(':')?;
    Some((Stamp { clock: Clock::Printk, ns: seconds(time)? }, message.trim_start()))
}

/// A record of /dev/kmsg: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];MESSAGE`.
pub(super) fn kmsg(text: &str) -> Option<(Stamp, &str)> {
    let (head, message) = text.split_once(';').filter(|(head, _)| head.len() < 80)?;
    let mut fields = head.split(',');
    let (_, _) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u64>().ok()?);
    let micros: u64 = fields.next()?.parse().ok()?;
    fields.next()?;
    Some((Stamp { clock: Clock::Printk, ns: micros.checked_mul(1000)? }, message))
}
