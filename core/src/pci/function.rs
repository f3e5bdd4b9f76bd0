//! One function: its header, BARs and capabilities.

use alloc::vec::Vec;

use super::config::reg;
use super::problem::Fault;
use super::{
    Bar, Capability, ConfigSpace, FunctionId, Msi, MsiX, PortKind, bar, capability, containment, errors, slot,
};
use crate::env::{IoError, Width};

/// Names of extended capabilities in reports.
const ERRORS: &str = "advanced error reporting";
const CONTAINMENT: &str = "downstream port containment";

/// Layout of a function's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// A device.
    Device,
    /// A bridge to another bus.
    Bridge,
    /// Another layout: what follows the first 16 bytes is unknown.
    Unknown(u8),
}

/// A function behind a host bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its place.
    pub at: FunctionId,
    /// Vendor and device ID.
    pub id: (u16, u16),
    /// Vendor and device ID of the subsystem; `None` where a bridge has none.
    pub subsystem: Option<(u16, u16)>,
    /// Class code in 24 bits: base class, subclass, programming interface.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Layout of the header.
    pub header: Header,
    /// Its BARs, by index.
    pub bars: Vec<Bar>,
    /// Its capabilities, in the order of their lists.
    pub capabilities: Vec<Capability>,
    /// Type of its PCI Express port; `None` for a conventional function.
    pub port: Option<PortKind>,
    /// It is a port with a slot, whose device may come and go.
    pub slot: bool,
    /// MSI, where its capability is whole.
    pub msi: Option<Msi>,
    /// MSI-X, where its table can be reached.
    pub msi_x: Option<MsiX>,
    /// Interrupt pin: 1 for INTA to 4 for INTD, 0 for none.
    pub interrupt_pin: u8,
    /// It can be reset without its neighbours (function-level reset).
    pub function_reset: bool,
    /// Offset of the capability for errors (advanced error reporting), where it is whole.
    pub errors: Option<u16>,
    /// Offset of that for the containment of what is below a port, where it is whole.
    pub containment: Option<u16>,
}

impl Function {
    /// Offset of a capability.
    pub fn capability(&self, id: u16, extended: bool) -> Option<u16> {
        self.capabilities.iter().find(|c| c.id == id && c.extended == extended).map(|c| c.at)
    }

    /// The function at `at`, if there is one, and whether its device has more than one.
    pub(super) fn read(
        config: &dyn ConfigSpace,
        at: FunctionId,
        mut problem: impl FnMut(Fault),
    ) -> Result<Option<(Self, bool)>, IoError> {
        let id = config.read(at, reg::VENDOR, Width::W32)?;
        let (vendor, device) = (id as u16, (id >> 16) as u16);
        // No function has these vendor IDs; some hosts answer so for a place where none is.
        match (vendor, device) {
            (0xffff, _) | (0, 0 | 0xffff) => return Ok(None),
            (1, 0xffff) => {
                problem(Fault::NotReady);
                return Ok(None);
            }
            _ => {}
        }
        let class_revision = config.read(at, reg::CLASS_REVISION, Width::W32)?;
        let header_type = config.read(at, reg::HEADER_TYPE, Width::W8)?;
        let (header, bars) = match (header_type & !reg::MULTI_FUNCTION) as u8 {
            0 => (Header::Device, 6),
            1 => (Header::Bridge, 2),
            2 => {
                problem(Fault::CardBus);
                (Header::Unknown(2), 0)
            }
            other => {
                problem(Fault::HeaderType(other));
                (Header::Unknown(other), 0)
            }
        };
        let mut function = Self {
            at,
            id: (vendor, device),
            subsystem: None,
            class: class_revision >> 8,
            revision: class_revision as u8,
            header,
            bars: Vec::new(),
            capabilities: Vec::new(),
            port: None,
            slot: false,
            msi: None,
            msi_x: None,
            interrupt_pin: 0,
            function_reset: false,
            errors: None,
            containment: None,
        };
        if !matches!(header, Header::Unknown(_)) {
            function.bars = bar::read(config, at, bars, &mut problem)?;
            function.capabilities = capability::read(config, at, &mut problem)?;
            match config.read(at, reg::INTERRUPT_PIN, Width::W8)? as u8 {
                pin @ 0..=4 => function.interrupt_pin = pin,
                other => problem(Fault::InterruptPin(other)),
            }
            function.read_capabilities(config, &mut problem)?;
        }
        Ok(Some((function, header_type & reg::MULTI_FUNCTION != 0)))
    }

    fn read_capabilities(&mut self, config: &dyn ConfigSpace, mut problem: impl FnMut(Fault)) -> Result<(), IoError> {
        let at = self.at;
        // Where a register of `bytes` bytes inside capability `id` ends in the first 256 bytes, its capability's offset.
        let mut inside = |id, bytes: u16| {
            let cap = self.capabilities.iter().find(|c| c.id == id && !c.extended)?.at;
            if cap + bytes <= 0x100 {
                return Some(cap);
            }
            problem(Fault::CapabilityCut { id, at: cap });
            None
        };
        let express = inside(Capability::EXPRESS, 8);
        let features = inside(Capability::ADVANCED_FEATURES, 6);
        let subsystem = match self.header {
            Header::Device => Some(reg::SUBSYSTEM),
            _ => inside(Capability::BRIDGE_SUBSYSTEM, 8).map(|cap| cap + 4),
        };
        if let Some(offset) = subsystem {
            let word = config.read(at, offset, Width::W32)?;
            self.subsystem = Some((word as u16, (word >> 16) as u16));
        }
        if let Some(cap) = express {
            let flags = config.read(at, cap + 2, Width::W16)?;
            self.port = Some(PortKind::of(flags));
            self.slot = slot::capability(cap, flags).is_some();
            self.function_reset = config.read(at, cap + 4, Width::W32)? & 1 << 28 != 0;
        }
        if let Some(cap) = features {
            // Transactions-pending and reset, both or nothing.
            self.function_reset |= config.read(at, cap + 3, Width::W8)? & 3 == 3;
        }
        if let Some(cap) = self.capability(Capability::MSI, false) {
            self.msi = capability::msi(config, at, cap, &mut problem)?;
        }
        if let Some(cap) = self.capability(Capability::MSI_X, false) {
            self.msi_x = capability::msi_x(config, at, cap, &self.bars, &mut problem)?;
        }
        let extended = |id, bytes: u16| {
            let cap = self.capability(id, true)?;
            Some((cap, u32::from(cap) + u32::from(bytes) <= u32::from(config.size())))
        };
        let (errors, containment) = (
            extended(Capability::ERROR_REPORTING, errors::len(self.port)),
            extended(Capability::CONTAINMENT, containment::LEN),
        );
        match errors {
            Some((cap, false)) => problem(Fault::ExtendedCut { what: ERRORS, at: cap }),
            whole => self.errors = whole.map(|(cap, _)| cap),
        }
        match containment {
            Some((cap, false)) => problem(Fault::ExtendedCut { what: CONTAINMENT, at: cap }),
            Some((cap, true)) if !containment::is_possible(self.port) => problem(Fault::NoLinkBelow { at: cap }),
            whole => self.containment = whole.map(|(cap, _)| cap),
        }
        Ok(())
    }
}
