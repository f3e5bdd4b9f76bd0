//! Additions to a line's prefix: by vendors' kernels behind the time, by tools, lists and mails before the whole line.

use super::dates::{dated, iso, syslog_time};
use super::stamp::seconds;

/// `text` without the CPU and the process that kernels of some vendors print behind the time: `[pid:10974,cpu1,bash]`,
/// `(2)[4410:sh]`, ` [2:  sh: 4410]`, ` I[2:  sh: 4410]`, `002: `.
pub(super) fn without_process(text: &str) -> &str {
    let blank = text.trim_start();
    // PREEMPT_RT's CPU: `002: `.
    if let Some((cpu, after)) = blank.split_at_checked(3)
        && cpu.bytes().all(|byte| byte.is_ascii_digit())
        && let Some(after) = after.strip_prefix(": ")
    {
        return after;
    }
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
pub(super) fn lead(text: &str) -> Option<usize> {
    before_bracket(text).or_else(|| named(text))
}

/// The place of the bracket that begins the line.
fn before_bracket(text: &str) -> Option<usize> {
    let open = text.find(['[', '<']).filter(|at| (1..=80).contains(at));
    // A time of day in brackets is itself such a lead.
    let open = match open
        .or(Some(0))
        .filter(|at| is_day_time(text[*at..].strip_prefix('[').unwrap_or("").split(']').next().unwrap_or("")))
    {
        Some(at) => text[at + 1..].find(['[', '<']).map(|next| next + at + 1).filter(|next| *next <= 80)?,
        None => open?,
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

/// The place behind the name of `kern.log:Nov  3 14:22:07 host kernel: ...`, of a file, and of `web-1 | Nov ...`, of a container.
fn named(text: &str) -> Option<usize> {
    if let Some((name, rest)) = text.split_once(" | ")
        && !name.trim().is_empty()
        && name.len() <= 40
        && syslog_time(rest.trim_start()).or_else(|| iso(rest.trim_start())).is_some()
    {
        return Some(text.len() - rest.trim_start().len());
    }
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
    // The field before of a log server's record, or of a table: `... msg="`, `..., "`.
    let ends = ["=\"", ",\""];
    if ends.iter().any(|end| head.ends_with(end)) {
        return true;
    }
    // A container's or a console's name, or a harness's clock, name and level, and a bar.
    if let Some(head) = head.strip_suffix('|') {
        let words: Vec<&str> = head.split_whitespace().collect();
        let name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/,+".contains(&byte));
        return words.len() <= 6 && words.iter().all(name);
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
