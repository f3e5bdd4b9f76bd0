//! Slots: ports whose device can be pulled out and put in.
//!
//! Registers: *PCI Express Base Specification* 5.0, 7.5.3.2 (a port has a slot), 7.5.3.6 and 7.5.3.8 (link), 7.5.3.9 to 7.5.3.11 (slot).

use alloc::sync::Arc;

use super::secondary::{IS_UP, LINK_CAPABILITIES, LINK_STATUS, SecondaryBus, TELLS_UP};
use super::{Capability, Function, FunctionId, PortKind};
use crate::bus::BusError;
use crate::env::Width;

/// Flags of the capability: the port has a slot.
const IMPLEMENTED: u32 = 1 << 8;
const CAPABILITIES: u16 = 0x14;
/// Slot capabilities: power can be switched; there is a power indicator.
const HAS_POWER: u32 = 1 << 1;
const HAS_INDICATOR: u32 = 1 << 4;
pub(super) const CONTROL: u16 = 0x18;
/// Slot control: signal by an interrupt the attention button, a device that came or went, a link that did; all interrupts of the slot.
const ANY: u32 = 1 << 5;
const SIGNALS_LINK: u32 = 1 << 12;
pub(super) const SIGNALS: u32 = ATTENTION | PRESENCE_CHANGED | SIGNALS_LINK | ANY;
/// Slot control: the power indicator, on and off, and the power, off.
const INDICATOR: u32 = 3 << 8;
const INDICATOR_ON: u32 = 1 << 8;
const POWER_OFF: u32 = 1 << 10;
pub(super) const STATUS: u16 = 0x1a;
/// Slot status: what has happened since it was cleared by a write of ones; there is a device.
const ATTENTION: u32 = 1 << 0;
const HAPPENED: u32 = 0x1f | LINK_CHANGED;
const PRESENCE_CHANGED: u32 = 1 << 3;
const LINK_CHANGED: u32 = 1 << 8;
const PRESENT: u32 = 1 << 6;
/// Changes that a reset of the bus makes, too.
pub(super) const CHANGES: u32 = PRESENCE_CHANGED | LINK_CHANGED;

/// The slot of a port.
pub struct Slot {
    /// The bus behind the port.
    bus: Arc<SecondaryBus>,
    /// Offset of the port's PCI Express capability.
    cap: u16,
}

/// State of a slot, and what has happened since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of a register, apart from the others")]
pub struct SlotState {
    /// There is a device, and it can be accessed.
    pub occupied: bool,
    /// There is a device, with power or without.
    pub present: bool,
    /// A device came or went, or was exchanged.
    pub changed: bool,
    /// Somebody asks for the device to be taken out of service, or into it (attention button).
    pub attention: bool,
    /// Its link went down, or up again, and no device came or went.
    pub link_failed: bool,
}

/// Offset of the capability at `cap` with these flags, when that is of a port with a slot.
pub(super) fn capability(cap: u16, flags: u32) -> Option<u16> {
    let slot = PortKind::of(flags).has_link_below() && flags & IMPLEMENTED != 0;
    (slot && cap + STATUS + 2 <= 0x100).then_some(cap)
}

/// The same of a function that was found.
pub(super) fn of(function: &Function) -> Option<u16> {
    function.capability(Capability::EXPRESS, false).filter(|_| function.slot)
}

impl Slot {
    /// That of `port`, behind which `bus` is, if it has one.
    pub(super) fn new(port: &Function, bus: Arc<SecondaryBus>) -> Option<Self> {
        Some(Self { bus, cap: of(port)? })
    }

    /// The port.
    pub fn port(&self) -> FunctionId {
        self.bus.bridge()
    }

    fn read(&self, offset: u16, width: Width) -> Result<u32, BusError> {
        self.bus.read(self.cap + offset, width)
    }

    /// Looks at the slot, and forgets what has happened. A reset of its bus is waited for: it happens to no device.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when the port does not respond.
    pub fn look(&self) -> Result<SlotState, BusError> {
        let _no_reset = self.bus.no_reset();
        let happened = self.read(STATUS, Width::W16)? & HAPPENED;
        if happened != 0 {
            self.bus.write(self.cap + STATUS, happened)?;
        }
        // After what has happened was cleared: a change from here on is seen by the next look.
        let present = self.read(STATUS, Width::W16)? & PRESENT != 0;
        let tells = self.read(LINK_CAPABILITIES, Width::W32)? & TELLS_UP != 0;
        let up = !tells || self.read(LINK_STATUS, Width::W16)? & IS_UP != 0;
        Ok(SlotState {
            occupied: present && up && !self.is_off()?,
            present,
            changed: happened & CHANGES != 0,
            attention: happened & ATTENTION != 0,
            link_failed: happened & CHANGES == LINK_CHANGED && present,
        })
    }

    /// True when something has happened that the slot signals.
    pub(super) fn has_happened(&self) -> Result<bool, BusError> {
        let control = self.read(CONTROL, Width::W16)?;
        let of_link = if control & SIGNALS_LINK != 0 { LINK_CHANGED } else { 0 };
        let signalled = control & (ATTENTION | PRESENCE_CHANGED) | of_link;
        Ok(control & ANY != 0 && self.read(STATUS, Width::W16)? & signalled != 0)
    }

    fn is_off(&self) -> Result<bool, BusError> {
        let switches = self.read(CAPABILITIES, Width::W32)? & HAS_POWER != 0;
        Ok(switches && self.read(CONTROL, Width::W16)? & POWER_OFF != 0)
    }

    /// Switches the slot's power and its indicator, where it has them.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when the port does not respond.
    pub fn set_power(&self, on: bool) -> Result<(), BusError> {
        let offers = self.read(CAPABILITIES, Width::W32)?;
        // The handler of the port's interrupt changes the same register.
        let _one_change = self.bus.lock_control();
        let mut control = self.read(CONTROL, Width::W16)?;
        if offers & HAS_POWER != 0 {
            control = if on { control & !POWER_OFF } else { control | POWER_OFF };
        }
        if offers & HAS_INDICATOR != 0 {
            control = control & !INDICATOR | if on { INDICATOR_ON } else { INDICATOR };
        }
        self.bus.write(self.cap + CONTROL, control)
    }
}

impl core::fmt::Debug for Slot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Slot({})", self.port())
    }
}
