//! Interface of pass-through drivers, which give their device to a guest or to a process in user space.

use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::Ioas;
use crate::addr::PhysAddr;
use crate::binding::{BindingState, Bound, TrackedRundown};
use crate::env::{Instant, Job};
use crate::event::EventKind;
use crate::iommu::{self, Domain, GroupError, GroupHold, Membership, OwnerId};
use crate::lifecycle::DmaOwner;
use crate::power::{BusResets, BusUse, DeviceReset};
use crate::sync::WaitQueue;
use crate::sync::atomic::Ordering;
use crate::system::{DeviceRegistry, System};

/// Bound device whose DMA a pass-through user controls ([`DmaOwner::PassThrough`]), as [`Bound::pass_through`] returns
/// it.
#[derive(Clone, Copy, Debug)]
pub struct PassThroughOwner<'b> {
    state: &'b BindingState,
}

impl<'b> Bound<'b> {
    /// Operations of a pass-through driver beyond those of other drivers; `None` for a kernel driver.
    pub fn pass_through(&self) -> Option<PassThroughOwner<'b>> {
        (self.state.owner() == DmaOwner::PassThrough).then_some(PassThroughOwner { state: self.state })
    }
}

impl PassThroughOwner<'_> {
    /// Address space of the device; `None` before its domain is attached.
    pub fn io_address_space(&self) -> Option<Ioas> {
        let bound = self.state;
        let domain = bound.slots.get::<Domain>()?;
        let member = bound.slots.get::<Membership>().map(|member| (*member).clone());
        Some(Ioas::new(bound.system(), &bound.desc().name, member, domain))
    }

    /// Reset of the device, which a user's state does not survive; `None` when nothing resets it.
    pub fn device_reset(&self) -> Option<DeviceReset> {
        DeviceReset::of(self.state)
    }

    /// Registers of the device that are the core's, and that no user may access: the table of MSI-X, with which a device could be
    /// told to write anywhere.
    pub fn hidden_registers(&self) -> Option<(PhysAddr, u64)> {
        self.state.device().bus()?.messages().table
    }

    /// Opens the device for the pass-through owner `owner`, until the guard is dropped or the device is unbound.
    ///
    /// # Errors
    ///
    /// [`GroupError::Owned`] while another one has a device of its IOMMU group open, with that one's name (P7);
    /// [`GroupError::Bus`] while its bus is being reset for another one.
    pub fn hold_group(&self, owner: &OwnerId) -> Result<DeviceHold, GroupError> {
        let group = iommu::hold(self.state, owner)?;
        let bus = BusResets::begin_use(self.state, owner.holder())?;
        Ok(DeviceHold { _bus: bus, group })
    }

    /// Services of the host for users of the device; may outlive the binding.
    pub fn host(&self) -> PassThroughHost {
        PassThroughHost {
            device: Arc::clone(&self.state.desc().name),
            door: self.state.slots.get_or_default(),
            system: Arc::downgrade(self.state.system()),
            registry: Arc::downgrade(self.state.registry()),
        }
    }

    /// Reports a change of a user's state: `state` is one word.
    pub fn report(&self, state: &'static str, detail: fmt::Arguments<'_>) {
        self.state.emit(|| EventKind::PassThrough { state, detail: detail.to_string() });
    }
}

/// Device that a pass-through owner has open. Holding one proves that every other open device of its IOMMU group has the same owner
/// (P7), until it is dropped or the last binding of the group ends, and that no other owner's device is reset with it, until it is
/// dropped or the binding ends.
#[derive(Debug)]
#[must_use = "dropping it closes the device, and other owners may open the group"]
pub struct DeviceHold {
    /// Dropped first: whoever has the group next may have the bus.
    _bus: BusUse,
    group: GroupHold,
}

impl DeviceHold {
    /// The owner.
    pub fn owner(&self) -> &OwnerId {
        self.group.owner()
    }
}

/// Run-down protection of the operations of a binding's users. The core closes it, whatever the driver's `quiesce` says or does: a
/// device that is stopped by force is stopped under nobody's hands.
#[derive(Debug)]
struct UsersDoor(TrackedRundown);

impl Default for UsersDoor {
    fn default() -> Self {
        Self(TrackedRundown::closed())
    }
}

/// Admits the users of a device that is bound now.
pub(crate) fn admit_users(bound: &BindingState) {
    if bound.owner() == DmaOwner::PassThrough {
        // Until it is shown to be reset, however the binding ends: a driver that panics does not get to the end of its own (P12).
        // Release: pairs with the acquire in `reset_after_user`.
        bound.device().left_by_user.store(true, Ordering::Release);
        bound.slots.get_or_default::<UsersDoor>().0.reopen();
    }
}

/// Refuses the operations of users from now on, and waits for those under way.
pub(crate) fn shut_users_out(bound: &BindingState) {
    if let Some(door) = bound.slots.get::<UsersDoor>() {
        door.0.close_and_drain(bound.system(), bound.name());
    }
}

/// Services of the host for users of a pass-through device. May outlive the binding and the machine, and then does
/// nothing.
#[derive(Clone)]
pub struct PassThroughHost {
    device: Arc<str>,
    door: Arc<UsersDoor>,
    system: Weak<System>,
    registry: Weak<dyn DeviceRegistry>,
}

impl PassThroughHost {
    /// Name of the device.
    pub fn device(&self) -> &Arc<str> {
        &self.device
    }

    /// Time of the host; 0 once it is gone.
    pub fn now(&self) -> Instant {
        self.system.upgrade().map_or(Instant(0), |system| system.env().now())
    }

    /// Runs `job` soon, on a thread that holds nothing. See [`Env::spawn`](crate::env::Env::spawn).
    ///
    /// # Errors
    ///
    /// The job itself, when there is no such thread or the host is gone.
    pub fn spawn(&self, job: Job) -> Result<(), Job> {
        match self.system.upgrade() {
            Some(system) => system.env().spawn(job),
            None => Err(job),
        }
    }

    /// Reports a change of a user's state: `state` is one word.
    pub fn report(&self, state: &'static str, detail: &str) {
        if let Some(system) = self.system.upgrade() {
            system.emit(Some(&self.device), || EventKind::PassThrough { state, detail: detail.into() });
        }
    }

    /// Runs `act`, a user's operation named `what`, as driver code, which never waits for the end of a binding. `None` while the
    /// binding does not admit users: before its probe has succeeded, and once the core is about to stop the device (P5). The stop waits
    /// for the operations that are under way.
    #[track_caller]
    pub fn operate<R>(&self, what: &'static str, act: impl FnOnce() -> R) -> Option<R> {
        let (system, registry) = (self.system.upgrade()?, self.registry.upgrade()?);
        let through = self.door.0.enter(&system, what)?;
        let inside = registry.entered_driver();
        let answer = act();
        drop(through);
        registry.left_driver(inside);
        Some(answer)
    }

    /// True while users are not admitted: see [`operate`](Self::operate).
    pub fn is_closed(&self) -> bool {
        self.door.0.is_closed()
    }

    /// Waits until `over` returns true, for the users that `who` names; the last one wakes `queue`. See
    /// [`Context::wait_for_users`](crate::machine::Context::wait_for_users). False when the host is gone.
    pub fn wait_for_users(
        &self,
        queue: &WaitQueue,
        over: impl FnMut() -> bool,
        who: impl Fn() -> Vec<(String, Instant)>,
    ) -> bool {
        self.system.upgrade().map(|system| system.wait_for_users(&self.device, queue, over, who)).is_some()
    }
}

impl fmt::Debug for PassThroughHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PassThroughHost({})", self.device)
    }
}
