//! Errors of a QEMU process.

use std::io;
use std::time::Duration;

/// Oldest major version of QEMU: 7.2 was tried, of Debian 12.
pub(crate) const OLDEST: u64 = 7;

/// Error of a QEMU process or of its sockets. `said` is the end of what QEMU has written to its standard error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program cannot be started.
    #[error("{program}: {source}; Debian has it in the package {package}")]
    Start {
        /// The program.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
        /// Reason.
        source: io::Error,
    },
    /// It is older than what was tried.
    #[error("QEMU {major}.{minor} is too old: {OLDEST}.0 at least")]
    TooOld {
        /// Its version.
        major: u64,
        /// The second number of it.
        minor: u64,
    },
    /// It has ended, or has closed a socket.
    #[error("QEMU has ended while {doing}{}", words(.said))]
    Ended {
        /// What was asked of it.
        doing: String,
        /// Its last words.
        said: String,
    },
    /// It did not answer in time, and was ended.
    #[error("QEMU did not answer within {within:?} while {doing}{}", words(.said))]
    Hangs {
        /// What was asked of it.
        doing: String,
        /// Time that it had.
        within: Duration,
        /// Its last words.
        said: String,
    },
    /// It answered what the protocol does not have.
    #[error("QEMU answered {answer:?} while {doing}")]
    Protocol {
        /// What was asked of it.
        doing: String,
        /// Its answer.
        answer: String,
    },
    /// It refused a command.
    #[error("QEMU refused {doing}: {why}")]
    Refused {
        /// What was asked of it.
        doing: String,
        /// Reason.
        why: String,
    },
    /// It was not asked, because of an earlier error.
    #[error("QEMU was not asked for {doing}: {earlier}")]
    Failed {
        /// What would have been asked of it.
        doing: String,
        /// The earlier error.
        earlier: String,
    },
    /// Files of its sockets, firmware or memory.
    #[error("{what}: {source}")]
    File {
        /// The file.
        what: String,
        /// Reason.
        source: io::Error,
    },
}

impl Error {
    /// The same error once more, for one who asks later.
    pub(crate) fn copy(&self) -> Self {
        let io = |source: &io::Error| io::Error::new(source.kind(), source.to_string());
        match self {
            Self::Start { program, package, source } => Self::Start { program, package, source: io(source) },
            Self::Ended { doing, said } => Self::Ended { doing: doing.clone(), said: said.clone() },
            Self::Hangs { doing, within, said } => {
                Self::Hangs { doing: doing.clone(), within: *within, said: said.clone() }
            }
            Self::TooOld { major, minor } => Self::TooOld { major: *major, minor: *minor },
            Self::Protocol { doing, answer } => Self::Protocol { doing: doing.clone(), answer: answer.clone() },
            Self::Refused { doing, why } => Self::Refused { doing: doing.clone(), why: why.clone() },
            Self::Failed { doing, earlier } => Self::Failed { doing: doing.clone(), earlier: earlier.clone() },
            Self::File { what, source } => Self::File { what: what.clone(), source: io(source) },
        }
    }
}

fn words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; its last words: {said}") }
}
