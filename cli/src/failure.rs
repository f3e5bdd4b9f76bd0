//! Errors that end the command, with what is wrong and where, and its exit codes.

use std::io;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, NamedSource, SourceSpan};

/// Success: everything was done and every promise held.
pub const GOOD: u8 = 0;
/// A promise was broken, the simulated hardware was misused, or an operation failed.
pub const BROKEN: u8 = 1;
/// Bad input or bad usage: nothing of the result can be relied on.
pub const BAD_INPUT: u8 = 2;
/// A signal ended the work early, and what was known by then was reported. The code that shells use for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Largest device tree file that is read, in bytes. The largest that Linux ships is below 1 MiB.
pub const MAX_DEVICE_TREE: u64 = 64 << 20;
/// Largest script that is read, in bytes.
pub const MAX_SCRIPT: u64 = 16 << 20;
/// Largest file of exploration reports that is read, in bytes. One report is a few KiB.
pub const MAX_REPORTS: u64 = 256 << 20;

/// An error that ends the command. All of these end it with [`BAD_INPUT`].
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Failure {
    /// A file cannot be opened or read.
    #[error("cannot read {}: {}", .path.display(), io_text(.error))]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's error.
        error: io::Error,
    },
    /// A file is larger than anything sensible.
    #[error("{}: more than {} MiB, which no {what} has", .path.display(), .limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The kind of file that was expected.
        what: &'static str,
        /// The bound in bytes.
        limit: u64,
    },
    /// QEMU cannot be started: it is not there, or does not take its options.
    #[error(transparent)]
    #[diagnostic(help(
        "`qemu-system-x86_64 -device help` (or `qemu-system-aarch64`) lists its devices; --board takes a simulated board instead"
    ))]
    Qemu(bindery_qtest::Error),
    /// QEMU has ended, or no longer answers.
    #[error("{0}")]
    #[diagnostic(help("nothing after that is a result; QEMU ends by itself on some misuse of its devices"))]
    QemuStopped(String),
    /// A disk image for hardware without a disk controller.
    #[error("--disk: {0} has no disk controller")]
    #[diagnostic(help("the board salvator-xs has one"))]
    NoDisk(&'static str),
    /// A file is not a device tree blob, or a broken one.
    #[error("{path}: {error}")]
    #[diagnostic(help("a device tree blob comes out of `dtc -O dtb`; `fdtdump FILE` shows what a file holds"))]
    DeviceTree {
        /// The file, or the name of an embedded blob.
        path: String,
        /// The error, with its node or offset.
        error: bindery::firmware::fdt::FdtError,
    },
    /// A file cannot be the disk.
    #[error(transparent)]
    #[diagnostic(help("give a writable image, e.g. one made by `truncate -s 64M disk.img`"))]
    Disk(#[from] bindery_sim::disk::DiskError),
    /// A line of a script is not understood.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Script(#[from] Box<ScriptError>),
    /// An exploration, a replay or a merge that is not possible.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Explore(#[from] Box<crate::explore::Refusal>),
    /// A log or a trace cannot be audited, or recorded.
    #[error("{error}")]
    Audit {
        /// The reason.
        error: bindery_audit::command::Failure,
        /// The remedy.
        #[help]
        help: Option<String>,
    },
    /// Output cannot be written.
    #[error("cannot write {what}: {}", io_text(.error))]
    Write {
        /// Standard output, or the file.
        what: String,
        /// The host's error.
        error: io::Error,
    },
}

/// A line of a script that is not understood.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{path}:{line}: {what}")]
#[diagnostic(help("{help}"))]
pub struct ScriptError {
    /// The file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// The error.
    pub what: String,
    /// The syntax that is expected.
    pub help: String,
    /// The script.
    #[source_code]
    pub text: NamedSource<String>,
    /// The words in question.
    #[label("here")]
    pub span: SourceSpan,
}

impl Failure {
    /// The file at `path` cannot be read because of `error`.
    pub fn read(path: &Path, error: io::Error) -> Self {
        Self::Read { path: path.into(), error }
    }

    /// An audit cannot go on because of `error`.
    pub fn audit(error: bindery_audit::command::Failure) -> Self {
        Self::Audit { help: error.help(), error }
    }

    /// Standard output cannot be written.
    pub fn stdout(error: io::Error) -> Self {
        Self::Write { what: "standard output".into(), error }
    }
}

/// Text of a host's error, without the number that Rust appends.
fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].into(),
        None => text,
    }
}

/// The outcome of everything that can end the command early.
pub type Result<T> = std::result::Result<T, Failure>;
