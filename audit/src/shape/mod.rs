//! The shapes that lines come in, and records made of wrapped or interleaved ones.

mod comment;
mod dates;
mod flat;
mod ftrace;
mod klog;
mod lead;
mod lost;
mod read;
mod record;
mod records;
mod stamp;
mod wrap;

pub use ftrace::{TraceLine, lost, parse_trace};
pub use klog::{LogLine, parse_log};
pub use record::{Counts, Header, Record, Sink};
pub use records::Records;
pub use stamp::{Clock, Place, Span, Stamp};
