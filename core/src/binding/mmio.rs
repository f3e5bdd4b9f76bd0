//! Register windows of a bound device.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;

use super::{Entry, ResourceKind, UnwindCtx};
use crate::addr::PhysAddr;
use crate::claim::Claim;
use crate::env::{Io, IoError, Registers, Width};
use crate::event::Outcome;
use crate::promise::Promise;
use crate::rundown::RundownGuard;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::system::System;

/// Mapped register window and its claim.
pub(crate) struct Region {
    registers: Registers,
    base: PhysAddr,
    /// Entered by accesses through [`MmioHandle`]. Accesses through [`Mmio`] do not need it: the borrow checker ends them
    /// in time.
    claim: Arc<Claim>,
    /// They belong to a devres group, which may be released before the binding ends: accesses through [`Mmio`] enter, too.
    in_group: bool,
    /// Latest access started through a handle, see [`note`](Self::note).
    last: AtomicU64,
}

impl Region {
    pub(crate) fn new(io: Arc<dyn Io>, base: PhysAddr, claim: Arc<Claim>, in_group: bool) -> Arc<Self> {
        let registers = Registers::new(io, !in_group);
        Arc::new(Self { registers, base, claim, in_group, last: AtomicU64::new(0) })
    }

    fn io(&self) -> &dyn Io {
        self.registers.io()
    }

    /// Enters the registers for an access by a handle that cannot outlive the binding, but may outlive its group.
    fn enter_group(&self) -> Result<Option<RundownGuard<'_>>, IoError> {
        if self.in_group { self.claim.enter().ok_or(IoError::Gone).map(Some) } else { Ok(None) }
    }

    /// Reads a register by the env, by a handle that cannot outlive the binding.
    #[inline(never)]
    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let _inside = self.enter_group()?;
        self.io().read(offset, width)
    }

    /// Writes a register by the env, by a handle that cannot outlive the binding.
    #[inline(never)]
    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let _inside = self.enter_group()?;
        self.io().write(offset, width, value)
    }

    /// Records the start of an access, for reports of a long wait. A single store: the list of active users that other
    /// run-downs keep would cost more than the access.
    fn note(&self, offset: u64, write: bool) {
        // Relaxed: only text of a report.
        self.last.store(offset << 1 | u64::from(write), Ordering::Relaxed);
    }

    /// Refuses new accesses through [`MmioHandle`] and waits for active ones.
    pub(super) fn revoke(&self, machine: &System) {
        self.claim.close_naming(machine, || {
            let last = self.last.load(Ordering::Relaxed);
            let access = if last & 1 == 1 { "write" } else { "read" };
            format!("a {access} at {:#x} of the registers at {} by a handle", last >> 1, self.base)
        });
    }
}

macro_rules! accessors {
    ($by:ident $to:ident: $($read:ident $write:ident $width:ident $int:ty),*) => { $(
        #[doc = concat!("Reads ", stringify!($int), " at `offset` bytes.")]
        ///
        /// # Errors
        ///
        /// [`IoError::Bad`] outside the window or misaligned, [`IoError::Gone`] once the registers are gone.
        #[inline]
        pub fn $read(&self, offset: u64) -> Result<$int, IoError> {
            self.$by(offset, Width::$width).map(|v| v as $int)
        }

        #[doc = concat!("Writes ", stringify!($int), " at `offset` bytes.")]
        ///
        /// # Errors
        ///
        /// [`IoError::Bad`] outside the window or misaligned, [`IoError::Gone`] once the registers are gone.
        #[inline]
        pub fn $write(&self, offset: u64, value: $int) -> Result<(), IoError> {
            self.$to(offset, Width::$width, u64::from(value))
        }
    )* };
}

/// Register window of a bound device.
///
/// It cannot outlive its binding (`'b`), so an access needs no check of the binding; one to registers of a devres group checks that
/// the group was not released.
#[derive(Clone)]
pub struct Mmio<'b> {
    region: Arc<Region>,
    binding: PhantomData<&'b ()>,
}

impl Mmio<'_> {
    pub(crate) fn new(region: Arc<Region>) -> Self {
        Self { region, binding: PhantomData }
    }

    accessors!(read_width write_width: read8 write8 W8 u8, read16 write16 W16 u16, read32 write32 W32 u32, read64 write64 W64 u64);

    /// Handle that may outlive the binding; its accesses then fail.
    pub fn handle(&self) -> MmioHandle {
        MmioHandle(Arc::clone(&self.region))
    }

    /// Size of the window in bytes.
    pub fn size(&self) -> u64 {
        self.region.io().size()
    }

    #[inline]
    pub(super) fn read_width(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let region = &*self.region;
        region.registers.read(offset, width).map_or_else(|| region.read(offset, width), Ok)
    }

    #[inline]
    pub(super) fn write_width(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let region = &*self.region;
        region.registers.write(offset, width, value).map_or_else(|| region.write(offset, width, value), Ok)
    }
}

impl fmt::Debug for Mmio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mmio({}, {:#x} bytes)", self.region.base, self.region.io().size())
    }
}

/// Register window of a device that may be unbound at any time.
///
/// An access either completes before the registers are released or fails with [`IoError::Gone`]. It costs two more atomic
/// operations than an access through [`Mmio`].
#[derive(Clone)]
pub struct MmioHandle(pub(super) Arc<Region>);

impl MmioHandle {
    accessors!(read write: read8 write8 W8 u8, read16 write16 W16 u16, read32 write32 W32 u32, read64 write64 W64 u64);

    /// Size of the window in bytes.
    pub fn size(&self) -> u64 {
        self.0.io().size()
    }

    /// Reads the register at `offset` bytes, zero-extended.
    ///
    /// # Errors
    ///
    /// [`IoError::Gone`] once the binding has ended, [`IoError::Bad`] outside the window or misaligned.
    pub fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let _inside = self.0.claim.enter().ok_or(IoError::Gone)?;
        self.0.note(offset, false);
        self.0.io().read(offset, width)
    }

    /// Writes the low `width` of `value` to the register at `offset` bytes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let _inside = self.0.claim.enter().ok_or(IoError::Gone)?;
        self.0.note(offset, true);
        self.0.io().write(offset, width, value)
    }
}

impl fmt::Debug for MmioHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MmioHandle({}, {:#x} bytes)", self.0.base, self.0.io().size())
    }
}

/// Ledger entry of a mapped window.
pub(crate) struct MmioEntry(pub(crate) Arc<Region>);

impl Entry for MmioEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Mmio
    }

    fn what(&self) -> String {
        format!("{} + {:#x}", self.0.base, self.0.io().size())
    }

    fn backend(&self) -> String {
        "env".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let machine = ctx.bound.system();
        self.0.revoke(machine);
        machine.promises.check(Promise::NoUseAfterRevoke, self.0.claim.is_over(), || {
            format!("{}: its registers at {} are accessible after their release", ctx.bound.name(), self.0.base)
        });
        machine.release_claim(&self.0.claim);
        Outcome::Returned
    }
}
