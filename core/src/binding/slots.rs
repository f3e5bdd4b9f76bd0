//! Per-binding state of higher floors, by type.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use crate::sync::SpinLock;

/// At most one value of each type, in order of insertion. A leaf lock.
///
/// Holds the DMA set-up of the binding, the group and domain of its device, its clocks: state that is private to one module.
#[derive(Default)]
pub(crate) struct Slots(SpinLock<Vec<Arc<dyn Any + Send + Sync>>>);

impl Slots {
    /// The value of type `T`.
    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        // Newest first: DMA is set up last and looked up most often.
        let slots = self.0.lock();
        let found = slots.iter().rev().find(|slot| slot.is::<T>())?;
        Arc::clone(found).downcast().ok()
    }

    /// The value of type `T`, created if there is none.
    pub(crate) fn get_or_default<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut slots = self.0.lock();
        if let Some(known) = slots.iter().find_map(|slot| Arc::clone(slot).downcast().ok()) {
            return known;
        }
        let new = Arc::<T>::default();
        slots.push(Arc::<T>::clone(&new));
        new
    }

    /// Inserts `value`, replacing any earlier one of its type.
    pub(crate) fn put<T: Any + Send + Sync>(&self, value: Arc<T>) {
        let mut slots = self.0.lock();
        slots.retain(|slot| !slot.is::<T>());
        slots.push(value);
    }

    /// Removes the value of type `T`.
    pub(crate) fn take<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let mut slots = self.0.lock();
        let at = slots.iter().position(|slot| slot.is::<T>())?;
        slots.remove(at).downcast().ok()
    }
}
