//! The shapes that lines come in, and records made of wrapped or interleaved ones.

mod ftrace;
mod klog;
mod records;
mod stamp;

pub use ftrace::{TraceLine, lost, parse_trace};
pub use klog::{LogLine, parse_log};
pub use records::{Counts, Header, Record, Records, Sink};
pub use stamp::{Clock, Place, Span, Stamp};
