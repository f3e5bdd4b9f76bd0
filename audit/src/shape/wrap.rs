//! Beginnings and ends of messages inside of lines.

/// Longest time in brackets, in bytes.
const LONGEST_TIME: usize = 40;

/// True when `text` begins like the middle of a sentence, and not like a message: `scsi host0: ...`.
pub(super) fn is_middle(text: &str) -> bool {
    let text = text.trim_start();
    let speaks = text.split(' ').take(3).any(|word| word.ends_with(':'));
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '[' | '(' | '_'))
        && !text.contains("+0x")
        && !speaks
}

/// The places of the times in the middle of a message of which `first` is one, if there are more: lines that lost their line feeds.
pub(super) fn flattened(body: &str, first: usize) -> Option<Vec<usize>> {
    let mut places = vec![first];
    let mut last = first;
    while let Some(at) = embedded(&body[last..]) {
        last += at;
        places.push(last);
    }
    (places.len() >= 2).then_some(places)
}

/// The place of a time in the middle of a message: another message begins there.
pub(super) fn embedded(body: &str) -> Option<usize> {
    let opens = memchr::memchr_iter(b'[', body.as_bytes()).filter(|open| *open > 0);
    opens.into_iter().find(|open| {
        // Only as far as a time is long: a line may be full of brackets that nothing closes.
        let inside = &body.as_bytes()[open + 1..];
        let close = inside.iter().take(LONGEST_TIME).position(|byte| *byte == b']');
        close.is_some_and(|close| {
            let inside = &body[open + 1..open + 1 + close];
            inside.contains('.') && super::stamp::seconds(inside.trim()).is_some()
        })
    })
}

/// True in the prefix of a message that an extended netconsole split, for all parts but the first: `,ncfrag=57/117;`.
pub(super) fn is_fragment(prefix: &str) -> bool {
    let place = prefix.split_once(",ncfrag=").and_then(|(_, rest)| rest.split_once('/'));
    place.is_some_and(|(offset, _)| offset.parse::<u64>().is_ok_and(|offset| offset > 0))
}

/// True for a line of a program's source, or of a patch: the words of a message, and not the message.
pub(super) fn is_source(text: &str) -> bool {
    text.contains("\\n\"") || text.contains("(\"") || text.ends_with(");")
}
