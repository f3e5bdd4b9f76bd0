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
use bindery::sync::Mutex;
use bindery::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::context::{Context, Tables};
use super::regs::{self, Layout, Regs};
use crate::poll::poll;

/// One translation context.
enum Slot {
    Free,
    Used(Weak<Context>),
    /// The hardware did not confirm that the context is off: its tables may still be walked. The flag is for its last
    /// user.
    Lost(Option<(Tables, Arc<AtomicBool>)>),
}

impl Slot {
    /// The hardware has confirmed that the context is off: everything goes back.
    fn free(&mut self) {
        if let Self::Lost(Some((tables, forgotten))) = self {
            tables.confirm(u64::MAX);
            forgotten.store(true, Ordering::Release);
        }
        *self = Self::Free;
    }
}

/// What the root offers to its leaves.
pub struct Root {
    name: String,
    pub(super) regs: Regs,
    pub(super) clock: SystemClock,
    pub(super) memory: PhysMemory,
    pub(super) pages: Arc<TableFrames>,
    /// By number. A leaf lock: only registers are touched while it is held.
    slots: Mutex<Vec<Slot>>,
    /// One bit per context that the hardware let go of when this instance was shut down: a domain that somebody still
    /// holds then cannot ask it any more.
    off: AtomicU32,
    /// The context in which nothing is mapped, shared by everything that is blocked. Locked before `slots`.
    blocked: Mutex<Weak<Context>>,
}

impl Root {
    /// Takes over the hardware, whatever its state: all contexts are switched off, and nothing is cached any more.
    pub(super) fn new(dev: &Bound, regs: Regs) -> Result<Arc<Self>, IoError> {
        let iommu = dev.iommu_provider();
        let root = Self {
            name: dev.name().into(),
            slots: Mutex::new((0..regs.layout.contexts).map(|_| Slot::Free).collect()),
            off: AtomicU32::new(0),
            blocked: Mutex::default(),
            regs,
            clock: dev.system_clock(),
            pages: Arc::new(iommu.table_frames(regs::TABLE_LIMIT)),
            memory: iommu.memory().clone(),
        };
        for number in root.layout().usable() {
            if !root.switch_off(number)? {
                dev.log(format_args!("context {number} cannot be flushed and is not used"));
                root.slots.lock()[number as usize] = Slot::Lost(None);
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

    /// Reserves a context for the object that `make` makes: from the bottom up for DMA, from the top down for the
    /// blocked one, so that the numbers of both stay the same whichever comes first.
    pub(super) fn take(
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

    /// The shared context in which nothing is mapped; `make` makes it when it is not there.
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

    /// Takes a context back, whose user has tried to switch it off. Its tables go back to their allocator only with the
    /// hardware's word.
    pub(super) fn give_back(&self, number: u8, tables: Tables, forgotten: Arc<AtomicBool>, confirmed: bool) {
        let slot = &mut self.slots.lock()[number as usize];
        *slot = Slot::Lost(Some((tables, forgotten)));
        if confirmed || self.off.load(Ordering::Acquire) & 1 << number != 0 {
            slot.free();
        }
    }

    /// Whether the hardware has let go of a context that was given back with this flag; it is asked once more.
    pub(super) fn is_forgotten(&self, forgotten: &AtomicBool) -> bool {
        // Somebody in the middle of asking may be whom this call interrupts.
        if !forgotten.load(Ordering::Acquire)
            && let Some(mut slots) = self.slots.try_lock()
        {
            self.reclaim(&mut slots);
        }
        forgotten.load(Ordering::Acquire)
    }

    /// Asks the hardware once more about contexts that it did not let go of.
    fn reclaim(&self, slots: &mut [Slot]) {
        for number in self.layout().usable() {
            let slot = &mut slots[number as usize];
            if matches!(slot, Slot::Lost(_)) && self.switch_off(number).is_ok_and(|off| off) {
                slot.free();
            }
        }
    }

    /// Switches a context off and waits until nothing of it is cached here. False when that does not end.
    fn switch_off(&self, number: u8) -> Result<bool, IoError> {
        self.regs.write(number, regs::IMCTR, regs::IMCTR_FLUSH)?;
        poll(
            || self.clock.now(),
            regs::FLUSH_LIMIT,
            || Ok(self.regs.read(number, regs::IMCTR)? & regs::IMCTR_FLUSH == 0),
        )
    }

    /// Leaves the hardware with every context off, and nothing of one cached.
    pub(super) fn shut_down(&self) {
        let mut slots = self.slots.lock();
        for number in self.layout().usable() {
            // Registers that do not answer any more belong to hardware that is gone, or that walks on: no word of it
            // ever frees these tables.
            if self.switch_off(number).is_ok_and(|off| off) {
                self.off.fetch_or(1 << number, Ordering::Release);
                if let slot @ Slot::Lost(_) = &mut slots[number as usize] {
                    slot.free();
                }
            }
        }
    }

    /// The user of a context.
    pub(super) fn user(&self, number: u8) -> Option<Arc<Context>> {
        match &self.slots.lock()[number as usize] {
            Slot::Used(context) => context.upgrade(),
            Slot::Free | Slot::Lost(_) => None,
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for slot in self.slots.lock().drain(..) {
            if let Slot::Lost(Some((tables, _))) = slot {
                // The hardware may walk these tables for ever: their pages must not be used again (P2).
                core::mem::forget(tables);
            }
        }
    }
}
