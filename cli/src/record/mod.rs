//! The event log, and what is written from it: JSON lines and trace files.

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
