//! Ctrl-C: the first one ends the exploration, the second one the program.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::refusal::Refusal;
use crate::failure::{INTERRUPTED, Result};

/// Ctrl-C handling of one exploration.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handler of SIGINT, SIGTERM and SIGHUP. At most once in a program.
    pub(super) fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&flag);
        let told = ctrlc::set_handler(move || {
            if set.swap(true, Ordering::Relaxed) {
                // A second signal means that the report is not wanted. A terminal that is gone shows nothing.
                let _ = writeln!(std::io::stderr());
                std::process::exit(INTERRUPTED.into());
            }
        });
        told.map_err(|error| Box::new(Refusal::Signals { error: error.to_string() }))?;
        Ok(Self(flag))
    }

    /// The flag, for the engine.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// True once a signal was received.
    pub(super) fn received(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
