//! The line of progress on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Interval at which it is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// The line of progress of one file.
pub(super) struct Progress<'a> {
    name: &'a str,
    next: Option<Instant>,
    drawn: bool,
}

impl<'a> Progress<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + EVERY);
        Self { name, next, drawn: false }
    }

    pub(super) fn draw(&mut self, lines: u64, bytes: u64) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + EVERY);
            self.drawn = true;
            let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
            // A line of progress that cannot be drawn is not missed.
            let _ = write!(io::stderr(), "\r{name}: {lines} lines, {} MiB", bytes >> 20);
        }
    }

    pub(super) fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
