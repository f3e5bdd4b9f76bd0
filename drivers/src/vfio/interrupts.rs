//! Interrupts of a device in a user's hands: its lines, or messages.
//!
//! The host writes the capability, supplies address and data, and maps the doorbell; the user chooses kind and number, as
//! `VFIO_DEVICE_SET_IRQS` does. One kind is on at a time, and its ledger entries are one devres group.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bindery::binding::{Bound, DevresGroup, ResourceError};
use bindery::driver::{Client, IrqReturn};
use bindery::sync::Mutex;
use bindery::vectors::VectorKind;

use super::callbacks::{Callback, Callbacks};
use super::shared::Shared;
use super::{Vfio, VfioError, VfioPci};

/// The interrupts that a device signals.
pub(super) struct Interrupts<'b> {
    dev: Bound<'b>,
    shared: Arc<Shared>,
    /// Kind and group; `None` when it signals none. Held while they change, which waits for handlers.
    current: Mutex<Option<(VectorKind, DevresGroup<'b>)>>,
}

impl<'b> Interrupts<'b> {
    /// Those of `dev`: its lines.
    pub(super) fn new(dev: Bound<'b>, shared: &Arc<Shared>) -> Result<Self, ResourceError> {
        let interrupts = Self { dev, shared: Arc::clone(shared), current: Mutex::new(None) };
        interrupts.use_lines()?;
        Ok(interrupts)
    }

    /// Has the device signal by its lines, before a user gets it.
    pub(super) fn use_lines(&self) -> Result<(), ResourceError> {
        let mut current = self.current.lock();
        let lines = self.dev.vector_count(VectorKind::Line);
        if self.has_all_lines(current.as_ref()) { Ok(()) } else { self.change(&mut current, VectorKind::Line, lines) }
    }

    fn has_all_lines(&self, current: Option<&(VectorKind, DevresGroup<'b>)>) -> bool {
        let lines = self.dev.vector_count(VectorKind::Line);
        current.map_or(lines == 0, |(kind, _)| *kind == VectorKind::Line && self.shared.irqs() == lines)
    }

    /// As [`Session::signal_by`](super::Session::signal_by). Returns the callbacks of the interrupts before.
    fn signal_by(&self, kind: VectorKind, count: usize, callbacks: &Callbacks) -> Result<Vec<Callback>, VfioError> {
        if self.shared.is_signalling() {
            return Err(VfioError::InHandler);
        }
        let has = self.dev.vector_count(kind);
        if count == 0 || count > has {
            return Err(VfioError::NoVectors { kind, count, has });
        }
        let mut current = self.current.lock();
        self.stop(&mut current);
        // After the last one of them was delivered, and before the first of the others.
        let forgotten = callbacks.forget_interrupts();
        self.change(&mut current, kind, count).map_err(|error| VfioError::Interrupts(Box::new(error)))?;
        Ok(forgotten)
    }

    /// Ends what the user has chosen, once it has left.
    fn user_left(&self) {
        // In a handler that would wait for itself. They are masked, and end before the next user gets the device.
        if self.shared.is_signalling() {
            return;
        }
        let mut current = self.current.lock();
        if !self.has_all_lines(current.as_ref()) {
            self.stop(&mut current);
        }
    }

    fn stop(&self, current: &mut Option<(VectorKind, DevresGroup<'b>)>) {
        // Taken before they are released: nobody is to mask them any more.
        self.shared.set_irqs(Vec::new(), false);
        if let Some((_, group)) = current.take() {
            group.release();
        }
    }

    fn change(
        &self,
        current: &mut Option<(VectorKind, DevresGroup<'b>)>,
        kind: VectorKind,
        count: usize,
    ) -> Result<(), ResourceError> {
        self.stop(current);
        if count == 0 {
            return Ok(());
        }
        let group = self.dev.devres_group();
        if let Err(error) = self.request(&group, kind, count) {
            self.shared.set_irqs(Vec::new(), false);
            group.release();
            return Err(error);
        }
        *current = Some((kind, group));
        Ok(())
    }

    fn request(&self, group: &DevresGroup<'b>, kind: VectorKind, count: usize) -> Result<(), ResourceError> {
        let dev = group.bound();
        dev.vectors_by(kind, count..=count)?;
        let mut handles = Vec::with_capacity(count);
        for index in 0..count {
            let user = Arc::clone(&self.shared);
            // All of it is for task context: the user's callbacks are in a table under a lock.
            let irq = dev.request_threaded_irq(index, || IrqReturn::WakeThread, move || user.trigger(index))?;
            irq.mask();
            handles.push(irq.handle());
        }
        self.shared.set_irqs(handles, kind != VectorKind::Line);
        Ok(())
    }
}

impl fmt::Debug for Interrupts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupts({} of {})", self.shared.irqs(), self.dev.name())
    }
}

/// What a session does by the binding, as long as that lasts.
pub(super) trait Control: Send + Sync {
    /// Number of interrupts that the device can signal by `kind`.
    fn count(&self, kind: VectorKind) -> usize;
    /// As [`Session::signal_by`](super::Session::signal_by). Returns the callbacks of the interrupts before.
    fn signal_by(&self, kind: VectorKind, count: usize, callbacks: &Callbacks) -> Result<Vec<Callback>, VfioError>;
    /// Ends what the user has chosen, once it has left.
    fn user_left(&self);
}

/// The same for each driver.
macro_rules! control {
    ($driver:ty) => {
        impl Control for Client<$driver> {
            fn count(&self, kind: VectorKind) -> usize {
                self.call(|device| device.interrupts.dev.vector_count(kind)).unwrap_or(0)
            }

            fn signal_by(
                &self,
                kind: VectorKind,
                count: usize,
                callbacks: &Callbacks,
            ) -> Result<Vec<Callback>, VfioError> {
                let changed = self.call(|device| device.interrupts.signal_by(kind, count, callbacks));
                changed.unwrap_or(Err(VfioError::Revoked))
            }

            fn user_left(&self) {
                // Once the binding ends, its ledger does that.
                let _ = self.call(|device| device.interrupts.user_left());
            }
        }
    };
}

control!(Vfio);
control!(VfioPci);
