//! Slots of root ports: devices that are pulled out and put in while the machine runs.

use bindery::addr::PhysAddr;
use bindery::env::{Env, IoError, Width};
use bindery::pci::{Capability, ConfigSpace, Ecam, FunctionId};
use serde_json::{Value, json};

use crate::{Error, QemuEnv};

/// Slot control in the PCI Express capability (*PCI Express Base Specification* 5.0, 7.5.3.10), and its bits: power and its
/// indicator, off.
const SLOT_CONTROL: u16 = 0x18;
const POWER_OFF: u32 = 1 << 10;
const INDICATOR: u32 = 3 << 8;
const INDICATOR_ON: u32 = 1 << 8;
/// Registers of a bridge's header: bus numbers, window of memory.
const BUSES: u16 = 0x18;
const MEMORY_WINDOW: u16 = 0x20;

impl QemuEnv {
    /// Pulls the device called `id` out of the slot of `port`, a root port, with all that is behind it, whatever it does. Its
    /// registers read as ones from then on.
    ///
    /// # Errors
    ///
    /// QEMU does not know it or does not answer, or `port` has no slot.
    pub fn unplug(&self, id: &str, port: FunctionId) -> Result<(), Error> {
        let slot = Slot::of(self, port)?;
        // This asks the slot's owner only, who then switches it off.
        self.monitor("device_del", &json!({ "id": id }))?;
        slot.switch(POWER_OFF | INDICATOR)?;
        if slot.is_occupied()? {
            return Err(Error::Refused {
                doing: format!("to pull out {id}"),
                why: format!("the slot of {port} still has it"),
            });
        }
        self.set_absent(port, Some(slot.window()?));
        Ok(())
    }

    /// Puts a device into the slot of `port`: what `device_add` takes, without the bus.
    ///
    /// # Errors
    ///
    /// As [`unplug`](Self::unplug), and when the slot has a device.
    pub fn plug(&self, bus: &str, port: FunctionId, mut device: Value) -> Result<(), Error> {
        let slot = Slot::of(self, port)?;
        device["bus"] = json!(bus);
        self.monitor("device_add", &device)?;
        slot.switch(INDICATOR_ON)?;
        self.set_absent(port, None);
        Ok(())
    }
}

struct Slot {
    config: Ecam,
    port: FunctionId,
    capability: u16,
}

impl Slot {
    fn of(env: &QemuEnv, port: FunctionId) -> Result<Self, Error> {
        let (base, len) = env.pci().ecam;
        let window =
            env.map_io(base, len).map_err(|e| Error::Refused { doing: "its ECAM".into(), why: e.to_string() })?;
        let mut slot = Self { config: Ecam::new(window, 0), port, capability: 0 };
        let mut at = slot.read(0x34, Width::W8)?;
        // The header has room for 48 capabilities.
        for _ in 0..48 {
            if !(0x40..0xfc).contains(&at) {
                break;
            }
            if slot.read(at as u16, Width::W8)? == u32::from(Capability::EXPRESS) {
                slot.capability = at as u16;
                return Ok(slot);
            }
            at = slot.read(at as u16 + 1, Width::W8)?;
        }
        Err(Error::Refused { doing: format!("a slot of {port}"), why: "no PCI Express port".into() })
    }

    fn error(&self, error: IoError) -> Error {
        Error::Refused { doing: format!("configuration space of {}", self.port), why: error.to_string() }
    }

    fn read(&self, offset: u16, width: Width) -> Result<u32, Error> {
        self.config.read(self.port, offset, width).map_err(|e| self.error(e))
    }

    /// Sets power and indicator of the slot.
    fn switch(&self, bits: u32) -> Result<(), Error> {
        let at = self.capability + SLOT_CONTROL;
        let control = self.read(at, Width::W16)? & !(POWER_OFF | INDICATOR) | bits;
        self.config.write(self.port, at, Width::W16, control).map_err(|e| self.error(e))
    }

    fn is_occupied(&self) -> Result<bool, Error> {
        let bus = (self.read(BUSES, Width::W32)? >> 8) as u8;
        let at = FunctionId { bus, device: 0, function: 0, ..self.port };
        Ok(bus != 0 && self.config.read(at, 0, Width::W16).map_err(|e| self.error(e))? != 0xffff)
    }

    /// Addresses that the port passes on: first and past the last.
    fn window(&self) -> Result<(PhysAddr, PhysAddr), Error> {
        let window = self.read(MEMORY_WINDOW, Width::W32)?;
        let (first, last) = ((window & 0xfff0) << 16, window & 0xfff0_0000);
        Ok((PhysAddr(first.into()), PhysAddr(u64::from(last) + 0x10_0000)))
    }
}
