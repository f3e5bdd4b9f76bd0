//! Parser of scripts.

use std::error::Error;
use std::sync::Arc;

use bindery_sim::disk::SECTOR;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{FromArgMatches, Subcommand};
use miette::NamedSource;

use super::{Action, Line, Script, Step, Wanted};
use crate::failure::{Result, ScriptError};

#[cfg(test)]
mod tests;

/// Grammar, for help.
const GRAMMAR: &str = "\
write one of: echo VALUE > PATH, cat PATH, ls PATH, [guest|image] read LBA [COUNT], [guest|image] write LBA TEXT|0xBYTES, \
[guest|image] fill LBA COUNT NAME, drivers add|remove, device NAME, settle, guest start cooperative|unresponsive, guest stop, \
expect CHECK, require CHECK, if CHECK, else, end, show FACTS, note TEXT, step NAME TITLE. A # begins a comment; a ! before a \
command says that it must fail";
/// Names of checks, for help.
const CHECKS: &str = "driver NAME|none, was-bound NAME, guest, guest asked, guest released, wake-ups, translation, unmapped, \
[guest|image] reads LBA COUNT [NAME], ledger, stale, dma-blocked, pristine, event NAME, output TEXT";
/// Most sectors that one command reads or fills.
const MAX_SECTORS: u64 = 2048;

/// A syntax error: what is wrong, and the part of the script that it is about.
struct Wrong<'t>(String, &'t str);

/// An operand, or what is wrong with it.
type Read<T> = std::result::Result<T, String>;

type Parsed<'t, T> = std::result::Result<T, Wrong<'t>>;

/// The last of `if`, `else` and `end`, and the line of the `if`.
type Block<'t> = (&'t str, usize, &'t str);

/// Grammar of a line without prefixes.
fn grammar() -> clap::Command {
    Action::augment_subcommands(clap::Command::new("script"))
        .no_binary_name(true)
        .subcommand_required(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
}

/// Parses a script; `path` is its name in messages.
pub fn parse(path: &str, text: &str) -> Result<Script> {
    let mut script = Script { steps: Vec::new() };
    let mut block = ("end", 0, "");
    let mut grammar = grammar();
    let error = |line: usize, Wrong(what, part): Wrong<'_>| {
        // Every part is a slice of the text, so that its address says where it is.
        let at = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let (source, span) = (NamedSource::new(path, text.into()), (at, part.len()).into());
        Box::new(ScriptError { path: path.into(), line, what, help: GRAMMAR.into(), text: source, span })
    };
    for (number, text) in (1..).zip(text.lines().map(str::trim)) {
        if !text.is_empty() && !text.starts_with('#') {
            let line = line(&mut grammar, number, text).map_err(|e| error(number, e))?;
            add(&mut script, &mut block, line, text).map_err(|e| error(number, e))?;
        }
    }
    match block {
        ("end", ..) => Ok(script),
        (_, number, line) => Err(error(number, Wrong("if without end".into(), line)).into()),
    }
}

/// Adds a line to the script.
fn add<'t>(script: &mut Script, block: &mut Block<'t>, line: Line, text: &'t str) -> Parsed<'t, ()> {
    let (verb, _) = split(text);
    match (verb, block.0) {
        ("step" | "if", "if" | "else") => return Err(Wrong(format!("{verb} inside if"), verb)),
        ("else", "else" | "end") | ("end", "end") => return Err(Wrong(format!("{verb} without if"), verb)),
        ("if", _) => *block = (verb, line.number, text),
        ("else" | "end", _) => block.0 = verb,
        _ => {}
    }
    if let Action::Step { name, title } = line.action {
        script.steps.push(Step { name: name.into(), title, implicit: false, lines: Vec::new() });
    } else if let Some(step) = script.steps.last_mut() {
        step.lines.push(line);
    } else {
        script.steps.push(Step { name: "script".into(), title: "Script".into(), implicit: true, lines: vec![line] });
    }
    Ok(())
}

/// Reads a line.
fn line<'t>(grammar: &mut clap::Command, number: usize, line: &'t str) -> Parsed<'t, Line> {
    let (quiet, line) = prefix(line, '@');
    let (wanted, text, line) = match (prefix(line, '?'), prefix(line, '!')) {
        ((true, rest), _) if rest.starts_with('!') => {
            return Err(Wrong("a command that may fail (?) need not (!)".into(), line));
        }
        ((true, rest), _) => (Wanted::Any, rest, rest),
        (_, (true, rest)) => (Wanted::Error, line, rest),
        _ => (Wanted::Success, line, line),
    };
    if line.is_empty() {
        return Err(Wrong("a command is missing behind the prefix".into(), text));
    }
    let words = words(grammar, line)?;
    let read = grammar.try_get_matches_from_mut(&words).and_then(|read| Action::from_arg_matches(&read));
    let action = read.map_err(|error| wrong(&error, &words))?;
    if !matches!(action, Action::Run(_)) && (quiet || wanted != Wanted::Success) {
        return Err(Wrong(format!("{} takes no prefix", words[0]), words[0]));
    }
    Ok(Line { number, text: text.into(), quiet, wanted, action })
}

/// The words of a line: its commands, `--`, behind which a word may begin with a hyphen, and the operands.
fn words<'t>(grammar: &clap::Command, line: &'t str) -> Parsed<'t, Vec<&'t str>> {
    let (mut command, mut words, mut rest) = (grammar, Vec::new(), line);
    while let Some(deeper) = command.find_subcommand(split(rest).0) {
        words.push(split(rest).0);
        (command, rest) = (deeper, split(rest).1);
    }
    if command.is_subcommand_required_set() || command.has_subcommands() && !rest.is_empty() {
        let unknown = if rest.is_empty() { line } else { split(rest).0 };
        let what = match words.first() {
            Some(&("expect" | "require" | "if")) => format!("no such check; there are: {CHECKS}"),
            _ => format!("unknown command {unknown:?}"),
        };
        return Err(Wrong(what, unknown));
    }
    words.push("--");
    if command.get_name() == "echo" {
        let (value, path) = redirection(line, rest)?;
        words.push(value);
        rest = path;
    }
    // An operand called `text` or `title`, which is the last one, is all that is left.
    let text = command.get_positionals().position(|operand| ["text", "title"].contains(&operand.get_id().as_str()));
    for at in 0.. {
        let (word, more) = if text == Some(at) { (rest, "") } else { split(rest) };
        if word.is_empty() {
            break;
        }
        words.push(word);
        rest = more;
    }
    Ok(words)
}

/// An error of `clap` about `words`, in the words of scripts.
fn wrong<'t>(error: &clap::Error, words: &[&'t str]) -> Wrong<'t> {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let operands = said(ContextKind::InvalidArg).replace(['<', '>'], "");
    let verb = words.iter().take_while(|word| **word != "--").last().map_or("", |verb| *verb);
    let at = |kind| words.iter().rfind(|word| !word.is_empty() && **word == said(kind)).copied();
    let place = at(ContextKind::InvalidValue).or(at(ContextKind::InvalidArg)).unwrap_or(verb);
    let what = match (error.kind(), error.source()) {
        (_, Some(operand)) => operand.to_string(),
        (ErrorKind::UnknownArgument, _) => "too many words".into(),
        (ErrorKind::InvalidValue, _) => {
            format!("no such {}; there are: {}", operands.to_lowercase(), said(ContextKind::ValidValue))
        }
        _ => format!("{verb} without {operands}"),
    };
    Wrong(what, place)
}

/// Value and path of `echo`; either may be empty.
fn redirection<'t>(line: &'t str, operands: &'t str) -> Parsed<'t, (&'t str, &'t str)> {
    let operands = if let ("-n", value) = split(operands) { value } else { operands };
    let mut quote = None;
    let arrow = operands.find(|c| {
        let quoted = quote.is_some();
        match c {
            '"' | '\'' if !quoted => quote = Some(c),
            _ => quote = quote.filter(|quote| *quote != c),
        }
        c == '>' && !quoted
    });
    let Some((value, target)) = arrow.map(|at| operands.split_at(at)) else {
        return Err(Wrong("echo without > PATH".into(), line));
    };
    if target.starts_with(">>") {
        return Err(Wrong(">> has no meaning for the control tree".into(), &target[..2]));
    }
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    Ok((quoted.unwrap_or(value), target[1..].trim_start()))
}

/// The first word of a text, and what follows.
fn split(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (first, rest.trim_start())
}

/// True when a text begins with `mark`, and what follows that.
fn prefix(text: &str, mark: char) -> (bool, &str) {
    text.strip_prefix(mark).map_or((false, text), |rest| (true, rest.trim_start()))
}

/// A sector number.
pub(crate) fn lba(text: &str) -> Read<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let number = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
    number.ok_or_else(|| format!("{text:?} is not a number"))
}

/// A number of sectors.
pub(crate) fn sectors(text: &str) -> Read<u64> {
    match lba(text)? {
        0 => Err("no sectors".into()),
        count @ 1..=MAX_SECTORS => Ok(count),
        count => Err(format!("{count} sectors are more than {MAX_SECTORS}")),
    }
}

/// Text, or bytes as `0x` and two hexadecimal digits each, filled up to whole sectors.
pub(super) fn bytes(text: &str) -> Read<Arc<[u8]>> {
    let byte = |pair: &[u8]| match pair {
        [b'+', _] | [_] => None,
        pair => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
    };
    let hex = |digits: &str| -> Option<Vec<u8>> {
        digits.split_whitespace().flat_map(|group| group.as_bytes().chunks(2)).map(byte).collect()
    };
    let mut bytes = match text.strip_prefix("0x") {
        Some(digits) => hex(digits).ok_or("not a whole number of hexadecimal bytes")?,
        None => text.into(),
    };
    if bytes.is_empty() {
        return Err("nothing to write".into());
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
    Ok(bytes.into())
}
