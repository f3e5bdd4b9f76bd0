//! The control tree of a simulated board as the plan engine's host.
//!
//! `/sys` is the tree itself. What Linux shows beside it is derived from the same machine: the VFIO class and the nodes of
//! groups that have a member on vfio-platform, the id of the boot, and a process for a guest that holds its device.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::time::Duration;

use bindery::control::{ControlError, EntryKind, Tree};
use bindery_drivers::vfio::Session;
use bindery_explore::{Chooser, Kind as ChoiceKind, Scene};
use bindery_linux::face::{Entry, Face, FaceError, Kind, Node, Result};
use bindery_linux::path;
use rustix::io::Errno;

/// The pass-through owner's name as a driver.
pub(crate) const VFIO: &str = "vfio-platform";

/// The major number of the groups' nodes.
const MAJOR: u32 = 510;

/// The process of the guest that holds a device.
pub(crate) const GUEST: u32 = 4242;

/// Payload of the unwinding by which the tool is killed; it runs no panic hook.
pub(crate) struct Crash;

/// A write that has not returned in time and is still under way, made by a helper that keeps the locks.
struct UnderWay {
    path: String,
    value: String,
    _locks: Vec<File>,
}

/// The face.
pub(crate) struct Board<'a> {
    tree: &'a Tree,
    scene: &'a Scene,
    /// The operation of the abandoned helper that is still under way.
    late: RefCell<Option<UnderWay>>,
    /// The guest's session, and the group it holds.
    pub(crate) guest: RefCell<Option<(Session, String)>>,
    /// Set when faults are disabled, and the tool is not killed.
    faults_disabled: Cell<bool>,
    /// Writes that reached the machine.
    pub(crate) writes: Cell<usize>,
}

fn fail(doing: &'static str, path: &str, errno: Errno) -> FaceError {
    FaceError::Kernel { doing, path: path.into(), errno }
}

/// Linux's number for an error of the control tree.
fn errno(error: &ControlError) -> Errno {
    Errno::from_raw_os_error(error.errno as i32)
}

impl<'a> Board<'a> {
    pub(crate) fn new(scene: &'a Scene) -> Self {
        Self {
            tree: scene.tree(),
            scene,
            late: RefCell::default(),
            guest: RefCell::default(),
            faults_disabled: Cell::new(false),
            writes: Cell::new(0),
        }
    }

    pub(crate) fn disable_faults(&self) {
        self.faults_disabled.set(true);
        self.scene.disable_faults(true);
    }

    fn chooser(&self) -> &Chooser {
        self.scene.chooser()
    }

    /// A scheduling point at which the tool may be killed.
    pub(crate) fn scheduling_point(&self) {
        if !self.faults_disabled.get() && self.chooser().choose(ChoiceKind::Preemption, "the tool is killed", 2) == 1 {
            self.chooser().cover("killed");
            std::panic::resume_unwind(Box::new(Crash));
        }
    }

    fn fault(&self, what: &'static str) -> bool {
        !self.faults_disabled.get() && self.chooser().fault(what)
    }

    /// Completes the operation of the abandoned helper: its write is made, and its locks are released.
    pub(crate) fn release(&self) -> bool {
        let Some(late) = self.late.take() else { return false };
        let _ = self.effect(&late.path, &late.value);
        true
    }

    fn effect(&self, path: &str, value: &str) -> Result<()> {
        self.writes.set(self.writes.get() + 1);
        let done = self.tree.write(path, value).map_err(|error| fail("write", path, errno(&error)));
        // Linux probes waiters from a work queue of its own, soon after.
        self.scene.machine().settle();
        done.map(|_| ())
    }

    /// Groups that have a node: one member at least is on vfio-platform.
    fn groups(&self) -> Vec<String> {
        let on_vfio = |group: &String| {
            let devices = format!("/sys/kernel/iommu_groups/{group}/devices");
            let members = self.tree.list(&devices).unwrap_or_default();
            members.iter().any(|m| {
                let link = self.tree.read_link(&format!("{devices}/{}/driver", m.name));
                link.is_ok_and(|text| path::name(&text) == VFIO)
            })
        };
        let groups = self.tree.list("/sys/kernel/iommu_groups").unwrap_or_default();
        groups.into_iter().map(|entry| entry.name).filter(on_vfio).collect()
    }

    fn node_of(&self, group: &str) -> Option<Node> {
        let minor = group.parse().ok()?;
        self.groups().iter().any(|g| g == group).then_some(Node { block: false, major: MAJOR, minor })
    }

    /// Files that are not in the control tree.
    fn beside(&self, at: &str) -> Option<Beside> {
        let parts: Vec<&str> = at.split('/').skip(1).collect();
        let guest = self.guest.borrow();
        let held = guest.as_ref().filter(|(session, _)| !session.is_revoked()).map(|(_, group)| group);
        let pid = GUEST.to_string();
        Some(match parts[..] {
            ["dev"] => Beside::Dir(vec![dir("vfio")]),
            ["sys", "class", "vfio"] => Beside::Dir(self.groups().iter().map(|g| dir(g)).collect()),
            ["dev", "vfio"] => Beside::Dir(self.groups().iter().map(|g| file(g)).collect()),
            ["sys", "class", "vfio", group] => {
                self.node_of(group)?;
                Beside::Dir(vec![file("dev")])
            }
            ["sys", "class", "vfio", group, "dev"] => Beside::File(format!("{}\n", self.node_of(group)?)),
            ["dev", "vfio", group] => Beside::Node(self.node_of(group)?),
            ["proc"] => Beside::Dir(held.map(|_| dir(&pid)).into_iter().collect()),
            ["proc", "sys", "kernel", "random", "boot_id"] => Beside::File("the only boot\n".into()),
            ["proc", who, "comm"] if who == pid => Beside::File("guest\n".into()),
            ["proc", who, "fd"] if who == pid => Beside::Dir(held.map(|_| link("9")).into_iter().collect()),
            ["proc", who, "fd", "9"] if who == pid => Beside::Link(format!("/dev/vfio/{}", held?)),
            _ => return None,
        })
    }
}

enum Beside {
    Dir(Vec<Entry>),
    File(String),
    Link(String),
    Node(Node),
}

fn dir(name: &str) -> Entry {
    Entry { name: name.into(), dir: true, link: false }
}

fn file(name: &str) -> Entry {
    Entry { name: name.into(), dir: false, link: false }
}

fn link(name: &str) -> Entry {
    Entry { name: name.into(), dir: false, link: true }
}

impl Face for Board<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        match self.beside(path) {
            Some(Beside::File(text)) => Ok(text.into_bytes()),
            Some(_) => Err(fail("read", path, Errno::ISDIR)),
            None => self.tree.read(path).map(String::into_bytes).map_err(|e| fail("read", path, errno(&e))),
        }
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        let value = std::str::from_utf8(value).unwrap();
        self.scheduling_point();
        if self.fault("a write is refused") {
            return Err(fail("write", path, Errno::IO));
        }
        if self.fault("a write does nothing and says that it worked") {
            return Ok(());
        }
        let done = self.effect(path, value);
        self.scheduling_point();
        done
    }

    fn write_within(&self, path: &str, value: &[u8], deadline: Duration, locks: &[File]) -> Result<()> {
        if self.fault("a write does not return in time") {
            let locks = locks.iter().map(|lock| lock.try_clone().unwrap()).collect();
            let value = String::from_utf8(value.into()).unwrap();
            self.late.replace(Some(UnderWay { path: path.into(), value, _locks: locks }));
            return Err(FaceError::Late { path: path.into(), after: deadline, helper: Some(1) });
        }
        self.write(path, value)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        match self.beside(path) {
            Some(Beside::Dir(entries)) => return Ok(entries),
            Some(_) => return Err(fail("list", path, Errno::NOTDIR)),
            None => {}
        }
        let entries = self.tree.list(path).map_err(|e| fail("list", path, errno(&e)))?;
        let entry = |e: bindery::control::Entry| Entry {
            dir: e.kind == EntryKind::Dir,
            link: matches!(e.kind, EntryKind::Link { .. }),
            name: e.name,
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn link(&self, path: &str) -> Result<String> {
        match self.beside(path) {
            Some(Beside::Link(text)) => Ok(text),
            Some(_) => Err(fail("read the link", path, Errno::INVAL)),
            None => self.tree.read_link(path).map_err(|e| fail("read the link", path, errno(&e))),
        }
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        match self.beside(path) {
            Some(Beside::Dir(_)) => return Ok(Kind::Dir),
            Some(Beside::File(_)) => return Ok(Kind::File),
            Some(Beside::Link(_)) => return Ok(Kind::Link),
            Some(Beside::Node(node)) => return Ok(Kind::Node(node)),
            None => {}
        }
        let siblings = self.tree.list(path::parent(path)).map_err(|e| fail("look at", path, errno(&e)))?;
        match siblings.into_iter().find(|e| e.name == path::name(path)).map(|e| e.kind) {
            Some(EntryKind::Dir) => Ok(Kind::Dir),
            Some(EntryKind::File { .. }) => Ok(Kind::File),
            Some(EntryKind::Link { .. }) => Ok(Kind::Link),
            None => Err(fail("look at", path, Errno::NOENT)),
        }
    }

    fn open_node(&self, _: u32, _: u32, text: &str) -> Option<Node> {
        self.node_of(text.strip_prefix("/dev/vfio/")?)
    }

    fn load_module(&self, name: &str) -> Result<()> {
        Err(FaceError::Unsupported { path: name.into(), why: "a board's drivers are all there" })
    }

    fn own(&self, path: &str, _: Node, _: u32, _: u32) -> Result<()> {
        Err(FaceError::Unsupported { path: path.into(), why: "a board has no users" })
    }

    fn owner(&self, _: &str) -> Result<(u32, u32)> {
        Ok((0, 0))
    }

    fn claimed(&self, _: &str, _: Node) -> Option<bool> {
        None
    }

    fn has_kernel(&self) -> bool {
        true
    }
}
