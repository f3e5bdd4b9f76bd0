//! Claims, as a machine takes and tells them.

use alloc::format;

use super::Machine;
use crate::binding::Bound;
use crate::claim::{Holder, Mode, Subject};
use crate::device::{Device, Resource};
use crate::promise::Promise;

impl Machine {
    /// The binding has ended: nobody stands in the next one's way in its name.
    pub(super) fn check_no_claims(&self, bound: &Bound) {
        let left = self.claims.held_by(bound.holder());
        self.promises.check(Promise::Claimed, left.is_empty(), || {
            format!("{} has let go of its device and still holds {left:?}", bound.holder())
        });
    }

    /// Registers of a device that the env itself drives are nobody else's, for as long as it is there.
    pub(super) fn claim_for_env(&self, device: &Device) {
        let holder = Holder::new(&device.desc().name, "env");
        for resource in &device.desc().resources {
            let Resource::Mem { base, len } = *resource else { continue };
            if let Ok(claim) = self.claim(&Subject::Registers { base, len }, &holder, Mode::Exclusive) {
                device.env_claims.lock().push(claim);
            }
        }
    }

    /// How many claims stand for devices of the env.
    pub(super) fn claims_of_env(&self) -> usize {
        self.devices().iter().map(|d| d.env_claims.lock().len()).sum()
    }

    /// The device leaves.
    pub(super) fn release_for_env(&self, device: &Device) {
        let claims = core::mem::take(&mut *device.env_claims.lock());
        for claim in &claims {
            self.release_claim(claim);
        }
    }
}
