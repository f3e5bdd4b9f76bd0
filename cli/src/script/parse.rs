//! Parser of scripts.

use std::ops::Range;

use bindery_sim::disk::SECTOR;
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
/// Names of facts, for help.
const FACTS: &str = "machine, probes, controller, memory, group, elapsed, promises";
/// Most sectors that one command reads or fills.
const MAX_SECTORS: u64 = 2048;

/// A syntax error: what is wrong, and where in the line.
struct Wrong(String, Range<usize>);

type Parsed<T> = std::result::Result<T, Wrong>;

/// A block that begins with `if`.
struct Open<'t> {
    line: Line,
    /// The line as it is in the file, and where.
    raw: (usize, &'t str),
    has_else: bool,
}

/// Parses a script; `path` is its name in messages.
pub fn parse(path: &str, text: &str) -> Result<Script> {
    let mut script = Script { steps: Vec::new() };
    let mut open: Option<Open<'_>> = None;
    let mut start = 0;
    let wrong = |number: usize, start: usize, Wrong(what, span): Wrong| {
        Box::new(ScriptError {
            path: path.into(),
            line: number,
            what,
            help: GRAMMAR.into(),
            text: NamedSource::new(path, text.into()),
            span: (start + span.start, span.len()).into(),
        })
    };
    for (at, raw) in text.split_inclusive('\n').enumerate() {
        let line = raw.trim_end_matches(['\n', '\r']);
        add(&mut script, &mut open, at + 1, (start, line)).map_err(|e| wrong(at + 1, start, e))?;
        start += raw.len();
    }
    if let Some(Open { line, raw: (start, raw), .. }) = open {
        let error = Wrong("if without end".into(), Part { text: raw, at: 0 }.trim().span());
        return Err(wrong(line.number, start, error).into());
    }
    Ok(script)
}

/// Adds a line to the script, or to the block that is open.
fn add<'t>(script: &mut Script, open: &mut Option<Open<'t>>, number: usize, raw: (usize, &'t str)) -> Parsed<()> {
    let whole = Part { text: raw.1, at: 0 }.trim();
    if whole.text.is_empty() || whole.text.starts_with('#') {
        return Ok(());
    }
    let (verb, rest) = whole.word();
    match (verb.text, &mut *open) {
        ("step", None) => {
            let (name, title) = rest.word();
            if title.text.is_empty() {
                return Err(Wrong("step without NAME and TITLE".into(), whole.span()));
            }
            let step = Step { name: name.text.into(), title: title.text.into(), implicit: false, lines: Vec::new() };
            script.steps.push(step);
            return Ok(());
        }
        ("step" | "if", Some(_)) => return Err(Wrong(format!("{} inside if", verb.text), verb.span())),
        ("else", Some(block)) if !block.has_else => {
            block.has_else = true;
            return nothing(rest);
        }
        ("end", Some(_)) => nothing(rest)?,
        ("else" | "end", _) => return Err(Wrong(format!("{} without if", verb.text), verb.span())),
        _ => {}
    }
    let line = match (verb.text, open.take()) {
        ("end", Some(block)) => block.line,
        (_, block) => {
            *open = block;
            let (text, action) = action(whole)?;
            Line { number, text: text.into(), action }
        }
    };
    match (&line.action, &mut *open) {
        (Action::If { .. }, None) if verb.text == "if" => *open = Some(Open { line, raw, has_else: false }),
        (_, Some(Open { line: Line { action: Action::If { then, otherwise, .. }, .. }, has_else, .. })) => {
            if *has_else { otherwise } else { then }.push(line);
        }
        _ => {
            if script.steps.is_empty() {
                let title = "Script".into();
                script.steps.push(Step { name: "script".into(), title, implicit: true, lines: Vec::new() });
            }
            if let Some(step) = script.steps.last_mut() {
                step.lines.push(line);
            }
        }
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
        "show" => Action::Show(facts(rest)?),
        "expect" => Action::Expect(check(rest)?),
        "require" => Action::Require(check(rest)?),
        "if" => Action::If { check: check(rest)?, then: Vec::new(), otherwise: Vec::new() },
        _ => Action::Run { command: command(line)?, outcome, quiet },
    };
    if !matches!(action, Action::Run { .. }) && (quiet || outcome != Outcome::Success) {
        return Err(Wrong(format!("{} takes no prefix", verb.text), verb.span()));
    }
    Ok((shown.text, action))
}

fn command(line: Part<'_>) -> Parsed<Command> {
    let (verb, rest) = line.word();
    Ok(match (verb.text, rest.text) {
        ("echo", _) => echo(verb, rest)?,
        ("cat", _) => Command::Cat(path(verb, rest)?),
        ("ls", _) => Command::Ls(path(verb, rest)?),
        ("drivers", "add") => Command::AddDrivers,
        ("drivers", "remove") => Command::RemoveDrivers,
        ("settle", "") => Command::Settle,
        ("guest", "start cooperative") => Command::StartGuest(GuestKind::Cooperative),
        ("guest", "start unresponsive") => Command::StartGuest(GuestKind::Unresponsive),
        ("guest", "stop") => Command::StopGuest,
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
            let sectors = if rest.text.is_empty() { 1 } else { last_count(verb, rest)? };
            Ok(Command::Read(side, Area { lba, sectors }))
        }
        "write" => write(side, verb, rest),
        "fill" => {
            let (area, name) = area(verb, rest)?;
            Ok(Command::Write(side, area.lba, pattern(one_word(verb, name, "a name")?, area)))
        }
        other => Err(Wrong(format!("unknown command {other:?}"), verb.span())),
    }
}

fn check(line: Part<'_>) -> Parsed<Check> {
    let (verb, rest) = line.word();
    Ok(match (verb.text, rest.text) {
        ("driver", "none") => Check::Driver(None),
        ("driver", _) => Check::Driver(Some(one_word(verb, rest, "a name")?.into())),
        ("was-bound", _) => Check::WasBound(one_word(verb, rest, "a name")?.into()),
        ("guest", "") => Check::Guest,
        ("guest", "asked") => Check::GuestAsked,
        ("guest", "released") => Check::GuestReleased,
        ("wake-ups", "") => Check::WakeUps,
        ("translation", "") => Check::Translation,
        ("unmapped", "") => Check::Unmapped,
        ("ledger", "") => Check::Ledger,
        ("stale", "") => Check::Stale,
        ("dma-blocked", "") => Check::DmaBlocked,
        ("pristine", "") => Check::Pristine,
        ("event", _) => Check::Event(one_word(verb, rest, "a name")?.into()),
        ("output", text) if !text.is_empty() => Check::Output(text.into()),
        ("reads", _) => reads(Side::Host, verb, rest)?,
        ("guest" | "image", _) => match rest.word() {
            (word, rest) if word.text == "reads" => {
                reads(if verb.text == "guest" { Side::Guest } else { Side::Image }, word, rest)?
            }
            _ => return Err(Wrong(format!("no such check; there are: {CHECKS}"), line.span())),
        },
        _ => return Err(Wrong(format!("no such check; there are: {CHECKS}"), line.span())),
    })
}

fn reads(side: Side, verb: Part<'_>, rest: Part<'_>) -> Parsed<Check> {
    let (area, name) = area(verb, rest)?;
    let pattern = if name.text.is_empty() { None } else { Some(one_word(verb, name, "a name")?.into()) };
    if side == Side::Image && pattern.is_none() {
        return Err(Wrong("image reads without a name".into(), verb.span()));
    }
    Ok(Check::Reads { side, area, pattern })
}

fn facts(rest: Part<'_>) -> Parsed<Facts> {
    Ok(match rest.text {
        "machine" => Facts::Machine,
        "probes" => Facts::Probes,
        "controller" => Facts::Controller,
        "memory" => Facts::Memory,
        "group" => Facts::Group,
        "elapsed" => Facts::Elapsed,
        "promises" => Facts::Promises,
        _ => return Err(Wrong(format!("no such facts; there are: {FACTS}"), rest.span())),
    })
}

/// A sector number and a number of sectors, and what follows.
fn area<'l>(verb: Part<'_>, rest: Part<'l>) -> Parsed<(Area, Part<'l>)> {
    let (lba, rest) = number(verb, rest, "a sector number")?;
    let (sectors, more) = number(verb, rest, "a number of sectors")?;
    in_range(sectors, rest)?;
    Ok((Area { lba, sectors }, more))
}

/// A number of sectors, behind which nothing follows.
fn last_count(verb: Part<'_>, rest: Part<'_>) -> Parsed<u64> {
    let (count, more) = number(verb, rest, "a number of sectors")?;
    nothing(more)?;
    in_range(count, rest)?;
    Ok(count)
}

fn in_range(count: u64, at: Part<'_>) -> Parsed<()> {
    match count {
        0 => Err(Wrong("no sectors".into(), at.word().0.span())),
        1..=MAX_SECTORS => Ok(()),
        _ => Err(Wrong(format!("{count} sectors are more than {MAX_SECTORS}"), at.word().0.span())),
    }
}

fn one_word<'l>(verb: Part<'_>, rest: Part<'l>, what: &str) -> Parsed<&'l str> {
    let (word, more) = rest.word();
    nothing(more)?;
    if word.text.is_empty() { Err(Wrong(format!("{} without {what}", verb.text), verb.span())) } else { Ok(word.text) }
}

/// A word or the rest of a line, with its place in the line.
#[derive(Clone, Copy)]
struct Part<'l> {
    text: &'l str,
    at: usize,
}

impl<'l> Part<'l> {
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
    Ok(Command::Echo { value: quoted.unwrap_or(value).into(), path: path(verb, target)? })
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

fn path(verb: Part<'_>, rest: Part<'_>) -> Parsed<String> {
    let (path, more) = rest.word();
    if path.text.is_empty() {
        return Err(Wrong(format!("{} without a path", verb.text), verb.span()));
    }
    nothing(more)?;
    Ok(path.text.into())
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
    fn if_holds_the_lines_up_to_its_end() {
        let seen = lines("if guest\n  settle\nelse\n  note a\n  note b\nend\nsettle\n");
        let [
            Line { number: 1, action: Action::If { check: Check::Guest, then, otherwise }, .. },
            Line { number: 7, .. },
        ] = &seen[..]
        else {
            panic!("{seen:?}")
        };
        assert_eq!((then.len(), otherwise.len()), (1, 2));
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
        assert_eq!(wrong("expect image reads 0 1"), says(1, "image reads without a name", "reads"));
        assert!(wrong("expect rain").1.contains("no such check; there are: driver NAME"));
        assert!(wrong("show weather").1.contains("no such facts; there are: machine"));
    }
}
