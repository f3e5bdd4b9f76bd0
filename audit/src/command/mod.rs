//! The command `audit`, of `bindery` and of the program for targets.

mod failure;
mod progress;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::host::Host;
use crate::model::Verdict;
use crate::pattern::Patterns;
use crate::report::{Report, explain, rules};
use crate::rules::Rule;
use crate::{Auditor, Options, input};

pub use failure::Failure;
pub(crate) use failure::said;
use progress::Progress;

/// Exit code of bad input and of bad usage.
pub const BAD_INPUT: u8 = 2;

/// Meaning of the exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  proved: every tear-down in the files was clean
  1  violated: at least one rule
  2  bad input or usage, or nothing could be recorded
  3  cannot tell, or nothing to judge";

/// Largest file of patterns that is read, in bytes.
const MAX_PATTERNS: u64 = 1 << 20;

/// Options of `audit`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_line_help = false)]
#[expect(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
pub struct AuditArgs {
    /// Traces and kernel logs of one machine, plain or compressed with gzip or zstd; standard input if none, or for `-`
    #[arg(value_name = "FILE", conflicts_with = "record")]
    pub files: Vec<PathBuf>,
    /// Record with ftrace while COMMAND runs, restore all settings, and audit what DEV and its drivers did
    #[arg(long, value_name = "DEV", requires = "run")]
    pub record: Option<String>,
    /// Write the recording to FILE instead of DEV.trace
    #[arg(short, long, value_name = "FILE", requires = "record")]
    pub output: Option<PathBuf>,
    /// Size of each CPU's buffer in MiB, instead of a sixteenth of the free memory
    #[arg(long, value_name = "MIB", requires = "record", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub buffer: Option<u32>,
    /// Command to run while recording: an unbind, a hand-over, a test
    #[arg(last = true, value_name = "COMMAND", requires = "record")]
    pub run: Vec<OsString>,
    /// Also recognize debug lines by the patterns in FILE
    #[arg(long, value_name = "FILE")]
    pub patterns: Option<PathBuf>,
    /// Resolve stream IDs to devices with TREE, a saved copy of /sys
    #[arg(long, value_name = "TREE")]
    pub host: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "junit")]
    pub json: bool,
    /// Print `JUnit` XML instead of text
    #[arg(long, help = "Print JUnit XML instead of text")]
    pub junit: bool,
    /// Exit with 0 instead of 3
    #[arg(long)]
    pub allow_unknown: bool,
    /// List all rules
    #[arg(long, conflicts_with_all = ["files", "explain", "record"])]
    pub rules: bool,
    /// Explain a rule: what it says, why it matters, what has to be recorded, and where it comes from
    #[arg(long, value_name = "RULE", conflicts_with_all = ["files", "record"])]
    pub explain: Option<Rule>,
    /// Put back what a recorder changed once it is gone; for the recorder itself
    #[arg(long, hide = true)]
    pub keeper: bool,
}

/// The end of a command that did its work.
#[derive(Debug)]
pub struct Done {
    /// The text for standard output.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// Runs the command. `keeper` are the arguments before `--keeper` with which this program is called again; `paint` puts
/// colours around a verdict.
///
/// # Errors
///
/// Returns the error that ends it before there is a result.
pub fn run(args: &AuditArgs, keeper: &[&str], paint: &dyn Fn(Verdict, &str) -> String) -> Result<Done, Failure> {
    if args.keeper {
        return Ok(Done { text: String::new(), code: crate::record::keep() });
    }
    if args.rules || args.explain.is_some() {
        return Ok(Done { text: args.explain.map_or_else(rules, explain), code: 0 });
    }
    let mut options = options(args)?;
    if args.record.is_some() && args.host.is_none() {
        // This host is the one that is recorded.
        options.host = Host::read(Path::new("/sys")).unwrap_or_default();
    }
    let report = match &args.record {
        Some(device) => {
            let file = crate::record::record(&crate::record::Order {
                device,
                output: args.output.as_deref(),
                buffer: args.buffer,
                command: &args.run,
                keeper,
            })?;
            audit(options, &[file])?
        }
        None if args.files.is_empty() => audit(options, &[PathBuf::from("-")])?,
        None => audit(options, &args.files)?,
    };
    let text = if args.json {
        report.json() + "\n"
    } else if args.junit {
        report.junit() + "\n"
    } else {
        report.text(paint)
    };
    let code = report.exit_code();
    Ok(Done { text, code: if code == 3 && args.allow_unknown { 0 } else { code } })
}

fn options(args: &AuditArgs) -> Result<Options, Failure> {
    let mut patterns = Patterns::default();
    if let Some(path) = &args.patterns {
        let own = Patterns::parse(&text_of(path)?);
        patterns.extend(own.map_err(|error| Failure::Patterns { path: path.clone(), error })?);
    }
    let host = match &args.host {
        Some(path) => Host::read(path).map_err(|error| Failure::Host { path: path.clone(), error })?,
        None => Host::default(),
    };
    Ok(Options { patterns, host })
}

fn audit(options: Options, files: &[PathBuf]) -> Result<Report, Failure> {
    let mut auditor = Auditor::new(options);
    for path in files {
        let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
        let reader = input::open(path)?;
        let mut line = Progress::new(&name);
        let outcome = auditor.read(&name, reader, &mut |progress| line.draw(progress.lines, progress.bytes));
        line.clear();
        outcome?;
    }
    Ok(auditor.finish())
}

/// The text of a file of patterns.
fn text_of(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::Read { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_PATTERNS + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_PATTERNS {
        return Err(Failure::TooLarge { path: path.to_owned(), limit: MAX_PATTERNS });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
