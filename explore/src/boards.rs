//! The boards that lifecycles are explored on.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::device::{DeviceDesc, Nodes, Resource};
use bindery::env::{Env, Width};
use bindery::firmware::fdt::{Description, FdtError, describe};
use bindery::machine::{Machine, Policy};
use bindery::sync::Mutex;
use bindery_drivers::edu::Edu;
use bindery_drivers::vfio::Vfio;
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::models::attached::{DeviceModel, Wiring};
use bindery_sim::models::sata::Stop;
use bindery_sim::salvator::{DEVICE_TREE, FRAMES_BASE, FRAMES_LEN, GUEST_DEVICE_TREE, SATA_BASE, Salvator};
use bindery_sim::virt::{self, Virt};

/// Registers more drivers.
type Register = Arc<dyn Fn(&Arc<Machine>) + Send + Sync>;
/// Puts a device on a board that is being made.
type Attach = Arc<dyn Fn(Salvator) -> Salvator + Send + Sync>;
/// Injects a hardware fault, or removes it.
type SetDefect = fn(&Board, bool);

/// Description in a blob, and the nodes that it names.
type Firmware = (Description, Nodes);

/// A part of the hardware that can be broken on purpose.
#[derive(Clone, Copy)]
pub(crate) struct Defect {
    /// Name in reports: `fault NAME`.
    pub(crate) name: &'static str,
    /// Set when an IOMMU has to refuse the device's accesses then.
    pub(crate) is_refused: bool,
    pub(crate) set: SetDefect,
}

/// Names of the boards.
pub const NAMES: &[&str] = &["salvator-xs", "virt"];

/// The board called `name`.
pub fn named(name: &str) -> Option<BoardSpec> {
    match name {
        "salvator-xs" => Some(salvator_xs()),
        "virt" => Some(virt()),
        _ => None,
    }
}

/// The R-Car H3 board on which the crash of commit 376991db4b64 was seen: a disk controller behind an IPMMU.
pub fn salvator_xs() -> BoardSpec {
    BoardSpec {
        name: "salvator-xs",
        hardware: Hardware::Salvator,
        device_tree: Cow::Borrowed(DEVICE_TREE),
        guest_device_tree: GUEST_DEVICE_TREE,
        drivers: Vec::new(),
        devices: Vec::new(),
        description: Arc::default(),
    }
}

/// The small board with PCI: `edu`, QEMU's device for teaching, behind a root port and a bridge, and no IOMMU. Its driver's name
/// selects it, too: `edu`.
pub fn virt() -> BoardSpec {
    BoardSpec {
        name: "virt",
        hardware: Hardware::Virt,
        device_tree: Cow::Borrowed(virt::DEVICE_TREE),
        guest_device_tree: GUEST_DEVICE_TREE,
        drivers: vec![Arc::new(|machine| {
            machine.register(Edu::default());
        })],
        devices: Vec::new(),
        description: Arc::default(),
    }
}

/// The device behind the bridge of the board `virt`, once buses are numbered.
const EDU: &str = "0000:02:01.0";

/// The hardware of a board.
#[derive(Clone)]
enum Hardware {
    Salvator,
    Virt,
}

/// Description of a board, from which any number of them is made.
#[derive(Clone)]
pub struct BoardSpec {
    name: &'static str,
    hardware: Hardware,
    device_tree: Cow<'static, [u8]>,
    pub(crate) guest_device_tree: &'static [u8],
    drivers: Vec<Register>,
    devices: Vec<Attach>,
    /// Description in the blob, read once.
    description: Arc<Mutex<Option<Arc<Firmware>>>>,
}

/// Time that a guest may take to release the device. Every poll in that time is a scheduling point; a longer time has more
/// of them and shows nothing new.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(8);

/// Sectors of the disk.
pub(crate) const SECTORS: u16 = 64;

impl BoardSpec {
    /// Name of the board.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Describes the board by another device tree blob.
    #[must_use]
    pub fn dtb(self, blob: Vec<u8>) -> Self {
        Self { device_tree: Cow::Owned(blob), description: Arc::default(), ..self }
    }

    /// Puts a device on each board, with its registers, DMA and interrupt lines. A device tree names it
    /// ([`dtb`](Self::dtb)), or code that adds it ([`with`](Self::with)).
    #[must_use]
    pub fn device<M: DeviceModel + Sync>(mut self, wiring: Wiring, model: M) -> Self {
        self.devices.push(Arc::new(move |board| board.device(wiring.clone(), model.clone())));
        self
    }

    /// Registers more drivers than those that come with Bindery, and may add devices. Called for each new machine, and
    /// again for one that is recovered after a lifecycle, where existing devices and drivers stay.
    #[must_use]
    pub fn with(mut self, register: impl Fn(&Arc<Machine>) + Send + Sync + 'static) -> Self {
        self.drivers.push(Arc::new(register));
        self
    }

    pub(crate) fn defects(&self) -> &'static [Defect] {
        match self.hardware {
            Hardware::Salvator => SATA_DEFECTS,
            Hardware::Virt => &[],
        }
    }

    /// RAM of page frames.
    pub(crate) fn frames(&self) -> (PhysAddr, u64) {
        match self.hardware {
            Hardware::Salvator => (FRAMES_BASE, FRAMES_LEN),
            Hardware::Virt => (virt::FRAMES_BASE, virt::FRAMES_LEN),
        }
    }

    /// Registers that another device may access: those of the device that is explored.
    pub(crate) fn registers(&self) -> PhysAddr {
        match self.hardware {
            Hardware::Salvator => SATA_BASE,
            // The first function that needs addresses gets the first ones.
            Hardware::Virt => virt::PCI_MEMORY.0,
        }
    }

    /// Time for hardware to finish what is under way.
    pub(crate) fn rest(&self) -> Duration {
        match self.hardware {
            Hardware::Salvator => Duration::from_millis(8),
            Hardware::Virt => bindery_sim::models::edu::TRANSFER + Duration::from_millis(8),
        }
    }

    /// Name on the board of the device called `name`, by which it is pulled out.
    pub(crate) fn part(&self, name: &str) -> String {
        match self.hardware {
            Hardware::Virt if name == EDU => virt::EDU.into(),
            _ => name.into(),
        }
    }

    /// Returns false when the device that `desc` describes has lost the addresses that its bus gave it.
    pub(crate) fn answers(&self, board: &Board, desc: &DeviceDesc) -> bool {
        if let Hardware::Salvator = self.hardware {
            // Nothing gives it addresses, and its registers cannot be read while its clock is off.
            return true;
        }
        let registers = desc.resources.iter().find_map(|r| match r {
            Resource::Mem { base, len } => board.map_io(*base, *len).ok(),
            _ => None,
        });
        let reads = registers.and_then(|registers| registers.read(0, Width::W32).ok());
        reads.is_some_and(|value| value != u64::from(u32::MAX))
    }

    /// Makes the hardware.
    pub(crate) fn board(&self) -> Arc<Board> {
        if let Hardware::Virt = self.hardware {
            return Virt::new().cpus(1).build();
        }
        let disk = Disk::memory((0..SECTORS).flat_map(|n| n.to_le_bytes().repeat(256)).collect());
        self.devices.iter().fold(Salvator::new().disk(disk), |board, attach| attach(board)).build()
    }

    pub(crate) fn policy(untranslated: bool) -> Policy {
        Policy { untranslated_dma: untranslated, ..Policy::default() }
    }

    /// Adds devices and drivers; nothing is probed.
    pub(crate) fn populate(&self, machine: &Arc<Machine>) -> Result<(), FdtError> {
        let mut known = self.description.lock();
        if known.is_none() {
            let mut nodes = Nodes::new();
            let description = describe(&self.device_tree, &mut nodes)?;
            *known = Some(Arc::new((description, nodes)));
        }
        let read = known.clone();
        drop(known);
        if let Some(read) = read {
            machine.add_description(&read.0, &read.1);
        }
        self.register(machine);
        Ok(())
    }

    /// Registers all drivers; those that are there stay.
    pub(crate) fn register(&self, machine: &Arc<Machine>) {
        // First, so that this one stays registered.
        machine.register(Vfio { release_timeout: RELEASE_TIMEOUT });
        bindery_drivers::register_all(machine);
        self.drivers.iter().for_each(|register| register(machine));
    }
}

impl std::fmt::Debug for BoardSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoardSpec({})", self.name)
    }
}

/// What can be broken at the disk controller.
const SATA_DEFECTS: &[Defect] = &[
    Defect {
        name: "the device ignores its stop bit",
        is_refused: false,
        set: |board, on| board.sata_faults(|k| k.stop = if on { Stop::Ignored } else { Stop::Prompt }),
    },
    Defect {
        name: "the device does not complete commands",
        is_refused: false,
        set: |board, on| board.sata_faults(|k| k.no_completion = on),
    },
    Defect {
        name: "the device does DMA after it has stopped",
        is_refused: true,
        set: |board, on| {
            let late = Duration::from_micros(20);
            board.sata_faults(|k| k.dma_after_stop = on.then_some(late));
        },
    },
];
