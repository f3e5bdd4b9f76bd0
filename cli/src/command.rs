//! From arguments to exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::args::{Cli, Command};
use crate::failure::{BAD_INPUT, Failure, GOOD, Result};
use crate::output::{Color, Output, columns};
use crate::{audit, explore, run, tree};

/// Runs the command that the program was called with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            return ExitCode::from(print_usage(&usage).unwrap_or_else(|failure| report(&failure, Color::Auto)));
        }
    };
    let (color, outcome) = match &cli.command {
        None => (cli.run.color, run::command(&cli.run)),
        Some(Command::Run(run)) => (run.color, run::command(run)),
        Some(Command::Tree(args)) => (args.color, draw(args)),
        Some(Command::Explore(args)) => (args.color, explore::command(args)),
        Some(Command::Audit(args)) => (args.color, audit::command(args)),
        Some(Command::Completions { shell }) => (Color::Auto, completions(*shell)),
    };
    ExitCode::from(outcome.unwrap_or_else(|failure| report(&failure, color)))
}

fn draw(args: &crate::args::Tree) -> Result<u8> {
    let mut output = Output::stdout(args.color);
    tree::run(args, &mut output)?;
    output.flush()?;
    Ok(GOOD)
}

/// Prints help, the version, or what is wrong with the arguments; the exit code.
fn print_usage(usage: &clap::Error) -> Result<u8> {
    if usage.use_stderr() {
        // When standard error is gone, too, only the exit code is left.
        let _ = usage.print();
        return Ok(BAD_INPUT);
    }
    match usage.print().and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::stdout(error)),
        _ => Ok(GOOD),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bindery", &mut text);
    let mut output = Output::stdout(Color::Never);
    output.raw(&text)?;
    output.flush()?;
    Ok(GOOD)
}

/// Says what was wrong, on standard error.
fn report(failure: &Failure, color: Color) -> u8 {
    let stderr = io::stderr();
    let theme = if color.on(&stderr) { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    // Where no terminal is, a message that names a path is not wrapped inside it more often than needed.
    let width = columns(&stderr).unwrap_or(120);
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
    if handler.render_report(&mut text, failure).is_err() {
        text = failure.to_string();
    }
    // When standard error is gone, too, only the exit code is left.
    let _ = writeln!(io::stderr(), "bindery: {}", text.trim());
    BAD_INPUT
}
