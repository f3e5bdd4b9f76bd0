//! The host's events as the text of Linux's ftrace.

use std::path::Path;

use bindery_sim::ftrace::{Ftrace, HEADER};

use super::LogEntry;
use super::new_file::NewFile;
use crate::failure::Result;

/// A trace that is being written. It appears under its name with [`finish`](Self::finish).
pub struct FtraceFile {
    out: NewFile,
    text: Ftrace,
}

impl FtraceFile {
    /// Begins a trace for `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut out = NewFile::create(path)?;
        out.write(HEADER.as_bytes())?;
        Ok(Self { out, text: Ftrace::default() })
    }

    /// Adds one event. Guests have devices of the same names: theirs are left out.
    pub fn add(&mut self, entry: &LogEntry) -> Result<()> {
        if entry.machine != "host" {
            return Ok(());
        }
        self.out.write(self.text.lines(&entry.event).as_bytes())
    }

    /// Puts the file under its name.
    pub fn finish(mut self) -> Result<()> {
        self.out.write(self.text.finish().as_bytes())?;
        self.out.finish()
    }
}
