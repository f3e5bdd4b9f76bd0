//! From arguments to exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::args::{Cli, Command};
use crate::failure::{BAD_INPUT, Failure, GOOD, Result};
use crate::output::{Color, Output};
use crate::{audit, explore, run, tree};

/// Runs the command that the program was called with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
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
    tree::run(&args.config(), args.json, &mut output)?;
    output.flush()?;
    Ok(GOOD)
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bindery", &mut text);
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    Ok(GOOD)
}

/// Says what was wrong, on standard error. A reader that has left is no failure.
fn report(failure: &Failure, color: Color) -> u8 {
    if failure.is_closed_pipe() {
        return GOOD;
    }
    let stderr = io::stderr();
    let theme = if color.on(&stderr) { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    // The width is fixed, so that a message that names a path is not wrapped inside it more often than needed.
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
    if handler.render_report(&mut text, failure).is_err() {
        text = failure.to_string();
    }
    // When standard error is gone, too, only the exit code is left.
    let _ = writeln!(io::stderr(), "bindery: {}", text.trim());
    BAD_INPUT
}
