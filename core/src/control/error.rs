//! Errors of reads, writes and listings.

use alloc::string::String;

use crate::driver::Errno;

/// Refusal by the control tree: an error number for programs, and a text with a remedy for users.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {why} ({errno})")]
pub struct ControlError {
    /// The path, truncated to 256 bytes.
    pub path: String,
    /// Error number that the system call would return on Linux.
    pub errno: Errno,
    /// Reason and remedy.
    pub why: String,
}

/// Refusal without its path.
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

/// `text`, truncated to `max` bytes at a character boundary; `...` marks a truncation.
pub(super) fn truncate(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.into();
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut start = String::from(&text[..end]);
    start.push_str("...");
    start
}
