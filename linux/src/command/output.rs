//! Printing.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};

use crate::path::printable;

/// Version of the JSON that all commands print. It grows when a field changes its meaning or goes.
pub(super) const SCHEMA: u32 = 1;

thread_local! {
    /// Output captured while another program runs the command.
    static KEPT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `what`, and keeps what it prints instead of printing it.
pub(super) fn keep<T>(what: impl FnOnce() -> T) -> (T, String) {
    KEPT.set(Some(String::new()));
    let done = what();
    (done, KEPT.take().unwrap_or_default())
}

/// Prints lines to standard output. A reader that has left is not an error.
pub(super) fn print(lines: &[String]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&printable(line));
        text.push('\n');
    }
    print_text(&text)
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print_text(&format!("{value:#}\n"))
}

pub(super) fn print_text(text: &str) -> io::Result<()> {
    let kept = KEPT.with_borrow_mut(|kept| kept.as_mut().map(|kept| kept.push_str(text)).is_some());
    if kept {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Columns of the terminal; `None` when the output goes elsewhere, and is not shortened.
pub(super) fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Shortens a line to `width` characters, with a mark at its end.
pub(super) fn shorten(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            let mut short: String = line.chars().take(width.saturating_sub(1)).collect();
            short.push('…');
            short
        }
        _ => line.into(),
    }
}
