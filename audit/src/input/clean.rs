//! Text without anything that a terminal would obey, and without a mail's quote marks.

/// The text of `raw`: escape sequences and control characters are gone, tabs are blanks, bytes that are no UTF-8 are U+FFFD.
///
/// `scratch` holds the result where `raw` cannot be borrowed.
pub fn clean<'a>(raw: &'a [u8], scratch: &'a mut String) -> &'a str {
    if raw.iter().all(|byte| (0x20..0x7f).contains(byte))
        && let Ok(text) = str::from_utf8(raw)
    {
        return text.trim_end();
    }
    scratch.clear();
    let text = String::from_utf8_lossy(raw);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\t' | '\u{a0}' => scratch.push(' '),
            c if c.is_control() || is_format(c) => {}
            c => scratch.push(c),
        }
    }
    scratch.trim_end()
}

/// Skips the rest of an escape sequence (ECMA-48): CSI to its final byte, OSC and the like to their terminator.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    match rest.clone().next() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        Some(']' | 'P' | '^' | '_' | 'X') => {
            // To BEL or ESC \; a string that never ends takes the line with it.
            while let Some(c) = rest.next() {
                if c == '\u{7}' || (c == '\u{1b}' && rest.next().is_some()) {
                    break;
                }
            }
        }
        Some(c) if !c.is_control() => {
            rest.next();
            if matches!(c, '(' | ')' | '#' | '%' | ' ') {
                rest.next();
            }
        }
        _ => {}
    }
}

fn skip_control_sequence(rest: &mut std::str::Chars<'_>) {
    while let Some(c) = rest.clone().next() {
        if !(' '..='~').contains(&c) {
            break;
        }
        rest.next();
        if ('@'..='~').contains(&c) {
            break;
        }
    }
}

/// Characters that change the order or the look of others and are no text themselves.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` without the quote marks of a mail, and how many there were.
pub fn unquote(text: &str) -> (&str, u8) {
    let mut rest = text;
    // A line that is marked as code.
    if let Some(code) = text.trim_start().strip_prefix('`') {
        rest = code.trim_end().trim_end_matches('`');
    }
    let code = rest;
    let mut depth = 0_u8;
    loop {
        let inner = rest.strip_prefix(' ').unwrap_or(rest);
        let Some(inner) = inner.strip_prefix('>').or_else(|| inner.strip_prefix("&gt;")) else { break };
        rest = inner;
        depth = depth.saturating_add(1);
    }
    if depth == 0 { (code, 0) } else { (rest.strip_prefix(' ').unwrap_or(rest), depth) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(raw: &[u8]) -> String {
        clean(raw, &mut String::new()).to_owned()
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(cleaned(b"a\x1b[31mb\x1b[0mc\r"), "abc");
        assert_eq!(cleaned(b"a\x1b]0;title\x07b\x1b]2;x\x1b\\c"), "abc");
        assert_eq!(cleaned("a\u{9b}2Jb\u{85}c\u{202e}d".as_bytes()), "abcd");
        assert_eq!(cleaned(b"dmesg\x1b[K"), "dmesg");
        assert_eq!(cleaned(b"a\x1b"), "a");
        assert_eq!(cleaned(b"\x00\x08a\xff\tb\x1b(Bc"), "a\u{fffd} bc");
    }

    #[test]
    fn quote_marks_are_counted_and_taken_off() {
        assert_eq!(unquote("> [    1.0] x"), ("[    1.0] x", 1));
        assert_eq!(unquote(">> > x"), ("x", 3));
        assert_eq!(unquote("   sh-1 [000] > x"), ("   sh-1 [000] > x", 0));
        assert_eq!(unquote(">"), ("", 1));
        assert_eq!(unquote("`[    1.0] x `"), ("[    1.0] x ", 0));
    }
}
