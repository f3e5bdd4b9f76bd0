//! What happened, kept for the length of a step: told in words, as JSON lines and as a trace file.

mod event_log;
mod ftrace;
mod json;
#[cfg(test)]
mod kinds;
mod new_file;
mod spans;
mod trace;

pub use event_log::{EventLog, LogEntry, Mapped};
pub use ftrace::FtraceFile;
pub use json::{Line, json_line};
#[cfg(test)]
pub(crate) use kinds::samples;
pub use new_file::NewFile;
pub use trace::TraceFile;
