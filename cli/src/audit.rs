//! `bindery audit`: did this driver clean up? From what a stock kernel records.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bindery_audit::host::Host;
use bindery_audit::model::Verdict;
use bindery_audit::pattern::Patterns;
use bindery_audit::report::{Report, explain, rules};
use bindery_audit::rules::Rule;
use bindery_audit::{Auditor, Options, input};
use clap::Args;

use crate::failure::{Failure, GOOD, Result};
use crate::load;
use crate::page::{self, Color, Page};

/// What the exit codes of `bindery audit` mean.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  every tear-down in the files was clean
  1  a rule was violated
  2  bad input or bad usage
  3  it cannot be told, or there is nothing to judge";

/// How often the line of progress is drawn.
const PROGRESS: Duration = Duration::from_millis(200);

/// Options of `audit`.
#[derive(Args, Debug)]
#[command(next_line_help = false)]
#[expect(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
pub struct Audit {
    /// Traces and kernel logs of one machine, plain or compressed by gzip or zstd; `-` and none is standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Understand debug lines by the patterns of this file, too
    #[arg(long, value_name = "FILE")]
    pub patterns: Option<PathBuf>,
    /// Tie streams of an IOMMU to devices by this saved listing of sysfs
    #[arg(long, value_name = "TREE")]
    pub host: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "junit")]
    pub json: bool,
    /// Print `JUnit` XML instead of text
    #[arg(long)]
    pub junit: bool,
    /// End with 0 when it cannot be told or there is nothing to judge
    #[arg(long)]
    pub allow_unknown: bool,
    /// List the rules
    #[arg(long, conflicts_with_all = ["files", "explain"])]
    pub rules: bool,
    /// Say what a rule compares, why it matters, and where it comes from
    #[arg(long, value_name = "RULE", conflicts_with = "files")]
    pub explain: Option<Rule>,
    /// When to colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Runs `audit`.
pub fn command(args: &Audit) -> Result<u8> {
    if args.rules || args.explain.is_some() {
        let text = args.explain.map_or_else(rules, explain);
        print(&text)?;
        return Ok(GOOD);
    }
    let report = audit(args)?;
    if args.json {
        print(&(report.json() + "\n"))?;
    } else if args.junit {
        print(&(report.junit() + "\n"))?;
    } else {
        let mut page = Page::stdout(args.color);
        let text = report.text(&|verdict, words| page.paint(style(verdict), words));
        for line in text.lines() {
            page.line(line)?;
        }
        page.flush()?;
    }
    let code = report.exit_code();
    Ok(if code == 3 && args.allow_unknown { GOOD } else { code })
}

fn audit(args: &Audit) -> Result<Report> {
    let mut patterns = Patterns::default();
    if let Some(path) = &args.patterns {
        let text = load::patterns(path)?;
        let own = Patterns::parse(&text).map_err(|error| Failure::Patterns { path: path.clone(), error })?;
        patterns.extend(own);
    }
    let host = match &args.host {
        Some(path) => Host::read(path).map_err(|error| Failure::Host { path: path.clone(), error })?,
        None => Host::default(),
    };
    let mut auditor = Auditor::new(Options { patterns, host });
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files };
    for path in files {
        let name = name(path);
        let reader = input::open(path)?;
        let mut line = Line::new(&name);
        let outcome = auditor.read(&name, reader, &mut |progress| line.draw(progress.lines, progress.bytes));
        line.clear();
        outcome?;
    }
    Ok(auditor.finish())
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

fn style(verdict: Verdict) -> anstyle::Style {
    match verdict {
        Verdict::Proved => page::GOOD,
        Verdict::Violated => page::BAD,
        Verdict::CannotTell => page::WAIT,
        Verdict::NothingToJudge => page::DIM,
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)
}

/// The line of progress on a terminal.
struct Line<'a> {
    name: &'a str,
    next: Option<Instant>,
    drawn: bool,
}

impl<'a> Line<'a> {
    fn new(name: &'a str) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + PROGRESS);
        Self { name, next, drawn: false }
    }

    fn draw(&mut self, lines: u64, bytes: u64) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + PROGRESS);
            self.drawn = true;
            let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
            // A line of progress that cannot be drawn is not missed.
            let _ = write!(io::stderr(), "\r{name}: {lines} lines, {} MiB", bytes >> 20);
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
