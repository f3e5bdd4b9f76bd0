//! A binding together with its driver data, which borrows from it.
//!
//! Driver data that borrows from its own binding is self-referential. Only this module deals with that.

// UNSAFETY: the lifetime of driver data is erased while it is stored, and restored, shortened, for each use.
#![expect(unsafe_code, reason = "driver data borrows from the binding that stores it")]

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::any::Any;
use core::ptr::{self, NonNull};

use super::{Driver, ProbeError, QuiesceError, Quiesced};
use crate::binding::{Activity, AnyBinding, BindingState, Bound, TrackedRundown};
use crate::promise::Promise;
use crate::sync::atomic::{AtomicPtr, Ordering};

/// Binding of a device to driver `D`.
///
/// # Invariants
///
/// - `data` is null, or owns a boxed `D::Data<'b>` whose `'b` borrows from `bound` in this very object.
/// - `bound` is not moved or dropped while `data` is not null: the object lives in an `Arc`, gives out only `Bound<'_>`, and
///   its `Drop` drops the data first.
/// - `data` changes only while `users` is closed and drained, so a guard of `users` keeps it alive and in place.
pub(crate) struct Binding<D: Driver> {
    driver: Arc<D>,
    /// A pointer and not a locked box, so that users take no lock.
    data: AtomicPtr<D::Data<'static>>,
    /// Run-down protection of the driver data.
    users: TrackedRundown,
    bound: BindingState,
}

impl<D: Driver> Binding<D> {
    pub(crate) fn new(driver: Arc<D>, bound: BindingState) -> Self {
        Self { driver, data: AtomicPtr::new(ptr::null_mut()), users: TrackedRundown::closed(), bound }
    }

    /// State of the binding.
    pub(super) fn state(&self) -> &BindingState {
        &self.bound
    }

    /// Runs `use_data` on the driver data, which stays alive and in place meanwhile. `None` once new users are refused.
    ///
    /// The closure accepts the data with any lifetime, so it cannot keep a borrow of it.
    pub(crate) fn with<R>(&self, activity: Activity, use_data: impl for<'x> FnOnce(&D::Data<'x>) -> R) -> Option<R> {
        let _user = self.users.enter_as(activity, self.bound.system().env().now())?;
        // Acquire: pairs with the release in `probe`.
        let Some(data) = NonNull::new(self.data.load(Ordering::Acquire)) else {
            self.bound.system().promises.check(Promise::NoUseAfterRevoke, false, || {
                format!("{}: a user was admitted without driver data", self.bound.name())
            });
            return None;
        };
        // SAFETY: `_user` keeps the run-down from draining, hence (third invariant) the box behind `data` alive and in
        // place. The data is only shared from here. Its true lifetime `'b` has not ended (first two invariants), and
        // `use_data` accepts every lifetime, so also that one.
        Some(use_data(unsafe { data.as_ref() }))
    }
}

impl<D: Driver> Binding<D> {
    /// Drops the driver data, if there is any. The caller has closed and drained `users`, or owns the binding.
    fn free_data(&self) {
        // AcqRel: sees what users did, and only one caller gets the pointer.
        if let Some(data) = NonNull::new(self.data.swap(ptr::null_mut(), Ordering::AcqRel)) {
            // SAFETY: the pointer came from `Box::leak` in `probe`, of a box of this type but for its lifetime, which has no
            // influence on layout or drop code. It was in `data` alone (first invariant) and is there no more; no user is
            // inside (third invariant), so it is dropped once and not used again.
            drop(unsafe { Box::from_raw(data.as_ptr()) });
        }
    }
}

impl<D: Driver> Drop for Binding<D> {
    fn drop(&mut self) {
        // Normally empty after unwinding, except when a machine was leaked. The data must be dropped before `bound`.
        self.free_data();
    }
}

impl<D: Driver> AnyBinding for Binding<D> {
    fn bound(&self) -> &BindingState {
        &self.bound
    }

    fn driver(&self) -> &'static str {
        D::NAME
    }

    fn driver_place(&self) -> *const () {
        Arc::as_ptr(&self.driver).cast()
    }

    fn probe(&self) -> Result<(), ProbeError> {
        let data = Box::new(self.driver.probe(Bound::new(&self.bound, 0))?);
        let raw = NonNull::from(Box::leak(data)).cast::<D::Data<'static>>();
        // INVARIANT: the data borrows at most from `self.bound`, because `Driver::probe` is written for every lifetime
        // of its argument. `users` is still closed.
        // Release: users see the data.
        self.data.store(raw.as_ptr(), Ordering::Release);
        Ok(())
    }

    fn open(&self) {
        self.users.reopen();
    }

    fn close(&self) {
        self.users.close();
    }

    fn request_release(&self) {
        self.with(Activity::ReleaseRequest, D::request_release);
    }

    fn quiesce(&self) -> Option<Result<Quiesced, QuiesceError>> {
        let data = NonNull::new(self.data.load(Ordering::Acquire))?;
        // SAFETY: as in `with`; only the unwinder, which calls this, removes the data, and it does so later.
        Some(D::quiesce(unsafe { data.as_ref() }))
    }

    fn drain(&self) {
        self.users.close_and_drain(self.bound.system(), self.bound.name());
    }

    fn drop_data(&self) {
        self.drain();
        self.free_data();
    }

    fn has_data(&self) -> bool {
        !self.data.load(Ordering::Acquire).is_null()
    }

    fn is_open(&self) -> bool {
        !self.users.is_closed()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
