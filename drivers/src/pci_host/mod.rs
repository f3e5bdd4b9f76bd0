//! Host bridge of PCI Express with configuration space in memory (`pci-host-ecam-generic`), as on QEMU's `virt` and many servers.
//!
//! Finds the functions behind the bridge, gives them addresses where firmware left none, and adds each as a device on the bus `pci`.
//! Layouts: `core/src/pci`; the device tree's properties: *PCI Bus Binding to IEEE 1275* 2.1, and Linux's
//! `Documentation/devicetree/bindings/pci/host-generic-pci.yaml`.

mod found;
mod watch;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, DevresGroup, MmioHandle, ResourceError};
use bindery::bus::BusDevice;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced, Work};
use bindery::env::{Io, IoError, Width};
use bindery::machine::Machine;
use bindery::pci::{
    self, ConfigSpace, Ecam, Function, FunctionId, Functions, Header, HostBridge, Port, Space, Topology, Window,
};
use bindery::sync::atomic::{AtomicBool, Ordering};
use bindery::sync::{Mutex, SpinLock};
use found::Found;
use watch::{Change, Recovery, Watched};

/// Time from the link's coming up to the first access (PCI Express 5.0, 6.6.1).
const SETTLE: Duration = Duration::from_millis(100);
/// Longest time from then until a device that was put in answers, and the interval of looks.
const READY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));
/// Time after which devices that are being removed are looked at again, and the longest time in which a call waits for them.
const AGAIN: Duration = Duration::from_millis(10);
const REMOVAL: Duration = Duration::from_secs(30);
/// Most rounds of changes that one turn follows.
const CHANGES_IN_A_TURN: usize = 8;

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
    /// Looks at the ports when one of them has signalled something.
    work: Work<'b>,
    found: Mutex<Found<'b>>,
}

/// Result of a turn at the ports.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Changes that were seen.
    changes: usize,
    /// Devices are still being removed, or more may have happened.
    more: bool,
}

impl<'b> Host<'b> {
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

    /// Takes a turn: finishes what has gone, looks at all ports, and has removed what goes. The devices are gone when this thread has
    /// returned from driver code, or later where another thread removes them; the next turn goes on then.
    fn turn(&self, inside: &mut Found<'b>) -> Result<Turn, ProbeError> {
        let mut turn = Turn { changes: 0, more: true };
        for _ in 0..CHANGES_IN_A_TURN {
            let leaves = |change: &Change| change.gone.iter().any(|name| self.dev.has_child(name));
            if inside.pending.iter().any(leaves) {
                return Ok(turn);
            }
            // One that fails is no reason to leave the others: what they were seen by is cleared, and their devices are gone.
            let mut followed = Ok(());
            for change in core::mem::take(&mut inside.pending) {
                followed = followed.and(self.follow(inside, change));
            }
            followed?;
            let Found { topology, functions, watched, pending } = inside;
            *pending = self.look((topology, functions), watched);
            if pending.is_empty() {
                turn.more = false;
                break;
            }
            turn.changes += pending.len();
            for change in &*pending {
                for name in &change.gone {
                    self.dev.remove_child(name, change.how);
                }
            }
        }
        Ok(turn)
    }

    /// A turn of the work item, and the next one when there is more to do.
    fn work(&self) {
        // On a target without threads this may run inside a wait of somebody who has it.
        let Some(mut inside) = self.found.try_lock() else {
            self.work.schedule_after(AGAIN);
            return;
        };
        match self.turn(&mut inside) {
            Ok(Turn { more: true, .. }) => {
                self.work.schedule_after(AGAIN);
            }
            Ok(_) => self.arm(&mut inside.watched),
            Err(error) => {
                self.dev.log(format_args!("what is behind it: {error}"));
                self.arm(&mut inside.watched);
            }
        }
        drop(inside);
        self.dev.probe_children();
    }

    /// Switches the ports' interrupts on.
    fn arm(&self, watched: &mut [Watched<'_>]) {
        let now = self.dev.system_clock().now();
        for watched in watched.iter_mut().filter(|watched| watched.interrupt.is_some()) {
            let (silent, muted) = (watched.silent_until(now), watched.muted_until(now));
            if let Some(until) = silent.max(muted) {
                self.work.schedule_after(until.since(now));
            }
            if silent.is_some() {
                continue;
            }
            // One that does not respond has nothing to signal. One that should has to be looked at, whether it does or not.
            if watched.port.arm(muted.is_none()).unwrap_or(false) {
                watched.signalled.store(true, Ordering::Relaxed);
                self.work.schedule();
            }
        }
    }

    /// Begins to watch the ports among the functions `new`.
    fn watch(&self, inside: &mut Found<'b>, new: &[Function]) {
        for function in new {
            let Some(port) = inside.functions.port(function) else { continue };
            let port = Arc::new(port);
            if let Some(slot) = port.slot() {
                // What has happened before is in what was found.
                let _ = slot.look();
            }
            if let Err(error) = port.watch() {
                self.dev.log(format_args!("{}: {error}", function.at));
            }
            let signalled = Arc::default();
            let interrupt = self.interrupt(&inside.topology, &inside.functions, function, &port, &signalled);
            inside.watched.push(Watched::new(port, signalled, interrupt));
        }
        inside.watched.sort_by_key(|watched| watched.port.at());
        for function in new {
            self.enable_errors(&inside.functions, function);
        }
    }

    /// Requests the interrupt of a port, where it has one that leads somewhere.
    fn interrupt(
        &self,
        found: &Topology,
        functions: &Functions,
        function: &Function,
        port: &Arc<Port>,
        signalled: &Arc<AtomicBool>,
    ) -> Option<DevresGroup<'b>> {
        let line = found.interrupt(function, self.dev.desc()).ok().flatten().filter(|_| port.signals())?;
        let group = self.dev.devres_group();
        let (port, signalled, work) = (Arc::clone(port), Arc::clone(signalled), self.work.handle());
        let handler = move || {
            // Its level ends with that; what has happened is looked at in task context.
            if !port.disarm() {
                return IrqReturn::None;
            }
            signalled.store(true, Ordering::Relaxed);
            work.schedule();
            IrqReturn::Handled
        };
        let requested = group.bound().request_line(&line, handler).map(drop).map_err(|error| error.to_string());
        let pin = || functions.reach(function).set_interrupt_pin(true).map_err(|error| error.to_string());
        if let Err(error) = requested.and_then(|()| pin()) {
            self.dev.log(format_args!("{}: its interrupt is not used: {error}", function.at));
            group.release();
            return None;
        }
        Some(group)
    }

    /// Forgets what has gone, and adds what has come.
    fn follow(&self, inside: &mut Found<'b>, mut change: Change) -> Result<(), ProbeError> {
        let clock = self.dev.system_clock();
        if let Recovery::Function(at) = change.recovery {
            change.gone.clear();
            let watched = inside.watched.iter_mut().find(|watched| watched.port.at() == change.port);
            let may = watched.is_some_and(|watched| {
                let may = watched.may_recover(clock.now());
                if !may {
                    watched.given_up = Some(change);
                }
                may
            });
            return match inside.topology.function(at).cloned() {
                Some(function) if may => {
                    self.enable_errors(&inside.functions, &function);
                    self.add(&inside.topology, &inside.functions, &[function])
                }
                _ => {
                    self.dev.log(format_args!("{at}: too many errors, left alone"));
                    Ok(())
                }
            };
        }
        if !change.gone.is_empty() {
            change.gone.clear();
            inside.forget(&change.numbers);
        }
        let Some(watched) = inside.watched.iter_mut().find(|watched| watched.port.at() == change.port) else {
            return Ok(());
        };
        let port = Arc::clone(&watched.port);
        let what = |error: &dyn fmt::Display| self.dev.log(format_args!("the port {}: {error}", change.port));
        if change.recovery == Recovery::Link {
            if !watched.may_recover(clock.now()) {
                what(&"too many errors, its link stays down");
                watched.given_up = Some(change);
                return Ok(());
            }
            // Of an error that left the link up, the reset is what is left to do.
            match port.contain().and_then(|()| port.release(&clock)) {
                Ok(true) => self.dev.report_link(&change.port.to_string(), None),
                Ok(false) => {
                    watched.lost = true;
                    what(&"its link does not come up again");
                    return Ok(());
                }
                Err(error) => {
                    what(&error);
                    watched.given_up = Some(change);
                    return Ok(());
                }
            }
        }
        let planned = change.is_planned() && !change.came;
        if let Some(slot) = port.slot().filter(|_| planned || change.switch_on)
            && let Err(error) = slot.set_power(change.switch_on)
        {
            what(&error);
        }
        if !change.came {
            return Ok(());
        }
        let found = self.find(inside, &port, &change);
        if found.is_err()
            && let Some(watched) = inside.watched.iter_mut().find(|watched| watched.port.at() == change.port)
        {
            // The next look tries it again. A slot with a device that nobody knows is enough for that; a link that is up is not.
            watched.lost = true;
        }
        found
    }

    fn enable_errors(&self, functions: &Functions, function: &Function) {
        if let Some(Err(error)) = functions.errors(function).map(|errors| errors.enable()) {
            self.dev.log(format_args!("{}: errors are not reported: {error}", function.at));
        }
    }

    /// Finds and adds what is behind a port.
    fn find(&self, inside: &mut Found<'b>, port: &Port, change: &Change) -> Result<(), ProbeError> {
        let first = FunctionId { bus: *change.numbers.start(), device: 0, function: 0, ..change.port };
        let answers = || self.config.read(first, 0, Width::W32).is_ok_and(|id| id != u32::MAX && id as u16 != 1);
        let clock = self.dev.system_clock();
        clock.wait_until(SETTLE, SETTLE, || false);
        let there = clock.wait_until(READY.0, READY.1, answers);
        // Its link has come up meanwhile, which is no change from what is found now.
        let occupied = port.slot().is_none_or(|slot| slot.look().is_ok_and(|state| state.occupied));
        if !there || !occupied {
            self.dev.log(format_args!("the slot of {}: its device does not answer", change.port));
            return Ok(());
        }
        let passed =
            inside.topology.bridges.iter().find(|bridge| bridge.at == change.port).map_or(&[][..], |b| &b.windows);
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
        inside.functions.add(&behind);
        let new = behind.functions.clone();
        inside.topology.add(behind);
        self.watch(inside, &new);
        self.add(&inside.topology, &inside.functions, &new)
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
        client.call(|host| host.found.lock().forget_recoveries()).map_err(gone)?;
        let (clock, mut changes) = (machine.system_clock(), 0);
        let begun = clock.now();
        loop {
            let turn = client.call(|host| {
                let mut inside = host.found.lock();
                let turn = host.turn(&mut inside);
                host.arm(&mut inside.watched);
                turn
            });
            // What is to be removed has been by now, unless another thread does it, or this one is in driver code.
            let turn = turn.map_err(gone)??;
            changes += turn.changes;
            if !turn.more || clock.now().since(begun) > REMOVAL {
                return Ok(changes);
            }
            if turn.changes == 0 {
                clock.wait_until(AGAIN, AGAIN, || false);
            }
        }
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
        let all = found.functions.clone();
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method would be that of one lifetime only")]
        let work = dev.work::<Self>("ports", |host| host.work())?;
        let found = Found { topology: found, functions, watched: Vec::new(), pending: Vec::new() };
        let host = Host { dev, config, segment, windows, work, found: Mutex::new(found) };
        let mut inside = host.found.lock();
        host.watch(&mut inside, &all);
        host.add(&inside.topology, &inside.functions, &all)?;
        host.arm(&mut inside.watched);
        drop(inside);
        Ok(host)
    }

    fn quiesce(host: &Host<'_>) -> Result<Quiesced, QuiesceError> {
        // On a line that others share, nobody would answer for them.
        for watched in &host.found.lock().watched {
            let _ = watched.port.silence();
        }
        // A host bridge only passes accesses on, and the functions behind it were removed.
        Ok(Quiesced::stopped())
    }
}
