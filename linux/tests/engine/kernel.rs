//! A kernel in memory: a tree of files like sysfs, where writes have the effects that they have on Linux.
//!
//! What it answers was measured on 6.1, 6.12 and 7.2: `drivers_probe` succeeds when nothing bound, an unbind by a driver
//! that does not have the device is ENODEV, a bind without a match is ENODEV and of a bound device EBUSY.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bindery_linux::face::{Face, Kind, Node};
use bindery_linux::path;
use rustix::io::Errno;

/// An entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Dir,
    File(Vec<u8>),
    Link(String),
    Node(Node),
}

/// Entries by path.
pub(crate) type Tree = BTreeMap<String, Entry>;

/// Fault of one write, instead of its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The kernel says no.
    Refuse(Errno),
    /// The same, and another program has done something to its device.
    Meanwhile(Meddling),
    /// The kernel says yes and does nothing.
    Nothing,
    /// The kernel does not answer.
    Hang,
}

/// What another program does to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meddling {
    /// It unbinds the device.
    Unbinds,
    /// It binds the device to a driver of its own, by an override that stays.
    Binds,
    /// The same, and the override is cleared.
    BindsAndClears,
    /// It writes an override.
    Overrides,
    /// It removes the device's functions, if there are any.
    Functions,
}

impl Meddling {
    pub(crate) const ALL: [Self; 5] =
        [Self::Unbinds, Self::Binds, Self::BindsAndClears, Self::Overrides, Self::Functions];
}

/// The other program's driver.
pub(crate) const THIRD: &str = "third";

/// The end of the command at a moment.
pub(crate) struct Crash;

/// Counts moments, and ends the command at one of them.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    pub(crate) now: Cell<usize>,
    pub(crate) at: Cell<Option<usize>>,
    /// Lines that the journal still has room for, when that is not without end.
    pub(crate) room: Cell<Option<usize>>,
}

impl Fuse {
    /// True when this moment is the last one.
    pub(crate) fn blows(&self) -> bool {
        let now = self.now.get();
        self.now.set(now + 1);
        self.at.get() == Some(now)
    }

    pub(crate) fn moment(&self) {
        if self.blows() {
            std::panic::panic_any(Crash);
        }
    }
}

/// The kernel.
pub(crate) struct Kernel {
    pub(crate) tree: RefCell<Tree>,
    /// The driver that matches each device without an override.
    native: RefCell<BTreeMap<String, String>>,
    /// Entries that a driver had made below its device, while it is unbound.
    made: RefCell<BTreeMap<String, Tree>>,
    /// Virtual functions while there are none: their parts of the tree.
    functions: RefCell<BTreeMap<String, Tree>>,
    /// PCI drivers whose modules are not loaded: their parts of the tree.
    pub(crate) unloaded: RefCell<BTreeMap<String, Tree>>,
    /// Faults by the number of the write.
    pub(crate) faults: RefCell<BTreeMap<usize, Fault>>,
    pub(crate) writes: Cell<usize>,
    /// The device that another program acts on.
    pub(crate) other: RefCell<String>,
    /// State of every device when it began to.
    pub(crate) found: RefCell<Option<BTreeMap<String, String>>>,
    /// Deadlines of the reads that wait for a device's lock; the longest duration for a read without one.
    pub(crate) deadlines: RefCell<BTreeSet<Duration>>,
    /// Nodes that a process has open that proc does not show.
    pub(crate) busy: RefCell<Vec<String>>,
    pub(crate) fuse: std::rc::Rc<Fuse>,
    minor: Cell<u32>,
}

impl Kernel {
    /// Starts with a tree.
    pub(crate) fn new(tree: Tree) -> Self {
        let kernel = Self {
            tree: RefCell::new(tree),
            native: RefCell::default(),
            made: RefCell::default(),
            functions: RefCell::default(),
            unloaded: RefCell::default(),
            faults: RefCell::default(),
            writes: Cell::new(0),
            other: RefCell::default(),
            found: RefCell::default(),
            deadlines: RefCell::default(),
            busy: RefCell::default(),
            fuse: std::rc::Rc::default(),
            minor: Cell::new(40),
        };
        for name in kernel.names("/sys/bus/pci/devices") {
            if let Some(driver) = kernel.driver(&name) {
                kernel.native.borrow_mut().insert(name, driver);
            }
        }
        kernel
    }

    /// Says which driver matches a device.
    pub(crate) fn matches(&self, device: &str, driver: &str) {
        self.native.borrow_mut().insert(device.into(), driver.into());
    }

    pub(crate) fn device(&self, name: &str) -> Option<String> {
        self.resolve(&format!("/sys/bus/pci/devices/{name}")).ok().flatten()
    }

    pub(crate) fn driver(&self, name: &str) -> Option<String> {
        self.link_name(&format!("{}/driver", self.device(name)?))
    }

    pub(crate) fn over(&self, name: &str) -> Option<String> {
        let text = self.try_text(&format!("{}/driver_override", self.device(name)?))?;
        (text != "(null)").then_some(text)
    }

    pub(crate) fn power(&self, name: &str) -> Option<String> {
        self.try_text(&format!("{}/power/control", self.device(name)?))
    }

    /// State of every device: driver, override, number of functions, autoprobe.
    pub(crate) fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for name in self.names("/sys/bus/pci/devices") {
            let base = self.device(&name).unwrap();
            // While VFIO has the device, it is VFIO's to decide.
            let given = self.driver(&name).is_some_and(|driver| driver.contains("vfio"));
            let file = |file: &str| self.try_text(&format!("{base}/{file}")).unwrap_or_default();
            let text = format!(
                "{:?} {:?} {} {} {}",
                self.driver(&name),
                self.over(&name),
                file("sriov_numvfs"),
                file("sriov_drivers_autoprobe"),
                if given { String::new() } else { file("power/control") }
            );
            state.insert(name, text);
        }
        state
    }

    fn put(&self, path: &str, entry: Entry) {
        let mut tree = self.tree.borrow_mut();
        let mut parent = path::parent(path);
        while !parent.is_empty() {
            tree.entry(parent.into()).or_insert(Entry::Dir);
            parent = path::parent(parent);
        }
        tree.insert(path.into(), entry);
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        self.put(path, Entry::File(format!("{text}\n").into_bytes()));
    }

    /// A link as the kernel writes it: relative.
    fn link_to(&self, path: &str, target: &str) {
        let up = "../".repeat(path.matches('/').count() - 2);
        self.put(path, Entry::Link(format!("{up}{}", target.trim_start_matches("/sys/"))));
    }

    /// Takes everything at and below `path` out of the tree.
    fn cut(&self, path: &str) -> Tree {
        let mut tree = self.tree.borrow_mut();
        let names: Vec<String> = tree.keys().filter(|p| path::within(p, path)).cloned().collect();
        names.into_iter().filter_map(|name| tree.remove_entry(&name)).collect()
    }

    /// Unloads the module of a PCI driver, whose directory vanishes.
    pub(crate) fn unload(&self, driver: &str) {
        let tree = self.cut(&format!("/sys/bus/pci/drivers/{driver}"));
        self.unloaded.borrow_mut().insert(driver.into(), tree);
    }

    pub(crate) fn unbind(&self, name: &str, driver: &str) -> Result<(), Errno> {
        let base = self.device(name).ok_or(Errno::NODEV)?;
        if self.driver(name).as_deref() != Some(driver) {
            return Err(Errno::NODEV);
        }
        self.cut(&format!("{base}/driver"));
        self.cut(&format!("/sys/bus/pci/drivers/{driver}/{name}"));
        let children = self.list(&base).unwrap();
        let mut made = BTreeMap::new();
        for child in children.iter().filter(|c| c.dir && c.name != "power") {
            let path = format!("{base}/{}", child.name);
            // Functions behind a bridge are devices of their own.
            if !self.exists(&format!("{path}/driver_override")) {
                made.extend(self.cut(&path));
            }
        }
        if driver.contains("vfio") {
            // It forbids runtime power management when it leaves.
            self.file(&format!("{base}/power/control"), "on");
            if let Some(group) = self.link_name(&format!("{base}/iommu_group")) {
                self.cut(&format!("/sys/class/vfio/{group}"));
                self.cut(&format!("/sys/devices/virtual/vfio/{group}"));
                self.cut(&format!("/dev/vfio/{group}"));
            }
        } else {
            self.made.borrow_mut().insert(name.into(), made);
        }
        Ok(())
    }

    fn bind(&self, name: &str, driver: &str) -> Result<(), Errno> {
        let base = self.device(name).ok_or(Errno::NODEV)?;
        if self.driver(name).is_some() {
            return Err(Errno::BUSY);
        }
        let matches = match self.over(name) {
            Some(over) => over == driver,
            None => self.native.borrow().get(name).is_some_and(|native| native == driver),
        };
        if !matches {
            return Err(Errno::NODEV);
        }
        if driver.contains("vfio") {
            let group = self.link_name(&format!("{base}/iommu_group")).ok_or(Errno::INVAL)?;
            let minor = self.minor.get();
            self.minor.set(minor + 1);
            self.file(&format!("/sys/devices/virtual/vfio/{group}/dev"), &format!("510:{minor}"));
            self.link_to(&format!("/sys/class/vfio/{group}"), &format!("/sys/devices/virtual/vfio/{group}"));
            self.put(&format!("/dev/vfio/{group}"), Entry::Node(Node { block: false, major: 510, minor }));
        } else if let Some(made) = self.made.borrow_mut().remove(name) {
            self.tree.borrow_mut().extend(made);
        }
        self.link_to(&format!("{base}/driver"), &format!("/sys/bus/pci/drivers/{driver}"));
        self.link_to(&format!("/sys/bus/pci/drivers/{driver}/{name}"), &base);
        Ok(())
    }

    fn probe(&self, name: &str) -> Result<(), Errno> {
        self.device(name).ok_or(Errno::INVAL)?;
        let driver = self.over(name).or_else(|| self.native.borrow().get(name).cloned());
        if let Some(driver) = driver
            && self.exists(&format!("/sys/bus/pci/drivers/{driver}"))
        {
            let _ = self.bind(name, &driver);
        }
        Ok(())
    }

    fn functions(&self, base: &str, count: u32) -> Result<(), Errno> {
        let now: u32 = self.try_text(&format!("{base}/sriov_numvfs")).and_then(|t| t.parse().ok()).ok_or(Errno::IO)?;
        if now != 0 && count != 0 {
            return Err(Errno::BUSY);
        }
        if count == 0 {
            let links = self.list(base).unwrap();
            for entry in links.iter().filter(|e| e.name.starts_with("virtfn")) {
                let link = format!("{base}/{}", entry.name);
                let function = self.resolve(&link).unwrap().unwrap();
                let name = path::name(&function).to_owned();
                if let Some(driver) = self.driver(&name) {
                    self.unbind(&name, &driver)?;
                }
                self.file(&format!("{function}/driver_override"), "(null)");
                let mut part = self.cut(&function);
                part.extend(self.cut(&link));
                part.extend(self.cut(&format!("/sys/bus/pci/devices/{name}")));
                self.functions.borrow_mut().insert(name, part);
            }
        } else {
            let parts = std::mem::take(&mut *self.functions.borrow_mut());
            let autoprobe = self.try_text(&format!("{base}/sriov_drivers_autoprobe")).as_deref() == Some("1");
            for (name, part) in parts {
                self.tree.borrow_mut().extend(part);
                if autoprobe {
                    self.probe(&name)?;
                }
            }
        }
        self.file(&format!("{base}/sriov_numvfs"), &count.to_string());
        Ok(())
    }

    fn effect(&self, path: &str, value: &str) -> Result<(), Errno> {
        let value = value.trim_end_matches('\n');
        let parent = path::parent(path);
        match path::name(path) {
            "driver_override" => self.file(path, if value.is_empty() { "(null)" } else { value }),
            "unbind" => self.unbind(value, path::name(parent))?,
            "bind" => self.bind(value, path::name(parent))?,
            "drivers_probe" => self.probe(value)?,
            "sriov_numvfs" => self.functions(parent, value.parse().map_err(|_| Errno::INVAL)?)?,
            "sriov_drivers_autoprobe" | "control" | "d3cold_allowed" => self.file(path, value),
            other => panic!("nobody writes {other}"),
        }
        Ok(())
    }

    /// Does what another program does, if the device is there.
    fn meddle(&self, name: &str, how: Meddling) {
        *self.found.borrow_mut() = Some(self.state());
        let Some(base) = self.device(name) else { return };
        if matches!(how, Meddling::Unbinds | Meddling::Binds | Meddling::BindsAndClears)
            && let Some(driver) = self.driver(name)
        {
            self.unbind(name, &driver).unwrap();
        }
        match how {
            Meddling::Unbinds => {}
            Meddling::Binds | Meddling::BindsAndClears => {
                self.put(&format!("/sys/bus/pci/drivers/{THIRD}"), Entry::Dir);
                self.file(&format!("{base}/driver_override"), THIRD);
                self.bind(name, THIRD).unwrap();
                if how == Meddling::BindsAndClears {
                    self.file(&format!("{base}/driver_override"), "(null)");
                }
            }
            Meddling::Overrides => self.file(&format!("{base}/driver_override"), THIRD),
            Meddling::Functions => {
                if self.exists(&format!("{base}/sriov_numvfs")) {
                    self.functions(&base, 0).unwrap();
                }
            }
        }
    }

    /// Does what a write does.
    pub(crate) fn write_to(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        self.fuse.moment();
        if !self.exists(path) {
            return Err(Errno::NOENT);
        }
        let number = self.writes.get();
        self.writes.set(number + 1);
        let done = match self.faults.borrow().get(&number) {
            Some(Fault::Refuse(errno)) => Err(*errno),
            Some(Fault::Meanwhile(how)) => {
                self.meddle(&self.other.borrow(), *how);
                Err(Errno::NODEV)
            }
            Some(Fault::Nothing) => Ok(()),
            Some(Fault::Hang) => Err(Errno::TIMEDOUT),
            None => self.effect(path, std::str::from_utf8(value).unwrap()),
        };
        self.fuse.moment();
        done
    }
}

/// Reads a directory.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    load(root, "", &mut tree);
    tree
}

fn load(root: &Path, path: &str, tree: &mut Tree) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for entry in std::fs::read_dir(root.join(path.trim_start_matches('/'))).unwrap() {
        let entry = entry.unwrap();
        let at = format!("{path}/{}", entry.file_name().to_str().unwrap());
        let meta = entry.path().symlink_metadata().unwrap();
        let kind = meta.file_type();
        let loaded = if kind.is_dir() {
            load(root, &at, tree);
            Entry::Dir
        } else if kind.is_symlink() {
            Entry::Link(std::fs::read_link(entry.path()).unwrap().to_str().unwrap().into())
        } else if kind.is_block_device() || kind.is_char_device() {
            let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            Entry::Node(Node { block: kind.is_block_device(), major, minor })
        } else {
            Entry::File(std::fs::read(entry.path()).unwrap())
        };
        tree.insert(at, loaded);
    }
}

impl Kernel {
    /// The entry at a path, links on the way followed, and the last one, too, when asked.
    pub(crate) fn look(&self, at: &str, last: bool) -> Result<(String, Entry), Errno> {
        let tree = self.tree.borrow();
        let mut place = String::new();
        let parts: Vec<&str> = at.split('/').filter(|p| !p.is_empty()).collect();
        for (index, part) in parts.iter().enumerate() {
            place = format!("{place}/{part}");
            if let Some(Entry::Link(text)) = tree.get(&place)
                && (last || index + 1 < parts.len())
            {
                place = path::target(&place, text).ok_or(Errno::XDEV)?;
            }
        }
        tree.get(&place).cloned().map(|entry| (place, entry)).ok_or(Errno::NOENT)
    }

    pub(crate) fn kind_of(&self, at: &str) -> Result<Kind, Errno> {
        Ok(match self.look(at, false)?.1 {
            Entry::Dir => Kind::Dir,
            Entry::File(_) => Kind::File,
            Entry::Link(_) => Kind::Link,
            Entry::Node(node) => Kind::Node(node),
        })
    }
}
