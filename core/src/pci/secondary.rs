//! The bus behind a bridge, and its reset.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;

use super::bus_device::{BusFunction, READY};
use super::config::reg;
use super::kept::Kept;
use super::{
    Bridge, Capability, ConfigSpace, ErrorRegisters, Function, FunctionId, Port, PortKind, Slot, Topology, Window, slot,
};
use crate::bus::BusError;
use crate::context::SystemClock;
use crate::env::{IoError, Width};
use crate::sync::{Mutex, SpinLock};

/// Time for which the reset is held: 1 ms at least (PCI Express 5.0, 6.6.1).
const HOLD: Duration = Duration::from_millis(2);
/// Time from the end of the reset, or the link's coming up, to the first access (6.6.1).
const AFTER_LINK: Duration = Duration::from_millis(100);
/// The same on a conventional bus: 2^25 clocks at 33 MHz (*PCI Local Bus Specification* 3.0, 4.3.2: Trhfa).
const AFTER_CONVENTIONAL: Duration = Duration::from_millis(1010);
/// Longest time for a link to come up, and the interval of looks.
const LINK_UP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));

/// Registers of the PCI Express capability, and their bits: the link tells when it is up, and that it is (7.5.3.6, 7.5.3.8).
pub(super) const LINK_CAPABILITIES: u16 = 0x0c;
pub(super) const TELLS_UP: u32 = 1 << 20;
pub(super) const LINK_STATUS: u16 = 0x12;
pub(super) const IS_UP: u32 = 1 << 13;

/// The bus behind a bridge.
pub(super) struct SecondaryBus {
    config: Arc<dyn ConfigSpace + Send + Sync>,
    bridge: FunctionId,
    /// Offset of the bridge's PCI Express capability, when there is a link behind it.
    link: Option<u16>,
    /// Offset of the same capability, when the port has a slot.
    slot: Option<u16>,
    /// First and last number of it and the buses behind it.
    numbers: (u8, u8),
    /// Functions on it and behind it; those behind a bridge come after it.
    functions: SpinLock<Vec<Arc<Kept>>>,
    /// Held during a reset, which sleeps. True while its functions are held in reset, or their link is kept down.
    resetting: Mutex<bool>,
    /// Held while a register of the port is changed that a handler of its interrupt changes, too.
    control: SpinLock<()>,
}

impl SecondaryBus {
    /// The bridge.
    pub(super) fn bridge(&self) -> FunctionId {
        self.bridge
    }

    /// Reads a register of the bridge, none of which is all ones.
    pub(super) fn read(&self, offset: u16, width: Width) -> Result<u32, BusError> {
        let value = self.config.read(self.bridge, offset, width).map_err(|_: IoError| BusError::Gone)?;
        if value == u32::MAX >> (32 - 8 * width.bytes().min(4)) { Err(BusError::Gone) } else { Ok(value) }
    }

    /// Reads a register of the bridge that may be all ones.
    pub(super) fn read_any(&self, offset: u16, width: Width) -> Result<u32, BusError> {
        self.config.read(self.bridge, offset, width).map_err(|_: IoError| BusError::Gone)
    }

    /// Offset of the bridge's PCI Express capability, when there is a link behind it.
    pub(super) fn link(&self) -> Option<u16> {
        self.link
    }

    /// Keeps handlers of the port's interrupt from changing its registers.
    pub(super) fn lock_control(&self) -> impl Sized + '_ {
        self.control.lock()
    }

    /// Changes `bits` of a register, of which the lower 16 bits can be changed. Its lock is held.
    pub(super) fn change(&self, offset: u16, bits: u32, wanted: u32) -> Result<(), BusError> {
        let old = self.read(offset, Width::W16)?;
        self.write(offset, old & !bits | wanted)
    }

    /// Holds all functions in reset, unless their link is down already (`is_down`); until [`let_go`](Self::let_go).
    pub(super) fn hold(&self, is_down: bool) -> Result<(), BusError> {
        let mut held = self.resetting.lock();
        if !is_down {
            let control = self.read(reg::BRIDGE_CONTROL, Width::W16)?;
            self.set_control(control | reg::SECONDARY_RESET)?;
        }
        *held = true;
        Ok(())
    }

    /// Ends that, and waits until the functions may be accessed. What software had set in them is gone.
    pub(super) fn let_go(&self, clock: &SystemClock) -> Result<(), BusError> {
        let mut held = self.resetting.lock();
        let control = self.read(reg::BRIDGE_CONTROL, Width::W16)?;
        if control & reg::SECONDARY_RESET != 0 {
            clock.wait_until(HOLD, HOLD, || false);
            self.set_control(control & !reg::SECONDARY_RESET)?;
        }
        self.settle(clock)?;
        *held = false;
        Ok(())
    }

    /// Writes a register of 16 bits of the bridge.
    pub(super) fn write(&self, offset: u16, value: u32) -> Result<(), BusError> {
        self.config.write(self.bridge, offset, Width::W16, value).map_err(|_: IoError| BusError::Gone)
    }

    fn set_control(&self, control: u32) -> Result<(), BusError> {
        self.write(reg::BRIDGE_CONTROL, control)?;
        // The write has arrived when the answer is there.
        self.read(reg::BRIDGE_CONTROL, Width::W16).map(drop)
    }

    /// True for its number, and those of buses behind it.
    fn has(&self, bus: u8) -> bool {
        (self.numbers.0..=self.numbers.1).contains(&bus)
    }

    /// Keeps resets off while the result exists, after the one that is under way.
    pub(super) fn no_reset(&self) -> impl Sized + '_ {
        self.resetting.lock()
    }

    /// Waits for the link, and for the time after it before which nothing behind it may be accessed.
    fn settle(&self, clock: &SystemClock) -> Result<(), BusError> {
        let settle = match self.link {
            None => AFTER_CONVENTIONAL,
            Some(cap) => {
                if self.read(cap + LINK_CAPABILITIES, Width::W32)? & TELLS_UP != 0 {
                    let up = || self.read(cap + LINK_STATUS, Width::W16).is_ok_and(|status| status & IS_UP != 0);
                    clock.wait_until(LINK_UP.0, LINK_UP.1, up);
                }
                AFTER_LINK
            }
        };
        clock.wait_until(settle, settle, || false);
        if let Some(cap) = self.slot {
            // The link went down for the reset: that is no device that goes.
            self.write(cap + slot::STATUS, slot::CHANGES)?;
        }
        Ok(())
    }

    /// Resets the bus. Functions that do not come back keep what is to be set again. Nobody uses them meanwhile.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when the bridge does not respond.
    pub(super) fn reset(&self, clock: &SystemClock) -> Result<(), BusError> {
        let held = self.resetting.lock();
        if *held {
            // An error is being dealt with: its functions are about to be removed.
            return Err(BusError::Gone);
        }
        let control = self.read(reg::BRIDGE_CONTROL, Width::W16)? & !reg::SECONDARY_RESET;
        let functions = self.functions.lock().clone();
        for function in &functions {
            // One that has gone has nothing to keep.
            let _ = function.save();
        }
        self.set_control(control | reg::SECONDARY_RESET)?;
        clock.wait_until(HOLD, HOLD, || false);
        self.set_control(control)?;
        self.settle(clock)?;
        // One deadline for all: what does not come back has no claim on the time of others.
        let deadline = clock.now() + READY.0;
        for function in functions.iter().filter(|f| f.is_pending()) {
            if clock.wait_until(deadline.since(clock.now()), READY.1, || function.answers()) {
                let _ = function.restore();
            }
        }
        Ok(())
    }
}

/// Functions behind a host bridge as the core reaches them, with the buses on which they are reset.
pub struct Functions {
    config: Arc<dyn ConfigSpace + Send + Sync>,
    clock: SystemClock,
    windows: Vec<Window>,
    kept: BTreeMap<FunctionId, Arc<Kept>>,
    /// The bus behind each bridge, by its number.
    buses: BTreeMap<u8, Arc<SecondaryBus>>,
}

impl Functions {
    /// Those that were `found` in `config`, behind a host bridge whose addresses are `windows`.
    pub fn new(
        config: Arc<dyn ConfigSpace + Send + Sync>,
        clock: SystemClock,
        windows: &[Window],
        found: &Topology,
    ) -> Self {
        let (kept, buses) = (BTreeMap::new(), BTreeMap::new());
        let mut functions = Self { config, clock, windows: windows.into(), kept, buses };
        functions.add(found);
        functions
    }

    /// Adds what was `found`, in the places of what was [removed](Self::remove).
    pub fn add(&mut self, found: &Topology) {
        for function in &found.functions {
            let kept = Arc::new(Kept::new(&self.config, function, &self.windows));
            self.kept.insert(function.at, Arc::clone(&kept));
            let above = self.buses.values().filter(|bus| bus.has(function.at.bus));
            above.for_each(|bus| bus.functions.lock().push(Arc::clone(&kept)));
            if let Some(bridge) = found.bridges.iter().find(|bridge| bridge.at == function.at) {
                self.buses.insert(bridge.secondary, Arc::new(self.bus(function, bridge)));
            }
        }
    }

    fn bus(&self, function: &Function, bridge: &Bridge) -> SecondaryBus {
        let link = function.port.is_some_and(PortKind::has_link_below);
        let express = function.capability(Capability::EXPRESS, false).filter(|cap| link && cap + 0x14 <= 0x100);
        SecondaryBus {
            config: Arc::clone(&self.config),
            bridge: bridge.at,
            link: express,
            slot: slot::of(function),
            numbers: (bridge.secondary, bridge.subordinate),
            functions: SpinLock::default(),
            resetting: Mutex::new(false),
            control: SpinLock::new(()),
        }
    }

    /// Removes what is on the buses `numbers`.
    pub fn remove(&mut self, numbers: RangeInclusive<u8>) {
        self.kept.retain(|at, _| !numbers.contains(&at.bus));
        for bus in self.buses.values() {
            bus.functions.lock().retain(|kept| !numbers.contains(&kept.at().bus));
        }
        self.buses.retain(|_, bus| !numbers.contains(&bus.bridge.bus));
    }

    /// The slot of a port, if it has one.
    pub fn slot(&self, port: &Function) -> Option<Slot> {
        let bus = self.buses.values().find(|bus| bus.bridge == port.at)?;
        Slot::new(port, Arc::clone(bus))
    }

    /// The port `port`, if it is one with a link below it.
    pub fn port(&self, port: &Function) -> Option<Port> {
        let bus = self.buses.values().find(|bus| bus.bridge == port.at)?;
        Port::new(port, Arc::clone(bus), self.errors(port))
    }

    /// Error registers of `function`, if it has any.
    pub fn errors(&self, function: &Function) -> Option<ErrorRegisters> {
        ErrorRegisters::new(&self.config, function)
    }

    /// The function `function`, as the core reaches it.
    pub fn reach(&self, function: &Function) -> BusFunction {
        let (config, clock) = (Arc::clone(&self.config), self.clock.clone());
        let kept = self.kept.get(&function.at).cloned();
        let kept = kept.unwrap_or_else(|| Arc::new(Kept::new(&config, function, &self.windows)));
        let bus = self.buses.get(&function.at.bus).cloned();
        BusFunction::on(bus, kept, (config, clock), function)
    }
}

impl core::fmt::Debug for Functions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.kept.keys()).finish()
    }
}
