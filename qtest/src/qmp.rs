//! QEMU's monitor: JSON, a value for each line.

use serde_json::{Value, json};

use crate::Error;
use crate::line::{Lines, NoLine};

/// Connection to the monitor.
pub(crate) struct Monitor(Lines);

/// Reason why a command has no result.
pub(crate) enum NoResult {
    Line(NoLine),
    Refused(String),
    Strange(String),
}

impl NoResult {
    pub(crate) fn into_error(self, doing: String, line: impl FnOnce(NoLine) -> Error) -> Error {
        match self {
            Self::Line(no) => line(no),
            Self::Refused(why) => Error::Refused { doing, why },
            Self::Strange(answer) => Error::Protocol { doing, answer },
        }
    }
}

impl Monitor {
    pub(crate) fn new(lines: Lines) -> Self {
        Self(lines)
    }

    /// Takes the greeting, and leaves the mode in which commands are refused.
    pub(crate) fn greet(&mut self) -> Result<(), NoResult> {
        let greeting = self.receive()?;
        if greeting.get("QMP").is_none() {
            return Err(NoResult::Strange(greeting.to_string()));
        }
        self.execute("qmp_capabilities", &json!({})).map(drop)
    }

    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, NoResult> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.0.send(&line).map_err(NoResult::Line)?;
        loop {
            let mut answer = self.receive()?;
            // Events come between answers.
            if answer.get("event").is_some() {
                continue;
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            return Err(match answer.pointer("/error/desc").and_then(Value::as_str) {
                Some(why) => NoResult::Refused(why.into()),
                None => NoResult::Strange(answer.to_string()),
            });
        }
    }

    fn receive(&mut self) -> Result<Value, NoResult> {
        let line = self.0.receive().map_err(NoResult::Line)?;
        serde_json::from_str(&line).map_err(|_| NoResult::Strange(line))
    }
}
