//! Work items: code of a driver that runs later, on a thread of its own, with the driver data.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;

use super::{Binding, Driver};
use crate::binding::{Activity, Bound, ResourceError, Run, WorkEntry, WorkItem};
use crate::system::System;

/// Deferred work of a binding: scheduled from anywhere, an interrupt handler or itself included, it runs soon, or after a delay,
/// as a time-out (Linux: `struct delayed_work`).
///
/// It runs with the driver data and as its user: tear-down cancels what has not begun and waits for what runs before the data is dropped
/// (P5). During probe it waits until the device is bound. It runs on a thread that holds no locks, so it may wait and take the
/// driver's locks; on a target [without threads](crate::env::Env::spawn) it runs where timers do, inside a wait, and must not take a
/// lock that is held across one. Items run concurrently with each other and everything else, but never with themselves: scheduled while it runs,
/// an item runs once more.
///
/// An item may unbind or remove its own device: that is done after it has returned.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::binding::{Bound, Mmio};
/// use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced, Work};
/// use bindery::sync::atomic::{AtomicBool, Ordering};
/// use core::time::Duration;
///
/// struct Led;
///
/// struct Lamp<'b> {
///     on: AtomicBool,
///     blink: Work<'b>,
/// }
///
/// impl Lamp<'_> {
///     fn toggle(&self) {
///         self.on.fetch_xor(true, Ordering::Relaxed);
///         self.blink.schedule_after(Duration::from_millis(500));
///     }
/// }
///
/// impl Driver for Led {
///     const NAME: &'static str = "led";
///     const MATCHES: &'static [Match] = &[Match::compatible("acme,led")];
///     type Data<'b> = Lamp<'b>;
///
///     fn probe<'b>(&self, dev: Bound<'b>) -> Result<Lamp<'b>, ProbeError> {
///         let blink = dev.work::<Self>("blink", |lamp| lamp.toggle())?;
///         blink.schedule();
///         Ok(Lamp { on: AtomicBool::new(false), blink })
///     }
///
///     fn quiesce(_: &Lamp<'_>) -> Result<Quiesced, QuiesceError> {
///         Ok(Quiesced::never_started())
///     }
/// }
/// # let machine = example::machine();
/// # machine.register(Led);
/// # let mut desc = bindery::device::DeviceDesc::new("led");
/// # desc.compatible.push("acme,led".into());
/// # machine.add_device(desc)?;
/// # assert_eq!(machine.settle().bound, 1);
/// # machine.unbind("led", "led")?;
/// # assert_eq!(machine.promises().broken(), []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Work<'b> {
    dev: Bound<'b>,
    item: Arc<WorkItem>,
}

impl<'b> Bound<'b> {
    /// Adds a work item that calls `run` with the data of this driver, which is `D`. `run` owns what it uses beside the data. `what`
    /// names it in reports.
    ///
    /// # Errors
    ///
    /// [`ResourceError::OtherDriver`] when `D` is not the driver of this binding, [`ResourceError::Unbinding`] once it is being torn
    /// down, [`ResourceError::GroupReleased`] once the devres group is released.
    pub fn work<D: Driver>(
        &self,
        what: &'static str,
        run: impl for<'x> Fn(&D::Data<'x>) + Send + Sync + 'static,
    ) -> Result<Work<'b>, ResourceError> {
        let binding = Arc::downgrade(&self.state.binding_of::<D>()?);
        let item = self.state.add_work(what, Box::new(DataRun { binding, what, run }));
        self.state.push(self.tag, WorkEntry(Arc::clone(&item)))?;
        Ok(Work { dev: *self, item })
    }
}

impl Work<'_> {
    /// Runs the item soon. If it waits for a delay, that ends; if it runs, it runs once more afterwards. Returns false once
    /// the binding ends, or the item's devres group was released: it will not run.
    pub fn schedule(&self) -> bool {
        self.schedule_after(Duration::ZERO)
    }

    /// Runs the item after `delay`, counted from now, instead of any earlier or later time for which it is scheduled
    /// (Linux: `mod_delayed_work`). Returns false as [`schedule`](Self::schedule) does.
    pub fn schedule_after(&self, delay: Duration) -> bool {
        schedule(self.dev.state.system(), &self.item, delay)
    }

    /// Handle to schedule the item, for a closure that owns what it uses, such as the handler of
    /// [`Bound::request_irq`]. It may outlive the binding.
    pub fn handle(&self) -> WorkHandle {
        WorkHandle { system: Arc::downgrade(self.dev.state.system()), item: Arc::clone(&self.item) }
    }

    /// Cancels the item if it has not begun. Returns true if it was scheduled. It may be running: see
    /// [`cancel_sync`](Self::cancel_sync).
    pub fn cancel(&self) -> bool {
        self.dev.state.system().work().cancel(self.item.id)
    }

    /// As [`cancel`](Self::cancel), and waits until the item does not run. The caller must hold no lock that the item takes. Called by the
    /// item itself it does not wait.
    pub fn cancel_sync(&self) -> bool {
        self.dev.state.cancel_work(&self.item)
    }

    /// True while it is scheduled and has not begun.
    pub fn is_pending(&self) -> bool {
        self.dev.state.system().work().is_pending(self.item.id)
    }
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = if self.is_pending() { ", scheduled" } else { "" };
        write!(f, "Work({}{pending})", self.item.what)
    }
}

/// Schedules a work item from code that may outlive its binding; then it does nothing.
#[derive(Clone)]
pub struct WorkHandle {
    system: Weak<System>,
    item: Arc<WorkItem>,
}

impl WorkHandle {
    /// As [`Work::schedule`].
    pub fn schedule(&self) -> bool {
        self.schedule_after(Duration::ZERO)
    }

    /// As [`Work::schedule_after`].
    pub fn schedule_after(&self, delay: Duration) -> bool {
        self.system.upgrade().is_some_and(|system| schedule(&system, &self.item, delay))
    }
}

impl fmt::Debug for WorkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkHandle({})", self.item.what)
    }
}

fn schedule(system: &System, item: &WorkItem, delay: Duration) -> bool {
    let Some(earlier) = system.work().schedule(item.id, system.env().now() + delay) else { return false };
    if earlier {
        system.work_scheduled();
    }
    true
}

/// Closure of a work item, and the binding with whose data it is called.
struct DataRun<D: Driver, F> {
    /// Weak: the item belongs to the binding.
    binding: Weak<Binding<D>>,
    what: &'static str,
    run: F,
}

impl<D: Driver, F: for<'x> Fn(&D::Data<'x>) + Send + Sync> Run for DataRun<D, F> {
    fn run(&self) {
        if let Some(binding) = self.binding.upgrade() {
            binding.with(Activity::Work(self.what), |data| (self.run)(data));
        }
    }
}
