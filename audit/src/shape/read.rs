//! A file's physical lines on their way to its records.

use std::io::{self, BufRead};

use super::ftrace::parse_trace;
use super::record::{Record, Sink};
use super::records::Records;
use super::stamp::Place;
use crate::input::{Lines, Message, Unwrapped, clean, unquote};

impl Records {
    /// Reads all of `reader` into `sink`; `each` is called with lines and bytes read, every 4,096 lines.
    pub fn read(
        &mut self,
        reader: impl BufRead,
        sink: &mut impl Sink,
        each: &mut dyn FnMut(u64, u64),
    ) -> io::Result<()> {
        let mut lines = Lines::new(reader);
        let mut scratch = String::new();
        let mut decoded = Vec::new();
        loop {
            let read = lines.bytes_read();
            let Some(line) = lines.next_line()? else { break };
            if line.number % 4096 == 0 {
                each(line.number, read);
            }
            self.counts.lines += 1;
            self.counts.cut += u64::from(line.cut);
            let (mut number, mut bytes) = (line.number, line.bytes);
            let mail = self.unwrap.mail();
            if mail.is_quoted(bytes) {
                let Some(first) = mail.decode(number, bytes, &mut decoded) else {
                    self.counts.continued += 1;
                    continue;
                };
                (number, bytes) = (first, &decoded);
            }
            let whole = clean(bytes, &mut scratch);
            let (text, quote) = unquote(whole);
            let text = if line.ended { text } else { without_cut_value(text) };
            if let Some(message) = self.unwrap.before(text) {
                self.unwrapped(&message, sink);
            }
            match self.unwrap.line(number, text) {
                Unwrapped::Same => {
                    let place = Place { file: self.file, line: number };
                    if memchr::memchr(b'&', text.as_bytes()).is_some_and(|at| has_entity(&text[at..])) {
                        let text = without_entities(text);
                        self.line(place, &text, quote, whole.len(), sink);
                    } else {
                        self.line(place, text, quote, whole.len(), sink);
                    }
                }
                Unwrapped::Damaged => self.counts.damaged += 1,
                Unwrapped::Part => self.counts.continued += 1,
                Unwrapped::Message(message) => self.unwrapped(&message, sink),
            }
        }
        if let Some(message) = self.unwrap.end() {
            self.unwrapped(&message, sink);
        }
        self.finish(sink);
        Ok(())
    }

    /// A message that a tool had wrapped.
    fn unwrapped(&mut self, message: &Message, sink: &mut impl Sink) {
        let place = Place { file: self.file, line: message.line };
        let mut scratch = String::new();
        for line in message.text.lines() {
            let text = clean(line.as_bytes(), &mut scratch);
            if message.kernel {
                self.line(place, text, 0, text.len(), sink);
            } else {
                self.flush(sink);
                self.counts.foreign += 1;
                sink.record(place, &Record::Foreign { text, host: message.host.as_deref() });
            }
        }
    }
}

fn has_entity(text: &str) -> bool {
    ["&lt;", "&quot;", "&amp;", "&#39;"].iter().any(|entity| text.contains(entity))
}

/// `text` of a web page without its escapes.
fn without_entities(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    text.replace("&amp;", "&")
}

/// `text` of a file's last line, which has no line feed, without a last number of which digits may be missing.
fn without_cut_value(text: &str) -> &str {
    let last = text.rsplit(' ').next().unwrap_or("");
    let whole = |(key, value): (&str, &str)| key == "attrs" || value.ends_with(['}', '"']);
    let cut = last.split_once('=').is_some_and(|field| !whole(field)) && parse_trace(text).is_some();
    if cut { text[..text.len() - last.len()].trim_end() } else { text }
}
