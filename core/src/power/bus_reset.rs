//! Resets of a device by its bus, and the devices that are reset with it.
//!
//! Where a bus can only reset all that is on it ([`BusDevice::reset_bus`]), nobody else may have a device there: each binding of a
//! kernel driver claims the buses that its device is on, one by one up to the host bridge ([`Subject::Bus`]), and so does each user of a
//! device that was passed through. A device that waits for a user is nobody's. A reset claims the bus for itself.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::SupplyError;
use crate::binding::{BindingState, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::bus::BusDevice;
use crate::claim::{Claim, Conflict, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc};
use crate::error::GroupError;
use crate::event::Outcome;
use crate::lifecycle::DmaOwner;
use crate::rundown::TrackedRundown;
use crate::sync::SpinLock;
use crate::system::System;

/// Mode in which users of devices on a bus claim it.
const USED: Mode = Mode::Shared("");
/// Longest wait for the end of another's reset of a bus, which takes 3 s at most, and the interval of looks.
const OTHERS_RESET: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(10));

/// The buses that the device of `desc` is on, the nearest one first.
fn buses(desc: &DeviceDesc) -> impl Iterator<Item = Subject> {
    desc.pci.iter().flat_map(|pci| &pci.bridges).map(|bridge| Subject::Bus(Arc::clone(bridge)))
}

/// Claims a bus. Another's reset of it is waited for: it says nothing about who may have the device.
fn claim(system: &System, bus: &Subject, holder: &Holder, mode: Mode) -> Result<Arc<Claim>, Conflict> {
    let clock = system.system_clock();
    let deadline = clock.now() + OTHERS_RESET.0;
    let in_reset = || system.conflict(bus, holder, mode).is_some_and(|other| other.mode == Mode::Exclusive);
    while in_reset() && clock.wait_until(deadline.since(clock.now()), OTHERS_RESET.1, || !in_reset()) {}
    system.claim(bus, holder, mode)
}

/// Claims all buses that the device of `desc` is on.
fn claim_all(system: &System, desc: &DeviceDesc, holder: &Holder) -> Result<Vec<Arc<Claim>>, Conflict> {
    let mut claims = Vec::new();
    for bus in buses(desc) {
        match claim(system, &bus, holder, USED) {
            Ok(claim) => claims.push(claim),
            Err(conflict) => {
                release_all(system, &claims);
                return Err(conflict);
            }
        }
    }
    Ok(claims)
}

fn release_all(system: &System, claims: &[Arc<Claim>]) {
    for claim in claims {
        system.release_claim(claim);
    }
}

/// True for a device whose users claim the buses that it is on.
pub(crate) fn has_claimed_buses(desc: &DeviceDesc) -> bool {
    buses(desc).next().is_some()
}

/// Claims the buses of a kernel driver's device. Those of one that is passed through are claimed by its users.
pub(crate) fn claim_buses(bound: &BindingState) -> Result<(), ResourceError> {
    if bound.owner() != DmaOwner::Kernel || buses(bound.desc()).next().is_none() {
        return Ok(());
    }
    let claims = claim_all(bound.system(), bound.desc(), bound.holder())
        .map_err(|conflict| ResourceError::Held(Box::new(conflict)))?;
    let reservation = bound.reservation().inspect_err(|_| release_all(bound.system(), &claims))?;
    bound.push_reserved(reservation, 0, BusEntry(claims));
    Ok(())
}

/// Ledger entry of the claims to a device's buses.
struct BusEntry(Vec<Arc<Claim>>);

impl Entry for BusEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Bus
    }

    fn what(&self) -> String {
        self.0.first().map_or_else(String::new, |claim| claim.subject().to_string())
    }

    fn backend(&self) -> String {
        "bus".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        release_all(ctx.bound.system(), &self.0);
        Outcome::Returned
    }
}

/// Resets of a binding's device by its bus, until the bus takes the device's access to memory away for good.
pub(crate) struct BusResets {
    inside: TrackedRundown,
    /// Its pass-through users, of one owner, and each one's claims to the buses.
    users: SpinLock<Vec<(Holder, Vec<Arc<Claim>>)>>,
}

impl Default for BusResets {
    fn default() -> Self {
        Self { inside: TrackedRundown::open(), users: SpinLock::default() }
    }
}

impl BusResets {
    /// Ends them for the binding `bound`, and a user's claims.
    pub(crate) fn close(bound: &BindingState) {
        if let Some(resets) = bound.slots.take::<Self>() {
            resets.inside.close_and_drain(bound.system(), bound.name());
            // Devices that were not closed are closed with the binding (P9).
            for (_, claims) in core::mem::take(&mut *resets.users.lock()) {
                release_all(bound.system(), &claims);
            }
        }
    }

    /// Claims the buses of the device of `bound` for a user of `owner`.
    pub(crate) fn begin_use(bound: &BindingState, owner: &Holder) -> Result<BusUse, GroupError> {
        let resets: Arc<Self> = bound.slots.get_or_default();
        let holder = Holder::opened(&bound.desc().name, owner);
        let claims =
            claim_all(bound.system(), bound.desc(), &holder).map_err(|other| GroupError::Bus(Box::new(other)))?;
        resets.users.lock().push((holder.clone(), claims));
        Ok(BusUse { resets, system: Arc::downgrade(bound.system()), holder })
    }

    /// Resets `device`, alone if that can be done. `holder` has it when no user does.
    pub(super) fn reset(&self, system: &System, device: &Device, holder: &Holder) -> Result<(), SupplyError> {
        let _inside = self.inside.enter(system, "a reset").ok_or(SupplyError::Gone)?;
        let bus = device.bus().ok_or(SupplyError::NoSuchLine)?;
        if bus.reset()? {
            return Ok(());
        }
        let holder = self.users.lock().first().map_or_else(|| holder.clone(), |(user, _)| user.clone());
        if reset_bus(system, device, &**bus, &holder)? { Ok(()) } else { Err(SupplyError::NoSuchLine) }
    }
}

impl fmt::Debug for BusResets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.users.lock().iter().map(|(user, _)| user)).finish()
    }
}

/// A pass-through user's claims to the buses of its device, until it is dropped or the binding ends.
pub(crate) struct BusUse {
    resets: Arc<BusResets>,
    system: Weak<System>,
    holder: Holder,
}

impl Drop for BusUse {
    fn drop(&mut self) {
        let mut users = self.resets.users.lock();
        let claims = users.iter().position(|(user, _)| *user == self.holder).map(|at| users.remove(at).1);
        drop(users);
        if let (Some(claims), Some(system)) = (claims, self.system.upgrade()) {
            release_all(&system, &claims);
        }
    }
}

impl fmt::Debug for BusUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusUse({})", self.holder)
    }
}

/// Resets the bus that `device` is on, for `holder`. False when its bus cannot.
fn reset_bus(system: &System, device: &Device, bus: &dyn BusDevice, holder: &Holder) -> Result<bool, SupplyError> {
    let Some(nearest) = buses(device.desc()).next() else { return Ok(false) };
    let alone = claim(system, &nearest, holder, Mode::Exclusive)?;
    let done = bus.reset_bus();
    system.release_claim(&alone);
    Ok(done?)
}
