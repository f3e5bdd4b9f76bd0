//! `bindery audit`: audits recordings of a stock kernel.

use bindery_audit::command;
use bindery_audit::model::Verdict;
use clap::Args;

use crate::failure::{Failure, Result};
use crate::output::{self, Color, Output};

pub use command::EXIT_CODES;

/// Options of `audit`.
#[derive(Args, Debug)]
#[command(next_line_help = false)]
pub struct Audit {
    /// Inputs and options of the audit.
    #[command(flatten)]
    pub audit: command::AuditArgs,
    /// Colour the output
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Runs `audit`.
pub fn command(args: &Audit) -> Result<u8> {
    let mut output = Output::stdout(args.color);
    let done = command::run(&args.audit, &["audit"], &|verdict, words| output.paint(style(verdict), words))
        .map_err(Failure::audit)?;
    if args.audit.json || args.audit.junit {
        output.raw(done.text.as_bytes())?;
    } else {
        for line in done.text.lines() {
            output.line(line)?;
        }
    }
    output.flush()?;
    Ok(done.code)
}

fn style(verdict: Verdict) -> anstyle::Style {
    match verdict {
        Verdict::Proved => output::GOOD,
        Verdict::Violated => output::ERROR,
        Verdict::CannotTell => output::WARNING,
        Verdict::NothingToJudge => output::DIM,
    }
}
