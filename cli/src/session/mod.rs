//! The fixture of a run: the board, the host machine on it, a guest at times, and the log of their events.

mod disk;
mod guest;
mod port;
mod target;

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
use bindery_drivers::edu::Edu;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::board::Board;
use bindery_sim::salvator::Salvator;
use bindery_sim::virt::Virt;

use crate::failure::{Failure, Result};
use crate::load::{self, Blob};
use crate::record::EventLog;

pub use disk::{Area, first_difference, pattern};
pub use guest::{Guest, GuestKind};
pub use port::{EDU_SECTORS, Port};
pub use target::{QemuMachine, Target};

/// Kind of hardware that a session runs on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Hardware {
    /// The simulated Salvator-XS, with its disk.
    #[default]
    Salvator,
    /// The simulated board `virt`, with PCI.
    Virt,
    /// A machine of QEMU, with devices of QEMU's.
    Qemu(QemuMachine, Vec<String>),
}

/// Configuration of a session.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The hardware.
    pub hardware: Hardware,
    /// The device tree; the hardware's own when `None`.
    pub dtb: Option<PathBuf>,
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
    let drives = |c: &Arc<str>| SataRcar::MATCHES.iter().any(|m| m.name().is_some_and(|name| **c == *name));
    devices.iter().find(|d| d.compatible.iter().any(drives))
}

/// A board and the machines on it. Machines are declared first, so that they are dropped before the board.
pub struct Session {
    /// The guest that has the disk controller, while there is one.
    pub guest: Option<Guest>,
    /// The host.
    pub host: Handle,
    /// The hardware that the host runs on.
    pub target: Target,
    /// The host's control tree.
    pub control: Tree,
    /// The device tree that the host is given; empty for hardware that has none.
    pub blob: Blob,
    /// Its description, or that of the host bridge.
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
    /// The device that commands and checks are about, where one was chosen.
    chosen: Option<Arc<str>>,
    /// Bits of an address that every `edu` drives, on hardware that has some.
    edu_bits: Option<u32>,
}

impl Session {
    /// The hardware, and a host with the devices of its tree and no driver.
    pub fn new(config: &Config) -> Result<Self> {
        let (target, blob, edu_bits) = match &config.hardware {
            Hardware::Salvator => {
                let blob = Blob::open(config.dtb.as_deref(), Blob::salvator)?;
                let board = Salvator::new().disk(load::disk(config.disk.as_deref())?).build();
                (Target::Board(board), blob, None)
            }
            Hardware::Virt => {
                let blob = Blob::open(config.dtb.as_deref(), Blob::virt)?;
                (Target::Board(Virt::new().build()), blob, Some(Edu::default().dma_bits))
            }
            Hardware::Qemu(machine, devices) => {
                let (env, bits) = machine.start(devices)?;
                let blob =
                    Blob { bytes: env.device_tree().unwrap_or_default().to_vec(), origin: machine.name().into() };
                (Target::Qemu(env), blob, Some(bits))
            }
        };
        let log = EventLog::new();
        log.step("machine");
        let policy = Policy { untranslated_dma: config.untranslated, ..Policy::default() };
        let host = target.machine(policy, &log);
        let description = describe(&host, &target, &blob)?;
        let without_model = match &target {
            Target::Board(board) => {
                let lacks = |d: &&DeviceDesc| !has_model(board, d);
                description.devices.iter().filter(lacks).map(|d| Arc::clone(&d.name)).collect()
            }
            Target::Qemu(_) => Vec::new(),
        };
        Ok(Self {
            guest: None,
            control: Tree::new(&host),
            without_model,
            description,
            baseline: host.resource_usage(),
            log,
            guests: PromiseCounts::default(),
            disk: config.disk.as_ref().map_or("the temporary disk".into(), |path| path.display().to_string()),
            chosen: None,
            edu_bits,
            host,
            target,
            blob,
        })
    }

    /// Registers every driver there is for this hardware, without a probe.
    pub fn add_drivers(&self) {
        bindery_drivers::register_all(&self.host);
        if let Some(dma_bits) = self.edu_bits {
            self.host.register(Edu { dma_bits });
        }
    }

    /// Makes `name` the device that commands and checks are about. False when there is no such device.
    pub fn choose(&mut self, name: &str) -> bool {
        self.chosen = self.host.device(name).map(|device| Arc::clone(&device.desc().name));
        self.chosen.is_some()
    }

    /// The devices that [`Port::Edu`] is for, by name.
    pub fn edus(&self) -> Vec<Arc<str>> {
        let is_edu = |d: &Arc<Device>| self.host.candidates(d).any(|driver| driver == Edu::NAME);
        let mut names: Vec<_> =
            self.host.devices().iter().filter(|d| is_edu(d)).map(|d| Arc::clone(&d.desc().name)).collect();
        names.sort();
        names
    }

    /// The IOMMU group of a device.
    pub fn group(&self, device: &Device) -> Option<Arc<Group>> {
        let id = self.host.device_info(device).group?;
        self.host.groups().into_iter().find(|g| g.id() == id)
    }

    /// The device that commands and checks are about: the chosen one, or the disk controller, or the first `edu`.
    pub fn device(&self) -> Option<Arc<Device>> {
        if let Some(chosen) = &self.chosen {
            return self.host.device(chosen);
        }
        let sata = controller(&self.description.devices).map(|desc| Arc::clone(&desc.name));
        self.host.device(&sata.or_else(|| self.edus().into_iter().next())?)
    }

    /// Sectors of its medium, whether or not a driver holds it.
    pub fn sectors(&self) -> Option<u64> {
        let on_disk = self.target.board().and_then(|board| board.with_disk(|disk| disk.sectors()));
        on_disk.or(self.edu_bits.map(|_| EDU_SECTORS))
    }
}

/// Adds the devices that firmware describes.
fn describe(host: &Handle, target: &Target, blob: &Blob) -> Result<Description> {
    match target {
        Target::Qemu(env) if env.device_tree().is_none() => {
            let bridge = env.host_bridge();
            // The first device of a machine: there is none that it could be the same as.
            let _ = host.add_device(bridge.clone());
            Ok(Description {
                model: Some(blob.origin.as_str().into()),
                devices: vec![bridge],
                ..Description::default()
            })
        }
        _ => {
            let unreadable = |error| Failure::DeviceTree { path: blob.origin.clone(), error };
            host.add_device_tree(&blob.bytes).map_err(unreadable)
        }
    }
}
