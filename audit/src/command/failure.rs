//! Errors that end the command.

use std::io;
use std::path::PathBuf;

use crate::input::Unreadable;
use crate::pattern::BadPattern;
use crate::record::RecordError;

/// Error that ends the command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file cannot be opened or read.
    #[error("cannot read {}: {}", .path.display(), said(.error))]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's error.
        error: io::Error,
    },
    /// A file of patterns is larger than any sensible one.
    #[error("{}: more than {} MiB, which no pattern file has", .path.display(), .limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// A log or a trace cannot be read.
    #[error(transparent)]
    Input(#[from] Unreadable),
    /// A file of patterns cannot be understood.
    #[error("{}: {error}", .path.display())]
    Patterns {
        /// The file.
        path: PathBuf,
        /// The error, with its line.
        error: BadPattern,
    },
    /// A listing of a host's sysfs cannot be used.
    #[error("{}: {}", .path.display(), said(.error))]
    Host {
        /// The directory.
        path: PathBuf,
        /// The host's error.
        error: io::Error,
    },
    /// Nothing could be recorded, or not all of it.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Failure {
    /// Advice for the user.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Patterns { .. } => Some(
                "a line is `alloc-by|alloc|free-by|free PATTERN`, with values such as {device} and {backend} in it; \
                 docs/audit.md lists them"
                    .to_owned(),
            ),
            Self::Host { .. } => Some("give a saved tree that holds sys/bus/*/devices".to_owned()),
            Self::Record(error) => error.help(),
            Self::Read { .. } | Self::TooLarge { .. } | Self::Input(_) => None,
        }
    }
}

/// The host's error in words, without the number that Rust puts behind it.
pub(crate) fn said(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].into(),
        None => text,
    }
}
