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
    use bindery::addr::DeviceAddr;
    use bindery::event::Event;

    use super::*;
    use crate::record::kinds;

    const ADDRS: [u64; 2] = [0xffff_0000, 0xfffe_0000];

    /// A machine, a device of it, and an address.
    type Memory = (&'static str, &'static str, u64);

    /// The trace of these events: memory that is mapped or not any more.
    fn written(name: &str, events: &[(Memory, bool)]) -> Vec<Value> {
        let path = std::env::temp_dir().join(format!("bindery-trace-{name}-{}.json", std::process::id()));
        let mut trace = TraceFile::create(&path).unwrap();
        for ((machine, device, at), mapped) in events {
            let of_kind = |kind: &EventKind| match kind {
                EventKind::DmaMapped { .. } => *mapped,
                EventKind::DmaUnmapped { .. } => !mapped,
                _ => false,
            };
            let mut kind = kinds::samples().into_iter().find(of_kind).unwrap();
            if let EventKind::DmaMapped { addr, .. } | EventKind::DmaUnmapped { addr, .. } = &mut kind {
                *addr = DeviceAddr(*at);
            }
            let event = Event { seq: 1, at: Instant(5), device: Some((*device).into()), kind };
            trace.add(&LogEntry { step: "io".into(), machine, event }).unwrap();
        }
        trace.finish().unwrap();
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        json["traceEvents"].as_array().unwrap().clone()
    }

    /// Viewers take an `id` for that of the whole trace.
    #[test]
    fn memory_of_each_device_of_each_machine_is_a_span_of_its_own() {
        let all: Vec<Memory> = ["host", "guest"]
            .into_iter()
            .flat_map(|machine| ["a", "b"].map(|device| ADDRS.map(|addr| (machine, device, addr))))
            .flatten()
            .collect();
        for held in 0..1_usize << all.len() {
            let some: Vec<_> = all.iter().enumerate().filter(|(at, _)| held >> at & 1 != 0).map(|(_, m)| *m).collect();
            // Each goes after all have come, before the next one comes, or stays to the end of the trace.
            let (come, go): (Vec<_>, Vec<_>) = some.iter().map(|memory| ((*memory, true), (*memory, false))).unzip();
            let together = [&come[..], &go[..]].concat();
            let apart: Vec<_> = come.iter().zip(&go).flat_map(|(come, go)| [*come, *go]).collect();
            for events in [together, apart, come] {
                let lines = written("spans", &events);
                let of = |ph: &str| -> Vec<_> {
                    let all = lines.iter().filter(|line| line["ph"] == ph);
                    let mut all: Vec<_> =
                        all.map(|line| [&line["id"], &line["pid"], &line["tid"]].map(Value::to_string)).collect();
                    all.sort();
                    all
                };
                let (begun, mut ids) = (of("b"), of("b"));
                ids.dedup_by(|a, b| a[0] == b[0]);
                assert_eq!((ids.len(), begun.len(), of("i").len()), (some.len(), some.len(), 0), "{events:?}");
                assert_eq!(begun, of("e"), "{events:?}");
            }
        }
    }
}
