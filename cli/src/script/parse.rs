//! The lines of a script.

use std::ops::Range;

use bindery_sim::disk::SECTOR;
use miette::NamedSource;

use crate::failure::{Result, ScriptError};

/// What can be written on a line, for help.
const GRAMMAR: &str = "\
write one of: echo VALUE > PATH, cat PATH, ls PATH, read LBA [COUNT], write LBA TEXT, write LBA 0xBYTES. \
A # begins a comment; a ! before a command says that it must fail";

/// A script that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its commands.
    pub lines: Vec<Line>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its line in the file, from 1.
    pub number: usize,
    /// As it was written, without blanks around it.
    pub text: String,
    /// It is to be refused.
    pub must_fail: bool,
    /// What it does.
    pub command: Command,
}

/// What a line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes a value to a file of the control tree.
    Echo {
        /// The value, without newline.
        value: String,
        /// The file.
        path: String,
    },
    /// Prints a file of the control tree.
    Cat(String),
    /// Prints the names in a directory of the control tree.
    Ls(String),
    /// Prints sectors of the disk.
    Read {
        /// First sector.
        lba: u64,
        /// How many, at least 1.
        count: u64,
    },
    /// Writes sectors of the disk, the last one filled up with zeros.
    Write {
        /// First sector.
        lba: u64,
        /// Whole sectors.
        bytes: Vec<u8>,
    },
}

/// Why a line is not understood: what is wrong, and where in the line.
struct Wrong(String, Range<usize>);

/// Understands a script; `path` is its name in messages.
pub fn parse(path: &str, text: &str) -> Result<Script> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (at, raw) in text.split_inclusive('\n').enumerate() {
        let line = line(raw.trim_end_matches(['\n', '\r'])).map_err(|Wrong(what, span)| {
            Box::new(ScriptError {
                path: path.into(),
                line: at + 1,
                what,
                help: GRAMMAR.into(),
                text: NamedSource::new(path, text.into()),
                span: (start + span.start, span.len()).into(),
            })
        })?;
        if let Some((text, must_fail, command)) = line {
            lines.push(Line { number: at + 1, text, must_fail, command });
        }
        start += raw.len();
    }
    Ok(Script { lines })
}

/// A word or the rest of a line, with its place in the line.
#[derive(Clone, Copy)]
struct Part<'l> {
    text: &'l str,
    at: usize,
}

impl Part<'_> {
    fn span(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), at: self.at + self.text.len() - text.len() }
    }

    /// The first word, and what follows.
    fn word(self) -> (Self, Self) {
        let part = self.trim();
        let end = part.text.find(char::is_whitespace).unwrap_or(part.text.len());
        part.split(end, end)
    }

    /// What is before byte `end`, and what is from byte `from` on.
    fn split(self, end: usize, from: usize) -> (Self, Self) {
        let rest = Self { text: &self.text[from..], at: self.at + from };
        (Self { text: &self.text[..end], at: self.at }, rest.trim())
    }
}

fn line(raw: &str) -> std::result::Result<Option<(String, bool, Command)>, Wrong> {
    let whole = Part { text: raw, at: 0 }.trim();
    if whole.text.is_empty() || whole.text.starts_with('#') {
        return Ok(None);
    }
    let (must_fail, command) = match whole.text.strip_prefix('!') {
        Some(rest) => (true, Part { text: rest, at: whole.at + 1 }.trim()),
        None => (false, whole),
    };
    let (verb, rest) = command.word();
    let parsed = match verb.text {
        "echo" => echo(verb, rest)?,
        "cat" => Command::Cat(path(verb, rest)?),
        "ls" => Command::Ls(path(verb, rest)?),
        "read" => read(verb, rest)?,
        "write" => write(verb, rest)?,
        "" => return Err(Wrong("a command is missing behind the !".into(), whole.span())),
        other => return Err(Wrong(format!("unknown command {other:?}"), verb.span())),
    };
    Ok(Some((whole.text.into(), must_fail, parsed)))
}

fn echo(verb: Part<'_>, rest: Part<'_>) -> std::result::Result<Command, Wrong> {
    let rest = match rest.word() {
        (flag, value) if flag.text == "-n" => value,
        _ => rest,
    };
    let Some(arrow) = unquoted(rest.text, '>') else {
        return Err(Wrong("echo without > PATH".into(), verb.at..rest.span().end.max(verb.span().end)));
    };
    let (value, target) = rest.split(arrow, arrow + 1);
    if target.text.starts_with('>') {
        return Err(Wrong(">> has no meaning for the control tree".into(), rest.at + arrow..rest.at + arrow + 2));
    }
    let value = value.trim().text;
    let quoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    Ok(Command::Echo { value: quoted.unwrap_or(value).into(), path: path(verb, target)? })
}

/// Where `wanted` is first, outside quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == wanted => return Some(at),
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
    }
    None
}

fn path(verb: Part<'_>, rest: Part<'_>) -> std::result::Result<String, Wrong> {
    let (path, more) = rest.word();
    if path.text.is_empty() {
        return Err(Wrong(format!("{} without a path", verb.text), verb.span()));
    }
    nothing(more)?;
    Ok(path.text.into())
}

fn read(verb: Part<'_>, rest: Part<'_>) -> std::result::Result<Command, Wrong> {
    let (lba, rest) = number(verb, rest, "a sector number")?;
    if rest.text.is_empty() {
        return Ok(Command::Read { lba, count: 1 });
    }
    let (count, more) = number(verb, rest, "a number of sectors")?;
    nothing(more)?;
    if count == 0 {
        return Err(Wrong("no sectors to read".into(), rest.span()));
    }
    Ok(Command::Read { lba, count })
}

fn write(verb: Part<'_>, rest: Part<'_>) -> std::result::Result<Command, Wrong> {
    let (lba, data) = number(verb, rest, "a sector number")?;
    let mut bytes = match data.text.strip_prefix("0x") {
        Some(digits) => {
            hex(digits).ok_or_else(|| Wrong("not a whole number of hexadecimal bytes".into(), data.span()))?
        }
        None => data.text.as_bytes().to_vec(),
    };
    if bytes.is_empty() {
        return Err(Wrong("nothing to write".into(), verb.at..rest.span().end));
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
    Ok(Command::Write { lba, bytes })
}

fn number<'l>(verb: Part<'_>, rest: Part<'l>, what: &str) -> std::result::Result<(u64, Part<'l>), Wrong> {
    let (word, rest) = rest.word();
    if word.text.is_empty() {
        return Err(Wrong(format!("{} without {what}", verb.text), verb.span()));
    }
    let parsed = match word.text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
        None => word.text.parse().ok().filter(|_| !word.text.starts_with('+')),
    };
    Ok((parsed.ok_or_else(|| Wrong(format!("{:?} is not {what}", word.text), word.span()))?, rest))
}

fn nothing(more: Part<'_>) -> std::result::Result<(), Wrong> {
    if more.text.is_empty() { Ok(()) } else { Err(Wrong("too many words".into(), more.span())) }
}

/// Bytes of hexadecimal digits, two each; blanks between bytes are allowed.
fn hex(digits: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in digits.split_whitespace() {
        if !group.len().is_multiple_of(2) || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.extend((0..group.len()).step_by(2).filter_map(|i| u8::from_str_radix(&group[i..i + 2], 16).ok()));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn commands(text: &str) -> Vec<Command> {
        parse("s", text).unwrap().lines.into_iter().map(|l| l.command).collect()
    }

    fn wrong(text: &str) -> (usize, String, String) {
        let Err(Failure::Script(e)) = parse("s", text) else { panic!("{text:?} was understood") };
        let place = text.get(e.span.offset()..e.span.offset() + e.span.len()).unwrap_or("?");
        (e.line, e.what.clone(), place.into())
    }

    #[test]
    fn commands_comments_and_blank_lines_are_told_apart() {
        let script = parse("s", "# first\n\n  cat /sys/a\r\n! ls /sys/b\n").unwrap();
        let seen: Vec<_> = script.lines.iter().map(|l| (l.number, l.must_fail, l.command.clone())).collect();
        assert_eq!(seen, [(3, false, Command::Cat("/sys/a".into())), (4, true, Command::Ls("/sys/b".into()))]);
    }

    #[test]
    fn echo_takes_its_value_as_a_shell_would() {
        let echo = |value: &str| Command::Echo { value: value.into(), path: "/p".into() };
        for (text, value) in [
            ("echo a.b > /p", "a.b"),
            ("echo a.b>/p", "a.b"),
            ("echo -n a > /p", "a"),
            ("echo > /p", ""),
            ("echo \"\" > /p", ""),
            ("echo 'a > b' > /p", "a > b"),
        ] {
            assert_eq!(commands(text), [echo(value)], "{text}");
        }
    }

    #[test]
    fn sectors_are_filled_up_and_bytes_may_be_hexadecimal() {
        let Command::Write { lba: 7, bytes } = &commands("write 7 hello world")[0] else { panic!() };
        assert!(bytes.len() == 512 && bytes.starts_with(b"hello world\0"));
        let Command::Write { lba: 0x10, bytes } = &commands("write 0x10 0xdead beef")[0] else { panic!() };
        assert!(bytes.len() == 512 && bytes.starts_with(&[0xde, 0xad, 0xbe, 0xef, 0]));
        assert_eq!(commands("read 5"), [Command::Read { lba: 5, count: 1 }]);
        assert_eq!(commands("read 5 0x20"), [Command::Read { lba: 5, count: 32 }]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_place() {
        let says = |line: usize, what: &str, place: &str| (line, what.to_string(), place.to_string());
        assert_eq!(wrong("\n  frobnicate it\n"), says(2, "unknown command \"frobnicate\"", "frobnicate"));
        assert_eq!(wrong("echo value"), says(1, "echo without > PATH", "echo value"));
        assert_eq!(wrong("echo"), says(1, "echo without > PATH", "echo"));
        assert_eq!(wrong("echo a >> /p"), says(1, ">> has no meaning for the control tree", ">>"));
        assert_eq!(wrong("echo a >"), says(1, "echo without a path", "echo"));
        assert_eq!(wrong("cat /a /b"), says(1, "too many words", "/b"));
        assert_eq!(wrong("ls"), says(1, "ls without a path", "ls"));
        assert_eq!(wrong("read -1"), says(1, "\"-1\" is not a sector number", "-1"));
        assert_eq!(wrong("read 1 0"), says(1, "no sectors to read", "0"));
        assert_eq!(wrong("write 1"), says(1, "nothing to write", "write 1"));
        assert_eq!(wrong("write 1 0xabc"), says(1, "not a whole number of hexadecimal bytes", "0xabc"));
        assert_eq!(wrong("!"), says(1, "a command is missing behind the !", "!"));
        assert_eq!(wrong("grüße > /p").2, "grüße");
    }
}
