//! The words that users type at the control tree, and its answers as a shell would print them.

use std::io;

use bindery::control::{ControlError, EntryKind, Tree};

/// `echo VALUE > PATH`.
pub fn echo(tree: &Tree, value: &str, path: &str) -> Result<(), Refused> {
    tree.write(path, &format!("{value}\n")).map_err(|error| Refused::new("echo", error))
}

/// `cat PATH`.
pub fn cat(tree: &Tree, path: &str) -> Result<String, Refused> {
    tree.read(path).map_err(|error| Refused::new("cat", error))
}

/// `ls PATH`: names in order, directories with a slash, links with where they lead.
pub fn ls(tree: &Tree, path: &str) -> Result<String, Refused> {
    let entries = tree.list(path).map_err(|error| Refused::new("ls", error))?;
    let lines = entries.into_iter().map(|entry| match entry.kind {
        EntryKind::Dir => format!("{}/\n", entry.name),
        EntryKind::File { .. } => format!("{}\n", entry.name),
        EntryKind::Link { target } => format!("{} -> {target}\n", entry.name),
    });
    Ok(lines.collect())
}

/// A refusal of the control tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program}: {}: {} ({})", .error.path, words(.error), .error.why)]
pub struct Refused {
    /// The program that a shell would blame.
    program: &'static str,
    /// What was refused.
    pub error: ControlError,
}

impl Refused {
    fn new(program: &'static str, error: ControlError) -> Self {
        Self { program, error }
    }
}

/// What the C library says of an error number.
fn words(error: &ControlError) -> String {
    let text = io::Error::from_raw_os_error(error.errno as i32).to_string();
    text.split(" (os error").next().unwrap_or_default().into()
}
