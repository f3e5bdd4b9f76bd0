//! A patch file: a header that says what the bug is and who must notice it, and a diff.

use std::path::{Path, PathBuf};

use crate::outcome::Trouble;

/// Commands for a patch that does not say by what it is killed.
const DEFAULT: &str = "test -p bindery -p bindery-drivers -p bindery-sim -p bindery-explore";

/// A bug to be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Origin of the bug; empty when the file does not say.
    pub(super) history: String,
    /// The promise that it breaks, or `?`.
    pub(super) breaks: String,
    /// Reason why the auditor sees nothing of it in a trace, where the file gives one.
    pub(super) traceless: Option<String>,
    /// Each of these must fail with it.
    pub(super) killers: Vec<Killer>,
    /// Files that the diff changes.
    pub(super) files: Vec<String>,
}

/// A command that notices the bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Killer {
    /// Arguments of `cargo`.
    pub(super) command: String,
    /// Text that its output must have, such as `BROKEN P3`.
    pub(super) says: Option<String>,
}

impl Killer {
    /// The part of a test's path that the command selects by; `None` when it runs all tests of a target.
    pub(super) fn filter(&self) -> Option<&str> {
        let mut words = self.command.split_whitespace().skip(1);
        while let Some(word) = words.next() {
            match word {
                "--lib" => {}
                "--" => return None,
                option if option.starts_with("--") && option.contains('=') => {}
                option if option.starts_with('-') => _ = words.next(),
                filter => return Some(filter),
            }
        }
        None
    }
}

impl Patch {
    /// Reads the patch at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Trouble> {
        let wrong = |why: &str| Trouble::Broken(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(&e.to_string()))?;
        // `git apply` runs in the scratch copy.
        let path = path.canonicalize().map_err(|e| wrong(&e.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(name, path.clone(), &text).map_err(|why| wrong(&why))
    }

    fn parse(name: String, path: PathBuf, text: &str) -> Result<Self, String> {
        let (mut history, mut breaks) = (String::new(), "?".to_owned());
        let mut traceless = None;
        let mut killers: Vec<Killer> = Vec::new();
        let is_diff = |line: &str| line.starts_with("diff --git ") || line.starts_with("--- ");
        for line in text.lines().take_while(|line| !is_diff(line)) {
            match line.split_once(':') {
                Some(("History", value)) => value.trim().clone_into(&mut history),
                Some(("Not-in-a-trace", value)) => traceless = Some(value.trim().to_owned()),
                Some(("Breaks", value)) => value.trim().clone_into(&mut breaks),
                Some(("Killed-by", value)) => {
                    let words = value.trim().strip_prefix("cargo test").filter(|w| w.is_empty() || w.starts_with(' '));
                    // Nothing else is run: a patch may come from anywhere.
                    let words = words.ok_or_else(|| format!("`{line}`: Killed-by takes a `cargo test` command"))?;
                    killers.push(Killer { command: format!("test{words}"), says: None });
                }
                Some(("Seen-as", value)) => {
                    let killer = killers.last_mut().ok_or("Seen-as stands below the Killed-by that it is about")?;
                    killer.says = Some(value.trim().to_owned()).filter(|says| !says.is_empty());
                }
                _ => {}
            }
        }
        let files: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(|file| file.trim().to_owned()).collect();
        if !text.lines().any(is_diff) {
            return Err("no diff in it".into());
        }
        if killers.is_empty() {
            killers.push(Killer { command: DEFAULT.to_owned(), says: None });
        }
        Ok(Self { name, path, history, breaks, traceless, killers, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Patch, String> {
        Patch::parse("x".into(), PathBuf::from("x.patch"), text)
    }

    #[test]
    fn the_header_names_history_promise_and_tests() {
        let text = "What it is.\n\nHistory: a report: of 2019\nBreaks: P7\nKilled-by: cargo test -p bindery --lib a\n\
                    Seen-as: BROKEN P3\nKilled-by: cargo test b\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@\n";
        let patch = parse(text).unwrap();
        assert_eq!((patch.history.as_str(), patch.breaks.as_str()), ("a report: of 2019", "P7"));
        let killer = |command: &str, says: Option<&str>| Killer { command: command.into(), says: says.map(Into::into) };
        assert_eq!(patch.killers, [killer("test -p bindery --lib a", Some("BROKEN P3")), killer("test b", None)]);
        assert_eq!(patch.files, ["x"]);
    }

    #[test]
    fn a_commands_filter_is_its_only_word_that_is_no_option() {
        let filter = |command: &str| Killer { command: command.into(), says: None }.filter().map(str::to_owned);
        assert_eq!(filter("test -p bindery --lib irq:: --features std").as_deref(), Some("irq::"));
        assert_eq!(filter("test --config build.rustflags=[] -p a --test t a::b").as_deref(), Some("a::b"));
        assert_eq!(filter("test -p bindery-audit --test rules"), None);
        assert_eq!(filter("test -p a -- --nocapture"), None);
    }

    #[test]
    fn a_patch_without_a_header_gets_all_tests() {
        assert_eq!(parse("--- a/x\n+++ b/x\n").unwrap().killers[0].command, DEFAULT);
    }

    #[test]
    fn other_commands_and_files_without_a_diff_are_refused() {
        assert!(parse("Killed-by: rm -rf /\ndiff --git a/x b/x\n").unwrap_err().contains("cargo test"));
        assert!(parse("Killed-by: cargo testify\ndiff --git a/x b/x\n").is_err());
        assert!(parse("Seen-as: P1\nKilled-by: cargo test\ndiff --git a/x b/x\n").unwrap_err().contains("below"));
        assert!(parse("Breaks: P1\n").unwrap_err().contains("no diff"));
    }
}
