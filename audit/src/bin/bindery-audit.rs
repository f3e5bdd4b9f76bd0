//! `bindery audit` by itself: a small static program that can be copied onto a target.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use bindery_audit::command::{self, AuditArgs, EXIT_CODES};
use bindery_audit::model::Verdict;
use clap::Parser;

/// Audit ftrace recordings and kernel logs: did this driver clean up?
#[derive(Parser, Debug)]
#[command(name = "bindery-audit", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    audit: AuditArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let colors = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let paint = |verdict: Verdict, words: &str| {
        let color = match verdict {
            Verdict::Proved => "32",
            Verdict::Violated => "1;31",
            Verdict::CannotTell => "33",
            Verdict::NothingToJudge => "2",
        };
        if colors { format!("\u{1b}[{color}m{words}\u{1b}[0m") } else { words.to_owned() }
    };
    match command::run(&cli.audit, &[], &paint) {
        Ok(done) => {
            let mut out = io::stdout().lock();
            match out.write_all(done.text.as_bytes()).and_then(|()| out.flush()) {
                // A reader that has left is no failure.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    refused(&format!("standard output: {error}"))
                }
                _ => ExitCode::from(done.code),
            }
        }
        Err(failure) => {
            let help = failure.help().map_or_else(String::new, |help| format!("\n  help: {help}"));
            refused(&format!("{failure}{help}"))
        }
    }
}

fn refused(words: &str) -> ExitCode {
    // When standard error is gone, too, the exit code is all that is left to tell.
    let _ = writeln!(io::stderr(), "bindery-audit: {words}");
    ExitCode::from(command::BAD_INPUT)
}
