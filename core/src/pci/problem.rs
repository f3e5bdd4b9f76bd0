//! What is malformed in configuration space.

use super::{FunctionId, Space};

/// A fault of one function's configuration space. The function is listed without the part that is malformed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {fault}")]
pub struct Problem {
    /// The function.
    pub at: FunctionId,
    /// Its fault.
    pub fault: Fault,
}

/// What is malformed, and the register that has it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The function asks to be read again later (a completion with Request Retry Status).
    #[error("vendor ID: the function is not ready yet (reads as 0001)")]
    NotReady,
    /// A header layout that nobody has defined.
    #[error("header type: {0:#04x} is unknown")]
    HeaderType(u8),
    /// A bridge of another kind, for example to `CardBus`; what is behind it is left alone.
    #[error("header type: a CardBus bridge; what is behind it is not enumerated")]
    CardBus,
    /// A BAR whose writable bits are no run of high bits, so that it has no size.
    #[error("BAR {index}: the writable bits {mask:#x} give no size")]
    BarMask {
        /// Index of the register.
        index: usize,
        /// What it read after all bits were written.
        mask: u64,
    },
    /// A memory BAR of a type that is reserved.
    #[error("BAR {0}: its type is reserved")]
    BarType(usize),
    /// A BAR of 64 bits in the last register.
    #[error("BAR {0}: 64 bits wide, in the last register")]
    BarCut(usize),
    /// A capability at a place where none can be.
    #[error("capability pointer {from:#x}: leads to {to:#x}, outside the list")]
    CapabilityPlace {
        /// Offset of the register or capability that has the pointer.
        from: u16,
        /// Its value.
        to: u16,
    },
    /// A capability list that leads back into itself.
    #[error("capability pointer {from:#x}: leads back to {to:#x}")]
    CapabilityLoop {
        /// Offset of the register or capability that has the pointer.
        from: u16,
        /// Its value.
        to: u16,
    },
    /// A capability that does not fit before the end of configuration space.
    #[error("capability {id:#x} at {at:#x}: reaches past the end of configuration space")]
    CapabilityCut {
        /// Its ID.
        id: u16,
        /// Its offset.
        at: u16,
    },
    /// An extended capability that does not fit before the end of configuration space.
    #[error("{what} at {at:#x}: reaches past the end of configuration space")]
    ExtendedCut {
        /// Name of the capability.
        what: &'static str,
        /// Its offset.
        at: u16,
    },
    /// Containment of a function that has no link below it.
    #[error("downstream port containment at {at:#x}: the function is no port with a link below it")]
    NoLinkBelow {
        /// Offset of the capability.
        at: u16,
    },
    /// An MSI-X table or pending-bit array outside its BAR.
    #[error("MSI-X {what}: {bytes:#x} bytes at {offset:#x} are not inside BAR {bar}")]
    MsiXPlace {
        /// `table` or `PBA`.
        what: &'static str,
        /// Index of the BAR.
        bar: u8,
        /// Offset there.
        offset: u32,
        /// Bytes.
        bytes: u32,
    },
    /// An MSI-X table and pending-bit array at the same place.
    #[error("MSI-X table: at {table:#x} of BAR {bar}, it overlaps the PBA at {pending:#x}")]
    MsiXOverlap {
        /// Index of the BAR.
        bar: u8,
        /// Offset of the table.
        table: u32,
        /// Offset of the pending bits.
        pending: u32,
    },
    /// A number of messages that is reserved.
    #[error("MSI control: 2^{power} messages are more than there can be")]
    MsiCount {
        /// Multiple Message Capable.
        power: u32,
    },
    /// An interrupt pin that does not exist. The function is taken as one without.
    #[error("interrupt pin: {0} is none of 1 to 4")]
    InterruptPin(u8),
    /// The host bridge's interrupt map has no entry for the function's pin.
    #[error(
        "interrupt pin: {pin} is pin {root_pin} of {at} on the host bridge's bus, for which interrupt-map has no usable entry"
    )]
    NoInterrupt {
        /// The function's pin, 1 to 4.
        pin: u8,
        /// The function on the host bridge's bus that passes it on.
        at: FunctionId,
        /// The pin there.
        root_pin: u8,
    },
    /// No bus number is left for what is behind a bridge.
    #[error(
        "secondary bus number: no number is left up to bus {last:#04x}; what is behind the bridge is not enumerated"
    )]
    NoBusNumber {
        /// The last number that it could have had.
        last: u8,
    },
    /// Bus numbers that cannot be right, which were replaced.
    #[error(
        "bus numbers: primary {primary:#04x}, secondary {secondary:#04x}, subordinate {subordinate:#04x} cannot be right, renumbered"
    )]
    BusNumbers {
        /// Primary bus number.
        primary: u8,
        /// Secondary bus number.
        secondary: u8,
        /// Subordinate bus number.
        subordinate: u8,
    },
    /// No addresses are left for a BAR.
    #[error("BAR {index}: no {size:#x} bytes of {space} are left")]
    NoSpace {
        /// Index of the register.
        index: usize,
        /// Bytes.
        size: u64,
        /// Address space.
        space: Space,
    },
    /// No addresses are left for a bridge's window.
    #[error("{space} window: no {size:#x} bytes are left; nothing behind the bridge has such an address")]
    NoWindow {
        /// Bytes.
        size: u64,
        /// Address space.
        space: Space,
    },
}
