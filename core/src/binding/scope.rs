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

/// A part of a binding that resources can be acquired in: the whole of it, or a [`DevresGroup`].
#[derive(Clone, Copy, Debug)]
pub struct Scope<'s> {
    pub(crate) bound: &'s Bound,
    pub(crate) tag: GroupTag,
}

impl<'s> Scope<'s> {
    pub(crate) fn new(bound: &'s Bound, tag: GroupTag) -> Self {
        Self { bound, tag }
    }

    /// Maps the device's registers number `index` (the `reg` entries, from 0). Nobody else may have any of them.
    pub fn mmio(&self, index: usize) -> Result<Mmio<'s>, ResourceError> {
        self.map_registers(index, Mode::Exclusive)
    }

    /// Maps the device's registers number `index`, which other drivers may use, too, if all of them say so: a register
    /// block that firmware gives to several devices. They must not disturb each other. A pass-through owner never shares.
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
            // A guest gets registers by the page, with what else lies there.
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

    /// Runs `run` on the way back, in its turn. What it uses it owns: take [`Mmio::handle`], not [`Mmio`].
    pub fn action(&self, what: &'static str, run: impl FnOnce() + Send + Sync + 'static) -> Result<(), ResourceError> {
        self.bound.push(self.tag, Action { what, run: Box::new(run) }).map(|_| ())
    }

    /// Opens a release group inside this scope.
    pub fn devres_group(&self) -> DevresGroup<'s> {
        DevresGroup::open(self.bound, self.tag)
    }
}
