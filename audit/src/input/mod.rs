//! Files and standard input as cleaned lines, in bounded memory.

mod clean;
mod lines;
mod open;

pub use clean::{clean, unquote};
pub use lines::{Line, Lines, MAX_LINE};
pub use open::{Unreadable, open, sniff};
