//! Logs that lost their line feeds.

/// The messages in a text that lost its line feeds, as web archives show a mail: one begins at each driver with its device, at
/// each function of a stack, and at the words that begin reports.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let words: Vec<(usize, &str)> = text
        .split(' ')
        .scan(0, |at, word| {
            let start = *at;
            *at += word.len() + 1;
            Some((start, word))
        })
        .collect();
    let heads = [
        "Unable to handle kernel",
        "Internal error:",
        "Call trace:",
        "Call Trace:",
        "CPU: ",
        "pc : ",
        "lr : ",
        "RIP: ",
        "---[ end",
        "BUG: ",
    ];
    let mut starts = vec![0];
    for (n, (at, word)) in words.iter().enumerate() {
        let after = words.get(n + 1).map_or("", |(_, word)| word);
        let driver = after.strip_suffix(':').is_some_and(crate::event::is_device) && !word.ends_with(':');
        let frame = word.contains("+0x") && word.contains("/0x") && n > 0 && !matches!(words[n - 1].1, ":" | "RIP:");
        if driver || frame || heads.iter().any(|head| text[*at..].starts_with(head)) {
            starts.push(*at);
        }
    }
    starts.push(text.len());
    starts.windows(2).map(|pair| text[pair[0]..pair[1]].trim()).filter(|piece| !piece.is_empty()).collect()
}
