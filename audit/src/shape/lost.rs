//! Words that say that messages of a log are missing, or stood there several times.

/// The count of messages that the kernel or a log's daemon dropped, and what stands behind the words in the same line.
pub(super) fn dropped(text: &str) -> Option<(u64, &str)> {
    // The console's own mark has no time, and no line feed on older kernels.
    let start = text.bytes().position(|byte| byte != b' ')?;
    let (count, rest) = text[start..].strip_prefix("** ")?.split_once(" printk messages dropped **")?;
    Some((count.parse().ok()?, rest.trim_start()))
}

/// The count of dropped messages that the message `body` tells of; it may be of another program's.
pub(super) fn dropped_message(body: &str) -> Option<u64> {
    let count = |rest: &str| rest.split(' ').next().and_then(|number| number.parse().ok());
    let body =
        body.strip_prefix("systemd-journald[").and_then(|rest| rest.split_once("]: ")).map_or(body, |(_, said)| said);
    if let Some(rest) = body.strip_prefix("Missed ").filter(|rest| rest.ends_with(" kernel messages")) {
        return count(rest);
    }
    let rest = body.strip_prefix("printk: ").unwrap_or(body);
    if rest.ends_with(" messages suppressed.") || rest.ends_with(" printk messages dropped **") {
        return count(rest.trim_start_matches("** "));
    }
    if !body.starts_with(['i', 'r']) {
        return None;
    }
    let (_, lost) =
        body.split_once(" lost ").filter(|(head, _)| head.ends_with("imuxsock") || head.ends_with("imklog"))?;
    count(lost)
}

/// The count and the message of `message repeated 4 times: [ MESSAGE]`, which stands for so many lines.
pub(super) fn repeated(body: &str) -> Option<(u64, &str)> {
    let (count, rest) = body.strip_prefix("message repeated ")?.split_once(" times: [")?;
    Some((count.parse().ok()?, rest.strip_suffix(']').unwrap_or(rest).trim()))
}

/// The count of `HOST last message repeated 4 times`, which is about the line before.
pub(super) fn repeated_last(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(" last message repeated ")?;
    let (count, rest) = rest.split_once(' ')?;
    rest.starts_with("time").then(|| count.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_repeated_messages_are_counted() {
        assert_eq!(dropped("** 333 printk messages dropped ** [    3.4] x"), Some((333, "[    3.4] x")));
        assert_eq!(dropped("** 3 printk messages dropped **"), Some((3, "")));
        assert_eq!(dropped("** bold **"), None);
        assert_eq!(dropped_message("Missed 120 kernel messages"), Some(120));
        assert_eq!(dropped_message("systemd-journald[211]: Missed 1 kernel messages"), Some(1));
        assert_eq!(dropped_message("printk: 14 messages suppressed."), Some(14));
        assert_eq!(dropped_message("imuxsock lost 22 messages from pid 4 due to rate-limiting"), Some(22));
        assert_eq!(dropped_message("arm_smmu_context_fault: 71 callbacks suppressed"), None);
        assert_eq!(repeated("message repeated 4 times: [ DMAR: [x] y]"), Some((4, "DMAR: [x] y")));
        assert_eq!(repeated_last("Nov  3 14:22:39 hv07 last message repeated 4 times"), Some(4));
        assert_eq!(repeated_last("the last message repeated itself"), None);
    }
}
