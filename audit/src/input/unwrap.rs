//! Messages inside what tools make of a log: JSON of the journal, of `dmesg` and of test labs, the journal's exports, raw mails.

use serde_json::{Map, Value};

use super::mail::Transfer;

/// Content of a line.
#[derive(Debug)]
pub(crate) enum Unwrapped {
    /// Text as it is.
    Same,
    /// A part of a record that is not whole yet.
    Part,
    /// A record that is no record: it was cut.
    Damaged,
    /// Messages, one a line.
    Message(Message),
}

/// A message that a tool had wrapped.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Message {
    /// The line that holds it.
    pub(crate) line: u64,
    /// Its text, with a prefix that the shapes of logs know; lines are divided by line feeds.
    pub(crate) text: String,
    /// False when another program than the kernel wrote it.
    pub(crate) kernel: bool,
    /// The machine, where it is no message of the kernel.
    pub(crate) host: Option<String>,
}

/// Takes the wrapping off the lines of one file.
#[derive(Debug, Default)]
pub(crate) struct Unwrap {
    entry: Option<Entry>,
    mail: Transfer,
}

/// A record of several lines.
#[derive(Debug)]
struct Entry {
    form: Form,
    fields: Map<String, Value>,
    line: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// `"KEY": VALUE,` to a closing brace.
    Json,
    /// `KEY=VALUE` to a blank line, or to the head of the next one.
    Keys,
}

impl Unwrap {
    /// The message of a record that `text`, which is line number `line`, ends without being a part of it.
    pub(crate) fn before(&mut self, text: &str) -> Option<Message> {
        let entry = self.entry.as_ref()?;
        let goes_on = match entry.form {
            Form::Json => member(text).is_some(),
            Form::Keys => key_value(text).is_some(),
        };
        if goes_on { None } else { self.end() }
    }

    /// The message of a record that the file's end cut.
    pub(crate) fn end(&mut self) -> Option<Message> {
        let Entry { fields, line, .. } = self.entry.take()?;
        message(&fields, line)
    }

    /// Content of `text`, which is line number `line`.
    pub(crate) fn line(&mut self, line: u64, text: &str) -> Unwrapped {
        let Some(start) = text.bytes().position(|byte| byte != b' ') else { return Unwrapped::Same };
        let blank = &text[start..];
        let first = text.as_bytes()[start];
        if let Some(entry) = &mut self.entry {
            let field = match entry.form {
                Form::Json => member(text),
                Form::Keys => key_value(text),
            };
            let Some((key, value)) = field else { return Unwrapped::Same };
            if MESSAGES.contains(&key.as_str()) {
                entry.line = line;
            }
            if KEYS.contains(&key.as_str()) {
                entry.fields.insert(key, value);
            }
            return Unwrapped::Part;
        }
        let form = match first {
            b'{' | b'}' | b',' if blank.len() <= 4 && blank.ends_with('{') => Form::Json,
            b'{' | b'-' | b',' | b'[' => return whole(line, blank),
            b'_' if blank.starts_with("__CURSOR=") || blank.starts_with("__REALTIME_TIMESTAMP=") => Form::Keys,
            _ if blank.ends_with(']') && blank.contains(" [s=") => Form::Keys,
            _ => return Unwrapped::Same,
        };
        let mut fields = Map::new();
        if let Some((key, value)) = key_value(text).filter(|(key, _)| KEYS.contains(&key.as_str())) {
            fields.insert(key, value);
        }
        self.entry = Some(Entry { form, fields, line });
        Unwrapped::Part
    }

    /// How the mail that is read encodes its text.
    pub(crate) fn mail(&mut self) -> &mut Transfer {
        &mut self.mail
    }
}

/// Keys of a message.
const MESSAGES: [&str; 4] = ["MESSAGE", "msg", "message", "log"];
/// Keys that are kept.
const KEYS: [&str; 12] = [
    "MESSAGE",
    "msg",
    "message",
    "log",
    "_TRANSPORT",
    "SYSLOG_IDENTIFIER",
    "_HOSTNAME",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "__REALTIME_TIMESTAMP",
    "time",
    "lvl",
    "pri",
];

/// A record of one line.
fn whole(line: u64, text: &str) -> Unwrapped {
    let text = text.strip_prefix("- ").unwrap_or(text).trim_start_matches([',', '[', ' ']);
    if !text.starts_with("{\"") {
        return Unwrapped::Same;
    }
    let text = text.trim_end_matches([',', ']', ' ']);
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(text) else {
        return Unwrapped::Damaged;
    };
    message(&fields, line).or_else(|| reports(&fields, line)).map_or(Unwrapped::Part, Unwrapped::Message)
}

/// Logs among the values of a report: strings of several lines.
fn reports(fields: &Map<String, Value>, line: u64) -> Option<Message> {
    let mut text = String::new();
    let mut left: Vec<&Value> = fields.values().rev().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(log) if log.contains('\n') || is_logged(log) => {
                text.push_str(log);
                text.push('\n');
            }
            Value::Array(list) => left.extend(list.iter().rev()),
            Value::Object(inner) => left.extend(inner.values().rev()),
            _ => {}
        }
    }
    (!text.is_empty()).then_some(Message { line, text, kernel: true, host: None })
}

/// True for text that begins with a level or a time in brackets.
fn is_logged(text: &str) -> bool {
    let rest = match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((level, rest)) if level.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => text,
    };
    let inside = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside.trim());
    inside.is_some_and(|time| time.contains('.') && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// `"KEY": VALUE,` as a part of an object that is printed over several lines.
fn member(text: &str) -> Option<(String, Value)> {
    let text = text.trim().trim_end_matches(',');
    // Of a list of several lines.
    if text == "]" || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((String::new(), Value::Null));
    }
    let (key, value) = text.strip_prefix('"')?.split_once('"')?;
    let value = value.trim_start().strip_prefix(':')?.trim();
    // A list of several lines begins here.
    let value = serde_json::from_str(value).unwrap_or(Value::Null);
    Some((key.to_owned(), value))
}

/// `KEY=VALUE` of the journal.
fn key_value(text: &str) -> Option<(String, Value)> {
    let (key, value) = text.trim_start().split_once('=')?;
    let is_key = key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (is_key && !key.is_empty()).then(|| (key.to_owned(), Value::String(value.to_owned())))
}

/// The message in the fields of a record.
fn message(fields: &Map<String, Value>, line: u64) -> Option<Message> {
    let word = |key: &str| fields.get(key).and_then(Value::as_str);
    let body = MESSAGES.iter().find_map(|key| word(key))?;
    let host = word("_HOSTNAME").filter(|host| !host.contains(' '));
    let (transport, program) = (word("_TRANSPORT"), word("SYSLOG_IDENTIFIER"));
    let foreign = match (transport, word("lvl")) {
        (Some(transport), _) => transport != "kernel" && program != Some("kernel"),
        // A test lab's own words; what the machine under test printed is of level `target`.
        (None, Some(level)) => !["target", "feedback"].contains(&level),
        (None, None) => false,
    };
    if foreign {
        return Some(Message { line, text: body.to_owned(), kernel: false, host: host.map(str::to_owned) });
    }
    let micros = |key: &str| word(key).and_then(|number| number.parse::<u64>().ok());
    let machine = host.map_or_else(String::new, |host| format!("{host} "));
    let prefix = if let Some(time) = micros("_SOURCE_MONOTONIC_TIMESTAMP") {
        format!("[{:5}.{:06}] {machine}kernel: ", time / 1_000_000, time % 1_000_000)
    } else if let Some(time) = micros("__REALTIME_TIMESTAMP").filter(|_| transport.is_some()) {
        format!("{:010}.{:06} {machine}kernel: ", time / 1_000_000, time % 1_000_000)
    } else if let Some(time) = fields.get("time").and_then(Value::as_f64).filter(|time| (0.0..1e9).contains(time)) {
        format!("[{time:12.6}] ")
    } else if transport.is_some() || fields.contains_key("pri") {
        "<6>".to_owned()
    } else {
        String::new()
    };
    let text = body.lines().map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join("\n");
    Some(Message { line, text, kernel: true, host: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<(u64, String, bool)> {
        let mut unwrap = Unwrap::default();
        let mut out = Vec::new();
        for (line, text) in (1..).zip(input.lines()) {
            out.extend(unwrap.before(text));
            match unwrap.line(line, text) {
                Unwrapped::Same => out.push(Message { line, text: text.into(), kernel: true, host: None }),
                Unwrapped::Part | Unwrapped::Damaged => {}
                Unwrapped::Message(message) => out.push(message),
            }
        }
        out.extend(unwrap.end());
        out.into_iter().map(|message| (message.line, message.text, message.kernel)).collect()
    }

    #[test]
    fn a_record_of_one_line_is_unwrapped() {
        let journal =
            r#"{"_TRANSPORT":"kernel","_HOSTNAME":"a","_SOURCE_MONOTONIC_TIMESTAMP":"1000001","MESSAGE":"x\ny"}"#;
        assert_eq!(texts(journal), [(1, "[    1.000001] a kernel: x\n[    1.000001] a kernel: y".into(), true)]);
        assert_eq!(texts(r#"{"_TRANSPORT":"stdout","MESSAGE":"x"}"#), [(1, "x".into(), false)]);
        assert_eq!(texts(r#"- {"dt": "t", "lvl": "target", "msg": "[ 1.0] x"}"#), [(1, "[ 1.0] x".into(), true)]);
        assert_eq!(texts(r#"- {"dt": "t", "lvl": "results", "msg": {"a": "b"}}"#), []);
        assert_eq!(texts("{ not json"), [(1, "{ not json".into(), true)]);
    }

    #[test]
    fn a_record_of_several_lines_ends_where_its_form_ends() {
        let pretty = "{\n\t\"MESSAGE\" : \"x\",\n\t\"_TRANSPORT\" : \"kernel\",\n\t\"A\" : [\n1,\n2\n]\n}";
        assert_eq!(texts(pretty)[0], (2, "<6>x".into(), true));
        let export = "__CURSOR=s\nMESSAGE=x\n_TRANSPORT=syslog\n\nafter";
        assert_eq!(texts(export), [(2, "x".into(), false), (4, String::new(), true), (5, "after".into(), true)]);
        assert_eq!(texts("{\nplain\n}")[0], (2, "plain".into(), true));
    }
}
