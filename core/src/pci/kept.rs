//! Registers of a function that a reset clears, and what they are set to again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::config::reg;
use super::message::MessageRegisters;
use super::{
    Bar, BarKind, Capability, ConfigSpace, Function, FunctionId, Header, PortKind, Window, bar, containment, errors,
    isolation,
};
use crate::bus::BusError;
use crate::env::{IoError, Width};
use crate::sync::SpinLock;

/// Control registers in the PCI Express capability (PCI Express 5.0, 7.5.3): of the device, of the link, of the slot, and the second
/// ones of device and link, which version 2 of the capability has.
const DEVICE_CONTROL: u16 = 0x08;
const LINK_CONTROL: u16 = 0x10;
const SLOT_CONTROL: u16 = 0x18;
const DEVICE_CONTROL_2: u16 = 0x28;
const LINK_CONTROL_2: u16 = 0x30;

/// Bits of a function's command register that the core decides on.
const DECIDED: u32 = reg::BUS_MASTER | reg::NO_PIN;

/// What software has set in a function, for the time after a reset: addresses, bus numbers and windows of a bridge, controls, access
/// control services, messages. State of the device itself is gone.
pub(super) struct Kept {
    config: Arc<dyn ConfigSpace + Send + Sync>,
    at: FunctionId,
    bars: Vec<Bar>,
    registers: Vec<(u16, Width)>,
    /// True of a device, not of a bridge: bus mastering and pin are the core's decisions, which may change during a reset.
    decided: bool,
    /// Bits of the command register that the core has set, of those that it changes. Held while the register is changed.
    command: SpinLock<u32>,
    messages: MessageRegisters,
    /// Values from before a reset that are not written again yet; of the command register first, then of `registers`.
    values: SpinLock<Option<(u32, Vec<u32>)>>,
}

impl Kept {
    pub(super) fn new(config: &Arc<dyn ConfigSpace + Send + Sync>, function: &Function, windows: &[Window]) -> Self {
        let mut registers = Vec::new();
        if function.header == Header::Bridge {
            registers.extend([
                (reg::BUS_NUMBERS, Width::W32),
                (reg::IO_WINDOW, Width::W16),
                (reg::MEMORY_WINDOW, Width::W32),
                (reg::PREFETCH_WINDOW, Width::W32),
                (reg::PREFETCH_BASE_HIGH, Width::W32),
                (reg::PREFETCH_LIMIT_HIGH, Width::W32),
                (reg::IO_WINDOW_HIGH, Width::W32),
                (reg::BRIDGE_CONTROL, Width::W16),
            ]);
        }
        registers.push((reg::INTERRUPT_LINE, Width::W8));
        if let Some(cap) = function.capability(Capability::EXPRESS, false) {
            let flags = config.read(function.at, cap + 2, Width::W16).unwrap_or(0);
            let second = flags & 0xf >= 2;
            let slot = function.port.is_some_and(PortKind::has_link_below);
            let controls = [
                (DEVICE_CONTROL, true),
                (LINK_CONTROL, true),
                (SLOT_CONTROL, slot),
                (DEVICE_CONTROL_2, second),
                (LINK_CONTROL_2, second),
            ];
            let there = controls.iter().filter(|(at, there)| *there && cap + at + 2 <= 0x100);
            registers.extend(there.map(|(at, _)| (cap + at, Width::W16)));
        }
        registers.extend(errors::chosen(function).map(|at| (at, Width::W32)));
        registers.extend(containment::chosen(function).map(|at| (at, Width::W16)));
        // Without them it could reach its neighbours (P7).
        registers.extend(isolation::control(function, config.size()).map(|at| (at, Width::W16)));
        Self {
            config: Arc::clone(config),
            at: function.at,
            bars: function.bars.clone(),
            registers,
            decided: function.header == Header::Device,
            command: SpinLock::new(reg::NO_PIN),
            messages: MessageRegisters::new(config, function, windows),
            values: SpinLock::new(None),
        }
    }

    /// Bits of the command register that the core wants. The register is changed under this lock.
    pub(super) fn command(&self) -> &SpinLock<u32> {
        &self.command
    }

    /// Its messages.
    pub(super) fn messages(&self) -> &MessageRegisters {
        &self.messages
    }

    /// The function's place.
    pub(super) fn at(&self) -> FunctionId {
        self.at
    }

    fn read(&self, offset: u16, width: Width) -> Result<u32, BusError> {
        self.config.read(self.at, offset, width).map_err(|_: IoError| BusError::Gone)
    }

    fn write(&self, offset: u16, width: Width, value: u32) -> Result<(), BusError> {
        self.config.write(self.at, offset, width, value).map_err(|_: IoError| BusError::Gone)
    }

    /// True when the function responds, and not only by asking for patience.
    pub(super) fn answers(&self) -> bool {
        self.read(reg::VENDOR, Width::W32).is_ok_and(|id| id != u32::MAX && id as u16 != 1)
    }

    /// Keeps what is set now, before a reset; what an earlier reset has cleared, from which the function did not come back in time, is
    /// kept from then.
    pub(super) fn save(&self) -> Result<(), BusError> {
        let mut values = self.values.lock();
        if values.is_some() {
            return Ok(());
        }
        let command = self.read(reg::COMMAND, Width::W16)?;
        // All ones, which that register cannot have.
        if command == 0xffff {
            return Err(BusError::Gone);
        }
        let set = self.registers.iter().map(|(offset, width)| self.read(*offset, *width)).collect::<Result<_, _>>()?;
        *values = Some((command, set));
        Ok(())
    }

    /// True when a reset has cleared what is to be set again.
    pub(super) fn is_pending(&self) -> bool {
        self.values.lock().is_some()
    }

    /// Sets all that was kept again, when the function answers: what the core wants by now, which may be less than before the reset.
    pub(super) fn restore(&self) -> Result<(), BusError> {
        if self.restore_registers()? {
            // After that: a table of messages is in the registers, which it answers again.
            self.messages.restore()?;
        }
        Ok(())
    }

    /// True when there was something to set.
    fn restore_registers(&self) -> Result<bool, BusError> {
        let wanted = self.command.lock();
        let mut values = self.values.lock();
        let Some((command, set)) = &*values else { return Ok(false) };
        if !self.answers() {
            return Err(BusError::Gone);
        }
        for ((offset, width), value) in self.registers.iter().zip(set) {
            self.write(*offset, *width, *value)?;
        }
        // The addresses are those that were given.
        for bar in &self.bars {
            let address = bar.address.unwrap_or(0);
            self.write(bar::register(bar.index), Width::W32, address as u32)?;
            if matches!(bar.kind, BarKind::Memory { wide: true, .. }) {
                self.write(bar::register(bar.index + 1), Width::W32, (address >> 32) as u32)?;
            }
        }
        let command = if self.decided { command & !DECIDED | *wanted & DECIDED } else { *command };
        self.write(reg::COMMAND, Width::W16, command)?;
        if self.read(reg::COMMAND, Width::W16)? == 0xffff {
            return Err(BusError::Gone);
        }
        *values = None;
        Ok(true)
    }
}
