//! A device of a machine.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{DeviceDesc, NodeId};
use crate::binding::{AnyBinding, Phase};
use crate::claim::Claim;
use crate::env::{Env, Landmark};
use crate::iommu::IommuError;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{Guard, Mutex, waits};

/// A device: what firmware says of it, and who holds it.
pub struct Device {
    node: NodeId,
    desc: DeviceDesc,
    /// The device lock. Held across probe and unbind. Lock order: device lock, registry, group, everything else; never
    /// two device locks at a time, but a parent's before its child's.
    pub(crate) lock: Mutex<()>,
    phase: AtomicU8,
    binding: Mutex<Option<Arc<dyn AnyBinding>>>,
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
    pub(crate) fn set_phase(&self, env: &dyn Env, next: Phase) {
        let now = self.phase();
        assert!(now.may_become(next), "{}: no transition from {now} to {next}", self.name());
        self.phase.store(next as u8, Ordering::Release);
        env.passes(Landmark::Transition(now, next));
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
    pub(crate) fn acquire(&self, what: &'static str) -> Guard<'_, ()> {
        self.lock.try_lock().unwrap_or_else(|| {
            let _waits = waits(|| format!("{what} waits for the device lock of {}, {}", self.name(), self.phase()));
            self.lock.lock()
        })
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    pub(crate) fn binding(&self) -> Option<Arc<dyn AnyBinding>> {
        self.binding.lock().clone()
    }

    pub(crate) fn set_binding(&self, binding: Option<Arc<dyn AnyBinding>>) {
        let old = core::mem::replace(&mut *self.binding.lock(), binding);
        // Outside the lock: the last owner's destructor may look at the device.
        drop(old);
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, {})", self.name(), self.phase())
    }
}
