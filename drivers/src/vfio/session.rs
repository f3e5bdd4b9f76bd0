//! The user's interface to a device.

use alloc::sync::Arc;
use core::fmt;

use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::Width;
use bindery::iommu::Prot;
use bindery::sync::atomic::AtomicBool;
use bindery::vectors::VectorKind;

use super::VfioError;
use super::callbacks::{Callback, Callbacks};
use super::interrupts::Control;
use super::shared::Shared;

/// One user's access to a device. It may outlive the binding: when the host has taken the device back, every operation
/// fails with [`VfioError::Revoked`]. Dropping it releases the device: it is reset, then its maps are removed.
///
/// # Errors
///
/// Every method that returns a result fails with [`VfioError::Revoked`] once the host has taken the device back, and with
/// the errors that it names.
pub struct Session {
    shared: Arc<Shared>,
    callbacks: Arc<Callbacks>,
    id: u64,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, callbacks: Arc<Callbacks>, id: u64) -> Self {
        Self { shared, callbacks, id }
    }

    /// Gives the session the binding, for what needs it.
    pub(super) fn controlled_by(self, control: Arc<dyn Control>) -> Self {
        self.shared.set_control(self.id, control);
        self
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
        self.shared.regions.get(index).map(|region| region.registers.size())
    }

    /// Reads a register at `offset` bytes in region `index`. The table of MSI-X is the host's: it reads as ones, and writes to it do
    /// nothing.
    ///
    /// # Errors
    ///
    /// When there is no such region, or the access is not inside it or not aligned.
    #[track_caller]
    pub fn read(&self, index: usize, offset: u64, width: Width) -> Result<u64, VfioError> {
        self.inside("a read", |s| Ok(s.regions.get(index).ok_or(VfioError::NoRegion(index))?.read(offset, width)?))
    }

    /// Writes a register at `offset` bytes in region `index`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn write(&self, index: usize, offset: u64, width: Width, value: u64) -> Result<(), VfioError> {
        self.inside("a write", |s| {
            Ok(s.regions.get(index).ok_or(VfioError::NoRegion(index))?.write(offset, width, value)?)
        })
    }

    /// Number of interrupts that the device signals: those of the kind that [`signal_by`](Self::signal_by) has chosen, else its lines.
    pub fn irqs(&self) -> usize {
        self.shared.irqs()
    }

    /// Number of interrupts that the device can signal by `kind`; 0 once the device was taken back.
    pub fn interrupts(&self, kind: VectorKind) -> usize {
        self.inside("a question for interrupts", |s| Ok(s.control()?.count(kind))).unwrap_or(0)
    }

    /// Has the device signal `count` interrupts by `kind` and no other ones: by messages, or by its lines (a function's pin), as a new
    /// session begins. The host writes the device's registers for that. All are masked, and have neither callback nor flag.
    ///
    /// ```no_run
    /// # fn f(session: bindery_drivers::vfio::Session) -> Result<(), bindery_drivers::vfio::VfioError> {
    /// use bindery::vectors::VectorKind;
    /// let count = session.interrupts(VectorKind::Msi).min(4);
    /// session.signal_by(VectorKind::Msi, count)?;
    /// for index in 0..count {
    ///     session.on_interrupt(index, move || println!("interrupt {index}"))?;
    ///     session.set_masked(index, false)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`VfioError::NoVectors`] when the device has fewer, and as before then; [`VfioError::Interrupts`] when the target has fewer or
    /// another step fails: then the device signals none. [`VfioError::InHandler`] in a callback, if the host has no thread for
    /// callbacks.
    #[track_caller]
    pub fn signal_by(&self, kind: VectorKind, count: usize) -> Result<(), VfioError> {
        let forgotten = self.inside("a change of interrupts", |s| s.control()?.signal_by(kind, count, &self.callbacks));
        // Dropped outside the door: a destructor that never returns blocks this user only.
        forgotten.map(drop)
    }

    /// Calls `trigger` each time that interrupt `index` fires. A line is then masked until
    /// [`set_masked`](Self::set_masked) unmasks it; a message is not.
    ///
    /// The callbacks of a session are called one at a time, on a thread of their own
    /// ([`Env::spawn`](bindery::env::Env::spawn)), which holds no lock of the host: one that blocks or panics affects only
    /// this user. No callback is called after the session was dropped: the drop waits for a running one, unless it is
    /// called from that callback.
    ///
    /// # Errors
    ///
    /// When there is no such interrupt.
    #[track_caller]
    pub fn on_interrupt(&self, index: usize, trigger: impl Fn() + Send + Sync + 'static) -> Result<(), VfioError> {
        let run: Callback = Arc::new(trigger);
        let old = self.inside("a callback for an interrupt", |s| {
            s.irq(index).ok_or(VfioError::NoIrq(index))?;
            Ok(self.callbacks.on_interrupt(index, &run))
        });
        // Dropped outside the door: a destructor that never returns blocks this user only.
        old.map(drop)
    }

    /// Sets `flag` each time that interrupt `index` fires, where [`on_interrupt`](Self::on_interrupt) calls a closure: for a
    /// user that polls.
    ///
    /// # Errors
    ///
    /// When there is no such interrupt.
    #[track_caller]
    pub fn flag_interrupt(&self, index: usize, flag: Arc<AtomicBool>) -> Result<(), VfioError> {
        self.inside("a flag for an interrupt", |s| {
            s.irq(index).ok_or(VfioError::NoIrq(index))?;
            self.callbacks.flag_interrupt(index, flag);
            Ok(())
        })
    }

    /// Masks or unmasks interrupt `index`.
    ///
    /// # Errors
    ///
    /// When there is no such interrupt.
    #[track_caller]
    pub fn set_masked(&self, index: usize, masked: bool) -> Result<(), VfioError> {
        self.inside("a mask of an interrupt", |s| {
            let irq = s.irq(index).ok_or(VfioError::NoIrq(index))?;
            if !irq.set_masked(masked) {
                return Err(VfioError::Revoked);
            }
            if !masked {
                Callbacks::unmasked(&self.callbacks, index);
            }
            Ok(())
        })
    }

    /// Calls `request` when the host requests the device's release. The user then has to drop the session before the host's
    /// deadline, which counts from before the call. It is called as described for [`on_interrupt`](Self::on_interrupt).
    ///
    /// # Errors
    ///
    /// Only when the session is revoked.
    #[track_caller]
    pub fn on_request(&self, request: impl Fn() + Send + Sync + 'static) -> Result<(), VfioError> {
        let run: Callback = Arc::new(request);
        let old = self.inside("a callback for the host's request", |_| Ok(self.callbacks.on_request(&run)));
        old.map(drop)
    }

    /// Maps `len` bytes of `memory`, from `offset` on, at `iova` (all multiples of the page size). The memory is pinned: it
    /// is not freed until the IOMMU has confirmed the unmap. Until then the address is
    /// [unusable](VfioError::Unconfirmed), for this user and for later ones.
    ///
    /// # Errors
    ///
    /// When the range is invalid, reserved or in use, the memory belongs to another machine, there are too many maps, or the
    /// IOMMU's driver refuses.
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

    /// Removes the map that starts at `iova` and is `len` bytes long, and waits until the device cannot reach it. After
    /// [`Unconfirmed`](VfioError::Unconfirmed) the same call asks the IOMMU again.
    ///
    /// # Errors
    ///
    /// When there is no such map, or the IOMMU does not confirm its removal.
    #[track_caller]
    pub fn unmap(&self, iova: DeviceAddr, len: u64) -> Result<(), VfioError> {
        self.inside("an unmap", |s| Ok(s.ioas.unmap(iova, len)?))
    }

    /// Resets the device.
    ///
    /// # Errors
    ///
    /// When the reset line, or the device on its bus, does not respond.
    #[track_caller]
    pub fn reset(&self) -> Result<(), VfioError> {
        self.inside("a reset", |s| {
            s.reset.reset()?;
            Ok(())
        })
    }

    /// Returns true once the host has taken the device back.
    pub fn is_revoked(&self) -> bool {
        self.shared.is_revoked()
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
            s.close(self.id);
            Ok(())
        });
        // The device is released by now: a callback that never returns blocks its own user only.
        self.callbacks.close_and_wait();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, number {})", self.shared.device(), self.id)
    }
}
