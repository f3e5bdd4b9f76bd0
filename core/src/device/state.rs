//! A device of a machine.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::{DeviceDesc, NodeId};
use crate::bus::BusDevice;
use crate::claim::Claim;
use crate::context::{Awaited, Context};
use crate::env::Instant;
use crate::instrument::CoveragePoint;
use crate::lifecycle::{Phase, Quiesced};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{LockLevel, Mutex, MutexGuard, SpinLock, is_scheduled, record_wait};
use crate::translation::IommuError;

/// Binding of a device, reduced to what this module needs; `binding` has the full type.
pub(crate) trait CurrentBinding: Any + Send + Sync {
    /// Name of the driver.
    fn driver(&self) -> &'static str;
}

/// Numbers of a device's `compatible` values in the index of its machine, in their order.
pub(crate) enum MatchNumbers {
    One(u32),
    Many(Box<[u32]>),
}

impl MatchNumbers {
    /// Number of value `at`.
    pub(crate) fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::One(number) => Some(*number).filter(|_| at == 0),
            Self::Many(numbers) => numbers.get(at).copied(),
        }
    }
}

/// Device of a machine: its firmware description and its binding.
pub struct Device {
    node: NodeId,
    desc: DeviceDesc,
    numbers: MatchNumbers,
    bus: Option<Arc<dyn BusDevice>>,
    /// The device lock. Held across probe and unbind. Lock order: device lock, registry, group, everything else; never
    /// two device locks at a time, but a parent's before its child's.
    lock: Mutex<()>,
    /// Operation that holds the device lock, and its start. A leaf lock.
    locked_by: SpinLock<Option<(&'static str, Instant)>>,
    phase: AtomicU8,
    binding: SpinLock<Option<Arc<dyn CurrentBinding>>>,
    driver_override: SpinLock<Option<Arc<[u8]>>>,
    /// True while `driver_override` is set, to be read without the lock.
    has_override: AtomicBool,
    /// Error of the latest attempt to add the device to its IOMMU. A leaf lock.
    pub(crate) not_joined: SpinLock<Option<IommuError>>,
    /// The driver's name while the device's `driver` link is visible in the control tree.
    pub(crate) visible_driver: SpinLock<Option<&'static str>>,
    /// True once it has been bound.
    pub(crate) was_bound: AtomicBool,
    /// False when `power/control` forbids that it is suspended while it runs.
    pub(crate) power_auto: AtomicBool,
    /// `power/async`: it may be suspended beside others.
    pub(crate) power_async: AtomicBool,
    /// Sequence number of the device's latest binding within its machine, from 1.
    pub(crate) bound_seq: AtomicU64,
    /// Claims of an env-owned device, held while it is present.
    pub(crate) env_claims: SpinLock<Vec<Arc<Claim>>>,
    /// True once it has left its bus; it cannot be bound any more.
    removed: AtomicBool,
    /// True once its registers no longer respond.
    gone: AtomicBool,
    /// It is gone because its link is down. Written before `gone`.
    link_down: AtomicBool,
    /// True while it has not been reset since its latest pass-through owner (P12).
    pub(crate) left_by_user: AtomicBool,
    /// True while nothing but its bus keeps it from accessing memory: nothing is known of what it did before it was added, or its
    /// driver did not stop it; and it has not been reset.
    pub(crate) cut_off: AtomicBool,
}

impl From<&Device> for NodeId {
    fn from(device: &Device) -> Self {
        device.node()
    }
}

impl From<&Arc<Device>> for NodeId {
    fn from(device: &Arc<Device>) -> Self {
        device.node()
    }
}

impl Device {
    /// Device that no index knows.
    #[cfg(test)]
    pub(crate) fn new(node: NodeId, desc: DeviceDesc, bus: Option<Arc<dyn BusDevice>>) -> Arc<Self> {
        Self::numbered(node, desc, MatchNumbers::Many(Box::default()), bus)
    }

    /// Device whose `compatible` values have `numbers`.
    pub(crate) fn numbered(
        node: NodeId,
        desc: DeviceDesc,
        numbers: MatchNumbers,
        bus: Option<Arc<dyn BusDevice>>,
    ) -> Arc<Self> {
        let cut_off = bus.is_some();
        Arc::new(Self {
            node,
            desc,
            numbers,
            bus,
            lock: Mutex::new(()).at(LockLevel::Device).nesting(),
            locked_by: SpinLock::new(None),
            phase: AtomicU8::new(Phase::Unbound as u8),
            binding: SpinLock::new(None),
            driver_override: SpinLock::new(None),
            has_override: AtomicBool::new(false),
            not_joined: SpinLock::new(None),
            visible_driver: SpinLock::new(None),
            was_bound: AtomicBool::new(false),
            power_auto: AtomicBool::new(true),
            power_async: AtomicBool::new(false),
            bound_seq: AtomicU64::new(0),
            env_claims: SpinLock::new(Vec::new()),
            removed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            link_down: AtomicBool::new(false),
            left_by_user: AtomicBool::new(false),
            cut_off: AtomicBool::new(cut_off),
        })
    }

    /// Name of the device on its bus.
    pub fn name(&self) -> &str {
        &self.desc.name
    }

    /// Firmware node of the device.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Firmware description of the device.
    pub fn desc(&self) -> &DeviceDesc {
        &self.desc
    }

    /// Numbers of the device's `compatible` values in the index of its machine.
    pub(crate) fn numbers(&self) -> &MatchNumbers {
        &self.numbers
    }

    /// The device's bus, when it was added by the driver of one.
    pub(crate) fn bus(&self) -> Option<&Arc<dyn BusDevice>> {
        self.bus.as_ref()
    }

    /// Phase of the device's binding.
    pub fn phase(&self) -> Phase {
        // Acquire: whoever sees a phase also sees the steps that led to it.
        Phase::from_u8(self.phase.load(Ordering::Acquire))
    }

    /// Changes the phase along the transition table.
    ///
    /// # Panics
    ///
    /// If the table has no such transition: a bug of the core, not of its users.
    pub(crate) fn set_phase(&self, context: &Context, next: Phase) {
        let now = self.phase();
        assert!(now.may_become(next), "{}: no transition from {now} to {next}", self.name());
        // Release: pairs with the load in `phase`. Writers hold the device lock, so load and store need not be one step.
        self.phase.store(next as u8, Ordering::Release);
        context.cover(CoveragePoint::Transition(now, next));
    }

    /// Name of the driver, from the start of its probe to the end of unwinding.
    pub fn driver(&self) -> Option<&'static str> {
        self.binding.lock().as_ref().map(|b| b.driver())
    }

    /// Name of the only driver that may bind the device, when `driver_override` is set. Bytes that are not UTF-8, which no
    /// driver's name has, become U+FFFD.
    #[inline]
    pub fn driver_override(&self) -> Option<Arc<str>> {
        if self.is_overridden() { self.override_text() } else { None }
    }

    #[cold]
    fn override_text(&self) -> Option<Arc<str>> {
        self.override_bytes().map(|name| String::from_utf8_lossy(&name).into())
    }

    /// True while `driver_override` is set.
    #[inline]
    fn is_overridden(&self) -> bool {
        // Acquire: whoever sees the flag sees the value, too. One who misses it comes before the setting.
        self.has_override.load(Ordering::Acquire)
    }

    /// Number of the device's latest binding among all of its machine, from 1; 0 before the first.
    pub fn latest_binding(&self) -> u64 {
        // Relaxed: a number beside which nothing is read.
        self.bound_seq.load(Ordering::Relaxed)
    }

    /// True once the device has been bound.
    pub(crate) fn has_been_bound(&self) -> bool {
        // Relaxed: a flag that is set once, beside which nothing is read.
        self.was_bound.load(Ordering::Relaxed)
    }

    /// Value of `driver_override`.
    pub(crate) fn override_bytes(&self) -> Option<Arc<[u8]>> {
        if !self.is_overridden() {
            return None;
        }
        self.driver_override.lock().clone()
    }

    /// Sets or clears `driver_override`. Does not unbind or probe anything.
    pub fn set_driver_override(&self, driver: Option<&str>) {
        self.set_override_bytes(driver.map(str::as_bytes));
    }

    /// Sets or clears `driver_override`, to any bytes.
    pub(crate) fn set_override_bytes(&self, driver: Option<&[u8]>) {
        let mut value = self.driver_override.lock();
        *value = driver.map(Arc::from);
        // Release: pairs with the load in `override_bytes`. Set under the lock, so that it agrees with the value.
        self.has_override.store(driver.is_some(), Ordering::Release);
    }

    /// Returns true once its registers no longer respond.
    pub fn is_gone(&self) -> bool {
        // Acquire: pairs with `set_gone`.
        self.gone.load(Ordering::Acquire)
    }

    /// Proof that it does nothing any more, once its registers no longer respond.
    pub(crate) fn gone_proof(&self) -> Option<Quiesced> {
        // Relaxed: written before `gone`, which is read first.
        let how = || if self.link_down.load(Ordering::Relaxed) { Quiesced::link_down() } else { Quiesced::gone() };
        self.is_gone().then(how)
    }

    /// Returns true once it has left its bus.
    pub fn is_removed(&self) -> bool {
        // Acquire: pairs with `set_removed`.
        self.removed.load(Ordering::Acquire)
    }

    /// Acquires the device lock for operation `what`.
    ///
    /// A long wait is reported, with the holder of the lock. Interrupts and timers may run meanwhile.
    pub(crate) fn acquire(&self, context: &Context, what: &'static str) -> DeviceLock<'_> {
        let now = || context.env().now();
        self.lock.check_order();
        // The first one, that before the wait, and that after the thread was registered as a waiter.
        let mut attempts = self.lock.attempts(3);
        if let Some(guard) = attempts.lock() {
            return self.locked(guard, what, now());
        }
        if is_scheduled() {
            // The scheduler knows when the lock becomes free, and detects a deadlock.
            let by = self.lock_holder().map_or_else(String::new, |(by, _)| format!(" ({by})"));
            let _waits =
                record_wait(|| format!("{what} waits for the device lock of {}, {}{by}", self.name(), self.phase()));
            // The wait is recorded above with its purpose; locking must not record it again by location.
            return self.locked(self.lock.lock(), what, now());
        }
        let mut taken = None;
        let try_it = || {
            taken = attempts.lock().map(|guard| self.locked(guard, what, now()));
            taken.is_some()
        };
        context.wait_for_users(self.name(), self.lock.waiters(), try_it, || self.lock_holder().into_iter().collect());
        taken.unwrap_or_else(|| self.locked(self.lock.lock(), what, now()))
    }

    /// Acquires the device lock if it is free.
    pub(crate) fn try_acquire(&self, what: &'static str, now: Instant) -> Option<DeviceLock<'_>> {
        self.lock.try_lock().map(|guard| self.locked(guard, what, now))
    }

    fn locked<'d>(&'d self, guard: MutexGuard<'d, ()>, what: &'static str, now: Instant) -> DeviceLock<'d> {
        *self.locked_by.lock() = Some((what, now));
        DeviceLock { device: self, _guard: guard }
    }

    /// Description of the holder of the device lock, and the time since which it holds it.
    fn lock_holder(&self) -> Option<Awaited> {
        let (what, since) = (*self.locked_by.lock())?;
        let driver = self.driver().map_or_else(String::new, |driver| format!(", driver {driver}"));
        Some((format!("{what} that has the device lock ({}{driver})", self.phase()), since))
    }

    /// Records that its registers no longer respond, and the proof.
    pub(crate) fn set_gone(&self, proof: &Quiesced) {
        // The first one counts: a device that was pulled out may lose its link later.
        if !self.is_gone() && *proof == Quiesced::link_down() {
            self.link_down.store(true, Ordering::Relaxed);
        }
        // Release: whoever sees the flag also sees the state that the removal left behind.
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn set_removed(&self) {
        // Release: whoever sees the flag also sees the removal from the bus.
        self.removed.store(true, Ordering::Release);
    }

    pub(crate) fn current(&self) -> Option<Arc<dyn CurrentBinding>> {
        self.binding.lock().clone()
    }

    pub(crate) fn set_current(&self, binding: Option<Arc<dyn CurrentBinding>>) {
        let old = core::mem::replace(&mut *self.binding.lock(), binding);
        // Dropped outside the lock: the destructor of the last reference may access the device.
        drop(old);
    }
}

/// Guard of the device lock.
pub(crate) struct DeviceLock<'d> {
    device: &'d Device,
    _guard: MutexGuard<'d, ()>,
}

impl Drop for DeviceLock<'_> {
    fn drop(&mut self) {
        // Cleared before the lock is released, so that it cannot erase the next holder's entry.
        *self.device.locked_by.lock() = None;
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, {})", self.name(), self.phase())
    }
}
