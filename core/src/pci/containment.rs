//! Downstream port containment (DPC): a port takes its link down by itself when it learns of an error.
//!
//! Registers: *PCI Express Base Specification* 5.0, 7.9.15; behaviour: 6.2.10.

use super::{Function, PortKind};

const CAPABILITIES: u16 = 0x04;
/// Capabilities: a root port has further registers, and tells when it is busy.
pub(super) const TELLS_BUSY: u32 = 1 << 5;
pub(super) const CONTROL: u16 = 0x06;
/// Control: contain fatal errors alone, of the two values that contain any; signal an interrupt.
const TRIGGER: u32 = 3;
const ON_FATAL: u32 = 1;
pub(super) const SIGNAL: u32 = 1 << 3;
pub(super) const STATUS: u16 = 0x08;
/// Status: contained; an interrupt was signalled; a root port is still busy. The first two are cleared by ones.
pub(super) const TRIGGERED: u32 = 1;
pub(super) const SIGNALLED: u32 = 1 << 3;
pub(super) const BUSY: u32 = 1 << 4;
pub(super) const SOURCE: u16 = 0x0a;
/// Bytes of the capability that every port has.
pub(super) const LEN: u16 = 0x0c;

pub(super) const fn features(cap: u16) -> u16 {
    cap + CAPABILITIES
}

/// The control register's value by which a port contains fatal errors.
pub(super) const fn enabled(control: u32) -> u32 {
    control & !TRIGGER | ON_FATAL
}

/// Offset of the register that a reset clears.
pub(super) fn chosen(function: &Function) -> Option<u16> {
    function.containment.map(|cap| cap + CONTROL)
}

/// Reason why a port has contained what is below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContainedBy {
    /// An error that the port itself has detected.
    Port,
    /// A non-fatal error of the function with this requester ID.
    NonFatal(u16),
    /// A fatal one.
    Fatal(u16),
    /// Something else: an access of the CPU that failed, or software.
    Other,
}

impl ContainedBy {
    pub(super) const fn of(status: u32, source: u16) -> Self {
        match status >> 1 & 3 {
            0 => Self::Port,
            1 => Self::NonFatal(source),
            2 => Self::Fatal(source),
            _ => Self::Other,
        }
    }
}

/// True for the types of ports that can contain what is below them.
pub(super) const fn is_possible(port: Option<PortKind>) -> bool {
    matches!(port, Some(PortKind::Root | PortKind::Downstream))
}
