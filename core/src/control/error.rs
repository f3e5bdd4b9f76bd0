//! Why a read, write or listing was refused.

use alloc::string::String;

use crate::driver::Errno;

/// Why the control tree refused, for programs (the number) and for people (the words, with what to do about it).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {why} ({errno})")]
pub struct ControlError {
    /// The path that was given, cut off after 256 bytes.
    pub path: String,
    /// What Linux would return from the system call.
    pub errno: Errno,
    /// What is wrong and what would help.
    pub why: String,
}

/// A refusal that does not know its path yet.
pub(super) struct Refusal {
    pub(super) errno: Errno,
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn new(errno: Errno, why: impl Into<String>) -> Self {
        Self { errno, why: why.into() }
    }

    pub(super) fn at(self, path: &str) -> ControlError {
        ControlError { path: truncate(path, 256), errno: self.errno, why: self.why }
    }
}

/// `text`, or as much of its beginning as fits into `max` bytes, with a mark when something is missing.
pub(super) fn truncate(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.into();
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut start = String::from(&text[..end]);
    start.push_str("...");
    start
}
