//! Host bridge of PCI Express with configuration space in memory (`pci-host-ecam-generic`), as on QEMU's `virt` and many servers.
//!
//! Finds the functions behind the bridge, gives them addresses where firmware left none, and adds each as a device on the bus `pci`.
//! Layouts: `core/src/pci`; the device tree's properties: *PCI Bus Binding to IEEE 1275* 2.1, and Linux's
//! `Documentation/devicetree/bindings/pci/host-generic-pci.yaml`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, MmioHandle, ResourceError};
use bindery::bus::BusDevice;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Io, IoError, Width};
use bindery::machine::Machine;
use bindery::pci::{
    self, ConfigSpace, Ecam, Function, FunctionId, Functions, Header, HostBridge, Slot, Space, Topology, Window,
};
use bindery::sync::{Mutex, SpinLock};

/// Time from the link's coming up to the first access (PCI Express 5.0, 6.6.1).
const SETTLE: Duration = Duration::from_millis(100);
/// Longest time from then until a device that was put in answers, and the interval of looks.
const READY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));

/// The driver.
#[derive(Debug, Default)]
pub struct PciHost {
    /// Segment group of each bridge that was ever bound, by device: functions keep their names.
    segments: SpinLock<BTreeMap<Arc<str>, u16>>,
}

impl PciHost {
    /// The segment group of `dev`: what firmware says (`linux,pci-domain`), or else the lowest one from 0x8000 on that no bridge has.
    fn segment(&self, dev: Bound<'_>, firmware: Option<u32>) -> Result<u16, ProbeError> {
        let mut segments = self.segments.lock();
        if let Some(segment) = segments.get(&dev.desc().name) {
            return Ok(*segment);
        }
        let taken = |segment: &u16| segments.values().any(|taken| taken == segment);
        let segment = match firmware.map(u16::try_from) {
            Some(Ok(segment)) if !taken(&segment) => segment,
            Some(Ok(_)) => return Err(ProbeError::Device("linux,pci-domain: another host bridge has it")),
            Some(Err(_)) => return Err(ProbeError::Device("linux,pci-domain: above 65535")),
            None => {
                // Above those that firmware gives, whichever bridge comes first (P8).
                (0x8000..=u16::MAX)
                    .find(|segment| !taken(segment))
                    .ok_or(ProbeError::Device("no segment group is left"))?
            }
        };
        segments.insert(Arc::clone(&dev.desc().name), segment);
        Ok(segment)
    }
}

/// Configuration space, as long as the bridge is bound.
struct Registers(MmioHandle);

impl Io for Registers {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.0.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        self.0.write(offset, width, value)
    }
}

/// A bound host bridge.
pub struct Host<'b> {
    dev: Bound<'b>,
    config: Arc<dyn ConfigSpace + Send + Sync>,
    segment: u16,
    windows: Vec<Window>,
    /// Held by who looks at the slots.
    turn: Arc<Mutex<()>>,
    /// The functions that were found, and how the core reaches them.
    found: Mutex<(Topology, Functions)>,
}

/// What is to be done about a slot.
struct Change {
    port: FunctionId,
    /// The buses behind the port.
    numbers: RangeInclusive<u8>,
    /// Names of the devices that are to be removed, those behind others first.
    gone: Vec<String>,
    /// They are still there, and somebody wants to pull them out.
    planned: bool,
    /// The slot is switched on for a device without power.
    switch_on: bool,
    /// There is a device that is to be found.
    came: bool,
}

impl Host<'_> {
    /// Adds the functions `new` as devices.
    fn add(&self, found: &Topology, functions: &Functions, new: &[Function]) -> Result<(), ProbeError> {
        let dev = self.dev;
        let isolation = found.isolate(&*self.config)?;
        for function in new {
            let bus = functions.reach(function);
            let ready = match function.header {
                Header::Bridge => bus.open_bridge(),
                // What firmware has left running does not access memory before a driver is there for it.
                _ => bus.set_bus_master(false).and_then(|()| bus.disable_messages()),
            };
            if let Err(error) = ready {
                dev.log(format_args!("{}: {error}", function.at));
            }
            // One that cannot be added, for its name perhaps, is reported by the core; the others are added.
            let mut desc = function.description(dev.desc(), &self.windows, &isolation);
            match found.interrupt(function, dev.desc()) {
                Ok(interrupt) => desc.resources.extend(interrupt),
                Err(problem) => dev.log(format_args!("{problem}")),
            }
            let added = match function.header {
                Header::Device => dev.add_child_on(desc, Arc::new(bus)),
                // Its bus mastering is that of the functions behind it, and no proof of anything.
                _ => dev.add_child(desc),
            };
            match added {
                Ok(_) | Err(ResourceError::ChildExists | ResourceError::ChildName) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Looks at all slots, outer ones first: what is behind a port that has gone is not asked.
    fn look(&self) -> Vec<Change> {
        let inside = self.found.lock();
        let (found, functions) = &*inside;
        let mut changes: Vec<Change> = Vec::new();
        for port in &found.functions {
            let Some(bridge) = found.bridges.iter().find(|bridge| bridge.at == port.at) else { continue };
            let Some(slot) = functions.slot(port) else { continue };
            if changes.iter().any(|change| change.numbers.contains(&port.at.bus) && !change.gone.is_empty()) {
                continue;
            }
            // A port that does not respond is behind one that tells of it.
            let Ok(state) = slot.look() else { continue };
            let numbers = bridge.secondary..=bridge.subordinate;
            let behind = || found.functions.iter().rev().filter(|f| numbers.contains(&f.at.bus));
            let (known, planned) = (behind().next().is_some(), state.attention && state.occupied && !state.changed);
            let leaves = known && (planned || state.changed || !state.occupied);
            let switch_on = !known && state.present && !state.occupied && state.attention;
            let came = state.occupied && !(known && planned) && (!known || leaves) || switch_on;
            if leaves || came {
                let gone = behind().filter(|_| leaves).map(|f| f.at.to_string()).collect();
                changes.push(Change { port: port.at, numbers, gone, planned, switch_on, came });
            }
        }
        changes
    }

    /// Forgets what has gone, and adds what has come.
    fn follow(&self, changes: &[Change]) -> Result<(), ProbeError> {
        let mut inside = self.found.lock();
        let (found, functions) = &mut *inside;
        for change in changes {
            if !change.gone.is_empty() {
                found.remove(change.numbers.clone());
                functions.remove(change.numbers.clone());
            }
            let slot = found.function(change.port).and_then(|port| functions.slot(port));
            let Some(slot) = slot.filter(|_| change.planned || change.switch_on || change.came) else { continue };
            let switched = match (change.switch_on, change.planned && !change.came) {
                (true, _) => slot.set_power(true),
                (false, true) => slot.set_power(false),
                (false, false) => Ok(()),
            };
            if let Err(error) = switched {
                self.dev.log(format_args!("the slot of {}: {error}", change.port));
            }
            if change.came {
                self.find(found, functions, &slot, change)?;
            }
        }
        Ok(())
    }

    /// Finds and adds what is behind a port.
    fn find(
        &self,
        found: &mut Topology,
        functions: &mut Functions,
        slot: &Slot,
        change: &Change,
    ) -> Result<(), ProbeError> {
        let first = FunctionId { bus: *change.numbers.start(), device: 0, function: 0, ..change.port };
        let answers = || self.config.read(first, 0, Width::W32).is_ok_and(|id| id != u32::MAX && id as u16 != 1);
        let clock = self.dev.system_clock();
        clock.wait_until(SETTLE, SETTLE, || false);
        let there = clock.wait_until(READY.0, READY.1, answers);
        // Its link has come up meanwhile, which is no change from what is found now.
        let state = slot.look();
        if !there || !state.is_ok_and(|state| state.occupied) {
            self.dev.log(format_args!("the slot of {}: its device does not answer", change.port));
            return Ok(());
        }
        let passed = found.bridges.iter().find(|bridge| bridge.at == change.port).map_or(&[][..], |b| &b.windows);
        // Only where they are on the bus is of interest here.
        let window = |(space, first, last): &(Space, u64, u64)| Window {
            space: *space,
            bus: *first,
            phys: PhysAddr(*first),
            len: last - first + 1,
        };
        let windows: Vec<_> = passed.iter().map(window).collect();
        let (buses, segment) = (change.numbers.clone(), self.segment);
        let behind = pci::enumerate_behind(&HostBridge { config: &*self.config, segment, buses, windows: &windows })?;
        for problem in &behind.problems {
            self.dev.log(format_args!("{problem}"));
        }
        functions.add(&behind);
        let new = behind.functions.clone();
        found.add(behind);
        self.add(found, functions, &new)
    }
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.dev.name())
    }
}

impl PciHost {
    /// Looks at the slots behind the host bridge called `host`, as often as somebody calls it: what was pulled out is removed with
    /// all that is behind it (as by [`Machine::device_vanished`]), and what was put in is found and added, for the next
    /// [`Machine::settle`]. Where an attention button was pressed, the device is removed in an orderly way and its slot switched off, or
    /// an empty slot switched on. Returns the number of slots with a change. Not for driver code, which cannot wait for a removal.
    ///
    /// # Errors
    ///
    /// The host bridge is not bound to this driver, or does not answer.
    pub fn check_slots(machine: &Arc<Machine>, host: &str) -> Result<usize, ProbeError> {
        let gone = |_| ProbeError::NoDevice;
        let client = machine.client::<Self>(host).ok_or(ProbeError::NoDevice)?;
        let turn = client.call(|host| Arc::clone(&host.turn)).map_err(gone)?;
        let _one_at_a_time = turn.lock();
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method would be that of one lifetime only")]
        let changes = client.call(|host| host.look()).map_err(gone)?;
        for change in &changes {
            for name in &change.gone {
                if change.planned {
                    machine.remove_device(name)
                } else {
                    machine.device_vanished(name)
                };
            }
        }
        client.call(|host| host.follow(&changes)).map_err(gone)??;
        Ok(changes.len())
    }
}

impl Driver for PciHost {
    const NAME: &'static str = "pci-host-generic";
    const MATCHES: &'static [Match] = &[Match::compatible("pci-host-ecam-generic")];
    type Data<'b> = Host<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Host<'b>, ProbeError> {
        let cell = |name, at: usize| {
            let value = dev.desc().property(name)?.as_chunks::<4>().0.get(at)?;
            Some(u32::from_be_bytes(*value))
        };
        let byte = |name, at| cell(name, at).map(u8::try_from);
        let (first, last) = match (byte("bus-range", 0), byte("bus-range", 1)) {
            (None, None) => (0, u8::MAX),
            (Some(Ok(first)), Some(Ok(last))) if first <= last => (first, last),
            _ => return Err(ProbeError::Device("bus-range: not two bus numbers, the lower one first")),
        };
        let segment = self.segment(dev, cell("linux,pci-domain", 0))?;
        let ranges = dev.desc().property("ranges").ok_or(ProbeError::Device("ranges: missing, or above 256 bytes"))?;
        // The parent's #address-cells is not in the description. Of an entry's seven or six cells, the first one is the address
        // space, which the wrong division does not find in each entry.
        let windows = [2, 1].into_iter().find_map(|cells| Window::from_ranges(ranges, cells));
        let windows = windows.ok_or(ProbeError::Device("ranges: malformed"))?;

        if dev.desc().property("dma-ranges").is_some_and(|ranges| !ranges.is_empty()) {
            return Err(ProbeError::Device("dma-ranges: not supported for the functions behind this bridge"));
        }
        let ecam = Ecam::new(Arc::new(Registers(dev.mmio(0)?.handle())), first);
        let last =
            last.min(ecam.last_bus().ok_or(ProbeError::Device("reg: shorter than a bus's configuration space"))?);
        let config: Arc<dyn ConfigSpace + Send + Sync> = Arc::new(ecam);
        let host = HostBridge { config: &*config, segment, buses: first..=last, windows: &windows };
        let found = pci::enumerate(&host)?;
        for problem in &found.problems {
            dev.log(format_args!("{problem}"));
        }
        let functions = Functions::new(Arc::clone(&config), dev.system_clock(), &windows, &found);
        let host = Host { dev, config, segment, windows, turn: Arc::default(), found: Mutex::new((found, functions)) };
        let inside = host.found.lock();
        let (found, functions) = &*inside;
        for slot in found.functions.iter().filter_map(|port| functions.slot(port)) {
            // What has happened before is in what was found.
            let _ = slot.look();
        }
        host.add(found, functions, &found.functions)?;
        drop(inside);
        Ok(host)
    }

    fn quiesce(_: &Host<'_>) -> Result<Quiesced, QuiesceError> {
        // A host bridge only passes accesses on, and the functions behind it were removed.
        Ok(Quiesced::stopped())
    }
}
