//! The user's side of a device that was handed over.

use alloc::sync::Arc;
use core::fmt;

use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::Width;
use bindery::iommu::Prot;
use bindery::sync::atomic::AtomicBool;

use super::VfioError;
use super::callbacks::{Callback, Callbacks};
use super::shared::Shared;

/// One user's hold on a device. It outlives the binding: when the host takes the device back, every operation gets
/// [`VfioError::Revoked`]. Dropping it gives the device back: reset first, then maps.
pub struct Session {
    shared: Arc<Shared>,
    callbacks: Arc<Callbacks>,
    id: u64,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, callbacks: Arc<Callbacks>, id: u64) -> Self {
        Self { shared, callbacks, id }
    }

    /// Name of the device on the host.
    pub fn device(&self) -> &str {
        self.shared.device()
    }

    /// Number of register regions.
    pub fn regions(&self) -> usize {
        self.shared.regions.len()
    }

    /// Size of region `index` in bytes.
    pub fn region_size(&self, index: usize) -> Option<u64> {
        self.shared.regions.get(index).map(bindery::binding::MmioHandle::size)
    }

    /// Reads `width` at `offset` bytes of region `index`.
    #[track_caller]
    pub fn read(&self, index: usize, offset: u64, width: Width) -> Result<u64, VfioError> {
        self.inside("a read", |s| Ok(s.regions.get(index).ok_or(VfioError::NoRegion(index))?.read(offset, width)?))
    }

    /// Writes `width` at `offset` bytes of region `index`.
    #[track_caller]
    pub fn write(&self, index: usize, offset: u64, width: Width, value: u64) -> Result<(), VfioError> {
        self.inside("a write", |s| {
            Ok(s.regions.get(index).ok_or(VfioError::NoRegion(index))?.write(offset, width, value)?)
        })
    }

    /// Number of interrupts.
    pub fn irqs(&self) -> usize {
        self.shared.irqs.len()
    }

    /// Calls `trigger` each time interrupt `index` has fired. The line is masked then, until
    /// [`set_masked`](Self::set_masked) lets it fire again.
    ///
    /// The callbacks of a session are called one at a time, on a thread of their own
    /// ([`Env::spawn`](bindery::env::Env::spawn)), which holds nothing of the host's: one that blocks or panics harms the
    /// user alone. None is called any more when the session has been dropped: the drop waits for one that runs, unless
    /// that one is what drops it.
    #[track_caller]
    pub fn on_interrupt(&self, index: usize, trigger: impl Fn() + Send + Sync + 'static) -> Result<(), VfioError> {
        let run: Callback = Arc::new(trigger);
        let old = self.inside("a callback for an interrupt", |s| {
            s.irqs.get(index).ok_or(VfioError::NoIrq(index))?;
            Ok(self.callbacks.on_interrupt(index, &run))
        });
        // One whose destructor does not come back keeps this user only.
        old.map(drop)
    }

    /// Sets `flag` each time interrupt `index` has fired, as [`on_interrupt`](Self::on_interrupt) would call somebody: for
    /// a user that looks by itself.
    #[track_caller]
    pub fn flag_interrupt(&self, index: usize, flag: Arc<AtomicBool>) -> Result<(), VfioError> {
        self.inside("a flag for an interrupt", |s| {
            s.irqs.get(index).ok_or(VfioError::NoIrq(index))?;
            self.callbacks.flag_interrupt(index, flag);
            Ok(())
        })
    }

    /// Keeps interrupt `index` from firing, or lets it fire again.
    #[track_caller]
    pub fn set_masked(&self, index: usize, masked: bool) -> Result<(), VfioError> {
        self.inside("a mask of an interrupt", |s| {
            let irq = s.irqs.get(index).ok_or(VfioError::NoIrq(index))?;
            if irq.set_masked(masked) { Ok(()) } else { Err(VfioError::Revoked) }
        })
    }

    /// Calls `request` when the host wants the device back; the user then has until the host's deadline, which counts from
    /// before the call, to drop the session. It is called as [`on_interrupt`](Self::on_interrupt) says.
    #[track_caller]
    pub fn on_request(&self, request: impl Fn() + Send + Sync + 'static) -> Result<(), VfioError> {
        let run: Callback = Arc::new(request);
        let old = self.inside("a callback for the host's request", |_| Ok(self.callbacks.on_request(&run)));
        old.map(drop)
    }

    /// Lets the device reach `len` bytes of `memory`, from `offset` on, at `iova` (all multiples of the page size). The
    /// memory is pinned: it stays out of its allocator's hands until the IOMMU has confirmed that the map is gone. Until
    /// then the address is [refused](VfioError::Unconfirmed), to this user and to the next ones.
    #[track_caller]
    pub fn map(
        &self,
        iova: DeviceAddr,
        memory: &Arc<DmaMemory>,
        offset: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), VfioError> {
        self.inside("a map", |s| Ok(s.ioas.map(iova, memory, offset, len, prot)?))
    }

    /// Takes the map that starts at `iova` and is `len` bytes long down, and waits until the device cannot reach it. After
    /// [`Unconfirmed`](VfioError::Unconfirmed) the same call asks the IOMMU again.
    #[track_caller]
    pub fn unmap(&self, iova: DeviceAddr, len: u64) -> Result<(), VfioError> {
        self.inside("an unmap", |s| Ok(s.ioas.unmap(iova, len)?))
    }

    /// Resets the device.
    #[track_caller]
    pub fn reset(&self) -> Result<(), VfioError> {
        self.inside("a reset", |s| {
            s.reset.pulse()?;
            Ok(())
        })
    }

    /// True once the host has taken the device back.
    pub fn is_revoked(&self) -> bool {
        self.shared.door.is_closed()
    }

    #[track_caller]
    fn inside<R>(&self, what: &'static str, act: impl FnOnce(&Shared) -> Result<R, VfioError>) -> Result<R, VfioError> {
        self.shared.inside(what, act)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.callbacks.close();
        let _ = self.shared.inside("the end of a session", |s| {
            s.leave(self.id);
            Ok(())
        });
        // The device is free by now: a callback that does not come back keeps its own user waiting, and nobody else.
        self.callbacks.close_and_wait();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, number {})", self.shared.device(), self.id)
    }
}
