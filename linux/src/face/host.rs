//! The running host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::tree::{Tree, number};
use super::{Entry, Face, FaceError, Kind, Node, READ_DEADLINE, Result};
use crate::engine::TIMEOUT;

/// The running host.
#[derive(Debug)]
pub struct Host {
    tree: Tree,
    helper: Option<super::helper::Helper>,
}

impl Host {
    /// Opens the root of the file system.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self { tree: Tree::open_at(Path::new("/"), false)?, helper: None })
    }

    /// Has calls that may wait without end be made by a process of this program, which must call
    /// [`helper::intercept`](super::helper::intercept) first of all. Without one, such calls wait.
    #[must_use]
    pub fn with_helper(self, program: impl Into<PathBuf>) -> Self {
        self.with_noted_helper(program, Vec::new())
    }

    /// The same, with folders for notes of processes that had to be left behind, so that later commands do not leave more for the
    /// same device. All are read; the first that can be is written.
    #[must_use]
    pub fn with_noted_helper(mut self, program: impl Into<PathBuf>, notes: Vec<PathBuf>) -> Self {
        self.helper = Some(super::helper::Helper::new(program.into(), notes));
        self
    }
}

impl Face for Host {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.tree.read(path)
    }

    fn read_within(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        match &self.helper {
            Some(helper) => helper.read(path, deadline),
            None => self.read(path),
        }
    }

    fn write_within(&self, path: &str, value: &[u8], deadline: Duration, locks: &[std::fs::File]) -> Result<()> {
        match &self.helper {
            Some(helper) => helper.write(path, value, deadline, locks),
            None => self.write(path, value),
        }
    }

    fn load_module(&self, name: &str) -> Result<()> {
        super::module::load(self, name)
    }

    fn own(&self, path: &str, node: Node, user: u32, group: u32) -> Result<()> {
        let fail = |errno| FaceError::Kernel { doing: "give", path: path.into(), errno };
        // The number is looked at through the same descriptor that is changed: a path could be exchanged in between.
        let file = self.tree.open("give", path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || number(false, &stat) != node {
            let why = "its number is not the kernel's: its owner is not changed";
            return Err(FaceError::Unsupported { path: path.into(), why });
        }
        let (user, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
        rustix::fs::chownat(&file, "", Some(user), Some(group), AtFlags::EMPTY_PATH).map_err(fail)?;
        // A descriptor without access cannot be fchmod()ed; the way through proc leads to the same file.
        let way = format!("proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
        rustix::fs::chmodat(&self.tree.root, way, mode, AtFlags::empty()).map_err(fail)
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        match &self.helper {
            // Any attribute of a device may wait for its lock, which somebody else's unbind holds.
            Some(_) => self.write_within(path, value, TIMEOUT, &[]),
            None => self.tree.write(path, value),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.tree.list(path)
    }

    fn link(&self, path: &str) -> Result<String> {
        self.tree.link(path)
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        self.tree.kind(path)
    }

    fn open_node(&self, pid: u32, fd: u32, _: &str) -> Option<Node> {
        // Through the descriptor itself: the path may mean something else in the process's own mount namespace.
        let stat = rustix::fs::statat(&self.tree.root, format!("proc/{pid}/fd/{fd}"), AtFlags::empty()).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => Some(number(true, &stat)),
            FileType::CharacterDevice => Some(number(false, &stat)),
            _ => None,
        }
    }

    fn owner(&self, path: &str) -> Result<(u32, u32)> {
        self.tree.stat(path).map(|stat| (stat.st_uid, stat.st_gid))
    }

    fn claimed(&self, path: &str, node: Node) -> Option<bool> {
        if self.tree.kind(path).ok()? != Kind::Node(node) {
            return None;
        }
        // The open waits for a disk that is just being removed, which an unbind that hangs does for ever.
        if let Some(helper) = &self.helper {
            return helper.claimed(path, READ_DEADLINE);
        }
        // A block device is asked for an exclusive open. A VFIO group's node can only be open once.
        let flags = if node.block { OFlags::RDONLY | OFlags::EXCL } else { OFlags::RDWR } | OFlags::NONBLOCK;
        match self.tree.open("open", path, flags) {
            Ok(_) => Some(false),
            Err(error) if error.errno() == Some(Errno::BUSY) => Some(true),
            Err(_) => None,
        }
    }

    fn has_kernel(&self) -> bool {
        true
    }

    fn addresses(&self) -> Result<String> {
        let bytes = match &self.helper {
            Some(helper) => helper.addresses(READ_DEADLINE)?,
            None => super::addresses::read().map_err(|errno| FaceError::Kernel {
                doing: "read",
                path: super::ADDRESSES.into(),
                errno,
            })?,
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn may_write(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn uevents(&self) -> Result<Box<dyn super::Uevents>> {
        Ok(Box::new(super::uevent::Socket::open()?))
    }

    fn kernel_log(&self) -> Result<Vec<String>> {
        super::kernel_log::read()
    }
}
