//! Open folders of a directory that stands for a host.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Number of directories that are kept. A device is looked at with its group, its bus and what hangs below it.
const KEPT: usize = 8;

/// The folders that were looked into last, so that their files are reached by name and not by a long path.
#[derive(Debug, Default)]
pub(super) struct Folders(RefCell<Vec<(String, Rc<OwnedFd>)>>);

impl Folders {
    /// The folder at `path`, as it was: it may have been removed since.
    pub(super) fn get(&self, path: &str) -> Option<Rc<OwnedFd>> {
        let mut kept = self.0.borrow_mut();
        let at = kept.iter().rposition(|(known, _)| known == path)?;
        let found = kept.remove(at);
        let folder = Rc::clone(&found.1);
        kept.push(found);
        Some(folder)
    }

    /// Keeps a folder in place of the one that was not asked for longest.
    pub(super) fn keep(&self, path: &str, folder: Rc<OwnedFd>) {
        let mut kept = self.0.borrow_mut();
        kept.retain(|(known, _)| known != path);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((path.to_owned(), folder));
    }
}
