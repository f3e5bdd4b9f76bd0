//! Per-binding state of higher floors, by type.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId};

use crate::sync::SpinLock;

/// At most one value of each type, in order of insertion. A leaf lock.
///
/// Holds the DMA set-up of the binding, the group and domain of its device, its clocks: state that is private to one module.
#[derive(Default)]
pub(crate) struct Slots(SpinLock<Vec<Slot>>);

/// A value and its type, so that looking for one of another type calls nothing.
type Slot = (TypeId, Arc<dyn Any + Send + Sync>);

impl Slots {
    /// The value of type `T`.
    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        // Newest first: DMA is set up last and looked up most often.
        let slots = self.0.lock();
        let (_, found) = slots.iter().rev().find(|(id, _)| *id == TypeId::of::<T>())?;
        Arc::clone(found).downcast().ok()
    }

    /// The value of type `T`, created if there is none.
    pub(crate) fn get_or_default<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut slots = self.0.lock();
        let known = slots.iter().find(|(id, _)| *id == TypeId::of::<T>());
        if let Some(known) = known.and_then(|(_, known)| Arc::clone(known).downcast().ok()) {
            return known;
        }
        let new = Arc::<T>::default();
        slots.push((TypeId::of::<T>(), Arc::<T>::clone(&new)));
        new
    }

    /// Inserts `value`, replacing any earlier one of its type.
    pub(crate) fn put<T: Any + Send + Sync>(&self, value: Arc<T>) {
        let mut slots = self.0.lock();
        slots.retain(|(id, _)| *id != TypeId::of::<T>());
        slots.push((TypeId::of::<T>(), value));
    }

    /// Removes the value of type `T`.
    pub(crate) fn take<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let mut slots = self.0.lock();
        let at = slots.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        slots.remove(at).1.downcast().ok()
    }
}
