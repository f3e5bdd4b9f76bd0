//! Parser of scripts.

use std::ops::Range;

use bindery_sim::disk::SECTOR;
use clap::ValueEnum;
use miette::NamedSource;

use super::{Action, Check, Command, Facts, Line, Outcome, Script, Side, Step};
use crate::failure::{Result, ScriptError};
use crate::session::{Area, GuestKind, pattern};

/// Grammar, for help.
const GRAMMAR: &str = "\
write one of: echo VALUE > PATH, cat PATH, ls PATH, read LBA [COUNT], write LBA TEXT, write LBA 0xBYTES, fill LBA COUNT NAME, \
drivers add|remove, settle, guest start cooperative|unresponsive, guest stop, expect CHECK, require CHECK, if CHECK, else, \
end, show FACTS, note TEXT, step NAME TITLE. A # begins a comment; a ! before a command says that it must fail";
/// Names of checks, for help.
const CHECKS: &str = "driver NAME|none, was-bound NAME, guest, guest asked, guest released, wake-ups, translation, unmapped, \
[guest|image] reads LBA COUNT [NAME], ledger, stale, dma-blocked, pristine, event NAME, output TEXT";
/// Most sectors that one command reads or fills.
const MAX_SECTORS: u64 = 2048;

/// A syntax error: what is wrong, and where in the script.
struct Wrong(String, Range<usize>);

type Parsed<T> = std::result::Result<T, Wrong>;

/// An `if` without its `end` so far.
struct Open {
    number: usize,
    span: Range<usize>,
    has_else: bool,
}

/// Parses a script; `path` is its name in messages.
pub fn parse(path: &str, text: &str) -> Result<Script> {
    let mut script = Script { steps: Vec::new() };
    let mut open: Option<Open> = None;
    let mut start = 0;
    let error = |line: usize, Wrong(what, span): Wrong| {
        let (text, span) = (NamedSource::new(path, text.into()), (span.start, span.len()).into());
        Box::new(ScriptError { path: path.into(), line, what, help: GRAMMAR.into(), text, span })
    };
    for (number, raw) in (1..).zip(text.split_inclusive('\n')) {
        let line = Part { text: raw, at: start }.trim();
        start += raw.len();
        if !line.text.is_empty() && !line.text.starts_with('#') {
            add(&mut script, &mut open, number, line).map_err(|e| error(number, e))?;
        }
    }
    match open {
        Some(Open { number, span, .. }) => Err(error(number, Wrong("if without end".into(), span)).into()),
        None => Ok(script),
    }
}

/// Adds a line to the script.
fn add(script: &mut Script, open: &mut Option<Open>, number: usize, line: Part<'_>) -> Parsed<()> {
    let (verb, rest) = line.word();
    match (verb.text, open.as_mut()) {
        ("step" | "if", Some(_)) => return Err(Wrong(format!("{} inside if", verb.text), verb.span())),
        ("step", None) => {
            let (name, title) = rest.word();
            if title.text.is_empty() {
                return Err(Wrong("step without NAME and TITLE".into(), line.span()));
            }
            script.steps.push(Step::new(name.text, title.text));
            return Ok(());
        }
        ("if", None) => *open = Some(Open { number, span: line.span(), has_else: false }),
        ("else", Some(block)) if !block.has_else => block.has_else = true,
        ("end", Some(_)) => *open = None,
        ("else" | "end", _) => return Err(Wrong(format!("{} without if", verb.text), verb.span())),
        _ => {}
    }
    let (text, action) = action(line)?;
    if script.steps.is_empty() {
        script.steps.push(Step { implicit: true, ..Step::new("script", "Script") });
    }
    if let Some(step) = script.steps.last_mut() {
        step.lines.push(Line { number, text: text.into(), action });
    }
    Ok(())
}

/// The action of a line, and its text without prefixes that a reader of the output need not see.
fn action(whole: Part<'_>) -> Parsed<(&str, Action)> {
    let (quiet, whole) = whole.prefix('@');
    let (any, shown) = whole.prefix('?');
    let (error, line) = shown.prefix('!');
    let outcome = match (any, error) {
        (true, _) => Outcome::Any,
        (_, true) => Outcome::Error,
        _ => Outcome::Success,
    };
    let (verb, rest) = line.word();
    let action = match verb.text {
        "" => return Err(Wrong("a command is missing behind the !".into(), shown.span())),
        "note" => Action::Note(rest.text.into()),
        "show" => {
            let names = || Facts::value_variants().iter().filter_map(Facts::to_possible_value);
            let names = || names().map(|v| v.get_name().to_string()).collect::<Vec<_>>().join(", ");
            let wrong = |_| Wrong(format!("no such facts; there are: {}", names()), rest.span());
            Action::Show(Facts::from_str(rest.text, false).map_err(wrong)?)
        }
        "expect" => Action::Expect(check(rest)?),
        "require" => Action::Require(check(rest)?),
        "if" => Action::If(check(rest)?),
        "else" => nothing(rest).map(|()| Action::Else)?,
        "end" => nothing(rest).map(|()| Action::End)?,
        _ => Action::Run { command: command(line)?, outcome, quiet },
    };
    if !matches!(action, Action::Run { .. }) && (quiet || outcome != Outcome::Success) {
        return Err(Wrong(format!("{} takes no prefix", verb.text), verb.span()));
    }
    Ok((shown.text, action))
}

fn command(line: Part<'_>) -> Parsed<Command> {
    if let Ok(command) = Command::from_str(line.text, false) {
        return Ok(command);
    }
    let (verb, rest) = line.word();
    Ok(match (verb.text, rest.text) {
        ("echo", _) => echo(verb, rest)?,
        ("cat", _) => Command::Cat(one_word(verb, rest, "a path")?),
        ("ls", _) => Command::Ls(one_word(verb, rest, "a path")?),
        ("guest", "start cooperative") => Command::StartGuest(GuestKind::Cooperative),
        ("guest", "start unresponsive") => Command::StartGuest(GuestKind::Unresponsive),
        ("guest", _) => transfer(Side::Guest, rest)?,
        ("image", _) => transfer(Side::Image, rest)?,
        _ => transfer(Side::Host, line)?,
    })
}

/// `read`, `write` or `fill`.
fn transfer(side: Side, line: Part<'_>) -> Parsed<Command> {
    let (verb, rest) = line.word();
    match verb.text {
        "read" => {
            let (lba, rest) = number(verb, rest, "a sector number")?;
            let (sectors, more) = if rest.text.is_empty() { (1, rest) } else { count(verb, rest)? };
            nothing(more)?;
            Ok(Command::Read(side, Area { lba, sectors }))
        }
        "write" => write(side, verb, rest),
        "fill" => {
            let (area, name) = area(verb, rest)?;
            Ok(Command::Write(side, area.lba, pattern(&one_word(verb, name, "a name")?, area)))
        }
        other => Err(Wrong(format!("unknown command {other:?}"), verb.span())),
    }
}

fn check(line: Part<'_>) -> Parsed<Check> {
    if let Ok(check) = Check::from_str(line.text, false) {
        return Ok(check);
    }
    let (verb, rest) = line.word();
    let name = || one_word(verb, rest, "a name");
    let (side, verb, rest) = match verb.text {
        "driver" => return Ok(Check::Driver(Some(name()?).filter(|name| name != "none"))),
        "was-bound" => return Ok(Check::WasBound(name()?)),
        "event" => return Ok(Check::Event(name()?)),
        "output" if !rest.text.is_empty() => return Ok(Check::Output(rest.text.into())),
        "guest" => (Side::Guest, rest.word().0, rest.word().1),
        "image" => (Side::Image, rest.word().0, rest.word().1),
        _ => (Side::Host, verb, rest),
    };
    if verb.text != "reads" {
        return Err(Wrong(format!("no such check; there are: {CHECKS}"), line.span()));
    }
    let (area, name) = area(verb, rest)?;
    // The image would be compared with itself.
    let pattern = match name.text {
        "" if side != Side::Image => None,
        _ => Some(one_word(verb, name, "a name")?),
    };
    Ok(Check::Reads { side, area, pattern })
}

/// A sector number and a number of sectors, and what follows.
fn area<'l>(verb: Part<'_>, rest: Part<'l>) -> Parsed<(Area, Part<'l>)> {
    let (lba, rest) = number(verb, rest, "a sector number")?;
    let (sectors, more) = count(verb, rest)?;
    Ok((Area { lba, sectors }, more))
}

/// A number of sectors, and what follows.
fn count<'l>(verb: Part<'_>, rest: Part<'l>) -> Parsed<(u64, Part<'l>)> {
    let (count, more) = number(verb, rest, "a number of sectors")?;
    let wrong = |what| Err(Wrong(what, rest.word().0.span()));
    match count {
        0 => wrong("no sectors".into()),
        1..=MAX_SECTORS => Ok((count, more)),
        _ => wrong(format!("{count} sectors are more than {MAX_SECTORS}")),
    }
}

/// The only word of `rest`.
fn one_word(verb: Part<'_>, rest: Part<'_>, what: &str) -> Parsed<String> {
    let (word, more) = rest.word();
    nothing(more)?;
    let missing = || Wrong(format!("{} without {what}", verb.text), verb.span());
    if word.text.is_empty() { Err(missing()) } else { Ok(word.text.into()) }
}

/// A part of the script, with its place.
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

    /// True when it begins with `mark`, and what follows that.
    fn prefix(self, mark: char) -> (bool, Self) {
        match self.text.strip_prefix(mark) {
            Some(rest) => (true, Self { text: rest, at: self.at + mark.len_utf8() }.trim()),
            None => (false, self),
        }
    }

    /// The first word, and what follows.
    fn word(self) -> (Self, Self) {
        let part = self.trim();
        let end = part.text.find(char::is_whitespace).unwrap_or(part.text.len());
        part.split(end, end)
    }

    /// The parts before byte `end` and from byte `from` on.
    fn split(self, end: usize, from: usize) -> (Self, Self) {
        let rest = Self { text: &self.text[from..], at: self.at + from };
        (Self { text: &self.text[..end], at: self.at }, rest.trim())
    }
}

fn echo(verb: Part<'_>, rest: Part<'_>) -> Parsed<Command> {
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
    Ok(Command::Echo { value: quoted.unwrap_or(value).into(), path: one_word(verb, target, "a path")? })
}

/// Offset of the first `wanted` outside quotes.
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

fn write(side: Side, verb: Part<'_>, rest: Part<'_>) -> Parsed<Command> {
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
    Ok(Command::Write(side, lba, bytes))
}

fn number<'l>(verb: Part<'_>, rest: Part<'l>, what: &str) -> Parsed<(u64, Part<'l>)> {
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

fn nothing(more: Part<'_>) -> Parsed<()> {
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

    fn lines(text: &str) -> Vec<Line> {
        parse("s", text).unwrap().steps.into_iter().flat_map(|s| s.lines).collect()
    }

    fn commands(text: &str) -> Vec<Command> {
        let command = |line: Line| match line.action {
            Action::Run { command, .. } => command,
            other => panic!("{other:?}"),
        };
        lines(text).into_iter().map(command).collect()
    }

    fn wrong(text: &str) -> (usize, String, String) {
        let Err(Failure::Script(e)) = parse("s", text) else { panic!("{text:?} was understood") };
        let place = text.get(e.span.offset()..e.span.offset() + e.span.len()).unwrap_or("?");
        (e.line, e.what.clone(), place.into())
    }

    #[test]
    fn commands_comments_and_blank_lines_are_told_apart() {
        let seen = lines("# first\n\n  cat /sys/a\r\n! ls /sys/b\n@? settle\n");
        let run = |command, outcome, quiet| Action::Run { command, outcome, quiet };
        let line = |number, text: &str, action| Line { number, text: text.into(), action };
        assert_eq!(
            seen,
            [
                line(3, "cat /sys/a", run(Command::Cat("/sys/a".into()), Outcome::Success, false)),
                line(4, "! ls /sys/b", run(Command::Ls("/sys/b".into()), Outcome::Error, false)),
                line(5, "settle", run(Command::Settle, Outcome::Any, true)),
            ]
        );
    }

    #[test]
    fn lines_before_the_first_step_are_a_step_of_their_own() {
        let script = parse("s", "settle\nstep a First step\nsettle\nsettle\nstep b Second\n").unwrap();
        let seen: Vec<_> = script.steps.iter().map(|s| (&*s.name, &*s.title, s.implicit, s.lines.len())).collect();
        assert_eq!(seen, [("script", "Script", true, 1), ("a", "First step", false, 2), ("b", "Second", false, 0)]);
    }

    #[test]
    fn checks_are_understood_with_and_without_operands() {
        let seen =
            lines("if guest asked\nelse\nend\nexpect dma-blocked\nrequire driver none\nexpect image reads 1 2 a\n");
        let area = Area { lba: 1, sectors: 2 };
        let reads = Check::Reads { side: Side::Image, area, pattern: Some("a".into()) };
        let expected = [
            Action::If(Check::GuestAsked),
            Action::Else,
            Action::End,
            Action::Expect(Check::DmaBlocked),
            Action::Require(Check::Driver(None)),
            Action::Expect(reads),
        ];
        assert_eq!(seen.into_iter().map(|l| l.action).collect::<Vec<_>>(), expected);
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
        let Command::Write(Side::Host, 7, bytes) = &commands("write 7 hello world")[0] else { panic!() };
        assert!(bytes.len() == 512 && bytes.starts_with(b"hello world\0"));
        let Command::Write(Side::Host, 0x10, bytes) = &commands("write 0x10 0xdead beef")[0] else { panic!() };
        assert!(bytes.len() == 512 && bytes.starts_with(&[0xde, 0xad, 0xbe, 0xef, 0]));
        assert_eq!(commands("read 5"), [Command::Read(Side::Host, Area { lba: 5, sectors: 1 })]);
        assert_eq!(commands("read 5 0x20"), [Command::Read(Side::Host, Area { lba: 5, sectors: 32 })]);
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
        assert_eq!(wrong("read 1 0"), says(1, "no sectors", "0"));
        assert_eq!(wrong("write 1"), says(1, "nothing to write", "write 1"));
        assert_eq!(wrong("write 1 0xabc"), says(1, "not a whole number of hexadecimal bytes", "0xabc"));
        assert_eq!(wrong("!"), says(1, "a command is missing behind the !", "!"));
        assert_eq!(wrong("grüße > /p").2, "grüße");
        assert_eq!(wrong("guest frob").1, "unknown command \"frob\"");
        assert_eq!(wrong("fill 0 2049 a"), says(1, "2049 sectors are more than 2048", "2049"));
        assert_eq!(wrong("! note a"), says(1, "note takes no prefix", "note"));
        assert_eq!(wrong("step"), says(1, "step without NAME and TITLE", "step"));
        assert_eq!(wrong("settle\nend"), says(2, "end without if", "end"));
        assert_eq!(wrong("if guest\nelse\nelse"), says(3, "else without if", "else"));
        assert_eq!(wrong("if guest\nif guest"), says(2, "if inside if", "if"));
        assert_eq!(wrong("settle\n if guest\nsettle\n"), says(2, "if without end", "if guest"));
        assert_eq!(wrong("expect image reads 0 1"), says(1, "reads without a name", "reads"));
        assert!(wrong("expect rain").1.contains("no such check; there are: driver NAME"));
        assert!(wrong("show weather").1.contains("no such facts; there are: machine"));
    }
}
