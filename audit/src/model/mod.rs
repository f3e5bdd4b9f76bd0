//! The life of each device, and what is judged in it.

mod bursts;
mod crash;
mod device;
mod devres;
mod dma;
mod judge;
mod kprobe;
mod life;
mod log;
mod record;
mod recording;
mod stack;
mod task;
mod turn;
mod verdict;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Family, Suppressed};
use crate::host::Host;
use crate::pattern::Patterns;
use crate::shape::{Header, Place, Stamp};

pub use device::Device;
pub use life::{End, Life};
pub use verdict::{Cite, Fact, Finding, Known, Outcome, Verdict};

use task::{Task, TaskKey};

/// Most devices that are followed; further ones are counted.
const MAX_DEVICES: usize = 65_536;
/// Most tasks whose context is kept.
const MAX_TASKS: usize = 65_536;
/// Longest text of a line that is cited.
const MAX_CITE: usize = 400;

/// A device's number in the model.
type Id = usize;

/// Kinds of evidence that were recorded: silence proves something only where an event would have been recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// `dma:*` events.
    pub dma: bool,
    /// `iommu:map`.
    pub iommu_map: bool,
    /// `iommu:unmap`.
    pub iommu_unmap: bool,
    /// `dev:devres_log`.
    pub devres: bool,
    /// Functions of back-ends.
    pub backends: bool,
    /// Functions of the driver core.
    pub lifecycle: bool,
    /// `devres_release_all`.
    pub release_all: bool,
    /// `device_unbind_cleanup`.
    pub cleanup: bool,
    /// Attachments of devices to domains, or changes of groups, as events.
    pub domains: bool,
    /// `really_probe`.
    pub probes: bool,
    /// Functions of back-ends that free.
    pub frees: bool,
    /// Kinds of frees and unmaps among `dma:*`, a bit for each [`Family`].
    pub gave: u8,
    /// Kinds of allocations and mappings among `dma:*`, a bit for each [`Family`].
    pub took: u8,
    /// Functions of back-ends that allocate.
    pub allocs: bool,
    /// A file of the recorder's, which enables all events of the DMA API or none.
    pub recorder: bool,
    /// The first task whose events were recorded, and whether there were others, or interrupts.
    pub tasks: (Option<u32>, bool),
    /// Any kernel log.
    pub log: bool,
    /// A comment that events were lost, without their place.
    pub missed: bool,
    /// Events that a tool could not print.
    pub unprinted: bool,
    /// `dma:*` lines that end with the last field that the kernel prints.
    pub whole: bool,
    /// Lines without flags: whether a task or an interrupt in it recorded them is not known.
    pub mixed: bool,
}

impl Heard {
    /// True where frees and unmaps are known to be recorded: there are some.
    fn gives(self) -> bool {
        self.gave != 0 || self.recorder
    }

    /// True where frees of this kind are known to be recorded.
    fn gives_of(self, family: Family) -> bool {
        self.gave & 1 << family as u8 != 0 || self.recorder
    }

    /// True where the IOMMU's events show that something is mapped, and nothing shows that anything is given back.
    fn maps_only(self) -> bool {
        self.iommu_map && !self.iommu_unmap && !self.frees
    }

    /// True where allocations are known to be recorded, or none is known to have been made.
    fn takes_allocations(self) -> bool {
        let kinds = [Family::Coherent, Family::Pages, Family::Sgt];
        !self.allocs || self.recorder || kinds.iter().any(|kind| self.took & 1 << *kind as u8 != 0)
    }
}

/// All that is known while files are read.
#[derive(Debug)]
pub struct Model {
    pub(crate) devices: Vec<Device>,
    names: FxHashMap<Arc<str>, Id>,
    tasks: FxHashMap<TaskKey, Task>,
    pub(crate) heard: Heard,
    /// Counts losses: what spans one proves nothing.
    epoch: u32,
    pub(crate) lost: u64,
    /// Those of earlier recordings in the same files.
    lost_before: u64,
    pub(crate) header: Option<Header>,
    pub(crate) first_of_cpu: FxHashMap<u32, Place>,
    /// The last event of each CPU: what a CPU lost lies between it and the mark of the loss.
    last_of_cpu: FxHashMap<u32, Place>,
    pub(crate) loss_marks: Vec<Cite>,
    pub(crate) untold: u64,
    /// Lines of managed resources whose operation could not be read.
    unread: u64,
    /// Messages that were not printed, with the machine if it is not the first.
    pub(crate) suppressed: Vec<(Suppressed, Cite, Option<Arc<str>>)>,
    pub(crate) facts: Vec<Fact>,
    /// Findings that no device can be charged with.
    pub(crate) loose: Vec<Finding>,
    log: log::LogState,
    machines: log::Machines,
    patterns: Patterns,
    host: Host,
    translated: Option<(bool, Cite)>,
    /// CPU addresses of coherent memory whose DMA address no line names.
    by_cpu: FxHashSet<u64>,
    /// The last unbind that was over without a line that names its device.
    nameless: Option<Place>,
    /// Marks of repetitions that are about the whole machine.
    cycle: bursts::Cycle,
    last_task: Option<TaskKey>,
    last_stack: bool,
    last_stamp: Option<Stamp>,
    finished: bool,
    /// True when the files are at their end: what is missing now may only not have been recorded any more.
    at_end: bool,
}

impl Model {
    /// A model that understands debug lines by `patterns` and ties streams to devices by `host`.
    pub fn new(patterns: Patterns, host: Host) -> Self {
        Self {
            devices: Vec::new(),
            names: FxHashMap::default(),
            tasks: FxHashMap::default(),
            heard: Heard::default(),
            epoch: 0,
            lost: 0,
            lost_before: 0,
            header: None,
            first_of_cpu: FxHashMap::default(),
            last_of_cpu: FxHashMap::default(),
            loss_marks: Vec::new(),
            untold: 0,
            unread: 0,
            suppressed: Vec::new(),
            facts: Vec::new(),
            loose: Vec::new(),
            log: log::LogState::default(),
            machines: log::Machines::default(),
            patterns,
            host,
            translated: None,
            by_cpu: FxHashSet::default(),
            nameless: None,
            cycle: bursts::Cycle::default(),
            last_task: None,
            last_stack: false,
            last_stamp: None,
            finished: false,
            at_end: false,
        }
    }

    /// The number of the device `name` if it was named before.
    fn known(&self, name: &str) -> Option<Id> {
        match self.machines.other() {
            None => self.names.get(name).copied(),
            Some(machine) => self.names.get(&*on(name, machine)).copied(),
        }
    }

    /// The number of the device `name`; none once there are too many.
    fn id(&mut self, name: &str) -> Option<Id> {
        if let Some(id) = self.known(name) {
            return Some(id);
        }
        if self.devices.len() >= MAX_DEVICES {
            self.untold += 1;
            return None;
        }
        let machine = self.machines.other().cloned();
        let name: String = name.chars().take(128).collect();
        let name: Arc<str> = machine.as_deref().map_or_else(|| name.clone(), |machine| on(&name, machine)).into();
        if let Some(id) = self.names.get(&name) {
            return Some(*id);
        }
        let id = self.devices.len();
        self.devices.push(Device { machine, ..Device::new(name.clone()) });
        self.names.insert(name, id);
        Some(id)
    }

    fn loose(&mut self, finding: Finding) {
        if self.loose.len() < 1000 {
            self.loose.push(finding);
        }
    }

    fn fact(&mut self, fact: Fact) {
        if self.facts.len() < 1000 {
            self.facts.push(fact);
        }
    }
}

/// The name of a device on a machine that is not the first.
fn on(name: &str, machine: &str) -> String {
    format!("{name} on {machine}")
}

/// A line with its time, as it may be cited later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) place: Place,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) text: Box<str>,
}

impl Mark {
    fn new(place: Place, stamp: Option<Stamp>, text: &str) -> Self {
        let text = text.trim();
        let end = (0..=MAX_CITE.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        Self { place, stamp, text: text[..end].into() }
    }

    fn cite(&self) -> Cite {
        Cite { place: self.place, text: self.text.to_string() }
    }

    /// True when `self` follows `earlier` in the same file so soon that both are of one step: in `lines` lines, and in `ns`
    /// nanoseconds where a clock can tell.
    fn follows(&self, earlier: &Self, lines: u64, ns: u64) -> bool {
        self.place.file == earlier.place.file
            && (earlier.place.line..=earlier.place.line + lines).contains(&self.place.line)
            && self.age(earlier).is_none_or(|age| age <= ns)
    }

    /// `, 3 µs after it`-like age of `self` after `earlier`, where a clock can tell.
    fn age(&self, earlier: &Self) -> Option<u64> {
        self.stamp?.since(earlier.stamp?)
    }
}

/// Memory that a device holds.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) family: Family,
    pub(crate) addr: u64,
    pub(crate) size: u64,
    dir: crate::event::Dir,
    attrs: u8,
    virt: Option<u64>,
    phys: Option<u64>,
    backend: Option<task::By>,
    managed: bool,
    epoch: u32,
    pub(crate) mark: Mark,
}

impl Mapping {
    fn covers(&self, addr: u64) -> bool {
        addr >= self.addr && addr - self.addr < self.size.max(1)
    }
}
