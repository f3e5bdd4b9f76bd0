//! Configuration space of a machine's PCI functions.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use bindery::addr::PhysAddr;
use bindery::device::{Nodes, Resource};
use bindery::env::{IoError, Width};
use bindery::firmware::fdt;
use bindery::pci::{ConfigSpace, FunctionId, Space, Window};

use crate::{Error, Machine, Qemu};

/// Ports of the Q35's host bridge: the address of a register, and its value.
const ADDRESS: u16 = 0xcf8;
const VALUE: u16 = 0xcfc;
/// Base of ECAM in the Q35's own configuration space (*Intel 3 Series Express Chipset Family*, PCIEXBAR), and where it is put here.
const PCIEXBAR: u32 = 0x60;
const Q35_ECAM: u64 = 0xb000_0000;

/// The Q35's memory map above 3 GiB: PCI up to the I/O APIC, and what no RAM of these machines reaches.
const Q35_WINDOWS: [Window; 3] = [
    Window { space: Space::Io, bus: 0x1000, phys: PhysAddr(0x1000), len: 0xf000 },
    Window { space: Space::Memory, bus: 0xc000_0000, phys: PhysAddr(0xc000_0000), len: 0x3ec0_0000 },
    Window { space: Space::Prefetchable, bus: 0x10_0000_0000, phys: PhysAddr(0x10_0000_0000), len: 0x10_0000_0000 },
];

/// Start of the RAM of the machine `virt`, where QEMU puts its device tree when there is no kernel.
const VIRT_TREE: u64 = 0x4000_0000;

/// Configuration space of the functions behind a machine's host bridge, mapped into memory (ECAM).
pub struct Config<'q> {
    qemu: RefCell<&'q mut Qemu>,
    ecam: u64,
    buses: RangeInclusive<u8>,
    windows: Vec<Window>,
    tree: Option<Vec<u8>>,
    /// The first error; later accesses fail, too.
    error: RefCell<Option<Error>>,
}

impl<'q> Config<'q> {
    pub(crate) fn new(qemu: &'q mut Qemu) -> Result<Self, Error> {
        let (ecam, buses, windows, tree) = match qemu.machine {
            Machine::Q35 => {
                for (register, value) in [(PCIEXBAR + 4, 0), (PCIEXBAR, Q35_ECAM as u32 | 1)] {
                    qemu.qtest(&format!("outl {ADDRESS:#x} {:#x}", 0x8000_0000 | register))?;
                    qemu.qtest(&format!("outl {VALUE:#x} {value:#x}"))?;
                }
                (Q35_ECAM, 0..=0xff, Q35_WINDOWS.to_vec(), None)
            }
            Machine::Virt => virt(qemu)?,
        };
        Ok(Self { qemu: RefCell::new(qemu), ecam, buses, windows, tree, error: RefCell::new(None) })
    }

    /// Bus numbers of the host bridge.
    pub fn buses(&self) -> RangeInclusive<u8> {
        self.buses.clone()
    }

    /// Addresses that the host bridge passes on.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// First byte of the window.
    pub(crate) fn ecam(&self) -> u64 {
        self.ecam
    }

    /// The device tree that describes it, if there is one.
    pub(crate) fn tree(&self) -> Option<&[u8]> {
        self.tree.as_deref()
    }

    /// Reads 32 bits of the host bridge's own function.
    ///
    /// # Errors
    ///
    /// QEMU does not answer.
    pub fn read32(&self, offset: u16) -> Result<u32, Error> {
        let own = FunctionId { segment: 0, bus: *self.buses.start(), device: 0, function: 0 };
        let read = ConfigSpace::read(self, own, offset, Width::W32);
        read.map_err(|e| self.take_error().unwrap_or(Error::Refused { doing: "a register".into(), why: e.to_string() }))
    }

    /// The error because of which an access has failed.
    pub fn take_error(&self) -> Option<Error> {
        self.error.borrow_mut().take()
    }

    fn address(&self, at: FunctionId, offset: u16) -> u64 {
        let bus = u64::from(at.bus - self.buses.start());
        self.ecam + (bus << 20 | u64::from(at.device & 31) << 15 | u64::from(at.function & 7) << 12 | u64::from(offset))
    }

    fn access(&self, command: &str) -> Result<u64, IoError> {
        let mut qemu = self.qemu.borrow_mut();
        let answer = if command.starts_with("read") { qemu.number(command) } else { qemu.qtest(command).map(|_| 0) };
        answer.map_err(|error| {
            self.error.borrow_mut().get_or_insert(error);
            IoError::Gone
        })
    }
}

impl ConfigSpace for Config<'_> {
    fn size(&self) -> u16 {
        4096
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        if !self.buses.contains(&at.bus) {
            return Ok(u32::MAX >> (32 - 8 * width.bytes().min(4)));
        }
        let command = format!("read{} {:#x}", letter(width), self.address(at, offset));
        self.access(&command).map(|value| value as u32)
    }

    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        if !self.buses.contains(&at.bus) {
            return Ok(());
        }
        self.access(&format!("write{} {:#x} {value:#x}", letter(width), self.address(at, offset))).map(drop)
    }
}

pub(crate) const fn letter(width: Width) -> char {
    match width {
        Width::W8 => 'b',
        Width::W16 => 'w',
        Width::W32 => 'l',
        Width::W64 => 'q',
    }
}

/// Base of ECAM, buses and windows, and the device tree that has them.
type Place = (u64, RangeInclusive<u8>, Vec<Window>, Option<Vec<u8>>);

/// ECAM, buses and windows of the machine `virt`, from the device tree that QEMU has made.
fn virt(qemu: &mut Qemu) -> Result<Place, Error> {
    let strange = |answer: &str| Error::Protocol { doing: "its device tree was read".into(), answer: answer.into() };
    let head = qemu.memory(VIRT_TREE, 8)?;
    let size = head.last_chunk::<4>().map_or(0, |size| u32::from_be_bytes(*size));
    if !head.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) || size > 4 << 20 {
        return Err(strange(&format!("{head:02x?}")));
    }
    let blob = qemu.memory(VIRT_TREE, size.into())?;
    let tree = fdt::describe(&blob, &mut Nodes::new()).map_err(|e| strange(&e.to_string()))?;
    let is_host = |c: &std::sync::Arc<str>| &**c == "pci-host-ecam-generic";
    let host = tree.devices.iter().find(|d| d.compatible.iter().any(is_host)).ok_or_else(|| strange("no PCI host"))?;
    let registers = host.resources.iter().find_map(|r| match r {
        Resource::Mem { base, len } => Some((base.0, len >> 20)),
        _ => None,
    });
    let (ecam, count) =
        registers.filter(|(_, count)| (1..=256).contains(count)).ok_or_else(|| strange("no ECAM window"))?;
    let ranges = host.property("ranges").unwrap_or_default();
    let windows = Window::from_ranges(ranges, 2).ok_or_else(|| strange("ranges of the PCI host"))?;
    Ok((ecam, 0..=(count - 1) as u8, windows, Some(blob)))
}
