//! Values in driver data that are released together with their resources.

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::{Bound, DevresGroup};
use crate::lifecycle::Quiesced;

/// Value together with the devres group of the resources that it was made of: one queue of a controller, one port.
///
/// It may be stored in driver data, next to others, while the handles in the value have the lifetime of the binding. Dropping it
/// drops the value and then releases exactly its resources, newest first: registers, interrupts, work items and actions, DMA memory
/// that an IOMMU takes from the device, and, once the device is [known to be quiesced](Bound::mark_quiesced), DMA memory without
/// one. What cannot be shown to be out of use stays on the ledger until the binding ends (P11): memory of an untranslated device that may
/// still run, and DMA memory whose handles are not in the value any more: they were moved out, exchanged with another value's, or cloned (a
/// pool). [`release`](Self::release) is the driver's statement that
/// the device does not use the resources any more. While a binding is being torn down, and when the value was forgotten (P9), the unwinder
/// releases the resources in its order.
///
/// A handle that was moved out of the value gets errors after the release: accesses to registers fail, an interrupt does not come.
///
/// The release of an interrupt waits for its handler, so the handler itself, its threaded part included, must not drop or release the
/// `Devres` that holds its interrupt: it would wait for itself. A [work item](crate::driver::Work) may do that, also its own.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::binding::{Bound, Devres};
/// use bindery::dma::{CoherentSlice, DmaError};
///
/// struct Queue<'b> {
///     commands: CoherentSlice<'b, [u64; 8]>,
///     results: CoherentSlice<'b, [u64; 2]>,
/// }
///
/// fn queue<'b>(dev: Bound<'b>, depth: usize) -> Result<Devres<'b, Queue<'b>>, DmaError> {
///     // If the second one fails, the first one is released.
///     dev.devres(|dev| {
///         let commands = dev.dma().coherent_slice(depth)?;
///         Ok(Queue { commands, results: dev.dma().coherent_slice(depth)? })
///     })
/// }
///
/// # example::bind(|dev| {
/// let before = dev.resources().len();
/// let mut queues = vec![queue(dev, 16)?, queue(dev, 32)?];
/// queues[0].commands.write(0, &[0; 8]);
/// // ... the device has deleted the first queue ...
/// queues.remove(0).release();
/// assert_eq!(dev.resources().len(), before + 2);
/// assert_eq!(queues[0].results.len(), 32);
/// # Ok(())
/// # });
/// ```
pub struct Devres<'b, T> {
    // Field order: the value is dropped before its resources are released.
    value: T,
    group: ReleasedOnDrop<'b>,
}

/// Group whose resources are released when it is dropped.
struct ReleasedOnDrop<'b>(DevresGroup<'b>);

impl<'b> Bound<'b> {
    /// Calls `acquire` with a handle whose resources belong to a new devres group, and keeps the result together with that group.
    ///
    /// # Errors
    ///
    /// The error of `acquire`; what it had acquired was released.
    pub fn devres<T, E>(&self, acquire: impl FnOnce(Self) -> Result<T, E>) -> Result<Devres<'b, T>, E> {
        let group = ReleasedOnDrop(self.devres_group());
        let value = acquire(group.0.bound)?;
        Ok(Devres { value, group })
    }
}

impl<T> Devres<'_, T> {
    /// Drops the value, and releases its resources. By this call the driver states that the device does not use them any more.
    pub fn release(self) {
        let Self { value, group } = self;
        drop(value);
        group.release(&|| Some(Quiesced::stopped()));
    }
}

impl ReleasedOnDrop<'_> {
    fn release(&self, quiesced: &dyn Fn() -> Option<Quiesced>) {
        // Once unwinding has begun there is one path by which resources are released (P3), and one proof (P11): the unwinder's.
        if !self.0.bound.state.ledger.is_closed() {
            self.0.release_from_data(quiesced);
        }
    }
}

impl Drop for ReleasedOnDrop<'_> {
    fn drop(&mut self) {
        self.release(&|| self.0.bound.state.quiesce_proof());
    }
}

impl<T> Deref for Devres<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Devres<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Devres<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with its resources", self.value)
    }
}
