//! Errors of a QEMU process.

use std::io;
use std::time::Duration;

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
    /// Files of its sockets, firmware or memory.
    #[error("{what}: {source}")]
    File {
        /// The file.
        what: String,
        /// Reason.
        source: io::Error,
    },
}

fn words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; its last words: {said}") }
}
