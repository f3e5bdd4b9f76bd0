//! A face that asks each thing once.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::time::Duration;

use super::{Entry, Face, Kind, Node, Result, Uevents};

/// Answers by path.
type Answers<T> = RefCell<HashMap<String, Result<T>>>;

/// Another face, of which each file, directory and link is read at most once.
///
/// For one look at one device: several searches ask for the same files, and must not see different values. It never forgets,
/// so it must not outlive the look.
pub(crate) struct Memo<'a> {
    face: &'a dyn Face,
    /// Entries of directories that were listed before.
    listed: &'a BTreeMap<String, Vec<Entry>>,
    files: Answers<Vec<u8>>,
    folders: Answers<Vec<Entry>>,
    links: Answers<String>,
    kinds: Answers<Kind>,
}

impl<'a> Memo<'a> {
    /// Remembers the answers of `face`, and takes the entries of directories that were listed before from `listed`.
    pub(crate) fn new(face: &'a dyn Face, listed: &'a BTreeMap<String, Vec<Entry>>) -> Self {
        let (files, folders) = (RefCell::default(), RefCell::default());
        Self { face, listed, files, folders, links: RefCell::default(), kinds: RefCell::default() }
    }
}

fn once<T: Clone>(answers: &Answers<T>, path: &str, ask: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(known) = answers.borrow().get(path) {
        return known.clone();
    }
    let answer = ask();
    answers.borrow_mut().insert(path.into(), answer.clone());
    answer
}

impl Face for Memo<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        once(&self.files, path, || self.face.read(path))
    }

    fn read_within(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        once(&self.files, path, || self.face.read_within(path, deadline))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        match self.listed.get(path) {
            Some(entries) => Ok(entries.clone()),
            None => once(&self.folders, path, || self.face.list(path)),
        }
    }

    fn link(&self, path: &str) -> Result<String> {
        once(&self.links, path, || self.face.link(path))
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        once(&self.kinds, path, || self.face.kind(path))
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        self.face.write(path, value)
    }

    fn write_within(&self, path: &str, value: &[u8], deadline: Duration, locks: &[File]) -> Result<()> {
        self.face.write_within(path, value, deadline, locks)
    }

    fn load_module(&self, name: &str) -> Result<()> {
        self.face.load_module(name)
    }

    fn own(&self, path: &str, node: Node, user: u32, group: u32) -> Result<()> {
        self.face.own(path, node, user, group)
    }

    fn open_node(&self, pid: u32, fd: u32, text: &str) -> Option<Node> {
        self.face.open_node(pid, fd, text)
    }

    fn owner(&self, path: &str) -> Result<(u32, u32)> {
        self.face.owner(path)
    }

    fn claimed(&self, path: &str, node: Node) -> Option<bool> {
        self.face.claimed(path, node)
    }

    fn has_kernel(&self) -> bool {
        self.face.has_kernel()
    }

    fn addresses(&self) -> Result<String> {
        self.face.addresses()
    }

    fn uevents(&self) -> Result<Box<dyn Uevents>> {
        self.face.uevents()
    }

    fn kernel_log(&self) -> Result<Vec<String>> {
        self.face.kernel_log()
    }

    fn may_write(&self) -> bool {
        self.face.may_write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Directory;

    #[test]
    fn a_value_that_changes_during_a_look_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "before").unwrap();
        let face = Directory::open(dir.path()).unwrap();
        let listed = BTreeMap::new();
        let memo = Memo::new(&face, &listed);
        assert!(memo.read("/later").unwrap_err().is_absent());
        assert_eq!((memo.text("/file"), memo.names("/")), (Ok("before".into()), vec!["file".into()]));
        std::fs::write(&file, "after").unwrap();
        std::fs::write(dir.path().join("later"), "").unwrap();
        assert_eq!((memo.text("/file"), memo.names("/")), (Ok("before".into()), vec!["file".into()]));
        assert!(memo.read("/later").unwrap_err().is_absent());
        assert_eq!(Memo::new(&face, &listed).text("/file"), Ok("after".into()));
    }
}
