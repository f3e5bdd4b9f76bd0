//! Configuration space of one function: bytes, and the bits of them that software can change.

use std::hash::{Hash, Hasher};

use super::Link;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const BRIDGE_CONTROL: usize = 0x3e;

/// Command: answers memory accesses, sends requests, leaves its interrupt pin alone.
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;
const PIN_OFF: u16 = 1 << 10;
/// Status: its interrupt pin is asserted; it has a list of capabilities.
const PIN_ASSERTED: u16 = 1 << 3;
const HAS_LIST: u16 = 1 << 4;
/// Bridge control: the bus behind it is in reset.
const SECONDARY_RESET: u16 = 1 << 6;

/// Port with a slot, in the PCI Express capability (PCI Express 5.0, 7.5.3): flags, link, slot.
const SLOT_IMPLEMENTED: u16 = 1 << 8;
const LINK_CAPABILITIES: usize = 0x0c;
const LINK_TELLS_UP: u32 = 1 << 20;
const LINK_STATUS: usize = 0x12;
const LINK_UP: u16 = 1 << 13;
const SLOT_CAPABILITIES: usize = 0x14;
/// Attention button, power, power indicator, surprise removal, hot plug.
const SLOT_OFFERS: u32 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6;
const SLOT_CONTROL: usize = 0x18;
const SLOT_POWER_OFF: u16 = 1 << 10;
const SLOT_STATUS: usize = 0x1a;
const SLOT_PRESENCE_CHANGED: u16 = 1 << 3;
const SLOT_PRESENT: u16 = 1 << 6;
const SLOT_LINK_CHANGED: u16 = 1 << 8;
const SLOT_HAPPENED: u16 = 0x1f | SLOT_LINK_CHANGED;

const SLOT_CONTROL_SIGNALS: u16 = 1 << 5;

/// Device control: tells of correctable, non-fatal, fatal errors.
const DEVICE_CONTROL: usize = 0x08;
/// Advanced error reporting (7.8.4), here at one place in each function that has it.
const ERRORS: usize = 0x100;
const UNCORRECTABLE: usize = ERRORS + 0x04;
const MASK: usize = ERRORS + 0x08;
const SEVERITY: usize = ERRORS + 0x0c;
/// Fatal: link protocol, surprise down, flow control, overflow, malformed, internal.
const DEFAULT_SEVERITY: u32 = 0x0046_2030;
const CORRECTABLE: usize = ERRORS + 0x10;
const ROOT_COMMAND: usize = ERRORS + 0x2c;
const ROOT_STATUS: usize = ERRORS + 0x30;
const ROOT_SOURCE: usize = ERRORS + 0x34;
/// Downstream port containment (7.9.15).
const CONTAINMENT: usize = 0x140;
const CONTAINMENT_CONTROL: usize = CONTAINMENT + 0x06;
const CONTAINMENT_SIGNALS: u16 = 1 << 3;
const CONTAINMENT_STATUS: usize = CONTAINMENT + 0x08;
const CONTAINED: u16 = 1;
const CONTAINMENT_SIGNALLED: u16 = 1 << 3;
/// Bytes of a function that are not all zeros.
const SIZE: usize = 0x180;

const MSI: u8 = 0x05;
const EXPRESS: u8 = 0x10;
const ADVANCED_FEATURES: u8 = 0x13;

/// What a write to configuration space resets.
pub(crate) enum Resets {
    Nothing,
    /// All that is behind the bridge.
    Behind,
    /// The function.
    Itself,
}

/// Severity of an error that a function detects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Hardware has repeated what had failed.
    Correctable,
    /// A request is lost.
    NonFatal,
    /// The link cannot be relied on.
    Fatal,
}

/// Configuration space of a function.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability, apart from the others")]
pub(crate) struct Config {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    /// Bits that a write of ones clears.
    cleared: [u8; SIZE],
    at_power_up: [u8; SIZE],
    /// Bytes of BAR 0.
    bar: Option<u64>,
    msi: Option<usize>,
    /// Offset of the register that resets the function.
    function_reset: Option<usize>,
    last_capability: Option<usize>,
    bridge: bool,
    express: bool,
    /// Offset of the PCI Express capability of a function that reports errors.
    express_at: usize,
    /// Offset of the PCI Express capability of a port with a slot.
    slot: Option<usize>,
    /// It has advanced error reporting; as a root port; it contains what is below it.
    reports: bool,
    root: bool,
    contains: bool,
}

impl Config {
    /// A function of header type 0 with `id` (vendor, device), class code in 24 bits, and revision.
    pub(crate) fn device(id: (u16, u16), class: u32, revision: u8) -> Self {
        let blank = [0; SIZE];
        let mut config = Self {
            bytes: blank,
            writable: blank,
            cleared: blank,
            at_power_up: blank,
            bar: None,
            msi: None,
            function_reset: None,
            last_capability: None,
            bridge: false,
            express: false,
            express_at: 0,
            slot: None,
            reports: false,
            root: false,
            contains: false,
        };
        config.set(0, &(u32::from(id.0) | u32::from(id.1) << 16).to_le_bytes());
        config.set(8, &(class << 8 | u32::from(revision)).to_le_bytes());
        // Subsystem of QEMU's devices that have none of their own.
        config.set(0x2c, &0x1100_1af4_u32.to_le_bytes());
        config.allow(COMMAND, &0x0547_u16.to_le_bytes());
        config.allow(0x0c, &[0xff]);
        config.allow(0x3c, &[0xff]);
        config
    }

    /// A bridge.
    pub(crate) fn bridge(id: (u16, u16)) -> Self {
        let mut config = Self::device(id, 0x06_0400, 0);
        config.bridge = true;
        config.set(0x0e, &[1]);
        config.set(0x2c, &[0; 4]);
        // Windows that pass nothing on, and a 64-bit one for what is prefetchable.
        config.set(0x24, &0x0001_0001_u32.to_le_bytes());
        config.allow(0x18, &[0xff; 4]);
        config.allow(0x1c, &[0xf0, 0xf0]);
        config.allow(0x20, &0xfff0_fff0_u32.to_le_bytes());
        config.allow(0x24, &0xfff0_fff0_u32.to_le_bytes());
        config.allow(0x28, &[0xff; 8]);
        config.allow(BRIDGE_CONTROL, &0x0043_u16.to_le_bytes());
        config
    }

    /// With BAR 0: memory below 4 GiB, `bytes` bytes, a power of two.
    pub(crate) fn with_memory(mut self, bytes: u32) -> Self {
        self.bar = Some(bytes.into());
        self.allow(BAR0, &(!(bytes - 1)).to_le_bytes());
        self
    }

    /// With an interrupt pin, INTA.
    pub(crate) fn with_pin(mut self) -> Self {
        self.set(0x3d, &[1]);
        self
    }

    /// With MSI at offset `at`: one message, addresses of 64 bits.
    pub(crate) fn with_msi(mut self, at: u8) -> Self {
        self.capability(MSI, at);
        let at = usize::from(at);
        self.msi = Some(at);
        self.set(at + 2, &0x0080_u16.to_le_bytes());
        self.allow(at + 2, &0x0071_u16.to_le_bytes());
        self.allow(at + 4, &0xffff_fffc_u32.to_le_bytes());
        self.allow(at + 8, &[0xff; 6]);
        self
    }

    /// With function-level reset, by the capability for conventional devices at offset `at`.
    pub(crate) fn with_function_reset(mut self, at: u8) -> Self {
        self.capability(ADVANCED_FEATURES, at);
        let at = usize::from(at);
        // Six bytes; it tells pending transactions, and can be reset.
        self.set(at + 2, &[6, 0b11]);
        self.function_reset = Some(at + 4);
        self
    }

    /// With the capability of a PCI Express port of type `kind` at offset `at`.
    pub(crate) fn with_express(mut self, at: u8, kind: u16) -> Self {
        self.capability(EXPRESS, at);
        self.express = true;
        let flags = 2 | kind << 4;
        self.set(usize::from(at) + 2, &flags.to_le_bytes());
        self
    }

    /// With a slot: a device may come and go at any time, by request (attention button) or not; its power can be switched. `at` is where
    /// the capability of the port is.
    pub(crate) fn with_slot(mut self, at: u8) -> Self {
        let at = usize::from(at);
        let flags = self.word(at + 2) | SLOT_IMPLEMENTED;
        self.set(at + 2, &flags.to_le_bytes());
        self.set(at + LINK_CAPABILITIES, &LINK_TELLS_UP.to_le_bytes());
        self.set(at + SLOT_CAPABILITIES, &SLOT_OFFERS.to_le_bytes());
        self.allow(at + SLOT_CONTROL, &0x1fff_u16.to_le_bytes());
        self.clears(at + SLOT_STATUS, &SLOT_HAPPENED.to_le_bytes());
        self.slot = Some(at);
        self
    }

    /// With a link that tells whether it is up, to a device without a slot. `at` is where the capability of the port is.
    pub(crate) fn with_soldered(self, at: u8) -> Self {
        let mut port = self.with_slot(at);
        let at = usize::from(at);
        let flags = port.word(at + 2) & !SLOT_IMPLEMENTED;
        port.set(at + 2, &flags.to_le_bytes());
        port.set(at + SLOT_CAPABILITIES, &[0; 4]);
        port
    }

    /// With advanced error reporting, for a function with the capability of PCI Express at `express`.
    pub(crate) fn with_errors(mut self, express: u8) -> Self {
        let express = usize::from(express);
        self.allow(express + DEVICE_CONTROL, &[0x0f]);
        self.set(ERRORS, &0x0001_0001_u32.to_le_bytes());
        self.clears(UNCORRECTABLE, &[0xff; 4]);
        self.allow(MASK, &[0xff; 8]);
        self.set(SEVERITY, &DEFAULT_SEVERITY.to_le_bytes());
        self.clears(CORRECTABLE, &[0xff; 2]);
        self.allow(CORRECTABLE + 4, &[0xff; 2]);
        self.reports = true;
        self.express_at = express;
        self
    }

    /// With the registers of a root port for errors, after [`with_errors`](Self::with_errors); and with containment, if `contains`.
    pub(crate) fn with_root_errors(mut self, contains: bool) -> Self {
        self.allow(ROOT_COMMAND, &[7]);
        self.clears(ROOT_STATUS, &[0x7f]);
        self.root = true;
        if contains {
            self.set(ERRORS, &(0x0001_0001 | (CONTAINMENT as u32) << 20).to_le_bytes());
            self.set(CONTAINMENT, &0x0001_001d_u32.to_le_bytes());
            self.allow(CONTAINMENT_CONTROL, &[0x0f]);
            self.clears(CONTAINMENT_STATUS, &[0x09]);
            self.contains = true;
        }
        self
    }

    /// Records an error that the function has detected, the `bit`-th of its kind by the default severities. Returns true when it tells
    /// others of it.
    pub(crate) fn detect(&mut self, severity: Severity) -> Option<bool> {
        if !self.reports {
            return None;
        }
        // A receiver error, a completion timeout, a malformed request.
        let (status, mask, bit, control) = match severity {
            Severity::Correctable => (CORRECTABLE, CORRECTABLE + 4, 0, 1),
            Severity::NonFatal => (UNCORRECTABLE, MASK, 14, 1 << 1),
            Severity::Fatal => (UNCORRECTABLE, MASK, 18, 1 << 2),
        };
        self.put_long(status, self.long(status) | 1 << bit);
        Some(self.long(mask) & 1 << bit == 0 && self.word(self.express_at + DEVICE_CONTROL) & control != 0)
    }

    /// The port receives the message of an error of the function with requester ID `source`. Returns true when it goes no further: the
    /// port has taken its link down.
    pub(crate) fn receive(&mut self, severity: Severity, source: u16) -> bool {
        if self.contains && severity == Severity::Fatal && self.word(CONTAINMENT_CONTROL) & 3 == 1 {
            self.trip(source);
            return true;
        }
        if self.root {
            let status = self.long(ROOT_STATUS);
            let (one, several, shift) = if severity == Severity::Correctable { (1, 2, 0) } else { (4, 8, 16) };
            let mut new = status | if status & one != 0 { several } else { one };
            new |= match severity {
                Severity::Correctable => 0,
                Severity::NonFatal => 1 << 5,
                Severity::Fatal => 1 << 6,
            };
            self.put_long(ROOT_STATUS, new);
            if status & one == 0 {
                let kept = self.long(ROOT_SOURCE) & !(0xffff << shift);
                self.put_long(ROOT_SOURCE, kept | u32::from(source) << shift);
            }
        }
        false
    }

    fn trip(&mut self, source: u16) {
        let status = CONTAINED | CONTAINMENT_SIGNALLED | 2 << 1;
        self.put_long(CONTAINMENT_STATUS, u32::from(status) | u32::from(source) << 16);
    }

    /// Returns true when a bridge passes on messages of errors.
    pub(crate) fn passes_errors(&self) -> bool {
        self.word(BRIDGE_CONTROL) & 1 << 1 != 0
    }

    /// Returns true while a port keeps its link down by containment.
    pub(crate) fn is_contained(&self) -> bool {
        self.contains && self.word(CONTAINMENT_STATUS) & CONTAINED != 0
    }

    /// Returns true when a port has something to signal by its interrupt pin, and that is on.
    pub(crate) fn signals(&self) -> bool {
        let slot = self.slot.is_some_and(|at| {
            let (control, status) = (self.word(at + SLOT_CONTROL), self.word(at + SLOT_STATUS));
            let link = status & SLOT_LINK_CHANGED != 0 && control & 1 << 12 != 0;
            control & SLOT_CONTROL_SIGNALS != 0 && (status & control & 0xf != 0 || link)
        });
        let received = || {
            let (command, status) = (self.long(ROOT_COMMAND), self.long(ROOT_STATUS));
            command & 1 != 0 && status & 1 != 0
                || command & 2 != 0 && status & 1 << 5 != 0
                || command & 4 != 0 && status & 1 << 6 != 0
        };
        let contained = || {
            let on = self.word(CONTAINMENT_CONTROL) & CONTAINMENT_SIGNALS != 0;
            self.contains && on && self.word(CONTAINMENT_STATUS) & CONTAINMENT_SIGNALLED != 0
        };
        self.word(COMMAND) & PIN_OFF == 0 && self.bytes[0x3d] != 0 && (slot || self.root && received() || contained())
    }

    fn capability(&mut self, id: u8, at: u8) {
        let link = self.last_capability.map_or(CAPABILITIES, |last| last + 1);
        self.set(link, &[at]);
        self.set(at.into(), &[id]);
        self.last_capability = Some(at.into());
        let status = self.word(STATUS) | HAS_LIST;
        self.set(STATUS, &status.to_le_bytes());
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.at_power_up = self.bytes;
    }

    fn clears(&mut self, at: usize, bits: &[u8]) {
        self.cleared[at..at + bits.len()].copy_from_slice(bits);
    }

    fn put_long(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..at + bits.len()].copy_from_slice(bits);
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }

    /// Reads `len` bytes at `offset`.
    pub(crate) fn read(&self, offset: usize, len: usize) -> u64 {
        // A function without PCI Express has no extended part, and nothing answers there.
        let there =
            |at: usize| if self.express || at < 0x100 { self.bytes.get(at).copied().unwrap_or(0) } else { 0xff };
        let byte = |at: usize| u64::from(there(at));
        (0..len).rev().fold(0, |value, i| value << 8 | byte(offset + i))
    }

    /// Writes `len` bytes. Returns what this resets.
    pub(crate) fn write(&mut self, offset: usize, len: usize, value: u64) -> Resets {
        let before = self.word(BRIDGE_CONTROL);
        let shift = self.function_reset.and_then(|at| at.checked_sub(offset)).filter(|shift| *shift < len);
        if shift.is_some_and(|shift| value >> (8 * shift) & 1 != 0) {
            self.reset();
            return Resets::Itself;
        }
        for (at, byte) in (offset..offset + len).zip(value.to_le_bytes()).filter(|(at, _)| *at < SIZE) {
            let bits = self.writable[at];
            // What has happened is cleared by ones.
            self.bytes[at] = (self.bytes[at] & !bits | byte & bits) & !(byte & self.cleared[at]);
        }
        let behind = self.bridge && !before & self.word(BRIDGE_CONTROL) & SECONDARY_RESET != 0;
        if behind { Resets::Behind } else { Resets::Nothing }
    }

    pub(crate) fn reset(&mut self) {
        self.bytes = self.at_power_up;
    }

    /// Shows the level of the interrupt pin in the status register.
    pub(crate) fn show_pin(&mut self, asserted: bool) {
        let status = self.word(STATUS) & !PIN_ASSERTED | if asserted { PIN_ASSERTED } else { 0 };
        self.bytes[STATUS..STATUS + 2].copy_from_slice(&status.to_le_bytes());
    }

    /// Secondary and subordinate bus number of a bridge.
    pub(crate) fn buses(&self) -> Option<(u8, u8)> {
        self.bridge.then(|| (self.bytes[0x19], self.bytes[0x1a]))
    }

    /// Returns true while the slot of a port has no power.
    pub(crate) fn is_slot_off(&self) -> bool {
        self.slot.is_some_and(|at| self.word(at + SLOT_CONTROL) & SLOT_POWER_OFF != 0)
    }

    /// Shows in a port's registers whether its slot has a device, and whether the link to it is up; and what has changed.
    pub(crate) fn show_slot(&mut self, present: bool, up: bool) {
        let Some(at) = self.slot else { return };
        let (status, link) = (self.word(at + SLOT_STATUS), self.word(at + LINK_STATUS));
        let mut new = status & !SLOT_PRESENT | if present { SLOT_PRESENT } else { 0 };
        if (status ^ new) & SLOT_PRESENT != 0 {
            new |= SLOT_PRESENCE_CHANGED;
        }
        let new_link = link & !LINK_UP | if up { LINK_UP } else { 0 };
        if link != new_link {
            new |= SLOT_LINK_CHANGED;
        }
        self.bytes[at + SLOT_STATUS..at + SLOT_STATUS + 2].copy_from_slice(&new.to_le_bytes());
        self.bytes[at + LINK_STATUS..at + LINK_STATUS + 2].copy_from_slice(&new_link.to_le_bytes());
    }

    /// Presses the attention button of a slot. False for a function without one.
    pub(crate) fn press(&mut self) -> bool {
        if let Some(at) = self.slot {
            self.bytes[at + SLOT_STATUS] |= 1;
        }
        self.slot.is_some()
    }

    /// Returns true while a bridge holds the bus behind it in reset.
    pub(crate) fn resets_bus(&self) -> bool {
        self.bridge && self.word(BRIDGE_CONTROL) & SECONDARY_RESET != 0
    }

    /// Returns true when a bridge passes on accesses to memory at `addr`.
    pub(crate) fn passes(&self, addr: u64) -> bool {
        let window = |at: usize, high: (u32, u32)| {
            let (base, limit) = (self.word(at), self.word(at + 2));
            let place = |field: u16, high: u32| u64::from(high) << 32 | u64::from(field & 0xfff0) << 16;
            place(base, high.0) <= addr && addr <= place(limit, high.1) | 0xf_ffff
        };
        let prefetchable = (self.long(0x28), self.long(0x2c));
        self.word(COMMAND) & MEMORY != 0 && !self.resets_bus() && (window(0x20, (0, 0)) || window(0x24, prefetchable))
    }

    /// Offset of `addr` in BAR 0, where the function answers it.
    pub(crate) fn decodes(&self, addr: u64) -> Option<u64> {
        let base = u64::from(self.long(BAR0) & !0xf);
        let inside = addr.checked_sub(base).filter(|offset| self.bar.is_some_and(|len| *offset < len))?;
        (self.word(COMMAND) & MEMORY != 0).then_some(inside)
    }

    pub(crate) fn is_master(&self) -> bool {
        self.word(COMMAND) & MASTER != 0
    }

    pub(crate) fn link(&self, above: bool) -> Link {
        let message = self.msi.filter(|at| self.bytes[at + 2] & 1 != 0);
        let message = message.map(|at| {
            let address = u64::from(self.long(at + 8)) << 32 | u64::from(self.long(at + 4));
            (address, self.word(at + 12).into())
        });
        Link { master: above && self.is_master(), pin: self.word(COMMAND) & PIN_OFF == 0, message }
    }

    /// Hashes the state; where messages would go matters only while they are sent.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let mut bytes = self.bytes;
        if let Some(at) = self.msi.filter(|at| self.bytes[at + 2] & 1 == 0) {
            bytes[at + 4..at + 14].fill(0);
        }
        bytes.hash(state);
    }
}
