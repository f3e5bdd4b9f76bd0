//! Notes and the work budget during the reading of a blob.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::FdtError;
use super::note::{MAX_NOTES, Note, NoteKind};
use super::tree::Idx;

/// Steps of following references per byte of blob. None of the trees that Debian ships for arm64 needs more than 0.2.
const STEPS_PER_BYTE: u64 = 8;
/// Minimum budget, for small blobs.
const STEPS_AT_LEAST: u64 = 1 << 16;

/// Limit of references to suppliers and interrupts in a tree, without equal ones. The largest tree that Debian ships has a
/// few thousand.
const MAX_REFERENCES: usize = 1 << 17;

/// Notes, remaining work budget, and shared strings of one blob.
pub(super) struct Log {
    notes: Vec<Note>,
    left_out: usize,
    steps: u64,
    references: usize,
    paths: Vec<Arc<str>>,
    words: BTreeSet<Arc<str>>,
}

impl Log {
    /// Log without notes. `paths` are those of all nodes, by index.
    pub(super) fn new(blob_len: usize, paths: Vec<Arc<str>>) -> Self {
        let steps = STEPS_AT_LEAST.saturating_add(STEPS_PER_BYTE.saturating_mul(blob_len as u64));
        Self { notes: Vec::new(), left_out: 0, steps, references: 0, paths, words: BTreeSet::new() }
    }

    /// Adds a note about a property of `node`.
    pub(super) fn note(&mut self, node: Idx, property: &str, kind: NoteKind) {
        if self.notes.len() >= MAX_NOTES {
            self.left_out += 1;
            return;
        }
        let property = self.word(property);
        self.notes.push(Note { node: Arc::clone(self.path(node)), property, kind });
    }

    /// Adds a note unless it exists, for defects that several devices meet.
    pub(super) fn note_once(&mut self, node: Idx, property: &str, kind: NoteKind) {
        let path = self.path(node);
        if !self.notes.iter().any(|n| n.kind == kind && n.node == *path && &*n.property == property) {
            self.note(node, property, kind);
        }
    }

    /// Deducts `steps` of work on a property from the budget.
    pub(super) fn spend(&mut self, node: Idx, property: &str, steps: usize) -> Result<(), FdtError> {
        match self.steps.checked_sub(steps as u64) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(FdtError::TooMuchWork { node: Arc::clone(self.path(node)), property: property.into() }),
        }
    }

    /// Counts a reference to a supplier or an interrupt that the description will have.
    pub(super) fn add_reference(&mut self, node: Idx, property: &str) -> Result<(), FdtError> {
        self.references += 1;
        if self.references <= MAX_REFERENCES {
            return Ok(());
        }
        let node = Arc::clone(self.path(node));
        Err(FdtError::TooManyReferences { node, property: property.into(), limit: MAX_REFERENCES })
    }

    /// Full path of a node.
    pub(super) fn path(&self, node: Idx) -> &Arc<str> {
        &self.paths[node.0 as usize]
    }

    /// Shared copy of a string that many devices repeat.
    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    /// The notes, and the number of further ones.
    pub(super) fn finish(self) -> (Vec<Note>, usize) {
        (self.notes, self.left_out)
    }
}
