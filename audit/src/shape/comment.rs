//! Lines that are beside the records: comments of traces, typed commands, keys of a kmsg record.

use super::record::{Header, Record};

/// Record in the comment `text`; none where it is no comment.
#[expect(clippy::option_option, reason = "no comment, and a comment that says nothing")]
pub(super) fn comment(text: &str) -> Option<Option<Record<'_>>> {
    // trace-cmd's first line.
    if text.strip_prefix("cpus=").is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some(Some(Record::Begin));
    }
    // perf's warning, pasted with the script's output.
    if let Some((_, lost)) = text.split_once(" events and lost ").filter(|(head, _)| head.starts_with("Processed ")) {
        return Some(lost.split(' ').next().and_then(|count| count.parse().ok()).map(Record::Missed));
    }
    let comment = text.strip_prefix('#')?;
    if comment.trim_start().starts_with("tracer:") {
        return Some(Some(Record::Begin));
    }
    if comment.trim_start().starts_with("recorded by bindery-audit") {
        return Some(Some(Record::Recorder));
    }
    let listed = ["sysfs ", "sysfs-after "].iter().find_map(|key| comment.trim_start().strip_prefix(key));
    if let Some(device) = listed {
        return Some(Some(Record::Listed(device)));
    }
    Some(header(comment).map(Record::Header).or_else(|| missed(comment).map(Record::Missed)))
}

/// A typed command: `# echo ...`, `$ ...`, `user@host:~# ...`. A trace's header also begins with `#`.
pub(super) fn is_prompt(text: &str) -> bool {
    let command = |rest: &str| {
        let word = rest.split_whitespace().next().unwrap_or("");
        ["echo", "dmesg", "modprobe", "rmmod", "insmod", "sudo", "cat", "virsh", "driverctl", "tee"].contains(&word)
    };
    if let Some(rest) = text.strip_prefix("# ").or_else(|| text.strip_prefix("$ ")) {
        return command(rest);
    }
    text.split_once("# ").or_else(|| text.split_once("$ ")).is_some_and(|(head, rest)| {
        (head.contains('@') || head.ends_with('~') || head.starts_with('/')) && head.len() < 60 && command(rest)
    })
}

/// The text behind the mark of a test's output, `# [   12.345678] ...`: a line of the log, and no comment of a trace.
pub(super) fn of_test(text: &str) -> Option<&str> {
    let mut rest = text.trim_start().strip_prefix('#')?;
    // Tests inside of tests.
    while let Some(inner) = rest.trim_start().strip_prefix('#') {
        rest = inner;
    }
    let rest = rest.trim_start();
    let time = rest.strip_prefix('[')?.split(']').next()?.trim();
    super::stamp::seconds(time).map(|_| rest)
}

fn header(comment: &str) -> Option<Header> {
    let rest = comment.trim().strip_prefix("entries-in-buffer/entries-written:")?;
    let mut words = rest.split_whitespace();
    let (held, written) = words.next()?.split_once('/')?;
    let cpus = words.next().and_then(|word| word.strip_prefix("#P:")).and_then(|n| n.parse().ok());
    Some(Header { held: held.parse().ok()?, written: written.parse().ok()?, cpus })
}

/// The count in a recorder's comment: `missed: N events of ...`, or `stats cpu N: ..., dropped events: N, ...`, which is what
/// the ring buffer refused. What it overwrote is in the header's counts.
fn missed(comment: &str) -> Option<u64> {
    let comment = comment.trim();
    let count = comment.strip_prefix("missed: ").or_else(|| {
        let counts = comment.strip_prefix("stats cpu ")?;
        counts.split_once("dropped events: ").map(|(_, rest)| rest)
    })?;
    let digits = count.find(|c: char| !c.is_ascii_digit()).unwrap_or(count.len());
    count[..digits].parse().ok().filter(|count| *count > 0)
}

pub(super) fn kmsg_key(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.strip_prefix(' ')?.split_once('=')?;
    (["SUBSYSTEM", "DEVICE", "DRIVER"].contains(&key)).then_some((key, value))
}
