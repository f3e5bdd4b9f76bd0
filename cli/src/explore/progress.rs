//! The progress line on a terminal.

use std::io::{self, IsTerminal, Write};

use bindery_explore::engine::{Engine, Progress};

use super::Explore;
use crate::output::{COLUMNS, columns};

/// Sequence that erases the line.
const ERASE: &str = "\r\x1b[K";

/// A line on standard error, when that is a terminal.
pub(super) struct ProgressLine(bool);

/// `engine` with a line on standard error, when that is a terminal, unless `--quiet` or `--json` is given.
pub(super) fn with_progress(engine: Engine, args: &Explore) -> (Engine, ProgressLine) {
    let on = !args.quiet && !args.json && io::stderr().is_terminal();
    if !on {
        return (engine, ProgressLine(false));
    }
    (
        engine
            .progress(|progress| write(&mut io::stderr().lock(), progress, columns(&io::stderr()).unwrap_or(COLUMNS))),
        ProgressLine(true),
    )
}

impl ProgressLine {
    /// Erases the line.
    pub(super) fn erase(self) {
        if self.0 {
            // A terminal that is gone shows nothing.
            let _ = write!(io::stderr(), "{ERASE}");
        }
    }
}

/// Unused columns at the end: for the `^C` that a terminal shows where the cursor is, and the last one.
const FREE: usize = 3;

/// One line that a terminal of `width` columns does not wrap, because a wrapped one cannot be taken away. In one piece, so
/// that the line is never seen empty.
fn write(out: &mut impl Write, progress: &Progress, width: usize) {
    let line = progress.to_string().chars().take(width.saturating_sub(FREE)).collect::<String>();
    // A line of progress is not worth ending the exploration for.
    let _ = out.write_all(format!("{ERASE}{line}").as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_line_fits_the_terminal_and_is_replaced_by_the_next() {
        let progress = Progress {
            paths: 1000,
            states: 70,
            elapsed: Duration::from_secs(2),
            done: 0.25,
            remaining: Some(Duration::from_secs(6)),
            sampling: false,
        };
        let mut out = Vec::new();
        write(&mut out, &progress, 200);
        write(&mut out, &progress, 14);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.split(ERASE).collect();
        assert_eq!(lines, ["", "1000 paths, 70 states, 500 paths/s, 25.0 % done, about 7 s left", "1000 paths,"]);
    }
}
