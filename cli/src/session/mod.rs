//! The session of a run: the board, the host machine on it, a guest at times, and what all of them were told.

mod disk;
mod guest;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bindery::control::Tree;
use bindery::device::{Device, NodeId, NodeInfo};
use bindery::driver::{Driver, Match};
use bindery::firmware::fdt::Description;
use bindery::machine::{Handle, Machine, Policy, ResourceUsage};
use bindery::promise::Promise;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::board::Board;
use bindery_sim::salvator::Salvator;

use crate::failure::{Failure, Result};
use crate::load::{self, Blob};
use crate::record::EventLog;

pub use disk::{Area, Mismatch, capacity, pattern, read, write};
pub use guest::{Guest, GuestKind};

/// What a session is made from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The device tree; the embedded board's when `None`.
    pub dtb: Option<PathBuf>,
    /// The disk image; a temporary one when `None`.
    pub disk: Option<PathBuf>,
    /// Leave the IOMMUs alone: the written policy of untranslated DMA.
    pub untranslated: bool,
}

/// How the promises fared on a machine: how often each was checked, and which were broken.
#[derive(Clone, Debug, Default)]
pub struct PromiseCounts {
    /// Checks, by promise.
    pub checked: [u64; Promise::ALL.len()],
    /// What was seen when one did not hold; the first ones in words.
    pub broken: Vec<(Promise, String)>,
    /// How many did not hold in all.
    pub broken_count: u64,
}

impl PromiseCounts {
    /// The promises of `machine` up to now.
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

/// The board and the machines on it. Machines are declared first: they go before the board does.
#[derive(Debug)]
pub struct Session {
    /// The guest that has the disk controller, while there is one.
    pub guest: Option<Guest>,
    /// The host.
    pub host: Handle,
    /// What the host runs on.
    pub board: Arc<Board>,
    /// The host's control tree.
    pub control: Tree,
    /// The device tree that the host is given.
    pub blob: Blob,
    /// What that says, once [`read_device_tree`](Self::read_device_tree) was called.
    pub description: Description,
    /// What the host used when it had devices and no driver had been near them.
    pub fresh: Option<ResourceUsage>,
    /// What happens, on all machines.
    pub log: EventLog,
    /// Promises of the guests that are gone.
    pub guests: PromiseCounts,
    /// The disk image, for messages.
    pub disk: String,
    /// Whether the host's own driver has held the disk controller: what follows in the story needs it.
    pub was_bound: bool,
}

impl Session {
    /// A board with its disk, and a host without devices.
    pub fn new(config: &Config) -> Result<Self> {
        let blob = Blob::open(config.dtb.as_deref())?;
        let board = Salvator::new().disk(load::disk(config.disk.as_deref())?).build();
        let log = EventLog::new();
        log.step("machine");
        board.on_event(log.listener("host"));
        let policy = Policy { untranslated_dma: config.untranslated, ..Policy::default() };
        let host = Machine::new(Arc::clone(&board) as _, policy);
        let control = Tree::new(&host);
        let disk = config.disk.as_ref().map_or_else(|| "the temporary disk".into(), |path| path.display().to_string());
        let (description, guests) = (Description::default(), PromiseCounts::default());
        Ok(Self {
            guest: None,
            host,
            board,
            control,
            blob,
            description,
            fresh: None,
            log,
            guests,
            disk,
            was_bound: false,
        })
    }

    /// Makes the host's devices from the device tree.
    pub fn read_device_tree(&mut self) -> Result<()> {
        self.description = self
            .host
            .add_device_tree(&self.blob.bytes)
            .map_err(|error| Failure::DeviceTree { path: self.blob.origin.clone(), error })?;
        self.fresh = Some(self.host.resource_usage());
        Ok(())
    }

    /// Registers every driver there is. The next [`settle`](Machine::settle) probes.
    pub fn register_drivers(&self) {
        bindery_drivers::register_all(&self.host);
    }

    /// Every firmware node of the host, by number.
    pub fn nodes(&self) -> BTreeMap<NodeId, NodeInfo> {
        self.host.with_nodes(|nodes| nodes.iter().map(|(id, node)| (id, node.clone())).collect())
    }

    /// The disk controller: the first device that the SATA driver can drive.
    pub fn sata(&self) -> Option<Arc<Device>> {
        let drives = |c: &Arc<str>| SataRcar::MATCHES.iter().any(|Match::Compatible(m)| **c == **m);
        let named = self.description.devices.iter().find(|d| d.compatible.iter().any(drives))?;
        self.host.device(&named.name)
    }

    /// The guest is over: its promises are kept, and everything it had is taken back.
    pub fn end_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.guests.add(guest.end());
        }
    }
}
