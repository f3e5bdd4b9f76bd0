//! Text output: headings, aligned columns, and colours where the terminal shows them.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::failure::{Failure, Result};

/// Style of headings.
pub const HEADING: Style = Style::new().bold();
/// Style of device names.
pub const NAME: Style = AnsiColor::Cyan.on_default();
/// Style of success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Style of what waits or was refused.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// Style of errors.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Style of less important text.
pub const DIM: Style = Style::new().dimmed();
/// Style without colour.
pub const PLAIN: Style = Style::new();

/// Use of colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// True when text on `stream` is to be coloured.
    pub fn on(self, stream: &(impl IsTerminal + anstream::stream::RawStream)) -> bool {
        match self {
            Self::Auto => AutoStream::choice(stream) != ColorChoice::Never,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Writer of readable output.
pub struct Output<'a> {
    out: Box<dyn Write + 'a>,
    color: bool,
    quiet: bool,
    what: String,
}

impl Output<'static> {
    /// Standard output.
    pub fn stdout(color: Color) -> Self {
        let stdout = io::stdout();
        let color = color.on(&stdout);
        Self::new(BufWriter::with_capacity(1 << 16, stdout), color)
    }
}

impl<'a> Output<'a> {
    /// An output on `out`.
    pub fn new(out: impl Write + 'a, color: bool) -> Self {
        Self { out: Box::new(out), color, quiet: false, what: "standard output".into() }
    }

    /// The same output, which writes only the lines of [`always`](Self::always).
    #[must_use]
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// `text` in `style`, where colours are seen.
    pub fn paint(&self, style: Style, text: impl Display) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_string() }
    }

    /// `text` in `style`, filled up to `width` columns.
    pub fn column(&self, style: Style, text: impl Display, width: usize) -> String {
        let text = text.to_string();
        let fill = width.saturating_sub(text.chars().count());
        format!("{}{:fill$}", self.paint(style, text), "")
    }

    /// One line.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        if self.quiet { Ok(()) } else { self.always(text) }
    }

    /// One line that `--quiet` does not hide.
    pub fn always(&mut self, text: impl Display) -> Result<()> {
        let text = sanitize(&text.to_string(), self.color);
        self.raw(text.trim_end().as_bytes())?;
        self.raw(b"\n")
    }

    /// A heading, with an empty line before it.
    pub fn heading(&mut self, number: usize, title: &str) -> Result<()> {
        let text = self.paint(HEADING, format_args!("{number}  {title}"));
        self.line("")?;
        self.line(text)
    }

    /// A line `label   text`, indented.
    pub fn row(&mut self, label: &str, text: impl Display) -> Result<()> {
        let label = self.column(DIM, label, 12);
        self.line(format_args!("   {label} {text}"))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| self.failed(e))
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|e| self.failed(e))
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::Write { what: self.what.clone(), error }
    }
}

/// Replaces every control character of `text`, except the colour sequences of an output that has colours: names come from
/// device trees and scripts, and a terminal obeys what it is sent.
fn sanitize(text: &str, color: bool) -> String {
    let mut rest = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && color {
            let after = rest.as_str();
            let end = after.find(|c: char| c != '[' && c != ';' && !c.is_ascii_digit());
            if let Some(end) = end.filter(|end| after[*end..].starts_with('m')) {
                out.push(c);
                out.push_str(&after[..=end]);
                rest = after[end + 1..].chars();
                continue;
            }
        }
        out.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    out
}

/// `1 device`, `2 devices`.
pub fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_set_the_title() {
        let evil = "a\u{1b}]0;title\u{7}\u{1b}[2Jb\n\u{1b}[31mred";
        assert!(!sanitize(evil, false).contains('\u{1b}'));
        assert_eq!(sanitize(evil, true), "a\u{fffd}]0;title\u{fffd}\u{fffd}[2Jb\u{fffd}\u{1b}[31mred");
    }

    #[test]
    fn columns_are_as_wide_with_colours_as_without() {
        let plain = Output::new(Vec::new(), false);
        let coloured = Output::new(Vec::new(), true);
        assert_eq!(plain.column(NAME, "ab", 4), "ab  ");
        let text = coloured.column(NAME, "ab", 4);
        assert!(text.starts_with('\u{1b}') && text.ends_with("  "), "{text:?}");
    }
}
