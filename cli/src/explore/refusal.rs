//! Errors of `bindery explore` and their remedies.

use miette::Diagnostic;

/// An exploration, a replay or a merge that is not possible.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Refusal {
    /// A file does not hold reports.
    #[error("{path}: not a report of `bindery explore`: {error}")]
    #[diagnostic(help("`bindery explore --shard K/N --json > FILE` writes one"))]
    NotAReport {
        /// The file.
        path: String,
        /// The error, with its line and column.
        error: String,
    },
    /// A file without any report.
    #[error("{path}: the file is empty")]
    #[diagnostic(help("the shard that was to write it did not finish: run it again"))]
    Empty {
        /// The file.
        path: String,
    },
    /// More reports than a run has shards.
    #[error("{path}: more than {most} reports in all, and a run has no more shards")]
    TooMany {
        /// The file at which it was noticed.
        path: String,
        /// The bound.
        most: u32,
    },
    /// A report that does not belong to the others.
    #[error("{path}: {why}")]
    #[diagnostic(help("merge each shard of one run once: all with the same options, but for --shard K/N"))]
    Mismatched {
        /// The file.
        path: String,
        /// The difference.
        why: String,
    },
    /// Reports of shards that are not among the files.
    #[error("reports are missing: those of shard{} {} of {of}", if .shards.contains(',') { "s" } else { "" }, .shards)]
    #[diagnostic(help("run them with --shard K/{of}, and merge all {of} reports"))]
    Missing {
        /// Their numbers.
        shards: String,
        /// Number of shards of the run.
        of: u32,
    },
    /// A path that the scenario does not have.
    #[error("the path {path} does not belong here: {why} in {name}")]
    #[diagnostic(help("a path belongs to one scenario: replay it with the options of the report that names it"))]
    WrongPath {
        /// The path.
        path: String,
        /// Name of the scenario that was executed.
        name: String,
        /// The choice that is not there, by its position from 1.
        why: String,
    },
    /// A device that no driver binds on the board even when nothing goes wrong.
    #[error("{board}: {error}")]
    #[diagnostic(help("`bindery tree` shows the devices, their drivers and what they wait for"))]
    NotBound {
        /// The board, or the file that describes it.
        board: String,
        /// The device, and what it waits for.
        error: String,
    },
    /// A device that is not on the board.
    #[error("{board} has no device {device:?}")]
    #[diagnostic(help("{}", if .known.is_empty() {
        "no driver here binds any device of it; `bindery tree` shows its devices, and those that have no driver".into()
    } else {
        format!("those that a driver binds are {}", .known.join(", "))
    }))]
    NoSuchDevice {
        /// The name that was given.
        device: String,
        /// The board, or the file that describes it.
        board: String,
        /// Names of devices that can be explored.
        known: Vec<String>,
    },
    /// JSON and a diagram would both go to standard output.
    #[error("--json and --diagram - both want standard output")]
    #[diagnostic(help("give the diagram a file: --diagram FILE.txt or FILE.svg"))]
    StdoutConflict,
    /// Signals cannot be handled on this host.
    #[error("cannot handle Ctrl-C: {error}")]
    Signals {
        /// The host's error.
        error: String,
    },
}
