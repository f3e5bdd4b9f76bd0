//! What a bug report about a device says, and what it must not say.

mod log;
mod private;
mod redact;

pub use log::{about, line};
pub use private::known;
pub use redact::{Private, Redactor};
