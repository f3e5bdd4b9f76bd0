//! The trace file: the JSON that Perfetto and Chrome's tracing page read ("Trace Event Format").
//!
//! Probes and unbinds are slices (`B`, `E`) on one track per device, DMA memory is a span of its own (`b`, `e`), and
//! everything else an instant (`i`). Times are microseconds of the board's clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bindery::event::EventKind;
use serde_json::{Map, Value, json};

use super::Recorded;
use super::spans::Spans;
use crate::failure::{Failure, Result};

/// A trace that is being written. It appears under its name with [`finish`](Self::finish); before, and when anything
/// fails, nothing is there.
pub struct TraceFile {
    out: BufWriter<File>,
    path: PathBuf,
    /// Where the bytes go until then. `None` when the user names something that is not a file, such as a pipe.
    temporary: Option<Temporary>,
    spans: Spans,
    last: f64,
    empty: bool,
}

impl TraceFile {
    /// Begins a trace for `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let failed = |error| Failure::Write { what: path.display().to_string(), error };
        // A link is followed, so that the file behind it is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let special = fs::metadata(&target).is_ok_and(|m| !m.is_file() && !m.is_dir());
        let (file, temporary) = if special {
            (OpenOptions::new().write(true).open(&target).map_err(failed)?, None)
        } else {
            if target.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            let (file, temporary) = Temporary::beside(&target).map_err(failed)?;
            (file, Some(temporary))
        };
        let mut trace = Self {
            out: BufWriter::new(file),
            path: path.into(),
            temporary,
            spans: Spans::default(),
            last: 0.0,
            empty: true,
        };
        trace.write(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        Ok(trace)
    }

    /// Adds one event.
    pub fn add(&mut self, recorded: &Recorded) -> Result<()> {
        let mut lines = Vec::new();
        self.convert(recorded, &mut lines);
        lines.iter().try_for_each(|line| self.entry(line))
    }

    /// Adds a line of a story that has no event: an instant, a microsecond after what came before.
    pub fn note(&mut self, line: &str) -> Result<()> {
        let mut lines = Vec::new();
        let (pid, tid) = self.spans.track("host", None, &mut lines);
        self.last += 1.0;
        lines.push(json!({"ph": "i", "s": "t", "name": line, "pid": pid, "tid": tid, "ts": self.last, "args": {}}));
        lines.iter().try_for_each(|line| self.entry(line))
    }

    /// Ends what is still open, and puts the file under its name.
    pub fn finish(mut self) -> Result<()> {
        let ts = self.last;
        for ((pid, tid), name, memory) in self.spans.close() {
            let end = match memory {
                Some(addr) => {
                    json!({"ph": "e", "cat": "dma", "id": id(tid, addr), "name": name, "pid": pid, "tid": tid,
                    "ts": ts, "args": {"open at the end": true}})
                }
                None => json!({"ph": "E", "name": name, "pid": pid, "tid": tid, "ts": ts}),
            };
            self.entry(&end)?;
        }
        self.write(b"\n]}\n")?;
        self.out.flush().map_err(|e| self.failed(e))?;
        match self.temporary.take() {
            Some(temporary) => temporary.rename().map_err(|e| self.failed(e)),
            None => Ok(()),
        }
    }

    fn convert(&mut self, recorded: &Recorded, lines: &mut Vec<Value>) {
        let Recorded { step, machine, event } = recorded;
        let track = self.spans.track(machine, event.device.as_ref(), lines);
        let (pid, tid) = track;
        #[expect(clippy::cast_precision_loss, reason = "exact for the first 104 days of board time")]
        let ts = event.at.0 as f64 / 1000.0;
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
                json!({"ph": "b", "cat": "dma", "id": id(tid, addr.0), "name": kind})
            }
            EventKind::DmaUnmapped { addr, .. } => match self.spans.unmap(track, addr.0) {
                Some(name) => json!({"ph": "e", "cat": "dma", "id": id(tid, addr.0), "name": name}),
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
        args.insert("step".into(), (*step).into());
        line.extend(
            [("pid", pid.into()), ("tid", tid.into()), ("ts", ts.into())].map(|(k, v): (_, Value)| (k.into(), v)),
        );
        line.insert("args".into(), Value::Object(args));
        lines.push(Value::Object(line));
    }

    fn entry(&mut self, value: &Value) -> Result<()> {
        let comma: &[u8] = if std::mem::replace(&mut self.empty, false) { b"\n" } else { b",\n" };
        self.write(comma)?;
        self.write(value.to_string().as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::Write { what: self.path.display().to_string(), error }
    }
}

fn instant() -> Value {
    json!({"ph": "i", "s": "t"})
}

/// Memory is told apart by its device and address.
fn id(tid: u64, addr: u64) -> String {
    format!("{tid}:{addr:#x}")
}

/// A file beside the one that is meant. Removed when it is dropped.
struct Temporary {
    path: PathBuf,
    target: PathBuf,
}

impl Temporary {
    fn beside(target: &Path) -> io::Result<(File, Self)> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let mut n = 0;
        loop {
            let path = target.with_file_name(format!(".{name}.{}-{n}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, Self { path, target: target.into() })),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => n += 1,
                Err(e) => return Err(e),
            }
        }
    }

    fn rename(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name; on the way out of an error nobody can be told.
        let _ = fs::remove_file(&self.path);
    }
}
