//! Open files.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::error::{Refusal, truncate};
use super::node::File;
use super::{ControlError, PAGE, Tree, contents, write};
use crate::driver::Errno;
use crate::event::EventKind;

bitflags::bitflags! {
    /// Flags of `open(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct OpenFlags: u8 {
        /// For reads.
        const READ = 1;
        /// For writes.
        const WRITE = 2;
        /// `O_CREAT`. Nothing is ever created: without the file the error is `EACCES` instead of `ENOENT`.
        const CREATE = 4;
        /// `O_TRUNC`, without effect.
        const TRUNCATE = 8;
        /// `O_APPEND`, without effect.
        const APPEND = 16;
    }
}

impl OpenFlags {
    /// The flags with which a shell opens a file for `> file`.
    pub const REDIRECT: Self = Self::WRITE.union(Self::CREATE).union(Self::TRUNCATE);
    /// The flags with which a shell opens a file for `>> file`.
    pub const REDIRECT_APPEND: Self = Self::WRITE.union(Self::CREATE).union(Self::APPEND);
}

/// An open file of the control tree. It stays open when the file disappears; accesses then fail with `ENODEV`, as on
/// Linux.
#[derive(Clone)]
pub struct OpenFile {
    tree: Tree,
    path: String,
    file: File,
    flags: OpenFlags,
    /// Contents as of the latest read at offset 0, so that reads in pieces fit together.
    contents: Option<Vec<u8>>,
}

impl OpenFile {
    pub(super) fn new(tree: &Tree, path: &str, file: File, flags: OpenFlags) -> Self {
        Self { tree: tree.clone(), path: truncate(path, PAGE), file, flags, contents: None }
    }

    /// Reads at most `len` bytes from `offset`. The contents are those of the latest read at offset 0.
    ///
    /// # Errors
    ///
    /// `EBADF` is not modelled: a file that was not opened for reads answers `EACCES`. `ENODEV` when the file is gone, and
    /// what the file itself answers.
    pub fn read(&mut self, offset: usize, len: usize) -> Result<Vec<u8>, ControlError> {
        if !self.flags.contains(OpenFlags::READ) {
            return Err(Refusal::new(Errno::EACCES, "was not opened for reads").at(&self.path));
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        if offset == 0 || self.contents.is_none() {
            self.alive().map_err(|e| e.at(&self.path))?;
            let all = contents::read(&self.tree.machine, &self.file).map_err(|e| e.at(&self.path))?;
            self.contents = Some(all);
        }
        let all = self.contents.as_deref().unwrap_or_default();
        let rest = all.get(offset..).unwrap_or_default();
        Ok(rest[..len.min(rest.len())].to_vec())
    }

    /// Writes `value` in one call, at whatever offset: a file of the control tree takes each write as a new value. Returns
    /// the number of bytes taken: none of an empty write, which has no effect, and at most [`PAGE`]. Each write emits
    /// [`EventKind::Control`], refused or not.
    ///
    /// # Errors
    ///
    /// The number that Linux returns for the same write, with the reason and a remedy as text.
    pub fn write(&mut self, value: &[u8]) -> Result<usize, ControlError> {
        let done = if self.flags.contains(OpenFlags::WRITE) {
            self.alive().and_then(|()| write::write(&self.tree.machine, &self.file, value))
        } else {
            Err(Refusal::new(Errno::EACCES, "was not opened for writes"))
        };
        self.tree.report(&self.path, value, done.as_ref().err());
        done.map_err(|e| e.at(&self.path))
    }

    /// A device whose files are open may be removed meanwhile.
    fn alive(&self) -> Result<(), Refusal> {
        match self.file.device() {
            Some(device) if device.is_removed() => Err(Refusal::new(Errno::ENODEV, "is gone")),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenFile({:?}, {:?})", self.path, self.flags)
    }
}

impl Tree {
    /// Opens a file. Symbolic links in the path are followed.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR` and `ENAMETOOLONG` as on Linux; `EACCES` for a file that cannot be accessed in this
    /// way, and with [`OpenFlags::CREATE`] for one that does not exist.
    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<OpenFile, ControlError> {
        self.opened(path, flags).map(|file| OpenFile::new(self, path, file, flags)).map_err(|e| e.at(path))
    }

    pub(super) fn opened(&self, path: &str, flags: OpenFlags) -> Result<File, Refusal> {
        let file = self.file(path).map_err(|refusal| match refusal.errno {
            Errno::ENOENT if flags.contains(OpenFlags::CREATE) && self.may_create(path) => {
                Refusal::new(Errno::EACCES, format!("{}, and no file can be created", refusal.why))
            }
            Errno::ENOENT | Errno::ENOTDIR if flags.contains(OpenFlags::CREATE) && path.ends_with('/') => {
                Refusal::new(Errno::EISDIR, refusal.why)
            }
            _ => refusal,
        })?;
        let (readable, writable) = file.access();
        if flags.contains(OpenFlags::READ) && !readable {
            return Err(Refusal::new(Errno::EACCES, "can only be written"));
        }
        // Files of debugfs are opened whatever their mode says, and refuse the write itself.
        if flags.contains(OpenFlags::WRITE) && !writable && !matches!(file, File::DevicesDeferred) {
            return Err(Refusal::new(Errno::EACCES, "can only be read"));
        }
        Ok(file)
    }

    /// True when `path` names nothing in a directory that exists.
    fn may_create(&self, path: &str) -> bool {
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        !path.ends_with('/') && !above.is_empty() && self.list(above).is_ok()
    }

    /// Emits the event of a write.
    pub(super) fn report(&self, path: &str, value: &[u8], refusal: Option<&Refusal>) {
        self.machine.emit(None, || EventKind::Control {
            path: truncate(path, PAGE),
            value: truncate(&String::from_utf8_lossy(value), PAGE),
            result: refusal.map_or_else(|| "ok".to_string(), |e| e.errno.to_string()),
        });
    }
}
