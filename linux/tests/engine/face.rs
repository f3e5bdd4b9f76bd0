//! The face of the kernel in memory.

use std::fs::File;
use std::rc::Rc;
use std::time::Duration;

use bindery_linux::face::{Entry as Listed, Face, FaceError, Kind, Node, Result};
use rustix::io::Errno;

use crate::kernel::{Entry, Kernel};

fn fail(doing: &'static str, path: &str) -> impl FnOnce(Errno) -> FaceError {
    move |errno| FaceError::Kernel { doing, path: path.into(), errno }
}

impl Face for Kernel {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        match self.look(path, true).map_err(fail("read", path))?.1 {
            Entry::File(bytes) => Ok(bytes),
            _ => Err(fail("read", path)(Errno::ISDIR)),
        }
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        self.write_to(path, value).map_err(fail("write", path))
    }

    fn write_within(&self, path: &str, value: &[u8], after: Duration, _: &[File]) -> Result<()> {
        match self.write_to(path, value) {
            Err(Errno::TIMEDOUT) => Err(FaceError::Late { path: path.into(), after, helper: Some(4711) }),
            done => done.map_err(fail("write", path)),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let (place, entry) = self.look(path, true).map_err(fail("list", path))?;
        if entry != Entry::Dir {
            return Err(fail("list", path)(Errno::NOTDIR));
        }
        let tree = self.tree.borrow();
        let below = format!("{place}/");
        let children = tree.range(below.clone()..).take_while(|(p, _)| p.starts_with(&below));
        let direct = children.filter(|(p, _)| !p[below.len()..].contains('/'));
        Ok(direct
            .map(|(p, entry)| Listed {
                name: p[below.len()..].into(),
                dir: *entry == Entry::Dir,
                link: matches!(entry, Entry::Link(_)),
            })
            .collect())
    }

    fn link(&self, path: &str) -> Result<String> {
        match self.look(path, false).map_err(fail("read the link", path))?.1 {
            Entry::Link(text) => Ok(text),
            _ => Err(fail("read the link", path)(Errno::INVAL)),
        }
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        self.kind_of(path).map_err(fail("look at", path))
    }

    fn open_node(&self, _: u32, _: u32, text: &str) -> Option<Node> {
        match self.kind_of(text) {
            Ok(Kind::Node(node)) => Some(node),
            _ => None,
        }
    }

    fn owner(&self, _: &str) -> Result<(u32, u32)> {
        Ok((0, 0))
    }

    fn claimed(&self, path: &str, _: Node) -> Option<bool> {
        self.busy.borrow().iter().any(|busy| busy == path).then_some(true)
    }

    fn load_module(&self, name: &str) -> Result<()> {
        let driver = self.unloaded.borrow_mut().remove(name);
        let driver = driver.ok_or(FaceError::Unsupported { path: name.into(), why: "there is no such module here" })?;
        self.tree.borrow_mut().extend(driver);
        Ok(())
    }

    fn own(&self, _: &str, _: Node, _: u32, _: u32) -> Result<()> {
        Ok(())
    }

    fn has_kernel(&self) -> bool {
        true
    }
}

/// The same kernel for one process after another.
pub(crate) struct Shared {
    pub(crate) kernel: Rc<Kernel>,
    /// True when the process may write.
    pub(crate) root: bool,
}

/// Attributes whose reads wait for the device's lock.
const LOCKED: [&str; 2] = ["/driver_override", "/sriov_numvfs"];

impl Face for Shared {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.read_within(path, Duration::MAX)
    }

    fn read_within(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        if LOCKED.iter().any(|name| path.ends_with(name)) {
            self.kernel.deadlines.borrow_mut().insert(deadline);
        }
        self.kernel.read(path)
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        self.kernel.write(path, value)
    }

    fn write_within(&self, path: &str, value: &[u8], after: Duration, locks: &[File]) -> Result<()> {
        self.kernel.write_within(path, value, after, locks)
    }

    fn list(&self, path: &str) -> Result<Vec<Listed>> {
        self.kernel.list(path)
    }

    fn link(&self, path: &str) -> Result<String> {
        self.kernel.link(path)
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        self.kernel.kind(path)
    }

    fn open_node(&self, pid: u32, fd: u32, text: &str) -> Option<Node> {
        self.kernel.open_node(pid, fd, text)
    }

    fn owner(&self, path: &str) -> Result<(u32, u32)> {
        self.kernel.owner(path)
    }

    fn claimed(&self, path: &str, node: Node) -> Option<bool> {
        self.kernel.claimed(path, node)
    }

    fn load_module(&self, name: &str) -> Result<()> {
        self.kernel.load_module(name)
    }

    fn own(&self, path: &str, node: Node, user: u32, group: u32) -> Result<()> {
        self.kernel.own(path, node, user, group)
    }

    fn has_kernel(&self) -> bool {
        true
    }

    fn may_write(&self) -> bool {
        self.root
    }
}
