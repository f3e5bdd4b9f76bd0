//! Contents of a bug report about a device, and removal of personal names.

mod log;
mod private;
mod redact;

pub use log::{about, line};
pub use private::known;
pub use redact::{Private, Redactor};
