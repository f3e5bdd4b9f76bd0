//! The board's parts, address map and interconnect.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::env::IoError;
use bindery::sync::thread::ThreadId;

use super::{Config, UnknownDevice};
use crate::clock::{Clock, Timer};
use crate::intc::Intc;
use crate::memory::Ram;
use crate::models::attached::Attached;
use crate::models::cpg::{self, Cpg, Module};
use crate::models::ipmmu::{self, Fault, Ipmmu};
use crate::models::sata::{self, Sata};
use crate::models::sysc::{self, Sysc};
use crate::models::{Bus, NO_ANSWER};
use crate::report::Report;
use crate::salvator;
use crate::trace::{Trace, Traced};

/// Board time of one register access, in nanoseconds, so that time advances also for a driver that polls without waiting.
const ACCESS_NS: u64 = 100;

/// Device behind a register window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Device {
    Sata,
    Ipmmu(usize),
    Cpg,
    Sysc,
    Fixed(u32),
    Attached(usize),
}

/// One range of registers.
#[derive(Debug)]
pub(super) struct Region {
    base: PhysAddr,
    len: u64,
    device: Device,
    name: &'static str,
    present: bool,
    /// Number of removals and insertions of the device. A window of another generation is invalid.
    pub(super) generation: u64,
}

/// Mutable state of a board, except the contents of RAM.
pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) intc: Intc,
    pub(super) report: Report,
    pub(super) trace: Trace,
    pub(super) cpg: Cpg,
    pub(super) sysc: Sysc,
    pub(super) ipmmu: Ipmmu,
    pub(super) sata: Sata,
    attached: Vec<Attached>,
    pub(super) regions: Vec<Region>,
    /// Threads that are delivering an interrupt.
    pub(super) delivering: Vec<ThreadId>,
    ram: Arc<Ram>,
}

impl State {
    pub(super) fn new(ram: Arc<Ram>, mut config: Config) -> Self {
        let ipmmu = Ipmmu::default();
        let region = |base, len, device, name| Region { base, len, device, name, present: true, generation: 0 };
        let mmu = |i, base| region(base, ipmmu::WINDOW, Device::Ipmmu(i), ipmmu.name(i));
        let mut regions: Vec<Region> = Vec::new();
        for (index, device) in config.attached.iter_mut().enumerate() {
            device.place(index as u8);
            regions.push(region(device.wiring.base, device.wiring.len, Device::Attached(index), device.wiring.name));
        }
        let soc = [
            region(salvator::SATA_BASE, sata::WINDOW, Device::Sata, sata::NAME),
            mmu(0, salvator::IPMMU_MM_BASE),
            region(salvator::CPG_BASE, cpg::WINDOW, Device::Cpg, cpg::NAME),
            region(salvator::SYSC_BASE, 0x400, Device::Sysc, sysc::NAME),
        ];
        regions.extend(soc);
        regions.extend((1..).zip(ipmmu::LEAVES).map(|(i, leaf)| mmu(i, leaf.base)));
        regions.extend(config.fixed.iter().map(|&(base, len, value)| region(base, len, Device::Fixed(value), "fixed")));
        Self {
            clock: Clock::default(),
            intc: Intc::default(),
            report: Report::default(),
            trace: Trace::new(config.trace),
            cpg: Cpg::default(),
            sysc: Sysc::default(),
            ipmmu,
            sata: Sata::new(config.disk, config.coherent),
            attached: config.attached,
            regions,
            delivering: Vec::new(),
            ram,
        }
    }

    /// The region that contains all of `len` bytes at `base`, and their offset in it.
    pub(super) fn find(&self, base: PhysAddr, len: u64) -> Option<(usize, u64)> {
        let end = base.checked_add(len).filter(|_| len > 0)?;
        let holds = |r: &Region| r.base <= base && end.0 <= r.base.0 + r.len;
        let index = self.regions.iter().position(holds)?;
        Some((index, base - self.regions[index].base))
    }

    fn is_valid(&self, region: usize, generation: u64) -> bool {
        let r = &self.regions[region];
        r.present && r.generation == generation
    }

    pub(super) fn set_present(&mut self, name: &str, present: bool) -> Result<(), UnknownDevice> {
        let address = name.split('.').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let region = self.regions.iter_mut().find(|r| Some(r.base.0) == address || r.name == name);
        let region = region.ok_or_else(|| UnknownDevice(name.into()))?;
        if region.present == present {
            return Ok(());
        }
        region.present = present;
        region.generation += 1;
        let device = region.device;
        let (mut bus, parts) = self.split();
        match device {
            Device::Sata => parts.sata.reset(&mut bus),
            Device::Ipmmu(i) => parts.ipmmu.set_present(&mut bus, i, present),
            Device::Attached(i) => parts.attached[i].power_up(&mut bus),
            Device::Cpg | Device::Sysc | Device::Fixed(_) => {}
        }
        self.drive_lines();
        Ok(())
    }

    /// Hashes state that is not behind a register window.
    pub(super) fn hash_state(&self, state: &mut impl Hasher) {
        self.clock.hash_state(state);
        self.intc.hash_state(state);
        self.ipmmu.stuck.hash(state);
    }

    /// Calls `each` with base address, name and hash of every register window.
    pub(super) fn hash_windows<H: Hasher + Default>(&self, mut each: impl FnMut(PhysAddr, &'static str, H)) {
        for region in &self.regions {
            let mut state = H::default();
            region.present.hash(&mut state);
            match region.device {
                Device::Sata => self.sata.hash_state(&mut state),
                Device::Ipmmu(i) => self.ipmmu.hash_state(i, &mut state),
                Device::Cpg => self.cpg.hash_state(&mut state),
                Device::Sysc => self.sysc.hash(&mut state),
                Device::Attached(i) => self.attached[i].hash_state(&mut state),
                Device::Fixed(_) => {}
            }
            each(region.base, region.name, state);
        }
    }

    fn split(&mut self) -> (Bus<'_>, Parts<'_>) {
        let bus = Bus { clock: &mut self.clock, intc: &mut self.intc, report: &mut self.report, ram: &self.ram };
        let parts = Parts {
            cpg: &mut self.cpg,
            sysc: &mut self.sysc,
            ipmmu: &mut self.ipmmu,
            sata: &mut self.sata,
            attached: &mut self.attached,
        };
        (bus, parts)
    }

    /// Drives the lines of attached devices: each is high while any of its devices raises it.
    fn drive_lines(&mut self) {
        for device in &self.attached {
            for line in device.lines() {
                let high = self.attached.iter().any(|other| other.high_lines().any(|raised| raised == *line));
                self.intc.set_level(*line, high);
            }
        }
    }

    /// Leads attached devices back to their state after power-up where a supply was switched off.
    pub(super) fn follow_supplies(&mut self) {
        if self.attached.is_empty() {
            return;
        }
        let (mut bus, parts) = self.split();
        for device in parts.attached {
            device.follow_supplies(&mut bus, parts.cpg);
        }
        self.drive_lines();
    }

    /// Advances time by one access to a region, and runs timers that become due. Fails when the region is of another
    /// generation.
    pub(super) fn begin_access(&mut self, region: usize, generation: u64) -> Result<(), IoError> {
        if !self.is_valid(region, generation) {
            return Err(IoError::Gone);
        }
        self.clock.advance_to(self.clock.now().0.saturating_add(ACCESS_NS));
        if self.clock.is_due() {
            self.run_due();
        }
        Ok(())
    }

    pub(super) fn read(&mut self, region: usize, offset: u32) -> u32 {
        let Region { base, device, name, .. } = self.regions[region];
        let (mut bus, parts) = self.split();
        let value = match device {
            Device::Sata if !parts.cpg.running(SATA_MODULE) => {
                bus.error(sata::NAME, format!("read of {offset:#x} without clock or in reset: external abort"));
                NO_ANSWER
            }
            Device::Sata => parts.sata.read(&mut bus, offset),
            Device::Ipmmu(i) => parts.ipmmu.read(&mut bus, i, offset),
            Device::Cpg => parts.cpg.read(&mut bus, offset),
            Device::Sysc => parts.sysc.read(&mut bus, offset),
            Device::Attached(i) => parts.attached[i].read(bus, parts.ipmmu, parts.cpg, offset),
            Device::Fixed(value) => value,
        };
        if matches!(device, Device::Attached(_)) {
            self.drive_lines();
        }
        let what = Traced::Read { device: name, offset: offset.into(), value: value.into() };
        self.trace.add(self.clock.now(), base, what);
        value
    }

    pub(super) fn write(&mut self, region: usize, offset: u32, value: u32) {
        let Region { base, device, name, .. } = self.regions[region];
        let what = Traced::Write { device: name, offset: offset.into(), value: value.into() };
        self.trace.add(self.clock.now(), base, what);
        let (mut bus, parts) = self.split();
        match device {
            Device::Sata if !parts.cpg.running(SATA_MODULE) => {
                bus.error(sata::NAME, format!("write to {offset:#x} without clock or in reset: external abort"));
            }
            Device::Sata => parts.sata.write(&mut bus, offset, value),
            Device::Ipmmu(i) => parts.ipmmu.write(&mut bus, i, offset, value),
            Device::Cpg => {
                let (clocked, in_reset) = (parts.cpg.clocked(SATA_MODULE), parts.cpg.in_reset(SATA_MODULE));
                parts.cpg.write(&mut bus, offset, value);
                if clocked && !parts.cpg.clocked(SATA_MODULE) {
                    parts.sata.clock_lost(&mut bus);
                }
                if !in_reset && parts.cpg.in_reset(SATA_MODULE) {
                    parts.sata.reset(&mut bus);
                }
            }
            Device::Sysc => parts.sysc.write(&mut bus, offset, value),
            Device::Attached(i) => parts.attached[i].write(bus, parts.ipmmu, parts.cpg, offset, value),
            Device::Fixed(_) => {}
        }
        match device {
            Device::Attached(_) => self.drive_lines(),
            Device::Cpg => self.follow_supplies(),
            _ => {}
        }
    }

    /// Reports an access that is not 32 bits wide.
    pub(super) fn bad_width(&mut self, region: usize, offset: u64, bytes: u64) {
        let name = self.regions[region].name;
        self.report.add(self.clock.now(), name, format!("access of {bytes} bytes at {offset:#x}: registers take 4"));
    }

    /// Runs all due timers. Returns true if there was one.
    pub(super) fn run_due(&mut self) -> bool {
        self.follow_supplies();
        let mut any = false;
        while let Some(timer) = self.clock.take_due() {
            any = true;
            self.trace.add(self.clock.now(), PhysAddr(0), Traced::Timer(timer));
            let (mut bus, parts) = self.split();
            match timer {
                Timer::Sata(timer) => parts.sata.timer(&mut bus, parts.ipmmu, timer),
                Timer::Flush { instance, context } => parts.ipmmu.flushed(instance, context),
                Timer::ModuleClocks => parts.cpg.clocks_started(),
                Timer::Power(domain) => parts.sysc.switched(domain),
                Timer::Attached { device, timer } => {
                    if let Some(device) = parts.attached.get_mut(usize::from(device)) {
                        device.timer(bus, parts.ipmmu, parts.cpg, timer);
                    }
                    self.drive_lines();
                }
            }
        }
        any
    }

    /// Returns true when a device can access any of the `len` bytes at `base`, by a cached translation or untranslated.
    pub(super) fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        self.ipmmu.caches_translation_to(base, len)
            || self.sata.accesses(&self.ipmmu, base, len)
            || self.attached.iter().any(|device| device.reaches(&self.ipmmu, base, len))
    }

    pub(super) fn translate(
        &mut self,
        leaf: usize,
        utlb: usize,
        addr: u64,
        write: bool,
    ) -> Option<Result<PhysAddr, Fault>> {
        if leaf >= ipmmu::LEAVES.len() || utlb >= ipmmu::UTLBS || addr > u64::from(u32::MAX) {
            return None;
        }
        let (mut bus, parts) = self.split();
        Some(parts.ipmmu.translate(&mut bus, leaf, utlb, addr, write))
    }
}

const SATA_MODULE: Module = match Module::new(salvator::SATA_MODULE) {
    Some(module) => module,
    None => panic!("the SATA module exists"),
};

/// The models, borrowed separately from the rest of the board.
struct Parts<'a> {
    cpg: &'a mut Cpg,
    sysc: &'a mut Sysc,
    ipmmu: &'a mut Ipmmu,
    sata: &'a mut Sata,
    attached: &'a mut [Attached],
}
