//! The fixture of a run: the board, the host machine on it, a guest at times, and the log of their events.

mod disk;
mod guest;

use std::path::PathBuf;
use std::sync::Arc;

use bindery::control::Tree;
use bindery::device::{Device, DeviceDesc, Resource};
use bindery::driver::Driver;
use bindery::env::Env;
use bindery::firmware::fdt::Description;
use bindery::iommu::Group;
use bindery::machine::{Handle, Machine, Policy, ResourceUsage};
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

/// Promise checks of machines, each list by promise.
#[derive(Clone, Debug, Default)]
pub struct PromiseCounts {
    /// Number of checks.
    pub checked: [u64; Promise::ALL.len()],
    /// The first violations, each as what was seen.
    pub broken: [Vec<String>; Promise::ALL.len()],
    /// Number of further violations of all promises.
    pub more_broken: u64,
}

impl PromiseCounts {
    /// Adds those of `machine` up to now.
    pub fn add(&mut self, machine: &Machine) {
        let (promises, broken) = (machine.promises(), machine.promises().broken());
        self.more_broken += promises.broken_count() - broken.len() as u64;
        self.checked.iter_mut().zip(Promise::ALL).for_each(|(sum, p)| *sum += promises.checked(p));
        for (promise, seen) in broken {
            self.broken[promise as usize].push(seen);
        }
    }
}

/// True when registers answer wherever `device` has some, and when it has none, or the board drives it itself.
fn has_model(board: &Board, device: &DeviceDesc) -> bool {
    let answers = |r: &Resource| !matches!(r, Resource::Mem { base, len } if board.map_io(*base, *len).is_err());
    board.env_owned(&device.compatible) || device.resources.iter().all(answers)
}

/// The disk controller among `devices`: the first one that the SATA driver can drive.
fn controller(devices: &[DeviceDesc]) -> Option<&DeviceDesc> {
    let drives = |c: &Arc<str>| SataRcar::MATCHES.iter().any(|m| **c == *m.name());
    devices.iter().find(|d| d.compatible.iter().any(drives))
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
    /// Its description.
    pub description: Description,
    /// Names of the devices of the tree that have registers which the board has no model for, in the tree's order.
    pub without_model: Vec<Arc<str>>,
    /// Resource usage of the host after its devices were added and before any probe.
    pub baseline: ResourceUsage,
    /// Events of all machines.
    pub log: EventLog,
    /// Promise checks of the guests that were shut down.
    pub guests: PromiseCounts,
    /// Name of the disk image, for messages.
    pub disk: String,
}

impl Session {
    /// A board with its disk, and a host with the devices of its tree and no driver.
    pub fn new(config: &Config) -> Result<Self> {
        let blob = if config.qemu { Blob::of_qemu()? } else { Blob::open(config.dtb.as_deref())? };
        let board = Salvator::new().disk(load::disk(config.disk.as_deref())?).build();
        let log = EventLog::new();
        log.step("machine");
        board.on_event(log.listener("host"));
        let host = board.machine(Policy { untranslated_dma: config.untranslated, ..Policy::default() });
        let unreadable = |error| Failure::DeviceTree { path: blob.origin.clone(), error };
        let description = host.add_device_tree(&blob.bytes).map_err(unreadable)?;
        let lacks = |d: &&DeviceDesc| !has_model(&board, d);
        Ok(Self {
            guest: None,
            control: Tree::new(&host),
            without_model: description.devices.iter().filter(lacks).map(|d| Arc::clone(&d.name)).collect(),
            description,
            baseline: host.resource_usage(),
            log,
            guests: PromiseCounts::default(),
            disk: config.disk.as_ref().map_or("the temporary disk".into(), |path| path.display().to_string()),
            host,
            board,
            blob,
        })
    }

    /// The IOMMU group of a device.
    pub fn group(&self, device: &Device) -> Option<Arc<Group>> {
        let id = self.host.device_info(device).group?;
        self.host.groups().into_iter().find(|g| g.id() == id)
    }

    /// The disk controller.
    pub fn sata(&self) -> Option<Arc<Device>> {
        self.host.device(&controller(&self.description.devices)?.name)
    }
}
