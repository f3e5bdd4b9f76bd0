//! The fixture of a run: the board, the host machine on it, a guest at times, and the log of their events.

mod disk;
mod guest;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bindery::control::Tree;
use bindery::device::{Device, DeviceDesc, NodeId, NodeInfo, Resource};
use bindery::driver::Driver;
use bindery::env::{Env, Instant};
use bindery::firmware::fdt::Description;
use bindery::iommu::{Domain, Group};
use bindery::machine::{Handle, Machine, Policy, ProbeStats, ResourceUsage};
use bindery::promise::Promise;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::board::Board;
use bindery_sim::salvator::Salvator;

use crate::failure::{Failure, Result};
use crate::load::{self, Blob};
use crate::record::EventLog;

pub use disk::{Area, capacity, first_difference, pattern};
pub use guest::{Guest, GuestKind};

/// Configuration of a session.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The device tree; the embedded board's when `None`.
    pub dtb: Option<PathBuf>,
    /// Instead, the one that QEMU makes for its machine `virt`.
    pub qemu: bool,
    /// The disk image; a temporary one when `None`.
    pub disk: Option<PathBuf>,
    /// Leave the IOMMUs alone (policy of untranslated DMA).
    pub untranslated: bool,
}

/// Promise checks of a machine: how often each promise was checked, and which were broken.
#[derive(Clone, Debug, Default)]
pub struct PromiseCounts {
    /// Number of checks, by promise.
    pub checked: [u64; Promise::ALL.len()],
    /// The first violations, each with what was seen.
    pub broken: Vec<(Promise, String)>,
    /// Number of violations in all.
    pub broken_count: u64,
}

impl PromiseCounts {
    /// The counts of `machine` up to now.
    pub fn of(machine: &Machine) -> Self {
        let promises = machine.promises();
        Self {
            checked: Promise::ALL.map(|p| promises.checked(p)),
            broken: promises.broken(),
            broken_count: promises.broken_count(),
        }
    }

    /// Adds those of another machine.
    pub fn add(&mut self, other: Self) {
        self.checked.iter_mut().zip(other.checked).for_each(|(sum, n)| *sum += n);
        self.broken.extend(other.broken);
        self.broken_count += other.broken_count;
    }
}

/// True when registers answer wherever `device` has some, and when it has none, or the board drives it itself.
fn has_model(board: &Board, device: &DeviceDesc) -> bool {
    let answers = |resource: &Resource| match resource {
        Resource::Mem { base, len } => board.map_io(*base, *len).is_ok(),
        _ => true,
    };
    board.env_owned(&device.compatible) || device.resources.iter().all(answers)
}

/// A board and the machines on it. Machines are declared first, so that they are dropped before the board.
pub struct Session {
    /// The guest that has the disk controller, while there is one.
    pub guest: Option<Guest>,
    /// The host.
    pub host: Handle,
    /// The board that the host runs on.
    pub board: Arc<Board>,
    /// The host's control tree.
    pub control: Tree,
    /// The device tree that the host is given.
    pub blob: Blob,
    /// Its description, once [`read_device_tree`](Self::read_device_tree) was called.
    pub description: Description,
    /// Names of the devices of the tree that have registers which the board has no model for, in the tree's order.
    pub without_model: Vec<Arc<str>>,
    /// Resource usage of the host after its devices were added and before any probe.
    pub baseline: Option<ResourceUsage>,
    /// Events of all machines.
    pub log: EventLog,
    /// Promise checks of the guests that were shut down.
    pub guests: PromiseCounts,
    /// Name of the disk image, for messages.
    pub disk: String,
}

impl Session {
    /// A board with its disk, and a host without devices.
    pub fn new(config: &Config) -> Result<Self> {
        let blob = if config.qemu { Blob::of_qemu()? } else { Blob::open(config.dtb.as_deref())? };
        let board = Salvator::new().disk(load::disk(config.disk.as_deref())?).build();
        let log = EventLog::new();
        log.step("machine");
        board.on_event(log.listener("host"));
        let policy = Policy { untranslated_dma: config.untranslated, ..Policy::default() };
        let host = board.machine(policy);
        let control = Tree::new(&host);
        let disk = config.disk.as_ref().map_or_else(|| "the temporary disk".into(), |path| path.display().to_string());
        Ok(Self {
            guest: None,
            host,
            board,
            control,
            blob,
            description: Description::default(),
            without_model: Vec::new(),
            baseline: None,
            log,
            guests: PromiseCounts::default(),
            disk,
        })
    }

    /// Makes the host's devices from the device tree.
    pub fn read_device_tree(&mut self) -> Result<()> {
        self.description = self
            .host
            .add_device_tree(&self.blob.bytes)
            .map_err(|error| Failure::DeviceTree { path: self.blob.origin.clone(), error })?;
        let lacks = |d: &&DeviceDesc| !has_model(&self.board, d);
        self.without_model = self.description.devices.iter().filter(lacks).map(|d| Arc::clone(&d.name)).collect();
        self.baseline = Some(self.host.resource_usage());
        Ok(())
    }

    /// Registers every driver there is. The next [`settle`](Machine::settle) probes.
    pub fn register_drivers(&self) {
        bindery_drivers::register_all(&self.host);
    }

    /// Probes what can be probed, and lets pending work of the devices finish.
    pub fn settle(&self) -> ProbeStats {
        let settled = self.host.settle();
        self.board.run_pending();
        settled
    }

    /// The board's time.
    pub fn now(&self) -> Instant {
        self.host.env().now()
    }

    /// Page frames and contiguous pages that the host uses.
    pub fn memory_in_use(&self) -> (u64, u64) {
        let memory = self.host.memory();
        (memory.frames().in_use(), memory.cma().map_or(0, |cma| cma.in_use()))
    }

    /// The IOMMU group of a device.
    pub fn group(&self, device: &Device) -> Option<Arc<Group>> {
        let id = self.host.device_info(device).group?;
        self.host.groups().into_iter().find(|g| g.id() == id)
    }

    /// The domain that translates for a device.
    pub fn domain(&self, device: &Device) -> Option<Arc<Domain>> {
        self.group(device)?.domain()
    }

    /// Every firmware node of the host, by number.
    pub fn nodes(&self) -> BTreeMap<NodeId, NodeInfo> {
        self.host.with_nodes(|nodes| nodes.iter().map(|(id, node)| (id, node.clone())).collect())
    }

    /// The disk controller: the first device that the SATA driver can drive.
    pub fn sata(&self) -> Option<Arc<Device>> {
        let drives = |c: &Arc<str>| SataRcar::MATCHES.iter().any(|m| **c == *m.name());
        let named = self.description.devices.iter().find(|d| d.compatible.iter().any(drives))?;
        self.host.device(&named.name)
    }

    /// Shuts the guest down, if there is one, and keeps the counts of its promises.
    pub fn end_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.guests.add(guest.end());
        }
    }
}
