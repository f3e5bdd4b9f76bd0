//! The tree: path resolution and operations.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::error::{Refusal, truncate};
use super::node::{Dir, File, Node};
use super::path::{components, path_of, relative};
use super::{ControlError, PAGE, Walk, contents, entries, write};
use crate::driver::Errno;
use crate::event::EventKind;
use crate::machine::Machine;

/// The control tree of one machine.
///
/// ```
/// # use std::sync::Arc;
/// use bindery::control::Tree;
/// use bindery::driver::Errno;
/// # fn show(machine: &Arc<bindery::machine::Machine>) {
/// let tree = Tree::new(machine);
/// tree.write("/sys/bus/platform/drivers_autoprobe", "0\n").unwrap();
/// assert_eq!(tree.read("/sys/bus/platform/drivers_autoprobe").unwrap(), "0\n");
/// let refused = tree.write("/sys/bus/platform/drivers_probe", "nothing.here").unwrap_err();
/// assert_eq!(refused.errno, Errno::ENODEV);
/// # }
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

    /// Reads a file. Symbolic links in the path are followed.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR` as on Linux; `EACCES` for a write-only file.
    pub fn read(&self, path: &str) -> Result<String, ControlError> {
        let file = self.file(path).map_err(|e| e.at(path))?;
        if !file.access().0 {
            return Err(Refusal::new(Errno::EACCES, "can only be written").at(path));
        }
        Ok(contents::read(&self.machine, &file))
    }

    /// Writes `value` to a file, as `echo value > path` does: one trailing newline is ignored. Symbolic links in the
    /// path are followed. Each write emits [`EventKind::Control`], refused or not.
    ///
    /// # Errors
    ///
    /// The number that Linux returns for the same write, with the reason and a remedy as text.
    pub fn write(&self, path: &str, value: &str) -> Result<(), ControlError> {
        let done = self.file(path).and_then(|file| {
            if file.access().1 {
                write::write(&self.machine, &file, value)
            } else {
                Err(Refusal::new(Errno::EACCES, "can only be read"))
            }
        });
        self.machine.emit(None, || EventKind::Control {
            path: truncate(path, PAGE),
            value: truncate(value, PAGE),
            result: done.as_ref().map_or_else(|e| e.errno.to_string(), |()| "ok".to_string()),
        });
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
    /// `ENOENT`; `EINVAL` when the path does not name a symbolic link.
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

    /// Resolves `path` to an entry and its directory; a link as the last component is not followed.
    fn find(&self, path: &str) -> Result<(Dir, Node), Refusal> {
        let plain = "no such file; a path starts with /sys and has no empty component, no \".\" and no \"..\"";
        let parts = components(path).ok_or_else(|| Refusal::new(Errno::ENOENT, plain))?;
        let (mut holder, mut at) = (Dir::Sys, Node::Dir(Dir::Sys));
        for part in parts {
            let dir = match at {
                Node::Dir(dir) | Node::Link(dir) => dir,
                Node::File(_) => return Err(Refusal::new(Errno::ENOTDIR, format!("{part:?} is below a file"))),
            };
            let Some(next) = entries::named(&self.machine, &dir, part) else {
                let here = path_of(&self.machine, &dir);
                return Err(Refusal::new(Errno::ENOENT, format!("there is no {:?} in {here}", truncate(part, 256))));
            };
            (holder, at) = (dir, next);
        }
        Ok((holder, at))
    }

    fn follow(&self, path: &str) -> Result<Node, Refusal> {
        self.find(path).map(|(_, node)| node)
    }

    fn file(&self, path: &str) -> Result<File, Refusal> {
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
