//! One JSON object per line: the core's events, and the story's own marks between them. `docs/events.md` is the schema.

use serde::Serialize;

use super::LogEntry;

/// A line of `--json`.
#[derive(Serialize, Debug)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line<'a> {
    /// A step of the story begins.
    Step {
        /// The step's name.
        step: &'a str,
        /// Its number, from 1.
        number: usize,
        /// What it is about.
        title: &'a str,
    },
    /// A step, or a part of it, is not possible on this machine.
    Skipped {
        /// The step's name.
        step: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// A command of a script, with its answer.
    Command {
        /// `"script"`.
        step: &'a str,
        /// Line in the script, from 1.
        line: usize,
        /// The command as written.
        command: &'a str,
        /// Whether it succeeded.
        ok: bool,
        /// What it printed.
        output: &'a str,
    },
    /// Something that the story set out to show did not come true.
    Failed {
        /// The step's name.
        step: &'a str,
        /// What was expected and what was seen.
        what: &'a str,
    },
    /// How one promise fared on one machine over the whole run.
    Promise {
        /// `"verdict"`.
        step: &'a str,
        /// `"host"` or `"guest"`.
        machine: &'a str,
        /// `"P1"` to `"P14"`.
        promise: &'a str,
        /// The promise in three words.
        title: &'a str,
        /// How often it was checked.
        checked: u64,
        /// What was seen when it did not hold.
        broken: Vec<String>,
    },
    /// The simulated hardware was used in a way that real hardware does not forgive.
    ModelError {
        /// The step's name.
        step: &'a str,
        /// Where, and what was wrong.
        what: String,
    },
    /// The last line.
    End {
        /// `"verdict"`.
        step: &'a str,
        /// The exit code.
        exit: u8,
    },
}

#[derive(Serialize)]
struct Wrapped<'a> {
    step: &'a str,
    machine: &'a str,
    #[serde(flatten)]
    event: &'a bindery::event::Event,
}

impl Line<'_> {
    /// The line, with its end.
    pub fn text(&self) -> String {
        finish(serde_json::to_string(self))
    }
}

/// The line of a core event, with its end.
pub fn json_line(entry: &LogEntry) -> String {
    let LogEntry { step, machine, event } = entry;
    finish(serde_json::to_string(&Wrapped { step, machine, event }))
}

/// Events hold strings, numbers and lists of them, which JSON can always express.
fn finish(text: serde_json::Result<String>) -> String {
    let mut text = text.unwrap_or_else(|e| format!("{{\"event\":\"failed\",\"what\":{:?}}}", e.to_string()));
    text.push('\n');
    text
}
