//! Notes taken, and work left, while a blob is read.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::FdtError;
use super::note::{MAX_NOTES, Note, NoteKind};
use super::tree::Idx;

/// Steps of following references per byte of blob. Of the trees that Debian ships for arm64 none needs more than 0.2.
const STEPS_PER_BYTE: u64 = 8;
/// Steps that even the smallest blob may take.
const STEPS_AT_LEAST: u64 = 1 << 16;

/// What has been noted of one blob, how much work may still be done, and the words that repeat.
pub(super) struct Log {
    notes: Vec<Note>,
    left_out: usize,
    steps: u64,
    paths: Vec<Arc<str>>,
    words: BTreeSet<Arc<str>>,
}

impl Log {
    /// Nothing noted yet. `paths` are those of all nodes, by their place in the tree.
    pub(super) fn new(blob_len: usize, paths: Vec<Arc<str>>) -> Self {
        let steps = STEPS_AT_LEAST.saturating_add(STEPS_PER_BYTE.saturating_mul(blob_len as u64));
        Self { notes: Vec::new(), left_out: 0, steps, paths, words: BTreeSet::new() }
    }

    /// Notes something about a property of `node`.
    pub(super) fn note(&mut self, node: Idx, property: &str, kind: NoteKind) {
        if self.notes.len() >= MAX_NOTES {
            self.left_out += 1;
            return;
        }
        let property = self.word(property);
        self.notes.push(Note { node: Arc::clone(self.path(node)), property, kind });
    }

    /// Notes something that more than one device may find.
    pub(super) fn note_once(&mut self, node: Idx, property: &str, kind: NoteKind) {
        let path = self.path(node);
        if !self.notes.iter().any(|n| n.kind == kind && n.node == *path && &*n.property == property) {
            self.note(node, property, kind);
        }
    }

    /// Pays for `steps` of work on a property.
    pub(super) fn spend(&mut self, node: Idx, property: &str, steps: usize) -> Result<(), FdtError> {
        match self.steps.checked_sub(steps as u64) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(FdtError::TooMuchWork { node: Arc::clone(self.path(node)), property: property.into() }),
        }
    }

    /// Full path of a node.
    pub(super) fn path(&self, node: Idx) -> &Arc<str> {
        &self.paths[node.0 as usize]
    }

    /// One shared copy of a word that many devices repeat.
    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    /// The notes, and how many more there would have been.
    pub(super) fn finish(self) -> (Vec<Note>, usize) {
        (self.notes, self.left_out)
    }
}
