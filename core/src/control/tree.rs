//! The tree: path resolution and operations.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::error::{Refusal, truncate};
use super::node::{Dir, File, Node};
use super::open::OpenFlags;
use super::path::{components, parent_of, path_of, relative};
use super::{ControlError, Walk, contents, entries, write};
use crate::driver::Errno;
use crate::machine::Machine;

/// The control tree of one machine.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::control::Tree;
/// use bindery::driver::Errno;
///
/// # let machine = example::machine();
/// let tree = Tree::new(&machine);
/// tree.write("/sys/bus/platform/drivers_autoprobe", "0\n").unwrap();
/// assert_eq!(tree.read("/sys/bus/platform/drivers_autoprobe").unwrap(), "0\n");
/// let refused = tree.write("/sys/bus/platform/drivers_probe", "nothing.here").unwrap_err();
/// assert_eq!(refused.errno, Errno::ENODEV);
/// ```
#[derive(Clone)]
pub struct Tree {
    pub(super) machine: Arc<Machine>,
}

/// Entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// The name, without slashes.
    pub name: String,
    /// Type of the entry.
    pub kind: EntryKind,
}

/// Type of an entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A file.
    File {
        /// It can be read.
        readable: bool,
        /// It can be written.
        writable: bool,
    },
    /// A symbolic link.
    Link {
        /// Target, relative to the directory of the link.
        target: String,
    },
}

impl Tree {
    /// The tree of `machine`. It keeps the machine allocated, not its bindings alive: those end with the machine's
    /// [`Handle`](crate::machine::Handle).
    pub fn new(machine: &Arc<Machine>) -> Self {
        Self { machine: Arc::clone(machine) }
    }

    /// Reads a file as text; bytes that are not UTF-8 become U+FFFD. Symbolic links in the path are followed.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR`, `ENAMETOOLONG` as on Linux; `EACCES` for a write-only file.
    pub fn read(&self, path: &str) -> Result<String, ControlError> {
        let all = self.opened(path, OpenFlags::READ).and_then(|file| contents::read(&self.machine, &file));
        all.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|e| e.at(path))
    }

    /// Opens a file for writes and writes `value` in one call, as [`OpenFile::write`](super::OpenFile::write) does.
    /// Symbolic links in the path are followed. Each write emits [`EventKind::Control`](crate::event::EventKind::Control),
    /// refused or not.
    ///
    /// # Errors
    ///
    /// The number that Linux returns for the same calls, with the reason and a remedy as text.
    pub fn write(&self, path: &str, value: &str) -> Result<usize, ControlError> {
        let value = value.as_bytes();
        let done = self.opened(path, OpenFlags::WRITE).and_then(|file| write::write(&self.machine, &file, value));
        self.report(path, value, done.as_ref().err());
        done.map_err(|e| e.at(path))
    }

    /// Lists a directory, sorted by name. Symbolic links are followed, also as the last component.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `ENOTDIR` for a file.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, ControlError> {
        match self.follow(path).map_err(|e| e.at(path))? {
            Node::Dir(dir) | Node::Link(dir) => Ok(self.entries(&dir)),
            Node::File(_) => Err(Refusal::new(Errno::ENOTDIR, "is a file, not a directory").at(path)),
        }
    }

    /// Target of a symbolic link, relative to its directory. Links are followed, but for the last component.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `EINVAL` when the path does not name a symbolic link, or has a slash behind it.
    pub fn read_link(&self, path: &str) -> Result<String, ControlError> {
        match self.find(path).map_err(|e| e.at(path))? {
            (parent, Node::Link(target)) => {
                Ok(relative(&path_of(&self.machine, &parent), &path_of(&self.machine, &target)))
            }
            (_, Node::Dir(_) | Node::File(_)) => Err(Refusal::new(Errno::EINVAL, "is not a symbolic link").at(path)),
        }
    }

    /// Iterator over all entries below `/sys` with their paths, depth first. Each directory is listed when the walk
    /// reaches it.
    pub fn walk(&self) -> Walk<'_> {
        Walk::new(self)
    }

    pub(super) fn entries(&self, dir: &Dir) -> Vec<Entry> {
        let here = path_of(&self.machine, dir);
        let mut list: Vec<_> = entries::of(&self.machine, dir)
            .into_iter()
            .map(|(name, node)| {
                let kind = match node {
                    Node::Dir(_) => EntryKind::Dir,
                    Node::File(file) => {
                        let (readable, writable) = file.access();
                        EntryKind::File { readable, writable }
                    }
                    Node::Link(to) => EntryKind::Link { target: relative(&here, &path_of(&self.machine, &to)) },
                };
                Entry { name, kind }
            })
            .collect();
        list.sort();
        list
    }

    /// Resolves `path` to an entry and its directory; a link as the last component is not followed, unless a slash
    /// follows it.
    fn find(&self, path: &str) -> Result<(Dir, Node), Refusal> {
        let (mut holder, mut at) = (Dir::Root, Node::Dir(Dir::Root));
        for part in components(path)? {
            let dir = match at {
                Node::Dir(dir) | Node::Link(dir) => dir,
                Node::File(_) => return Err(Refusal::new(Errno::ENOTDIR, format!("{part:?} is below a file"))),
            };
            let next = match part {
                "" | "." => Node::Dir(dir.clone()),
                ".." => Node::Dir(parent_of(&self.machine, &dir)),
                name => entries::named(&self.machine, &dir, name).ok_or_else(|| {
                    let here = path_of(&self.machine, &dir);
                    let here = if here.is_empty() { "/" } else { &here };
                    Refusal::new(Errno::ENOENT, format!("there is no {:?} in {here}", truncate(name, 256)))
                })?,
            };
            (holder, at) = (dir, next);
        }
        match at {
            Node::Dir(Dir::Root) => Err(Refusal::new(Errno::ENOENT, "the tree begins at /sys")),
            _ => Ok((holder, at)),
        }
    }

    fn follow(&self, path: &str) -> Result<Node, Refusal> {
        self.find(path).map(|(_, node)| node)
    }

    pub(super) fn file(&self, path: &str) -> Result<File, Refusal> {
        match self.follow(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) | Node::Link(_) => Err(Refusal::new(Errno::EISDIR, "is a directory")),
        }
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({:?})", self.machine)
    }
}
