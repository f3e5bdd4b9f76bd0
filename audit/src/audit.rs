//! The auditor's face.

use std::io::BufRead;

use crate::host::Host;
use crate::input::Unreadable;
use crate::model::Model;
use crate::pattern::Patterns;
use crate::report::{FileReport, Report};
use crate::shape::Records;

/// Input of an audit beside its files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Patterns of debug lines.
    pub patterns: Patterns,
    /// A host's devices, as evidence for streams.
    pub host: Host,
}

/// Progress of an audit.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Lines read of this file.
    pub lines: u64,
    /// Bytes read of it, after decompression.
    pub bytes: u64,
}

/// An audit of one or several files that belong together.
///
/// Memory is bounded by what is live in the files: about 280 bytes for a mapping with the text of its line.
#[derive(Debug)]
pub struct Auditor {
    model: Model,
    files: Vec<FileReport>,
}

impl Auditor {
    /// An audit that has read nothing yet.
    pub fn new(options: Options) -> Self {
        Self { model: Model::new(options.patterns, options.host), files: Vec::new() }
    }

    /// Reads `reader` to its end, as the file `name`.
    ///
    /// # Errors
    ///
    /// Returns the reader's error. Lines that were read before stay in the audit.
    pub fn read(
        &mut self,
        name: &str,
        reader: impl BufRead,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Unreadable> {
        let mut records = Records::new(self.files.len() as u32);
        let result = records.read(reader, &mut self.model, &mut |lines, bytes| progress(Progress { lines, bytes }));
        self.files.push(FileReport { name: name.to_owned(), counts: records.counts() });
        result.map_err(|error| Unreadable::Host { name: name.to_owned(), error })
    }

    /// The result.
    pub fn finish(mut self) -> Report {
        self.model.finish();
        Report::new(self.model, self.files)
    }
}
