//! Lines of ftrace text: of the kernel's `trace` file, of `trace-cmd report`, and of `perf script`.

use super::stamp::{Clock, Stamp, seconds};
use crate::find::cut;

/// A line of a trace, in offsets of its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceLine {
    /// Process that was running.
    pub pid: u32,
    /// CPU.
    pub cpu: u32,
    /// Time.
    pub stamp: Option<Stamp>,
    /// Length of the task's name, which begins the text after its blanks.
    pub comm: (usize, usize),
    /// Offset of the event.
    pub body: usize,
    /// 0 in the task itself, 1 in a hardware interrupt, 2 in a soft one, as the flags say.
    pub context: u8,
    /// True where there are flags.
    pub flags: bool,
}

/// Longest name of a task with what a tool may add to it.
const MAX_COMM: usize = 64;

/// Reads the head of a trace line: `COMM-PID [(TGID)] [CPU] [FLAGS] TIME: EVENT`.
///
/// The anchor is `PID [CPU]`, for a task's name may hold blanks, dashes and brackets.
pub fn parse_trace(text: &str) -> Option<TraceLine> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(open) = memchr::memchr(b'[', bytes.get(from..)?).map(|at| at + from) {
        if open > MAX_COMM + 40 {
            return None;
        }
        if let Some(line) = at_bracket(text, open) {
            return Some(line);
        }
        from = open + 1;
    }
    None
}

/// Reads the head of a line of a dump of the ring buffer to the console, as an oops makes it: `COMM-PID CPUFLAGS TIMEus : EVENT`.
pub(super) fn parse_dump(text: &str) -> Option<TraceLine> {
    let (head, event) = cut(text, ": ")?;
    let marks = [' ', '+', '!', '#', '*', '@', '$'];
    let head = head.trim_end_matches(marks).strip_suffix("us")?;
    let digits = head.len() - head.bytes().rev().take_while(u8::is_ascii_digit).count();
    let micros: u64 = head[digits..].parse().ok()?;
    let head = head[..digits].strip_suffix(' ')?.trim_end();
    let place = head.rfind(' ')?;
    let word = &head[place + 1..];
    let flags = word.find(|c: char| !c.is_ascii_digit())?;
    let (cpu, flags) = (word[..flags].parse().ok()?, &word[flags..]);
    let (pid, comm) = task(&head[..=place])?;
    let ns = micros.checked_mul(1000)?;
    let stamp = Some(Stamp { clock: Clock::Trace, ns });
    let context = context_of(flags);
    let body = text.len() - event.trim_start().len();
    (4..=6).contains(&flags.len()).then_some(TraceLine { pid, cpu, stamp, comm, body, context, flags: true })
}

/// Context of a line by its flags: 0 for the task itself, 1 for a hardware interrupt, 2 for a soft one.
fn context_of(flags: &str) -> u8 {
    match flags.as_bytes().get(2) {
        Some(b'h' | b'H' | b'z' | b'Z') => 1,
        Some(b's') => 2,
        _ => 0,
    }
}

fn at_bracket(text: &str, open: usize) -> Option<TraceLine> {
    let inside = &text[open + 1..];
    let close = inside.find(']').filter(|close| (1..=5).contains(close))?;
    let cpu = inside[..close].trim_start().parse::<u32>().ok()?;
    let (pid, comm) = task(&text[..open])?;
    let mut rest = &inside[close + 1..];
    let mut context = 0;
    let mut flags = false;
    // Flags, or nothing (trace-cmd of old, perf), and then the time.
    for _ in 0..3 {
        let token = rest.trim_start();
        let end = token.find(' ').unwrap_or(token.len());
        if let Some(time) = token[..end].strip_suffix(':')
            && let Some(stamp) = time_of(time)
        {
            let mut after = token[end..].trim_start();
            // The time since the line before, as trace-cmd prints it when it is asked to.
            if let Some((age, rest)) = after.strip_prefix("(+").and_then(|rest| rest.split_once(')'))
                && !age.is_empty()
                && age.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            {
                after = rest.trim_start();
            }
            let body = text.len() - after.len();
            return Some(TraceLine { pid, cpu, stamp, comm, body, context, flags });
        }
        flags = true;
        context = context_of(token);
        rest = &token[end..];
    }
    None
}

/// A time, or a count of a clock that counts something else.
#[expect(clippy::option_option, reason = "no time at all, and a time that is no number of seconds")]
fn time_of(text: &str) -> Option<Option<Stamp>> {
    if let Some(ns) = seconds(text) {
        return Some(Some(Stamp { clock: Clock::Trace, ns }));
    }
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(None)
}

/// The process and the place of its name in what stands before the CPU.
fn task(before: &str) -> Option<(u32, (usize, usize))> {
    if !before.ends_with(' ') {
        return None;
    }
    let mut head = before.trim_end();
    // The thread group, when it is recorded: `(   1234)` or `(-------)`.
    if head.ends_with(')')
        && let Some(open) = head.rfind('(')
        && head[open + 1..head.len() - 1].trim().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        head = head[..open].trim_end();
    }
    let digits = head.bytes().rev().take_while(u8::is_ascii_digit).count();
    let at = head.len() - digits;
    let pid = head[at..].parse::<u32>().ok()?;
    let name = head[..at].strip_suffix(['-', ' ', '/'])?;
    let start = name.len() - name.trim_start().len();
    let end = name.trim_end().len();
    (end > start).then_some((pid, (start, end)))
}

/// The count of `CPU:0 [LOST 12 EVENTS]`, of trace-cmd's `CPU:0 [12 EVENTS DROPPED]`, and of perf's `LOST 12 events`.
pub fn lost(text: &str) -> Option<(Option<u32>, u64)> {
    if text.len() > 120 {
        return None;
    }
    let upper = text.trim().to_ascii_uppercase();
    let dropped = upper.contains("EVENTS DROPPED") || upper.contains("EVENTS LOST") || upper.contains("LOST ");
    if !(dropped && upper.contains("EVENT")) || !(upper.starts_with("CPU") || upper.starts_with('[')) {
        return None;
    }
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok();
    let cpu = upper.strip_prefix("CPU").and_then(|rest| number(rest.trim_start_matches([':', ' ', '='])));
    let open = upper.find('[').map_or(0, |at| at + 1);
    let count = upper[open..].split_whitespace().find_map(number).unwrap_or(1);
    Some((cpu.and_then(|cpu| u32::try_from(cpu).ok()), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn head(text: &str) -> (String, u32, u32, String) {
        let line = parse_trace(text).unwrap();
        (text[line.comm.0..line.comm.1].into(), line.pid, line.cpu, text[line.body..].into())
    }

    #[test]
    fn heads_of_every_kind_are_read() {
        let is = |name: &str, pid, cpu, body: &str| (name.to_owned(), pid, cpu, body.to_owned());
        assert_eq!(head("   insmod-157  [000] d..1.  20.100000: map: IOMMU: x"), is("insmod", 157, 0, "map: IOMMU: x"));
        assert_eq!(head("  kworker/u8:1-44 [012] ..s1. 3.000001: f <-g"), is("kworker/u8:1", 44, 12, "f <-g"));
        assert_eq!(head("   <idle>-0 [001] ..s1.     6.141892: e: p"), is("<idle>", 0, 1, "e: p"));
        assert_eq!(head(" a [b-1 c]-7 [001]  6.141892: e: p"), is("a [b-1 c]", 7, 1, "e: p"));
        assert_eq!(head(" sh-7   (    7) [001] .....  6.141892: e: p"), is("sh", 7, 1, "e: p"));
        assert_eq!(
            head(" my task  2214 [003]   301.118234:  dma:dma_free: x"),
            is("my task", 2214, 3, "dma:dma_free: x")
        );
        assert_eq!(head(" sh-7 [001] 6.141892123: e: p"), is("sh", 7, 1, "e: p"));
        assert_eq!(head(" sh-7 [001] d..1. 123456: e: p"), is("sh", 7, 1, "e: p"));
    }

    #[test]
    fn lines_of_a_dump_to_the_console_are_read() {
        let text = "swapper/-1         1.... 24564337us : rdmaip_init: x";
        let line = parse_dump(text).unwrap();
        assert_eq!((line.pid, line.cpu, &text[line.body..]), (1, 1, "rdmaip_init: x"));
        assert_eq!(line.stamp.unwrap().ns, 24_564_337_000);
        assert_eq!(
            parse_dump("  <idle>-0      12d.h2. 5us+: f <-g").map(|line| (line.cpu, line.context)),
            Some((12, 1))
        );
        assert_eq!(parse_dump("exnet 0000:00:02.0: link up after 20us : x"), None);
    }

    #[test]
    fn other_text_is_no_trace_line() {
        for text in
            ["[   12.345678] DMAR: [DMA Write]", "cpu-1 [x] 1.000000: e", "sh-1 [000] no time here", "", "-1 [0] "]
        {
            assert_eq!(parse_trace(text), None, "{text}");
        }
    }

    #[test]
    fn lost_events_are_counted() {
        assert_eq!(lost("CPU:0 [LOST 1523 EVENTS]"), Some((Some(0), 1523)));
        assert_eq!(lost("CPU:3 [44 EVENTS DROPPED]"), Some((Some(3), 44)));
        assert_eq!(lost("CPU 12 [LOST EVENTS]"), Some((Some(12), 1)));
        assert_eq!(lost("we lost 3 events of the CPU"), None);
    }
}
