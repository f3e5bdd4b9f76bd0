//! The board `virt`: a small machine with PCI Express, after QEMU's machine of that name.
//!
//! A host bridge with configuration space in memory, a root port, behind it a bridge, and behind that `edu`, QEMU's device for teaching;
//! interrupt pins by lines of the interrupt controller, and a doorbell for messages (MSI). Addresses and numbers are those of QEMU's
//! `virt`, with a second bank of RAM; `boards/virt.dts` describes the same board to the core.

#![forbid(unsafe_code)]

use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::env::{RamRange, RamUse};

use crate::board::{Board, Config, PciConfig};
use crate::mmu::Mmu;
use crate::models::Doorbell;
use crate::models::attached::{Attached, Wiring};
use crate::models::edu::{self, Edu};
pub use crate::models::pci::Severity;
use crate::models::pci::{BusReset, Config as FunctionConfig, Function, Host};

/// The board's device tree blob, compiled from `boards/virt.dts`.
pub const DEVICE_TREE: &[u8] = include_bytes!("../boards/virt.dtb");

/// Ordinary RAM.
pub const FRAMES_BASE: PhysAddr = PhysAddr(0x4000_0000);
/// Bytes of ordinary RAM.
pub const FRAMES_LEN: u64 = 64 << 20;
/// RAM for contiguous DMA memory. QEMU has none there: it is for devices that drive 28 bits of an address, as `edu` does.
pub const CONTIGUOUS_BASE: PhysAddr = PhysAddr(0x0c00_0000);
/// Bytes of it.
pub const CONTIGUOUS_LEN: u64 = 16 << 20;

/// Configuration space of the functions behind the host bridge: 16 buses.
pub const ECAM: (PhysAddr, u64) = (PhysAddr(0x3f00_0000), 16 << 20);
/// Memory that the host bridge passes on, at the same addresses.
pub const PCI_MEMORY: (PhysAddr, u64) = (PhysAddr(0x1000_0000), 0x2eff_0000);
/// Lines of the interrupt controller for the pins INTA to INTD of the host bridge's bus (SPI 3 to 6).
pub const PCI_LINES: [u32; 4] = [35, 36, 37, 38];
/// Register for messages (`GICD_SETSPI_NSR`), whose data is the number of a line.
pub const DOORBELL: PhysAddr = PhysAddr(0x0800_0040);
/// The first line for messages (SPI 80), and how many there are.
pub const MESSAGE_LINES: (u32, u32) = (112, 64);

/// Names of the root port, the bridge behind it, and the `edu` behind that, for [`Board::unplug`].
pub const ROOT_PORT: &str = "root-port";
/// The bridge.
pub const BRIDGE: &str = "bridge";
/// The device behind the bridge.
pub const EDU: &str = "edu";
/// The second `edu`, on the host bridge's own bus.
pub const SECOND_EDU: &str = "edu-2";
/// The second `edu` behind the bridge.
pub const SIBLING: &str = "edu-3";

/// The second root port, device 3, and the `edu` behind it, which is a PCI Express endpoint that reports errors.
pub const SECOND_PORT: &str = "root-port-2";
/// The `edu` behind the second root port.
pub const EXPRESS_EDU: &str = "edu-4";

/// Builder of a board.
///
/// ```
/// use bindery_sim::virt::Virt;
///
/// let board = Virt::new().cpus(2).build();
/// assert_eq!(board.model_errors(), []);
/// ```
#[derive(Debug)]
#[must_use = "no board is made before `build`"]
#[expect(clippy::struct_excessive_bools, reason = "each is a part of the board, apart from the others")]
pub struct Virt {
    cpus: usize,
    trace: usize,
    second: bool,
    sibling: bool,
    function_reset: bool,
    reporting: bool,
    containment: bool,
    second_port: bool,
    inner_port: bool,
    soldered: bool,
    dma_mask: Option<u64>,
    mmu: Option<Arc<Mmu>>,
}

impl Default for Virt {
    fn default() -> Self {
        Self::new()
    }
}

impl Virt {
    /// The default board: two CPUs, 80 MiB of RAM, one `edu`.
    pub fn new() -> Self {
        Self {
            cpus: 2,
            trace: 0,
            second: false,
            sibling: false,
            function_reset: false,
            reporting: false,
            containment: false,
            second_port: false,
            inner_port: false,
            soldered: false,
            dma_mask: None,
            mmu: None,
        }
    }

    /// Sets the number of CPUs over which threads are spread, at least 1.
    pub fn cpus(mut self, cpus: usize) -> Self {
        self.cpus = cpus.max(1);
        self
    }

    /// Adds a second `edu`, [`SECOND_EDU`], device 2 on the host bridge's own bus. It shares its line with nobody.
    pub fn second_edu(mut self) -> Self {
        self.second = true;
        self
    }

    /// Adds another `edu` behind the bridge, [`SIBLING`], device 2 on its bus, after the others.
    pub fn sibling(mut self) -> Self {
        self.sibling = true;
        self
    }

    /// Gives each `edu` function-level reset, which QEMU's does not have.
    pub fn function_reset(mut self) -> Self {
        self.function_reset = true;
        self
    }

    /// Gives root ports interrupts (INTA), and them and the bridge advanced error reporting.
    pub fn error_reporting(mut self) -> Self {
        self.reporting = true;
        self
    }

    /// As [`error_reporting`](Self::error_reporting), with downstream port containment.
    pub fn containment(mut self) -> Self {
        self.containment = true;
        self.error_reporting()
    }

    /// Adds a second root port, [`SECOND_PORT`], with [`EXPRESS_EDU`] in its slot, after the others.
    pub fn second_port(mut self) -> Self {
        self.second_port = true;
        self
    }

    /// Makes the bridge a port of a switch, with a slot of its own and an interrupt (INTA). The `edu` behind it is device 0 there.
    pub fn inner_port(mut self) -> Self {
        self.inner_port = true;
        self
    }

    /// Gives root ports no slot: what is behind them is soldered, and its link may go down all the same.
    pub fn soldered(mut self) -> Self {
        self.soldered = true;
        self
    }

    /// Sets the bits of an address that the devices drive; 28 without this.
    pub fn dma_mask(mut self, mask: u64) -> Self {
        self.dma_mask = Some(mask);
        self
    }

    /// Puts the devices behind `mmu`: the first one as stream 0, the others as the next ones in their order.
    pub fn behind(mut self, mmu: &Arc<Mmu>) -> Self {
        self.mmu = Some(Arc::clone(mmu));
        self
    }

    /// Keeps the first `entries` entries of the register trace, for [`Board::trace`].
    pub fn trace(mut self, entries: usize) -> Self {
        self.trace = entries;
        self
    }

    /// Makes the board.
    pub fn build(self) -> Arc<Board> {
        let host = FunctionConfig::device((0x1b36, 0x0008), 0x06_0000, 0);
        let root_port = || {
            let port = FunctionConfig::bridge((0x1b36, 0x000c)).with_express(0x54, 4);
            let port = if self.soldered { port.with_soldered(0x54) } else { port.with_slot(0x54) };
            if !self.reporting {
                return port;
            }
            port.with_pin().with_errors(0x54).with_root_errors(self.containment)
        };
        let bridge = FunctionConfig::bridge((0x1b36, 0x000e));
        let bridge = if self.inner_port {
            bridge.with_express(0x40, 6).with_slot(0x40).with_pin()
        } else {
            bridge.with_express(0x40, 7)
        };
        let bridge = if self.reporting { bridge.with_errors(0x40) } else { bridge };
        let place = |name, parent, device, config| Function {
            name,
            parent,
            device,
            config,
            attached: None,
            line: None,
            present: true,
            bus: BusReset::default(),
        };
        let edu = || {
            let config = FunctionConfig::device(edu::ID, 0x00_ff00, 0x10);
            let config = config.with_memory(edu::WINDOW as u32).with_pin().with_msi(0x40);
            if self.function_reset { config.with_function_reset(0x60) } else { config }
        };
        let mut functions = vec![
            place("host-bridge", None, 0, host),
            place(ROOT_PORT, None, 1, root_port()),
            place(BRIDGE, Some(1), 0, bridge),
            // A port of a switch has one device.
            place(EDU, Some(2), u8::from(!self.inner_port), edu()),
        ];
        if self.second {
            functions.push(place(SECOND_EDU, None, 2, edu()));
        }
        if self.sibling {
            functions.push(place(SIBLING, Some(2), 2, edu()));
        }
        if self.second_port {
            let express = edu().with_express(0x80, 0);
            let express = if self.reporting { express.with_errors(0x80) } else { express };
            functions.push(place(SECOND_PORT, None, 3, root_port()));
            functions.push(place(EXPRESS_EDU, Some(functions.len() - 1), 0, express));
        }
        let mut attached = Vec::new();
        for at in 3..functions.len() {
            if functions[at].name == SECOND_PORT {
                continue;
            }
            let wiring = Wiring::function(functions[at].name).coherent();
            let wiring = wiring.line(Function::line(&functions, at, PCI_LINES));
            let wiring = match &self.mmu {
                Some(mmu) => wiring.stream(mmu, attached.len() as u32),
                None => wiring.direct(),
            };
            functions[at].attached = Some(attached.len());
            let edu = self.dma_mask.map_or_else(Edu::default, |mask| Edu::default().with_dma_mask(mask));
            attached.push(Attached::new(wiring, edu));
        }
        for at in 0..functions.len() {
            let name = functions[at].name;
            if self.reporting && [ROOT_PORT, SECOND_PORT].contains(&name) || self.inner_port && name == BRIDGE {
                functions[at].line = Some(Function::line(&functions, at, PCI_LINES));
            }
        }
        let doorbell = Doorbell::new(DOORBELL, MESSAGE_LINES.0, MESSAGE_LINES.1);
        let pci = PciConfig { host: Host::new(functions), ecam: ECAM, memory: PCI_MEMORY, doorbell };
        let config = Config {
            disk: None,
            cpus: self.cpus,
            coherent: true,
            trace: self.trace,
            fixed: Vec::new(),
            attached,
            soc: false,
            pci: Some(pci),
        };
        let ranges = [
            RamRange { base: CONTIGUOUS_BASE, len: CONTIGUOUS_LEN, use_for: RamUse::Contiguous },
            RamRange { base: FRAMES_BASE, len: FRAMES_LEN, use_for: RamUse::Frames },
        ];
        Arc::new(Board::new(&ranges, config))
    }
}
