//! One patch file: a header of `Key: value` lines, then a diff that `git apply` takes.

use std::path::{Path, PathBuf};

use crate::outcome::Trouble;

/// What is run when a patch does not name its test.
const DEFAULT: &str = "test -p bindery -p bindery-drivers -p bindery-sim -p bindery-explore";

/// A bug to be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The promise that it breaks, or `?`.
    pub(super) breaks: String,
    /// Arguments of `cargo` that must fail with it, in order; the first one that fails kills it.
    pub(super) commands: Vec<String>,
}

impl Patch {
    /// Reads the header of the patch at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Trouble> {
        let wrong = |why: &str| Trouble::Broken(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(&e.to_string()))?;
        // `git apply` runs in the scratch copy.
        let path = path.canonicalize().map_err(|e| wrong(&e.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(name, path.clone(), &text).map_err(|why| wrong(&why))
    }

    fn parse(name: String, path: PathBuf, text: &str) -> Result<Self, String> {
        let mut breaks = "?".to_owned();
        let mut commands = Vec::new();
        let mut diff = false;
        for line in text.lines() {
            if line.starts_with("diff --git ") || line.starts_with("--- ") {
                diff = true;
                break;
            }
            match line.split_once(':') {
                Some(("Breaks", value)) => value.trim().clone_into(&mut breaks),
                Some(("Killed-by", value)) => {
                    let words = value.trim().strip_prefix("cargo test").filter(|w| w.is_empty() || w.starts_with(' '));
                    // Nothing else is run: a patch may come from anywhere.
                    let words = words.ok_or_else(|| format!("`{line}`: Killed-by takes a `cargo test` command"))?;
                    commands.push(format!("test{words}"));
                }
                _ => {}
            }
        }
        if !diff {
            return Err("no diff in it".into());
        }
        if commands.is_empty() {
            commands.push(DEFAULT.to_owned());
        }
        Ok(Self { name, path, breaks, commands })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Patch, String> {
        Patch::parse("x".into(), PathBuf::from("x.patch"), text)
    }

    #[test]
    fn the_header_names_promise_and_tests() {
        let text = "History: a report\nBreaks: P7\nKilled-by: cargo test -p bindery --lib a\nKilled-by: cargo test b\n\ndiff --git a/x b/x\n";
        let patch = parse(text).unwrap();
        assert_eq!((patch.breaks.as_str(), patch.commands.len()), ("P7", 2));
        assert_eq!(patch.commands, ["test -p bindery --lib a", "test b"]);
    }

    #[test]
    fn a_patch_without_a_header_gets_all_tests() {
        assert_eq!(parse("--- a/x\n+++ b/x\n").unwrap().commands, [DEFAULT]);
    }

    #[test]
    fn other_commands_and_files_without_a_diff_are_refused() {
        assert!(parse("Killed-by: rm -rf /\ndiff --git a/x b/x\n").unwrap_err().contains("cargo test"));
        assert!(parse("Killed-by: cargo testify\ndiff --git a/x b/x\n").is_err());
        assert!(parse("Breaks: P1\n").unwrap_err().contains("no diff"));
    }
}
