//! Files and standard input as cleaned lines, in bounded memory.

mod clean;
mod lines;
mod mail;
mod open;
mod unwrap;

pub use clean::{clean, unquote};
pub use lines::{Line, Lines, MAX_LINE};
pub use open::{Unreadable, open, sniff};
pub(crate) use unwrap::{Message, Unwrap, Unwrapped};
