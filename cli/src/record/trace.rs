//! The trace file: the JSON that Perfetto and Chrome's tracing page read ("Trace Event Format").
//!
//! Probes and unbinds are slices (`B`, `E`) on one track per device, DMA memory is a span of its own (`b`, `e`), and
//! everything else an instant (`i`). Times are microseconds of the board's clock.

use std::path::Path;

use bindery::env::Instant;
use bindery::event::EventKind;
use serde_json::{Map, Value, json};

use super::LogEntry;
use super::new_file::NewFile;
use super::spans::{Spans, Track};
use crate::failure::Result;

/// A trace that is being written. It appears under its name with [`finish`](Self::finish); before, and when anything
/// fails, nothing is there.
pub struct TraceFile {
    out: NewFile,
    spans: Spans,
    last: f64,
    empty: bool,
}

impl TraceFile {
    /// Begins a trace for `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut trace = Self { out: NewFile::create(path)?, spans: Spans::default(), last: 0.0, empty: true };
        trace.out.write(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        Ok(trace)
    }

    /// Adds one event.
    pub fn add(&mut self, entry: &LogEntry) -> Result<()> {
        let mut lines = Vec::new();
        self.convert(entry, &mut lines);
        lines.iter().try_for_each(|line| self.entry(line))
    }

    /// Adds a line of a trace that has no event: an instant of the host, not before `earliest`, and not before anything
    /// that was added earlier.
    pub fn note(&mut self, line: &str, earliest: Instant) -> Result<()> {
        self.last = self.last.max(microseconds(earliest));
        let mut lines = Vec::new();
        let (pid, tid) = self.spans.track("host", None, &mut lines);
        lines.push(json!({"ph": "i", "s": "t", "name": line, "pid": pid, "tid": tid, "ts": self.last, "args": {}}));
        lines.iter().try_for_each(|line| self.entry(line))
    }

    /// Ends what is still open, and puts the file under its name.
    pub fn finish(mut self) -> Result<()> {
        let ts = self.last;
        for (track, name, memory) in self.spans.close() {
            let (pid, tid) = track;
            let end = match memory {
                Some(addr) => {
                    json!({"ph": "e", "cat": "dma", "id": id(track, addr), "name": name, "pid": pid, "tid": tid,
                    "ts": ts, "args": {"open at the end": true}})
                }
                None => json!({"ph": "E", "name": name, "pid": pid, "tid": tid, "ts": ts}),
            };
            self.entry(&end)?;
        }
        self.out.write(b"\n]}\n")?;
        self.out.finish()
    }

    fn convert(&mut self, entry: &LogEntry, lines: &mut Vec<Value>) {
        let LogEntry { step, machine, event } = entry;
        let track = self.spans.track(machine, event.device.as_ref(), lines);
        let (pid, tid) = track;
        let ts = microseconds(event.at);
        self.last = self.last.max(ts);
        let line = match &event.kind {
            EventKind::Bind { driver } if self.spans.begin(track, &format!("probe {driver}")) => {
                json!({"ph": "B", "name": format!("probe {driver}")})
            }
            EventKind::Unbind { driver, .. } if self.spans.begin(track, &format!("unbind {driver}")) => {
                json!({"ph": "B", "name": format!("unbind {driver}")})
            }
            EventKind::Bound { .. } | EventKind::NotBound { .. } | EventKind::Unbound { .. } => {
                match self.spans.end(track) {
                    Some(name) => json!({"ph": "E", "name": name}),
                    None => instant(),
                }
            }
            EventKind::DmaMapped { kind, addr, .. } if self.spans.map(track, addr.0, kind) => {
                json!({"ph": "b", "cat": "dma", "id": id(track, addr.0), "name": kind})
            }
            EventKind::DmaUnmapped { addr, .. } => match self.spans.unmap(track, addr.0) {
                Some(name) => json!({"ph": "e", "cat": "dma", "id": id(track, addr.0), "name": name}),
                None => instant(),
            },
            _ => instant(),
        };
        let Value::Object(mut line) = line else { return };
        let mut args = match serde_json::to_value(&event.kind) {
            Ok(Value::Object(args)) => args,
            _ => Map::new(),
        };
        let name = args.remove("event").unwrap_or_else(|| "event".into());
        line.entry("name").or_insert(name);
        args.insert("step".into(), (&**step).into());
        line.extend(
            [("pid", pid.into()), ("tid", tid.into()), ("ts", ts.into())].map(|(k, v): (_, Value)| (k.into(), v)),
        );
        line.insert("args".into(), Value::Object(args));
        lines.push(Value::Object(line));
    }

    fn entry(&mut self, value: &Value) -> Result<()> {
        let comma: &[u8] = if std::mem::replace(&mut self.empty, false) { b"\n" } else { b",\n" };
        self.out.write(comma)?;
        self.out.write(value.to_string().as_bytes())
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for the first 104 days of board time")]
fn microseconds(at: Instant) -> f64 {
    at.0 as f64 / 1000.0
}

fn instant() -> Value {
    json!({"ph": "i", "s": "t"})
}

/// Identity of a mapping in the whole trace: its machine, device and address.
fn id((pid, tid): Track, addr: u64) -> String {
    format!("{pid}:{tid}:{addr:#x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bindery::event::Event;

    use super::*;
    use crate::record::kinds;

    /// Viewers take an `id` for that of the whole trace.
    #[test]
    fn one_address_of_devices_of_two_machines_is_two_spans() {
        let path = std::env::temp_dir().join(format!("bindery-trace-ids-{}.json", std::process::id()));
        let mut trace = TraceFile::create(&path).unwrap();
        let mapped = kinds::samples().into_iter().find(|kind| matches!(kind, EventKind::DmaMapped { .. })).unwrap();
        for machine in ["host", "guest"] {
            let event = Event { seq: 1, at: Instant(5), device: Some("a".into()), kind: mapped.clone() };
            trace.add(&LogEntry { step: "io".into(), machine, event }).unwrap();
        }
        trace.finish().unwrap();
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let of = |ph: &str| {
            let all = json["traceEvents"].as_array().unwrap().iter().filter(|line| line["ph"] == ph);
            all.map(|line| line["id"].to_string()).collect::<BTreeSet<_>>()
        };
        assert_eq!((of("b").len(), of("b")), (2, of("e")));
    }
}
