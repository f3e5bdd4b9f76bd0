//! Ports with a link below them: what has happened there, the interrupt that tells of it, and taking the link down.

use alloc::sync::Arc;
use core::time::Duration;

use super::containment::{self, ContainedBy};
use super::errors::{ROOT_COMMAND, ROOT_STATUS, SIGNAL_CORRECTABLE, SIGNAL_UNCORRECTABLE, signalled};
use super::secondary::{IS_UP, LINK_CAPABILITIES, LINK_STATUS, SecondaryBus, TELLS_UP};
use super::{ErrorRegisters, Function, FunctionId, PortKind, Slot, slot};
use crate::bus::BusError;
use crate::context::SystemClock;
use crate::env::Width;

/// Longest time for a link that is contained to go down, and for a root port to end what it does; and the interval of looks.
const DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));

/// A root port, or a downstream port of a switch.
pub struct Port {
    bus: Arc<SecondaryBus>,
    /// Offset of the PCI Express capability.
    link: Option<u16>,
    slot: Option<Slot>,
    /// Of a root port, which receives the messages of those below it.
    errors: Option<ErrorRegisters>,
    /// Offset of its registers for errors, if it is a root port.
    root: Option<u16>,
    containment: Option<u16>,
}

impl Port {
    pub(super) fn new(port: &Function, bus: Arc<SecondaryBus>, errors: Option<ErrorRegisters>) -> Option<Self> {
        port.port.filter(|kind| kind.has_link_below())?;
        let root = port.errors.filter(|_| port.port == Some(PortKind::Root));
        Some(Self {
            link: bus.link(),
            slot: Slot::new(port, Arc::clone(&bus)),
            errors: errors.filter(|_| root.is_some()),
            root,
            containment: port.containment,
            bus,
        })
    }

    /// The port.
    pub fn at(&self) -> FunctionId {
        self.bus.bridge()
    }

    /// Its slot, if it has one.
    pub fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// The error registers of a root port, which has the messages of all below it.
    pub fn errors(&self) -> Option<&ErrorRegisters> {
        self.errors.as_ref()
    }

    /// True when it has something to signal by an interrupt.
    pub fn signals(&self) -> bool {
        self.slot.is_some() || self.root.is_some() || self.containment.is_some()
    }

    /// Switches its interrupt off.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn silence(&self) -> Result<(), BusError> {
        self.set_armed(false, false)
    }

    /// Switches its interrupt off if that has signalled something: no request of its interrupt pin is left. False when it has not:
    /// the request is another's. For a handler of its interrupt: it accesses registers, and waits for nothing.
    pub fn disarm(&self) -> bool {
        self.has_happened().unwrap_or(false) && self.set_armed(false, false).is_ok()
    }

    /// Switches its interrupt on: changes of its slot, errors, containment. Correctable errors are signalled if `correctable`. True when
    /// something has happened meanwhile: that is signalled at once, but not by all ports. QEMU's root ports (7.2) take the request of
    /// their slot back whenever one of their registers is written, the one that switches the interrupt on, too.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn arm(&self, correctable: bool) -> Result<bool, BusError> {
        self.set_armed(true, correctable)?;
        self.has_happened()
    }

    fn has_happened(&self) -> Result<bool, BusError> {
        if let Some(cap) = self.containment
            && self.bus.read(cap + containment::CONTROL, Width::W16)? & containment::SIGNAL != 0
            && self.bus.read(cap + containment::STATUS, Width::W16)? & containment::SIGNALLED != 0
        {
            return Ok(true);
        }
        if let Some(cap) = self.root {
            let signalled = signalled(self.bus.read(cap + ROOT_COMMAND, Width::W32)?);
            if self.bus.read(cap + ROOT_STATUS, Width::W32)? & signalled != 0 {
                return Ok(true);
            }
        }
        self.slot.as_ref().map_or(Ok(false), Slot::has_happened)
    }

    fn set_armed(&self, on: bool, correctable: bool) -> Result<(), BusError> {
        // Task context changes other bits of the same registers.
        let _one_change = self.bus.lock_control();
        // The slot last, when it is switched on, and first otherwise: a write of another register takes its request back (see `arm`).
        if !on {
            self.signal_slot(false)?;
        }
        if let Some(cap) = self.root {
            let mut wanted = if on { SIGNAL_UNCORRECTABLE } else { 0 };
            if on && correctable {
                wanted |= SIGNAL_CORRECTABLE;
            }
            // The upper half is reserved.
            self.bus.change(cap + ROOT_COMMAND, SIGNAL_UNCORRECTABLE | SIGNAL_CORRECTABLE, wanted)?;
        }
        if let Some(cap) = self.containment {
            let signal = if on { containment::SIGNAL } else { 0 };
            self.bus.change(cap + containment::CONTROL, containment::SIGNAL, signal)?;
        }
        if on { self.signal_slot(true) } else { Ok(()) }
    }

    fn signal_slot(&self, on: bool) -> Result<(), BusError> {
        let Some(cap) = self.link.filter(|_| self.slot.is_some()) else { return Ok(()) };
        self.bus.change(cap + slot::CONTROL, slot::SIGNALS, if on { slot::SIGNALS } else { 0 })
    }

    /// Has the port take its link down by itself at a fatal error, where it can.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn watch(&self) -> Result<(), BusError> {
        let _one_change = self.bus.lock_control();
        let Some(cap) = self.containment else { return Ok(()) };
        let control = self.bus.read(cap + containment::CONTROL, Width::W16)?;
        self.bus.write(cap + containment::CONTROL, containment::enabled(control))
    }

    /// Reason why the port has taken its link down, if it has.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn contained(&self) -> Result<Option<ContainedBy>, BusError> {
        let Some(cap) = self.containment else { return Ok(None) };
        let status = self.bus.read(cap + containment::STATUS, Width::W16)?;
        if status & containment::TRIGGERED == 0 {
            return Ok(None);
        }
        Ok(Some(ContainedBy::of(status, self.bus.read_any(cap + containment::SOURCE, Width::W16)? as u16)))
    }

    /// True when its link is up, as far as the port tells.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn is_link_up(&self) -> Result<bool, BusError> {
        let Some(cap) = self.link else { return Ok(true) };
        let tells = self.bus.read(cap + LINK_CAPABILITIES, Width::W32)? & TELLS_UP != 0;
        Ok(!tells || self.bus.read(cap + LINK_STATUS, Width::W16)? & IS_UP != 0)
    }

    /// Takes the link down, where the port has not done so by itself: what is below is held in reset. Once this returns, no request from
    /// below passes the port, and none that has passed is under way. Resets of the bus fail until [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn contain(&self) -> Result<(), BusError> {
        let contained = self.contained()?.is_some();
        if let Some(cap) = self.containment.filter(|_| contained) {
            // It has been heard: the port may stay contained for long.
            self.bus.write(cap + containment::STATUS, containment::SIGNALLED)?;
        }
        self.bus.hold(contained)
    }

    /// Lets the link come up again, and waits for it and for the time after it before which nothing below may be accessed. True when it is
    /// up. What is below has been reset.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when the port does not respond, [`BusError::Busy`] when it does not end the containment.
    pub fn release(&self, clock: &SystemClock) -> Result<bool, BusError> {
        if let Some(cap) = self.containment
            && self.contained()?.is_some()
        {
            // The link has to be down before the port may leave containment (PCI Express 5.0, 6.2.10).
            let features = self.bus.read(containment::features(cap), Width::W16)?;
            let rests = || {
                let busy = features & containment::TELLS_BUSY != 0
                    && self.bus.read(cap + containment::STATUS, Width::W16).is_ok_and(|s| s & containment::BUSY != 0);
                let tells = self.link.is_some_and(|link| {
                    self.bus.read(link + LINK_CAPABILITIES, Width::W32).is_ok_and(|offers| offers & TELLS_UP != 0)
                });
                !(busy || tells && self.is_link_up().unwrap_or(false))
            };
            if !clock.wait_until(DOWN.0, DOWN.1, rests) {
                return Err(BusError::Busy);
            }
            self.bus.write(cap + containment::STATUS, containment::TRIGGERED | containment::SIGNALLED)?;
            if self.contained()?.is_some() {
                return Err(BusError::Busy);
            }
        }
        self.bus.let_go(clock)?;
        self.is_link_up()
    }
}

impl core::fmt::Debug for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Port({})", self.at())
    }
}
