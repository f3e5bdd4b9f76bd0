//! `bindery audit`: did this driver clean up? From what a stock kernel records.

use bindery_audit::command;
use bindery_audit::model::Verdict;
use clap::Args;

use crate::failure::{Failure, Result};
use crate::page::{self, Color, Page};

pub use command::EXIT_CODES;

/// Options of `audit`.
#[derive(Args, Debug)]
#[command(next_line_help = false)]
pub struct Audit {
    /// What is audited, and how.
    #[command(flatten)]
    pub audit: command::AuditArgs,
    /// When to colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Runs `audit`.
pub fn command(args: &Audit) -> Result<u8> {
    let mut page = Page::stdout(args.color);
    let done = command::run(&args.audit, &["audit"], &|verdict, words| page.paint(style(verdict), words))
        .map_err(Failure::audit)?;
    if args.audit.json || args.audit.junit {
        page.raw(done.text.as_bytes())?;
    } else {
        for line in done.text.lines() {
            page.line(line)?;
        }
    }
    page.flush()?;
    Ok(done.code)
}

fn style(verdict: Verdict) -> anstyle::Style {
    match verdict {
        Verdict::Proved => page::GOOD,
        Verdict::Violated => page::BAD,
        Verdict::CannotTell => page::WAIT,
        Verdict::NothingToJudge => page::DIM,
    }
}
