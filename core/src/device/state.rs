//! A device of a machine.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::{DeviceDesc, NodeId};
use crate::claim::Claim;
use crate::context::{Awaited, Context};
use crate::env::Instant;
use crate::instrument::CoveragePoint;
use crate::lifecycle::Phase;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{Guard, Mutex, is_scheduled, record_wait};
use crate::translation::IommuError;

/// The binding of a device, as far as the device itself knows it. `binding` knows the rest.
pub(crate) trait CurrentBinding: Any + Send + Sync {
    /// Name of the driver.
    fn driver(&self) -> &'static str;
}

/// A device: what firmware says of it, and who holds it.
pub struct Device {
    node: NodeId,
    desc: DeviceDesc,
    /// The device lock. Held across probe and unbind. Lock order: device lock, registry, group, everything else; never
    /// two device locks at a time, but a parent's before its child's.
    lock: Mutex<()>,
    /// What the holder of that lock does, and since when. A leaf lock.
    locked_by: Mutex<Option<(&'static str, Instant)>>,
    phase: AtomicU8,
    binding: Mutex<Option<Arc<dyn CurrentBinding>>>,
    driver_override: Mutex<Option<Arc<str>>>,
    /// Why its IOMMU did not take it in when that was tried last. A leaf lock.
    pub(crate) not_joined: Mutex<Option<IommuError>>,
    /// The driver's name while the device's `driver` link is visible in the control tree.
    pub(crate) visible_driver: Mutex<Option<&'static str>>,
    /// Which of the machine's bindings its last one was, counting from 1.
    pub(crate) bound_seq: AtomicU64,
    /// What the env's own device holds for as long as it is there.
    pub(crate) env_claims: Mutex<Vec<Arc<Claim>>>,
    /// Left its bus; nothing may bind it any more.
    removed: AtomicBool,
    /// Its registers do not answer any more.
    gone: AtomicBool,
    /// A pass-through user had it, and it could not be reset since (P12).
    pub(crate) left_by_user: AtomicBool,
}

impl Device {
    pub(crate) fn new(node: NodeId, desc: DeviceDesc) -> Arc<Self> {
        Arc::new(Self {
            node,
            desc,
            lock: Mutex::new(()),
            locked_by: Mutex::new(None),
            phase: AtomicU8::new(Phase::Unbound as u8),
            binding: Mutex::new(None),
            driver_override: Mutex::new(None),
            not_joined: Mutex::new(None),
            visible_driver: Mutex::new(None),
            bound_seq: AtomicU64::new(0),
            env_claims: Mutex::new(Vec::new()),
            removed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            left_by_user: AtomicBool::new(false),
        })
    }

    /// Name on its bus.
    pub fn name(&self) -> &str {
        &self.desc.name
    }

    /// Its firmware node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What firmware says of it.
    pub fn desc(&self) -> &DeviceDesc {
        &self.desc
    }

    /// Where it is in its life with a driver.
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Acquire))
    }

    /// Follows the transition table.
    ///
    /// # Panics
    ///
    /// When the table has no such transition: a fault of the core, not of its users.
    pub(crate) fn set_phase(&self, context: &Context, next: Phase) {
        let now = self.phase();
        assert!(now.may_become(next), "{}: no transition from {now} to {next}", self.name());
        self.phase.store(next as u8, Ordering::Release);
        context.cover(CoveragePoint::Transition(now, next));
    }

    /// The driver that holds it, from the beginning of its probe to the end of the way back.
    pub fn driver(&self) -> Option<&'static str> {
        self.binding.lock().as_ref().map(|b| b.driver())
    }

    /// The only driver that may bind it, when `driver_override` is set.
    pub fn driver_override(&self) -> Option<Arc<str>> {
        self.driver_override.lock().clone()
    }

    /// Sets or clears `driver_override`. Does not unbind or probe anything.
    pub fn set_driver_override(&self, driver: Option<&str>) {
        *self.driver_override.lock() = driver.map(Arc::from);
    }

    /// True once its registers do not answer any more.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// True once it has left its bus.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Takes the device lock, to do `what`.
    ///
    /// A wait that lasts is told, with who holds the lock. Interrupts and timers may run meanwhile.
    pub(crate) fn acquire(&self, context: &Context, what: &'static str) -> DeviceLock<'_> {
        let now = || context.env().now();
        if let Some(lock) = self.try_acquire(what, now()) {
            return lock;
        }
        if is_scheduled() {
            // The scheduler says when it is free, and whether it ever will be.
            let by = self.lock_holder().map_or_else(String::new, |(by, _)| format!(" ({by})"));
            let _waits =
                record_wait(|| format!("{what} waits for the device lock of {}, {}{by}", self.name(), self.phase()));
            // Named already; not once more by where it is taken.
            return self.locked(self.lock.lock(), what, now());
        }
        let mut taken = None;
        let try_it = || {
            taken = self.try_acquire(what, now());
            taken.is_some()
        };
        context.wait_for_users(self.name(), try_it, || self.lock_holder().into_iter().collect());
        taken.unwrap_or_else(|| self.locked(self.lock.lock(), what, now()))
    }

    /// Takes the device lock if it is free.
    pub(crate) fn try_acquire(&self, what: &'static str, now: Instant) -> Option<DeviceLock<'_>> {
        self.lock.try_lock().map(|guard| self.locked(guard, what, now))
    }

    fn locked<'d>(&'d self, guard: Guard<'d, ()>, what: &'static str, now: Instant) -> DeviceLock<'d> {
        *self.locked_by.lock() = Some((what, now));
        DeviceLock { device: self, _guard: guard }
    }

    /// Who has the device lock, and since when.
    fn lock_holder(&self) -> Option<Awaited> {
        let (what, since) = (*self.locked_by.lock())?;
        let driver = self.driver().map_or_else(String::new, |driver| format!(", driver {driver}"));
        Some((format!("{what} that has the device lock ({}{driver})", self.phase()), since))
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    pub(crate) fn current(&self) -> Option<Arc<dyn CurrentBinding>> {
        self.binding.lock().clone()
    }

    pub(crate) fn set_current(&self, binding: Option<Arc<dyn CurrentBinding>>) {
        let old = core::mem::replace(&mut *self.binding.lock(), binding);
        // Outside the lock: the last owner's destructor may look at the device.
        drop(old);
    }
}

/// The device lock, held.
pub(crate) struct DeviceLock<'d> {
    device: &'d Device,
    _guard: Guard<'d, ()>,
}

impl Drop for DeviceLock<'_> {
    fn drop(&mut self) {
        // Before the guard goes: the next holder says who it is.
        *self.device.locked_by.lock() = None;
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, {})", self.name(), self.phase())
    }
}
