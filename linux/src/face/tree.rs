//! The host's own file system, and a directory that looks like one.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{Entry, Face, FaceError, Kind, MAX_READ, Node, PATIENCE, Result};

/// The running host.
#[derive(Debug)]
pub struct Host {
    tree: Tree,
    helper: Option<PathBuf>,
}

impl Host {
    /// Opens the root of the file system.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            tree: Tree { root: open_root(Path::new("/"))?, jail: false, last: RefCell::default() },
            helper: None,
        })
    }

    /// Has calls that may wait without end be made by a process of this program, which must call
    /// [`helper::intercept`](super::helper::intercept) first of all. Without one, such calls wait.
    #[must_use]
    pub fn with_helper(mut self, program: impl Into<PathBuf>) -> Self {
        self.helper = Some(program.into());
        self
    }
}

/// A directory with `sys`, `proc`, `dev` and `run/udev` below it.
///
/// Nothing outside of it is reached: a link that leads out is [`FaceError::Escapes`]. Device nodes in it are never
/// opened; a node may also be a file that reads `c 13:69` or `b 8:16`.
#[derive(Debug)]
pub struct Directory {
    tree: Tree,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { tree: Tree { root: open_root(path)?, jail: true, last: RefCell::default() }, path: path.into() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open_root(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[derive(Debug)]
struct Tree {
    root: OwnedFd,
    /// No link may lead out of `root`.
    jail: bool,
    /// In a directory, where nothing comes and goes: the folder that was looked into last. Links are read in rows.
    last: RefCell<Option<(String, Rc<OwnedFd>)>>,
}

impl Tree {
    fn open(&self, doing: &'static str, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let relative = relative(path);
        let flags = flags | OFlags::CLOEXEC;
        let opened = if self.jail {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(&self.root, relative, flags, Mode::empty(), resolve)
        } else {
            rustix::fs::openat(&self.root, relative, flags, Mode::empty())
        };
        opened.map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP if self.jail => FaceError::Escapes { path: path.into() },
            errno => FaceError::Kernel { doing, path: path.into(), errno },
        })
    }

    /// The directory above the last component, and that component: what is asked of it follows no link.
    fn above<'a>(&self, doing: &'static str, path: &'a str) -> Result<(Rc<OwnedFd>, &'a str)> {
        let (parent, name) = (crate::path::parent(path), crate::path::name(path));
        if let Some((known, folder)) = &*self.last.borrow()
            && known == parent
        {
            return Ok((Rc::clone(folder), name));
        }
        let folder = Rc::new(self.open(doing, parent, OFlags::PATH | OFlags::DIRECTORY)?);
        self.last.replace(Some((parent.to_owned(), Rc::clone(&folder))));
        Ok((folder, name))
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        let fail = |errno| FaceError::Kernel { doing: "look at", path: path.into(), errno };
        if self.jail {
            let (parent, name) = self.above("look at", path)?;
            return rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail);
        }
        rustix::fs::statat(&self.root, relative(path), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
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

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
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

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let fail = |errno| FaceError::Kernel { doing: "list", path: path.into(), errno };
        let dir = self.open("list", path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut listing = RawDir::new(dir, &mut buffer);
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
        Ok(entries)
    }

    fn link(&self, path: &str) -> Result<String> {
        let fail = |errno| FaceError::Kernel { doing: "read the link", path: path.into(), errno };
        let text = if self.jail {
            let (parent, name) = self.above("read the link", path)?;
            rustix::fs::readlinkat(&*parent, name, Vec::new()).map_err(fail)?
        } else {
            rustix::fs::readlinkat(&self.root, relative(path), Vec::new()).map_err(fail)?
        };
        Ok(text.to_string_lossy().into_owned())
    }

    fn kind(&self, path: &str) -> Result<Kind> {
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

fn number(block: bool, stat: &Stat) -> Node {
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

impl Face for Host {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.tree.read(path)
    }

    fn read_within(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        match &self.helper {
            Some(program) => super::helper::read(program, path, deadline),
            None => self.read(path),
        }
    }

    fn write_within(&self, path: &str, value: &[u8], deadline: Duration, locks: &[std::fs::File]) -> Result<()> {
        match &self.helper {
            Some(program) => super::helper::write(program, path, value, deadline, locks),
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
            let why = "its number is not the kernel's: it is given to nobody";
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
        self.tree.write(path, value)
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
        if let Some(program) = &self.helper {
            return super::helper::claimed(program, path, PATIENCE);
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

impl Face for Directory {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.tree.read(path)
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        self.tree.write(path, value)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.tree.list(path)
    }

    fn link(&self, path: &str) -> Result<String> {
        self.tree.link(path)
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        let kind = self.tree.kind(path)?;
        if kind == Kind::File && path.starts_with("/dev/") {
            return Ok(self.tree.read(path).ok().and_then(|bytes| described(&bytes)).map_or(kind, Kind::Node));
        }
        Ok(kind)
    }

    fn open_node(&self, _: u32, _: u32, text: &str) -> Option<Node> {
        if !text.starts_with("/dev/") || text.split('/').any(|part| part == "..") {
            return None;
        }
        match self.kind(text) {
            Ok(Kind::Node(node)) => Some(node),
            _ => None,
        }
    }

    fn owner(&self, path: &str) -> Result<(u32, u32)> {
        self.tree.stat(path).map(|stat| (stat.st_uid, stat.st_gid))
    }

    fn claimed(&self, _: &str, _: Node) -> Option<bool> {
        None
    }

    fn load_module(&self, name: &str) -> Result<()> {
        Err(FaceError::Unsupported { path: name.into(), why: "a directory has no kernel that could load a module" })
    }

    fn own(&self, path: &str, _: Node, _: u32, _: u32) -> Result<()> {
        Err(FaceError::Unsupported { path: path.into(), why: "nodes of a directory are given to nobody" })
    }

    fn has_kernel(&self) -> bool {
        false
    }
}

/// The number that the text `c 13:69` stands for.
fn described(bytes: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let (kind, number) = text.split_once(' ')?;
    let (major, minor) = number.split_once(':')?;
    let block = match kind {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    Some(Node { block, major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn fake() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/a")).unwrap();
        std::fs::create_dir_all(dir.path().join("dev")).unwrap();
        let face = Directory::open(dir.path()).unwrap();
        (dir, face)
    }

    #[test]
    fn a_link_that_leads_out_is_refused_and_not_followed() {
        let (dir, face) = fake();
        symlink("/etc/hostname", dir.path().join("sys/a/absolute")).unwrap();
        symlink("../../../../../../etc/hostname", dir.path().join("sys/a/climbs")).unwrap();
        symlink("../..", dir.path().join("sys/a/top")).unwrap();
        for path in ["/sys/a/absolute", "/sys/a/climbs"] {
            assert!(matches!(face.read(path), Err(FaceError::Escapes { .. })), "{path}: {:?}", face.read(path));
        }
        assert!(matches!(face.resolve("/sys/a/top"), Err(FaceError::Escapes { .. })));
    }

    #[test]
    fn a_pipe_is_refused_and_does_not_block() {
        let (dir, face) = fake();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("sys/a/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(face.read("/sys/a/pipe"), Err(FaceError::Special { what: "a pipe", .. })));
    }

    #[test]
    fn a_file_can_describe_a_node() {
        let (dir, face) = fake();
        std::fs::write(dir.path().join("dev/sda"), "b 8:0\n").unwrap();
        assert_eq!(face.kind("/dev/sda").unwrap(), Kind::Node(Node { block: true, major: 8, minor: 0 }));
        assert_eq!(face.open_node(1, 3, "/dev/sda").unwrap().to_string(), "8:0");
    }

    #[test]
    fn a_missing_file_is_absent_and_named() {
        let (_dir, face) = fake();
        let error = face.read("/sys/a/nothing").unwrap_err();
        assert!(error.is_absent());
        assert!(error.to_string().contains("/sys/a/nothing"), "{error}");
    }
}
