//! A bus master at register level, and its driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bindery::binding::{Bound, Mmio};
use bindery::device::DeviceDesc;
use bindery::dma::{Coherent, DmaError};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::irq::Irq;
use bindery::power::SupplyUse;
use bindery_sim::models::attached::{DeviceBus, DeviceModel};

use super::stream::{AroundOf, How, Streams};
use crate::engine::Violation;

/// Address of a transfer. Writing it starts the transfer by port [`PORT`].
pub(super) const ADDR: u64 = 0x0;
/// Bit 0: a transfer has ended, and the line is high. Bit 1: it was refused. Writing anything clears both.
pub(super) const STATUS: u64 = 0x4;
/// Bit 0: enabled. Clearing it stops a transfer and resets the registers.
pub(super) const CONTROL: u64 = 0x8;
/// DMA port of the next transfer.
pub(super) const PORT: u64 = 0xc;

/// What a device is given to copy.
pub(super) const WORD: u64 = 0x1122_3344_5566_7788;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

/// The device: a transfer reads 8 bytes, and writes them, each with all bits inverted, behind.
#[derive(Clone, Hash, Default)]
pub(super) struct RingModel {
    enabled: bool,
    addr: u32,
    running: bool,
    status: u32,
    port: u32,
}

impl DeviceModel for RingModel {
    fn read(&mut self, bus: &mut DeviceBus<'_>, offset: u64) -> u32 {
        match offset {
            ADDR => self.addr,
            STATUS => self.status,
            CONTROL => self.enabled.into(),
            PORT => self.port,
            _ => {
                bus.error(format!("read of {offset:#x}: no such register"));
                0
            }
        }
    }

    fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, value: u32) {
        match offset {
            ADDR if !self.enabled => bus.error("a transfer was started while the device is disabled"),
            ADDR => {
                (self.addr, self.running) = (value, true);
                bus.start_timer(0, Duration::from_micros(2));
            }
            STATUS => {
                self.status = 0;
                bus.set_line(0, false);
            }
            CONTROL => {
                let enabled = value & 1 != 0;
                if !enabled {
                    *self = Self::default();
                    bus.stop_timer(0);
                    bus.set_line(0, false);
                }
                self.enabled = enabled;
            }
            PORT => self.port = value,
            _ => bus.error(format!("write to {offset:#x}: no such register")),
        }
    }

    fn timer(&mut self, bus: &mut DeviceBus<'_>, _: u8) {
        let (port, addr) = (self.port as usize, u64::from(self.addr));
        let mut bytes = [0; 8];
        let read = bus.dma_read(port, addr, &mut bytes);
        let done = read.and_then(|()| bus.dma_write(port, addr + 8, &bytes.map(|byte| !byte)));
        self.running = false;
        self.status = if done.is_ok() { 1 } else { 3 };
        bus.set_line(0, true);
    }

    fn accesses(&self, addr: u64, len: u64) -> bool {
        let at = u64::from(self.addr);
        self.running && at < addr.saturating_add(len) && addr < at + 16
    }
}

/// Resources of one bound device, from the words of its driver. They are what the hardware is compared with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Held {
    /// Device address and page of each of its mappings.
    pub(super) maps: Vec<(u64, u64)>,
    /// It masks its line.
    pub(super) masks: bool,
    /// How its streamed buffers are mapped, oldest first, and true while it has an arena.
    pub(super) streams: (Vec<How>, bool),
    /// Voltages of its regulator that suit it, in microvolts.
    pub(super) volts: Option<(u32, u32)>,
}

/// What drivers hold: an entry from the end of a successful probe until its driver data is dropped.
#[derive(Default, Debug)]
pub(super) struct Owners {
    held: Mutex<BTreeMap<String, Held>>,
    stops: Mutex<Stops>,
    seen: Mutex<Seen>,
}

/// How devices stop.
#[derive(Default, Debug)]
pub(super) struct Stops {
    /// Devices that do not stop when they are asked to.
    pub(super) jammed: BTreeSet<String>,
    /// Devices that did not, and have not been seen at rest since.
    pub(super) running: BTreeSet<String>,
    /// Pages that these may access, where nothing translates.
    pub(super) given: BTreeMap<String, BTreeSet<u64>>,
    /// Device that is being removed.
    pub(super) removed: Option<&'static str>,
    /// What was wrong when a device was asked to stop.
    pub(super) wrong: Vec<String>,
}

/// What drivers have seen between steps.
#[derive(Default, Debug)]
pub(super) struct Seen {
    /// Pages that were lost with handles that drivers have forgotten.
    pub(super) lost: BTreeSet<u64>,
    /// What was wrong.
    pub(super) wrong: Vec<Violation>,
}

impl Owners {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stops(&self) -> MutexGuard<'_, Stops> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, device: &str) -> Option<Held> {
        self.lock().get(device).cloned()
    }
}

/// Entry of a device in [`Owners`], until it is dropped.
pub(super) struct Entry {
    pub(super) owners: Arc<Owners>,
    pub(super) device: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.owners.lock().remove(&self.device);
    }
}

/// The children of a device, by its name.
type Children = Arc<dyn Fn(&str) -> Vec<DeviceDesc> + Send + Sync>;
/// The devices below a device, by names, and true for those that firmware describes there.
type Below = Arc<dyn Fn(&str) -> Vec<(&'static str, bool)> + Send + Sync>;
type IsThere = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Driver of [`RingModel`].
pub(super) struct RingDriver {
    pub(super) owners: Arc<Owners>,
    /// Children that it adds, by the device that has them.
    pub(super) children: Children,
    /// Devices that must have been unbound before a device is asked to stop: where firmware describes them, before one that is
    /// removed is.
    pub(super) below: Below,
    /// True for a device that the machine has.
    pub(super) is_there: IsThere,
    /// For a device whose driver streams buffers.
    pub(super) around: AroundOf,
}

/// The same driver under another name, which a device is offered to when the first one is removed.
pub(super) struct SpareDriver(pub(super) RingDriver);

impl Driver for SpareDriver {
    const NAME: &'static str = "ring-spare";
    const MATCHES: &'static [Match] = RingDriver::MATCHES;
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        self.0.probe(dev)
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        RingDriver::quiesce(port)
    }
}

/// Driver data.
pub(super) struct Port<'b> {
    pub(super) dev: Bound<'b>,
    regs: Mmio<'b>,
    ring: Coherent<'b>,
    more: Mutex<Vec<Coherent<'b>>>,
    interrupts: Arc<AtomicU32>,
    /// The device was not asked to stop.
    enabled: AtomicBool,
    pub(super) entry: Entry,
    pub(super) streams: Option<Streams<'b>>,
    below: Vec<(&'static str, bool)>,
    is_there: IsThere,
    irq: Option<Irq<'b>>,
    regulator: Option<SupplyUse>,
}

impl Driver for RingDriver {
    const NAME: &'static str = "ring";
    const MATCHES: &'static [Match] = &[Match::compatible("test,ring")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        let wants = dev.desc().suppliers.iter().any(|s| &*s.property == "vcc-supply");
        let regulator = if wants { Some(dev.regulator("vcc")?) } else { None };
        if let Some(regulator) = &regulator {
            regulator.enable().map_err(bindery::binding::ResourceError::Supply)?;
        }
        let regs = dev.mmio(0)?;
        regs.write32(CONTROL, 0)?;
        {
            let mut stops = self.owners.stops();
            stops.running.remove(dev.name());
            stops.jammed.remove(dev.name());
            stops.given.remove(dev.name());
        }
        dev.mark_quiesced(Quiesced::stopped());
        let around = (self.around)(dev.name());
        if let Some(around) = &around {
            around.look_between(dev, "when its memory has ended")?;
        }
        let ring = dev.dma().coherent(PAGE)?;
        let streams = around.map(|around| Streams::between_looks(dev, around)).transpose()?;
        let interrupts = dev.desc().resources.iter().any(|r| matches!(r, bindery::device::Resource::Irq { .. }));
        let requests = Arc::new(AtomicU32::new(0));
        let (handle, seen) = (regs.handle(), Arc::clone(&requests));
        let handler = move || {
            if !handle.read32(STATUS).is_ok_and(|status| status & 1 != 0) {
                return IrqReturn::None;
            }
            seen.fetch_add(1, Ordering::Relaxed);
            let _ = handle.write32(STATUS, 0);
            IrqReturn::Handled
        };
        let irq = if interrupts { Some(dev.request_irq(0, handler)?) } else { None };
        for child in (self.children)(dev.name()) {
            dev.add_child(child)?;
        }
        regs.write32(CONTROL, 1)?;
        let held = Held { maps: vec![place(&ring)], streams: (Vec::new(), streams.is_some()), ..Held::default() };
        self.owners.lock().insert(dev.name().to_owned(), held);
        let entry = Entry { owners: Arc::clone(&self.owners), device: dev.name().to_owned() };
        Ok(Port {
            dev,
            regs,
            ring,
            more: Mutex::default(),
            interrupts: requests,
            enabled: AtomicBool::new(true),
            entry,
            streams,
            below: (self.below)(dev.name()),
            is_there: Arc::clone(&self.is_there),
            irq,
            regulator,
        })
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        port.enabled.store(false, Ordering::Relaxed);
        let (owners, name) = (&port.entry.owners, port.entry.device.as_str());
        let mut stops = owners.stops();
        let removed = stops.removed == Some(name);
        // Those that its driver has added are gone by then, too.
        let is_early = |(below, by_firmware): &&(&str, bool)| {
            if *by_firmware { removed && owners.of(below).is_some() } else { (port.is_there)(below) }
        };
        let early = port.below.iter().find(is_early);
        stops.wrong.extend(
            early.map(|(below, _)| format!("{name} is asked to stop before {below}, which is below it, is gone")),
        );
        if stops.jammed.contains(name) {
            stops.running.insert(name.to_owned());
            let maps = owners.of(name).unwrap_or_default().maps;
            stops.given.insert(name.to_owned(), maps.iter().map(|(at, _)| at & !(PAGE - 1)).collect());
            return Err(QuiesceError("it does not stop"));
        }
        drop(stops);
        port.regs.write32(CONTROL, 0).map_err(|_| QuiesceError("the registers are gone"))?;
        Ok(Quiesced::stopped())
    }
}

/// Device address and page of `memory`.
fn place(memory: &Coherent<'_>) -> (u64, u64) {
    (memory.device_addr().0, memory.memory().phys().0)
}

impl<'b> Port<'b> {
    /// Has the device copy a word by each of its `ports`, and raise its line if it has one.
    pub(super) fn transfer(&self, ports: usize, has_line: bool) -> Result<(), String> {
        for port in 0..ports {
            let word = WORD.rotate_left(8 * port as u32);
            self.ring.write_bytes(0, &word.to_le_bytes());
            self.ring.write_bytes(8, &[0; 8]);
            self.copy(port, self.ring.device_addr().0, has_line)?;
            let mut copy = [0; 8];
            self.ring.read_bytes(8, &mut copy);
            if u64::from_le_bytes(copy) != !word {
                return Err(format!("the transfer by port {port} gave {:#x}", u64::from_le_bytes(copy)));
            }
        }
        Ok(())
    }

    /// Has the device copy the word at `at` by `port`, and waits until it is done.
    pub(super) fn copy(&self, port: usize, at: u64, has_line: bool) -> Result<(), String> {
        if !self.enabled.load(Ordering::Relaxed) {
            return Err("the device is stopped".into());
        }
        let before = self.interrupts.load(Ordering::Relaxed);
        let start = || {
            self.regs.write32(PORT, port as u32)?;
            self.regs.write32(ADDR, at as u32)
        };
        start().map_err(|error| error.to_string())?;
        let done = || {
            if has_line {
                self.interrupts.load(Ordering::Relaxed) > before
            } else {
                self.regs.read32(STATUS).is_ok_and(|status| status & 1 != 0)
            }
        };
        if !self.dev.wait_until(Duration::from_micros(400), Duration::from_micros(50), done) {
            return Err(format!("the transfer by port {port} did not end"));
        }
        if !has_line {
            let _ = self.regs.write32(STATUS, 0);
        }
        Ok(())
    }

    /// Masks its line.
    pub(super) fn mask(&self) {
        if let Some(irq) = &self.irq {
            irq.mask();
            self.held(|held| held.masks = true);
        }
    }

    /// Asks for a voltage from `min` to `max`.
    pub(super) fn ask(&self, min: u32, max: u32) -> Result<u32, String> {
        let regulator = self.regulator.as_ref().ok_or("it has no regulator")?;
        let volts = regulator.set_voltage(min, max).map_err(|error| error.to_string())?;
        self.held(|held| held.volts = Some((min, max)));
        Ok(volts)
    }

    /// Allocates one more page.
    pub(super) fn grow(&self) -> Result<(), DmaError> {
        let memory = self.dev.dma().coherent(PAGE)?;
        self.held(|held| held.maps.push(place(&memory)));
        self.more().push(memory);
        Ok(())
    }

    /// Releases the page that was allocated last. False when there is none.
    pub(super) fn shrink(&self) -> bool {
        let memory = self.more().pop();
        let Some(memory) = memory else { return false };
        let gone = place(&memory);
        self.held(|held| held.maps.retain(|map| *map != gone));
        memory.release();
        true
    }

    fn more(&self) -> MutexGuard<'_, Vec<Coherent<'b>>> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held(&self, change: impl FnOnce(&mut Held)) {
        self.entry.owners.lock().entry(self.entry.device.clone()).and_modify(change);
    }
}
