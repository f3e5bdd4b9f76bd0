//! The board's parts, address map and interconnect.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::env::{IoError, Width};
use bindery::sync::thread::ThreadId;

use super::{Config, UnknownDevice};
use crate::clock::{Clock, Timer};
use crate::intc::Intc;
use crate::memory::Ram;
use crate::models::attached::Attached;
use crate::models::cpg::{self, Cpg, Module};
use crate::models::ipmmu::{self, Fault, Ipmmu};
use crate::models::pci::{Host, Severity};
use crate::models::sata::{self, Sata, SataFaults};
use crate::models::sysc::{self, Sysc};
use crate::models::{Bus, Doorbell, NO_ANSWER};
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
    /// Configuration space of PCI functions, and the memory that their host bridge passes on.
    Ecam,
    PciMemory,
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
    pci: Option<Host>,
    pub(super) doorbell: Option<Doorbell>,
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
            let (base, len) = (device.wiring.base, device.wiring.len);
            regions.push(region(base, len, Device::Attached(index), device.wiring.name));
        }
        let soc = [
            region(salvator::SATA_BASE, sata::WINDOW, Device::Sata, sata::NAME),
            mmu(0, salvator::IPMMU_MM_BASE),
            region(salvator::CPG_BASE, cpg::WINDOW, Device::Cpg, cpg::NAME),
            region(salvator::SYSC_BASE, 0x400, Device::Sysc, sysc::NAME),
        ];
        if config.soc {
            regions.extend(soc);
            regions.extend((1..).zip(ipmmu::LEAVES).map(|(i, leaf)| mmu(i, leaf.base)));
        }
        if let Some(pci) = &config.pci {
            regions.push(region(pci.ecam.0, pci.ecam.1, Device::Ecam, "pci-config"));
            regions.push(region(pci.memory.0, pci.memory.1, Device::PciMemory, "pci-memory"));
        }
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
            doorbell: config.pci.as_ref().map(|pci| pci.doorbell),
            pci: config.pci.map(|pci| pci.host),
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

    /// Index of the region of the platform device called `name`, by its address or by its own name.
    fn region_called(&self, name: &str) -> Option<usize> {
        let address = name.split('.').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        self.regions.iter().position(|r| Some(r.base.0) == address || r.name == name)
    }

    pub(super) fn is_present(&self, name: &str) -> Option<bool> {
        Some(self.regions[self.region_called(name)?].present)
    }

    pub(super) fn set_present(&mut self, name: &str, present: bool) -> Result<(), UnknownDevice> {
        if let Some(models) = self.pci.as_mut().and_then(|host| host.set_present(name, present)) {
            self.reset_models(&models);
            return Ok(());
        }
        let at = self.region_called(name).ok_or_else(|| UnknownDevice(name.into()))?;
        let region = &mut self.regions[at];
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
            Device::Cpg | Device::Sysc | Device::Fixed(_) | Device::Ecam | Device::PciMemory => {}
        }
        self.drive_lines();
        Ok(())
    }

    /// Has nothing behind a PCI bridge answer after a reset of its bus, or not.
    pub(super) fn set_bus_stuck(&mut self, bridge: &str, stuck: bool) {
        if let Some(host) = &mut self.pci {
            host.set_stuck(bridge, stuck);
        }
    }

    /// Presses the attention button of a PCI port's slot.
    pub(super) fn press(&mut self, port: &str) -> Result<(), UnknownDevice> {
        let pressed = self.pci.as_mut().is_some_and(|host| host.press(port));
        self.drive_lines();
        if pressed { Ok(()) } else { Err(UnknownDevice(port.into())) }
    }

    /// A PCI function detects an error; its message says that it comes from `source`, if that is given.
    pub(super) fn pci_error(
        &mut self,
        name: &str,
        severity: Severity,
        source: Option<u16>,
    ) -> Result<(), UnknownDevice> {
        let models = self.pci.as_mut().and_then(|host| host.detect(name, severity, source));
        self.reset_models(&models.ok_or_else(|| UnknownDevice(name.into()))?);
        Ok(())
    }

    /// The link below a PCI port fails, or comes up again.
    pub(super) fn set_link_failed(&mut self, port: &str, failed: bool) -> Result<(), UnknownDevice> {
        let models = self.pci.as_mut().and_then(|host| host.set_link_failed(port, failed));
        self.reset_models(&models.ok_or_else(|| UnknownDevice(port.into()))?);
        Ok(())
    }

    /// Reports what software must not do with a PCI function.
    fn report_misuse(&mut self, misuse: Option<(&'static str, String)>) {
        if let Some((name, what)) = misuse {
            let (mut bus, _) = self.split();
            bus.error(name, what);
        }
    }

    /// Resets models behind PCI functions.
    fn reset_models(&mut self, models: &[usize]) {
        let (mut bus, parts) = self.split();
        for model in models {
            parts.attached[*model].power_up(&mut bus);
        }
        self.drive_lines();
    }

    /// Hashes state that is not behind a register window.
    pub(super) fn hash_state(&self, state: &mut impl Hasher) {
        self.clock.hash_state(state);
        self.intc.hash_state(state);
        (self.ipmmu.stuck, self.ipmmu.stuck_context).hash(state);
        self.doorbell.map(|doorbell| doorbell.taken).hash(state);
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
                Device::Ecam => self.pci.iter().for_each(|host| host.hash_state(&mut state)),
                // The functions are hashed by their own windows, which are nowhere else.
                Device::Fixed(_) | Device::PciMemory => {}
            }
            each(region.base, region.name, state);
        }
    }

    pub(super) fn change_sata_faults(&mut self, change: impl FnOnce(&mut SataFaults)) {
        let (mut bus, parts) = self.split();
        let before = parts.sata.faults;
        change(&mut parts.sata.faults);
        parts.sata.faults_changed(&mut bus, before);
    }

    fn split(&mut self) -> (Bus<'_>, Parts<'_>) {
        let (clock, intc, report) = (&mut self.clock, &mut self.intc, &mut self.report);
        let bus = Bus { clock, intc, report, ram: &self.ram, doorbell: self.doorbell };
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
        if let Some(host) = &mut self.pci {
            host.connect(&mut self.attached);
        }
        let ports: Vec<(u32, bool)> = self.pci.iter().flat_map(Host::port_lines).collect();
        let lines = self.attached.iter().flat_map(Attached::lines).copied();
        for line in lines.chain(ports.iter().map(|(line, _)| *line)) {
            let port = ports.contains(&(line, true));
            let high = port || self.attached.iter().any(|other| other.high_lines().any(|raised| raised == line));
            self.intc.set_level(line, high);
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

    /// The device behind a register, and the offset in its registers.
    fn behind(&self, region: usize, offset: u64) -> (Device, &'static str, u64) {
        let Region { base, device, name, .. } = self.regions[region];
        let function = || self.pci.as_ref().and_then(|host| host.decode(base.0 + offset));
        match device {
            Device::PciMemory => {
                function().map_or((device, name, offset), |(i, name, at)| (Device::Attached(i), name, at))
            }
            _ => (device, name, offset),
        }
    }

    pub(super) fn read(&mut self, region: usize, offset: u64, width: Width) -> u64 {
        let base = self.regions[region].base;
        let (device, name, at) = self.behind(region, offset);
        let ones = u64::MAX >> (64 - 8 * width.bytes());
        let value = match device {
            Device::Ecam => {
                let read = self.pci.as_ref().map(|host| host.read_config(at, width, self.clock.now()));
                let (value, misuse) = read.unwrap_or((ones, None));
                self.report_misuse(misuse);
                value
            }
            Device::PciMemory => ones,
            Device::Attached(i) => {
                let (bus, parts) = self.split();
                let value = parts.attached[i].read(bus, parts.ipmmu, parts.cpg, at, width);
                self.drive_lines();
                value.map_or_else(|| self.unanswered(region, name, at, width), |value| value & ones)
            }
            _ if width != Width::W32 => self.unanswered(region, name, at, width),
            _ => self.read32(device, at as u32).into(),
        };
        self.trace.add(self.clock.now(), base, Traced::Read { device: name, offset: at, value });
        value
    }

    fn read32(&mut self, device: Device, offset: u32) -> u32 {
        let (mut bus, parts) = self.split();
        match device {
            Device::Sata if !parts.cpg.running(SATA_MODULE) => {
                bus.error(sata::NAME, format!("read of {offset:#x} without clock or in reset: external abort"));
                NO_ANSWER
            }
            Device::Sata => parts.sata.read(&mut bus, offset),
            Device::Ipmmu(i) => parts.ipmmu.read(&mut bus, i, offset),
            Device::Cpg => parts.cpg.read(&mut bus, offset),
            Device::Sysc => parts.sysc.read(&mut bus, offset),
            Device::Fixed(value) => value,
            Device::Attached(_) | Device::Ecam | Device::PciMemory => NO_ANSWER,
        }
    }

    pub(super) fn write(&mut self, region: usize, offset: u64, width: Width, value: u64) {
        let base = self.regions[region].base;
        let (device, name, at) = self.behind(region, offset);
        self.trace.add(self.clock.now(), base, Traced::Write { device: name, offset: at, value });
        match device {
            Device::Ecam => {
                let now = self.clock.now();
                if let Some(written) = self.pci.as_mut().map(|host| host.write_config(at, width, value, now)) {
                    self.report_misuse(written.misuse);
                    self.reset_models(&written.reset);
                }
            }
            Device::PciMemory => {}
            Device::Attached(i) => {
                let (bus, parts) = self.split();
                let taken = parts.attached[i].write(bus, parts.ipmmu, parts.cpg, (at, width), value);
                self.drive_lines();
                if !taken {
                    self.unanswered(region, name, at, width);
                }
            }
            _ if width != Width::W32 => {
                self.unanswered(region, name, at, width);
            }
            _ => self.write32(device, at as u32, value as u32),
        }
    }

    fn write32(&mut self, device: Device, offset: u32, value: u32) {
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
                self.follow_supplies();
            }
            Device::Sysc => parts.sysc.write(&mut bus, offset, value),
            Device::Fixed(_) | Device::Attached(_) | Device::Ecam | Device::PciMemory => {}
        }
    }

    /// Reports an access with a width that a device does not take. A PCI function that does not answer is no fault of software.
    fn unanswered(&mut self, region: usize, name: &'static str, at: u64, width: Width) -> u64 {
        if self.regions[region].device != Device::PciMemory {
            let what = format!("access of {} bytes at {at:#x}: registers take 4", width.bytes());
            self.report.add(self.clock.now(), name, what);
        }
        u64::MAX >> (64 - 8 * width.bytes())
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
