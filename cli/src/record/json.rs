//! One JSON object per line: the core's events, and the lines of the run between them. `docs/events.md` is the schema.

use serde::Serialize;

use super::LogEntry;

/// A line of `--json` that is no event of a machine.
#[derive(Serialize, Debug)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Line<'a> {
    /// A step begins.
    Step {
        /// Its number, from 1.
        number: usize,
        /// Its heading.
        title: &'a str,
    },
    /// A step, or a part of it, is not possible on this machine.
    Skipped {
        /// The reason.
        reason: &'a str,
    },
    /// A command of a script, with its outcome.
    Command {
        /// Line in the script, from 1.
        line: usize,
        /// The command as written.
        command: &'a str,
        /// True when it succeeded.
        ok: bool,
        /// Its output, or its error.
        output: &'a str,
    },
    /// An expectation did not hold.
    Failed {
        /// The expectation, and the observation.
        what: &'a str,
    },
    /// The checks of one promise on one machine over the whole run.
    Promise {
        /// `"host"` or `"guest"`.
        machine: &'a str,
        /// `"P1"` to `"P14"`.
        promise: &'a str,
        /// The promise's name.
        title: &'a str,
        /// Number of checks.
        checked: u64,
        /// Each violation.
        broken: &'a [String],
    },
    /// The simulated hardware was used in a way that real hardware does not allow.
    ModelError {
        /// The place, and the misuse.
        what: &'a str,
    },
    /// Devices of the tree that the simulated board has no model for.
    WithoutModel {
        /// Names of all of them, in the tree's order.
        devices: Vec<&'a str>,
    },
    /// The last line.
    End {
        /// The exit code.
        exit: u8,
        /// The steps that were not possible on this machine, or not as a whole.
        skipped: Vec<&'a str>,
    },
}

/// An event or a line, with the step and the machine that it is of.
#[derive(Serialize)]
struct Wrapped<'a, T> {
    step: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<&'a str>,
    #[serde(flatten)]
    event: &'a T,
}

impl Line<'_> {
    /// The line of `step`, with its end.
    pub fn text(&self, step: &str) -> String {
        finish(serde_json::to_string(&Wrapped { step, machine: None, event: self }))
    }
}

/// The line of a core event, with its end.
pub fn json_line(entry: &LogEntry) -> String {
    let LogEntry { step, machine, event } = entry;
    finish(serde_json::to_string(&Wrapped { step, machine: Some(machine), event }))
}

/// Events hold strings, numbers and lists of them, which JSON can always express.
fn finish(text: serde_json::Result<String>) -> String {
    let mut text = text.unwrap_or_else(|e| format!("{{\"event\":\"failed\",\"what\":{:?}}}", e.to_string()));
    text.push('\n');
    text
}
