//! Outcomes of commands.

use std::process::ExitCode;

/// Reason why a command did not end well.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A check did not hold; what failed has been printed.
    Failed(String),
    /// This machine lacks what the command needs.
    Skipped(String),
    /// A tool did not do its work.
    Broken(String),
}

impl Trouble {
    /// The words without the kind.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Failed(why) | Self::Skipped(why) | Self::Broken(why) => why,
        }
    }
}

/// Result of a command.
pub(crate) type Outcome = Result<(), Trouble>;

/// Prints how a command ended, and turns it into the exit code that `cargo xtask --help` promises.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    let (code, line) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Trouble::Failed(what)) => (1, format!("failed: {what}")),
        Err(Trouble::Broken(what)) => (2, format!("error: {what}")),
        Err(Trouble::Skipped(why)) => (77, format!("skipped: {why}")),
    };
    eprintln!("{line}");
    ExitCode::from(code)
}
