//! The recorder: prepares tracefs, runs a command, saves what was traced with the evidence beside it, and puts back all that
//! it changed, also when it is killed.
//!
//! Only three things change, and `undo` reverts each: tracefs may be mounted, an instance of its own is made, and
//! on kernels without `dma:*` events so are kprobe events. Everything that is set is set in the instance.

mod error;
#[cfg(target_os = "linux")]
mod instance;
#[cfg(target_os = "linux")]
mod listing;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod probes;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod save;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod tracefs;
#[cfg(target_os = "linux")]
mod undo;
#[cfg(target_os = "linux")]
mod want;

use std::ffi::OsString;
use std::path::Path;

pub use error::RecordError;

/// Request for a recording.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Name of the device, as in `/sys/bus/*/devices`.
    pub device: &'a str,
    /// The file; `DEVICE.trace` in the current directory when none is named, which must not be there yet.
    pub output: Option<&'a Path>,
    /// MiB of buffer for each CPU.
    pub buffer: Option<u32>,
    /// Command with its arguments.
    pub command: &'a [OsString],
    /// Arguments before `--keeper` with which this program is called again.
    pub keeper: &'a [&'a str],
}

#[cfg(target_os = "linux")]
pub use session::record;
#[cfg(target_os = "linux")]
pub use undo::keep;

/// Refuses: only Linux has ftrace.
///
/// # Errors
///
/// Always [`RecordError::Platform`].
#[cfg(not(target_os = "linux"))]
pub fn record(_order: &Order<'_>) -> Result<std::path::PathBuf, RecordError> {
    Err(RecordError::Platform)
}

/// Does nothing: there is no recorder here.
#[cfg(not(target_os = "linux"))]
pub fn keep() -> u8 {
    2
}
