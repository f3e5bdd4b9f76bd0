//! Text output: headings, aligned columns, and colours where the terminal shows them.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use terminal_size::{Width, terminal_size_of};
use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

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

/// Width of a terminal that does not say how wide it is.
pub const COLUMNS: usize = 80;
/// First column of the text of a [row](Output::row).
pub const ROW: usize = 16;

/// Writer of readable output.
///
/// On a terminal, lines are wrapped at its width. Elsewhere each stays one line, however long, so that a program that reads
/// them has one fact a line. When the reader leaves, what is left is dropped: the exit code still says what was found.
pub struct Output<'a> {
    out: Box<dyn Write + 'a>,
    color: bool,
    quiet: bool,
    columns: Option<usize>,
    /// The reader has left.
    left: bool,
}

impl Output<'static> {
    /// Standard output.
    pub fn stdout(color: Color) -> Self {
        let stdout = io::stdout();
        let (color, columns) = (color.on(&stdout), columns(&stdout));
        Self { columns, ..Self::new(BufWriter::with_capacity(1 << 16, stdout), color) }
    }
}

/// Width of the terminal behind `stream`; `None` when it is something else.
pub fn columns(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    let size = || terminal_size_of(stream).map_or(0, |(Width(columns), _)| usize::from(columns));
    stream.is_terminal().then(|| if size() == 0 { COLUMNS } else { size() })
}

impl<'a> Output<'a> {
    /// An output on `out`, which wraps no lines.
    pub fn new(out: impl Write + 'a, color: bool) -> Self {
        Self { out: Box::new(out), color, quiet: false, columns: None, left: false }
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

    /// One line. Where it is wrapped, it goes on below its first word, two columns to the right.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        if self.quiet { Ok(()) } else { self.always(text) }
    }

    /// One line that goes on in column `column` where it is wrapped.
    pub fn hang(&mut self, column: usize, text: impl Display) -> Result<()> {
        self.below(&" ".repeat(column), text)
    }

    /// One line that goes on behind `start` where it is wrapped.
    pub fn below(&mut self, start: &str, text: impl Display) -> Result<()> {
        if self.quiet { Ok(()) } else { self.wrapped(start, &text.to_string()) }
    }

    /// One line that `--quiet` does not hide.
    pub fn always(&mut self, text: impl Display) -> Result<()> {
        let text = text.to_string();
        let indent = text.len() - text.trim_start_matches(' ').len();
        self.wrapped(&" ".repeat(indent + 2), &text)
    }

    /// One line that is never hidden and never wrapped: a command to be pasted.
    pub fn whole(&mut self, text: impl Display) -> Result<()> {
        let text = sanitize(&text.to_string(), self.color);
        self.raw(text.trim_end().as_bytes())?;
        self.raw(b"\n")
    }

    fn wrapped(&mut self, start: &str, text: &str) -> Result<()> {
        let Some(columns) = self.columns.filter(|columns| display_width(text) > *columns) else {
            return self.whole(text);
        };
        let text = sanitize(text, self.color);
        // What is wrapped has at least a third of the width.
        let start: String = start.chars().take(columns * 2 / 3).collect();
        let options = Options::new(columns)
            .subsequent_indent(&start)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        textwrap::wrap(text.trim_end(), options).into_iter().try_for_each(|line| {
            self.raw(line.trim_end().as_bytes())?;
            self.raw(b"\n")
        })
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
        self.hang(ROW, format_args!("   {label} {text}"))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.attempt(|out| out.write_all(bytes))
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        self.attempt(Write::flush)
    }

    fn attempt(&mut self, write: impl FnOnce(&mut (dyn Write + 'a)) -> io::Result<()>) -> Result<()> {
        if self.left {
            return Ok(());
        }
        match write(&mut *self.out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.left = true,
            Err(error) => return Err(Failure::stdout(error)),
            Ok(()) => {}
        }
        Ok(())
    }
}

/// Replaces every control character of `text`, except tabs and the colour sequences of an output that has colours: names come from
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
        out.push(if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
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

    fn wrapped(columns: usize, start: &str, text: &str, color: bool) -> Vec<String> {
        let mut bytes = Vec::new();
        let mut output = Output { columns: Some(columns), ..Output::new(&mut bytes, color) };
        output.below(start, text).unwrap();
        drop(output);
        String::from_utf8(bytes).unwrap().lines().map(String::from).collect()
    }

    #[test]
    fn a_line_is_wrapped_at_the_width_and_goes_on_in_its_column() {
        assert_eq!(wrapped(20, "      ", "ab    one two three four", false), ["ab    one two three", "      four"]);
        assert_eq!(wrapped(24, "      ", "ab    one two three four", false), ["ab    one two three four"]);
        assert_eq!(wrapped(12, "|  ", "aa bb cc dd ee ff gg", false), ["aa bb cc dd", "|  ee ff gg"]);
        let long = wrapped(10, "", &"x".repeat(25), false);
        assert!(long.iter().all(|line| line.len() <= 10) && long.concat() == "x".repeat(25), "{long:?}");
        // A narrow terminal keeps a third of its width for the text.
        let narrow = wrapped(10, &" ".repeat(40), "aaaa bbbb cccc", false);
        assert_eq!(narrow, ["aaaa bbbb", "      cccc"]);
    }

    #[test]
    fn colours_take_no_width() {
        let text = format!("{NAME}abc{NAME:#} {GOOD}def{GOOD:#}");
        assert_eq!(wrapped(7, "", &text, true).len(), 1);
        assert_eq!(wrapped(6, "", &text, true).len(), 2);
    }

    #[test]
    fn a_reader_that_left_is_no_failure_and_a_full_disk_is_one() {
        struct Refuses(io::ErrorKind);
        impl Write for Refuses {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gone = Output::new(Refuses(io::ErrorKind::BrokenPipe), false);
        assert!(gone.line("a").is_ok() && gone.always("b").is_ok() && gone.flush().is_ok());
        assert!(Output::new(Refuses(io::ErrorKind::StorageFull), false).line("a").is_err());
    }

    #[test]
    fn a_name_cannot_move_the_cursor_or_set_the_title() {
        let evil = "a\u{1b}]0;title\u{7}\u{1b}[2Jb\n\u{1b}[31mred";
        assert!(!sanitize(evil, false).contains('\u{1b}'));
        assert_eq!(sanitize("a\tb\r", false), "a\tb\u{fffd}");
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
