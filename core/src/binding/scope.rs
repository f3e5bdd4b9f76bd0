//! Resources that live as long as a binding, or as a group of its ledger entries.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::action::Action;
use super::mmio::{MmioEntry, Region};
use super::{Bound, DevresGroup, GroupTag, Mmio, ResourceError};
use crate::claim::{Mode, Subject};
use crate::device::Resource;
use crate::instrument::FaultPoint;
use crate::lifecycle::DmaOwner;

/// Owner of acquired resources: a whole binding, or a [`DevresGroup`].
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// # example::bind(|dev| {
/// let released = Arc::new(AtomicBool::new(false));
/// let group = dev.devres_group();
/// let flag = Arc::clone(&released);
/// group.scope().action("switch off", move || flag.store(true, Ordering::Relaxed))?;
/// group.scope().dma().coherent(4096)?;
/// // The memory first, then the action:
/// group.release();
/// assert!(released.load(Ordering::Relaxed));
/// # Ok(())
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Scope<'s> {
    pub(crate) bound: &'s Bound,
    pub(crate) tag: GroupTag,
}

impl<'s> Scope<'s> {
    pub(crate) fn new(bound: &'s Bound, tag: GroupTag) -> Self {
        Self { bound, tag }
    }

    /// Maps register window `index` of the device (entry of `reg`, from 0) for exclusive use.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Absent`] without such a window, [`ResourceError::Held`] when another user holds some of the
    /// registers, [`ResourceError::Env`] when the target cannot map them, [`ResourceError::Unbinding`] once the binding is
    /// being torn down.
    pub fn mmio(&self, index: usize) -> Result<Mmio<'s>, ResourceError> {
        self.map_registers(index, Mode::Exclusive)
    }

    /// Maps register window `index` of the device for shared use: a register block that firmware assigns to several
    /// devices. All users must request it as shared and must not interfere with each other. A pass-through owner never
    /// shares.
    ///
    /// # Errors
    ///
    /// As [`mmio`](Self::mmio); [`ResourceError::Held`] only for users that do not share.
    pub fn mmio_shared(&self, index: usize) -> Result<Mmio<'s>, ResourceError> {
        self.map_registers(index, Mode::Shared(""))
    }

    fn map_registers(&self, index: usize, mode: Mode) -> Result<Mmio<'s>, ResourceError> {
        let windows = self.bound.desc().resources.iter().filter_map(|r| match r {
            Resource::Mem { base, len } => Some((*base, *len)),
            Resource::Irq { .. } | Resource::IrqBehind { .. } => None,
        });
        let (base, len) = windows.into_iter().nth(index).ok_or(ResourceError::Absent { kind: "registers", index })?;
        self.bound.check(FaultPoint::MapIo)?;
        let claim = match self.bound.owner() {
            DmaOwner::Kernel => self.bound.claim(&Subject::Registers { base, len }, mode)?,
            // A guest gets whole pages of registers, including whatever else lies on them.
            DmaOwner::PassThrough => self.bound.claim(&Subject::whole_pages(base, len), Mode::Exclusive)?,
        };
        let io = match self.bound.system().env().map_io(base, len) {
            Ok(io) => io,
            Err(error) => {
                self.bound.system().release_claim(&claim);
                return Err(error.into());
            }
        };
        let region = Region::new(io, base, claim);
        self.bound.push(self.tag, MmioEntry(Arc::clone(&region)))?;
        Ok(Mmio::new(region))
    }

    /// Registers `run` to be called during unwinding, in order with the releases. It owns what it uses: capture a
    /// [`Mmio::handle`], not a [`Mmio`]. `what` names it in events.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Unbinding`] once the binding is being torn down; `run` is then called immediately.
    pub fn action(&self, what: &'static str, run: impl FnOnce() + Send + Sync + 'static) -> Result<(), ResourceError> {
        self.bound.push(self.tag, Action { what, run: Box::new(run) }).map(|_| ())
    }

    /// Opens a devres group nested in this scope.
    pub fn devres_group(&self) -> DevresGroup<'s> {
        DevresGroup::open(self.bound, self.tag)
    }
}
