//! Devices of a board that come from outside this crate: a model of registers, with DMA and interrupt lines.
//!
//! ```
//! use std::time::Duration;
//!
//! use bindery::addr::PhysAddr;
//! use bindery_sim::models::attached::{DeviceBus, DeviceModel, Wiring};
//! use bindery_sim::salvator::Salvator;
//!
//! /// Copies a word in memory a microsecond after its address was written, and then raises its line.
//! #[derive(Clone, Hash, Default)]
//! struct Copier { from: u32, done: bool }
//!
//! impl DeviceModel for Copier {
//!     fn read(&mut self, _: &mut DeviceBus<'_>, _: u64) -> u32 {
//!         self.done.into()
//!     }
//!
//!     fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, value: u32) {
//!         match offset {
//!             0 => self.done = false,
//!             _ => self.from = value,
//!         }
//!         bus.set_line(0, self.done);
//!         if offset != 0 {
//!             bus.start_timer(0, Duration::from_micros(1));
//!         }
//!     }
//!
//!     fn timer(&mut self, bus: &mut DeviceBus<'_>, _: u8) {
//!         let mut word = [0; 4];
//!         self.done = bus.dma_read(0, self.from.into(), &mut word).is_ok()
//!             && bus.dma_write(0, u64::from(self.from) + 4, &word).is_ok();
//!         bus.set_line(0, self.done);
//!     }
//! }
//!
//! let wiring = Wiring::new("copier", PhysAddr(0xee40_0000), 0x1000).line(140).ipmmu(0, 7);
//! let board = Salvator::new().device(wiring, Copier::default()).build();
//! assert_eq!(board.model_errors(), []);
//! ```

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::env::Width;

use super::Bus;
use super::cpg::{Cpg, Module};
use super::ipmmu::Ipmmu;
use super::pci::Link;
use crate::clock::Timer;
use crate::mmu::{Access, Mmu};
use crate::power::{LineId, PowerController};

/// Timers of one device.
pub const TIMERS: u8 = 8;

/// A device at register level. The value that is given to the board is the device after power-up: a reset, a lost clock
/// and an insertion lead back to it. [`Hash`] covers all that decides the further behaviour, for explorations.
pub trait DeviceModel: Clone + Hash + Send + 'static {
    /// Reads the register at `offset` bytes. Registers have 32 bits.
    fn read(&mut self, bus: &mut DeviceBus<'_>, offset: u64) -> u32;

    /// Writes it.
    fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, value: u32);

    /// Reads `width` at `offset`; `None` when nothing answers there, or not with this width. By itself a device takes 32 bits only.
    fn read_sized(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width) -> Option<u64> {
        (width == Width::W32).then(|| self.read(bus, offset).into())
    }

    /// Writes likewise. Returns false when nothing takes it.
    fn write_sized(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width, value: u64) -> bool {
        if width == Width::W32 {
            self.write(bus, offset, value as u32);
        }
        width == Width::W32
    }

    /// A timer expired that [`DeviceBus::start_timer`] has started.
    fn timer(&mut self, bus: &mut DeviceBus<'_>, timer: u8) {
        let _ = (bus, timer);
    }

    /// Returns true when a transfer is running that may access any of the `len` bytes at device address `addr`. Memory that
    /// is freed then, and that no IOMMU takes from the device, is a broken promise (P2).
    fn accesses(&self, addr: u64, len: u64) -> bool {
        let _ = (addr, len);
        false
    }
}

/// The place of a bus master.
#[derive(Clone, Debug)]
enum Port {
    /// Addresses are those of memory.
    Direct,
    Ipmmu {
        leaf: usize,
        utlb: usize,
    },
    Mmu(Arc<Mmu>, u32),
}

/// Connections of a device: registers, interrupt lines, DMA ports, clocks and reset lines.
#[derive(Clone, Debug)]
#[must_use = "no device is on a board before it is given to one"]
pub struct Wiring {
    pub(crate) name: &'static str,
    pub(crate) base: PhysAddr,
    pub(crate) len: u64,
    lines: Vec<u32>,
    ports: Vec<Port>,
    coherent: bool,
    module: Option<Module>,
    supplies: Vec<(Arc<PowerController>, LineId)>,
}

impl Wiring {
    /// A device with `len` bytes of registers at `base`, called `name` in reports.
    pub fn new(name: &'static str, base: PhysAddr, len: u64) -> Self {
        let (lines, ports, supplies) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, base, len, lines, ports, coherent: false, module: None, supplies }
    }

    /// A function behind a PCI host bridge: its registers are where configuration space says.
    pub(crate) fn function(name: &'static str) -> Self {
        Self::new(name, PhysAddr(0), 0)
    }

    /// Adds an interrupt line by its number at the interrupt controller (32 to 511: SPI n is 32 + n). Several devices may
    /// share one: it is high while any of them raises it.
    pub fn line(mut self, line: u32) -> Self {
        self.lines.push(line);
        self
    }

    /// Adds a DMA port without translation.
    pub fn direct(mut self) -> Self {
        self.ports.push(Port::Direct);
        self
    }

    /// Adds a DMA port behind micro-TLB `utlb` of the `leaf`-th leaf IPMMU (0 is `ipmmu_hc`). One that there is not reaches
    /// nothing.
    pub fn ipmmu(mut self, leaf: usize, utlb: usize) -> Self {
        self.ports.push(Port::Ipmmu { leaf, utlb });
        self
    }

    /// Adds a DMA port that `mmu` translates as `stream`.
    pub fn stream(mut self, mmu: &Arc<Mmu>, stream: u32) -> Self {
        self.ports.push(Port::Mmu(Arc::clone(mmu), stream));
        self
    }

    /// Makes DMA snoop the CPU's cache (`dma-coherent`).
    pub fn coherent(mut self) -> Self {
        self.coherent = true;
        self
    }

    /// Connects it to clock and reset of module `number` of the clock pulse generator (815 is SATA).
    pub fn module(mut self, number: u32) -> Self {
        self.module = Module::new(number);
        self
    }

    /// Connects it to a clock, power domain or reset line of `controller`.
    pub fn supply(mut self, controller: &Arc<PowerController>, line: LineId) -> Self {
        self.supplies.push((Arc::clone(controller), line));
        self
    }
}

/// An access was refused by an IOMMU, or there is no memory at the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("DMA access to {addr:#x} refused")]
pub struct DmaRefused {
    /// The device address.
    pub addr: u64,
}

/// The board, as a device sees it.
pub struct DeviceBus<'a> {
    bus: Bus<'a>,
    ipmmu: &'a mut Ipmmu,
    wiring: &'a Wiring,
    levels: &'a mut Vec<bool>,
    link: Link,
    index: u8,
}

impl DeviceBus<'_> {
    /// Returns true when the device signals interrupts by messages (MSI) and not by its line.
    pub fn sends_messages(&self) -> bool {
        self.link.message.is_some()
    }

    /// Sends message number `vector`. Returns false when messages are not enabled.
    pub fn message(&mut self, vector: u32) -> bool {
        let Some((address, data)) = self.link.message else { return false };
        // As any other write of the device: it may be refused on its way, and nobody is told.
        let _ = self.dma_write(0, address, &(data + vector).to_le_bytes());
        true
    }

    /// Drives interrupt line number `index` of the device, in the order of [`Wiring::line`].
    pub fn set_line(&mut self, index: usize, high: bool) {
        if let Some(level) = self.levels.get_mut(index) {
            *level = high;
        }
    }

    /// Starts a timer, 0 to [`TIMERS`] - 1, or starts it again.
    pub fn start_timer(&mut self, timer: u8, after: Duration) {
        if timer < TIMERS {
            self.bus.clock.set(Timer::Attached { device: self.index, timer }, after);
        }
    }

    /// Stops a timer.
    pub fn stop_timer(&mut self, timer: u8) {
        self.bus.clock.cancel(Timer::Attached { device: self.index, timer });
    }

    /// Reads memory at device address `addr` by DMA port `port`.
    ///
    /// # Errors
    ///
    /// When an IOMMU refuses it, or there is no memory.
    pub fn dma_read(&mut self, port: usize, addr: u64, buf: &mut [u8]) -> Result<(), DmaRefused> {
        for (at, range) in pages(addr, buf.len()) {
            let to = self.translate(port, at, false)?;
            let read = self.bus.ram.dma_read(to, &mut buf[range], self.wiring.coherent);
            read.map_err(|_| DmaRefused { addr: at })?;
        }
        Ok(())
    }

    /// Writes memory likewise.
    ///
    /// # Errors
    ///
    /// As [`dma_read`](Self::dma_read).
    pub fn dma_write(&mut self, port: usize, addr: u64, buf: &[u8]) -> Result<(), DmaRefused> {
        for (at, range) in pages(addr, buf.len()) {
            let to = self.translate(port, at, true)?;
            if self.bus.ring(self.wiring.name, to, &buf[range.clone()]) {
                continue;
            }
            let written = self.bus.ram.dma_write(to, &buf[range], self.wiring.coherent);
            written.map_err(|_| DmaRefused { addr: at })?;
        }
        Ok(())
    }

    /// Reports that software does something to the device that its manual forbids.
    pub fn error(&mut self, what: impl Into<String>) {
        self.bus.error(self.wiring.name, what.into());
    }

    fn translate(&mut self, port: usize, addr: u64, write: bool) -> Result<PhysAddr, DmaRefused> {
        let refused = DmaRefused { addr };
        if !self.link.master {
            return Err(refused);
        }
        match self.wiring.ports.get(port).ok_or(refused)? {
            Port::Direct => Ok(PhysAddr(addr)),
            Port::Ipmmu { leaf, utlb } => {
                let exists = *leaf < super::ipmmu::LEAVES.len() && *utlb < super::ipmmu::UTLBS;
                let exists = exists && u32::try_from(addr).is_ok();
                let to = exists.then(|| self.ipmmu.translate(&mut self.bus, *leaf, *utlb, addr, write));
                to.and_then(Result::ok).ok_or(refused)
            }
            Port::Mmu(mmu, stream) => match mmu.translate(*stream, addr) {
                Access::To(to) => Ok(to),
                Access::Refused => Err(refused),
            },
        }
    }
}

impl fmt::Debug for DeviceBus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceBus({})", self.wiring.name)
    }
}

/// Device addresses at which a page begins in `len` bytes at `addr`, with the range of bytes of each.
fn pages(addr: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = addr.wrapping_add(done as u64);
        let end = len.min(done + (4096 - (at % 4096)) as usize);
        let range = done..end;
        done = end;
        (!range.is_empty()).then_some((at, range))
    })
}

/// A [`DeviceModel`] of any type.
trait AnyModel: Send {
    fn read(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width) -> Option<u64>;
    fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width, value: u64) -> bool;
    fn timer(&mut self, bus: &mut DeviceBus<'_>, timer: u8);
    fn accesses(&self, addr: u64, len: u64) -> bool;
    fn power_up(&mut self);
    fn hash_state(&self, state: &mut dyn Hasher);
}

struct Resettable<M> {
    now: M,
    at_power_up: M,
}

impl<M: DeviceModel> AnyModel for Resettable<M> {
    fn read(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width) -> Option<u64> {
        self.now.read_sized(bus, offset, width)
    }
    fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width, value: u64) -> bool {
        self.now.write_sized(bus, offset, width, value)
    }
    fn timer(&mut self, bus: &mut DeviceBus<'_>, timer: u8) {
        self.now.timer(bus, timer);
    }
    fn accesses(&self, addr: u64, len: u64) -> bool {
        self.now.accesses(addr, len)
    }
    fn power_up(&mut self) {
        self.now = self.at_power_up.clone();
    }
    fn hash_state(&self, mut state: &mut dyn Hasher) {
        self.now.hash(&mut state);
    }
}

/// An attached device, with its connections.
pub(crate) struct Attached {
    pub(crate) wiring: Wiring,
    model: Box<dyn AnyModel>,
    levels: Vec<bool>,
    /// Set by the configuration space of a function.
    pub(crate) link: Link,
    index: u8,
    /// Number of times that its supplies have been switched off so far.
    offs: u64,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attached({})", self.wiring.name)
    }
}

impl Attached {
    pub(crate) fn new(wiring: Wiring, model: impl DeviceModel) -> Self {
        let levels = vec![false; wiring.lines.len()];
        let model = Resettable { at_power_up: model.clone(), now: model };
        let link = if wiring.len == 0 { Link::OFF } else { Link::PLATFORM };
        Self { wiring, model: Box::new(model), levels, link, index: 0, offs: 0 }
    }

    /// Takes its place on a board.
    pub(crate) fn place(&mut self, index: u8) {
        self.index = index;
    }

    /// Interrupt lines that it raises.
    pub(crate) fn high_lines(&self) -> impl Iterator<Item = u32> {
        let drives = self.link.pin && self.link.message.is_none();
        self.wiring.lines.iter().zip(&self.levels).filter(move |(_, high)| **high && drives).map(|(line, _)| *line)
    }

    /// Returns true when it raises its line. Where messages are enabled it no longer does.
    pub(crate) fn asserts(&mut self) -> bool {
        if self.link.message.is_some() {
            self.levels.fill(false);
        }
        self.levels.contains(&true)
    }

    /// All of its interrupt lines.
    pub(crate) fn lines(&self) -> &[u32] {
        &self.wiring.lines
    }

    /// Returns true when it is clocked, powered, and not in reset.
    fn runs(&self, cpg: &Cpg) -> bool {
        self.wiring.module.is_none_or(|module| cpg.running(module))
            && self.wiring.supplies.iter().all(|(controller, line)| controller.is_on(*line))
    }

    /// Leads back to the state after power-up, when a supply was switched off since the last call or the module is stopped.
    pub(crate) fn follow_supplies(&mut self, bus: &mut Bus<'_>, cpg: &Cpg) {
        let offs = self.wiring.supplies.iter().map(|(controller, line)| controller.offs(*line)).sum();
        if offs != self.offs || self.wiring.module.is_some_and(|module| !cpg.running(module)) {
            self.offs = offs;
            self.power_up(bus);
        }
    }

    /// Resets it.
    pub(crate) fn power_up(&mut self, bus: &mut Bus<'_>) {
        self.model.power_up();
        self.levels.fill(false);
        for timer in 0..TIMERS {
            bus.clock.cancel(Timer::Attached { device: self.index, timer });
        }
    }

    /// Reads a register; `None` when nothing answers, or not with this width.
    pub(crate) fn read(
        &mut self,
        mut bus: Bus<'_>,
        ipmmu: &mut Ipmmu,
        cpg: &Cpg,
        offset: u64,
        width: Width,
    ) -> Option<u64> {
        self.follow_supplies(&mut bus, cpg);
        if !self.runs(cpg) {
            bus.error(self.wiring.name, format!("read of {offset:#x} without clock, without power or in reset"));
            return Some(super::NO_ANSWER.into());
        }
        let Self { wiring, model, levels, link, index, .. } = self;
        model.read(&mut DeviceBus { bus, ipmmu, wiring, levels, link: *link, index: *index }, offset, width)
    }

    /// Writes a register. Returns false when nothing takes it.
    pub(crate) fn write(
        &mut self,
        mut bus: Bus<'_>,
        ipmmu: &mut Ipmmu,
        cpg: &Cpg,
        (offset, width): (u64, Width),
        value: u64,
    ) -> bool {
        self.follow_supplies(&mut bus, cpg);
        if !self.runs(cpg) {
            bus.error(self.wiring.name, format!("write to {offset:#x} without clock, without power or in reset"));
            return true;
        }
        let Self { wiring, model, levels, link, index, .. } = self;
        model.write(&mut DeviceBus { bus, ipmmu, wiring, levels, link: *link, index: *index }, offset, width, value)
    }

    pub(crate) fn timer(&mut self, mut bus: Bus<'_>, ipmmu: &mut Ipmmu, cpg: &Cpg, timer: u8) {
        self.follow_supplies(&mut bus, cpg);
        if self.runs(cpg) {
            let Self { wiring, model, levels, link, index, .. } = self;
            model.timer(&mut DeviceBus { bus, ipmmu, wiring, levels, link: *link, index: *index }, timer);
        }
    }

    /// Returns true when it can access any of the `len` bytes at `base`: by a translation that its IOMMU caches, or
    /// untranslated because a transfer is running.
    pub(crate) fn reaches(&self, ipmmu: &Ipmmu, base: PhysAddr, len: u64) -> bool {
        self.link.master
            && self.wiring.ports.iter().any(|port| match port {
                Port::Direct => self.model.accesses(base.0, len),
                Port::Ipmmu { leaf, utlb } => {
                    let exists = *leaf < super::ipmmu::LEAVES.len() && *utlb < super::ipmmu::UTLBS;
                    exists && ipmmu.is_bypassed(*leaf, *utlb) && self.model.accesses(base.0, len)
                }
                Port::Mmu(mmu, stream) => {
                    mmu.caches(base, len) || mmu.bypasses(*stream) && self.model.accesses(base.0, len)
                }
            })
    }

    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        self.levels.hash(state);
        self.model.hash_state(state);
    }
}
