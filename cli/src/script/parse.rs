//! Parser of scripts.

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

/// A syntax error: what is wrong, and the part of the script that it is about.
struct Wrong<'t>(String, &'t str);

type Parsed<'t, T> = std::result::Result<T, Wrong<'t>>;

/// An `if` without its `end` so far.
struct Open<'t> {
    number: usize,
    line: &'t str,
    has_else: bool,
}

/// Parses a script; `path` is its name in messages.
pub fn parse(path: &str, text: &str) -> Result<Script> {
    let mut script = Script { steps: Vec::new() };
    let mut open: Option<Open<'_>> = None;
    let error = |line: usize, Wrong(what, part): Wrong<'_>| {
        // Every part is a slice of the text, so that its address says where it is.
        let at = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let (source, span) = (NamedSource::new(path, text.into()), (at, part.len()).into());
        Box::new(ScriptError { path: path.into(), line, what, help: GRAMMAR.into(), text: source, span })
    };
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if !line.is_empty() && !line.starts_with('#') {
            add(&mut script, &mut open, number, line).map_err(|e| error(number, e))?;
        }
    }
    match open {
        Some(Open { number, line, .. }) => Err(error(number, Wrong("if without end".into(), line)).into()),
        None => Ok(script),
    }
}

/// Adds a line to the script.
fn add<'t>(script: &mut Script, open: &mut Option<Open<'t>>, number: usize, line: &'t str) -> Parsed<'t, ()> {
    let (verb, rest) = word(line);
    match (verb, open.as_mut()) {
        ("step" | "if", Some(_)) => return Err(Wrong(format!("{verb} inside if"), verb)),
        ("step", None) => {
            let (name, title) = word(rest);
            if title.is_empty() {
                return Err(Wrong("step without NAME and TITLE".into(), line));
            }
            script.steps.push(Step::new(name, title));
            return Ok(());
        }
        ("if", None) => *open = Some(Open { number, line, has_else: false }),
        ("else", Some(block)) if !block.has_else => block.has_else = true,
        ("end", Some(_)) => *open = None,
        ("else" | "end", _) => return Err(Wrong(format!("{verb} without if"), verb)),
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
fn action(whole: &str) -> Parsed<'_, (&str, Action)> {
    let (quiet, whole) = prefix(whole, '@');
    let (any, shown) = prefix(whole, '?');
    let (error, line) = prefix(shown, '!');
    let outcome = match (any, error) {
        (true, _) => Outcome::Any,
        (_, true) => Outcome::Error,
        _ => Outcome::Success,
    };
    let (verb, rest) = word(line);
    let action = match verb {
        "" => return Err(Wrong("a command is missing behind the !".into(), shown)),
        "note" => Action::Note(rest.into()),
        "show" => {
            let names = || Facts::value_variants().iter().filter_map(Facts::to_possible_value);
            let names = || names().map(|v| v.get_name().to_string()).collect::<Vec<_>>().join(", ");
            let wrong = |_| Wrong(format!("no such facts; there are: {}", names()), rest);
            Action::Show(Facts::from_str(rest, false).map_err(wrong)?)
        }
        "expect" => Action::Expect(check(rest)?),
        "require" => Action::Require(check(rest)?),
        "if" => Action::If(check(rest)?),
        "else" => nothing(rest).map(|()| Action::Else)?,
        "end" => nothing(rest).map(|()| Action::End)?,
        _ => Action::Run { command: command(line)?, outcome, quiet },
    };
    if !matches!(action, Action::Run { .. }) && (quiet || outcome != Outcome::Success) {
        return Err(Wrong(format!("{verb} takes no prefix"), verb));
    }
    Ok((shown, action))
}

fn command(line: &str) -> Parsed<'_, Command> {
    if let Ok(command) = Command::from_str(line, false) {
        return Ok(command);
    }
    let (verb, rest) = word(line);
    Ok(match (verb, rest) {
        ("echo", _) => echo(line)?,
        ("cat", _) => Command::Cat(one_word(verb, rest, "a path")?),
        ("ls", _) => Command::Ls(one_word(verb, rest, "a path")?),
        ("guest", "start cooperative") => Command::StartGuest(GuestKind::Cooperative),
        ("guest", "start unresponsive") => Command::StartGuest(GuestKind::Unresponsive),
        _ => {
            let (side, line) = side(line);
            transfer(side, line)?
        }
    })
}

/// The way by which sectors are accessed, and the command or check itself.
fn side(line: &str) -> (Side, &str) {
    match word(line) {
        ("guest", rest) => (Side::Guest, rest),
        ("image", rest) => (Side::Image, rest),
        _ => (Side::Host, line),
    }
}

/// `read`, `write` or `fill`.
fn transfer(side: Side, line: &str) -> Parsed<'_, Command> {
    let (verb, rest) = word(line);
    match verb {
        "read" => {
            let (lba, rest) = number(verb, rest, "a sector number")?;
            let (sectors, more) = if rest.is_empty() { (1, rest) } else { count(verb, rest)? };
            nothing(more)?;
            Ok(Command::Read(side, Area { lba, sectors }))
        }
        "write" => {
            let (lba, data) = number(verb, rest, "a sector number")?;
            let mut bytes = match data.strip_prefix("0x") {
                Some(digits) => {
                    hex(digits).ok_or_else(|| Wrong("not a whole number of hexadecimal bytes".into(), data))?
                }
                None => data.as_bytes().to_vec(),
            };
            if bytes.is_empty() {
                return Err(Wrong("nothing to write".into(), line));
            }
            bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
            Ok(Command::Write(side, lba, bytes))
        }
        "fill" => {
            let (area, name) = area(verb, rest)?;
            Ok(Command::Write(side, area.lba, pattern(&one_word(verb, name, "a name")?, area)))
        }
        other => Err(Wrong(format!("unknown command {other:?}"), verb)),
    }
}

fn check(line: &str) -> Parsed<'_, Check> {
    if let Ok(check) = Check::from_str(line, false) {
        return Ok(check);
    }
    let (verb, rest) = word(line);
    let name = || one_word(verb, rest, "a name");
    match verb {
        "driver" => return Ok(Check::Driver(Some(name()?).filter(|name| name != "none"))),
        "was-bound" => return Ok(Check::WasBound(name()?)),
        "event" => return Ok(Check::Event(name()?)),
        "output" if !rest.is_empty() => return Ok(Check::Output(rest.into())),
        _ => {}
    }
    let (side, reads) = side(line);
    let ("reads", rest) = word(reads) else {
        return Err(Wrong(format!("no such check; there are: {CHECKS}"), line));
    };
    let (verb, _) = word(reads);
    let (area, name) = area(verb, rest)?;
    // The image would be compared with itself.
    let pattern = match name {
        "" if side != Side::Image => None,
        _ => Some(one_word(verb, name, "a name")?),
    };
    Ok(Check::Reads { side, area, pattern })
}

/// A sector number and a number of sectors, and what follows.
fn area<'t>(verb: &'t str, rest: &'t str) -> Parsed<'t, (Area, &'t str)> {
    let (lba, rest) = number(verb, rest, "a sector number")?;
    let (sectors, more) = count(verb, rest)?;
    Ok((Area { lba, sectors }, more))
}

/// A number of sectors, and what follows.
fn count<'t>(verb: &'t str, rest: &'t str) -> Parsed<'t, (u64, &'t str)> {
    let (count, more) = number(verb, rest, "a number of sectors")?;
    let wrong = |what| Err(Wrong(what, word(rest).0));
    match count {
        0 => wrong("no sectors".into()),
        1..=MAX_SECTORS => Ok((count, more)),
        _ => wrong(format!("{count} sectors are more than {MAX_SECTORS}")),
    }
}

/// The only word of `rest`.
fn one_word<'t>(verb: &'t str, rest: &'t str, what: &str) -> Parsed<'t, String> {
    let (only, more) = word(rest);
    nothing(more)?;
    if only.is_empty() { Err(Wrong(format!("{verb} without {what}"), verb)) } else { Ok(only.into()) }
}

/// The first word of a text, and what follows.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (first, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (first, rest.trim_start())
}

/// True when a text begins with `mark`, and what follows that.
fn prefix(text: &str, mark: char) -> (bool, &str) {
    text.strip_prefix(mark).map_or((false, text), |rest| (true, rest.trim_start()))
}

fn echo(line: &str) -> Parsed<'_, Command> {
    let (verb, rest) = word(line);
    let rest = match word(rest) {
        ("-n", value) => value,
        _ => rest,
    };
    let Some(arrow) = unquoted(rest, '>') else { return Err(Wrong("echo without > PATH".into(), line)) };
    let (value, target) = (rest[..arrow].trim(), &rest[arrow + 1..]);
    if target.starts_with('>') {
        return Err(Wrong(">> has no meaning for the control tree".into(), &rest[arrow..arrow + 2]));
    }
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

fn number<'t>(verb: &'t str, rest: &'t str, what: &str) -> Parsed<'t, (u64, &'t str)> {
    let (number, rest) = word(rest);
    if number.is_empty() {
        return Err(Wrong(format!("{verb} without {what}"), verb));
    }
    let parsed = match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
        None => number.parse().ok().filter(|_| !number.starts_with('+')),
    };
    Ok((parsed.ok_or_else(|| Wrong(format!("{number:?} is not {what}"), number))?, rest))
}

fn nothing(more: &str) -> Parsed<'_, ()> {
    if more.is_empty() { Ok(()) } else { Err(Wrong("too many words".into(), more)) }
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
