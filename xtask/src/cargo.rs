//! Running `cargo`, with its output where the user sees it.

use std::io::{BufReader, stdout};
use std::process::{Command, Stdio};

use crate::failures::Failures;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{output, root, target};

/// The tool chain for Miri, which stable does not have.
pub(crate) const NIGHTLY: &str = "nightly";

/// A `cargo` command that is being put together.
pub(crate) struct Cargo(Command);

impl Cargo {
    /// `cargo ARGS`, with the project's own tool chain, in the repository.
    pub(crate) fn new(args: &str) -> Self {
        let mut command = Command::new("cargo");
        command.args(args.split_whitespace());
        Self(command)
    }

    /// `cargo miri ARGS`, with the nightly tool chain.
    pub(crate) fn miri(args: &str) -> Self {
        let mut command = Command::new("rustup");
        command.args(["run", NIGHTLY, "cargo", "miri"]).args(args.split_whitespace());
        // What the outer tool chain set for its own children.
        command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTDOC");
        Self(command).target_dir("miri")
    }

    /// Sets an environment variable.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Builds below `target/NAME`, because other flags would throw away what is built in `target`.
    #[must_use]
    pub(crate) fn target_dir(mut self, name: &str) -> Self {
        self.0.env("CARGO_TARGET_DIR", target().join(name));
        self
    }

    /// Adds words that stay whole.
    #[must_use]
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.0.args(args);
        self
    }

    /// Runs it. Its output goes where ours goes; tests that fail are named in the trouble.
    pub(crate) fn run(mut self) -> Outcome {
        self.0.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped());
        let shown = shown(&self.0);
        let broken = |e| Trouble::Broken(format!("{shown}: {e}"));
        let mut child = self.0.spawn().map_err(broken)?;
        let failures = match child.stdout.take() {
            Some(out) => Failures::copy(BufReader::new(out), stdout()).map_err(broken)?,
            None => Failures::default(),
        };
        let status = child.wait().map_err(broken)?;
        if status.success() {
            return Ok(());
        }
        let what = std::iter::once(format!("`{shown}`: {status}")).chain(failures.lines());
        Err(Trouble::Failed(what.collect::<Vec<_>>().join("\n")))
    }

    /// Runs it and returns what it wrote to its standard output.
    pub(crate) fn output(mut self) -> Result<String, Trouble> {
        output(self.0.current_dir(root()))
    }
}

/// The command line, to be typed again.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
