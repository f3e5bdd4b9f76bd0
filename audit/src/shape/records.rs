//! Records: what the kernel said at once, though a mail wrapped it or another message cut it in two.

use std::sync::Arc;

use super::comment::{comment, is_prompt, kmsg_key, of_test};
use super::flat::pieces;
use super::ftrace::{TraceLine, lost, parse_dump, parse_trace};
use super::klog::{LogLine, parse_log};
use super::lost::{dropped, dropped_message, repeated, repeated_last};
use super::record::{Counts, Record, Sink};
use super::stamp::{Place, Stamp};
use super::wrap::{embedded, flattened, is_fragment, is_middle, is_source};
use crate::input::Unwrap;

/// Longest record, in bytes; more of a wrapped one is dropped.
const MAX_RECORD: usize = 64 << 10;
/// Length of a line without a prefix from which it is taken for a whole log that lost its line feeds.
const FLAT: usize = 600;
/// Least length of a line without a prefix that somebody may have wrapped.
const LEAST_WRAP: usize = 50;
/// Longest text of a prompt and what was typed at it.
const LONGEST_PROMPT: usize = 80;
/// Columns at which a mail is taken to wrap.
const WRAP: usize = 66;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Trace(TraceLine),
    Log(Option<Stamp>),
}

#[derive(Debug)]
struct Pending {
    place: Place,
    kind: Kind,
    text: String,
    quote: u8,
    /// Columns of the last physical line.
    width: usize,
    damaged: bool,
    host: Option<Arc<str>>,
    device: Option<Box<str>>,
    times: u64,
}

/// Makes records of the lines of one file.
#[derive(Debug)]
pub struct Records {
    pub(super) file: u32,
    pub(super) counts: Counts,
    pub(super) unwrap: Unwrap,
    pending: Option<Pending>,
    /// The first half of a message that another one cut in two.
    half: Option<Pending>,
    /// A message without a prefix that was understood, and may go on in the next line.
    plain: Option<(Place, String)>,
    spare: String,
    /// The machine that the last prefix with one named.
    host: Option<Arc<str>>,
}

impl Records {
    /// Records of file number `file`.
    pub fn new(file: u32) -> Self {
        Self {
            file,
            counts: Counts::default(),
            unwrap: Unwrap::default(),
            pending: None,
            half: None,
            plain: None,
            spare: String::new(),
            host: None,
        }
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Gives what is still held back to `sink`.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        self.drop_half(sink);
        self.flush_plain(sink);
        self.flush(sink);
    }

    fn flush_plain(&mut self, sink: &mut impl Sink) {
        if let Some((place, text)) = self.plain.take() {
            sink.record(place, &Record::Plain(&text));
        }
    }

    pub(super) fn line(&mut self, place: Place, text: &str, quote: u8, width: usize, sink: &mut impl Sink) {
        if let Some((begun, held)) = &mut self.plain {
            // Somebody wrapped it: it was long, and what follows begins like the middle of a sentence.
            if place.line == begun.line + 1 && held.len() >= LEAST_WRAP && is_middle(text) && !sink.knows(text) {
                held.push(' ');
                held.push_str(text.trim());
                self.counts.continued += 1;
                return self.flush_plain(sink);
            }
            self.flush_plain(sink);
        }
        let mut text = text;
        if let Some((count, rest)) = dropped(text) {
            self.flush(sink);
            sink.record(place, &Record::Dropped(count));
            if rest.is_empty() {
                self.counts.log += 1;
                return;
            }
            text = rest;
        }
        if text.trim_start().starts_with('#')
            && let Some(said) = of_test(text)
        {
            text = said;
        }
        if let Some(line) = parse_trace(text).or_else(|| parse_dump(text)) {
            self.counts.trace += 1;
            return self.start(place, Kind::Trace(line), None, text, (quote, width), sink);
        }
        if let Some(log) = parse_log(text) {
            return self.log(place, log, text, quote, width, sink);
        }
        let bare = text.trim();
        if bare.is_empty() {
            self.drop_half(sink);
            return self.flush(sink);
        }
        if let Some(stack) = bare.strip_prefix("=> ") {
            self.flush(sink);
            self.counts.trace += 1;
            sink.record(place, &Record::Stack(stack.trim()));
            return;
        }
        if let Some((cpu, count)) = lost(bare) {
            self.flush(sink);
            sink.record(place, &Record::Lost { cpu, count });
            return;
        }
        if let Some((key, value)) = kmsg_key(text) {
            self.counts.continued += 1;
            self.key(key, value);
            return;
        }
        if let Some(half) = &mut self.half
            && half.quote == quote
        {
            // The rest of a word that another message cut: nothing stood between the two.
            half.text.push_str(text);
            self.counts.continued += 1;
            if let Some(half) = self.half.take() {
                give(&half, sink);
            }
            return;
        }
        if let Some(times) = repeated_last(bare)
            && let Some(pending) = self.pending.take()
        {
            self.counts.foreign += 1;
            give(&pending, sink);
            if pending.place.line + 1 == place.line {
                give(&Pending { place, times, ..pending }, sink);
            }
            return;
        }
        if is_prompt(bare) {
            self.flush(sink);
            self.counts.foreign += 1;
            sink.record(place, &Record::Foreign { text: bare, host: None });
            return;
        }
        if let Some(record) = comment(bare) {
            self.flush(sink);
            if let Some(record) = record {
                sink.record(place, &record);
            }
            return;
        }
        if let Some(pending) = &mut self.pending
            && continues(pending, text, quote)
        {
            self.counts.continued += 1;
            if pending.text.len() + text.len() < MAX_RECORD {
                if !pending.text.ends_with(' ') {
                    pending.text.push(' ');
                }
                pending.text.push_str(bare);
            }
            pending.width = width;
            return;
        }
        self.flush(sink);
        self.bare(place, text, quote, width, sink);
    }

    /// A line without a prefix that continues nothing.
    fn bare(&mut self, place: Place, text: &str, quote: u8, width: usize, sink: &mut impl Sink) {
        let first = embedded(text);
        if let Some(places) = first.and_then(|first| flattened(text, first)) {
            self.counts.log += 1;
            sink.record(place, &Record::Plain(text[..places[0]].trim()));
            return self.flat(place, text, &places, quote, sink);
        }
        // A prompt, or what was typed at it, with a message of the console behind it.
        if let Some(at) = first.filter(|at| *at < LONGEST_PROMPT)
            && let Some(log) = parse_log(&text[at..])
        {
            sink.record(place, &Record::Foreign { text: text[..at].trim(), host: None });
            return self.log(place, log, &text[at..], quote, width, sink);
        }
        if is_source(text.trim_end()) {
            self.counts.other += 1;
            return;
        }
        if text.len() <= FLAT && sink.knows(text) {
            self.counts.log += 1;
            self.plain = Some((place, text.to_owned()));
            return;
        }
        let mut known = sink.record(place, &Record::Plain(text));
        if !known && text.len() > FLAT {
            for piece in pieces(text) {
                known |= sink.record(place, &Record::Plain(piece));
            }
        }
        if known {
            self.counts.log += 1;
        } else {
            self.counts.other += 1;
        }
    }

    /// A key of the kmsg record before.
    fn key(&mut self, key: &str, value: &str) {
        if key == "DEVICE"
            && let Some((_, name)) = value.strip_prefix('+').and_then(|rest| rest.split_once(':'))
            && let Some(pending) = &mut self.pending
        {
            pending.device = Some(name.trim().into());
        }
    }

    fn log(&mut self, place: Place, log: LogLine, text: &str, quote: u8, width: usize, sink: &mut impl Sink) {
        let host = log.host.map(|(from, to)| &text[from..to]);
        if !log.kernel {
            self.flush(sink);
            self.counts.foreign += 1;
            let text = &text[log.body..];
            let record = dropped_message(text).map_or(Record::Foreign { text, host }, Record::Dropped);
            sink.record(place, &record);
            return;
        }
        let host = host.map(|name| match &self.host {
            Some(known) if **known == *name => known.clone(),
            _ => self.host.insert(name.into()).clone(),
        });
        self.counts.log += 1;
        let mut body = &text[log.body..];
        if is_fragment(&text[..log.body])
            && let Some(Pending { kind: Kind::Log(stamp), text: begun, .. }) = &mut self.pending
            && *stamp == log.stamp
        {
            self.counts.continued += 1;
            if begun.len() + body.len() < MAX_RECORD {
                begun.push_str(body);
            }
            return;
        }
        let mut times = 1;
        if let Some((count, message)) = repeated(body) {
            (times, body) = (count, message);
        }
        if let Some(count) = body.ends_with(['.', 's', '*']).then(|| dropped_message(body)).flatten() {
            self.flush(sink);
            sink.record(place, &Record::Dropped(count));
            return;
        }
        // The ring buffer, dumped to the console.
        if let Some(line) = parse_dump(body) {
            self.counts.log -= 1;
            self.counts.trace += 1;
            return self.start(place, Kind::Trace(line), None, body, (quote, width), sink);
        }
        if let Some((cpu, count)) = lost(body) {
            self.flush(sink);
            sink.record(place, &Record::Lost { cpu, count });
            return;
        }
        let first = embedded(body);
        if let Some(places) = first.and_then(|first| flattened(body, first)) {
            self.start(place, Kind::Log(log.stamp), host, &body[..places[0]], (quote, width), sink);
            return self.flat(place, body, &places, quote, sink);
        }
        if let Some(at) = first
            && let Some(inner) = parse_log(&body[at..])
        {
            // A console that two CPUs wrote to: the message up to here has its rest on a later line.
            self.start(place, Kind::Log(log.stamp), host.clone(), &body[..at], (quote, width), sink);
            self.drop_half(sink);
            self.half = self.pending.take();
            self.start(place, Kind::Log(inner.stamp), host, &body[at + inner.body..], (quote, width), sink);
            return;
        }
        // A half whose rest did not come with the next line without a prefix keeps waiting for a few lines only.
        if self.half.as_ref().is_some_and(|half| place.line > half.place.line + 4) {
            self.drop_half(sink);
        }
        self.start(place, Kind::Log(log.stamp), host, body, (quote, width), sink);
        if let Some(pending) = &mut self.pending {
            pending.times = times;
        }
    }

    /// A whole log in one line, which keeps the times of its messages; one begins at each of `places`.
    fn flat(&mut self, place: Place, text: &str, places: &[usize], quote: u8, sink: &mut impl Sink) {
        let ends = places[1..].iter().copied().chain([text.len()]);
        for (from, to) in places.iter().zip(ends) {
            let piece = text[*from..to].trim_end();
            if let Some(log) = parse_log(piece) {
                self.start(place, Kind::Log(log.stamp), None, &piece[log.body..], (quote, piece.len()), sink);
            }
        }
    }

    fn start(
        &mut self,
        place: Place,
        kind: Kind,
        host: Option<Arc<str>>,
        text: &str,
        (quote, width): (u8, usize),
        sink: &mut impl Sink,
    ) {
        self.flush(sink);
        let mut held = std::mem::take(&mut self.spare);
        held.clear();
        held.push_str(text);
        self.pending =
            Some(Pending { place, kind, text: held, quote, width, damaged: false, host, device: None, times: 1 });
    }

    pub(super) fn flush(&mut self, sink: &mut impl Sink) {
        if let Some(pending) = self.pending.take() {
            give(&pending, sink);
            self.spare = pending.text;
        }
    }

    fn drop_half(&mut self, sink: &mut impl Sink) {
        if let Some(mut half) = self.half.take() {
            half.damaged = true;
            self.counts.damaged += 1;
            give(&half, sink);
        }
    }
}

fn give(pending: &Pending, sink: &mut impl Sink) {
    let record = match pending.kind {
        Kind::Trace(line) => Record::Trace { line, text: &pending.text },
        Kind::Log(stamp) => Record::Log {
            stamp,
            text: &pending.text,
            damaged: pending.damaged,
            host: pending.host.as_deref(),
            device: pending.device.as_deref(),
            times: pending.times,
        },
    };
    sink.record(pending.place, &record);
}

/// True when `text`, which has no prefix, belongs to the record before it.
fn continues(pending: &Pending, text: &str, quote: u8) -> bool {
    if pending.quote != quote {
        return false;
    }
    let indent = text.len() - text.trim_start().len();
    let first = text.split_whitespace().next().unwrap_or("");
    // Quoted text is wrapped by the mail that quotes it; the kernel indents the further lines of one message; and a line
    // that was full when the next word came was wrapped by somebody.
    quote > 0 || indent >= 8 || pending.width + first.len() >= WRAP.max(pending.width.min(100)) && pending.width >= 50
}
