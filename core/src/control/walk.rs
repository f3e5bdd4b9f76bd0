//! Iteration over the whole tree.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Entry, EntryKind, Tree};

/// Depth-first iterator over the tree that does not follow links. Entries that appear or disappear meanwhile may be
/// seen or not.
pub struct Walk<'t> {
    tree: &'t Tree,
    /// Stack of entries to visit: path and entry.
    pending: Vec<(String, Entry)>,
}

impl<'t> Walk<'t> {
    pub(super) fn new(tree: &'t Tree) -> Self {
        let mut walk = Self { tree, pending: Vec::new() };
        walk.open("/sys");
        walk
    }

    fn open(&mut self, dir: &str) {
        let below = self.tree.list(dir).unwrap_or_default();
        self.pending.extend(below.into_iter().rev().map(|e| (format!("{dir}/{}", e.name), e)));
    }
}

impl Iterator for Walk<'_> {
    type Item = (String, Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, entry) = self.pending.pop()?;
        if entry.kind == EntryKind::Dir {
            self.open(&path);
        }
        Some((path, entry))
    }
}

impl fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Walk({} entries pending)", self.pending.len())
    }
}
