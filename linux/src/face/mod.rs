//! The calls by which everything else reaches the host.
//!
//! Paths are absolute and as on the host (`/sys/bus/pci/devices`), whatever stands behind the face.

mod addresses;
mod directory;
mod folders;
pub mod helper;
mod host;
mod kernel_log;
mod memo;
mod module;
mod tree;
mod uevent;

use std::time::Duration;

pub use directory::Directory;
pub use host::Host;
pub(crate) use memo::Memo;
pub use uevent::{Change, Uevent, Uevents, parse as parse_uevent};

use rustix::io::Errno;

/// Largest file that is read, in bytes. `pci.ids` has 1.5 MiB; `mountinfo` of a host with 10,000 mounts has 2 MiB.
pub const MAX_READ: usize = 16 << 20;

/// Deadline of an attribute that waits for the device's lock, for commands that only look. A busy machine may need a large part of it
/// to start the process that reads.
pub const READ_DEADLINE: Duration = Duration::from_secs(2);

/// The name of the interfaces' addresses, in place of a path.
const ADDRESSES: &str = "the addresses of the interfaces";

/// A failed call, with the path that it was about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaceError {
    /// The kernel said no.
    #[error("cannot {doing} {path}: {}", words(*.errno))]
    Kernel {
        /// A verb: read, write, list.
        doing: &'static str,
        /// The path.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A link leads out of the directory that stands for the host.
    #[error("{path} leads out of the directory given as --root; it is not followed")]
    Escapes {
        /// The path of the link, or one that goes through it.
        path: String,
    },
    /// Neither a regular file nor a directory: a read could block.
    #[error("{path} is {what}, not a regular file; it is not read")]
    Special {
        /// The path.
        path: String,
        /// Its kind, for a message.
        what: &'static str,
    },
    /// More than [`MAX_READ`] bytes.
    #[error("{path} holds more than {} MiB; it is not read", MAX_READ >> 20)]
    TooLarge {
        /// The path.
        path: String,
    },
    /// No answer within the deadline.
    #[error("{path} was not answered within {} ms: an unbind or a probe of the device may be under way", .after.as_millis())]
    Late {
        /// The path.
        path: String,
        /// The deadline.
        after: Duration,
        /// The helper process that still waits for the kernel. It cannot be killed.
        helper: Option<u32>,
    },
    /// The face cannot do this.
    #[error("{path}: {why}")]
    Unsupported {
        /// The path.
        path: String,
        /// The reason.
        why: &'static str,
    },
}

/// The kernel's answer in words, with its name for those who search for it.
pub fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => format!("{} ({errno:?})", &text[..end]),
        None => text,
    }
}

impl FaceError {
    /// True when there is nothing at the path.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Kernel { errno: Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO, .. })
    }

    /// The kernel's answer, if it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// The outcome of a call.
pub type Result<T> = std::result::Result<T, FaceError>;

/// Kind of the file at a path, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device node.
    Node(Node),
    /// A pipe or a socket.
    Other,
}

/// A device number with its kind, as a device node has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// True for a block device, false for a character device.
    pub block: bool,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// True for a directory, links not followed.
    pub dir: bool,
    /// True for a symbolic link.
    pub link: bool,
}

/// The calls that reach a host.
pub trait Face {
    /// The contents of the file at `path`, at most [`MAX_READ`] bytes.
    fn read(&self, path: &str) -> Result<Vec<u8>>;

    /// The same for attributes that wait for the device's lock: [`FaceError::Late`] when there is no answer in time.
    ///
    /// `driver_override` is one. While an unbind of the device hangs, reading it hangs, too.
    fn read_within(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        let _ = deadline;
        self.read(path)
    }

    /// Writes `value` in one call.
    fn write(&self, path: &str, value: &[u8]) -> Result<()>;

    /// The same for a write that can wait without end, as that to `unbind` does while a process holds the device.
    ///
    /// After [`FaceError::Late`] the write is still under way, and the process that makes it keeps `locks` locked.
    fn write_within(&self, path: &str, value: &[u8], deadline: Duration, locks: &[std::fs::File]) -> Result<()> {
        let _ = (deadline, locks);
        self.write(path, value)
    }

    /// Loads a module with those that it needs.
    fn load_module(&self, name: &str) -> Result<()>;

    /// Makes `user` and `group` the owner of the node at `path`, if it has this number, and lets both read and write.
    fn own(&self, path: &str, node: Node, user: u32, group: u32) -> Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, path: &str) -> Result<Vec<Entry>>;

    /// The text of the symbolic link at `path`.
    fn link(&self, path: &str) -> Result<String>;

    /// Kind of the file at `path`, the last component not followed.
    fn kind(&self, path: &str) -> Result<Kind>;

    /// The device number of what process `pid` has open as `fd`, when it is a device.
    fn open_node(&self, pid: u32, fd: u32, text: &str) -> Option<Node>;

    /// User and group that own what is at `path`.
    fn owner(&self, path: &str) -> Result<(u32, u32)>;

    /// True when some user has the block device at `path` open exclusively, as a mounted file system has, or the node of a
    /// VFIO group open at all; `None` when that is unknown.
    fn claimed(&self, path: &str, node: Node) -> Option<bool>;

    /// True when a kernel stands behind the face, so that writes have effects.
    fn has_kernel(&self) -> bool;

    /// A line for each IPv4 address: the interface's name, and the address. Empty when only its routes tell of one.
    fn addresses(&self) -> Result<String> {
        Ok(String::new())
    }

    /// The changes to devices from now on.
    fn uevents(&self) -> Result<Box<dyn Uevents>> {
        Err(FaceError::Unsupported {
            path: "uevents".into(),
            why: "there is no kernel behind it that announces changes",
        })
    }

    /// The records of the kernel's log, oldest first, as `/dev/kmsg` gives them.
    fn kernel_log(&self) -> Result<Vec<String>> {
        Ok(kernel_log::split(&self.text(kernel_log::PATH)?))
    }

    /// True when the caller may write to the kernel's files.
    fn may_write(&self) -> bool {
        true
    }

    /// The file's contents as text without the newline at its end; bytes that are not UTF-8 are replaced.
    fn text(&self, path: &str) -> Result<String> {
        let bytes = self.read(path)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_owned())
    }

    /// The same for a file that may wait for a lock of the device's.
    fn text_within(&self, path: &str, deadline: Duration) -> Result<String> {
        let bytes = self.read_within(path, deadline)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_owned())
    }

    /// The text of a file that may be missing or unreadable.
    fn try_text(&self, path: &str) -> Option<String> {
        self.text(path).ok()
    }

    /// True when there is something at `path`.
    fn exists(&self, path: &str) -> bool {
        self.kind(path).is_ok()
    }

    /// Names in a directory; empty when it is missing or unreadable.
    fn names(&self, path: &str) -> Vec<String> {
        self.list(path).unwrap_or_default().into_iter().map(|entry| entry.name).collect()
    }

    /// Target of the link in sysfs at `path`.
    ///
    /// `Ok(None)` when there is no link.
    fn resolve(&self, path: &str) -> Result<Option<String>> {
        match self.link(path) {
            Ok(text) => match crate::path::target(path, &text) {
                Some(target) => Ok(Some(target)),
                None => Err(FaceError::Escapes { path: path.into() }),
            },
            Err(error) if error.is_absent() || error.errno() == Some(Errno::INVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last component of where a link leads; `None` when there is no link that can be followed.
    fn link_name(&self, path: &str) -> Option<String> {
        self.resolve(path).ok().flatten().map(|target| crate::path::name(&target).to_owned())
    }
}
