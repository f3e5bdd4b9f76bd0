//! QEMU's monitor: JSON, a value for each line.

use serde_json::{Value, json};

use crate::Error;
use crate::error::OLDEST;
use crate::line::{Lines, NoLine};

/// Connection to the monitor.
pub(crate) struct Monitor(Lines);

/// Reason why a command has no result.
pub(crate) enum NoResult {
    Line(NoLine),
    Refused(String),
    Strange(String),
    TooOld { major: u64, minor: u64 },
}

impl NoResult {
    pub(crate) fn into_error(self, doing: String, line: impl FnOnce(NoLine) -> Error) -> Error {
        match self {
            Self::Line(no) => line(no),
            Self::Refused(why) => Error::Refused { doing, why },
            Self::TooOld { major, minor } => Error::TooOld { major, minor },
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
        check_version(&greeting)?;
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

fn check_version(greeting: &Value) -> Result<(), NoResult> {
    let version = |part: &str| greeting.pointer("/QMP/version/qemu")?.get(part)?.as_u64();
    match (version("major"), version("minor")) {
        (Some(major), Some(minor)) if major < OLDEST => Err(NoResult::TooOld { major, minor }),
        (Some(_), Some(_)) => Ok(()),
        _ => Err(NoResult::Strange(greeting.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_qemu_and_one_that_tells_no_version_are_refused() {
        let greeting =
            |major: u64| json!({ "QMP": { "version": { "qemu": { "major": major, "minor": 2, "micro": 9 } } } });
        assert!(check_version(&greeting(7)).is_ok() && check_version(&greeting(11)).is_ok());
        let Err(old) = check_version(&greeting(6)) else { panic!("6.2 is too old") };
        assert_eq!(old.into_error(String::new(), |_| unreachable!()).to_string(), "QEMU 6.2 is too old: 7.0 at least");
        for strange in [json!({}), json!({ "QMP": {} }), json!({ "QMP": { "version": { "qemu": { "major": "7" } } } })]
        {
            assert!(matches!(check_version(&strange), Err(NoResult::Strange(_))), "{strange}");
        }
    }
}
