//! A record, and who takes it.

use super::ftrace::TraceLine;
use super::stamp::{Place, Stamp};

/// A record.
#[derive(Debug)]
pub enum Record<'a> {
    /// An event of a trace.
    Trace {
        /// Head.
        line: TraceLine,
        /// Whole text.
        text: &'a str,
    },
    /// A message of the kernel.
    Log {
        /// Time.
        stamp: Option<Stamp>,
        /// Message.
        text: &'a str,
        /// True when another message cut it and its rest is missing.
        damaged: bool,
        /// The machine, where the prefix names it.
        host: Option<&'a str>,
        /// The device, where the record's keys name it.
        device: Option<&'a str>,
        /// How often it was said; more than once where a log's daemon folded what repeats.
        times: u64,
    },
    /// A line that another program wrote, or that was typed: never evidence, at most a hint.
    Foreign {
        /// Its text.
        text: &'a str,
        /// The machine, where the prefix names it.
        host: Option<&'a str>,
    },
    /// A trace begins.
    Begin,
    /// A file of the recorder's begins.
    Recorder,
    /// A device of the listing of sysfs that a recorder saved.
    Listed(&'a str),
    /// A function of the stack of the event before.
    Stack(&'a str),
    /// The header's counts of events that are held and that were written.
    Header(Header),
    /// Events that the ring buffer lost here.
    Lost {
        /// The CPU whose buffer it was.
        cpu: Option<u32>,
        /// Number of events.
        count: u64,
    },
    /// Events that were lost in this file, nobody knows where: a recorder's comment says so.
    Missed(u64),
    /// Messages of the kernel log that were dropped here.
    Dropped(u64),
    /// A line without a prefix: a message of a log that was pasted without one, or no log text at all.
    Plain(&'a str),
}

/// Counts of a trace's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Events in the buffer.
    pub held: u64,
    /// Events that were written to it.
    pub written: u64,
    /// CPUs.
    pub cpus: Option<u32>,
}

/// A reader of records.
pub trait Sink {
    /// Takes the record that begins at `place`. For a [`Record::Plain`], says whether it was understood.
    fn record(&mut self, place: Place, record: &Record<'_>) -> bool;

    /// Says whether `text`, which has no prefix, would be understood by itself.
    fn knows(&self, text: &str) -> bool;
}

/// Counts of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// All lines.
    pub lines: u64,
    /// Lines of a trace.
    pub trace: u64,
    /// Lines of a kernel log.
    pub log: u64,
    /// Lines that continue the one before.
    pub continued: u64,
    /// Lines of other programs.
    pub foreign: u64,
    /// Lines that are neither; blank lines and comments are not counted.
    pub other: u64,
    /// Lines that were longer than is read.
    pub cut: u64,
    /// Messages that another one cut, and whose rest is missing.
    pub damaged: u64,
}
