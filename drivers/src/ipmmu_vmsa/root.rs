//! The root instance: it holds the translation contexts and walks the page tables of all leaves.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use bindery::binding::Bound;
use bindery::env::IoError;
use bindery::iommu::pgtable::TableFrames;
use bindery::iommu::{DomainKind, IommuError};
use bindery::machine::SystemClock;
use bindery::mem::PhysMemory;
use bindery::sync::SpinLock;
use bindery::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::context::{Context, Tables};
use super::regs::{self, Layout, Regs};
use crate::poll::poll;

/// One translation context.
enum Slot {
    Free,
    Used(Weak<Context>),
    /// The hardware has not confirmed that the context is disabled: its tables may still be walked. The flag tells its last
    /// user when it has. `None` when the context was like this before this driver.
    Unconfirmed(Option<(Tables, Arc<AtomicBool>)>),
}

impl Slot {
    /// Frees the slot and its tables: the hardware has confirmed that the context is disabled.
    fn free(&mut self) {
        if let Self::Unconfirmed(Some((tables, invalidated))) = self {
            tables.confirm(u64::MAX);
            invalidated.store(true, Ordering::Release);
        }
        *self = Self::Free;
    }
}

/// A root's registers and contexts, which its leaves share.
pub struct Root {
    name: String,
    pub(super) regs: Regs,
    pub(super) clock: SystemClock,
    pub(super) memory: PhysMemory,
    pub(super) pages: Arc<TableFrames>,
    /// Contexts by number. Leaf lock: only registers are accessed while it is held.
    slots: SpinLock<Vec<Slot>>,
    /// One bit per context that the hardware confirmed as disabled when this instance was shut down: domains that outlive
    /// it cannot ask the hardware any more.
    off_at_shutdown: AtomicU32,
    /// The context in which nothing is mapped, shared by all blocked masters. Locked before `slots`.
    blocked: SpinLock<Weak<Context>>,
}

impl Root {
    /// Takes over the hardware in any state: disables all contexts and invalidates their translations.
    pub(super) fn new(dev: Bound<'_>, regs: Regs) -> Result<Arc<Self>, IoError> {
        let iommu = dev.iommu_provider();
        let root = Self {
            name: dev.name().into(),
            slots: SpinLock::new((0..regs.layout.contexts).map(|_| Slot::Free).collect()),
            off_at_shutdown: AtomicU32::new(0),
            blocked: SpinLock::default(),
            regs,
            clock: dev.system_clock(),
            pages: Arc::new(iommu.table_frames(regs::TABLE_LIMIT)),
            memory: iommu.memory().clone(),
        };
        for number in root.layout().usable() {
            if !root.switch_off(number)? {
                dev.log(format_args!("context {number} cannot be flushed and is not used"));
                root.slots.lock()[number as usize] = Slot::Unconfirmed(None);
            }
        }
        Ok(Arc::new(root))
    }

    /// Its device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn layout(&self) -> &'static Layout {
        self.regs.layout
    }

    /// Allocates a context number for the object that `make` makes: the lowest free one for DMA, the highest for the
    /// blocked context, so that numbers do not depend on which is allocated first.
    pub(super) fn allocate(
        &self,
        kind: DomainKind,
        make: impl FnOnce(u8) -> Arc<Context>,
    ) -> Result<Arc<Context>, IommuError> {
        let mut slots = self.slots.lock();
        self.reclaim(&mut slots);
        let mut free = self.layout().usable().filter(|n| matches!(slots[*n as usize], Slot::Free));
        let number = if kind == DomainKind::Blocked { free.next_back() } else { free.next() };
        let number = number.ok_or(IommuError::NoContext)?;
        let context = make(number);
        slots[number as usize] = Slot::Used(Arc::downgrade(&context));
        Ok(context)
    }

    /// The shared blocked context; `make` makes it if there is none.
    pub(super) fn blocked(
        &self,
        make: impl FnOnce() -> Result<Arc<Context>, IommuError>,
    ) -> Result<Arc<Context>, IommuError> {
        let mut blocked = self.blocked.lock();
        if let Some(context) = blocked.upgrade() {
            return Ok(context);
        }
        let context = make()?;
        *blocked = Arc::downgrade(&context);
        Ok(context)
    }

    /// Releases a context that its user has tried to disable. The tables are freed only when the hardware has confirmed
    /// it.
    pub(super) fn release(&self, number: u8, tables: Tables, invalidated: Arc<AtomicBool>, confirmed: bool) {
        let slot = &mut self.slots.lock()[number as usize];
        *slot = Slot::Unconfirmed(Some((tables, invalidated)));
        if confirmed || self.off_at_shutdown.load(Ordering::Acquire) & 1 << number != 0 {
            slot.free();
        }
    }

    /// Returns true when the hardware has confirmed the end of the context that was released with this flag. Asks the
    /// hardware again if it had not.
    pub(super) fn is_invalidated(&self, invalidated: &AtomicBool) -> bool {
        // Not a blocking lock: this may run in an interrupt on top of the lock's holder.
        if !invalidated.load(Ordering::Acquire)
            && let Some(mut slots) = self.slots.try_lock()
        {
            self.reclaim(&mut slots);
        }
        invalidated.load(Ordering::Acquire)
    }

    /// Asks the hardware again about contexts that it has not confirmed as disabled.
    fn reclaim(&self, slots: &mut [Slot]) {
        for number in self.layout().usable() {
            let slot = &mut slots[number as usize];
            if matches!(slot, Slot::Unconfirmed(_)) && self.switch_off(number).is_ok_and(|off| off) {
                slot.free();
            }
        }
    }

    /// Disables a context and waits until its translations are invalidated. Returns false when that does not complete in
    /// time.
    fn switch_off(&self, number: u8) -> Result<bool, IoError> {
        self.regs.write(number, regs::IMCTR, regs::IMCTR_FLUSH)?;
        poll(
            || self.clock.now(),
            regs::FLUSH_LIMIT,
            || Ok(self.regs.read(number, regs::IMCTR)? & regs::IMCTR_FLUSH == 0),
        )
    }

    /// Disables all contexts and invalidates their translations, when the driver is unbound.
    pub(super) fn shut_down(&self) {
        let mut slots = self.slots.lock();
        for number in self.layout().usable() {
            // On an error the hardware was removed, or may go on walking: nothing will ever confirm that these tables can
            // be freed.
            if self.switch_off(number).is_ok_and(|off| off) {
                self.off_at_shutdown.fetch_or(1 << number, Ordering::Release);
                if let slot @ Slot::Unconfirmed(_) = &mut slots[number as usize] {
                    slot.free();
                }
            }
        }
    }

    /// The user of context `number`.
    pub(super) fn context(&self, number: u8) -> Option<Arc<Context>> {
        match &self.slots.lock()[number as usize] {
            Slot::Used(context) => context.upgrade(),
            Slot::Free | Slot::Unconfirmed(_) => None,
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for slot in self.slots.lock().drain(..) {
            if let Slot::Unconfirmed(Some((tables, _))) = slot {
                // The hardware may walk these tables for ever: their pages must not be used again (P2).
                core::mem::forget(tables);
            }
        }
    }
}
