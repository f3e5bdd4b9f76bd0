//! The memory half of DMA memory.

use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::DmaError;
use crate::addr::{PhysAddr, pages};
use crate::env::{Caching, Memory};
use crate::iommu::{Batch, BatchState, Domain};
use crate::machine::Machine;
use crate::mem::access::{RamWindow, read_bytes, write_bytes};
use crate::mem::{PageRequest, PageRun, PhysMemory};
use crate::sync::Mutex;

/// Pages that a device was, or is, given.
///
/// Holding it keeps the pages from their allocator, and the CPU may read them; it says nothing about the device. While
/// a mapping exists, the mapping holds this, too, so the pages cannot return before the device is cut off (P2). What a
/// lazy domain has not confirmed yet goes to that domain's queue first.
pub struct DmaMemory {
    /// `None` only while it is dropped.
    run: Option<PageRun>,
    window: RamWindow,
    caching: Caching,
    len: u64,
    /// Ended mappings of these pages that the hardware has not confirmed yet.
    unconfirmed: Mutex<Vec<Unconfirmed>>,
}

/// One ended mapping in a lazy domain.
pub(super) struct Unconfirmed {
    pub(super) batch: Arc<Batch>,
    pub(super) domain: Arc<Domain>,
    pub(super) device: Arc<str>,
    pub(super) machine: Weak<Machine>,
}

impl DmaMemory {
    pub(crate) fn new(run: PageRun, memory: &Arc<dyn Memory>, caching: Caching, len: u64) -> Option<Arc<Self>> {
        let window = RamWindow::new(memory, run.base(), run.len(), caching).ok()?;
        Some(Arc::new(Self { run: Some(run), window, caching, len, unconfirmed: Mutex::default() }))
    }

    /// Takes `len` bytes (at least 1) of zeroed page frames that belong to no device: the RAM of a guest, a buffer of a
    /// user-space process. Whoever maps them for a device holds them as long as the mapping exists.
    pub fn allocate(memory: &PhysMemory, len: u64) -> Result<Arc<Self>, DmaError> {
        let count = pages(len);
        if count == 0 {
            return Err(DmaError::BadSize(len));
        }
        let run = PageRun::take(memory.frames(), &PageRequest::new(count))?;
        Self::new(run, memory.memory(), Caching::Cached, len).ok_or(DmaError::BadSize(len))
    }

    /// Usable bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when there are no usable bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Physical address of the first byte.
    pub fn phys(&self) -> PhysAddr {
        self.window.base()
    }

    /// Bytes that were taken from the allocator: whole pages.
    pub fn allocated(&self) -> u64 {
        self.run.as_ref().map_or(0, PageRun::len)
    }

    /// Name of the allocator that the pages go back to.
    pub fn source(&self) -> &'static str {
        self.run.as_ref().map_or("", PageRun::source)
    }

    /// Copies bytes out, from `offset` on. A device that writes meanwhile may be seen half.
    ///
    /// # Panics
    ///
    /// When the range is not inside the memory.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        self.check(offset, to.len());
        let done = read_bytes(&**self.window.memory(), self.phys() + offset, to, self.caching);
        debug_assert!(done.is_ok());
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// When the range is not inside the memory.
    pub fn write_bytes(&self, offset: u64, from: &[u8]) {
        self.check(offset, from.len());
        let done = write_bytes(&**self.window.memory(), self.phys() + offset, from, self.caching);
        debug_assert!(done.is_ok());
    }

    pub(crate) fn is_zero(&self) -> bool {
        use core::sync::atomic::Ordering;
        self.window.words().iter().all(|w| w.load(Ordering::Relaxed) == 0)
    }

    pub(super) fn window(&self) -> &RamWindow {
        &self.window
    }

    /// A mapping of these pages has ended, and the hardware is told later.
    pub(super) fn add_unconfirmed(&self, ended: Unconfirmed) {
        let mut list = self.unconfirmed.lock();
        list.retain(|u| u.batch.state() != BatchState::Confirmed && !Arc::ptr_eq(&u.batch, &ended.batch));
        list.push(ended);
    }

    /// Makes sure that no other translation than `domain` can reach these pages: asks for the confirmations that are
    /// still out.
    pub(super) fn settle(&self, machine: &Machine, domain: Option<&Arc<Domain>>) -> Result<(), DmaError> {
        let waiting: Vec<Arc<Domain>> = {
            let list = self.unconfirmed.lock();
            let others = list.iter().filter(|u| u.batch.state() == BatchState::Waiting);
            others.map(|u| &u.domain).filter(|d| domain.is_none_or(|own| !Arc::ptr_eq(own, d))).cloned().collect()
        };
        for domain in waiting {
            domain.confirm_queue(machine);
        }
        let mut list = self.unconfirmed.lock();
        list.retain(|u| u.batch.state() != BatchState::Confirmed);
        let lost = |u: &Unconfirmed| u.batch.state() == BatchState::Lost;
        let other = |u: &Unconfirmed| domain.is_none_or(|own| !Arc::ptr_eq(own, &u.domain));
        if list.iter().any(|u| lost(u) || other(u)) { Err(DmaError::Unconfirmed) } else { Ok(()) }
    }

    /// The devices that could reach the pages were shown to be quiet.
    pub(super) fn settle_all(&self) {
        self.unconfirmed.lock().clear();
    }

    fn check(&self, offset: u64, len: usize) {
        let end = offset.checked_add(len as u64);
        assert!(end.is_some_and(|e| e <= self.len), "{len} bytes at {offset} of DMA memory of {} bytes", self.len);
    }
}

impl Drop for DmaMemory {
    fn drop(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        for u in core::mem::take(&mut *self.unconfirmed.lock()) {
            match u.batch.state() {
                BatchState::Confirmed => continue,
                BatchState::Waiting | BatchState::Lost => {}
            }
            match u.batch.keep(&u.device, run) {
                Ok(()) => return,
                Err(back) => run = back,
            }
            let why = "invalidation not confirmed".to_string();
            match u.machine.upgrade() {
                Some(machine) => machine.quarantine.keep_run(&machine, &u.device, run, why),
                None => core::mem::forget(run),
            }
            return;
        }
    }
}

impl fmt::Debug for DmaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaMemory({} bytes, {:?}, {:?})", self.len, self.run, self.caching)
    }
}
