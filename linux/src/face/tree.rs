//! Files below a root, reached by paths as they are on a host.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use super::folders::Folders;
use super::{Entry, FaceError, Kind, MAX_READ, Node, Result};

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    /// No link may lead out of `root`.
    jail: bool,
    /// Of a directory only: on a host, folders come and go with the devices.
    folders: Folders,
}

impl Tree {
    /// The tree at `path`; with `jail`, no link may lead out of it.
    pub(super) fn open_at(path: &Path, jail: bool) -> std::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())?, jail, folders: Folders::default() })
    }

    pub(super) fn open(&self, doing: &'static str, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !self.jail {
            return rustix::fs::openat(&self.root, relative(path), flags, Mode::empty())
                .map_err(|errno| FaceError::Kernel { doing, path: path.into(), errno });
        }
        let beneath = |folder: &OwnedFd, path: &OsStr| {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)
        };
        let near = self.folders.get(crate::path::parent(path));
        let near = near.map(|folder| beneath(&folder, OsStr::new(crate::path::name(path))));
        let opened = match near {
            // A link that leads out of its folder may still stay below the root; a folder that was removed may be there again.
            None | Some(Err(Errno::XDEV | Errno::NOENT)) => beneath(&self.root, relative(path)),
            Some(opened) => opened,
        };
        opened.map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => FaceError::Escapes { path: path.into() },
            errno => FaceError::Kernel { doing, path: path.into(), errno },
        })
    }

    /// Asks something of the last component that follows no link, with the folder above it and its name.
    fn ask<T>(
        &self,
        doing: &'static str,
        path: &str,
        ask: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let fail = |errno| FaceError::Kernel { doing, path: path.into(), errno };
        if !self.jail {
            return ask(&self.root, relative(path)).map_err(fail);
        }
        let (parent, name) = (crate::path::parent(path), OsStr::new(crate::path::name(path)));
        if let Some(folder) = self.folders.get(parent) {
            match ask(&folder, name) {
                Err(Errno::NOENT) => {}
                answer => return answer.map_err(fail),
            }
        }
        let folder = Rc::new(self.open(doing, parent, OFlags::PATH | OFlags::DIRECTORY)?);
        self.folders.keep(parent, Rc::clone(&folder));
        ask(&folder, name).map_err(fail)
    }

    pub(super) fn stat(&self, path: &str) -> Result<Stat> {
        self.ask("look at", path, |folder, name| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW))
    }

    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let fail = |errno| FaceError::Kernel { doing: "read", path: path.into(), errno };
        // Without O_NONBLOCK the open of a pipe would wait for a writer.
        let file = self.open("read", path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        // The size of a file on a disk, which says where it ends. The kernel's own files do not know theirs.
        let mut size = usize::MAX;
        if self.jail {
            let stat = rustix::fs::fstat(&file).map_err(fail)?;
            if let Some(what) = special(FileType::from_raw_mode(stat.st_mode)) {
                return Err(FaceError::Special { path: path.into(), what });
            }
            size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        }
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            match rustix::io::read(&file, &mut bytes[length..]) {
                Ok(0) => break,
                Ok(n) if length + n == size => {
                    length = size;
                    break;
                }
                Ok(n) => length += n,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(fail(errno)),
            }
            if length > MAX_READ {
                return Err(FaceError::TooLarge { path: path.into() });
            }
            if length == bytes.len() {
                bytes.resize(length * 2, 0);
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    pub(super) fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        let fail = |errno| FaceError::Kernel { doing: "write", path: path.into(), errno };
        let file = self.open("write", path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if self.jail {
            let stat = rustix::fs::fstat(&file).map_err(fail)?;
            if let Some(what) = special(FileType::from_raw_mode(stat.st_mode)) {
                return Err(FaceError::Special { path: path.into(), what });
            }
        }
        // One call: sysfs takes each write for a value of its own.
        loop {
            match rustix::io::write(&file, value) {
                Ok(n) if n == value.len() => return Ok(()),
                Ok(_) => return Err(fail(Errno::IO)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let fail = |errno| FaceError::Kernel { doing: "list", path: path.into(), errno };
        let dir = Rc::new(self.open("list", path, OFlags::RDONLY | OFlags::DIRECTORY)?);
        let mut entries = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut listing = RawDir::new(&*dir, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say it in the listing.
                FileType::Unknown => match self.kind(&format!("{path}/{name}")) {
                    Ok(Kind::Dir) => FileType::Directory,
                    Ok(Kind::Link) => FileType::Symlink,
                    _ => FileType::Unknown,
                },
                kind => kind,
            };
            entries.push(Entry {
                name: name.into(),
                dir: kind == FileType::Directory,
                link: kind == FileType::Symlink,
            });
        }
        entries.sort();
        if self.jail {
            self.folders.keep(path, dir);
        }
        Ok(entries)
    }

    pub(super) fn link(&self, path: &str) -> Result<String> {
        let text = self.ask("read the link", path, |folder, name| rustix::fs::readlinkat(folder, name, Vec::new()))?;
        Ok(text.to_string_lossy().into_owned())
    }

    pub(super) fn kind(&self, path: &str) -> Result<Kind> {
        let stat = self.stat(path)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Link,
            FileType::BlockDevice => Kind::Node(number(true, &stat)),
            FileType::CharacterDevice => Kind::Node(number(false, &stat)),
            _ => Kind::Other,
        })
    }
}

pub(super) fn number(block: bool, stat: &Stat) -> Node {
    Node { block, major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
}

fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a pipe"),
        FileType::Socket => Some("a socket"),
        _ => Some("a device node"),
    }
}

fn relative(path: &str) -> &OsStr {
    let path = path.trim_start_matches('/');
    OsStr::from_bytes(if path.is_empty() { b"." } else { path.as_bytes() })
}
