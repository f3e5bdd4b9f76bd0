//! Errors of functions: advanced error reporting (AER).
//!
//! A function records what went wrong in status registers of its own, and tells the root port above it by a message; the root port
//! records who told it, and signals an interrupt. Registers: *PCI Express Base Specification* 5.0, 7.8.4; kinds of errors: 6.2.7.

use alloc::sync::Arc;
use core::fmt;

use super::config::reg;
use super::{Capability, ConfigSpace, Function, FunctionId, PortKind};
use crate::bus::BusError;
use crate::env::{IoError, Width};

/// Uncorrectable errors: status, which of them are not reported, which of them are fatal.
const STATUS: u16 = 0x04;
const MASK: u16 = 0x08;
const SEVERITY: u16 = 0x0c;
/// Correctable errors.
const CORRECTABLE_STATUS: u16 = 0x10;
const CORRECTABLE_MASK: u16 = 0x14;
/// Bits 0 to 4: number of the first uncorrectable error, whose request's header is logged.
const CONTROL: u16 = 0x18;
const HEADER_LOG: u16 = 0x1c;
/// Of a root port: which messages it signals, what it has received, from whom.
pub(super) const ROOT_COMMAND: u16 = 0x2c;
pub(super) const ROOT_STATUS: u16 = 0x30;
const ROOT_SOURCE: u16 = 0x34;
/// Bytes of the capability, and of a root port's.
const LEN: u16 = 0x2c;
const ROOT_LEN: u16 = 0x38;

/// Root command: signal correctable, non-fatal, fatal errors.
pub(super) const SIGNAL_CORRECTABLE: u32 = 1;
pub(super) const SIGNAL_UNCORRECTABLE: u32 = 1 << 1 | 1 << 2;
/// Root status: a correctable error was received, and another one after it; uncorrectable ones likewise; of these, a non-fatal
/// and a fatal one.
const CORRECTABLE: u32 = 1;
const SEVERAL_CORRECTABLE: u32 = 1 << 1;
const UNCORRECTABLE: u32 = 1 << 2;
const SEVERAL_UNCORRECTABLE: u32 = 1 << 3;
const NON_FATAL: u32 = 1 << 5;
const FATAL: u32 = 1 << 6;
const RECEIVED: u32 = 0x7f;

/// Device control in the PCI Express capability: tell of correctable, non-fatal and fatal errors (7.5.3.4). Not of requests that nobody
/// has answered: that is how an empty place looks.
const DEVICE_CONTROL: u16 = 0x08;
const TELL: u32 = 1 | 1 << 1 | 1 << 2;

/// The link below a port went down although nobody had asked for it.
const SURPRISE_DOWN: u32 = 1 << 5;

/// Names of uncorrectable and of correctable errors, by bit.
const UNCORRECTABLE_NAMES: [(u8, &str); 19] = [
    (4, "data link protocol error"),
    (5, "surprise down"),
    (12, "poisoned request"),
    (13, "flow control protocol error"),
    (14, "completion timeout"),
    (15, "completer abort"),
    (16, "unexpected completion"),
    (17, "receiver overflow"),
    (18, "malformed request"),
    (19, "end-to-end checksum error"),
    (20, "unsupported request"),
    (21, "access control violation"),
    (22, "internal error"),
    (23, "multicast blocked"),
    (24, "atomic operation blocked"),
    (25, "prefix blocked"),
    (26, "poisoned request blocked"),
    (27, "DMW request blocked"),
    (28, "IDE check failed"),
];
const CORRECTABLE_NAMES: [(u8, &str); 8] = [
    (0, "receiver error"),
    (6, "bad request"),
    (7, "bad link packet"),
    (8, "replay number rollover"),
    (12, "replay timeout"),
    (13, "advisory non-fatal error"),
    (14, "corrected internal error"),
    (15, "header log overflow"),
];

/// Severity of an error that a function has detected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Hardware has repeated what had failed: nothing is lost.
    Correctable,
    /// A request is lost; the link works.
    NonFatal,
    /// The link cannot be relied on.
    Fatal,
}

impl Severity {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Correctable => "correctable",
            Self::NonFatal => "non-fatal",
            Self::Fatal => "fatal",
        }
    }
}

/// Errors that a function has detected, as bits of its status registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Errors {
    /// Uncorrectable errors that are fatal.
    pub fatal: u32,
    /// Uncorrectable errors that are not.
    pub non_fatal: u32,
    /// Correctable errors.
    pub correctable: u32,
    /// Header of the request with which the first uncorrectable error was detected; zeros where none is logged.
    pub header: [u32; 4],
}

impl Errors {
    /// The worst of them, if there are any.
    pub const fn severity(&self) -> Option<Severity> {
        match self {
            Self { fatal: 1.., .. } => Some(Severity::Fatal),
            Self { non_fatal: 1.., .. } => Some(Severity::NonFatal),
            Self { correctable: 1.., .. } => Some(Severity::Correctable),
            _ => None,
        }
    }

    /// True when the link below the port that detected them went down.
    pub const fn is_surprise_down(&self) -> bool {
        (self.fatal | self.non_fatal) & SURPRISE_DOWN != 0
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.fatal, &UNCORRECTABLE_NAMES[..]),
            (self.non_fatal, &UNCORRECTABLE_NAMES[..]),
            (self.correctable, &CORRECTABLE_NAMES[..]),
        ];
        let mut separator = "";
        for (bits, names) in names {
            for bit in (0..32).filter(|bit| bits & 1 << bit != 0) {
                f.write_str(separator)?;
                match names.iter().find(|(number, _)| *number == bit) {
                    Some((_, name)) => f.write_str(name)?,
                    None => write!(f, "error {bit}")?,
                }
                separator = ", ";
            }
        }
        if self.header != [0; 4] {
            let words = self.header;
            write!(f, " (request {:08x} {:08x} {:08x} {:08x})", words[0], words[1], words[2], words[3])?;
        }
        Ok(())
    }
}

/// Messages that a root port has received. Of several of one kind it knows the first sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Requester ID of the sender of a correctable error.
    pub correctable: Option<u16>,
    /// That of an uncorrectable one.
    pub uncorrectable: Option<u16>,
    /// One of the uncorrectable ones was fatal.
    pub fatal: bool,
    /// There were others.
    pub several: bool,
}

/// Bits of the root status that a root port with this command register signals.
pub(super) const fn signalled(command: u32) -> u32 {
    // Correctable errors have bit 0 in both, non-fatal ones 1 and 5, fatal ones 2 and 6.
    command & SIGNAL_CORRECTABLE | (command & SIGNAL_UNCORRECTABLE) << 4
}

/// Bytes that the capability of a function of this type has.
pub(super) const fn len(port: Option<PortKind>) -> u16 {
    if matches!(port, Some(PortKind::Root)) { ROOT_LEN } else { LEN }
}

/// Offsets of the registers by which software has chosen what is reported, which a reset clears.
pub(super) fn chosen(function: &Function) -> impl Iterator<Item = u16> {
    let root = (function.port == Some(PortKind::Root)).then_some(ROOT_COMMAND);
    let all = [MASK, SEVERITY, CORRECTABLE_MASK].into_iter().chain(root);
    function.errors.into_iter().flat_map(move |cap| all.clone().map(move |offset| cap + offset))
}

/// Error registers of a function.
pub struct ErrorRegisters {
    config: Arc<dyn ConfigSpace + Send + Sync>,
    at: FunctionId,
    cap: u16,
    /// Offset of the PCI Express capability.
    express: Option<u16>,
    root: bool,
}

impl ErrorRegisters {
    /// Those of `function`, if it has any.
    pub(super) fn new(config: &Arc<dyn ConfigSpace + Send + Sync>, function: &Function) -> Option<Self> {
        Some(Self {
            config: Arc::clone(config),
            at: function.at,
            cap: function.errors?,
            express: function.capability(Capability::EXPRESS, false).filter(|cap| cap + 12 <= 0x100),
            root: function.port == Some(PortKind::Root),
        })
    }

    /// The function.
    pub fn at(&self) -> FunctionId {
        self.at
    }

    /// None of the registers read here is all ones, unless nobody answers.
    fn read(&self, offset: u16) -> Result<u32, BusError> {
        let value = self.config.read(self.at, self.cap + offset, Width::W32).map_err(|_: IoError| BusError::Gone)?;
        if value == u32::MAX { Err(BusError::Gone) } else { Ok(value) }
    }

    fn write(&self, offset: u16, value: u32) -> Result<(), BusError> {
        self.config.write(self.at, self.cap + offset, Width::W32, value).map_err(|_: IoError| BusError::Gone)
    }

    /// Forgets errors from before, and has the function tell of those that come. What counts as fatal, and what is not told, stays as it
    /// was set.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn enable(&self) -> Result<(), BusError> {
        self.take()?;
        if self.root {
            self.write(ROOT_STATUS, RECEIVED)?;
        }
        // The command register has a bit that does the same for uncorrectable ones; QEMU 7.2 goes by that.
        let express = self.express.map(|cap| (cap + DEVICE_CONTROL, TELL));
        for (offset, bits) in express.into_iter().chain([(reg::COMMAND, reg::TELL_ERRORS)]) {
            let gone = |_: IoError| BusError::Gone;
            let old = self.config.read(self.at, offset, Width::W16).map_err(gone)?;
            self.config.write(self.at, offset, Width::W16, old | bits).map_err(gone)?;
        }
        Ok(())
    }

    /// What the function has detected since this was called last. Errors that are masked do not count, and are forgotten.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn take(&self) -> Result<Errors, BusError> {
        let (status, correctable) = (self.read(STATUS)?, self.read(CORRECTABLE_STATUS)?);
        let counts = status & !self.read(MASK)?;
        let severity = self.read(SEVERITY)?;
        let mut errors = Errors {
            fatal: counts & severity,
            non_fatal: counts & !severity,
            correctable: correctable & !self.read(CORRECTABLE_MASK)?,
            header: [0; 4],
        };
        let first = 1_u32 << (self.read(CONTROL)? & 31);
        if counts & first != 0 {
            for (word, offset) in errors.header.iter_mut().zip((HEADER_LOG..).step_by(4)) {
                // A header may have any bits.
                let place = self.cap + offset;
                *word = self.config.read(self.at, place, Width::W32).map_err(|_: IoError| BusError::Gone)?;
            }
        }
        // Exactly those that were read: one that comes in between stays. The header is free for the next one then.
        if status != 0 {
            self.write(STATUS, status)?;
        }
        if correctable != 0 {
            self.write(CORRECTABLE_STATUS, correctable)?;
        }
        Ok(errors)
    }

    /// The messages that a root port has received since this was called last.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn take_received(&self) -> Result<Received, BusError> {
        if !self.root {
            return Ok(Received::default());
        }
        let status = self.read(ROOT_STATUS)? & RECEIVED;
        if status == 0 {
            return Ok(Received::default());
        }
        // Before the status is cleared: from then on the next sender may be here. Two IDs may be all ones.
        let place = self.cap + ROOT_SOURCE;
        let source = self.config.read(self.at, place, Width::W32).map_err(|_: IoError| BusError::Gone)?;
        self.write(ROOT_STATUS, status)?;
        Ok(Received {
            correctable: (status & CORRECTABLE != 0).then_some(source as u16),
            uncorrectable: (status & (UNCORRECTABLE | NON_FATAL | FATAL) != 0).then_some((source >> 16) as u16),
            fatal: status & FATAL != 0,
            several: status & (SEVERAL_CORRECTABLE | SEVERAL_UNCORRECTABLE) != 0,
        })
    }
}

impl fmt::Debug for ErrorRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorRegisters({} at {:#x})", self.at, self.cap)
    }
}
